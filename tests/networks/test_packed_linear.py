# SPDX-License-Identifier: Apache-2.0
"""Tests of linear layers packed for oneDNN against torch's own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks.packed_linear import PackedLinear, can_pack


def layer_and_tokens(dtype: torch.dtype) -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(96, 40).to(dtype).requires_grad_(False), torch.randn(2, 5, 7, 96).to(dtype)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def linear(request):
    layer, x = layer_and_tokens(request.param)
    if not can_pack(layer.weight):
        pytest.skip(f"This torch or this CPU packs no {request.param} weights.")
    return layer, x


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}


def test_same_as_the_layer(linear):
    layer, x = linear
    torch.testing.assert_close(PackedLinear(layer)(x), layer(x), **tolerance(x.dtype))


def test_gelu_is_the_exact_one(linear):
    layer, x = linear
    torch.testing.assert_close(PackedLinear(layer, "gelu")(x), F.gelu(layer(x)), **tolerance(x.dtype))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(linear, copied):
    layer, x = linear
    packed = PackedLinear(layer, "gelu")
    other = copied(packed)
    assert torch.equal(other(x), packed(x))
    assert other.bias.data_ptr() != packed.bias.data_ptr()
    assert str(other) == str(packed) == "PackedLinear(in_features=96, out_features=40, activation=gelu)"


def test_state_dict_holds_the_weight(linear):
    layer, x = linear
    packed = PackedLinear(layer)
    torch.manual_seed(1)
    other = PackedLinear(nn.Linear(96, 40).to(x.dtype))
    other.load_state_dict(packed.state_dict())
    assert torch.equal(other(x), packed(x))
    assert torch.equal(packed.state_dict()["_extra_state"], layer.weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({"bias": layer.bias})


def test_gradients_are_refused(linear):
    layer, x = linear
    packed = PackedLinear(layer)
    with pytest.raises(ConfigError, match="no gradients"):
        packed(x.requires_grad_())
    with torch.no_grad():
        packed(x)


def test_other_types_and_devices_are_refused(linear):
    layer, x = linear
    packed = PackedLinear(layer)
    assert packed.to("cpu", x.dtype) is packed
    assert torch.equal(packed(x), PackedLinear(layer)(x))
    for move in (packed.half, packed.double, lambda: packed.to("meta")):
        with pytest.raises(ConfigError, match="cannot be brought to"):
            move()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_not_packed(dtype):
    assert not can_pack(torch.zeros(4, 4, dtype=dtype))


def test_other_devices_are_not_packed():
    assert not can_pack(torch.zeros(4, 4, device="meta"))
