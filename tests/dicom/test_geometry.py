# SPDX-License-Identifier: Apache-2.0
"""Order and affine of slices: parity with highdicom and SimpleITK, and what is refused."""

from __future__ import annotations

import random

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from highdicom.spatial import PixelToReferenceTransformer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.errors import DataError

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SERIES = [
    "ct_series_j2k_with_seg/ct",
    "geometry/oblique_38deg_hitachi",
    "mr_generic_explicit_vr",
    "mr_series_hippocrop",
    "mr_series_t1post_oblique10deg",
    "same_volume_by_transfer_syntax/compressed_jpegls",
    "same_volume_by_transfer_syntax/compressed_rle",
    "seg/ct-3slice",
]


def rotation(angles):
    """Orientation (6,) of a slice turned by three angles."""
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in angles)
    matrix = (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    )
    return matrix[:, :2].T.ravel()


def lps_of(volume, column, row, number):
    return (LPS_TO_RAS @ volume.affine @ [column, row, number, 1])[:3]


def instance_numbers(volume):
    return [int(frame.dataset.InstanceNumber) for frame in volume.frames]


def check_each_slice(volume):
    """The affine says of every slice what its own header says (PS3.3 C.7.6.2.1.1), with that slice's own pixels."""
    for number, frame in enumerate(volume.frames):
        header = pydicom.dcmread(frame.path)
        axes = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
        rows, columns = (float(value) for value in header.PixelSpacing)
        for column, row in ((0, 0), (3, 0), (0, 4), (2, 1)):
            expected = np.array(header.ImagePositionPatient, dtype=float)
            expected = expected + column * columns * axes[0] + row * rows * axes[1]
            np.testing.assert_allclose(lps_of(volume, column, row, number), expected, atol=1e-4)
        np.testing.assert_array_equal(volume.pixels[number], header.pixel_array)


def folders_of(root, name):
    return sorted(p for p in (root / "dicom" / name).iterdir() if p.is_file())


def for_highdicom(path):
    """A header with the attributes that highdicom insists on, though geometry and pixels need none of them."""
    dataset = pydicom.dcmread(path)
    for keyword, value in {"FrameOfReferenceUID": "1.2.3", "SOPClassUID": CTImageStorage}.items():
        if not dataset.get(keyword):
            setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("name", SERIES)
def test_affine_and_values_are_highdicoms(shared_data, name):
    volume = read_volume(shared_data / "dicom" / name, mask_padding=False)
    theirs = highdicom.get_volume_from_series([for_highdicom(p) for p in folders_of(shared_data, name)])
    # highdicom indexes (slice, row, column), in LPS, and may begin with the other end of the stack.
    affine, values = theirs.affine[:, [2, 1, 0, 3]], theirs.array
    if affine[:3, 2] @ (LPS_TO_RAS @ volume.affine)[:3, 2] < 0:
        affine[:3, 3] += (len(values) - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
        values = values[::-1]
    np.testing.assert_allclose(LPS_TO_RAS @ volume.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(volume.pixels, values)


def test_affine_of_an_enhanced_ct_is_highdicoms(shared_data):
    path = shared_data / "dicom" / "enhanced_multiframe" / "eCT_Supplemental.dcm"
    volume = read_volume(path)
    theirs = highdicom.imread(path).get_volume_geometry()
    np.testing.assert_array_equal(theirs.spatial_shape, volume.pixels.shape)
    last = len(volume.pixels) - 1
    ends = {tuple(np.round(theirs.affine @ [i, 0, 0, 1], 3)) for i in (0, last)}
    assert ends == {tuple(np.round([*lps_of(volume, 0, 0, i), 1], 3)) for i in (0, last)}
    np.testing.assert_allclose((LPS_TO_RAS @ volume.affine)[:, :2], theirs.affine[:, [2, 1]], atol=1e-4)


@pytest.mark.parametrize("name", ["IM-0001-0170-0001.dcm", "eCT_Supplemental.dcm"])
def test_each_frame_of_enhanced_images_lies_where_highdicom_puts_it(shared_data, name):
    path = shared_data / "dicom" / "enhanced_multiframe" / name
    volume = read_volume(path)
    image = highdicom.imread(path)
    shared = image.SharedFunctionalGroupsSequence[0]
    assert sorted(frame.index for frame in volume.frames) == list(range(image.number_of_frames))
    for number, frame in enumerate(volume.frames):
        own = image.PerFrameFunctionalGroupsSequence[frame.index]

        def group(macro, own=own):
            return (own if macro in own else shared)[macro][0]

        place = PixelToReferenceTransformer(
            group("PlanePositionSequence").ImagePositionPatient,
            group("PlaneOrientationSequence").ImageOrientationPatient,
            group("PixelMeasuresSequence").PixelSpacing,
        )
        points = np.array([(0, 0), (13, 0), (0, 9)])
        ours = [lps_of(volume, column, row, number) for column, row in points]
        np.testing.assert_allclose(ours, place(points), atol=1e-4)
        rescale = group("PixelValueTransformationSequence")
        stored = image.pixel_array[frame.index].astype(np.float64)
        values = stored * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)
        np.testing.assert_allclose(volume.pixels[number], values, rtol=1e-6)


@pytest.mark.parametrize("name", SERIES)
def test_geometry_and_values_are_simpleitks(shared_data, name):
    folder = shared_data / "dicom" / name
    volume = read_volume(folder, mask_padding=False)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), volume.pixels)
    for index in ((0, 0, 0), (5, 0, 0), (0, 5, 0), (3, 2, len(volume.pixels) - 1)):
        point = theirs.TransformContinuousIndexToPhysicalPoint([float(i) for i in index])
        np.testing.assert_allclose(lps_of(volume, *index), point, atol=1e-3)


