"""Our name and a checksum of the voxels in a NIfTI header's description: who changes the voxels later breaks it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import IO

__all__ = ["is_signed", "signature"]

BLOCK = 1 << 22


def signature(blocks: Iterable[bytes]) -> bytes:
    """The description of a file whose voxels are these bytes, block after block."""
    checksum = 0
    for block in blocks:
        checksum = zlib.crc32(block, checksum)
    return b"napari-vqseg %08x" % checksum


def is_signed(file: IO[bytes], description: bytes, offset: int) -> bool:
    """Whether an open NIfTI file's description is the signature of what follows from byte `offset` on."""
    if not description.startswith(b"napari-vqseg "):
        return False
    file.seek(offset)
    return signature(iter(lambda: file.read(BLOCK), b"")) == description.rstrip(b"\0")
