"""What the window tests share: warnings that are not ours, a scratch home for projects, a session without a window."""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import pytest

from vqseg.io import write_map

spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
fakes = sys.modules.setdefault("fakes", importlib.util.module_from_spec(spec))
spec.loader.exec_module(fakes)


# Before napari is imported: nobody's own preferences in the tests.
os.environ.setdefault("NAPARI_CONFIG", os.path.join(tempfile.mkdtemp(prefix="napari-"), "settings.yaml"))


def pytest_configure(config):
    for module in ("pydantic", "napari", "vispy", "magicgui", "superqt", "npe2", "app_model", "qtpy",
                   "psygnal", "pint", "zarr", "dask", "skimage", "importlib", "pytestqt"):  # fmt: skip
        config.addinivalue_line("filterwarnings", rf"ignore::Warning:{module}(\..*)?")
    config.addinivalue_line("filterwarnings", r"ignore:.*PyQt5.*:Warning")


@pytest.fixture(autouse=True)
def projects_home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("NAPARI_VQSEG_HOME", str(home))
    return home


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "ct.nii.gz"
    write_map(path, fakes.make_volume().array, fakes.make_volume())
    return path


@pytest.fixture
def make_desk():
    desks = []

    def make():
        desks.append(fakes.Desk())
        return desks[-1]

    yield make
    for desk in desks:
        desk.session.close()


@pytest.fixture
def desk(make_desk, image):
    """A session with a small volume open."""
    made = make_desk()
    made.session.open_volume(image)
    assert made.session.is_open, made.heard
    return made
