# SPDX-License-Identifier: Apache-2.0
"""Tests of the encoder's input: parity with its parts, channels, range, and the way back, alone and in batches."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FitToSize,
    HieraInput,
    HieraInputd,
    NormalizeAsImageNet,
    VolumeToSlices,
)
from monai_sam2unet.transforms.hiera_input import HieraInputState
from monai_sam2unet.transforms.value_range import ValueRange

AFFINE = torch.diag(torch.tensor([-0.8, 0.5, 5, 1]))
GEOMETRIES = [{}, {"keep_aspect": True}, {"spatial_size": None, "pixel_spacing": 0.9}, {"enlarge_or_shrink": False}]


def picture(channels=1, height=60, width=45):
    return MetaTensor(torch.rand(channels, height, width), affine=AFFINE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_its_parts(channels, geometry):
    image = picture(channels)
    geometry = {"spatial_size": (96, 64), **geometry}
    expected = Compose([FitToSize(**geometry), NormalizeAsImageNet()])(image)
    ours = HieraInput(**geometry)(image)
    assert torch.equal(ours.as_tensor(), expected.as_tensor())
    assert torch.equal(ours.affine, expected.affine)
    assert ours.applied_operations[0]["orig_size"] == (60, 45)
    assert ours.is_contiguous()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_batches_equal_single_slices(geometry):
    images = [picture() for _ in range(4)]
    hiera = HieraInput(**{"spatial_size": (96, 64), **geometry})
    batch, state = hiera.forward_batch(torch.stack([i.as_tensor() for i in images]), spacing=(0.8, 0.5))
    singles = [hiera(image) for image in images]
    torch.testing.assert_close(batch, torch.stack([s.as_tensor() for s in singles]))
    logits = torch.randn(4, 5, *batch.shape[-2:])
    back = hiera.inverse_batch(logits, state)
    assert back.shape == (4, 5, 60, 45)
    assert not isinstance(back, MetaTensor)
    for one, single, logit in zip(back, singles, logits, strict=True):
        inverted = hiera.inverse(MetaTensor(logit).copy_meta_from(single))
        torch.testing.assert_close(one, inverted.as_tensor())
        assert torch.equal(inverted.affine, AFFINE.double())


def test_spacing_of_a_batch_must_be_known():
    hiera = HieraInput(None, pixel_spacing=1.0)
    with pytest.raises(DataError, match="has none"):
        hiera.forward_batch(torch.rand(2, 1, 20, 20))
    batch, _ = hiera.forward_batch(torch.rand(2, 1, 40, 40), spacing=(2.0, 0.5))
    assert batch.shape == (2, 3, 96, 32)


def test_keep_aspect_of_a_batch_is_that_of_the_anatomy():
    hiera = HieraInput(64, keep_aspect=True)
    volume = MetaTensor(torch.rand(1, 20, 3, 4), affine=torch.diag(torch.tensor([1.5, 1.5, 8.0, 1.0])))
    slices = VolumeToSlices("coronal")(volume)
    batch = torch.stack([piece.as_tensor() for piece in slices])
    for given in ((batch, (8.0, 1.5)), (MetaTensor(batch, affine=slices[0].affine),)):
        out, state = hiera.forward_batch(*given)
        assert state.plan.resized == (64, 60)
        assert torch.equal(out, torch.stack([hiera(piece).as_tensor() for piece in slices]))
        assert hiera.inverse_batch(out, state).shape == (3, 3, 4, 20)
    assert hiera.forward_batch(batch)[1].plan.resized == (13, 64)


def test_padding_is_black():
    out = HieraInput((64, 64), enlarge_or_shrink=False)(torch.ones(1, 10, 10)).as_tensor()
    black = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(out[:, 0, 0], black)
    torch.testing.assert_close(out[:, 32, 32], black + 1 / torch.tensor(IMAGENET_STD))


def test_gray_networks_and_neighbouring_slices():
    gray = HieraInput(32, in_channels=1)(torch.full((1, 32, 32), 0.449)).as_tensor()
    assert gray.shape == (1, 32, 32)
    assert gray.abs().max() < 1e-5
    assert HieraInput(32, in_channels=5)(torch.rand(5, 8, 8)).shape == (5, 32, 32)
    values = HieraInput(8, in_channels=2, mean=[0.0, 1.0], std=[1.0, 2.0])(torch.ones(2, 8, 8)).as_tensor()
    assert values[:, 0, 0].tolist() == [1.0, 0.0]
    for channels in (1, 3):
        with pytest.raises(DataError, match="needs 5 channels"):
            HieraInput(32, in_channels=5)(torch.rand(channels, 8, 8))


def test_standardised_images_are_left_as_they_are():
    image = torch.randn(1, 32, 32) * 3
    out = HieraInput(32, mean=None, std=None)(image)
    for channel in out.as_tensor():
        assert torch.equal(channel, image[0])


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1000, 1000), (-3, 3), (0, float("nan"))])
def test_values_outside_are_refused(low, high):
    image = torch.full((1, 8, 8), float(low))
    image[0, 0, 0] = high
    with pytest.raises(DataError, match=r"values in \[0, 1\], got .* Scale first"):
        HieraInput(32)(image)
    with pytest.raises(DataError, match=r"values in \[0, 1\]"):
        HieraInput(32).forward_batch(image[None])


def test_values_that_are_known_late_are_refused_by_the_way_back():
    # As on a GPU, where the range is still on its way when the network is called.
    hiera = HieraInput(32)
    batch, state = hiera.forward_batch(torch.rand(1, 1, 8, 8))
    late = HieraInputState(state.plan, ValueRange.of(torch.tensor([-1000.0, 0.5])))
    with pytest.raises(DataError, match=r"values in \[0, 1\], got -1000 to 0.5"):
        hiera.inverse_batch(batch, late)
    assert HieraInput(32, mean=None, std=None).forward_batch(torch.rand(1, 1, 8, 8))[1].values is None


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_not_guessed(channels):
    with pytest.raises(DataError, match=rf"got shape \({channels}, 8, 8\).*alpha channel"):
        HieraInput(32)(torch.rand(channels, 8, 8))
    with pytest.raises(DataError, match="alpha channel"):
        HieraInput(32).forward_batch(torch.rand(1, channels, 8, 8))


def test_dictionary_version_with_invertd():
    transform = Compose([HieraInputd("image", (96, 64), keep_aspect=True)])
    item = transform({"image": picture(), "case": 7})
    assert item["image"].shape == (3, 96, 64)
    item["pred"] = MetaTensor(torch.rand(2, 96, 64))
    for nearest in (True, False):
        pred = Invertd("pred", transform, orig_keys="image", nearest_interp=nearest)(item)["pred"]
        assert pred.shape == (2, 60, 45)
        assert torch.equal(pred.affine, AFFINE.double())
    assert transform.inverse(item)["image"].shape == (3, 60, 45)


def test_what_is_refused():
    for arguments in ({"in_channels": 0}, {"mean": None}, {"mean": [0.5, 0.5]}, {"std": 0.0}, {"in_channels": 2.0}):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            HieraInput(**arguments)
    with pytest.raises(DataError, match=r"\(C, H, W\)"):
        HieraInput()(torch.rand(1, 4, 4, 4))
    with pytest.raises(DataError, match=r"\(N, C, H, W\)"):
        HieraInput().forward_batch(torch.rand(1, 4, 4))
