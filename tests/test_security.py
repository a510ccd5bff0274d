"""What SECURITY.md promises: no reporting, no listening, no code in data files."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

WATCH = """
import os, sys

def watch(event, arguments):
    name = event.partition(".")[0]
    if event in ("pickle.find_class", "urllib.Request") or (name == "socket" and event not in HARMLESS):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {arguments!r:.200}\\n")

HARMLESS = ("socket.__new__", "socket.gethostname")
sys.addaudithook(watch)
"""
"""A sitecustomize for every Python process that a command starts, the engine among them."""

IMPORTS = ("('::1', 0)", "find_class ('dask.delayed'", "find_class ('_operator'")
"""What libraries do while they are imported: urllib3 asks whether there is IPv6, dask copies its own operators."""


LOOP = """
import sys
from pathlib import Path
from vqseg import cli, phantom, preset
from vqseg.annotations import Annotations
from vqseg.client import Engine
from vqseg.project import Project

folder = Path(sys.argv[1])
volume, labels = phantom.synthetic_thorax(shape=(20, 32, 32))
project = Project.create(folder / "project", "Watched", labels.names)
case = project.add_case(volume)
case.save_annotations(Annotations.from_slices(labels.array, [8, 12]))
run = project.new_run(preset("fast", time_budget_s=0, iterations=2, size=32, patch=32, device="cpu"), [case.id])
with Engine(folder / "engine.log") as engine:
    engine.open_case(project, case.id)
    engine.train(run)
    engine.predict(case.id)
sys.exit(cli.main(["export", str(project.path), "--output", str(folder / "masks"), "--quiet"]))
"""
"""Train, predict and export, with the engine in a process of its own as the window has it."""


@pytest.mark.slow
def test_the_whole_loop_neither_reports_nor_listens_nor_unpickles(tmp_path, repository):
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    watched = tmp_path / "watched.txt"
    path = os.pathsep.join([str(tmp_path), str(repository)])
    environment = {**os.environ, "PYTHONPATH": path, "WATCHED": str(watched)}
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / "case-001_segmentation.nii.gz").exists()
    seen = watched.read_text().splitlines() if watched.exists() else []
    assert not [line for line in seen if not any(known in line for known in IMPORTS)]
    probe = [sys.executable, "-c", "import pickle, fractions; pickle.loads(pickle.dumps(fractions.Fraction(1)))"]
    subprocess.run(probe, env=environment, check=True)
    assert "Fraction" in watched.read_text()  # the watch is awake


def calls(path: Path) -> set[str]:
    """Names that are called in a file, as they are written: `np.load`, `torch.load`..."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def modules(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


NETWORKED = {
    "aiohttp", "distributed", "http", "httpx", "huggingface_hub", "requests", "smtplib", "socket", "socketserver",
    "ssl", "urllib",
}  # fmt: skip
EXCEPTIONS = {
    "vqseg/models/weight_files.py": {"huggingface_hub", "socket", "urllib"},  # weights that a person has asked for
    "vqseg/cluster.py": {"distributed", "urllib"},  # many files at once, over the loopback or where a person says
    "vqseg/lock.py": {"socket"},  # writes down the host's name
}
"""What may talk to other processes; SECURITY.md says when."""


def test_only_what_says_so_reaches_for_the_network(repository):
    for path in [*(repository / "vqseg").rglob("*.py"), *(repository / "napari_vqseg").rglob("*.py")]:
        name = path.relative_to(repository).as_posix()
        assert not modules(path) & NETWORKED - EXCEPTIONS.get(name, set()), name
        assert not {"eval", "exec", "os.system"} & calls(path), name


def test_nothing_is_unpickled(repository):
    for path in [*(repository / "vqseg").rglob("*.py"), *(repository / "napari_vqseg").rglob("*.py")]:
        assert not modules(path) & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if ast.unparse(node.func) == "torch.load":
                    assert given.get("weights_only") == "True", f"{path}:{node.lineno}"
                if ast.unparse(node.func) in ("np.load", "numpy.load"):
                    assert given.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
