"""DICOM series: sorted by position, in HU, straightened or refused, and never a patient's name in an error."""

from __future__ import annotations

import shutil

import dask.array
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid

from vqseg.errors import VolumeError
from vqseg.io import list_series, read_labels, read_volume, write_labels
from vqseg.io.dicom import series_files
from vqseg.project import Project

ROWS, COLUMNS, SLICES = 12, 10, 8
RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 2000, (SLICES, ROWS, COLUMNS)).astype(np.uint16)
ORDER = RNG.permutation(SLICES)
PATIENT = "Mustermann^Erika"


def write_slice(path, pixels, position, orientation=(1, 0, 0, 0, 1, 0), syntax=ExplicitVRLittleEndian, **tags):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID = PATIENT, "4711"
    dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = "1.2.3", 2, "Thorax 1.0"
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.5], 2
    dataset.ImagePositionPatient = [f"{value:.6g}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.9g}" for value in orientation]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    for name, value in tags.items():
        setattr(dataset, name, value)
    pixels = np.ascontiguousarray(pixels)
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = pixels.tobytes()
        dataset.compress(RLELossless)
    else:
        dataset.PixelData = (pixels.byteswap() if syntax == ExplicitVRBigEndian else pixels).tobytes()
        dataset["PixelData"].VR = "OW"
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_series(folder, positions=None, pixels=STORED, first=0, **tags):
    """Files whose names say nothing about the positions."""
    if positions is None:
        positions = [(-30, -40, 100 + 2.5 * index) for index in range(len(pixels))]
    for index, position in enumerate(positions):
        number = first + int(ORDER[index % SLICES]) + SLICES * (index // SLICES)
        write_slice(folder / f"IM{number:04d}.dcm", pixels[index], position, InstanceNumber=SLICES - index, **tags)
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "series"


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless],
    ids=lambda uid: uid.name,
)
def test_sorted_by_position_and_in_hu(folder, syntax):
    volume = read_volume(write_series(folder, syntax=syntax))
    assert isinstance(volume.array, dask.array.Array)
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(np.asarray(volume.array), STORED.astype(int) - 1024)
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.5))
    assert volume.stored.shape == (COLUMNS, ROWS, SLICES)
    np.testing.assert_allclose(
        volume.stored.affine, [[-0.5, 0, 0, 30], [0, -0.8, 0, 40], [0, 0, 2.5, 100], [0, 0, 0, 1]]
    )
    assert (volume.modality, volume.warnings) == ("CT", ())
    assert "Mustermann" not in repr(volume)


def test_one_slice_is_decoded_at_a_time(folder, monkeypatch):
    volume = read_volume(write_series(folder))
    decoded = []
    from vqseg.io import dicom_grid

    original = dicom_grid.read_values
    monkeypatch.setattr(dicom_grid, "read_values", lambda frame: decoded.append(frame) or original(frame))
    np.testing.assert_array_equal(volume.slice(3), STORED[3].astype(int) - 1024)
    assert len(decoded) == 1


def test_slices_downwards_and_oblique(folder):
    turn = np.radians(30)
    row, column = np.array([1, 0, 0]), np.array([0, np.cos(turn), np.sin(turn)])
    normal = np.cross(row, column)
    positions = [np.array([-30, -40, 500]) - 2 * index * normal for index in range(SLICES)]
    volume = read_volume(write_series(folder, positions, orientation=(*row, *column)))
    assert volume.warnings == ()
    for index in range(SLICES):  # the first pixel of each slice lies where its file says
        stored = SLICES - 1 - index
        np.testing.assert_allclose(
            (volume.stored.affine @ [0, 0, stored, 1])[:3] * [-1, -1, 1], positions[index], atol=1e-3
        )
        np.testing.assert_array_equal(
            np.asarray(volume.stored.to_stored(volume.array)[..., stored]).T, STORED[index].astype(int) - 1024
        )


