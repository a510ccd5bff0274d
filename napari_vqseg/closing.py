"""The viewer's end: what it asks while something is trained, and the last save."""

from __future__ import annotations

from typing import Any

from napari.utils.task_status import Status
from qtpy.QtCore import QChildEvent, QEvent, QEventLoop, QObject, QTimer
from qtpy.QtWidgets import QDialog, QLabel, QMessageBox, QVBoxLayout, QWidget

from napari_vqseg.session import Session, TrainingState

__all__ = ["Closing"]

PROVIDER = "napari-vqseg"
QUESTION = "ConfirmCloseDialog"
CONSEQUENCE = "it stops, and what it has learnt stays"
WAIT_MS = 10_000
"""The longest that closing waits for a save."""


class Closing(QObject):
    """Lets nobody close the window without knowing what is under way, or what could not be saved.

    napari names the tasks under way where its window is closed with the mouse; to what it asks after Ctrl+Q or Ctrl+W
    they are added here.

    Parameters
    ----------
    session : Session
        What is under way.
    window : napari.viewer.Window or None
        Where tasks are registered.
    widget : QWidget
        The dock widget, in the window once a volume is open.
    """

    def __init__(self, session: Session, window: Any, widget: QWidget) -> None:
        super().__init__(widget)
        self._session, self._window, self._widget = session, window, widget
        self._task: Any = None
        self._watched: QWidget | None = None
        self._reason = ""
        session.training.changed.connect(self._follow_task)
        session.case_changed.connect(self._watch)
        session.annotating.save_refused.connect(self._note_reason)

    def release(self) -> None:
        """Tell napari that nothing is under way any more, and watch its window no longer."""
        self._end_task(Status.CANCELLED)
        if self._watched is not None:
            self._watched.removeEventFilter(self)
            self._watched = None

    # ------------------------------------------------------------ napari's task list

    def _follow_task(self, state: TrainingState) -> None:
        """Tell napari that training is under way, so that closing the window asks first."""
        if state is TrainingState.IDLE:
            self._end_task(Status.COMPLETED)
        elif state is TrainingState.STARTING and hasattr(self._window, "_register_task_status"):
            # napari's own thread workers register in the same way; there is no public name for it yet.
            self._task = self._window._register_task_status(
                PROVIDER, Status.BUSY, f"training; {CONSEQUENCE}", self._cancel_task
            )

    def _end_task(self, status: Status) -> None:
        if self._task is not None and self._window is not None:
            self._window._update_task_status(self._task, status)
            self._task = None

    def _cancel_task(self) -> bool:
        self._task = None
        self._session.training.stop()
        return True

    # ------------------------------------------------------------ the window that closes

    def _watch(self) -> None:
        """Watch the main window, which a floating dock has for a parent."""
        top = self._widget
        while (parent := top.parentWidget()) is not None:
            top = parent
        if top is not self._watched:
            if self._watched is not None:
                self._watched.removeEventFilter(self)
            top.installEventFilter(self)
            self._watched = top

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Add to napari's question; close only with everything on disk, or by a person's will."""
        if isinstance(event, QChildEvent) and event.type() == QEvent.Type.ChildPolished:
            self._add_to_question(event.child())
        elif event is not None and event.type() == QEvent.Type.Close and not self.may_close():
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def _add_to_question(self, dialog: QObject | None) -> None:
        if self._session.training.is_idle or not isinstance(dialog, QDialog) or type(dialog).__name__ != QUESTION:
            return
        layout, said = dialog.layout(), [label.text() for label in dialog.findChildren(QLabel)]
        if isinstance(layout, QVBoxLayout) and not any(CONSEQUENCE in text for text in said):
            layout.insertWidget(0, QLabel(f"Training is under way: {CONSEQUENCE}."))

    def may_close(self) -> bool:
        """Save what is not on disk yet; whether that is done, or a person lets it go."""
        while not self._saved():
            answer = self._ask()
            if answer != QMessageBox.StandardButton.Retry:
                return bool(answer == QMessageBox.StandardButton.Discard)
        return True

    def _saved(self) -> bool:
        """Save, and wait for it a while; a disk that takes longer goes on behind the closed window."""
        annotating = self._session.annotating
        annotating.finish()
        if annotating.banked:
            return True
        self._reason, loop = "", QEventLoop()
        QTimer.singleShot(WAIT_MS, loop.quit)
        annotating.save(loop.quit, loop.quit)
        loop.exec()
        return not self._reason

    def _note_reason(self, reason: str) -> None:
        self._reason = reason

    def _ask(self) -> QMessageBox.StandardButton:
        buttons = QMessageBox.StandardButton
        box = QMessageBox(self._watched or self._widget)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("Not saved")
        box.setText(f"Your last changes could not be saved. {self._reason}")
        box.setInformativeText("Discard closes without them; Cancel goes back to the window.")
        for offered in (buttons.Retry, buttons.Discard, buttons.Cancel):
            box.addButton(offered)
        box.setDefaultButton(buttons.Retry)
        return buttons(box.exec())
