# SPDX-License-Identifier: Apache-2.0
"""Real labels through the whole way: volume, slices, network's size, and back to the source's grid."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImage

from monai_sam2unet.transforms import PLANES, FinaliseSegmentation, FitToSize, HieraInput, HieraInputd, VolumeToSlices

# Not RAS; oblique; anisotropic with three classes; small.
SPINE, OBLIQUE = "sct-spine/labels/t2.nii.gz", "sct-spine/labels/t2s.nii.gz"
HEART, SMALL = "acdc/labels/patient002_frame01.nii.gz", "msd-hippocampus/labels/hippocampus_026.nii.gz"
WAYS = [
    *[(name, plane, {}) for name in (OBLIQUE, SMALL) for plane in PLANES],
    (OBLIQUE, "coronal", {"keep_aspect": True}),
    (SMALL, "sagittal", {"keep_aspect": True}),
    (SPINE, "sagittal", {}),
    (HEART, "axial", {}),
    (HEART, "axial", {"keep_aspect": True}),
    (HEART, "coronal", {"keep_aspect": True}),
    (HEART, "sagittal", {"spatial_size": None}),
]


def load(path):
    return LoadImage(ensure_channel_first=True)(path).round().to(torch.uint8)


def dices(a, b):
    """Dice of each structure of more than 100 voxels."""
    found = {}
    for value in a.unique().tolist():
        one, other = a.as_tensor() == value, b.as_tensor() == value
        if value and one.sum() > 100:
            found[value] = float(2 * (one & other).sum() / (one.sum() + other.sum()))
    return found


@pytest.mark.parametrize(("name", "plane", "geometry"), WAYS)
def test_labels_come_back_exactly(shared_data, name, plane, geometry):
    label = load(shared_data / name)
    cut, fit = VolumeToSlices(plane), FitToSize(mode="nearest", **geometry)
    back = cut.inverse([fit.inverse(fit(piece)) for piece in cut(label)])
    assert back.shape == label.shape
    assert back.dtype == label.dtype
    assert torch.equal(back.affine, label.affine)
    assert torch.equal(back.as_tensor(), label.as_tensor())


@pytest.mark.parametrize(("name", "plane", "geometry"), WAYS)
def test_probabilities_come_back_with_their_structures(shared_data, name, plane, geometry):
    label = load(shared_data / name)
    slices, hiera = VolumeToSlices(plane)(label), HieraInput(**geometry)
    classes = int(label.max()) + 1
    predictions = torch.zeros(len(slices), classes, *slices[0].shape[1:])
    predictions[:, 0] = 1
    for number, piece in enumerate(slices):
        if piece.any():
            # What a perfect network would say: the label at the network's size, as probabilities.
            plan = hiera.fit.plan(piece)
            fitted = plan.forward(piece.as_tensor()[None], "nearest")
            perfect = torch.cat([(fitted == value).float() for value in range(classes)], 1)
            predictions[number] = plan.inverse(perfect)[0]
    back = FinaliseSegmentation(argmax=True, squeeze_channel=False)(slices.inverse(predictions))
    assert back.shape == label.shape
    assert torch.equal(back.affine, label.affine)
    found = dices(label, back)
    assert found
    assert min(found.values()) >= 0.999


def test_invertd_brings_a_whole_series_back(shared_data):
    image = LoadImage(ensure_channel_first=True)(shared_data / "sct-spine/images/t2s.nii.gz")
    image = image / image.max()
    cut, transform = VolumeToSlices("sagittal"), Compose([HieraInputd("image", 270, keep_aspect=True)])
    invert = Invertd("pred", transform, orig_keys="image", nearest_interp=False)
    predictions = []
    for piece in cut(image):
        item = transform({"image": piece})
        predictions.append(invert({**item, "pred": MetaTensor(item["image"][:1].as_tensor())})["pred"])
    back = cut.inverse(predictions)
    assert back.shape == image.shape
    assert torch.equal(back.affine, image.affine)
    assert torch.corrcoef(torch.stack([back.as_tensor().flatten(), image.as_tensor().flatten()]))[0, 1] > 0.99