@pytest.mark.parametrize("name", SERIES)
def test_every_real_slice_lies_where_its_header_says(shared_data, name):
    volume = read_volume(shared_data / "dicom" / name)
    for number, frame in enumerate(volume.frames):
        expected = np.array(pydicom.dcmread(frame.path).ImagePositionPatient, dtype=float)
        # The slices' positions have rounding errors of their own; the grid runs through the first and the last.
        np.testing.assert_allclose(lps_of(volume, 0, 0, number), expected, atol=5e-3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    step=st.floats(0.2, 12),
    spacing=st.tuples(*[st.floats(0.1, 5)] * 2),
    seed=st.integers(0, 1000),
)
def test_any_orientation_order_and_name(tmp_path_factory, make_series, angles, origin, step, spacing, seed):
    """Names and InstanceNumbers are shuffled apart; the order in space is the only one that counts."""
    folder = tmp_path_factory.mktemp("series")
    orientation = [round(value, 6) for value in rotation(angles)]
    normal = np.cross(orientation[:3], orientation[3:])
    points = np.array(origin) + np.arange(5)[:, None] * round(step, 3) * normal
    rng = random.Random(seed)
    names, numbers = rng.sample(range(5), 5), rng.sample(range(5), 5)
    make_series(
        folder,
        points,
        orientation,
        each=lambda index: {"InstanceNumber": numbers[index]},
        names=[f"{name}.dcm" for name in names],
        PixelSpacing=[f"{value:.4f}" for value in spacing],
    )
    volume = read_volume(folder)
    assert instance_numbers(volume) == numbers
    assert volume.spacing_source == "positions"
    assert np.linalg.det(volume.affine[:3, :3]) > 0
    check_each_slice(volume)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_a_list_of_files_in_any_order(tmp_path, make_series, order):
    paths = make_series(tmp_path, [10, 12.5, 15, 17.5])
    volume = read_volume([paths[i] for i in order])
    assert instance_numbers(volume) == [1, 2, 3, 4]
    np.testing.assert_allclose(
        volume.affine, LPS_TO_RAS @ np.diag([1, 1, 2.5, 1]) + np.eye(4, k=1) * [[0], [0], [10], [0]]
    )


def test_equal_instance_numbers_do_not_matter(tmp_path, make_series):
    make_series(tmp_path, [4, 0, 2], InstanceNumber=1)
    assert [float(f.position[2]) for f in read_volume(tmp_path).frames] == [0, 2, 4]


