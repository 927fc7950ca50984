# SPDX-License-Identifier: Apache-2.0
"""Tests of the encoder's channels and normalisation: parity with MONAI's, nothing in place, 2.5D."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensity, RepeatChannel

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    HieraInput,
    HieraInputd,
    NormalizeAsImageNet,
    NormalizeAsImageNetd,
)

AFFINE = torch.diag(torch.tensor([-0.8, 0.5, 5, 1]))


def picture(channels=1, height=12, width=9):
    return MetaTensor(torch.rand(channels, height, width), affine=AFFINE, meta={"filename_or_obj": "a.png"})


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_monais(channels):
    image = picture(channels)
    monais = NormalizeIntensity(np.array(IMAGENET_MEAN), np.array(IMAGENET_STD), channel_wise=True)
    expected = Compose([RepeatChannel(3 // channels), monais])(image.clone())
    ours = NormalizeAsImageNetd("image")({"image": image, "case": 1})
    torch.testing.assert_close(ours["image"].as_tensor(), expected.as_tensor(), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours["image"].affine, image.affine)
    assert ours["image"].meta["filename_or_obj"] == "a.png"
    assert ours["case"] == 1


@pytest.mark.parametrize("settings", [{}, {"mean": None, "std": None}, {"mean": 0.0, "std": 1.0}])
@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_is_done_in_place(settings, channels):
    image = picture(channels, 32, 32)
    before = image.clone()
    hiera = HieraInput(32, **settings)
    batch = image.as_tensor()[None]
    outs = [NormalizeAsImageNet(**settings)(image), hiera(image), hiera.forward_batch(batch)[0]]
    for out in outs:
        assert out.is_contiguous()
        out += 1
        assert torch.equal(image, before)
        if channels == 1 and settings.get("mean", 1) is None:
            assert torch.equal(out[..., 0, :, :], out[..., 1, :, :])


def test_whole_numbers_become_floating_point():
    out = NormalizeAsImageNet()(torch.ones(1, 4, 4, dtype=torch.uint8))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out[:, 0, 0].as_tensor(), (1 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD))
    assert NormalizeAsImageNet()(torch.ones(1, 4, 4, dtype=torch.float16)).dtype == torch.float16


def test_a_lone_channel_is_not_repeated_where_neighbours_are_meant():
    two_and_a_half = {"in_channels": 3, "repeat_gray": False}
    said = r"needs 3 channels, got shape \(1, 8, 8\).*neighbouring slices forgotten\? .*neighbours=1"
    for call in (
        NormalizeAsImageNet(**two_and_a_half),
        HieraInput(32, **two_and_a_half),
        lambda x: NormalizeAsImageNetd("a", **two_and_a_half)({"a": x}),
        lambda x: HieraInputd("a", 32, **two_and_a_half)({"a": x}),
    ):
        with pytest.raises(DataError, match=said):
            call(torch.rand(1, 8, 8))
        call(torch.rand(3, 8, 8))
    with pytest.raises(DataError, match="neighbouring slices forgotten"):
        HieraInput(32, **two_and_a_half).forward_batch(torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize(("channels", "takes"), [(2, 3), (4, 3), (1, 5), (3, 5), (3, 1)])
def test_other_channels_are_refused(channels, takes):
    said = "alpha channel" if takes == 3 else f"needs {takes} channel"
    with pytest.raises(DataError, match=said):
        NormalizeAsImageNet(in_channels=takes)(torch.rand(channels, 8, 8))


def test_what_is_refused():
    for arguments in (
        {"in_channels": 0},
        {"in_channels": True},
        {"mean": None},
        {"mean": [0.5, 0.5]},
        {"std": 0.0},
    ):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            NormalizeAsImageNet(**arguments)
    with pytest.raises(DataError, match=r"\(C, H, W\)"):
        NormalizeAsImageNet()(torch.rand(1, 4, 4, 4))
