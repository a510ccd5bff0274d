"""What the window tests share: Qt's platform, warnings that are not ours, a scratch home for projects."""

import pytest


def pytest_configure(config):
    for module in ("pydantic", "napari", "vispy", "magicgui", "superqt", "pyqtgraph", "npe2", "app_model", "qtpy",
                   "psygnal", "pint", "zarr", "dask", "skimage", "importlib", "pytestqt"):  # fmt: skip
        config.addinivalue_line("filterwarnings", rf"ignore::Warning:{module}(\..*)?")
    config.addinivalue_line("filterwarnings", r"ignore:.*PyQt5.*:Warning")


@pytest.fixture(autouse=True)
def projects_home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("NAPARI_VQSEG_HOME", str(home))
    return home
