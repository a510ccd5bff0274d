import nibabel as nib
import numpy as np
import pytest

from vqseg.benchmark import lidc
from vqseg.errors import ConfigError


@pytest.fixture
def data(tmp_path):
    """Ten patients, the first with two crops, each with a ball in the centre."""
    for kind in ("image", "mask"):
        (tmp_path / kind).mkdir()
    z, y, x = np.ogrid[:24, :20, :6]
    ball = ((z - 11.5) / 12) ** 2 + ((y - 9.5) / 10) ** 2 + ((x - 2.5) / 3) ** 2 < 0.25
    for patient, nodule in [(0, 2), *((patient, 1) for patient in range(10))]:
        name = f"LIDC-IDRI-{patient:04d}_R_{nodule}.nii.gz"
        affine = np.diag([0.7, 0.7, 2.0, 1.0])
        nib.save(nib.Nifti1Image((ball * 900 - 850).astype(np.int16), affine), tmp_path / "image" / name)
        nib.save(nib.Nifti1Image(ball.astype(np.uint8), affine), tmp_path / "mask" / name)
    return tmp_path


def test_no_patient_is_in_two_parts(data):
    cohort = lidc.load_cohort(data, "25")
    parts = [{case.patient for case in part} for part in (cohort.labelled, cohort.unlabelled, cohort.evaluation)]
    assert [len(part) for part in parts] == [2, 6, 2]
    assert len(set.union(*parts)) == 10
    smaller = lidc.load_cohort(data, "10")
    assert {case.patient for case in smaller.labelled} < parts[0]
    assert {case.patient for case in smaller.evaluation} == parts[2]
    with pytest.raises(ConfigError, match="percentage"):
        lidc.load_cohort(data, "many")


def test_centre_blob_finds_the_size_of_a_centred_ball(data):
    cohort = lidc.load_cohort(data, "25")
    case = cohort.evaluation[0]
    assert case.image.shape == (6, 20, 24)
    assert case.spacing_mm == pytest.approx((2.0, 0.7, 0.7))
    blob = lidc.centre_blob(cohort)(case)
    assert 2 * (blob & case.label).sum() / (blob.sum() + case.label.sum()) > 0.95


def test_table_has_the_blob_beside_the_method(data, tmp_path, parse, capsys):
    args = parse(
        lidc, "--data", data, "--output", tmp_path / "out", "--labelled", 25, "--methods", "supervised", "--seeds", 0,
        "--iterations", 2, "--batch", 2, "--size", 32, "--device", "cpu",
    )  # fmt: skip
    assert lidc.run(args) == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert "centre-blob" in table
    assert "HD95 [mm]" in table
