# SPDX-License-Identifier: Apache-2.0
"""Tests of the encoder as a backbone of MONAI's FlexibleUNet."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from monai.networks.nets import FLEXUNET_BACKBONE, FlexibleUNet
from safetensors.torch import save_file
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.networks import HIERA_SPECS, Hiera, load_weights
from monai_sam2unet.networks.flexible_unet import FlexibleUNetEncoder

NAMES = ["sam2_hiera_tiny", "sam2_hiera_small", "sam2_hiera_base_plus", "sam2_hiera_large"]


def unet(backbone: str = "sam2_hiera_tiny", **options: object) -> FlexibleUNet:
    return FlexibleUNet(**{"in_channels": 3, "out_channels": 2, "backbone": backbone, **options})


def random_image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def weights(tmp_path, monkeypatch) -> dict[str, torch.Tensor]:
    """Weights that are found as "sam2.1" of size tiny."""
    torch.manual_seed(3)
    tensors = Hiera("tiny").state_dict()
    save_file(tensors, tmp_path / "sam2.1_hiera_tiny.safetensors")
    monkeypatch.setenv("SAM2UNET_WEIGHTS", str(tmp_path))
    return tensors


def test_the_names_are_registered():
    assert set(NAMES) <= set(FLEXUNET_BACKBONE.register_dict)
    assert {"efficientnet-b4", "resnet50"} <= set(FLEXUNET_BACKBONE.register_dict)
    assert len(NAMES) == len(HIERA_SPECS)


def test_networks_alone_does_not_wait_for_monai():
    code = "import sys, monai_sam2unet.networks; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("backbone", NAMES)
def test_forward_and_backward_of_each_size(backbone):
    with torch.device("meta"):  # shapes and gradients, without values
        net = unet(backbone, in_channels=4, out_channels=3)
        result = net(torch.empty(2, 4, 96, 64))
        result.sum().backward()
    assert result.shape == (2, 3, 96, 64)
    assert [name for name, value in net.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("backbone", NAMES)
def test_maps_have_the_channels_and_sizes_that_are_told(backbone):
    with torch.device("meta"):
        encoder = FlexibleUNetEncoder(backbone.removeprefix("sam2_hiera_"))
        maps = encoder(torch.empty(1, 3, 96, 64))
    told = FLEXUNET_BACKBONE.register_dict[backbone]
    assert len(maps) == told["feature_number"] == 5
    assert tuple(x.shape[1] for x in maps) == told["feature_channel"]
    assert [tuple(x.shape[2:]) for x in maps] == [(96 // 2**i, 64 // 2**i) for i in range(1, 6)]


@pytest.mark.parametrize(("in_channels", "is_pad"), [(1, True), (3, False), (5, True)])
def test_learns_with_any_number_of_channels(in_channels, is_pad):
    torch.manual_seed(0)
    net = unet(in_channels=in_channels, is_pad=is_pad).train()
    image, label = random_image(2, in_channels, 64, 96), torch.randint(0, 2, (2, 64, 96))
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    losses = []
    for _ in range(3):
        loss = F.cross_entropy(net(image), label)
        optimiser.zero_grad()
        loss.backward()
        for part in (net.encoder.stem, net.encoder.hiera.patch_embed, net.decoder, net.segmentation_head):
            assert all(p.grad.abs().max() > 0 for p in part.parameters() if p.ndim > 1)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]


def test_every_map_reaches_the_result():
    net, image = unet().eval(), random_image(1, 3, 64, 64)
    maps = [x.detach().requires_grad_() for x in net.encoder(image)]
    net.segmentation_head(net.decoder(maps, net.skip_connect)).square().sum().backward()
    assert all(x.grad.abs().max() > 0 for x in maps)


@torch.inference_mode()
def test_pretrained_is_the_published_encoder(weights):
    net = unet(pretrained=True).eval()
    hiera = Hiera("tiny").eval()
    hiera.load_state_dict(weights)
    image = random_image(1, 3, 64, 96)
    for found, expected in zip(net.encoder(image)[1:], hiera(image), strict=True):
        assert torch.equal(found, expected)


@torch.inference_mode()
def test_pretrained_filters_take_one_channel(weights):
    gray = random_image(1, 1, 64, 64)
    one, three = (unet(in_channels=channels, pretrained=True).encoder.hiera.eval() for channels in (1, 3))
    for found, expected in zip(one(gray), three(gray.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_pretrained_may_name_a_file(weights, tmp_path):
    net = unet(pretrained=str(tmp_path / "sam2.1_hiera_tiny.safetensors"))
    assert torch.equal(net.encoder.hiera.pos_embed, weights["pos_embed"])
    with pytest.raises(WeightsError, match="no weights file nowhere"):
        unet(pretrained="nowhere")


def test_weights_are_loaded_afterwards_too(weights, tmp_path):
    net = unet()
    load_weights(net.encoder.hiera, tmp_path / "sam2.1_hiera_tiny.safetensors")
    assert torch.equal(net.encoder.hiera.pos_embed, weights["pos_embed"])


@torch.inference_mode()
def test_scripted_equals_eager():
    net, image = unet().eval(), random_image(2, 3, 64, 96)
    torch.testing.assert_close(torch.jit.script(net)(image), net(image))


def test_volumes_are_refused():
    with pytest.raises(ConfigError, match=r"spatial_dims must be 2, got 3.*SliceWiseInferer"):
        unet(spatial_dims=3)


@pytest.mark.parametrize("shape", [(64, 65), (50, 64), (16, 16)])
def test_sizes_that_32_does_not_divide_are_refused(shape):
    with torch.device("meta"), pytest.raises(ConfigError, match=f"multiples of 32, got {shape[0]} and {shape[1]}"):
        unet()(torch.empty(1, 3, *shape))
