# SPDX-License-Identifier: Apache-2.0
"""Tests of pictures of masks over their images."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.dicom.secondary_capture import overlay, secondary_captures, shown_slice, square_pixels
from monai_sam2unet.errors import ConfigError, DataError
from tests.dicom.conftest import CREATED, IDENTITY, SOURCES


@pytest.mark.parametrize("name", SOURCES)
def test_dciodvfy_finds_no_error(name, source, segments, algorithm, mask_for, errors_of):
    volume = source(name)
    for picture in secondary_captures(mask_for(volume), volume, segments, algorithm, CREATED):
        assert errors_of(picture) == []


def test_the_fullest_slices_are_shown(source, segments, algorithm, mask_for, tmp_path):
    volume = source("ct")
    pictures = secondary_captures(mask_for(volume), volume, segments, algorithm, CREATED, max_slices=2)
    assert [picture.InstanceNumber for picture in pictures] == [1, 2]
    shown = [picture.SourceImageSequence[0].ReferencedSOPInstanceUID for picture in pictures]
    assert shown == [frame.dataset.SOPInstanceUID for frame in volume.frames[3:]]
    assert len({picture.SOPInstanceUID for picture in pictures}) == 2
    assert len({picture.SeriesInstanceUID for picture in pictures}) == 1
    picture = pictures[0]
    picture.save_as(tmp_path / "sc.dcm")
    read = pydicom.dcmread(tmp_path / "sc.dcm")
    assert read.pixel_array.shape == (40, 50, 3)
    assert (read.PatientName, read.StudyInstanceUID) == (IDENTITY["PatientName"], IDENTITY["StudyInstanceUID"])
    # Columns run along (0.8, 0.6, 0), to the left and back; rows to the feet.
    assert read.PatientOrientation == ["L", "F"]


def test_the_middle_slice_where_nothing_is_found(source, segments, algorithm):
    volume = source("ct")
    [picture] = secondary_captures(np.zeros((5, 40, 50), np.uint8), volume, segments, algorithm, CREATED)
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == volume.frames[2].dataset.SOPInstanceUID


def test_outlines_lie_within_their_segments(segments):
    image = np.random.default_rng(0).integers(0, 200, (60, 70, 3)).astype(np.uint8)
    mask = np.zeros((60, 70), np.uint8)
    mask[10:30, 10:30], mask[30:60, 20:50] = 1, 2
    drawn = overlay(image, mask, segments)
    changed = (drawn != image).any(axis=2)
    for segment in segments[:2]:
        own = np.flatnonzero((drawn == segment.colour).all(axis=2))
        assert set(own) <= set(np.flatnonzero(mask == segment.number))
    assert changed[10, 10:30].all()
    assert not changed[12:28, 12:28].any()
    # At the image's edge a segment ends, too.
    assert changed[59, 20:50].all()
    assert not changed[mask == 0].any()


def test_gray_is_shown_through_the_window(source, segments, algorithm):
    volume = source("ct", WindowCenter="0", WindowWidth="100")
    [picture] = secondary_captures(np.zeros((5, 40, 50), np.uint8), volume, segments, algorithm, CREATED)
    values, shown = volume.pixels[2], picture.pixel_array[..., 0]
    assert (shown[values > 60] == 255).all()
    assert (shown[values < -60] == 0).all()
    middle = np.abs(values) < 40
    assert np.allclose(shown[middle], 127.5 + values[middle] * 2.55, atol=3)


def test_without_a_window_by_percentiles(make_image, segments, algorithm, tmp_path):
    pixels = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    options = {"PhotometricInterpretation": "MONOCHROME1", "StudyInstanceUID": "1.2.3"}
    volume = read_volume(make_image(tmp_path / "a.dcm", pixels, **options))
    [picture] = secondary_captures(np.zeros((1, 30, 40), np.uint8), volume, segments, algorithm, CREATED)
    # MONOCHROME1: the lowest stored value is the brightest.
    assert (picture.pixel_array[0, 0, 0], picture.pixel_array[-1, -1, 0]) == (255, 0)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_what_was_windowed_is_shown_as_it_is(make_image, segments, algorithm, tmp_path, photometric):
    options = {"WindowCenter": 600, "WindowWidth": 400, "StudyInstanceUID": "1.2.3"}
    pixels = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    path = make_image(tmp_path / "a.dcm", pixels, PhotometricInterpretation=photometric, **options)
    shown = [shown_slice(read_volume(path, voi=voi), 0).astype(int) for voi in (None, 0)]
    assert np.ptp(shown[0]) == 255
    assert np.abs(shown[0] - shown[1]).max() <= 1


@pytest.mark.parametrize(
    ("attributes", "spacing", "ratio", "size"),
    [
        ({"PixelSpacing": [0.5, 0.25]}, [0.5, 0.25], None, (80, 50)),
        ({"ImagerPixelSpacing": [0.25, 0.5]}, None, [500, 1000], (40, 100)),
        ({"PixelAspectRatio": [3, 2]}, None, [1500, 1000], (60, 50)),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, None, None, (40, 50)),
        ({}, None, None, (40, 50)),
    ],
)
def test_pixels_keep_their_shape(attributes, spacing, ratio, size, source, segments, algorithm, mask_for):
    volume = source("dx", **{"PixelSpacing": None, **attributes})
    [picture] = secondary_captures(mask_for(volume), volume, segments, algorithm, CREATED)
    assert (picture.get("PixelSpacing"), picture.get("PixelAspectRatio")) == (spacing, ratio)
    assert square_pixels(picture.pixel_array, volume).shape == (*size, 3)


@pytest.mark.parametrize("ratio", [[0, 1], [1]])
def test_a_damaged_aspect_ratio(ratio, source, segments, algorithm, mask_for):
    volume = source("us", PixelAspectRatio=ratio)
    with pytest.raises(DataError, match=r"PixelAspectRatio of .*a\.dcm"):
        secondary_captures(mask_for(volume), volume, segments, algorithm, CREATED)


@pytest.mark.parametrize(
    ("name", "told", "expected"), [("ct", None, "NO"), ("us", None, None), ("us", "NO", "NO"), ("ct", "YES", "YES")]
)
def test_burned_in_text_is_told_as_far_as_it_is_known(name, told, expected, source, segments, algorithm, mask_for):
    volume = source(name, BurnedInAnnotation=told)
    picture = secondary_captures(mask_for(volume), volume, segments, algorithm, CREATED)[0]
    assert picture.get("BurnedInAnnotation") == expected


def test_a_repeated_run_makes_the_same_file(source, segments, algorithm, mask_for, tmp_path):
    volume = source("cine")
    for number in range(2):
        picture = secondary_captures(mask_for(volume), volume, segments, algorithm, CREATED)[0]
        picture.save_as(tmp_path / f"{number}.dcm")
    assert (tmp_path / "0.dcm").read_bytes() == (tmp_path / "1.dcm").read_bytes()


def test_no_slices_are_refused(source, segments, algorithm, mask_for):
    volume = source("dx")
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        secondary_captures(mask_for(volume), volume, segments, algorithm, CREATED, max_slices=0)
