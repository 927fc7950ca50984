# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import MatchOrientation, MatchOrientationd

CODES = ["".join(code) for axes in itertools.permutations(["RL", "AP", "SI"]) for code in itertools.product(*axes)]


def volume(seed: int = 0) -> MetaTensor:
    data = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(seed))
    affine = np.array([[1.4, 0.2, 0, -30], [-0.2, 2.1, 0.3, 12], [0, -0.3, 3.0, 5], [0, 0, 0, 1]])
    return MetaTensor(data, affine=torch.from_numpy(affine))


def turned(image: MetaTensor, codes: str) -> MetaTensor:
    """The same voxels in another order, by nibabel."""
    start = nib.io_orientation(image.affine.numpy())
    change = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    data = np.stack([nib.apply_orientation(channel, change) for channel in image.numpy()])
    affine = image.affine.numpy() @ nib.orientations.inv_ornt_aff(change, image.shape[1:])
    return MetaTensor(torch.from_numpy(data.copy()), affine=torch.from_numpy(affine))


@pytest.mark.parametrize("codes", CODES)
def test_any_order_of_the_axes_is_matched_and_inverted_exactly(codes):
    image = volume()
    label = turned(image, codes)
    matched = MatchOrientation()(label, image)
    assert torch.equal(matched.as_tensor(), image.as_tensor())
    assert torch.equal(matched.affine, image.affine)
    transform = MatchOrientationd("label", "image")
    item = transform({"image": image, "label": label})
    assert torch.equal(item["label"].as_tensor(), image.as_tensor())
    back = transform.inverse(item)["label"]
    assert torch.equal(back.as_tensor(), label.as_tensor())
    assert torch.allclose(back.affine, label.affine, atol=1e-9)


def test_other_grids_are_refused():
    image = volume()
    moved = image.affine.clone()
    moved[0, 3] += 0.5
    shifted = MetaTensor(image.as_tensor().clone(), affine=moved)
    with pytest.raises(DataError, match="one grid"):
        MatchOrientation()(shifted, image)
    smaller = MetaTensor(image.as_tensor()[..., :-1].clone(), affine=image.affine)
    with pytest.raises(DataError, match="one grid"):
        MatchOrientation()(smaller, image)
    with pytest.raises(DataError, match="affine"):
        MatchOrientation()(torch.zeros(1, 2, 2, 2), image)
