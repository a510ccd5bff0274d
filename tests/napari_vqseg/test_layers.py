"""Layers in a real viewer: geometry, radiological directions, strokes, and what a file is told."""

import contextlib
import gc
import importlib.util
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import dask.array
import numpy as np
import pytest
from napari.components.overlays import BrushCircleOverlay

from napari_vqseg.layers import ViewerLayers, direction_letters, layer_geometry, volume_of
from napari_vqseg.layers.arrays import LastSlice
from vqseg.config import WINDOWS
from vqseg.errors import VolumeError
from vqseg.io import read_labels, read_volume, write_labels, write_map

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)

COLOURS = {1: "#E8601C", 2: "#56B4E9", 255: "#FFFFFF"}
KEYS = ("Ctrl+Z", "Ctrl+Shift+Z")


def oblique():
    a, b = np.deg2rad(20), np.deg2rad(12)
    turn_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn_z @ turn_x @ np.diag([-0.7, -0.7, 3.0])
    affine[:3, 3] = (31, -17, 250)
    return affine


SOURCES = {
    "RAS": (np.diag([0.8, 0.9, 2.5, 1.0]), (24, 30, 12)),
    "LPS": (np.diag([-0.8, -0.9, 2.5, 1.0]), (24, 30, 12)),
    "LAS": (np.diag([-0.8, 0.9, 2.5, 1.0]), (24, 30, 12)),
    "feet first": (np.diag([-0.8, -0.9, -2.5, 1.0]), (24, 30, 12)),
    "oblique": (oblique(), (24, 30, 12)),
    "anisotropic, other axis order":
        (np.array([[0, 0, -0.5, 9], [0, -1.5, 0, 8], [4.0, 0, 0, 7], [0, 0, 0, 1]]), (12, 30, 24)),
}  # fmt: skip


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def view(viewer):
    made = ViewerLayers(viewer)
    yield made
    made.close()


def show(view, volume, window=WINDOWS["lung"], name="ct"):
    labels = np.zeros(volume.shape, np.uint8)
    for _ in view.show_volume(volume, window, name):
        pass
    view.overlay.draw_classes(COLOURS, ())
    view.overlay.show(np.zeros(volume.shape, np.uint8))
    view.overlay.show_stability(0, None)
    view.proposal.hide()
    view.difference.hide()
    view.annotation.show(labels, COLOURS)
    for _ in view.finish():
        pass
    return labels


def test_every_layer_carries_the_geometry(view, viewer):
    volume = fakes.make_volume()
    show(view, volume)
    assert [layer.name for layer in viewer.layers] == [
        "ct",
        "prediction",
        "stability",
        "fill between",
        "difference",
        "annotation",
    ]
    for layer in viewer.layers:
        assert tuple(layer.scale) == pytest.approx(volume.spacing_mm)
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
        assert tuple(layer.axis_labels) == ("z", "y", "x")
        assert np.allclose(layer.metadata["vqseg"]["affine"], volume.affine)
    assert tuple(viewer.layers["ct"].contrast_limits) == WINDOWS["lung"].limits_hu


def test_layers_come_unselected_until_the_annotation_is_taken_in_hand(view, viewer):
    theirs = viewer.add_image(np.zeros((8, 8)), name="theirs")
    selected = []
    viewer.layers.selection.events.active.connect(lambda event: selected.append(event.value))
    show(view, fakes.make_volume())
    assert set(selected) - {None} == {viewer.layers["annotation"]}
    assert viewer.dims.ndim == 3
    viewer.layers.selection.active = theirs
    view.tokens.select()
    assert viewer.layers.selection.active is viewer.layers["annotation"]
    another = viewer.add_image(np.zeros((8, 8)), name="another")
    assert viewer.layers.selection.active is another, "napari selects the layers of others as ever"


def test_the_scale_bar_is_where_no_notification_covers_it_until_a_person_moves_it(view, viewer):
    bar = viewer.canvas.overlays.scale_bar
    show(view, fakes.make_volume())
    assert bar.visible
    assert str(bar.position) == "top_left"
    bar.position = "top_right"
    show(view, fakes.make_volume())
    assert str(bar.position) == "top_right"