def test_coronal_series_gets_axial_slices(folder):
    positions = [(-30, -40 + 2 * index, 100) for index in range(SLICES)]
    volume = read_volume(write_series(folder, positions, orientation=(1, 0, 0, 0, 0, -1)))
    assert volume.shape == (ROWS, SLICES, COLUMNS)
    assert volume.stored.slice_axis == 1
    np.testing.assert_array_equal(volume.slice(ROWS - 1)[0], STORED[0, 0].astype(int) - 1024)
    assert read_volume(folder, axis=2).shape == (SLICES, ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("tags", "dtype", "expected"),
    [
        ({"RescaleSlope": -1, "RescaleIntercept": 1000}, np.int16, 1000 - STORED.astype(float)),
        ({"RescaleSlope": 0.5, "RescaleIntercept": 0.25}, np.float32, STORED * 0.5 + 0.25),
        ({"BitsStored": 16, "HighBit": 15, "RescaleSlope": 20}, np.int32, STORED * 20.0 - 1024),
        ({"PhotometricInterpretation": "MONOCHROME1"}, np.int16, STORED - 1024.0),
    ],
)
def test_rescale(folder, tags, dtype, expected):
    volume = read_volume(write_series(folder, **tags))
    assert volume.array.dtype == dtype
    np.testing.assert_allclose(np.asarray(volume.array), expected)
    assert any("MONOCHROME1" in warning for warning in volume.warnings) == ("PhotometricInterpretation" in tags)


def test_signed_pixels_and_a_rescale_per_slice(folder):
    for index in range(SLICES):
        write_slice(folder / f"{index}", STORED[index].astype(np.int16) - 900, (0, 0, index), BitsStored=16, HighBit=15,
                    PixelRepresentation=1, RescaleIntercept=-index)  # fmt: skip
    volume = read_volume(folder)
    expected = STORED.astype(int) - 900 - np.arange(SLICES)[:, None, None]
    np.testing.assert_array_equal(np.asarray(volume.array), expected)


def test_several_series_are_listed(folder):
    write_series(folder)
    write_series(folder, first=100, SeriesInstanceUID="1.2.4", SeriesNumber=1, SeriesDescription="Lung")
    infos = list_series(folder)
    assert [(info.uid, info.description, info.n_slices) for info in infos] == [
        ("1.2.4", "Lung", SLICES),
        ("1.2.3", "Thorax 1.0", SLICES),
    ]
    assert infos[0].spacing_mm == pytest.approx((2.5, 0.8, 0.5))
    with pytest.raises(VolumeError, match=r"2 series.*1 = Lung \(CT, 8 slices, 2.5 mm\); 2 = Thorax") as caught:
        read_volume(folder)
    assert "1.2.4" not in str(caught.value)
    for series, description in ((1, "Lung"), ("2", "Thorax 1.0"), ("1.2.4", "Lung"), ("Thorax 1.0", "Thorax 1.0")):
        assert read_volume(folder, series=series).metadata["description"] == description
    assert read_volume(folder / "IM0100.dcm").metadata["series"] == "1.2.4"
    with pytest.raises(VolumeError, match=r"by its number \(series=1, or --series 1\)"):
        read_volume(folder, series=3)
    with pytest.raises(VolumeError, match="No single series"):
        read_volume(folder, series=3)