def test_spacing_between_slices_and_thickness_do_not_matter(tmp_path, make_series):
    make_series(tmp_path, [0, 3, 6], SliceThickness=5, SpacingBetweenSlices=1)
    assert read_volume(tmp_path).affine[2, 2] == 3


def test_rows_and_columns_have_their_own_spacing(tmp_path, make_series):
    make_series(tmp_path, [0, 1], PixelSpacing=[0.25, 4])
    np.testing.assert_allclose(np.diag(read_volume(tmp_path).affine), [-4, -0.25, 1, 1])


@pytest.mark.parametrize(
    ("attributes", "spacing", "source"),
    [
        ({"SpacingBetweenSlices": 2.5, "SliceThickness": 7}, 2.5, "SpacingBetweenSlices"),
        ({"SliceThickness": 7}, 7, "SliceThickness"),
        ({"SpacingBetweenSlices": -2, "SliceThickness": 7}, 7, "SliceThickness"),
        ({"SpacingBetweenSlices": "", "SliceThickness": 0}, 1, "unknown"),
        ({}, 1, "unknown"),
    ],
)
def test_one_slice_takes_its_thickness(tmp_path, make_slice, attributes, spacing, source):
    volume = read_volume(make_slice(tmp_path / "a.dcm", ImagePositionPatient=(1, 2, 3), **attributes))
    assert volume.spacing_source == source
    assert volume.in_patient_space
    np.testing.assert_allclose(volume.affine, [[-1, 0, 0, -1], [0, -1, 0, -2], [0, 0, spacing, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("spacing", "offset", "allowed"),
    [(5, 0.04, True), (5, 0.07, False), (0.5, 0.008, True), (0.5, 0.03, False), (5, 1.7, False)],
)
def test_jitter_of_positions(tmp_path, make_series, spacing, offset, allowed):
    positions = np.arange(6) * spacing
    positions = positions + np.array([0, 0, 0, offset, 0, 0])
    make_series(tmp_path, positions)
    if allowed:
        assert read_volume(tmp_path).affine[2, 2] == pytest.approx(spacing)
    else:
        with pytest.raises(DataError, match="not evenly spaced") as error:
            read_volume(tmp_path, strict=False, fill_gaps=True)
        assert "003.dcm" in str(error.value)


def test_rounding_does_not_add_up_over_many_slices(tmp_path, make_series):
    """Positions rounded to 0.01 mm at a spacing that is no multiple of it."""
    make_series(tmp_path, np.round(np.arange(120) * 0.6254, 2))
    volume = read_volume(tmp_path)
    assert len(volume.pixels) == 120
    assert volume.affine[2, 2] == pytest.approx(0.6254, abs=1e-4)


@pytest.mark.parametrize("missing", [[3], [2, 3], [1, 4], [6]])
def test_gaps_are_errors_that_name_the_neighbours(tmp_path, make_series, missing):
    there = [i for i in range(8) if i not in missing]
    make_series(tmp_path, [i * 2.5 for i in there], names=[f"{i}.dcm" for i in there])
    for strict in (True, False):
        with pytest.raises(DataError, match=rf"{len(missing)} slices are missing at a spacing of 2.500 mm") as error:
            read_volume(tmp_path, strict=strict)
        for gap in missing:
            assert gap in (7, 0) or f"{gap - 1}.dcm" in str(error.value) or f"{gap + 1}.dcm" in str(error.value)


def test_gaps_are_filled_on_request(tmp_path, make_series):
    make_series(tmp_path, [0, 2, 8, 10], each=lambda i: {"pixels": np.full((2, 3), [0, 100, 403, 500][i], np.int16)})
    with pytest.warns(UserWarning, match="2 slices are missing"):
        volume = read_volume(tmp_path, fill_gaps=True)
    assert [frame is None for frame in volume.frames] == [False, False, True, True, False, False]
    np.testing.assert_array_equal(volume.pixels[:, 0, 0], [0, 100, 201, 302, 403, 500])
    np.testing.assert_allclose(volume.affine[:, 2], [0, 0, 2, 0])


def test_more_is_never_made_up_than_there_is(tmp_path, make_series):
    make_series(tmp_path, [0, 1, 10])
    with pytest.raises(DataError, match="more than the 3 there are"):
        read_volume(tmp_path, fill_gaps=True)


def test_a_slice_that_lies_almost_on_another_makes_no_fine_grid(tmp_path, make_series):
    make_series(tmp_path, [0, 5, 5.005, 10, 15])
    with pytest.raises(DataError, match="same distance along the normal") as error:
        read_volume(tmp_path, strict=False, fill_gaps=True)
    assert "001.dcm and " in str(error.value)
    assert "002.dcm" in str(error.value)


def test_fine_slices_are_no_duplicates(tmp_path, make_series):
    make_series(tmp_path, np.arange(5) * 0.02)
    assert read_volume(tmp_path).affine[2, 2] == pytest.approx(0.02)


def tilted(angle, count=4, step=3):
    """Positions of axial slices whose first pixels shift in y."""
    index = np.arange(count)[:, None]
    return index * np.array([0, step * np.tan(np.radians(angle)), step])


@pytest.mark.parametrize(("angle", "sheared"), [(0.05, False), (0.2, True), (14, True), (-20, True)])
def test_gantry_tilt(tmp_path, make_series, angle, sheared):
    make_series(tmp_path, tilted(angle))
    if sheared:
        with pytest.raises(DataError, match=rf"sheared by {abs(angle):.2f} degrees") as error:
            read_volume(tmp_path)
        assert "000.dcm" in str(error.value)
        with pytest.warns(UserWarning, match="sheared affine is kept"):
            volume = read_volume(tmp_path, strict=False)
    else:
        volume = read_volume(tmp_path)
    assert volume.shear_deg == pytest.approx(abs(angle), abs=1e-3)
    check_each_slice(volume)


def test_slices_out_of_line(tmp_path, make_series):
    points = np.array([[0, 0, 0], [0, 0, 2], [4, 0, 4], [0, 0, 6]])
    make_series(tmp_path, points)
    with pytest.raises(DataError, match=r"002.dcm lies 4.000 mm off the line"):
        read_volume(tmp_path, strict=False)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"pixels": np.zeros((6, 7), np.int16)}, "another size"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "another orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.99995, 0.01]}, "another orientation"),
        ({"PixelSpacing": [1, 1.01]}, "another pixel spacing"),
        ({"FrameOfReferenceUID": "1.2.9"}, "another frame of reference"),
    ],
)
def test_slices_that_are_unlike(tmp_path, make_series, attributes, what):
    make_series(tmp_path, range(4), each=lambda i: attributes if i == 2 else {}, PixelSpacing=[1, 1])
    for strict in (True, False):
        with pytest.raises(DataError, match=f"1 of 4 slices have {what}") as error:
            read_volume(tmp_path, strict=strict)
        assert "002.dcm" in str(error.value)


