"""The manifest says what is there; the window's process never loads torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManifest

from napari_vqseg.io import get_reader, write_mask
from napari_vqseg.layers import layer_geometry, volume_beneath
from vqseg.errors import GeometryError
from vqseg.io import read_labels, read_volume, write_labels, write_map
from vqseg.volume import StoredLayout, Volume

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "napari_vqseg" / "napari.yaml"


def test_the_manifest_is_valid_and_every_name_imports(qapp):
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    found = manifest.contributions
    assert all((found.widgets, found.readers, found.writers, found.sample_data, found.menus))
    assert (ROOT / "napari.yaml").resolve() == MANIFEST


def test_no_torch_in_the_windows_process():
    code = (
        "import sys; import napari_vqseg.widget, napari_vqseg.worker, napari_vqseg.io, napari_vqseg.sample_data, "
        "vqseg.io, vqseg.phantom; "
        "sys.exit(','.join(sorted({'torch', 'timm', 'monai', 'torchvision'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_reading_and_writing_through_napari(tmp_path):
    affine = np.array([[0.7, 0, 0, 4], [0, -0.8, 0, 5], [0, 0, 3.0, 6], [0, 0, 0, 1]])
    layout = StoredLayout((8, 9, 5), affine)
    volume = Volume(layout.to_canonical(np.zeros((8, 9, 5), np.int16)), layout)
    path = tmp_path / "ct.nii.gz"
    write_map(path, volume.array, volume)
    assert get_reader(str(tmp_path / "picture.png")) is None
    assert get_reader([str(path), str(path)]) is None
    assert get_reader(str(tmp_path)) is None
    data, meta, kind = get_reader(str(path))(str(path))[0]
    assert kind == "image"
    labels = np.zeros(data.shape, np.uint8)
    labels[2, 3, 4] = 1
    written = write_mask(str(tmp_path / "mask.nii.gz"), labels, {"metadata": meta["metadata"], "name": "mask"})
    assert Path(written[0]).exists()
    assert np.array_equal(read_labels(tmp_path / "mask.nii.gz", meta["metadata"]["vqseg"]["volume"]).array, labels)
    write_labels(tmp_path / "named.nii.gz", labels, volume, {1: "tumour"})
    named, _, kind = get_reader(str(tmp_path / "named.nii.gz"))(str(tmp_path / "named.nii.gz"))[0]
    assert kind == "labels"
    assert np.array_equal(named, labels)
    with pytest.raises(GeometryError):
        write_mask(str(tmp_path / "b.nii.gz"), labels, {"metadata": {}, "name": "b"})
    with pytest.raises(Exception, match=r"none\.nii"):
        get_reader(str(tmp_path / "none.nii"))(str(tmp_path / "none.nii"))


def test_labels_find_their_volume_beside_layers_of_other_dimensions():
    layout = StoredLayout((8, 9, 5), np.diag([-0.7, -0.8, 3.0, 1]))
    volume = Volume(layout.to_canonical(np.zeros((8, 9, 5), np.int16)), layout)
    viewer = ViewerModel()
    viewer.add_points(np.zeros((1, 2)))
    viewer.add_image(volume.array, **layer_geometry(volume))
    place = viewer.layers[1].translate
    labels = viewer.add_labels(np.zeros(volume.shape, np.uint8), scale=volume.spacing_mm, translate=place)
    viewer.add_image(np.zeros((2, *volume.shape)))
    meta = labels.as_layer_data_tuple()[1]
    assert volume_beneath(viewer, volume.shape, meta) is volume
    assert volume_beneath(viewer, volume.shape, {**meta, "translate": (9, 0, 0)}) is None


def test_dicom_as_archives_hand_it_out(make_ct, tmp_path):
    """A folder without endings, one with two series, files opened as a stack."""
    plain, both = make_ct(tmp_path / "plain"), make_ct(tmp_path / "both")
    for number, file in enumerate(sorted(plain.iterdir())):
        file.rename(plain / f"IM{number:04d}")
    [(data, _, _)] = get_reader(str(plain))(str(plain))
    assert data.shape == (10, 12, 16)
    stack = [str(file) for file in sorted(plain.iterdir())]
    assert len(get_reader(stack)(stack)) == 1
    for file in make_ct(tmp_path / "other", SeriesDescription="Liver").iterdir():
        file.rename(both / f"other-{file.name}")
    assert sorted(meta["name"] for _, meta, _ in get_reader(str(both))(str(both))) == ["Liver", "Thorax"]


def test_a_labels_layer_of_naparis_own_is_written_where_it_lies(make_napari_viewer, make_ct, tmp_path):
    folder = make_ct(tmp_path / "ct")
    viewer = make_napari_viewer()
    [image] = viewer.open(str(folder), plugin="napari-vqseg")
    assert [str(unit) for unit in image.units] == ["millimeter"] * 3
    viewer._new_labels()
    drawn = viewer.layers[-1]
    drawn.data[2, 3, 4] = 1
    viewer.layers.save(str(tmp_path / "drawn.nii.gz"), selected=True, plugin="napari-vqseg")
    found = read_labels(tmp_path / "drawn.nii.gz", read_volume(folder)).array
    assert np.argwhere(found).tolist() == [[2, 3, 4]]
    drawn.translate = np.add(drawn.translate, (2.5, 0, 0))
    with pytest.raises(GeometryError, match="does not lie on the voxels"):
        drawn.save(str(tmp_path / "moved.nii.gz"), plugin="napari-vqseg")