def test_other_objects_are_ignored_with_a_warning(folder):
    write_series(folder)
    write_slice(folder / "scout", STORED[0], (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_slice(folder / "seg", STORED[0], (0, 0, 0), Modality="SEG")
    write_slice(folder / "other", STORED[0], (0, 0, 0), SeriesInstanceUID="9")
    (folder / "notes.txt").write_text("nothing")
    volume = read_volume(folder)
    assert volume.shape == (SLICES, ROWS, COLUMNS)
    assert sorted(volume.warnings) == [
        "1 single image(s) of other series in the folder was left out.",
        "2 DICOM object(s) that are not slices in the folder were left out.",
    ]
    with pytest.raises(VolumeError, match="not a slice"):
        read_volume(folder / "scout")
    assert len(series_files(folder)) == SLICES


def test_gantry_tilt_is_straightened_with_a_warning(folder):
    """A tilted ball: after straightening, its centre stays where the positions say."""
    turn = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(turn), -np.sin(turn))
    count, size = 24, 64
    positions = [(-20, -20, 2.0 * index) for index in range(count)]
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    centre = np.array([0.0, 5, 14])
    grid = np.mgrid[:size, :size]
    pixels = []
    for position in positions:
        points = np.add(position, row * (grid[1] * 0.5)[..., None] + column * (grid[0] * 0.8)[..., None])
        pixels.append(1000.0 * (np.linalg.norm(points - centre, axis=-1) < 8))
    volume = read_volume(write_series(folder, positions, np.array(pixels, np.uint16), orientation=orientation)).load()
    assert "gantry tilt (20 degrees)" in volume.warnings[0]
    assert volume.metadata["resampled"]
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert volume.spacing_mm[0] == pytest.approx(2 * np.cos(turn))
    inside = np.argwhere(np.asarray(volume.array) > -524)
    middle = (volume.affine @ [*inside.mean(axis=0), 1])[:3] * [-1, -1, 1]
    np.testing.assert_allclose(middle, centre, atol=0.3)
    assert len(inside) * np.prod(volume.spacing_mm) == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.05)


def test_missing_slices_are_interpolated_with_a_warning(folder):
    kept = [0, 1, 2, 4, 5, 6, 7]
    volume = read_volume(write_series(folder, [(0, 0, 2.0 * index) for index in kept], STORED[kept]))
    assert volume.shape[0] == SLICES
    assert "1 of 8 slices interpolated" in volume.warnings[0]
    assert volume.metadata["interpolated_stored_slices"] == (3,)
    expected = STORED.astype(float) - 1024
    expected[3] = (expected[2] + expected[4]) / 2
    np.testing.assert_allclose(np.asarray(volume.array), expected, atol=0.5)


def test_large_gaps_are_refused(folder):
    with pytest.raises(VolumeError, match=r"gap of 12 mm between slices 2 mm apart \(about 5 are missing\)"):
        read_volume(write_series(folder, [(0, 0, z) for z in (0, 2, 4, 6, 8, 20, 22, 24)]))


def test_rounded_positions_are_even(folder):
    volume = read_volume(write_series(folder, [(0, 0, round(1.2345 * index, 1)) for index in range(SLICES)]))
    assert volume.warnings == ()


def test_phases_become_series_and_repeats_are_refused(folder):
    positions = [(0, 0, 2.0 * index) for index in range(SLICES)]
    write_series(folder, positions, AcquisitionNumber=1)
    write_series(folder, positions, first=100, AcquisitionNumber=2)
    assert [info.uid for info in list_series(folder)] == ["1.2.3#1", "1.2.3#2"]
    assert read_volume(folder, series=2).shape[0] == SLICES
    repeated = folder.parent / "repeated"
    write_series(repeated, positions)
    write_series(repeated, positions, first=100)
    with pytest.raises(VolumeError, match="same position"):
        read_volume(repeated)


def test_copies_of_files_are_left_out(folder):
    write_series(folder)
    shutil.copy(folder / "IM0003.dcm", folder / "copy.dcm")
    volume = read_volume(folder)
    assert volume.shape[0] == SLICES
    assert volume.warnings == ("Copies of slices left out: 1.",)


def test_other_modalities_warn(folder):
    volume = read_volume(write_series(folder, Modality="MR"))
    assert "MR, not CT" in volume.warnings[0]


def test_enhanced_multi_frame(folder):
    def item(**tags):
        dataset = pydicom.Dataset()
        for name, value in tags.items():
            setattr(dataset, name, value)
        return dataset

    def group(**sequences):
        return item(**{name: pydicom.Sequence([value]) for name, value in sequences.items()})

    order = list(reversed(range(SLICES)))
    frames = [group(PlanePositionSequence=item(ImagePositionPatient=[-30, -40, 3 * index])) for index in order]
    shared = group(
        PlaneOrientationSequence=item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=item(PixelSpacing=[0.8, 0.5], SliceThickness=3),
        PixelValueTransformationSequence=item(RescaleSlope=1, RescaleIntercept=-1000),
    )
    write_slice(folder / "enhanced.dcm", STORED[order].reshape(-1, COLUMNS), (0, 0, 0))
    dataset = pydicom.dcmread(folder / "enhanced.dcm")
    dataset.Rows, dataset.NumberOfFrames = ROWS, SLICES
    dataset.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        delattr(dataset, name)
    dataset.save_as(folder / "enhanced.dcm")
    volume = read_volume(folder / "enhanced.dcm")
    np.testing.assert_array_equal(np.asarray(volume.array), STORED.astype(int) - 1000)
    assert volume.spacing_mm == pytest.approx((3, 0.8, 0.5))


