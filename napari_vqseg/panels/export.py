"""Export: write the labels as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_vqseg.panels.parts import Panel, button, note, row

if TYPE_CHECKING:
    from napari_vqseg.session import Session

__all__ = ["ExportPanel"]


class ExportPanel(Panel):
    """NIfTI with the source's geometry; the file is read back and compared before it counts."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.nifti = button("Export NIfTI…", "The prediction, with your slices as drawn or accepted, on the voxels "
                            "of the CT.", self.ask, strong=True)  # fmt: skip
        self.measure = button("Volumes", "Volume of each class in ml.", session.exporting.measure)
        self.words = note("What is exported: the prediction, with your own slices as you left them.")
        self.column.addWidget(self.words)
        self.column.addLayout(row(self.nifti, self.measure))
        self.listen(session.exporting.exported, self.show_exported)
        self.listen(session.exporting.measured, self.show_volumes)

    @property
    def useful(self) -> bool:
        """Once something is labelled or predicted."""
        session = self.session
        return session.is_open and (bool(session.annotations.records) or session.reviewing.prediction is not None)

    def show_exported(self, paths: list[Path]) -> None:
        """Say where the files are."""
        self.words.setText("Written, read back and compared: " + ", ".join(str(path) for path in paths))

    def show_volumes(self, volumes_ml: dict[str, float]) -> None:
        """List the volume of each class."""
        lines = [f"<tr><td>{name}&nbsp;&nbsp;</td><td align='right'>{ml:,.2f} ml</td></tr>"
                 for name, ml in volumes_ml.items()]  # fmt: skip
        self.words.setText(f"<table>{''.join(lines)}</table>")

    def ask(self) -> None:
        """Choose a file; ask before one is overwritten."""
        case = self.session.case
        proposed = Path.home() if case.is_kept else case.case.source.parent
        path, _ = QFileDialog.getSaveFileName(
            self, "Export labels", str(proposed / f"{case.name}-labels.nii.gz"), "NIfTI (*.nii.gz *.nii)",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )  # fmt: skip
        if not path:
            return
        target = Path(path if path.endswith((".nii", ".nii.gz")) else f"{path}.nii.gz")
        if target.exists() and not self._may_overwrite(target):
            return
        self.session.exporting.export(target)

    def _may_overwrite(self, target: Path) -> bool:
        answer = QMessageBox.question(self, "Overwrite?", f"{target.name} exists already. Overwrite it?")
        return bool(answer == QMessageBox.StandardButton.Yes)