def test_orientation_may_differ_by_rounding(tmp_path, make_series):
    make_series(tmp_path, range(4), each=lambda i: {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0.0004 * (i % 2)]})
    assert len(read_volume(tmp_path).pixels) == 4


@pytest.mark.parametrize(
    "attributes",
    [{"ImagePositionPatient": None}, {"ImageOrientationPatient": None}, {"PixelSpacing": None}],
)
def test_a_slice_without_its_place(tmp_path, make_series, attributes):
    make_series(tmp_path, range(3), each=lambda i: attributes if i == 1 else {})
    with pytest.raises(DataError, match="its place needs ImageOrientationPatient") as error:
        read_volume(tmp_path)
    assert "001.dcm" in str(error.value)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"ImagePositionPatient": ["1", "2"]}, "ImagePositionPatient must be 3 finite numbers"),
        ({"ImageOrientationPatient": ["1", "0", "0", "0", "2", "0"]}, "not two unit vectors"),
        ({"ImageOrientationPatient": ["0"] * 6}, "not two unit vectors"),
        ({"ImageOrientationPatient": ["1", "0", "0", "0.1", "0.99499", "0"]}, "not two unit vectors"),
        ({"PixelSpacing": ["0", "1"]}, "PixelSpacing must be positive"),
        ({"PixelSpacing": ["1"]}, "PixelSpacing must be 2 finite numbers"),
        ({"SliceThickness": ["1", "2"]}, "SliceThickness must be 1 finite numbers"),
    ],
)
def test_impossible_geometry(tmp_path, make_slice, attributes, text):
    with pytest.raises(DataError, match=text) as error:
        read_volume(make_slice(tmp_path / "a.dcm", **attributes))
    assert "a.dcm" in str(error.value)


