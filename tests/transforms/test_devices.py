# SPDX-License-Identifier: Apache-2.0
"""Tests that transforms work where their tensor is, and give there what they give on the CPU."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import (
    CTWindow,
    FinaliseSegmentation,
    FitToSize,
    HieraInput,
    NormalizeAsImageNet,
    PercentileScale,
    VOIWindow,
    VolumeToSlices,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
AFFINE = torch.tensor([[0, -0.5, 0, 30], [0, 0, 4, -20], [-2.0, 0, 0, 10], [0, 0, 0, 1]], dtype=torch.float64)


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


def image(*shape):
    torch.manual_seed(0)
    meta = {"window_center": 0.5, "window_width": 0.5, "voi_lut_function": "LINEAR_EXACT"}
    return MetaTensor(torch.rand(1, *shape), affine=AFFINE, meta=meta)


SAME = [
    (CTWindow([(0.5, 0.5), "brain"]), (6, 7, 8)),
    (VOIWindow(), (6, 7, 8)),
    (PercentileScale(3, 96), (6, 7, 8)),
    (PercentileScale(nonzero=True, channel_wise=True), (30, 40)),
    (NormalizeAsImageNet(), (6, 7)),
    (FitToSize((64, 96), keep_aspect=True), (30, 40)),
    (FitToSize(20, mode="nearest"), (30, 40)),
    (FitToSize(20), (30, 40)),
    (HieraInput(None, pixel_spacing=0.7), (30, 40)),
    (FinaliseSegmentation(activation="softmax"), (6, 7, 8)),
    (FinaliseSegmentation(activation="sigmoid", threshold=0.6), (6, 7, 8)),
    (FinaliseSegmentation(largest_component=True, min_size=2, unit="mm3", fill_holes=True), (6, 7, 8)),
]


@pytest.mark.parametrize(("transform", "shape"), SAME)
def test_same_result_on_the_tensors_device(device, transform, shape):
    source = image(*shape)
    expected = transform(source)
    out = transform(source.to(device))
    assert out.device.type == device.type
    torch.testing.assert_close(out.as_tensor().cpu(), expected.as_tensor(), rtol=1e-5, atol=1e-6)
    assert torch.equal(out.affine.cpu(), expected.affine)
    if hasattr(transform, "inverse"):
        back = transform.inverse(out)
        assert back.device.type == device.type
        torch.testing.assert_close(
            back.as_tensor().cpu(), transform.inverse(expected).as_tensor(), rtol=1e-4, atol=1e-5
        )


def test_batches_stay_on_the_device(device):
    hiera = HieraInput((64, 96))
    batch, state = hiera.forward_batch(torch.rand(2, 1, 30, 40, device=device))
    assert batch.device.type == device.type
    assert hiera.inverse_batch(batch, state).device.type == device.type


def test_values_out_of_range_are_told_at_the_latest_by_the_way_back(device):
    hiera = HieraInput((64, 96))
    y = torch.zeros(2, 1, 64, 96, device=device)
    for bad in (float("nan"), 200.0):
        x = torch.rand(2, 1, 30, 40, device=device)
        x[1, 0, 3, 4] = bad
        with pytest.raises(DataError, match=r"values in \[0, 1\]"):
            hiera.inverse_batch(y, hiera.forward_batch(x)[1])


@pytest.mark.gpu
def test_a_gpu_need_not_stop_before_the_network():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    hiera, x = HieraInput((64, 96)), torch.rand(2, 1, 30, 40, device="cuda")
    hiera.forward_batch(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        hiera.forward_batch(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_slices_stay_on_the_device(device):
    volume = image(6, 7, 8).to(device)
    cut = VolumeToSlices("coronal", neighbours=1)
    slices = cut(volume)
    assert slices[0].device.type == device.type
    back = cut.inverse([MetaTensor(s[1:2].as_tensor()).copy_meta_from(s) for s in slices])
    assert back.device.type == device.type
    assert torch.equal(back.as_tensor(), volume.as_tensor())
