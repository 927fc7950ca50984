# SPDX-License-Identifier: Apache-2.0
"""Tests of measurements, against SimpleITK and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.distance import pdist
from skimage.draw import ellipse
from skimage.measure import regionprops

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.dicom.measurements import feret_diameter, measure
from monai_sam2unet.errors import ConfigError


@pytest.fixture(scope="module")
def shapes():
    """Masks (rows, columns): ellipses at any angle, a ring, two parts, a line, a pixel."""
    masks = []
    for angle in (0.0, 0.4, 1.1, 2.3):
        mask = np.zeros((64, 80), np.uint8)
        mask[ellipse(31.3, 38.8, 14, 25, rotation=angle)] = 1
        masks.append(mask)
    ring = masks[0].copy()
    ring[ellipse(31, 39, 8, 12)] = 0
    parts, line, pixel = (np.zeros((64, 80), np.uint8) for _ in range(3))
    parts[3:9, 4:8] = parts[50:60, 70:75] = 1
    line[10, 5:40] = 1
    pixel[20, 30] = 1
    return [*masks, ring, parts, line, pixel]


def test_diameter_is_that_of_skimage(shapes):
    for mask in shapes:
        [region] = regionprops(mask)
        # skimage takes the hull of the pixels first, whose outline is up to a fraction of a pixel further out.
        assert feret_diameter(mask) == pytest.approx(region.feret_diameter_max, abs=0.75)


def test_diameter_is_between_those_of_centres_and_of_corners(shapes):
    """SimpleITK measures from centre to centre; no two points of a pixel are further apart than its corners."""
    spacing = (0.5, 1.5)
    for mask in shapes:
        image = sitk.GetImageFromArray(mask)
        image.SetSpacing(spacing[::-1])
        statistics = sitk.LabelShapeStatisticsImageFilter()
        statistics.ComputeFeretDiameterOn()
        statistics.Execute(image)
        centres = statistics.GetFeretDiameter(1)
        own = feret_diameter(mask, spacing)
        assert centres < own <= centres + math.hypot(*spacing) + 1e-9


def test_diameter_is_the_longest_of_all_distances(shapes):
    for mask in shapes:
        middles = [
            (row + down, column + right)
            for row, column in np.argwhere(mask)
            for down, right in ((0, 0.5), (0, -0.5), (0.5, 0), (-0.5, 0))
        ]
        assert feret_diameter(mask, (2, 3)) == pytest.approx(pdist(np.array(middles) * (2, 3)).max())
    assert feret_diameter(np.zeros((4, 5))) == 0


@pytest.mark.parametrize("name", ["ct", "enhanced mr"])
def test_volume_is_that_of_simpleitk(name, source, segments, mask_for):
    volume = source(name)
    mask = mask_for(volume)
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing(np.linalg.norm(volume.affine[:3, :3], axis=0).tolist())
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(image)
    liver, kidney, lesion = measure(mask, volume, segments)
    for measured in (liver, kidney):
        assert measured.volume_ml == pytest.approx(statistics.GetPhysicalSize(measured.number) / 1000)
        assert measured.voxels == statistics.GetNumberOfPixels(measured.number)
        sizes = np.linalg.norm(volume.affine[:3, :2], axis=0)[::-1]
        diameters = [feret_diameter(one == measured.number, sizes) for one in mask]
        assert measured.longest_diameter_mm == max(diameters)
        assert measured.slice == int(np.argmax(diameters))
        assert (measured.area_mm2, measured.area_pixels, measured.longest_diameter_pixels) == (None, None, None)
    assert (lesion.voxels, lesion.volume_ml, lesion.longest_diameter_mm, lesion.slice) == (0, 0, None, None)


def test_area_where_spacing_in_the_patient_is_known(source, segments, mask_for):
    volume = source("dx")  # 0.5 mm between rows, 0.25 mm between columns
    mask = mask_for(volume)
    liver, _, lesion = measure(mask, volume, segments)
    assert liver.area_mm2 == (mask == 1).sum() * 0.125
    assert liver.longest_diameter_mm == feret_diameter(mask[0] == 1, (0.5, 0.25))
    assert (liver.volume_ml, liver.area_pixels, liver.spacing_source) == (None, None, "PixelSpacing")
    assert (lesion.area_mm2, lesion.longest_diameter_mm) == (0, None)


@pytest.mark.parametrize(("name", "spacing_source"), [("cr", "ImagerPixelSpacing"), ("us", "")])
def test_pixels_where_it_is_not(name, spacing_source, source, segments, mask_for):
    volume = source(name)
    mask = mask_for(volume)
    liver = measure(mask, volume, segments)[0]
    assert (liver.area_pixels, liver.area_mm2) == ((mask == 1).sum(), None)
    assert liver.longest_diameter_pixels == feret_diameter(mask[0] == 1)
    assert (liver.longest_diameter_mm, liver.spacing_source) == (None, spacing_source)


def test_a_single_slice_has_an_area(make_slice, tmp_path, segments):
    volume = read_volume(make_slice(tmp_path / "a.dcm", PixelSpacing=(0.5, 2), SliceThickness="5"))
    mask = np.zeros((1, 6, 5), np.uint8)
    mask[0, 2, 1:4] = 1
    measured = measure(mask, volume, segments)[0]
    assert (measured.area_mm2, measured.volume_ml, measured.longest_diameter_mm) == (3, None, 6)


def test_of_a_cine_the_frame_with_the_largest_area_counts(source, segments, mask_for):
    volume = source("cine")
    mask = mask_for(volume)
    liver = measure(mask, volume, segments)[0]
    assert (liver.slice, liver.area_pixels) == (4, (mask[4] == 1).sum())
    assert liver.longest_diameter_pixels == feret_diameter(mask[4] == 1)
    assert liver.voxels == (mask == 1).sum()


def test_masks_that_are_refused(source, segments):
    with pytest.raises(ConfigError, match="the volume's shape"):
        measure(np.zeros((1, 2, 3), np.uint8), source("dx"), segments)
