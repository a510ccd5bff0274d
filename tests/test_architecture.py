"""The import rules of docs/architecture.md: read from the sources, and checked once more in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STARRED = "starred"

# The rooms of vqseg that may load torch; whatever is not listed is starred (torch-free) and imports starred rooms only.
MAY_IMPORT = {
    "device": {STARRED},
    "distributed": {STARRED},
    "losses": {STARRED, "distributed"},
    "data": {STARRED, "losses", "distributed"},
    "models": {STARRED, "losses", "distributed"},
    "checkpoint": {STARRED, "models", "data", "methods", "losses"},
    "methods": {STARRED, "losses", "data", "models", "distributed"},
    "codebook": {STARRED, "data", "models", "methods", "predict", "checkpoint"},
    "fusion": {STARRED, "data"},
    "predict": {STARRED, "device", "data", "fusion", "models", "methods", "checkpoint", "codebook", "losses"},
    "train": {
        STARRED,
        "device",
        "losses",
        "data",
        "models",
        "methods",
        "checkpoint",
        "predict",
        "codebook",
        "distributed",
    },
    "segment": {STARRED, "data", "train", "predict", "checkpoint"},
    "engine": {STARRED, "data", "train", "predict", "codebook", "checkpoint", "device"},
    "benchmark": {STARRED, "device", "losses", "data", "models", "methods", "train", "predict", "codebook", "segment"},
    "cli": {STARRED, "segment", "train", "predict", "codebook", "benchmark", "demo", "engine", "device"},
}
# The engine is several files.
ENGINE = ("engine", "desk", "run_loop", "runner", "team", "workspace")
# Third-party packages, and the files that alone may import them.
ONLY_IN = {
    "timm": ("vqseg/models/priors.py", "vqseg/models/encoders.py"),
    "nibabel": ("vqseg/io/", "vqseg/volume.py"),
    "SimpleITK": ("vqseg/io/",),
    "isal": ("vqseg/io/",),
    "pydicom": ("vqseg/io/",),
    "highdicom": ("vqseg/io/",),
    "distributed": ("vqseg/cluster.py",),
    "qtpy": ("napari_vqseg/",),
    "superqt": ("napari_vqseg/",),
    "magicgui": ("napari_vqseg/",),
    "napari": ("napari_vqseg/",),
    "PyQt5": (),
    "PyQt6": (),
    "PySide6": (),
}
TORCH = ("torch", "torchvision", "timm", "monai")
PROCESS = ("subprocess", "multiprocessing")


def python_files(package: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py"))


def imports_of(path: Path, with_types: bool = False) -> Iterator[str]:
    """Modules that a file imports, wherever in it; those under TYPE_CHECKING on request."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not with_types:
            skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module is not None
            yield node.module
            # `from vqseg import train` names a module as well.
            yield from (f"{node.module}.{alias.name}" for alias in node.names if is_module(node.module, alias.name))


def is_module(package: str, name: str) -> bool:
    folder = ROOT.joinpath(*package.split("."))
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def room_of(module: str) -> str:
    room = module.split(".")[1] if "." in module else ""
    room = "engine" if room in ENGINE else room
    return room if room in MAY_IMPORT else STARRED


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


LIBRARY = [path for path in python_files("vqseg") if path != Path("vqseg/__init__.py")]
STARRED_MODULES = [
    module_of(path)
    for path in python_files("vqseg")
    if room_of(module_of(path)) == STARRED and path.name != "__main__.py" and path != Path("vqseg/demo.py")
]


@pytest.mark.parametrize("path", LIBRARY, ids=str)
def test_rooms_import_only_what_they_may(path):
    room = room_of(module_of(path))
    allowed = MAY_IMPORT.get(room, {STARRED}) | {room}
    if path in (Path("vqseg/__main__.py"),):
        allowed = {"cli", STARRED}
    for module in imports_of(path):
        if module.split(".")[0] == "vqseg" and module != "vqseg":
            assert room_of(module) in allowed, f"{path} ({room}) imports {module}"
        if room == STARRED:
            assert module.split(".")[0] not in TORCH, f"{path} is torch-free but imports {module}"


