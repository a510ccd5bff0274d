"""What napari's menus and command palette offer of the plugin, besides the window itself."""

from __future__ import annotations

from napari import Viewer
from napari.plugins import menu_item_template
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QDockWidget

from napari_vqseg.panels.data import DataPanel
from napari_vqseg.panels.export import ExportPanel
from napari_vqseg.widget import VQSegWidget

__all__ = ["export", "open_layer", "open_project", "open_window"]

DOCK = menu_item_template.format("VQ-Seg", "VQ-Seg")
"""The name under which the menu Plugins docks the widget, and finds it again."""


def open_window(viewer: Viewer) -> VQSegWidget:
    """The VQ-Seg window of a viewer, docked and on show."""
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, VQSegWidget):
            break
    else:
        widget = VQSegWidget(viewer)
        viewer.window.add_dock_widget(widget, name=DOCK, area="right")
    dock = widget.parent()
    if isinstance(dock, QDockWidget):
        dock.show()
        dock.raise_()
    return widget


def open_layer(viewer: Viewer) -> None:
    """Segment the image layer that is selected."""
    open_window(viewer).session.cases.open_layer()


def open_project(viewer: Viewer) -> None:
    """Choose a project's folder, or one of DICOM series, and open it."""
    panel = open_window(viewer).panel("Data")
    assert isinstance(panel, DataPanel)
    panel.ask_folder()


def export(viewer: Viewer) -> None:
    """Choose a file and export to it what is open."""
    window = open_window(viewer)
    panel = window.panel("Export")
    assert isinstance(panel, ExportPanel)
    if panel.useful:
        panel.ask()
    else:
        show_warning("Nothing is labelled or predicted yet; open a CT and label a slice, then export.")
