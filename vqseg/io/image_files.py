"""What files of images are called: known by their endings, named without them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ITK", "NIFTI", "SUFFIXES", "is_image_file", "stem"]

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (*NIFTI, *ITK)
"""Endings of files that hold a volume; DICOM files may have any."""


def is_image_file(path: Path) -> bool:
    """Whether a path ends as the files of images do, and is not a folder."""
    return path.name.lower().endswith(SUFFIXES) and not path.is_dir()


def stem(path: Path) -> str:
    """A path's name without the ending of an image file; "volume" where nothing is left."""
    ending = next((ending for ending in (*SUFFIXES, ".dcm") if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)] or "volume"
