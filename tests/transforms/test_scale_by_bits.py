# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import ScaleByBits, ScaleByBitsd


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_largest_value_of_the_bits_becomes_1(bits):
    top = 2**bits - 1
    image = MetaTensor(torch.tensor([[[0.0, top / 2, top]]]), affine=torch.eye(4) * 2, meta={"bits_stored": bits})
    scaled = ScaleByBits()(image)
    assert torch.allclose(scaled.as_tensor(), torch.tensor([[[0.0, 0.5, 1.0]]]))
    assert torch.equal(scaled.affine, image.affine)


def test_plain_tensors_have_8_bits():
    assert torch.equal(ScaleByBits()(torch.tensor([[[255]]], dtype=torch.uint8)), torch.ones(1, 1, 1))


@pytest.mark.parametrize("value", [-1.0, 256.0])
def test_values_beyond_the_bits_are_an_error(value):
    with pytest.raises(DataError, match="8 bits"):
        ScaleByBits()(torch.tensor([[[0.0, value]]]))


def test_dictionaries():
    item = ScaleByBitsd("image")({"image": torch.full((3, 2, 2), 51.0), "label": torch.full((1, 2, 2), 51.0)})
    assert torch.allclose(item["image"], torch.full((3, 2, 2), 0.2))
    assert torch.equal(item["label"], torch.full((1, 2, 2), 51.0))
