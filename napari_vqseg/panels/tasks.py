"""The task list: each volume of the project with its state, by colour and by shape, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, QSize, Qt
from qtpy.QtWidgets import QFileDialog, QHeaderView, QMenu, QTreeWidget, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_vqseg.panels.icons import task_icon
from napari_vqseg.panels.parts import button, row
from vqseg.tasks import Task, TaskState

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["TaskList"]

CASE = Qt.ItemDataRole.UserRole
STATE, TITLE, PROGRESS = range(3)
ROW_PX, ROWS_SHOWN = 22, 6


class TaskList(QWidget):
    """Click a volume to open it."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.tree = QTreeWidget()
        self.tree.setColumnCount(3)
        self.tree.setRootIsDecorated(False)
        self.tree.setIndentation(0)
        self.tree.setUniformRowHeights(True)
        self.tree.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = QHeaderView(Qt.Orientation.Horizontal)
        self.tree.setHeader(header)
        self.tree.setHeaderHidden(True)
        header.setStretchLastSection(False)
        header.setMinimumSectionSize(ROW_PX)
        header.setSectionResizeMode(STATE, QHeaderView.ResizeMode.Fixed)
        header.resizeSection(STATE, ROW_PX + 2)
        header.setSectionResizeMode(TITLE, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(PROGRESS, QHeaderView.ResizeMode.ResizeToContents)
        self.tree.itemClicked.connect(self._open)
        self.tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.tree.customContextMenuRequested.connect(self._show_menu)
        self.done = button("Done (D)", "Call this volume done; once more takes that back.",
                           lambda: session.cases.decide(TaskState.DONE))  # fmt: skip
        self.flag = button("Flag", "Flag this volume, to come back to it or to ask somebody.",
                           lambda: session.cases.decide(TaskState.FLAGGED))  # fmt: skip
        self.next = button("Next open (T)", "Go to the next volume that is neither done nor flagged.",
                           session.cases.next)  # fmt: skip
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.tree)
        column.addLayout(row(self.done, self.flag, self.next))

    def refresh(self) -> None:
        """Show the tasks as they are now."""
        session, tasks = self._session, self._session.cases.tasks
        shown = session.case.case.id if session.is_open else ""
        self.tree.clear()
        for task in tasks:
            self._add(task, is_shown=task.case_id == shown)
        self.tree.setFixedHeight(min(max(len(tasks), 1), ROWS_SHOWN) * ROW_PX + 4)
        current = session.cases.task(shown)
        state = current.state if current is not None else None
        self.done.setText("Not done (D)" if state is TaskState.DONE else "Done (D)")
        self.flag.setText("Unflag" if state is TaskState.FLAGGED else "Flag")
        self.next.setEnabled(any(task.is_open and task.case_id != shown for task in tasks))

    def _add(self, task: Task, *, is_shown: bool) -> None:
        line = QTreeWidgetItem(self.tree, ["", task.title, task.progress])
        line.setIcon(STATE, task_icon(task.state))
        line.setData(STATE, CASE, task.case_id)
        line.setSizeHint(TITLE, QSize(60, ROW_PX))
        tip = f"{task.title}: {task.state}, {task.progress}"
        for column in (STATE, TITLE, PROGRESS):
            line.setToolTip(column, tip)
        if is_shown:
            self.tree.setCurrentItem(line)
            self.tree.scrollToItem(line)

    def summary(self) -> str:
        """How far the project is, in a few words; "" for a single volume."""
        states = [task.state for task in self._session.cases.tasks]
        flagged = states.count(TaskState.FLAGGED)
        words = f"{states.count(TaskState.DONE)} of {len(states)} done{f', {flagged} flagged' * bool(flagged)}"
        return words if len(states) > 1 else ""

    # ------------------------------------------------------------ person -> session

    def _open(self, line: QTreeWidgetItem, *_: object) -> None:
        self._session.cases.open_case(str(line.data(STATE, CASE)))

    def _show_menu(self, place: QPoint) -> None:
        line, viewport = self.tree.itemAt(place), self.tree.viewport()
        if line is not None and viewport is not None:
            menu = self.menu_of(str(line.data(STATE, CASE)))
            menu.popup(viewport.mapToGlobal(place))

    def menu_of(self, case_id: str) -> QMenu:
        """What can be done with a volume of the list."""
        cases, task = self._session.cases, self._session.cases.task(case_id)
        state = task.state if task is not None else None
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Open", lambda: cases.open_case(case_id))
        menu.addAction("Not done" if state is TaskState.DONE else "Done", lambda: cases.decide(TaskState.DONE, case_id))
        menu.addAction("Unflag" if state is TaskState.FLAGGED else "Flag",
                       lambda: cases.decide(TaskState.FLAGGED, case_id))  # fmt: skip
        menu.addAction("Say where the image is…", lambda: self._ask_place(case_id))
        return menu

    def _ask_place(self, case_id: str) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Where is the image now?")
        if path:
            self._session.cases.relocate(case_id, path)
