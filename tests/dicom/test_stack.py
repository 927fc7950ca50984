# SPDX-License-Identifier: Apache-2.0
"""Series that hold more than one volume: times, echoes, stacks, cines, localizers, duplicates."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from monai_sam2unet.dicom import choose_stack, find_series, read_volume
from monai_sam2unet.errors import ConfigError, DataError

NOISE = np.random.default_rng(0).integers(0, 999, (24, 6, 5)).astype(np.int16)


def repeated(make_series, folder, attributes, slices=3):
    """A classic series: at each of the places one slice for each item of ``attributes``."""
    count = len(attributes)
    make_series(
        folder,
        [i // count for i in range(slices * count)],
        each=lambda i: {"pixels": NOISE[i], **attributes[i % count]},
    )
    return folder


def group(position, stack=None, time=None, echo=None, orientation=None):
    macros = {"PlanePositionSequence": {"ImagePositionPatient": [0, 0, position]}}
    content = {"StackID": stack, "TemporalPositionIndex": time}
    macros["FrameContentSequence"] = {k: v for k, v in content.items() if v is not None}
    if echo is not None:
        macros["MREchoSequence"] = {"EffectiveEchoTime": echo}
    if orientation is not None:
        macros["PlaneOrientationSequence"] = {"ImageOrientationPatient": orientation}
    return macros


@pytest.mark.parametrize(
    "attributes",
    [
        [{"TemporalPositionIdentifier": 2}, {"TemporalPositionIdentifier": 1}],
        [{"TriggerTime": "40"}, {"TriggerTime": "5.5"}],
        [{"EchoNumbers": 2}, {"EchoNumbers": 1}],
        [{"EchoTime": "80"}, {"EchoTime": "9"}],
        [{"DiffusionBValue": 1000.0}, {"DiffusionBValue": 0.0}],
        [{"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "M"]}],
        [{"AcquisitionNumber": 10}, {"AcquisitionNumber": 9}],
        [{"AcquisitionTime": "101500"}, {"AcquisitionTime": "101112.5"}],
    ],
)
def test_volumes_at_the_same_places_are_listed_or_chosen(tmp_path, make_series, attributes):
    """In the order of the attribute, as a number, not in that of the files."""
    repeated(make_series, tmp_path, attributes)
    (keyword,) = attributes[1]
    with pytest.raises(DataError, match="The series holds 2 volumes; choose one with stack") as error:
        read_volume(tmp_path)
    assert f"stack=0: 3 frames, {keyword}=" in str(error.value)
    np.testing.assert_array_equal(read_volume(tmp_path, stack=0).pixels, NOISE[[1, 3, 5]])
    np.testing.assert_array_equal(read_volume(tmp_path, stack=1).pixels, NOISE[[0, 2, 4]])
    with pytest.raises(ConfigError, match=r"stack must lie in \[0, 1\], got 2"):
        read_volume(tmp_path, stack=2)
    with pytest.raises(ConfigError, match="got -1"):
        read_volume(tmp_path, stack=-1)


def test_times_of_echoes(tmp_path, make_series):
    each = [{"TemporalPositionIdentifier": t, "EchoNumbers": e} for t in (1, 2) for e in (1, 2)]
    repeated(make_series, tmp_path, each, slices=2)
    with pytest.raises(DataError, match="4 volumes") as error:
        read_volume(tmp_path)
    assert "stack=2: 2 frames, TemporalPositionIdentifier=2 EchoNumbers=1" in str(error.value)
    np.testing.assert_array_equal(read_volume(tmp_path, stack=2).pixels, NOISE[[2, 6]])


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "AcquisitionTime", "EchoTime", "TriggerTime"])
def test_an_attribute_that_differs_from_slice_to_slice_tears_nothing(tmp_path, make_series, keyword):
    make_series(tmp_path, range(4), each=lambda i: {keyword: f"{i // 2 + 1:06d}", "pixels": NOISE[i]})
    np.testing.assert_array_equal(read_volume(tmp_path).pixels, NOISE[:4])
    shutil.copy(tmp_path / "001.dcm", tmp_path / "again.dcm")
    with pytest.warns(UserWarning, match="more than once"):
        np.testing.assert_array_equal(read_volume(tmp_path, strict=False).pixels, NOISE[:4])


def test_trigger_times_that_drift_from_slice_to_slice_are_told_by_their_order(tmp_path, make_series):
    """Three phases of the heart at each of four places; the heart beats a little slower as time goes on."""
    order = [1, 0, 2]  # of the files at a place
    make_series(
        tmp_path,
        [i // 3 for i in range(12)],
        each=lambda i: {"TriggerTime": f"{order[i % 3] * (30 + i // 3) + 0.5:.1f}", "pixels": NOISE[i]},
    )
    with pytest.raises(DataError, match="3 volumes") as error:
        read_volume(tmp_path)
    assert "stack=1: 4 frames, TriggerTime=30.5 to 33.5" in str(error.value)
    np.testing.assert_array_equal(read_volume(tmp_path, stack=0).pixels, NOISE[[1, 4, 7, 10]])
    np.testing.assert_array_equal(read_volume(tmp_path, stack=2).pixels, NOISE[[2, 5, 8, 11]])


def test_trigger_times_are_not_ranked_where_a_place_has_fewer(tmp_path, make_series):
    make_series(tmp_path, [0, 0, 1, 1, 2], each=lambda i: {"TriggerTime": str(30 * (i % 2) + i), "pixels": NOISE[i]})
    with pytest.raises(DataError, match="different pixels"):
        read_volume(tmp_path)


def test_torn_attributes_do_not_hide_the_one_that_tells_volumes_apart(tmp_path, make_series):
    """Two times, and an EchoTime that drifts with the slice."""
    make_series(
        tmp_path,
        [0, 0, 1, 1, 2, 2],
        each=lambda i: {"EchoTime": str(i // 2), "AcquisitionNumber": i % 2, "pixels": NOISE[i]},
    )
    np.testing.assert_array_equal(read_volume(tmp_path, stack=1).pixels, NOISE[[1, 3, 5]])


def test_different_pixels_at_one_place_that_nothing_tells_apart(tmp_path, make_series):
    make_series(tmp_path, [0, 1, 1, 2], each=lambda i: {"pixels": NOISE[i]})
    for strict in (True, False):
        with pytest.raises(DataError, match="with different pixels") as error:
            read_volume(tmp_path, strict=strict)
        assert "001.dcm = " in str(error.value)


def test_a_time_point_that_lacks_a_slice_is_not_guessed(tmp_path, make_series):
    make_series(tmp_path, [0, 0, 1, 1, 2], each=lambda i: {"TemporalPositionIdentifier": i % 2 + 1, "pixels": NOISE[i]})
    with pytest.raises(DataError, match="different pixels"):
        read_volume(tmp_path, strict=False)


def test_identical_duplicates(tmp_path, make_series):
    paths = make_series(tmp_path, range(3))
    shutil.copy(paths[1], tmp_path / "copy.dcm")
    with pytest.raises(DataError, match=r"Slices are there more than once.*\n.*001.dcm = .*copy.dcm"):
        read_volume(tmp_path)
    with pytest.warns(UserWarning, match=r"copy.dcm"):
        volume = read_volume(tmp_path, strict=False)
    assert [frame.path for frame in volume.frames] == paths


def test_localizers_are_set_aside(tmp_path, make_series, make_slice):
    make_series(tmp_path, range(3))
    make_slice(
        tmp_path / "scout.dcm",
        NOISE[0],
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=(0, 1, 0, 0, 0, -1),
    )
    with pytest.raises(DataError, match=r"Localizers lie among.*\n.*scout.dcm"):
        read_volume(tmp_path)
    with pytest.warns(UserWarning, match=r"Localizers are set aside:\n.*scout.dcm"):
        volume = read_volume(tmp_path, strict=False)
    assert len(volume.pixels) == 3
    assert len(read_volume(tmp_path / "scout.dcm").pixels) == 1


def test_a_three_plane_localizer_is_no_volume(samples):
    with pytest.raises(DataError, match="have another orientation"):
        read_volume(samples / "test_files" / "dicomdirtests" / "98892003" / "MR700", strict=False)


def test_enhanced_frames_are_sorted_in_space(tmp_path, make_enhanced):
    order = [3, 0, 2, 1]
    path = make_enhanced(tmp_path / "a.dcm", NOISE[:4], [group(2.5 * i, stack="1") for i in order])
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.pixels, NOISE[[order.index(i) for i in range(4)]])
    np.testing.assert_allclose(np.diag(volume.affine), [-0.75, -0.5, 2.5, 1])
    assert str(volume.frames[0]).endswith("a.dcm (frame=1)")


def test_enhanced_time_points(tmp_path, make_enhanced):
    groups = [group(i // 2, stack="1", time=2 - i % 2) for i in range(6)]
    path = make_enhanced(tmp_path / "a.dcm", NOISE[:6], groups)
    with pytest.raises(DataError, match="stack=1: 3 frames, TemporalPositionIndex=2"):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(path, stack=0).pixels, NOISE[[1, 3, 5]])


def test_enhanced_echoes(tmp_path, make_enhanced):
    path = make_enhanced(tmp_path / "a.dcm", NOISE[:4], [group(i // 2, echo=[80.0, 9.0][i % 2]) for i in range(4)])
    np.testing.assert_array_equal(read_volume(path, stack=0).pixels, NOISE[[1, 3]])


def test_enhanced_stacks_with_times_of_their_own(tmp_path, make_enhanced):
    """Two stacks at different places and angles, each at two times."""
    groups = [
        group(100 * s + i, stack=str(s + 1), time=t + 1, orientation=[1, 0, 0, 0, 1, 0] if s else [0, 1, 0, -1, 0, 0])
        for s in (0, 1)
        for t in (0, 1)
        for i in (0, 1)
    ]
    path = make_enhanced(
        tmp_path / "a.dcm", NOISE[:8], groups, shared={"PixelMeasuresSequence": {"PixelSpacing": [1, 1]}}
    )
    with pytest.raises(DataError, match="4 volumes") as error:
        read_volume(path)
    assert "stack=1: 2 frames, StackID=1 TemporalPositionIndex=2" in str(error.value)
    for stack in range(4):
        np.testing.assert_array_equal(read_volume(path, stack=stack).pixels, NOISE[2 * stack : 2 * stack + 2])


def test_each_enhanced_frame_has_its_own_rescale_and_window(tmp_path, make_enhanced):
    groups = [
        {
            **group(i),
            "PixelValueTransformationSequence": {"RescaleSlope": str(i + 1), "RescaleIntercept": "-5"},
            "FrameVOILUTSequence": {"WindowCenter": 100 * (i + 1), "WindowWidth": 50},
        }
        for i in range(3)
    ]
    path = make_enhanced(tmp_path / "a.dcm", NOISE[:3], groups)
    values = NOISE[:3].astype(int) * np.arange(1, 4)[:, None, None] - 5
    np.testing.assert_array_equal(read_volume(path).pixels, values)
    centers = 100 * np.arange(1, 4)[:, None, None]
    expected = np.clip((values - centers + 0.5) / 49 + 0.5, 0, 1)
    np.testing.assert_allclose(read_volume(path, voi=0).pixels, expected, atol=1e-4)


def test_a_rescale_beside_the_functional_groups_counts(tmp_path, make_enhanced):
    path = make_enhanced(
        tmp_path / "a.dcm", NOISE[:2], [group(i) for i in range(2)], RescaleSlope="2", RescaleIntercept="-1024"
    )
    np.testing.assert_array_equal(read_volume(path).pixels, NOISE[:2].astype(int) * 2 - 1024)


def test_functional_groups_go_before_what_stands_beside_them(tmp_path, make_enhanced):
    groups = [
        {**group(i), "PixelValueTransformationSequence": {"RescaleSlope": "3", "RescaleIntercept": "0"}}
        for i in range(2)
    ]
    path = make_enhanced(tmp_path / "a.dcm", NOISE[:2], groups, RescaleSlope="2", RescaleIntercept="-1024")
    np.testing.assert_array_equal(read_volume(path).pixels, NOISE[:2].astype(int) * 3)


def test_frames_and_functional_groups_must_agree(tmp_path, make_enhanced):
    path = make_enhanced(tmp_path / "a.dcm", NOISE[:3], [group(i) for i in range(2)])
    with pytest.raises(DataError, match="NumberOfFrames is 3, but 2 frames have functional groups"):
        read_volume(path)


def test_a_cine_keeps_its_order(tmp_path, make_cine):
    frames = np.random.default_rng(0).integers(0, 255, (5, 6, 7, 3)).astype(np.uint8)
    path = make_cine(tmp_path / "a.dcm", frames)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.pixels, frames)
    assert not volume.in_patient_space
    for number in range(5):
        np.testing.assert_array_equal(read_volume(path, frame=number).pixels, frames[number : number + 1])


@pytest.mark.parametrize("frame", [5, -1])
def test_a_frame_that_is_not_there(tmp_path, make_cine, frame):
    path = make_cine(tmp_path / "a.dcm", np.zeros((5, 6, 7), np.uint8))
    with pytest.raises(ConfigError, match=f"counted from 0, got {frame}"):
        read_volume(path, frame=frame)


def test_one_frame_of_an_enhanced_image_keeps_its_place(tmp_path, make_enhanced):
    path = make_enhanced(tmp_path / "a.dcm", NOISE[:3], [group(4 * i) for i in range(3)])
    volume = read_volume(path, frame=2)
    np.testing.assert_array_equal(volume.pixels, NOISE[2:3])
    assert volume.affine[2, 3] == 8
    assert volume.affine[2, 2] == 2
    assert volume.spacing_source == "SliceThickness"


def test_a_frame_of_several_files_is_no_frame(tmp_path, make_series):
    make_series(tmp_path, range(3))
    with pytest.raises(ConfigError, match="frame must be one of a multi-frame image"):
        read_volume(tmp_path, frame=0)


def test_a_cine_at_one_place_of_the_patient(tmp_path, make_cine):
    """Its frames make no volume; each lies where the header says."""
    geometry = {
        "ImageOrientationPatient": (1, 0, 0, 0, 1, 0),
        "ImagePositionPatient": (0, 0, 7),
        "PixelSpacing": (1, 1),
    }
    path = make_cine(tmp_path / "a.dcm", NOISE[:3], **geometry)
    with pytest.raises(DataError, match=r"Choose one with frame"):
        read_volume(path)
    volume = read_volume(path, frame=1)
    assert volume.in_patient_space
    assert volume.affine[2, 3] == 7
    np.testing.assert_array_equal(volume.pixels[0], NOISE[1])


@pytest.mark.parametrize("number", [0, 1, None])
@pytest.mark.filterwarnings("ignore")
def test_numbers_of_frames_that_mean_one(tmp_path, make_slice, number):
    assert read_volume(make_slice(tmp_path / "a.dcm", NumberOfFrames=number)).pixels.shape == (1, 6, 5)


def test_pictures_of_several_files_make_no_volume(tmp_path, make_image):
    for name in "ab":
        make_image(tmp_path / f"{name}.dcm", NOISE[0])
    with pytest.raises(DataError, match=r"2 images have no position.*\n.*a.dcm\n.*b.dcm"):
        read_volume(tmp_path)


def test_choose_stack_of_one_volume(tmp_path, make_series):
    make_series(tmp_path, range(3))
    (series,) = find_series(tmp_path)
    assert choose_stack(series.frames) == series.frames
    assert choose_stack(series.frames, 0) == series.frames
    with pytest.raises(ConfigError, match="got 1"):
        choose_stack(series.frames, 1)
