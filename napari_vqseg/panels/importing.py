"""Import: which structures and slices of a label file become annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QRadioButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_vqseg.panels.parts import note, row, silently

if TYPE_CHECKING:
    from napari_vqseg.session import Session
    from napari_vqseg.session.importing import Found

__all__ = ["FILES", "ImportDialog"]

FILES = "Labels (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd *.dcm);;All files (*)"
VALUE = Qt.ItemDataRole.UserRole
MOST_ROWS = 8


class ImportDialog(QDialog):
    """Choose structures and slices; what is imported becomes complete annotations.

    Parameters
    ----------
    session : Session
        Where they go.
    found : Found
        What the file holds.
    parent : QWidget, optional
        The widget it belongs to.
    """

    def __init__(self, session: Session, found: Found, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Import {found.path.name}")
        self._session, self._found = session, found
        self.structures = QListWidget()
        for value, name in found.names.items():
            item = QListWidgetItem(name)
            item.setData(VALUE, value)
            item.setCheckState(Qt.CheckState.Checked)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            item.setToolTip(f"Label {value} in the file; double-click to give it another name.")
            self.structures.addItem(item)
        self.structures.setFixedHeight(self.structures.sizeHintForRow(0) * min(len(found.names), MOST_ROWS) + 12)
        self.structures.itemChanged.connect(self._check)
        self.all = QCheckBox("All")
        self.all.setToolTip("Take every structure of the file, or none, to tick the wanted ones.")
        self.all.clicked.connect(self._tick_all)
        self.all.setVisible(len(found.names) > 1)
        self.labelled = QRadioButton()
        self.labelled.setChecked(True)
        self.range = QRadioButton("Slices")
        self.first, self.last = QSpinBox(), QSpinBox()
        slices = found.slices_of(found.names)
        for box, value in ((self.first, slices[0]), (self.last, slices[-1])):
            box.setRange(0, session.volume.shape[0] - 1)
            box.setValue(value)
            box.valueChanged.connect(self._choose_range)
        words = note("They become complete: what is unlabelled in them is background, and an empty slice says that "
                     "nothing is there. Slices that you have labelled stay as they are.")  # fmt: skip
        buttons = QDialogButtonBox()
        self.take = QPushButton("Import")
        buttons.addButton(self.take, QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        self.accepted.connect(self._take_over)
        column = QVBoxLayout(self)
        column.addLayout(row(QLabel("Classes to import; double-click one to rename it"), self.all))
        for part in (self.structures, QLabel("Slices"), self.labelled):
            column.addWidget(part)
        column.addLayout(row(self.range, self.first, QLabel("to"), self.last, QLabel("empty ones too"), stretch=4))
        column.addWidget(words)
        column.addWidget(buttons)
        self._check()

    @property
    def _chosen(self) -> dict[int, str]:
        items = (self.structures.item(index) for index in range(self.structures.count()))
        return {
            int(item.data(VALUE)): item.text().strip() or self._found.names[int(item.data(VALUE))]
            for item in items
            if item is not None and item.checkState() == Qt.CheckState.Checked
        }

    def _check(self) -> None:
        """Say what is chosen; nothing can be imported of no structure."""
        chosen = self._chosen
        count = len(self._found.slices_of(chosen))
        self.labelled.setText(f"The {count} slices with a label" if count != 1 else "The one slice with a label")
        self.all.setChecked(len(chosen) == self.structures.count())
        self.take.setEnabled(bool(chosen))

    def _tick_all(self, on: bool) -> None:
        blocker = silently(self.structures)
        for index in range(self.structures.count()):
            item = self.structures.item(index)
            if item is not None:
                item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
        blocker.unblock()
        self._check()

    def _choose_range(self) -> None:
        self.range.setChecked(True)

    def _take_over(self) -> None:
        first, last = sorted((self.first.value(), self.last.value()))
        slices = range(first, last + 1) if self.range.isChecked() else None
        self._session.importing.take_over(self._found, self._chosen, slices)