def test_nothing_dark_lies_in_the_brush_s_circle(view, viewer):
    show(view, fakes.make_volume())
    circles = [overlay for overlay in viewer.canvas.overlays.values() if isinstance(overlay, BrushCircleOverlay)]
    assert circles
    assert not any(circle.box for circle in circles), "napari's own box would hide what is painted"


def test_world_is_the_patient_in_mm():
    affine = np.diag([-0.8, -0.9, 2.5, 1.0])
    affine[:3, 3] = (100, 50, -20)
    geometry = layer_geometry(fakes.make_volume(affine))
    assert geometry["translate"] == pytest.approx((-20, -50, -100))  # S, P, L of the first voxel


@pytest.mark.parametrize("name", SOURCES)
def test_axial_slices_are_drawn_radiologically(name):
    volume = fakes.make_volume(*SOURCES[name])
    assert direction_letters(volume.affine, 0) == ("I", "S")
    assert direction_letters(volume.affine, 1) == ("A", "P")
    assert direction_letters(volume.affine, 2) == ("R", "L")


@pytest.mark.parametrize(("plane", "letters"), [("axial", "APRL"), ("coronal", "SIRL"), ("sagittal", "SIAP")])
def test_letters_at_the_edges(view, viewer, plane, letters):
    show(view, fakes.make_volume())
    view.navigation.show_plane(plane)
    shown = [viewer.canvas.overlays[f"vqseg_{edge}"].text
             for edge in ("top_center", "bottom_center", "middle_left", "middle_right")]  # fmt: skip
    assert "".join(shown) == letters
    viewer.dims.ndisplay = 3
    assert not viewer.canvas.overlays["vqseg_top_center"].visible


def test_letters_are_right_or_absent_while_planes_turn(viewer):
    turns, edges = [], ("top_center", "bottom_center", "middle_left", "middle_right")
    view = ViewerLayers(viewer, turns.append)
    show(view, fakes.make_volume())

    def letters():
        return "".join(viewer.canvas.overlays[f"vqseg_{edge}"].text or "." for edge in edges)

    assert letters() == "...."
    (steps,) = turns
    next(steps)
    assert letters() == "AP.."
    view.navigation.show_plane("coronal")
    assert letters() == "....", "A and P are wrong now"
    for _ in steps:
        pass
    assert letters() == "SIRL"
    assert len(turns) == 1
    view.navigation.show_plane("sagittal")
    assert letters() == "SI..", "what stays true stays"
    for _ in turns[1]:
        pass
    assert letters() == "SIAP"
    assert all(viewer.canvas.overlays[f"vqseg_{edge}"].box for edge in edges)
    view.close()


def test_the_canvas_keeps_its_height_while_planes_turn(make_napari_viewer, qtbot):
    from qtpy.QtCore import QEvent, QObject

    class Sizes(QObject):
        heard = ()

        def eventFilter(self, watched, event):  # noqa: N802 - Qt's name
            if event.type() == QEvent.Type.Resize:
                self.heard = (*self.heard, event.size().height())
            return False

    viewer = make_napari_viewer(show=True)
    view, sizes = ViewerLayers(viewer), Sizes()
    show(view, fakes.make_volume())
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.wait(200)
    canvas.installEventFilter(sizes)
    for plane in ("coronal", "sagittal", "axial"):
        view.navigation.show_plane(plane)
        qtbot.wait(50)
    assert sizes.heard == ()
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: len(sizes.heard) > 0, timeout=5000)
    view.close()


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_painted_lands_on_the_same_voxels_of_the_file(view, viewer, tmp_path, name):
    import nibabel

    affine, shape = SOURCES[name]
    original = fakes.make_volume(affine, shape)
    write_map(tmp_path / "ct.nii.gz", original.array, original)
    volume = read_volume(tmp_path / "ct.nii.gz")
    labels = show(view, volume)
    layer = viewer.layers["annotation"]
    # The voxel whose stored index is (5, 7, 3), found through world coordinates as the mouse does.
    ras = volume.stored.affine @ (5, 7, 3, 1)
    z, y, x = np.rint(np.linalg.inv(volume.affine) @ ras)[:3].astype(int)
    view.navigation.go_to(int(z))
    layer.brush_size = 1
    layer.paint(layer.world_to_data(layer.data_to_world((z, y, x))), 2)
    assert labels[z, y, x] == 2
    assert labels.astype(bool).sum() == 1
    write_labels(tmp_path / "out.nii.gz", labels, volume, {2: "b"})
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert np.argwhere(np.asarray(written.dataobj)).tolist() == [[5, 7, 3]]
    assert np.array_equal(written.affine, nibabel.load(tmp_path / "ct.nii.gz").affine)
    assert np.array_equal(read_labels(tmp_path / "out.nii.gz", volume).array, labels)


