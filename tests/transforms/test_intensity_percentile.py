# SPDX-License-Identifier: Apache-2.0
"""Tests of percentiles against NumPy, on both of the ways they are found, and of the scale made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import MetaTensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import PercentileScale, PercentileScaled
from monai_sam2unet.transforms.intensity_percentile import percentiles, selected_percentiles

WAYS = [percentiles, selected_percentiles]
values = arrays(np.float32, st.integers(1, 300), elements=st.floats(-1000, 1000, width=32))
percents = st.floats(0, 100)


@pytest.mark.parametrize("way", WAYS)
@given(x=values, low=percents, high=percents)
def test_equal_to_numpy(way, x, low, high):
    expected = np.percentile(x.astype(np.float64), [low, high])
    np.testing.assert_allclose(way(torch.from_numpy(x), [low, high]), expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float16, torch.bfloat16, torch.float64])
def test_any_type(way, dtype):
    x = (torch.rand(3, 50, 60) * 200).to(dtype)
    expected = np.percentile(x.double().numpy(), [0, 0.5, 50, 99.5, 100])
    np.testing.assert_allclose(way(x, [0, 0.5, 50, 99.5, 100]), expected, rtol=2e-3)


def test_more_values_than_torch_can_rank():
    x = torch.arange(17_000_000, dtype=torch.float32)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(x, 0.5)
    np.testing.assert_allclose(percentiles(x, [25])[0], 0.25 * 16_999_999, rtol=1e-6)


def test_scale_by_hand():
    image = torch.arange(101, dtype=torch.float32).reshape(1, 101) * 3 - 50
    out = PercentileScale(10, 90)(image).as_tensor()
    torch.testing.assert_close(out, ((torch.arange(101.0) - 10) / 80).clamp(0, 1)[None])


def test_order_of_a_volume_is_kept_and_the_source_too():
    image = MetaTensor(torch.randint(-100, 2000, (1, 20, 30, 5), dtype=torch.int16), affine=torch.eye(4) * 2)
    before = image.clone()
    out = PercentileScaled("image")({"image": image})["image"]
    assert out.dtype == torch.float32
    assert (out.min(), out.max()) == (0, 1)
    assert torch.equal(out.affine, image.affine)
    assert torch.equal(image, before)
    low, high = np.percentile(image.numpy(), [0.5, 99.5])
    np.testing.assert_allclose(out.numpy(), np.clip((image.numpy() - low) / (high - low), 0, 1), atol=1e-6)


def test_nonzero_leaves_the_background_out():
    image = torch.zeros(1, 100)
    image[0, 50:] = torch.linspace(100, 200, 50)
    out = PercentileScale(0, 100, nonzero=True)(image).as_tensor()
    torch.testing.assert_close(out[0, 50:], torch.linspace(0, 1, 50))
    assert out[0, :50].max() == 0
    torch.testing.assert_close(PercentileScale(0, 100)(image).as_tensor()[0, 50].item(), 0.5)


def test_channels_apart_or_together():
    image = torch.stack([torch.linspace(0, 1, 10), torch.linspace(5, 9, 10)])
    apart = PercentileScale(0, 100, channel_wise=True)(image).as_tensor()
    torch.testing.assert_close(apart[0], apart[1])
    assert PercentileScale(0, 100)(image).as_tensor()[1].min() > 0.5


@pytest.mark.parametrize("nonzero", [True, False])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_images_become_zero(nonzero, value):
    out = PercentileScale(nonzero=nonzero)(torch.full((1, 8, 8), value))
    assert torch.equal(out.as_tensor(), torch.zeros(1, 8, 8))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_broken_values_are_refused(bad):
    with pytest.raises(DataError, match="NaN or infinite"):
        PercentileScale()(torch.tensor([[1.0, bad]]))


def test_what_is_refused():
    with pytest.raises(DataError, match="at least one value"):
        PercentileScale()(torch.zeros(1, 0, 4))
    for low, high in ((5, 5), (60, 40), (-1, 99), (1, 101), (float("nan"), 99)):
        with pytest.raises(ConfigError, match="0 <= lower < upper <= 100"):
            PercentileScale(low, high)
