"""Fixtures that several tests share, and the marks that sort tests into headless and window runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

QT_FIXTURES = {"qtbot", "qapp", "make_napari_viewer", "make_napari_viewer_proxy"}
REPOSITORY = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that opens a window, so that `-m "not window"` needs no display."""
    for item in items:
        if QT_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.window)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real volumes, outside the repository; the test is skipped where it is absent."""
    folder = Path(os.environ.get("VQSEG_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real volumes at {folder}; set VQSEG_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def make_ct() -> Callable[..., Path]:
    """Writes a small CT series (10 slices of 12 rows and 16 columns by default) as an archive would hand it out."""

    def make(folder: Path, shape: tuple[int, int, int] = (10, 12, 16), downwards: bool = False, **tags: object) -> Path:
        folder.mkdir(parents=True)
        study, series, frame = generate_uid(), generate_uid(), generate_uid()
        stored = np.random.default_rng(0).integers(900, 1200, shape).astype(np.uint16)
        for index, pixels in enumerate(stored):
            dataset = pydicom.Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.SpecificCharacterSet = "ISO_IR 100"
            dataset.PatientName, dataset.PatientID = "Mustermann^J\u00fcrgen", "4711"
            dataset.PatientBirthDate, dataset.PatientSex = "19500203", "M"
            dataset.PatientAddress, dataset.InstitutionName = "Hauptstrasse 1", "Krankenhaus"
            dataset.ReferringPhysicianName = "Doktor^Anna"
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
            dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = (
                "20240506",
                "0708",
                "9",
                "8",
            )
            dataset.SeriesNumber, dataset.InstanceNumber, dataset.SeriesDescription = 3, index + 1, "Thorax"
            dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
            dataset.Rows, dataset.Columns = pixels.shape
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
            dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.5], 2
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.ImagePositionPatient = [-30, -40, 100 + 2.5 * index * (-1 if downwards else 1)]
            dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
            for name, value in tags.items():
                setattr(dataset, name, value)
            dataset.PixelData = pixels.tobytes()
            dataset["PixelData"].VR = "OW"
            dataset.save_as(folder / f"{index:03d}.dcm", enforce_file_format=True)
        return folder

    return make