def test_strokes_tell_their_slices_and_undo_does_too(view, viewer):
    labels = show(view, fakes.make_volume())
    heard = []
    view.annotation.painted.connect(heard.append)
    layer = viewer.layers["annotation"]
    view.navigation.go_to(4)
    layer.paint((4, 10, 10), 1)
    assert heard == [{4}]
    view.navigation.go_to(9)
    layer.keymap[next(key for key in layer.keymap if str(key) == "Ctrl+Z")](layer)
    assert heard == [{4}, {4}]
    assert not labels.any()
    assert view.navigation.z == 4  # undo shows what it undid


def test_no_tool_changes_a_locked_class(view, viewer):
    labels = show(view, fakes.make_volume())
    layer, place = viewer.layers["annotation"], (4, 10, 10)
    labels[4, 8:13, 8:13] = 2
    locked = labels == 2
    view.annotation.lock({2})
    heard = []
    view.annotation.refused.connect(heard.append)
    view.navigation.go_to(4)
    layer.brush_size = 9
    for tool in (
        lambda: layer.paint(place, 1),
        lambda: layer.paint(place, 0),
        lambda: layer.fill(place, 1),
        lambda: layer.paint_polygon([(4, 2, 2), (4, 2, 20), (4, 20, 20), (4, 20, 2)], 1),
        lambda: layer.data_setitem((np.array([4]), np.array([10]), np.array([10])), 1),
        lambda: view.annotation.set_slice(4, np.zeros(labels.shape[1:], np.uint8)),
        lambda: layer.undo(),
    ):
        tool()
        assert (labels[locked] == 2).all()
    assert heard[0] == {2}
    assert layer.as_layer_data_tuple()[2] == "labels"
    view.annotation.lock(())
    layer.paint(place, 1)
    assert labels[place] == 1


def test_brush_and_bucket_stay_within_a_range_of_hu(view, viewer):
    volume = fakes.make_volume()
    hu = np.full(volume.shape, -800, np.int16)
    hu[4, 5:15, 5:15] = 40
    hu[4, 20:25, 20:23] = 40
    hu[4, 10, 7] = -800
    volume = replace(volume, array=hu)
    labels = show(view, volume)
    heard = []
    view.annotation.outside.connect(lambda: heard.append("outside"))
    view.annotation.limits_hu = (0.0, 100.0)
    view.annotation.lock({2})
    view.navigation.go_to(4)
    layer = viewer.layers["annotation"]
    layer.brush_size = 9
    layer.paint((4, 5, 10), 1)
    assert labels[4, 5:9, 8:13].all()
    assert not labels[4, :5].any(), "the brush reaches out of the range"
    layer.paint((4, 28, 2), 1)
    assert heard == ["outside"]
    labels[4, 14, 5:15] = 2
    layer.fill((4, 7, 7), 3)
    assert (labels[4] == 3).sum() == 9 * 10, "joined in the slice, in range but for a speck, not over a locked class"
    assert (labels[4] == 2).sum() == 10
    layer.fill((4, 0, 0), 3)
    assert heard == ["outside"] * 2
    undo = next(layer.keymap[key] for key in layer.keymap if str(key) == "Ctrl+Z")
    view.navigation.go_to(7)
    undo(layer)
    assert not (labels == 3).any()
    assert view.navigation.z == 4
    layer.paint((4, 5, 10), 0)
    assert not (labels[4] == 1).any(), "erasing is free"
    view.annotation.limits_hu = None
    layer.fill((4, 0, 0), 3)
    assert labels[4, 29, 23] == 3


