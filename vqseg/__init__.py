"""VQ-Seg: segment a volume from a few labelled slices. The library; the napari plugin is ``napari_vqseg``.

The names below load when they are first used, so that ``import vqseg`` is instant and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqseg.annotations import Annotations
    from vqseg.config import Config, preset
    from vqseg.errors import VQSegError
    from vqseg.io import read_labels, read_volume, write_labels
    from vqseg.metrics import evaluate
    from vqseg.phantom import synthetic_thorax
    from vqseg.predict import Predictor
    from vqseg.project import Project
    from vqseg.train import Trainer
    from vqseg.volume import Volume

__version__ = "0.1.0"

__all__ = [
    "Annotations",
    "Config",
    "Predictor",
    "Project",
    "Trainer",
    "VQSegError",
    "Volume",
    "evaluate",
    "preset",
    "read_labels",
    "read_volume",
    "synthetic_thorax",
    "write_labels",
]

_HOMES = {
    "Annotations": "annotations",
    "Config": "config",
    "Predictor": "predict",
    "Project": "project",
    "Trainer": "train",
    "VQSegError": "errors",
    "Volume": "volume",
    "evaluate": "metrics",
    "preset": "config",
    "read_labels": "io",
    "read_volume": "io",
    "synthetic_thorax": "phantom",
    "write_labels": "io",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
