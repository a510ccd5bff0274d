"""The plugin among napari's own things: menus, command palette, preferences, through the real menus of a viewer."""

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from napari.settings import get_plugin_settings
from npe2 import PluginManifest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QDialog, QFileDialog

from napari_vqseg import commands
from napari_vqseg.cases import open_volume
from napari_vqseg.classes import CLASS_SETS
from napari_vqseg.preferences import Preferences, from_napari
from napari_vqseg.session import AUTO
from napari_vqseg.widget import VQSegWidget
from vqseg.annotations import SliceState
from vqseg.config import PRESETS, WINDOWS
from vqseg.errors import ProjectError
from vqseg.io import write_map
from vqseg.project import Project

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)

PLUGIN = "napari-vqseg"


@pytest.fixture
def manifest(npe2pm, plugin_settings):
    """The plugin alone, with preferences of its own for this test."""
    manifest = PluginManifest.from_file(Path(__file__).parents[2] / "napari_vqseg" / "napari.yaml")
    with npe2pm.tmp_plugin(manifest=manifest):
        yield manifest


@pytest.fixture
def viewer(manifest, make_napari_viewer, monkeypatch):
    monkeypatch.setattr(VQSegWidget.__init__, "__defaults__", (fakes.FakeWorker,))
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 800)
    yield viewer
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, VQSegWidget):
            widget.release()


def choose(menu, *texts):
    """Open a menu and its submenus, and click the last of the entries."""
    for text in texts:
        menu.aboutToShow.emit()
        found = [action for action in menu.actions() if action.text().replace("&", "").startswith(text)]
        assert found, (text, [action.text() for action in menu.actions()])
        if found[0].menu() is None:
            menu.popup(menu.parent().mapToGlobal(menu.parent().rect().topLeft()))
            QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(found[0]).center())
            QApplication.processEvents()
        menu = found[0].menu()


def docked(viewer):
    return [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, VQSegWidget)]


def test_from_the_menus_of_napari(viewer, qtbot, tmp_path, monkeypatch):
    file, layers, plugins = (getattr(viewer.window, f"{name}_menu") for name in ("file", "layers", "plugins"))
    choose(file, "Open Sample", "VQ-Seg", "Synthetic thorax CT with")
    assert [layer.name for layer in viewer.layers] == ["synthetic thorax", "reference"]
    viewer.layers.selection.active = viewer.layers["synthetic thorax"]
    choose(layers, "Segment", "Segment the selected volume")
    (window,) = docked(viewer)
    session = window.session
    qtbot.waitUntil(lambda: session.is_open, timeout=30000)
    assert window.isVisible()
    assert np.array_equal(session.volume.array, viewer.layers["synthetic thorax"].data)

    told = []
    monkeypatch.setattr(commands, "show_warning", told.append)
    choose(file, "IO Utilities", "Export segmentation")
    assert "label a slice" in told[0]
    session.annotating.mark(SliceState.COMPLETE, 4)
    target = tmp_path / "out.nii.gz"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args, **options: (str(target), ""))
    choose(file, "IO Utilities", "Export segmentation")
    qtbot.waitUntil(target.exists, timeout=30000)

    choose(plugins, "VQ-Seg")  # the menu knows the window that the command has opened: it hides it, and shows it again
    assert docked(viewer) == [window]
    assert not window.isVisible()
    again = Project.create(tmp_path / "project", "another", ["nodule"])
    again.add_case(fakes.make_volume())
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args, **options: str(tmp_path / "project"))
    choose(file, "IO Utilities", "Open a project")
    qtbot.waitUntil(lambda: session.is_open and session.case.project.name == "another", timeout=30000)
    assert docked(viewer) == [window]
    assert window.isVisible()


def test_preferences_reach_new_projects(viewer, qtbot, tmp_path, monkeypatch):
    monkeypatch.delenv("NAPARI_VQSEG_HOME")
    viewer.window._open_preferences_dialog()
    choose(viewer.window.file_menu, "Preferences")
    dialog = viewer.window._qt_window.findChild(QDialog)
    chosen = ("Abdominal organs", "bone", "balanced")
    for box in dialog.findChildren(QComboBox):
        for text in chosen:
            if box.findText(text) >= 0:
                box.setCurrentText(text)
    get_plugin_settings(PLUGIN).projects.folder = str(tmp_path / "chosen")
    dialog.accept()
    wanted = Preferences(str(tmp_path / "chosen"), "Abdominal organs", "bone", "balanced")
    assert from_napari() == wanted
    window = commands.open_window(viewer)
    session = window.session
    assert window.panel("Train").preset.currentText() == "balanced"
    volume = fakes.make_volume()
    write_map(tmp_path / "ct.nii.gz", volume.array, volume)
    window.panel("Data").open(tmp_path / "ct.nii.gz")
    qtbot.waitUntil(lambda: session.is_open, timeout=30000)
    assert session.case.project.path.parent == tmp_path / "chosen"
    assert tuple(session.classes.names.values()) == CLASS_SETS["Abdominal organs"]
    assert session.windowing.window == WINDOWS["bone"]


def test_the_manifest_says_what_the_code_knows(manifest):
    properties = manifest.contributions.configurations["projects"].properties
    assert {name: entry.default for name, entry in properties.items()} == asdict(Preferences())
    assert properties["class_set"].enum == list(CLASS_SETS)
    assert properties["window"].enum == [*WINDOWS, AUTO]
    assert properties["preset"].enum == list(PRESETS)
    assert from_napari() == Preferences()


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NAPARI_VQSEG_HOME")
    (tmp_path / "file").write_text("")
    preferences = Preferences(folder=str(tmp_path / "file" / "projects"))
    with pytest.raises(ProjectError, match=r"cannot be made .* Preferences"):
        open_volume("scan", fakes.make_volume(), start=preferences)