def test_methods_are_twins_that_do_not_know_each_other():
    for path in python_files("vqseg/methods"):
        if path.name == "__init__.py":
            continue
        others = {module for module in imports_of(path) if module.startswith("vqseg.methods.")}
        shared = {other for other in others if other.split(".")[2] == "base"}
        assert others == shared, f"{path} imports {', '.join(others - shared)}"


@pytest.mark.parametrize("package", list(ONLY_IN))
def test_libraries_stay_in_their_rooms(package):
    for path in python_files("vqseg") + python_files("napari_vqseg"):
        if not str(path).startswith(ONLY_IN[package] or ("nowhere",)):
            found = [module for module in imports_of(path, with_types=True) if module.split(".")[0] == package]
            assert not found, f"{path} imports {found[0]}"


@pytest.mark.parametrize("path", python_files("napari_vqseg"), ids=str)
def test_the_viewer_imports_starred_rooms_only(path):
    for module in imports_of(path, with_types=True):
        top = module.split(".")[0]
        assert top not in TORCH, f"{path} imports {module}"
        if top == "vqseg":
            assert room_of(module) == STARRED, f"{path} imports {module}, which loads torch"


@pytest.mark.parametrize("path", python_files("napari_vqseg"), ids=str)
def test_only_the_worker_owns_a_process_and_only_layers_touch_layers(path):
    source = (ROOT / path).read_text(encoding="utf-8")
    if path.name != "worker.py":
        assert "QProcess" not in source
        assert not {module.split(".")[0] for module in imports_of(path)} & set(PROCESS)
    if path.parts[1] != "layers":
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and node.attr == "layers":
                assert not ast.unparse(node.value).rstrip("()").endswith("viewer"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", python_files("napari_vqseg/session"), ids=str)
def test_the_session_knows_no_window(path):
    above = (
        "napari_vqseg.panels",
        "napari_vqseg.widget",
        "napari_vqseg.layers",
        "napari_vqseg.worker",
        "napari",
        "qtpy",
    )
    for module in imports_of(path):
        assert not any(module == other or module.startswith(f"{other}.") for other in above), f"{path} imports {module}"


@pytest.mark.parametrize("path", python_files("napari_vqseg/panels"), ids=str)
def test_panels_know_the_session_only(path):
    beneath = ("napari_vqseg.worker", "napari_vqseg.layers")
    assert not [module for module in imports_of(path) if module.startswith(beneath)], path
    assert "napari" not in {module.split(".")[0] for module in imports_of(path)}, path


def loaded_after(statement: str, *, forbidden: tuple[str, ...]) -> list[str]:
    """Which of the forbidden packages a fresh process has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*[name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_is_instant():
    assert loaded_after("import vqseg", forbidden=(*TORCH, "qtpy", "napari", "numpy", "nibabel", "skimage")) == []


def test_asking_the_command_line_for_help_loads_no_torch():
    statement = """
import contextlib, io
from vqseg.cli import VERBS, main
with contextlib.redirect_stdout(io.StringIO()):
    assert [main([verb, "--help"]) for verb in VERBS] == [0] * len(VERBS)
"""
    assert loaded_after(statement, forbidden=(*TORCH, "qtpy", "napari")) == []


def test_starred_rooms_load_no_torch():
    statement = "import " + ", ".join(STARRED_MODULES)
    assert loaded_after(statement, forbidden=(*TORCH, "qtpy", "napari")) == []


def test_the_session_loads_no_qt():
    assert loaded_after("import napari_vqseg.session", forbidden=("qtpy", "napari", *TORCH)) == []


def test_the_plugin_loads_no_torch():
    modules = [module_of(path) for path in python_files("napari_vqseg") if path.name != "__main__.py"]
    assert loaded_after("import " + ", ".join(modules), forbidden=TORCH) == []


def test_the_engine_loads_the_rivals_networks_for_them_alone():
    """MONAI takes 1.5 s, which a person would wait for the first overlay."""
    assert loaded_after("import vqseg.engine, vqseg.train, vqseg.codebook", forbidden=("monai",)) == []


def test_public_names_are_there_and_load_on_use():
    import vqseg

    assert vqseg.__all__ == sorted(vqseg.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    for name in vqseg.__all__:
        assert getattr(vqseg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = vqseg.missing
