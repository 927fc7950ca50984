# SPDX-License-Identifier: Apache-2.0
"""Tests of mixed precision on the CPU."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Flip
from torch import nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers import AutocastInferer


class Network(nn.Module):
    """A convolution that remembers what it was given; one output, or three of them."""

    def __init__(self, outputs=1):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 3)
        self.outputs = outputs

    def forward(self, x, scale=1.0):
        self.seen = x
        y = self.conv(x)
        self.computed = y.dtype
        return y * scale if self.outputs == 1 else tuple(y * n for n in range(self.outputs))


@pytest.fixture
def images():
    return torch.rand(2, 3, 12, 14, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_full_precision_is_a_plain_call(images, precision):
    network = Network()
    found = AutocastInferer(precision)(images, network)
    assert network.computed == torch.float32
    assert torch.equal(found, network(images))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_precision_gives_float32_close_to_full(images, precision, dtype):
    network = Network()
    with torch.no_grad():
        found = AutocastInferer(precision)(images, network)
    assert network.computed == dtype
    assert found.dtype == torch.float32
    expected = network(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    assert not torch.equal(found, expected)
    assert not torch.is_autocast_enabled("cpu")


def test_fp16_is_refused_where_gradients_are_computed(images):
    with pytest.raises(ConfigError, match="fp16 is for inference"):
        AutocastInferer("fp16")(images, Network())


def test_gradients_reach_the_weights(images):
    network = Network()
    AutocastInferer("bf16")(images, network).sum().backward()
    assert network.conv.weight.grad.dtype == torch.float32
    assert network.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_several_outputs_become_a_list(images, precision):
    found = AutocastInferer(precision)(images, Network(outputs=3))
    assert isinstance(found, list)
    assert [y.dtype for y in found] == [torch.float32] * 3
    torch.testing.assert_close(found[2], 2 * found[1])


def test_arguments_are_given_on(images):
    network = Network()
    assert torch.equal(AutocastInferer("fp32")(images, network, scale=2.0), network(images, 2.0))
    assert torch.equal(AutocastInferer("fp32")(images, network, 2.0), network(images, 2.0))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_metadata_goes_around_the_network(images, precision):
    network = Network()
    image = MetaTensor(images[0])
    image.meta["filename_or_obj"] = "a.png"
    inputs = Flip(spatial_axis=0)(image)[None]
    found = AutocastInferer(precision)(inputs, network)
    assert type(network.seen) is torch.Tensor
    assert isinstance(found, MetaTensor)
    assert found.meta["filename_or_obj"] == "a.png"
    assert found.applied_operations == inputs.applied_operations
    assert len(found.applied_operations) == 1
    torch.testing.assert_close(found.as_tensor(), network(inputs.as_tensor()), rtol=0, atol=0.02)


def test_several_outputs_are_plain(images):
    found = AutocastInferer("fp32")(MetaTensor(images), Network(outputs=2))
    assert [type(y) for y in found] == [torch.Tensor] * 2


def test_unknown_precision():
    with pytest.raises(ValueError, match="auto, fp32, bf16, fp16, got 'tf32'"):
        AutocastInferer("tf32")


def test_flips_and_scales_are_averaged():
    """A network that is no function of the pixels alone: its result depends on where they lie."""
    slope = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    image = torch.rand(1, 1, 64, 64)

    def network(x):
        return x * torch.nn.functional.interpolate(slope, x.shape[2:], mode="bilinear")

    found = AutocastInferer("fp32", flips=["columns", "rows"])(image, network)
    expected = (2 * image * slope + image * slope.flip(-1)) / 3
    torch.testing.assert_close(found, expected)
    sizes = []
    AutocastInferer("fp32", scales=[0.5, 1])(image, lambda x: sizes.append(x.shape[2:]) or x)
    assert sizes == [(32, 32), (64, 64)]


def test_flips_need_a_single_result():
    with pytest.raises(ConfigError, match="one tensor"):
        AutocastInferer("fp32", flips=["rows"])(torch.zeros(1, 1, 32, 32), lambda x: [x, x])
    with pytest.raises(ConfigError, match="flips must be a list"):
        AutocastInferer("fp32", flips=["sideways"])


class Position(nn.Module):
    """Its result depends on where in the window a pixel lies, as that of a network does."""

    def forward(self, x):
        self.seen = x.shape
        rows = torch.linspace(0, 1, x.shape[2], device=x.device)[:, None]
        return nn.functional.conv2d(x, torch.ones(1, 3, 3, 3), padding=1) * rows


WINDOWS = {"roi_size": (32, 32), "sw_batch_size": 3, "overlap": 0.5, "mode": "gaussian", "padding_mode": "replicate"}


@pytest.mark.parametrize("size", [(70, 50), (20, 50), (9, 7), (32, 32)])
def test_windows_are_those_of_monai(size):
    image, network = torch.rand(2, 3, *size), Position()
    windows = SlidingWindowInferer(**WINDOWS)
    found = AutocastInferer("fp32", inferer=windows)(MetaTensor(image), network)
    assert network.seen[2:] == (32, 32)
    assert found.shape == (2, 1, *size)
    assert torch.equal(found.as_tensor(), windows(image, network))


def test_windows_flips_and_scales_go_together():
    image, network = torch.rand(1, 3, 70, 50), Position()
    windows = SlidingWindowInferer(**WINDOWS)
    found = AutocastInferer("fp32", flips=["rows"], scales=[1, 2], inferer=windows)(image, network)
    passes = []
    for x in (image, nn.functional.interpolate(image, (128, 96), mode="bilinear")):
        for y in (windows(x, network), windows(x.flip(-2), network).flip(-2)):
            passes.append(nn.functional.interpolate(y, (70, 50), mode="bilinear", antialias=y.shape[2] > 70))
    torch.testing.assert_close(found, sum(passes) / 4)


def test_windows_are_blended_in_float32_whatever_the_network_computes_in():
    """A constant that bf16 holds exactly: blended in bf16 it would not come out again."""
    image, windows = torch.rand(1, 3, 70, 50), SlidingWindowInferer(**WINDOWS)
    found = AutocastInferer("bf16", inferer=windows)(image, lambda x: torch.full_like(x[:, :1], 3.140625).bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full_like(found, 3.140625), rtol=1e-6, atol=0)


def test_arguments_reach_the_network_through_windows(images):
    found = AutocastInferer("fp32", inferer=SlidingWindowInferer((12, 14)))(images, lambda x, by: x * by, by=3)
    torch.testing.assert_close(found, images * 3)


@pytest.mark.parametrize("output", [{"out": torch.zeros(1)}, "text", None])
@pytest.mark.parametrize("options", [{}, {"flips": ["rows"]}])
def test_what_is_no_tensor_is_refused(images, output, options):
    with pytest.raises(ConfigError, match=f"a tensor.*{type(output).__name__}"):
        AutocastInferer("fp32", **options)(images, lambda x: output)
