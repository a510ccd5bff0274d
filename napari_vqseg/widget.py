"""The window: one dock widget whose sections follow the work and fold away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QKeyEvent,
    QKeySequence,
)
from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_vqseg.closing import Closing
from napari_vqseg.layers import Pointed, ViewerLayers, warm_up
from napari_vqseg.panels.annotate import AnnotatePanel
from napari_vqseg.panels.card import KeyCard
from napari_vqseg.panels.classes import ClassesPanel
from napari_vqseg.panels.codebook import CodebookPanel
from napari_vqseg.panels.data import DataPanel
from napari_vqseg.panels.export import ExportPanel
from napari_vqseg.panels.messages import Messages
from napari_vqseg.panels.parts import InputGuard, Panel, Section, dropped, note, row
from napari_vqseg.panels.quality import QualityPanel
from napari_vqseg.panels.review import ReviewPanel
from napari_vqseg.panels.train import TrainPanel
from napari_vqseg.panels.view_bar import NAMES, ViewBar
from napari_vqseg.preferences import from_napari
from napari_vqseg.session import Session, Worker
from napari_vqseg.timers import QtScheduler
from vqseg.annotations import PAINTED_BACKGROUND
from vqseg.tasks import TaskState

if TYPE_CHECKING:
    import napari

__all__ = ["VQSegWidget"]

UNFOLD_AFTER_S = 0.1


def _engine_worker() -> Worker:
    from napari_vqseg.worker import EngineWorker

    return EngineWorker()


class VQSegWidget(QWidget):
    """Label a few slices, train in the background, review, export.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer to work in.
    make_worker : callable, optional
        Makes the owner of the engine process; tests hand in their own.
    """

    def __init__(self, napari_viewer: napari.Viewer, make_worker: Callable[[], Worker] = _engine_worker) -> None:
        super().__init__()
        scheduler = QtScheduler()
        view = ViewerLayers(napari_viewer, scheduler.in_turns)
        self.session = Session(view, scheduler, make_worker, from_napari)
        # What fails here fails again in use.
        scheduler.background(warm_up, lambda _: scheduler.in_turns(view.prepare()), lambda _: None)
        self._useful_soon = scheduler.debounce(UNFOLD_AFTER_S, self._show_useful)
        self._scroll_soon = scheduler.debounce(UNFOLD_AFTER_S, self._show_comparison)  # once it has its height
        view.keys.bind(self._keys(), {str(n): partial(self._select_nth, n) for n in range(1, 10)}
                  | {"0": partial(self.session.classes.select, PAINTED_BACKGROUND)})  # fmt: skip
        self.setAcceptDrops(True)
        # napari hands plugins a proxy, which warns of the private names that registering a task needs.
        window = getattr(getattr(napari_viewer, "__wrapped__", napari_viewer), "window", None)
        self._closing = Closing(self.session, window, self)
        self._comparison_asked, self._offered = False, ""
        self._card: KeyCard | None = None
        self.sections: dict[str, tuple[Section, Panel]] = {}
        self._unfolded: set[str] = set()
        answers = self._build()
        self._reveals = [  # once they have their height
            (signal, scheduler.debounce(UNFOLD_AFTER_S, partial(self._reveal, answer))) for signal, answer in answers
        ]
        session = self.session
        for signal in (session.case_changed, session.annotating.slices_changed):
            signal.connect(self._show_useful)
        # The overlay is drawn first; sections unfold in a later turn of the event loop, so that neither holds it long.
        for signal in (session.reviewing.prediction_changed, session.training.changed):
            signal.connect(self._useful_soon.start)
        session.comparing.changed.connect(self._scroll_soon.start)
        for signal, timer in self._reveals:
            signal.connect(timer.start)
        session.case_changed.connect(partial(self._show_pointed, None))
        session.cases.changed.connect(self._show_tasks)
        session.view.image.offer_changed.connect(self._show_offer)
        session.view.pointer.pointed.connect(self._show_pointed)
        session.annotating.saved_changed.connect(self._show_saved)
        session.annotating.save_refused.connect(self._show_refused)
        session.busy_changed.connect(self._show_busy)
        session.notified.connect(self._notify)
        session.filling.changed.connect(self._hold_escape)
        self.destroyed.connect(partial(_close_session, session))
        self._show_useful()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Leave the canvas its room on a screen of 1280 x 800."""
        return QSize(390, 700)

    # ------------------------------------------------------------ building

    def _build(self) -> list[tuple[Any, QWidget]]:
        """Build the sections; returns what they show when asked, and the signals that tell of it."""
        session = self.session
        self.bar = ViewBar(session)
        inside = QWidget()
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 4, 0)
        self._column.setSpacing(2)
        train = self._train = TrainPanel(session)
        train.compared.connect(self.compare)
        annotate, codebook, export = AnnotatePanel(session), CodebookPanel(session), ExportPanel(session)
        for title, panel in (
            ("Data", DataPanel(session)), ("Classes", ClassesPanel(session)),
            ("Annotate", annotate), ("Train", train), ("Quality", QualityPanel(session)),
            ("Review", ReviewPanel(session)), ("Codebook", codebook), ("Export", export),
        ):  # fmt: skip
            section = Section(title, panel)
            self.sections[title] = (section, panel)
            self._column.addWidget(section)
        self._column.addStretch(1)
        self._input_guard = InputGuard(self)
        self._input_guard.guard(inside)
        self.scroll_area = QScrollArea()
        self.scroll_area.setWidgetResizable(True)
        self.scroll_area.setFrameShape(QFrame.Shape.NoFrame)
        self.scroll_area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll_area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # else a click on a button takes the arrows here
        self.scroll_area.setWidget(inside)
        self.under_cursor = QLabel()
        self.state = QLabel()
        self.state.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.state.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)  # words never widen the dock
        self.messages = Messages(session)
        self.help = note("<b>H</b>: keys. Research use only, not a medical device.")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 6, 6, 2)
        outer.setSpacing(4)
        outer.addWidget(self.bar)
        outer.addWidget(self.scroll_area, 1)
        outer.addWidget(train.foot)
        outer.addWidget(self.messages)
        outer.addWidget(self.help)
        outer.addLayout(row(self.under_cursor, self.state))
        self._unfold("Data")
        return [
            (session.filling.proposed, annotate.proposal),
            (session.codebook.changed, codebook.pages),
            (session.exporting.measured, export.figures),
        ]

    def panel(self, title: str) -> Panel:
        """The panel of a section."""
        return self.sections[title][1]

    def _unfold(self, title: str, fold: tuple[str, ...] = ()) -> None:
        """Open a section the first time it becomes useful; afterwards the person decides."""
        if title not in self._unfolded:
            self._unfolded.add(title)
            self.sections[title][0].expand()
            for other in fold:
                self.sections[other][0].collapse()

    # ------------------------------------------------------------ session -> widget

    def _show_useful(self, *_: object) -> None:
        for section, panel in self.sections.values():
            section.setVisible(panel.useful)
        self.bar.setVisible(self.bar.useful)
        self._train.foot.setVisible(self._train.useful)
        if self.session.is_open:
            self._unfold("Classes", fold=("Data",) if len(self.session.cases.tasks) < 2 else ())
            self._unfold("Annotate")
        if self.panel("Train").useful:
            self._unfold("Train")
        if self.panel("Review").useful:
            self._unfold("Review")

    def _show_offer(self) -> None:
        """Unfold Data where it has another layer to offer, such as a file dropped on the canvas."""
        offered, before = self.session.view.image.offered, self._offered
        self._offered = offered
        if offered and offered != before:
            self.sections["Data"][0].expand()

    def _show_tasks(self) -> None:
        section, panel = self.sections["Data"]
        if isinstance(panel, DataPanel):
            section.add_words(panel.tasks.summary())

    def _show_pointed(self, pointed: Pointed | None) -> None:
        if pointed is None:
            self.under_cursor.setText("")
            return
        x, y, z = pointed.ras_mm
        self.under_cursor.setText(
            f"<b>{self.session.case.volume.reading(pointed.value)}</b> &nbsp; {'R' if x > 0 else 'L'} {abs(x):.1f}  "
            f"{'A' if y > 0 else 'P'} {abs(y):.1f}  {'S' if z > 0 else 'I'} {abs(z):.1f} mm"
        )

    def _show_saved(self, saved: bool) -> None:
        self.state.setText("saved" if saved else "saving…")

    def _show_refused(self, _reason: str) -> None:
        self.state.setText("not saved")

    def _show_busy(self, what: str) -> None:
        self.under_cursor.setVisible(not what)
        self.state.setText(f"{what}…" if what else "")

    @staticmethod
    def _notify(text: str, level: str) -> None:
        show = {"info": show_info, "warning": show_warning, "error": show_error}.get(level)
        if show is not None:
            show(text)

    # ------------------------------------------------------------ keys

    def _keys(self) -> dict[str, Callable[[], None]]:
        session, view = self.session, self.session.view
        windows = {
            f"F{number}": self._when_open(partial(session.windowing.choose, name))
            for number, name in enumerate(NAMES, start=1)
        }
        return {
            "C": self._when_open(session.annotating.toggle_complete),
            "A": self._when_open(session.accepting.shown),
            "Shift-A": self._when_open(session.accepting.whole),
            "F": self._when_open(session.filling.propose),
            "Shift-F": self._when_open(session.filling.propose_all),
            "N": self._when_open(session.suggesting.next),
            "G": self._when_open(session.view.overlay.toggle),
            "Shift-T": self._when_open(lambda: self._train.toggle()),  # the keys are bound before the panels are made
            "T": self._when_open(session.cases.next),
            "D": self._when_open(partial(session.cases.decide, TaskState.DONE)),
            "W": self._when_open(self.compare),
            "I": self._when_open(session.codebook.inspect_pointed),
            "H": self.show_card,
            "[": partial(view.annotation.resize_brush, 1 / 1.2),
            "]": partial(view.annotation.resize_brush, 1.2),
            "B": partial(view.annotation.take, "fill"),
            "R": self._toggle_range,
            **windows,
        }

    def _toggle_range(self) -> None:
        panel = self.panel("Annotate")
        if isinstance(panel, AnnotatePanel):
            panel.tools.ranged.toggle()

    def compare(self) -> None:
        """Key W: show where two trainings disagree, and what is said of them."""
        section, panel = self.sections["Review"]
        self.session.comparing.toggle()
        if self.session.comparing.on and isinstance(panel, ReviewPanel):
            section.expand()
            panel.compare.expand()
            self._comparison_asked = True

    def _show_comparison(self) -> None:
        """Bring into sight what was asked for, once it is known."""
        panel = self.panel("Review")
        if self._comparison_asked and isinstance(panel, ReviewPanel) and self.session.comparing.found.comparison:
            self._comparison_asked = False
            self.scroll_area.ensureWidgetVisible(panel.comparing.words)

    def _reveal(self, answer: QWidget) -> None:
        """Bring into sight what a person has asked for."""
        if answer.isVisible():
            self.scroll_area.ensureWidgetVisible(answer)

    def _hold_escape(self) -> None:
        """Esc is ours while something is proposed."""
        keys = self.session.view.keys
        if self.session.filling.left:
            keys.hold("Escape", self.session.filling.dismiss)
        else:
            keys.let_go("Escape")

    def _when_open(self, action: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            if self.session.is_open:
                action()

        return act

    def _select_nth(self, number: int) -> None:
        classes = self.session.classes.all
        if number <= len(classes):
            self.session.classes.select(classes[number - 1].value)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """The letters work here as they do on the canvas."""
        if event is None:
            return
        shift = "Shift-" if event.modifiers() == Qt.KeyboardModifier.ShiftModifier else ""
        action = self._keys().get(shift + QKeySequence(event.key()).toString())
        if event.key() == Qt.Key.Key_Escape:
            action = self.session.filling.dismiss
        if action is not None and (shift or event.modifiers() == Qt.KeyboardModifier.NoModifier):
            action()
            event.accept()
        else:
            super().keyPressEvent(event)

    def show_card(self) -> None:
        """Show or hide the card of keys."""
        if self._card is None:
            self._card = KeyCard(self)
        self._card.setVisible(not self._card.isVisible())

    # ------------------------------------------------------------ dropping, closing

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:  # noqa: N802 - Qt's name
        """Files may be dropped."""
        if event is not None and dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:  # noqa: N802 - Qt's name
        """Open what was dropped; labels that only make sense on an image are imported."""
        from vqseg.io import is_label_object

        paths, data, annotate = dropped(event), self.panel("Data"), self.panel("Annotate")
        if not isinstance(data, DataPanel) or not isinstance(annotate, AnnotatePanel):
            return
        if self.session.is_open and len(paths) == 1 and is_label_object(paths[0]):
            annotate.read_labels(paths[0])
        else:
            data.open(*paths)

    def release(self) -> None:
        """Bank the work and let go of engine, viewer and timers; safe to call twice."""
        self._closing.release()
        for panel in (self.bar, self.messages, *(panel for _, panel in self.sections.values())):
            panel.release()
        self.session.close()

    def closeEvent(self, event: QCloseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Closing the dock ends the session."""
        if event is not None and not self._closing.may_close():
            event.ignore()
            return
        self.release()
        super().closeEvent(event)


def _close_session(session: Session, *_: object) -> None:
    session.close()
