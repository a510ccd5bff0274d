"""Reader and writer for napari: volumes in, label masks out, through vqseg.io."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.types import LayerData

__all__ = ["get_reader", "write_mask"]

LOOKED_AT = 20
"""Files of a folder that are looked at for DICOM."""


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader of a volume, None for what is none; looks at names, and at the first bytes of a few files.

    Of files that are opened as a stack the series is read that they belong to.
    """
    places = [Path(path)] if isinstance(path, str) else [Path(item) for item in path]
    if len(places) > 1:
        return _read if all(_is_dicom(place) for place in places) else None
    return _read if _is_volume(places[0]) else None


def _is_volume(place: Path) -> bool:
    from vqseg.io.image_files import SUFFIXES

    if place.name.lower().endswith((*SUFFIXES, ".dcm")):
        return True
    try:
        return place.is_dir() and any(_is_dicom(item) for item in islice(place.iterdir(), LOOKED_AT))
    except OSError:
        return False


def _is_dicom(file: Path) -> bool:
    if file.suffix.lower() == ".dcm":
        return True
    from vqseg.io.dicom_frames import is_dicom

    try:
        return file.is_file() and is_dicom(file)
    except OSError:
        return False


def _read(path: Any) -> list[LayerData]:
    place = Path(path if isinstance(path, str) else path[0])
    if not place.is_dir():
        return [_layer(place)]
    from vqseg.io import list_series

    found = list_series(place)
    if len(found) == 1:
        return [_layer(place)]
    return [_layer(place, series.uid, series.description) for series in found if series.n_slices > 1]


def _layer(place: Path, series: str | None = None, name: str = "") -> LayerData:
    """A volume in the window that fits it; labels where the file, or the one beside it, names them."""
    from napari_vqseg.layers import layer_geometry
    from vqseg.config import WINDOWS
    from vqseg.io import read_volume
    from vqseg.io.image_files import stem
    from vqseg.io.labels import names_of

    volume = read_volume(place, series=series)
    geometry = {"name": name or stem(place), **layer_geometry(volume)}
    if volume.array.dtype.kind in "ui" and names_of(volume)[0]:
        return volume.array, geometry, "labels"
    look = {"contrast_limits": WINDOWS["mediastinum"].limits_hu} if volume.in_hu else {}
    return volume.array, {"colormap": "gray", **look, **geometry}, "image"


def write_mask(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer with the geometry of the volume it belongs to, or on whose voxels it lies in the viewer.

    Raises
    ------
    GeometryError
        For a layer that lies on no volume that this plugin, or its reader, has placed.
    """
    from napari import current_viewer

    from napari_vqseg.layers import volume_beneath
    from vqseg.errors import GeometryError
    from vqseg.io import write_labels

    volume = volume_beneath(current_viewer(), tuple(data.shape), meta)
    if volume is None:
        raise GeometryError(
            f"The layer {meta.get('name', '')!r} does not lie on the voxels of a volume that VQ-Seg has opened; "
            "make it with New labels while that volume is selected, or draw in the VQ-Seg window and export there."
        )
    target = path if path.endswith((".nii", ".nii.gz")) else f"{path}.nii.gz"
    return [str(written) for written in write_labels(Path(target), data, volume, {})]
