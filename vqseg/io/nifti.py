"""NIfTI-1 and NIfTI-2, `.nii` (read slice by slice) and `.nii.gz` (read once).

The header is kept as raw bytes and masks are written with the same bytes, so that sform, qform, their codes, the
units and the voxel sizes come back bit for bit.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import dask.array
import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError

from vqseg.errors import VolumeError
from vqseg.io.geometry import make_layout
from vqseg.io.signature import is_signed, signature
from vqseg.volume import StoredLayout, Volume

__all__ = ["is_as_written", "read", "write"]

MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""NIfTI's codes of spatial units: unknown (read as mm), metre, millimetre, micrometre."""

PLAUSIBLE_SPACING_MM = (0.001, 50.0)
"""A declared unit that takes the spacing out of this range is a slip of the writing program."""

DISAGREEMENT = 0.5
"""Sides of a voxel that sform and qform may lie apart; a qform holds no shear and less precision."""

SHEAR_DEGREES = 1.0
"""Deviations from a right angle below this are rounding, or change lengths by less than 2 %."""

COMPRESSION = 2
"""Level of isal's gzip: maps get as small as by zlib's 4 in an eighth of the time, masks a fifth larger."""

INFLATE_ERROR: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]

Header = Any  # one of the two:
Nifti1Header: Any = nib.Nifti1Header
Nifti2Header: Any = nib.Nifti2Header


def read(path: Path, axis: int | None = None) -> Volume:
    """Read a NIfTI file.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`.
    axis : int, optional
        Stored axis that becomes z; by default the most axial one.

    Returns
    -------
    Volume
        Lazy (a dask array, one chunk a slice) for `.nii`; in memory for `.nii.gz`.

    Raises
    ------
    VolumeError
        For a damaged file, an image that is not one scalar volume, or an affine that does not span a space.
    """
    raw, header = _read_header(path)
    shape = _volume_shape(header, path.name)
    dtype = _scalar_dtype(header, path.name)
    affine, warnings = _affine(header)
    layout = make_layout(shape, affine, path.name, header=raw, axis=axis)
    slope, intercept = _scaling(header)
    spec = (shape, dtype, int(header["vox_offset"]), slope, intercept)
    stored = _read_once(path, spec) if _is_gzip(path) else _lazy(path, spec, layout.slice_axis)
    return Volume(layout.to_canonical(stored), layout, source=str(path), warnings=tuple(warnings))


def write(path: Path, stored: npt.NDArray[Any], layout: StoredLayout) -> None:
    """Write a stored array (i, j, k) or (i, j, k, channel) with the geometry of `layout`, then read it back.

    Parameters
    ----------
    path : Path
        `.nii` or `.nii.gz`; written in place (see :func:`vqseg.io.atomic.atomic_path`).
    stored : ndarray
        In the source's own orientation; its dtype is the file's.
    layout : StoredLayout
        The source's layout; its header, where there is one, is carried over.

    Raises
    ------
    VolumeError
        If what was written does not read back the same.
    """
    header = _output_header(stored, layout)
    data = stored.astype(header.get_data_dtype(), copy=False)
    header["descrip"] = signature(_voxels(data))
    block = header.binaryblock + bytes(int(header["vox_offset"]) - len(header.binaryblock))
    with path.open("wb") as file:
        if path.suffix == ".gz":
            with igzip.IGzipFile("", "wb", COMPRESSION, file, mtime=0) as compressed:
                _write_blocks(compressed, block, data)
        else:
            _write_blocks(file, block, data)
    _compare(path, stored, header)


def is_as_written(path: Path) -> bool:
    """Whether a file is one that :func:`write` wrote, with the voxels that it was given."""
    try:
        _, header = _read_header(path)
        with _open(path) as file:
            return is_signed(file, bytes(header["descrip"].item()), int(header["vox_offset"]))
    except (OSError, EOFError, INFLATE_ERROR, VolumeError):
        return False


# ------------------------------------------------------------------------------------------------- reading


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _open(path: Path) -> IO[bytes]:
    return igzip.open(path, "rb") if _is_gzip(path) else path.open("rb")


def _read_header(path: Path) -> tuple[bytes, Header]:
    """The raw header and its parsed twin, as stored (either byte order)."""
    try:
        with _open(path) as file:
            raw = file.read(540)
    except gzip.BadGzipFile:
        raise VolumeError(f"{path.name} is named .gz but not compressed with gzip; rename it to .nii.") from None
    except (EOFError, INFLATE_ERROR):
        raise _damaged(path) from None
    if raw[:2] == b"\x1f\x8b":
        raise VolumeError(f"{path.name} is compressed with gzip; rename it to .nii.gz.")
    sizes = {int.from_bytes(raw[:4], order) for order in ("little", "big")}
    for kind, size, magic in ((Nifti1Header, 348, raw[344:348]), (Nifti2Header, 540, raw[4:8])):
        if size in sizes and len(raw) >= size and magic.startswith(b"n+"):
            return raw[:size], kind(raw[:size], check=False)
    raise VolumeError(f"{path.name} is not a NIfTI file in one piece; choose a .nii or .nii.gz, or copy it again.")