def test_whole_slices_are_one_step_of_undo_that_knows_its_reason(view, viewer):
    labels = show(view, fakes.make_volume())
    painted, replayed = [], []
    view.annotation.painted.connect(painted.append)
    view.annotation.replayed.connect(lambda reason, undone: replayed.append((reason, undone)))
    layer = viewer.layers["annotation"]
    layer.paint((2, 10, 10), 1)
    wanted = np.zeros(labels.shape[1:], np.uint8)
    wanted[3:6, 4:8] = 2
    view.annotation.set_slice(7, wanted)
    view.annotation.set_slice(8, np.zeros_like(wanted))
    view.annotation.commit("why")
    assert np.array_equal(labels[7], wanted)
    assert painted == [{2}], "whole slices are the session's own doing"
    undo, redo = (next(layer.keymap[key] for key in layer.keymap if str(key) == text) for text in KEYS)
    view.navigation.go_to(1)
    undo(layer)
    assert not labels[7].any()
    assert view.navigation.z == 7
    redo(layer)
    assert np.array_equal(labels[7], wanted)
    assert replayed == [("why", True), ("why", False)]
    undo(layer)
    undo(layer)
    assert not labels.any()
    assert painted == [{2}, {2}]
    assert len(replayed) == 3


def test_the_proposal_lies_on_its_slices_and_is_no_label(view, viewer):
    volume = fakes.make_volume()
    labels = show(view, volume)
    view.proposal.hide()
    layer = viewer.layers["fill between"]
    assert not layer.visible
    proposed = np.zeros(volume.shape, np.uint8)
    proposed[4:7] = 1
    view.proposal.show(proposed, [4, 5, 6], COLOURS)
    assert layer.visible
    assert layer.contour > 0
    assert not layer.editable
    assert np.asarray(layer.data).any(axis=(1, 2)).nonzero()[0].tolist() == [4, 5, 6]
    assert not np.allclose(layer.get_color(1), viewer.layers["annotation"].get_color(1))
    view.proposal.keep([5])
    assert np.asarray(layer.data).any(axis=(1, 2)).nonzero()[0].tolist() == [5]
    assert not labels.any()
    assert viewer.layers.selection.active is viewer.layers["annotation"]
    view.proposal.hide()
    assert not layer.visible


def test_slices_both_ways(view, viewer):
    show(view, fakes.make_volume())
    heard = []
    view.navigation.z_changed.connect(heard.append)
    view.navigation.go_to(2)
    viewer.dims.set_current_step(0, 8)
    assert heard == [2, 8]
    assert view.navigation.z == 8


def test_predictions_replace_one_another_in_place(view, viewer, tmp_path):
    volume = fakes.make_volume()
    show(view, volume)
    np.save(tmp_path / "p.npy", np.ones(volume.shape, np.uint8))
    layer = viewer.layers["prediction"]
    view.overlay.show(np.load(tmp_path / "p.npy", mmap_mode="c"))
    assert viewer.layers["prediction"] is layer
    assert isinstance(layer.data.content, np.memmap)
    assert np.asarray(layer.data).shape == volume.shape
    assert not layer.editable, "strokes meant for the annotation must not land on the prediction"
    view.overlay.show_slice(3, np.full(volume.shape[1:], 2, np.uint8))
    assert (layer.data[3] == 2).all()
    assert (np.load(tmp_path / "p.npy") == 1).all()  # the engine's file is never written
    view.overlay.visible = False
    assert not layer.visible


def test_some_classes_are_contours_and_others_filled(view, viewer):
    volume = fakes.make_volume()
    show(view, volume)
    layer, drawn = viewer.layers["prediction"], []
    labels = np.zeros(volume.shape, np.uint8)
    labels[4, 5:15, 4:20], labels[4, 18:28, 0:12] = 1, 2
    view.overlay.show(labels)
    view.navigation.go_to(4)
    view.overlay.contoured.connect(drawn.append)
    view.overlay.draw_classes(COLOURS | {1: "#E8601CE6"}, {1})
    shown = np.asarray(layer._slice.image.view)
    outline = np.ones((10, 16), bool)
    outline[2:-2, 2:-2] = False
    assert np.array_equal(shown[5:15, 4:20] > 0, outline)
    assert (shown[18:28, 0:12] > 0).all(), "the other one is filled, and the image's edge is none"
    assert layer.get_color(1)[3] == pytest.approx(0.9, abs=0.01)
    assert layer.get_color(2)[3] == 1
    view.overlay.draw_classes(COLOURS, ())
    assert (np.asarray(layer._slice.image.view)[5:15, 4:20] > 0).all()
    assert not drawn
    layer.contour = 3  # in napari's own controls
    view.overlay.draw_classes(COLOURS, {1, 2})
    layer.contour = 0
    assert drawn == [True, False]
    viewer.dims.ndisplay = 3
    assert layer._slice.image.view.ndim == 3


