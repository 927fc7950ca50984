# SPDX-License-Identifier: Apache-2.0
"""Tests of the network rebuilt for inference against the network it was made of."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import HIERA_SPECS, SAM2UNet, optimize_for_inference
from monai_sam2unet.networks.packed_linear import PackedLinear, can_pack


def random_image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def as_trained(**options: object) -> SAM2UNet:
    """A network in which everything matters: adapters and LoRA that are not zero, BatchNorm that has seen data."""
    torch.manual_seed(0)
    net = SAM2UNet(**options).eval()
    for name, value in (*net.named_parameters(), *net.named_buffers()):
        if ".prompt_learn." in name or "lora_b" in name:
            value.normal_(std=0.05)
        elif ".bn." in name or "double_conv" in name:
            if name.endswith(("running_mean", "bias")):
                value.normal_(std=0.2)
            elif name.endswith("running_var") or value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def net() -> SAM2UNet:
    return as_trained(size="tiny", deep_supervision=True)


@torch.inference_mode()
def assert_same_logits(fast: nn.Module, net: nn.Module, image: torch.Tensor) -> None:
    expected = net(image)
    logits = fast(image)
    assert logits.shape == expected.shape
    assert logits.dtype == expected.dtype
    assert expected.std() > 0.01
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 96, 160), (2, 3, 64, 64), (1, 3, 50, 75), (3, 3, 224, 224)], ids=str)
def test_same_logits(net, shape, portable):
    assert_same_logits(net.optimize_for_inference(portable=portable), net, random_image(*shape))


@pytest.mark.slow
@pytest.mark.parametrize("size", [size for size in HIERA_SPECS if size != "tiny"])
def test_same_logits_of_the_other_sizes(size):
    net = as_trained(size=size, in_channels=1, out_channels=4)
    for portable in (False, True):
        assert_same_logits(net.optimize_for_inference(portable=portable), net, random_image(1, 1, 352, 96))


@pytest.mark.parametrize(
    "options", [{"lora_rank": 4}, {"adapter_channels": 0}, {"adapter_channels": 0, "lora_rank": 2, "lora_alpha": 4.0}]
)
def test_same_logits_with_other_adapters(options):
    net = as_trained(size="tiny", **options)
    fast = net.optimize_for_inference()
    assert_same_logits(fast, net, random_image(1, 3, 64, 96))
    assert not any("lora" in name for name in fast.state_dict())


@torch.inference_mode()
def test_bfloat16_is_near(net):
    image = random_image(1, 3, 224, 224)
    fast = net.optimize_for_inference(dtype=torch.bfloat16)
    logits, expected = fast(image), net(image)
    assert logits.dtype == torch.float32
    assert {value.dtype for value in fast.state_dict().values() if value.is_floating_point()} == {torch.bfloat16}
    assert 0 < (logits - expected).abs().max() <= 0.03 * expected.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_works_under_autocast(net, dtype):
    image = random_image(1, 3, 64, 96)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net.optimize_for_inference(dtype=dtype)(image)
    expected = net(image)
    assert (logits - expected).abs().max() <= 0.03 * expected.abs().max()


def test_given_network_stays_as_it_is(net):
    before = copy.deepcopy(net.state_dict())
    net.train()
    fast = net.optimize_for_inference()
    assert net.training
    assert net.deep_supervision
    assert not any(module.training for module in fast.modules())
    assert not any(value.requires_grad for value in fast.parameters())
    net.eval()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_does_less(net):
    fast = net.optimize_for_inference(portable=True)
    names = [name for name, _ in fast.named_modules()]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert fast.rfb1.heads.weight.shape == (5 * 64, 96, 1, 1)
    assert not any(name.startswith("side") for name in fast.state_dict()), names


def test_linear_layers_are_packed_where_torch_can(net):
    if not can_pack(net.encoder.blocks[0].block.attn.qkv.weight):
        pytest.skip("This torch packs no weights.")
    fast = net.optimize_for_inference()
    assert not any(isinstance(module, nn.Linear) for module in fast.modules())
    # Per block qkv, proj, two of the MLP and two of the adapter; the three that pool have one more.
    assert sum(isinstance(module, PackedLinear) for module in fast.modules()) == 12 * 6 + 3
    assert_same_logits(copy.deepcopy(fast), net, random_image(1, 3, 64, 64))


def test_portable_form_scripts(net):
    scripted = torch.jit.script(net.optimize_for_inference(portable=True))
    assert_same_logits(scripted, net, random_image(2, 3, 96, 64))


def test_is_not_rebuilt_twice(net):
    with pytest.raises(ConfigError, match="rebuilt for inference already"):
        optimize_for_inference(net.optimize_for_inference())


def test_other_networks_are_refused():
    with pytest.raises(ConfigError, match="got Conv2d"):
        optimize_for_inference(nn.Conv2d(1, 1, 1))


def test_integer_types_are_refused(net):
    with pytest.raises(ConfigError, match=r"floating-point type such as torch.bfloat16, got torch.int8"):
        net.optimize_for_inference(dtype=torch.int8)


@pytest.mark.parametrize(("size", "gflop"), [("tiny", 36.7), ("large", 226.3)])
def test_no_arithmetic_on_window_padding(size, gflop):
    """The released code does 38.6 and 278.8 at this size, attention included."""
    with torch.device("meta"):
        net, image = SAM2UNet(size=size).eval(), torch.zeros(1, 3, 352, 352)
    for form in (net, net.optimize_for_inference(portable=True)):
        with (
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            FlopCounterMode(display=False) as count,
        ):
            form(image)
        assert 0.99 * gflop < count.get_total_flops() / 1e9 < gflop
