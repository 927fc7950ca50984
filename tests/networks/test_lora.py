# SPDX-License-Identifier: Apache-2.0
"""Tests of LoRA against its formula, and of folding it into the weight."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import LoRALinear, merge_lora


def linear(inputs: int = 6, outputs: int = 9, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


def trained(rank: int = 3, alpha: float | None = None, bias: bool = True) -> LoRALinear:
    """As after training: B is zero at the start, which hides A."""
    layer = LoRALinear(linear(bias=bias), rank, alpha)
    nn.init.normal_(layer.lora_b, generator=torch.Generator().manual_seed(1))
    return layer


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (3.0, 1.0), (6.0, 2.0), (0.5, 1 / 6)])
def test_is_the_formula_of_the_paper(alpha, scale, bias):
    layer, x = trained(3, alpha, bias), tokens(2, 5)
    w, a, b = (v.detach().double().numpy() for v in (layer.weight, layer.lora_a, layer.lora_b))
    expected = x.double().numpy() @ (w + scale * b @ a).T + (layer.bias.detach().double().numpy() if bias else 0)
    assert np.abs(scale * b @ a).max() > 0.1
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_starts_as_the_layer_that_it_replaces():
    plain = linear()
    layer = LoRALinear(plain, 3)
    assert torch.equal(layer(tokens(4)), plain(tokens(4)))
    assert layer.weight is plain.weight
    assert layer.bias is plain.bias
    assert layer.lora_a.abs().max() > 0


def test_a_is_drawn_as_in_the_authors_code():
    a = LoRALinear(linear(400, 400), 200).lora_a
    assert a.abs().max() < 1 / math.sqrt(400)
    assert a.std().item() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.02)


def test_of_a_frozen_layer_only_the_change_learns():
    plain = linear().requires_grad_(False)
    layer = LoRALinear(plain, 2)
    optimiser = torch.optim.SGD([p for p in layer.parameters() if p.requires_grad], 0.1)
    before = copy.deepcopy(layer.state_dict())
    for _ in range(2):  # the first step moves B only, A's gradient goes through it
        optimiser.zero_grad()
        layer(tokens(4)).square().sum().backward()
        optimiser.step()
    changed = {name for name, value in layer.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"lora_a", "lora_b"}
    assert layer.weight.grad is None


def test_a_zero_token_gives_the_bias():
    assert torch.equal(trained()(torch.zeros(1, 6))[0], linear().bias)


def test_the_scale_travels_with_the_checkpoint():
    layer, other = trained(3, alpha=12.0), LoRALinear(linear(), 3)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(tokens(4)), layer(tokens(4)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("alpha", [None, 7.0])
def test_merged_is_a_plain_layer_of_the_same_function(alpha, bias):
    layer = trained(3, alpha, bias).eval()
    layer.weight.requires_grad_(False)
    before = copy.deepcopy(layer.state_dict())
    merged = merge_lora(layer)
    assert type(merged) is nn.Linear
    assert set(merged.state_dict()) == ({"weight", "bias"} if bias else {"weight"})
    torch.testing.assert_close(merged(tokens(7)), layer(tokens(7)), rtol=1e-5, atol=1e-6)
    assert not merged.training
    assert not merged.weight.requires_grad
    # Nothing is shared: what is done to the one leaves the other as it was.
    for value in merged.state_dict().values():
        value.zero_()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_merging_in_half_precision_rounds_once():
    layer = trained(3, 6.0).bfloat16()
    exact = layer.weight.double() + 2 * layer.lora_b.double() @ layer.lora_a.double()
    assert torch.equal(merge_lora(layer).weight, exact.bfloat16())


@pytest.mark.parametrize("other", [nn.Linear(2, 3), nn.Identity()])
def test_other_layers_are_left_as_they_are(other):
    assert merge_lora(other) is other


def test_copies_scripts_and_half_precision():
    layer, x = trained(3, 6.0), tokens(2, 5)
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    torch.testing.assert_close(torch.jit.script(layer)(x), expected)
    torch.testing.assert_close(layer.bfloat16()(x.bfloat16()).float(), expected, rtol=0.05, atol=0.05)
    assert "rank=3" in repr(layer)


@pytest.mark.parametrize("rank", [0, -1, 7])
def test_ranks_that_cannot_be(rank):
    with pytest.raises(ConfigError, match=rf"between 1 and 6, got {rank}: .* 6 inputs and 9 outputs"):
        LoRALinear(linear(), rank)


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.inf, math.nan])
def test_strengths_that_cannot_be(alpha):
    with pytest.raises(ConfigError, match=f"above 0, got {alpha}"):
        LoRALinear(linear(), 2, alpha)