def test_stability_lies_on_its_slice(view, viewer):
    volume = fakes.make_volume()
    show(view, volume)
    view.overlay.show_stability(5, np.full(volume.shape[1:], 0.25))
    layer = viewer.layers["stability"]
    assert layer.visible
    everywhere = np.asarray(layer.data)
    assert everywhere[5] == pytest.approx(0.75)
    assert everywhere.sum() == pytest.approx(0.75 * everywhere[5].size)
    assert np.array_equal(layer.data[:, 3, 2:9], everywhere[:, 3, 2:9])  # a coronal slice
    view.overlay.toggle()
    assert not layer.visible
    view.overlay.toggle()
    assert layer.visible, "shown again with the overlay"
    view.overlay.show_stability(5, None)
    assert not layer.visible
    view.overlay.toggle()
    view.overlay.toggle()
    assert not layer.visible, "there is none to show"


def test_layers_come_and_go_without_a_new_box_behind_each_letter(view, viewer, monkeypatch):
    from vispy.scene.visuals import Rectangle

    volume, made = fakes.make_volume(), []
    show(view, volume)
    letters = [item for name, item in viewer.canvas.overlays.items() if name.startswith("vqseg")]
    monkeypatch.setattr(Rectangle, "_update", lambda box: made.append(box))
    view.overlay.toggle()
    survey = fakes.make_survey(volume.shape)
    view.tokens.show(survey.codes, survey.grid)
    assert not made
    assert not viewer.layers["prediction"].visible
    assert viewer.layers["codes"].visible
    assert viewer.canvas.overlays.scale_bar.visible
    assert all(letter.visible and letter.box for letter in letters)
    letters[0].text = "H"
    assert made, "it is seen here where napari makes one"
    made.clear()
    viewer.canvas.overlays.text.position, viewer.canvas.overlays.text.visible = letters[0].position, True
    view.overlay.toggle()
    assert made, "what shares its place with a letter is put beside it"


def test_removing_renaming_and_other_layers(view, viewer):
    show(view, fakes.make_volume())
    lost = []
    view.lost.connect(lost.append)
    viewer.layers["annotation"].name = "mine"
    viewer.add_points(np.zeros((1, 3)))
    viewer.add_image(np.zeros((3, 3, 3, 3)))
    view.navigation.go_to(3)
    assert view.navigation.z == 3
    viewer.layers.remove("mine")
    assert lost == ["annotation"]
    view.annotation.set_colours(COLOURS)
    view.overlay.draw_classes(COLOURS, {1})
    view.annotation.select_class(1)
    view.annotation.set_slice(1, np.ones((30, 24), np.uint8))
    view.annotation.commit(None)
    viewer.layers.clear()
    assert set(lost) == {"image", "annotation", "prediction", "stability", "fill between", "difference"}
    show(view, fakes.make_volume())
    assert len(viewer.layers) == 6