def _damaged(path: Path) -> VolumeError:
    return VolumeError(f"{path.name} is damaged or cut short; copy or download it again.")


def _volume_shape(header: Header, name: str) -> tuple[int, int, int]:
    """(i, j, k); further axes must have length 1."""
    count = int(header["dim"][0])
    sizes = [int(size) for size in header["dim"][1 : count + 1]] if 1 <= count <= 7 else []
    if not sizes or min(sizes) < 1:
        raise VolumeError(f"{name} has no valid size in its header; convert the image again from its source.")
    extra = [size for size in sizes[3:] if size != 1]
    if extra:
        raise VolumeError(
            f"{name} holds {int(np.prod(extra))} volumes (shape {tuple(sizes)}), such as time points; "
            "save the one you want as a 3D file."
        )
    return tuple([*sizes, 1, 1][:3])  # type: ignore[return-value]


def _scalar_dtype(header: Header, name: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError):
        dtype = np.dtype("V")
    if dtype.kind not in "iuf":
        raise VolumeError(
            f"{name} holds colours, complex numbers or an unknown type, not one number a voxel; "
            "save it as integers or floats."
        )
    return dtype


def _affine(header: Header) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Stored index -> RAS+ mm by nibabel's rule (sform, then qform, then voxel sizes), and what to warn about."""
    parsed = header.copy()
    if parsed["pixdim"][0] not in (-1, 1):
        parsed["pixdim"][0] = 1
    warnings = []
    try:
        affine = np.asarray(parsed.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        affine = np.full((4, 4), np.nan)
    if parsed["sform_code"] <= 0 and parsed["qform_code"] <= 0:
        warnings.append("The file states no orientation (sform and qform codes are 0); left and right are a guess.")
    if (sheared := _shear_degrees(affine)) > SHEAR_DEGREES:
        warnings.append(
            f"The axes are sheared by {sheared:.3g} degrees, as by gantry tilt; lengths across slices are approximate."
        )
    if (apart := _qform_apart(parsed)) > DISAGREEMENT:
        warnings.append(
            f"The file's sform and qform place the same voxels up to {apart:.3g} voxels apart; the sform counts here, "
            "other programs may go by the qform and show labels elsewhere or mirrored."
        )
    unit = int(header["xyzt_units"]) & 7
    factor = MM_PER_UNIT.get(unit, 1.0)
    if factor != 1.0:
        low, high = PLAUSIBLE_SPACING_MM
        spacing = np.linalg.norm(affine[:3, :3], axis=0) * factor
        what = {1: "metres", 3: "micrometres"}[unit]
        if ((spacing >= low) & (spacing <= high)).all():
            affine[:3] *= factor
            warnings.append(f"The file is in {what}; lengths were converted to millimetres.")
        else:
            warnings.append(f"The file claims {what}, which its voxel sizes cannot be; they were read as millimetres.")
    return affine, warnings


def _shear_degrees(affine: npt.NDArray[np.float64]) -> float:
    """The largest deviation of two axes from a right angle; nan for an affine that spans no space."""
    with np.errstate(all="ignore"):
        columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.degrees(np.arcsin(np.abs(columns.T @ columns - np.eye(3)).max().clip(max=1))))


def _qform_apart(header: Header) -> float:
    """How far apart sform and qform place the image's corners, in sides of its smallest voxel; 0 with only one."""
    try:
        sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return 0.0  # an invalid qform misleads nobody
    if sform is None or qform is None:
        return 0.0
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], dtype=float)
    corners[:, :3] *= header["dim"][1:4] - 1
    apart = np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()
    return float(apart / np.linalg.norm(sform[:3, :3], axis=0).min())


