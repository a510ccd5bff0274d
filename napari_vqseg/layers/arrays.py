"""Arrays whose content changes under a layer, or is read again and again.

Giving a layer other data makes napari measure its world anew and compile a shader: 30 ms on the event loop. A layer
on one of these need only draw its slice again: 3 ms.
"""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import numpy.typing as npt

__all__ = ["LastSlice", "OneSlice", "Replaceable"]

AT_ONCE = 8
"""Slices read ahead at once."""


class LastSlice:
    """An array (z, y, x), lazy or not, of which the slice read last is kept: a brush asks for it at every move.

    Whatever else is asked of it, the array itself answers; a lazy one, once it has been read ahead, from memory.

    Parameters
    ----------
    array : array_like
        numpy or dask.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self._last: tuple[Any, npt.NDArray[Any]] = None, np.empty((0, 0))
        self._ahead: tuple[int, npt.NDArray[Any]] | None = None

    def read_ahead(self) -> bool:
        """Read a few slices more of a lazy array, from any one thread; whether there are still more.

        A plane across the slices has to read them all: 100 ms where they lie in a file as they are, seconds in DICOM.
        """
        if isinstance(self._array, np.ndarray):
            return False
        done, whole = self._ahead or (0, np.empty(self._array.shape, self._array.dtype))
        for z in range(done, min(done + AT_ONCE, len(whole))):
            whole[z] = self._read(z)
        self._ahead = done + AT_ONCE, whole
        if done + AT_ONCE >= len(whole):
            self._array, self._ahead = whole, None
        return self._ahead is not None

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        z, *rest = key if isinstance(key, tuple) else (key,)
        first = z.start if isinstance(z, slice) else z
        if not isinstance(first, int | np.integer) or (isinstance(z, slice) and (z.stop, z.step) != (first + 1, None)):
            return np.asarray(self._array[key])
        last, slice_yx = self._last
        if first != last:
            slice_yx = self._read(int(first))
            self._last = first, slice_yx
        part = slice_yx[tuple(rest)]
        return part[np.newaxis] if isinstance(z, slice) else part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._array, name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._array, dtype=dtype, copy=copy)

    def _read(self, z: int) -> npt.NDArray[Any]:
        """A slice; of a lazy array by its own few tasks, where dask would first look through those of all slices."""
        if getattr(self._array, "numblocks", ()) != (len(self._array), 1, 1):
            return np.asarray(self._array[z])
        key = (self._array.name, z % len(self._array), 0, 0)
        return np.asarray(dask.get(self._array.dask.cull({key}), key)[0])


class Replaceable:
    """Labels (z, y, x) that another array takes the place of.

    Parameters
    ----------
    content : array of uint8, shape (z, y, x)
        The labels, also those that map a file.
    """

    ndim = 3

    def __init__(self, content: npt.NDArray[np.uint8]) -> None:
        self.content = content
        self.shape = content.shape
        self.dtype = content.dtype

    def replace(self, content: npt.NDArray[np.uint8]) -> None:
        """Take other labels of the same shape."""
        assert content.shape == self.shape
        assert content.dtype == self.dtype
        self.content = content

    def __getitem__(self, key: Any) -> npt.NDArray[np.uint8]:
        return self.content[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.content[key] = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.content, dtype=dtype, copy=copy)


class OneSlice:
    """A map (z, y, x) of float32 that is zero outside of one slice.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x).
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._z = 0
        self._content = np.zeros(shape[1:], dtype=np.float32)

    def put(self, z: int, content_yx: npt.NDArray[np.float32]) -> None:
        """Make slice z the one that counts."""
        self._z, self._content = z, content_yx

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        key = key if isinstance(key, tuple) else (key,)
        here = np.arange(self.shape[0])[key[0]] == self._z
        content = self._content[key[1:]]
        return here.reshape(here.shape + (1,) * content.ndim) * content

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or self.dtype)
