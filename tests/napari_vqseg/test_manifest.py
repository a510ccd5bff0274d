"""The manifest says what is there; the window's process never loads torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManifest

from napari_vqseg.io import get_reader, write_mask
from vqseg.errors import GeometryError
from vqseg.io import read_labels, write_map
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
    assert get_reader([str(path)]) is None
    assert get_reader(str(tmp_path)) is None
    data, meta, kind = get_reader(str(path))(str(path))[0]
    assert kind == "image"
    labels = np.zeros(data.shape, np.uint8)
    labels[2, 3, 4] = 1
    written = write_mask(str(tmp_path / "mask.nii.gz"), labels, {"metadata": meta["metadata"], "name": "mask"})
    assert Path(written[0]).exists()
    assert np.array_equal(read_labels(tmp_path / "mask.nii.gz", meta["metadata"]["vqseg"]["volume"]).array, labels)
    with pytest.raises(GeometryError):
        write_mask(str(tmp_path / "b.nii.gz"), labels, {"metadata": {}, "name": "b"})
    with pytest.raises(Exception, match=r"none\.nii"):
        get_reader(str(tmp_path / "none.nii"))(str(tmp_path / "none.nii"))