def test_layers_stay_for_the_next_volume_and_show_it_as_new_ones_would(make_napari_viewer, view, viewer):
    small = fakes.make_volume()
    before = weakref.ref(show(view, small))
    viewer.layers["annotation"].name = "mine"
    layers = list(viewer.layers)
    painted = layers[-1]
    layers[0].contrast_limits = (-50, 0)
    view.annotation.take("paint")
    painted.paint((6, 10, 10), 2)
    view.annotation.set_slice(3, np.ones((30, 24), np.uint8))
    view.annotation.commit("of the case before")
    view.overlay.visible = False
    view.overlay.show_stability(6, np.full((30, 24), 0.25))
    view.navigation.show_plane("coronal")

    volume = fakes.make_volume(oblique(), (40, 36, 20))
    volume = replace(volume, array=np.asarray(volume.array, np.float32) / 7)
    window, heard = WINDOWS["bone"], []
    view.image.window_changed.connect(heard.append)
    view.annotation.painted.connect(heard.append)
    view.annotation.replayed.connect(heard.append)
    with _no_rubbish_collected():
        labels = show(view, volume, window, "next")
        assert before() is None, "the volume before is not kept in memory"
    assert list(viewer.layers) == layers
    assert [layer.name for layer in layers] == ["next", "prediction", "stability", "fill between", "difference", "mine"]
    assert [layer.visible for layer in layers] == [True, True, False, False, False, True]
    assert painted.data is labels
    assert (painted.mode, painted.selected_label) == ("pan_zoom", 1)
    for key in [key for key in painted.keymap if str(key) in KEYS]:
        painted.keymap[key](painted)
    assert not heard, "nothing is told, and nothing of the case before can be undone"
    assert not labels.any()
    for layer in layers:
        assert tuple(layer.scale) == pytest.approx(volume.spacing_mm)
        assert tuple(layer.translate) == pytest.approx(layer_geometry(volume)["translate"])
        assert layer.metadata["vqseg"]["volume"] is volume

    fresh_viewer = make_napari_viewer()
    fresh = ViewerLayers(fresh_viewer)
    show(fresh, volume, window, "next")
    assert viewer.dims.range == fresh_viewer.dims.range
    assert view.navigation.z == fresh.navigation.z == 10
    for each, shown in ((view, viewer), (fresh, fresh_viewer)):
        each.annotation.set_slice(10, np.eye(36, 40, dtype=np.uint8))
        each.annotation.commit(None)
        assert shown.layers[0].contrast_limits == list(window.limits_hu)
    assert np.array_equal(viewer.screenshot(flash=False), fresh_viewer.screenshot(flash=False))
    fresh.close()


@pytest.mark.parametrize("change", ["move", "remove"])
def test_layers_that_a_person_has_moved_or_removed_are_made_anew(view, viewer, change):
    show(view, fakes.make_volume())
    viewer.add_points(np.zeros((1, 3)))
    prediction = viewer.layers["prediction"]
    if change == "move":
        prediction.affine = np.diag([1.0, 2.0, 1.0, 1.0])
    else:
        viewer.layers.remove(prediction)
    lost = []
    view.lost.connect(lost.append)
    show(view, fakes.make_volume())
    assert prediction not in viewer.layers
    names = [layer.name for layer in viewer.layers]
    assert names == ["Points", "ct", "prediction", "stability", "fill between", "difference", "annotation"]
    assert not lost


@contextlib.contextmanager
def _no_rubbish_collected():
    gc.disable()
    yield
    gc.enable()


def test_pointing(view, viewer):
    volume = fakes.make_volume()
    show(view, volume)
    view.navigation.go_to(6)
    heard = []
    view.pointer.pointed.connect(heard.append)
    viewer.cursor.position = tuple(viewer.layers["ct"].data_to_world((6, 10, 11)))
    assert heard[-1].index == (6, 10, 11)
    assert heard[-1].value == volume.array[6, 10, 11]
    assert heard[-1].ras_mm == pytest.approx(tuple((volume.affine @ (6, 10, 11, 1))[:3]))
    viewer.cursor.position = (0.0, -500.0, 0.0)
    assert heard[-1] is None


def test_a_foreign_layer_becomes_a_volume(view, viewer):
    assert view.image.selected_volume() is None
    layer = viewer.add_image(np.zeros((4, 5, 6)), scale=(3, 2, 1), translate=(10, 20, 30), name="other")
    name, volume = view.image.selected_volume()
    assert name == "other"
    assert volume.shape == (4, 5, 6)
    assert volume.spacing_mm == pytest.approx((3, 2, 1))
    assert layer_geometry(volume)["translate"] == pytest.approx((10, 20, 30))
    known = viewer.add_image(fakes.make_volume().array, **layer_geometry(fakes.make_volume()))
    assert volume_of(known) is known.metadata["vqseg"]["volume"]
    assert not layer.visible