def _scaling(header: Header) -> tuple[float, float]:
    """Slope and intercept; 1 and 0 where the header asks for none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _value_dtype(dtype: np.dtype[Any], slope: float, intercept: float) -> np.dtype[Any]:
    """The native dtype of the values: as stored for integers without scaling, else float32."""
    if dtype.kind in "iu" and (slope, intercept) == (1.0, 0.0):
        return dtype.newbyteorder("=")
    return np.dtype(np.float32)


def _read_once(path: Path, spec: Any) -> npt.NDArray[Any]:
    """The whole compressed file, to its checksum at the end."""
    shape, dtype, offset, slope, intercept = spec
    buffer = np.empty(int(np.prod(shape)) * dtype.itemsize, dtype=np.uint8)
    try:
        with _open(path) as file:
            if len(file.read(offset)) < offset or _fill(file, memoryview(buffer.data)) < buffer.size:
                raise EOFError
            while file.read(1 << 20):
                pass
    except (EOFError, INFLATE_ERROR, OSError):
        raise _damaged(path) from None
    array: npt.NDArray[Any] = buffer.view(dtype).reshape(shape, order="F")
    values = _value_dtype(dtype, slope, intercept)
    if (slope, intercept) == (1.0, 0.0):
        array = array.astype(values, order="F", copy=False)
    else:
        array = (array * np.float64(slope) + intercept).astype(values, order="F")
    return array


def _fill(file: IO[bytes], view: memoryview) -> int:
    """Read until `view` is full or the file ends; the number of bytes read."""
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + (1 << 24)])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
    return done


class _ProxySlices:
    """What dask asks of an array, answered by nibabel from the file: one dtype, native byte order."""

    def __init__(self, proxy: ArrayProxy, dtype: np.dtype[Any]) -> None:
        self.proxy, self.dtype = proxy, dtype
        self.shape, self.ndim = proxy.shape, proxy.ndim

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        return np.array(self.proxy[key], dtype=self.dtype)  # a copy: the file may be replaced meanwhile


def _lazy(path: Path, spec: Any, slice_axis: int) -> Any:
    """A dask array (i, j, k) that reads one slice along `slice_axis` a chunk."""
    shape, dtype, offset, slope, intercept = spec
    if os.path.getsize(path) < offset + int(np.prod(shape)) * dtype.itemsize:
        raise _damaged(path)
    source = _ProxySlices(ArrayProxy(str(path), spec), _value_dtype(dtype, slope, intercept))
    chunks = tuple(1 if axis == slice_axis else size for axis, size in enumerate(shape))
    return dask.array.from_array(source, chunks=chunks, name=False, asarray=True)


# ------------------------------------------------------------------------------------------------- writing


def _output_header(stored: npt.NDArray[Any], layout: StoredLayout) -> Header:
    """The source's header, bit for bit where it tells of geometry, with this array's size and type."""
    header = _source_header(layout)
    header.set_data_dtype(stored.dtype.newbyteorder(header.endianness))
    pixdim = header["pixdim"].copy()
    header.set_data_shape(stored.shape)  # fills in the sizes of axes that are not there
    header["pixdim"] = pixdim
    if stored.ndim == 4:
        header["pixdim"][4] = 1
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    header["aux_file"] = b""
    header["intent_code"], header["intent_name"] = 0, b""
    if "db_name" in header:  # NIfTI-1: free text, in which converters leave whom the scan is of
        header["db_name"] = b""
    header["vox_offset"] = len(header.binaryblock) + 4
    return header


def _source_header(layout: StoredLayout) -> Header:
    """The source's header, or a new one that states the affine as scanner coordinates."""
    if layout.header is not None:
        kind = Nifti1Header if len(layout.header) == 348 else Nifti2Header
        return kind(layout.header, check=False)
    header = (Nifti1Header if max(layout.shape) < 2**15 else Nifti2Header)()
    header.set_data_shape(layout.shape)
    header.set_sform(layout.affine, code=1)
    columns = layout.affine[:3, :3] / np.linalg.norm(layout.affine[:3, :3], axis=0)
    header.set_qform(layout.affine, code=1 if np.allclose(columns.T @ columns, np.eye(3), atol=1e-4) else 0)
    header.set_xyzt_units("mm")
    return header


def _write_blocks(file: Any, block: bytes, data: npt.NDArray[Any]) -> None:
    file.write(block)
    for voxels in _voxels(data):
        file.write(voxels)


def _voxels(data: npt.NDArray[Any]) -> Iterator[bytes]:
    """The voxels in Fortran order, one block along the last axis at a time."""
    for index in range(data.shape[-1]):
        yield data[..., index].tobytes(order="F")


def _compare(path: Path, stored: npt.NDArray[Any], header: Header) -> None:
    """Read the file with nibabel's own loader and raise unless voxels and geometry are what was meant."""
    image = nib.load(path)
    same = np.array_equal(np.asanyarray(image.dataobj), stored, equal_nan=stored.dtype.kind == "f")  # type: ignore[attr-defined]
    fields = ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d")
    raw = _read_header(path)[1]
    kept = all(raw[name].tobytes() == header[name].tobytes() for name in (*fields, "xyzt_units", "pixdim"))
    if not (same and kept):
        raise VolumeError("What was written does not read back the same; check the disk and write it again.")
