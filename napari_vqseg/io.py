"""Reader and writer for napari: volumes in, label masks out, through vqseg.io."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.types import LayerData

__all__ = ["get_reader", "write_mask"]


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader of a volume, None for what is none; looks at names only."""
    if not isinstance(path, str):
        return None
    from vqseg.io.image_files import SUFFIXES

    place = Path(path)
    if place.name.lower().endswith((*SUFFIXES, ".dcm")) or (place.is_dir() and _looks_like_dicom(place)):
        return _read
    return None


def _looks_like_dicom(folder: Path) -> bool:
    try:
        for count, item in enumerate(folder.iterdir()):
            if item.suffix.lower() == ".dcm" or item.name.upper() == "DICOMDIR":
                return True
            if count > 20:
                break
    except OSError:
        return False
    return False


def _read(path: Any) -> list[LayerData]:
    from napari_vqseg.layers import layer_geometry
    from vqseg.config import WINDOWS
    from vqseg.io import read_volume
    from vqseg.io.image_files import stem

    volume = read_volume(path)
    window = WINDOWS["mediastinum"]
    name = stem(Path(path))
    ct = volume.modality in ("", "CT")
    look = {"contrast_limits": window.limits_hu} if ct else {}
    return [(volume.array, {"name": name, "colormap": "gray", **look, **layer_geometry(volume)}, "image")]


def write_mask(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer with the geometry of the volume it belongs to.

    Raises
    ------
    GeometryError
        For a layer that this plugin, or its reader, has not placed.
    """
    from vqseg.errors import GeometryError
    from vqseg.io import write_labels
    from vqseg.volume import Volume

    volume = meta.get("metadata", {}).get("vqseg", {}).get("volume")
    if not isinstance(volume, Volume):
        raise GeometryError(
            f"The layer {meta.get('name', '')!r} does not know the volume it was drawn on; "
            "export it from the VQ-Seg window instead."
        )
    target = path if path.endswith((".nii", ".nii.gz")) else f"{path}.nii.gz"
    return [str(written) for written in write_labels(Path(target), data, volume, {})]