@pytest.mark.parametrize("place", [
    {"affine": np.diag([3.0, 2.0, 1.0, 1.0])},
    {"scale": (3000, 2000, 1000), "units": ("um", "um", "um")},
    {"scale": (1.5, 1, 0.5), "affine": np.diag([2.0, 2.0, 2.0, 1.0])},
    {"scale": (3, 2, 1), "rotate": (90, 0, 0)},
    {"scale": (3, -2, 1)},
])  # fmt: skip
def test_however_a_foreign_layer_is_placed_its_voxels_keep_size_and_place(view, viewer, place):
    data = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    layer = viewer.add_image(data, **place)
    volume = volume_of(layer)
    assert sorted(volume.spacing_mm) == pytest.approx([1, 2, 3])
    factor = 0.001 if "units" in place else 1.0
    for index in ((0, 0, 0), (3, 1, 4)):
        z_mm, y_mm, x_mm = (factor * mm for mm in layer.data_to_world(index))
        found = np.linalg.inv(volume.affine) @ (-x_mm, -y_mm, z_mm, 1)
        assert volume.array[tuple(np.rint(found[:3]).astype(int))] == data[index]


def test_a_flat_layer_is_refused(view, viewer):
    viewer.add_image(np.zeros((1, 5, 6)))
    with pytest.raises(VolumeError, match="2D image"):
        view.image.selected_volume()


def test_the_image_fits_a_window_of_another_size_unless_somebody_has_zoomed(view, viewer):
    show(view, fakes.make_volume())
    height, width = viewer.canvas.size
    before = viewer.camera.zoom
    viewer.canvas.size = (2 * height, 2 * width)
    assert viewer.camera.zoom == pytest.approx(2 * before, rel=0.05)
    viewer.camera.zoom *= 1.5
    zoomed = viewer.camera.zoom
    viewer.canvas.size = (height, width)
    assert viewer.camera.zoom == zoomed


def test_brush_in_mm(view, viewer):
    show(view, fakes.make_volume())
    assert view.annotation.brush_mm == pytest.approx(10.4), "13 voxels, the odd number nearest to 10 mm"
    view.annotation.brush_mm = 8.0
    assert viewer.layers["annotation"].brush_size == 9
    view.annotation.resize_brush(1.2)
    assert view.annotation.brush_mm == pytest.approx(8.8)
    for _ in range(30):
        view.annotation.resize_brush(1 / 1.2)
    assert viewer.layers["annotation"].brush_size == 1


def test_the_brush_keeps_its_mm_in_planes_of_finer_pixels(view, viewer):
    show(view, fakes.make_volume(np.diag([-0.8, -0.8, 0.4, 1.0])))
    layer, labels = viewer.layers["annotation"], viewer.layers["annotation"].data
    view.annotation.brush_mm = 5.6
    layer.paint((6, 15, 12), 1)
    assert np.ptp(np.nonzero(labels)[1]) + 1 == 7, "7 voxels of 0.8 mm, as said"
    view.navigation.show_plane("coronal")
    assert view.annotation.brush_mm == pytest.approx(5.6, abs=0.4)
    layer.paint((6, 25, 12), 2)
    assert np.ptp(np.nonzero(labels == 2)[2]) + 1 == 7, "as wide as in the axial plane"
    view.navigation.show_plane("axial")
    assert view.annotation.brush_mm == pytest.approx(5.6, abs=0.4)


def test_what_napari_is_made_of_is_not_looked_through_for_rubbish_unless_there_are_layers(view, viewer):
    for _ in view.prepare():
        pass
    assert gc.get_freeze_count()
    show(view, fakes.make_volume())
    view.close()
    assert not gc.get_freeze_count()
    beside = ViewerLayers(viewer)
    for _ in beside.prepare():
        pass
    assert not gc.get_freeze_count(), "the data of layers that go would stay in memory"
    beside.close()


def test_closing_disconnects(viewer):
    view = ViewerLayers(viewer)
    view.keys.bind({"C": lambda: None}, {"1": lambda: None})
    show(view, fakes.make_volume())
    heard = []
    view.navigation.z_changed.connect(heard.append)
    view.annotation.painted.connect(heard.append)
    view.close()
    viewer.dims.set_current_step(0, 1)
    viewer.layers["annotation"].paint((1, 5, 5), 1)
    assert heard == []
    assert not viewer.keymap
    assert all(str(key) not in ("C", "1") for key in viewer.layers["annotation"].keymap)
    assert not any(overlay.visible for name, overlay in viewer.canvas.overlays.items() if name.startswith("vqseg"))