@pytest.mark.parametrize("junk", [b"11\\ab\\33", b"11\\\\33  ", b"nan\\2\\33", b"inf\\2\\33"])
def test_junk_for_a_position(tmp_path, make_slice, junk):
    path = make_slice(tmp_path / "a.dcm", ImagePositionPatient=["11", "22", "33"])
    data = path.read_bytes()
    assert data.count(b"11\\22\\33") == 1
    path.write_bytes(data.replace(b"11\\22\\33", junk))
    with pytest.raises(DataError, match="ImagePositionPatient") as error:
        read_volume(path)
    assert "a.dcm" in str(error.value)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_an_empty_place_is_no_place(tmp_path, make_slice, keyword):
    volume = read_volume(make_slice(tmp_path / "a.dcm", **{keyword: ""}))
    assert not volume.in_patient_space


@pytest.mark.parametrize(
    ("attributes", "rows", "columns", "source"),
    [
        ({"PixelSpacing": [0.2, 0.3]}, 0.2, 0.3, "PixelSpacing"),
        ({"ImagerPixelSpacing": [0.2, 0.3]}, 0.2, 0.3, "ImagerPixelSpacing"),
        ({"NominalScannedPixelSpacing": [0.2, 0.3]}, 0.2, 0.3, "NominalScannedPixelSpacing"),
        # What is only repeated was not calibrated.
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.2, 0.3]}, 0.2, 0.3, "ImagerPixelSpacing"),
        ({"PixelSpacing": [2, 3], "NominalScannedPixelSpacing": [2, 3]}, 2, 3, "NominalScannedPixelSpacing"),
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.25, 0.35]}, 0.2, 0.3, "PixelSpacing"),
        (
            {"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.2, 0.3], "PixelSpacingCalibrationType": "GEOMETRY"},
            0.2,
            0.3,
            "PixelSpacing",
        ),
        ({}, 1, 1, ""),
    ],
)
def test_pictures_are_scaled_but_not_placed(tmp_path, make_image, attributes, rows, columns, source):
    volume = read_volume(make_image(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), Modality="DX", **attributes))
    assert not volume.in_patient_space
    assert volume.spacing_source == source
    np.testing.assert_allclose(volume.affine, np.diag([columns, rows, 1, 1]))


def ultrasound_region(dx=0.02, dy=0.03, units=3):
    region = pydicom.Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = units
    region.PhysicalDeltaX, region.PhysicalDeltaY = dx, dy
    return region


@pytest.mark.parametrize(
    ("regions", "spacing"),
    [
        ([ultrasound_region()], (0.2, 0.3)),
        ([ultrasound_region(dy=-0.03)], (0.2, 0.3)),
        ([ultrasound_region(), ultrasound_region(9, 9, units=4)], (0.2, 0.3)),
        ([ultrasound_region(), ultrasound_region(0.05, 0.05)], (1, 1)),
        ([ultrasound_region(0, 0)], (1, 1)),
    ],
)
def test_spacing_of_ultrasound_regions(tmp_path, make_image, regions, spacing):
    path = make_image(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), SequenceOfUltrasoundRegions=regions)
    np.testing.assert_allclose(np.diag(read_volume(path).affine)[:2], spacing)


def test_an_incomplete_ultrasound_region_scales_nothing(tmp_path, make_image):
    region = pydicom.Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    path = make_image(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), SequenceOfUltrasoundRegions=[region])
    assert read_volume(path).spacing_source == ""