def _no_series(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing")


def _only_scout(folder):
    write_slice(folder / "scout", STORED[0], (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])


def _one_slice(folder):
    write_slice(folder / "one", STORED[0], (0, 0, 0))


def _cut_short(folder):
    write_series(folder)
    file = folder / "IM0002.dcm"
    file.write_bytes(file.read_bytes()[:150])


def _pixels_cut_short(folder):
    write_series(folder)
    file = folder / "IM0002.dcm"
    file.write_bytes(file.read_bytes()[:-700])


def _no_spacing(folder):
    write_series(folder, PixelSpacing=[0, 0.5])


def _no_orientation(folder):
    write_series(folder, orientation=(0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_no_series, "holds no DICOM slices;"),
        (_only_scout, "only reports, localizers"),
        (_one_slice, "2D image"),
        (_cut_short, "damaged or cut short"),
        (_pixels_cut_short, "damaged or cut short"),
        (_no_spacing, "zero spacing"),
        (_no_orientation, "several images at the same position|one plane|zero spacing"),
    ],
)
def test_bad_folders_get_one_sentence(folder, make, expected):
    make(folder)
    with pytest.raises(VolumeError, match=expected) as caught:
        read_volume(folder)
    assert "Mustermann" not in str(caught.value)
    assert "4711" not in str(caught.value)


def test_damaged_compressed_pixels(folder):
    write_series(folder, syntax=RLELossless)
    dataset = pydicom.dcmread(folder / "IM0002.dcm")
    dataset.PixelData = dataset.PixelData[:90] + b"\x00" * (len(dataset.PixelData) - 90)
    dataset.save_as(folder / "IM0002.dcm")
    volume = read_volume(folder)
    with pytest.raises(VolumeError, match="cannot be decoded"):
        np.asarray(volume.array)


def test_real_series_lies_under_its_mask(test_data, tmp_path):
    """JPEG 2000; the mask's rows run the other way, so only a reader that minds the affine matches them."""
    volume = read_volume(test_data / "dicom_jpeg2000" / "series").load()
    assert volume.shape == (20, 512, 512)
    assert volume.warnings == ()
    source = nib.load(test_data / "dicom_jpeg2000" / "mask.nii.gz")
    labels = read_labels(test_data / "dicom_jpeg2000" / "mask.nii.gz", volume)
    np.testing.assert_array_equal(labels.array, np.asarray(source.dataobj)[:, ::-1].transpose(2, 1, 0))
    hu = np.asarray(volume.array)
    assert 70 < hu[labels.array == 5].mean() < 110  # liver
    flipped = hu[:, ::-1][labels.array == 5].mean()
    assert abs(flipped - hu[labels.array == 5].mean()) > 50
    path, _ = write_labels(tmp_path / "mask.nii.gz", labels.array, volume, {})
    written = nib.load(path)
    assert (written.header["sform_code"], written.header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(written.affine, volume.stored.affine, atol=1e-4)
    np.testing.assert_array_equal(read_labels(path, volume).array, labels.array)


def test_a_project_reopens_the_series_that_was_chosen(folder):
    write_series(folder)
    write_series(folder, pixels=STORED + 5, first=100, SeriesInstanceUID="1.2.3.77", SeriesNumber=9)
    chosen = read_volume(folder, series="1.2.3.77")
    project = Project.create(folder.parent / "project", "Two series", ["lung"])
    case = project.add_case(chosen)
    again = Project.open(project.path).case(case.id).load_volume()
    np.testing.assert_array_equal(again.load().array, chosen.load().array)