def test_codes_are_made_ready_hidden_and_once(view, viewer):
    volume = fakes.make_volume()
    show(view, volume)
    survey, newer = fakes.make_survey(volume.shape), fakes.make_survey(volume.shape)
    steps = view.tokens.prepare(survey.codes, survey.grid)
    next(steps)
    assert "codes" not in viewer.layers
    view.tokens.show(survey.codes, survey.grid)  # by a person who does not wait
    for _ in steps:
        pass
    assert [layer.name for layer in viewer.layers].count("codes") == 1
    view.tokens.select()
    assert viewer.layers.selection.active.name == "codes"
    view.tokens.hide()
    view.tokens.select()
    assert viewer.layers.selection.active.name == "annotation"
    for _ in view.tokens.prepare(newer.codes, newer.grid):
        pass
    assert not view.tokens.visible
    layer = viewer.layers["codes"]
    assert (layer.data == newer.codes.astype(int) + 1).all()
    view.tokens.show(newer.codes, newer.grid)
    assert viewer.layers["codes"] is layer
    assert layer.visible


def test_codes_have_vivid_colours_of_their_own_and_napari_names_them(view, viewer):
    volume = fakes.make_volume()
    show(view, volume)
    survey = fakes.make_survey(volume.shape)
    view.tokens.show(survey.codes, survey.grid)
    view.tokens.highlight(2)
    viewer.layers.remove("codes")
    view.tokens.show(survey.codes, survey.grid)  # a new layer shows all codes
    view.tokens.select()
    layer = viewer.layers["codes"]
    assert viewer.layers.selection.active is layer
    assert layer.colormap.map(0)[3] == 0, "outside of the tokens nothing is drawn"
    colours = layer.colormap.map(np.arange(1, 49))
    assert np.unique(colours.round(3), axis=0).shape == (48, 4)
    assert (np.ptp(colours[:, :3], axis=1) > 0.6).all(), "far from every grey, which the image is"
    assert (np.abs(np.diff(colours[:, :3], axis=0)).max(axis=1) > 0.25).all(), "neighbouring codes differ"
    voxel = (3, 13, 3)
    code = int(survey.codes[voxel[0]][survey.grid.token_at(*voxel[1:])])
    place = viewer.layers["ct"].data_to_world(voxel)
    assert code == 2
    assert layer.get_value(place, world=True) == code + 1
    assert "code: 2" in layer.get_status(place, world=True)["value"]


def test_one_slice_of_a_lazy_array_is_read_at_a_time():
    read = []

    class File:
        shape, ndim, dtype = (6, 4, 5), 3, np.dtype(np.int16)

        def __getitem__(self, key):
            read.append(key[0])
            return np.arange(120, dtype=np.int16).reshape(self.shape)[key]

    whole = np.arange(120, dtype=np.int16).reshape(6, 4, 5)
    lazy = dask.array.from_array(File(), chunks=(1, 4, 5), name=False, asarray=True)[::-1, :, ::-1]
    read.clear()
    array, plain = LastSlice(lazy), LastSlice(whole)
    for key in (2, (slice(2, 3), slice(1, 3), 4), (2, 3, slice(None)), np.int64(2)):
        assert np.array_equal(array[key], whole[::-1, :, ::-1][key])
        assert np.array_equal(plain[key], whole[key])
    assert read == [slice(3, 4)]
    for key in (-1, slice(1, 4), (slice(None), 2), Ellipsis):
        assert np.array_equal(array[key], whole[::-1, :, ::-1][key])
    assert array.shape == (6, 4, 5)
    assert np.array_equal(array, whole[::-1, :, ::-1])


def test_a_lazy_array_is_read_ahead_for_the_planes_across_its_slices():
    whole = np.arange(400, dtype=np.int16).reshape(20, 4, 5)
    array, plain = LastSlice(dask.array.from_array(whole, chunks=(1, 4, 5))), LastSlice(whole)
    rounds = 1
    while array.read_ahead():
        assert np.array_equal(array[:, 2], whole[:, 2])
        rounds += 1
    assert rounds == 3
    assert not isinstance(array._array, dask.array.Array)
    assert np.array_equal(array[:, :, 3], whole[:, :, 3])
    assert np.array_equal(array[7], whole[7])
    assert array.shape == (20, 4, 5)
    assert not plain.read_ahead()
