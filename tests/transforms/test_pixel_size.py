# SPDX-License-Identifier: Apache-2.0
"""Tests of millimetres: oblique, sheared, and not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.pixel_size import (
    element_size,
    in_plane_spacing,
    known_affine,
    known_spacing,
    patient_affine,
    set_affine,
)

TURN = Rotation.from_euler("xyz", [20, 30, -50], degrees=True).as_matrix()


def image(matrix, ndim=3, **meta):
    affine = np.eye(4)
    affine[:3, :3] = matrix
    return MetaTensor(torch.zeros(1, *[4] * (ndim - 1)), affine=affine, meta=meta)


def test_turned_axes():
    turned = TURN @ np.diag([0.5, 2.0, 3.0])
    np.testing.assert_allclose(in_plane_spacing(image(turned)), (0.5, 2.0))
    np.testing.assert_allclose(element_size(image(turned)), 1.0)
    np.testing.assert_allclose(element_size(image(turned, ndim=4)), 3.0)


def test_a_tilted_gantry_does_not_change_the_volume():
    sheared = TURN @ np.array([[0.5, 0, 0], [0, 2.0, 1.0], [0, 0, 3.0]])
    np.testing.assert_allclose(element_size(image(sheared, ndim=4)), 3.0)


def test_two_dimensional_affines():
    picture = MetaTensor(torch.zeros(1, 4, 4), affine=torch.diag(torch.tensor([0.5, 0.25, 1.0])))
    assert in_plane_spacing(picture) == (0.5, 0.25)
    np.testing.assert_allclose(element_size(picture), 0.125)


def test_pictures_have_no_millimetres():
    for unknown in (image(np.eye(3)), torch.zeros(1, 4, 4)):
        for measure in (in_plane_spacing, element_size):
            with pytest.raises(DataError, match="needs the size of a pixel in mm"):
                measure(unknown)
    # A volume file of 1 mm has the same affine, but one that was read.
    assert in_plane_spacing(image(np.eye(3), original_affine=np.eye(4))) == (1.0, 1.0)


def test_pixdim_follows_and_is_not_shared():
    first = image(np.eye(3), pixdim=np.zeros(8, dtype=np.float32))
    second = MetaTensor(first.as_tensor()).copy_meta_from(first)
    set_affine(second, np.diag([2.0, 3, 4, 1]))
    assert second.meta["pixdim"].tolist() == [0, 2, 3, 4, 0, 0, 0, 0]
    assert first.meta["pixdim"].tolist() == [0] * 8
    assert second.affine.dtype == torch.float64


def test_a_spacing_that_the_dicom_reader_did_not_find_is_not_taken_for_a_millimetre():
    picture = MetaTensor(torch.zeros(1, 4, 4), affine=torch.eye(4), meta={"original_affine": torch.eye(4)})
    assert element_size(picture) == 1.0
    picture.meta["spacing_source"] = ""
    with pytest.raises(DataError, match="without spacing"):
        element_size(picture)
    lone = MetaTensor(torch.zeros(1, 4, 4, 1), affine=torch.diag(torch.tensor([0.5, 0.5, 1.0, 1.0])))
    lone.meta["spacing_source"] = "unknown"
    with pytest.raises(DataError, match="without thickness"):
        element_size(lone)
    assert element_size(MetaTensor(lone[..., 0].as_tensor(), meta=lone.meta)) == pytest.approx(0.25)


def test_a_placeholder_is_no_affine():
    for unknown in (torch.zeros(1, 4, 5, 6), MetaTensor(torch.zeros(1, 4, 5, 6)), image(np.eye(3), ndim=4)):
        assert known_affine(unknown) is None
        assert known_spacing(unknown) is None
        with pytest.raises(DataError, match="axial slices need the affine"):
            patient_affine(unknown, "axial slices")
    turned = image(TURN, ndim=4)
    read = image(np.eye(3), ndim=4, original_affine=np.eye(4))
    for known in (turned, read):
        np.testing.assert_array_equal(known_affine(known), known.affine)
        np.testing.assert_array_equal(patient_affine(known, "axial slices"), known.affine)
    np.testing.assert_allclose(known_spacing(turned), (1, 1))


def test_a_spacing_may_be_known_where_the_place_is_not():
    cine = image(np.diag([0.5, 0.25, 1]), ndim=4, in_patient_space=False, original_affine=np.eye(4))
    assert known_spacing(cine) == (0.5, 0.25)
    with pytest.raises(DataError, match="its frames are pictures"):
        patient_affine(cine, "axial slices")
    cine.meta["spacing_source"] = ""
    assert known_spacing(cine) is None
