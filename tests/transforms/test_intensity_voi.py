# SPDX-License-Identifier: Apache-2.0
"""Tests of DICOM windows against pydicom's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import VOIWindow, VOIWindowd


def image(values, **meta):
    return MetaTensor(torch.as_tensor(values), meta={"filename_or_obj": "a.dcm", **meta})


def by_pydicom(values, center, width, function):
    header = Dataset()
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsStored = 16
    header.PixelRepresentation = 1
    header.WindowCenter, header.WindowWidth, header.VOILUTFunction = center, width, function
    out = apply_windowing(values, header)
    # pydicom maps onto the range of the stored bits.
    return (out - -32768) / 65535


@given(
    center=st.integers(-1000, 3000),
    width=st.integers(1, 4000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_equal_to_pydicom(center, width, function):
    values = np.arange(-2000, 6000, 7, dtype=np.int16)[None]
    out = VOIWindow()(image(values, window_center=center, window_width=width, voi_lut_function=function))
    np.testing.assert_allclose(out.numpy(), by_pydicom(values, center, width, function), atol=2e-5)


def test_example_of_the_standard():
    # PS3.3 C.11.2.1.2.1: centre 2048, width 4096 maps 0 to 0 and 4095 to the largest output.
    out = VOIWindow()(image([[0.0, 2047.5, 4095.0, 5000.0]], window_center=2048, window_width=4096))
    torch.testing.assert_close(out.as_tensor(), torch.tensor([[0, 0.5, 1, 1]]))


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_one_of_several(kind):
    picture = image([[0.0, 50.0, 100.0]], window_center=kind([0.0, 50.0]), window_width=kind([1.0, 100.0]))
    picture.meta["voi_lut_function"] = "LINEAR_EXACT"
    assert VOIWindowd("image", index=1)({"image": picture})["image"].tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize("function", [None, "", "linear"])
def test_function_defaults_to_linear(function):
    picture = image([[10.0]], window_center=10, window_width=11, voi_lut_function=function)
    torch.testing.assert_close(VOIWindow()(picture).item(), 0.55)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32, torch.float64])
def test_type_and_source(dtype):
    picture = image(torch.arange(20).reshape(1, 4, 5).to(dtype), window_center=9.0, window_width=5.0)
    before = picture.clone()
    out = VOIWindow()(picture)
    assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert out.meta["filename_or_obj"] == "a.dcm"
    assert torch.equal(picture, before)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({}, "no window_center"),
        ({"window_center": 1.0}, "no window_center and window_width"),
        ({"window_center": 1.0, "window_width": [1.0, 2.0]}, "1 centres and 2 widths"),
        ({"window_center": "many", "window_width": 1.0}, "window_center must be"),
        ({"window_center": 1.0, "window_width": 0.5}, "at least 1, got 1.0, 0.5"),
        ({"window_center": 1.0, "window_width": 0.0, "voi_lut_function": "SIGMOID"}, "above 0"),
        ({"window_center": float("nan"), "window_width": float("nan")}, "no window_center .* Use CTWindow for CT"),
        ({"window_center": float("nan"), "window_width": 5.0}, "no window_center"),
        ({"window_center": float("inf"), "window_width": 5.0}, "finite centre"),
        ({"window_center": 1.0, "window_width": 5.0, "voi_lut_function": "CUBIC"}, "one of LINEAR"),
    ],
)
def test_meta_that_is_refused(meta, said):
    with pytest.raises(DataError, match=said):
        VOIWindow()(image([[1.0]], **meta))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_values_are_refused(value):
    with pytest.raises(DataError, match="NaN or infinite"):
        VOIWindow()(image([[0.0, value]], window_center=1.0, window_width=5.0))


def test_what_is_refused():
    with pytest.raises(DataError, match="Window 2 was asked for; the image has 1 centres"):
        VOIWindow(2)(image([[1.0]], window_center=1.0, window_width=5.0))
    with pytest.raises(DataError, match="MetaTensor"):
        VOIWindow()(torch.zeros(1, 2, 2))
    for index in (-1, 0.5, True):
        with pytest.raises(ConfigError, match="index"):
            VOIWindow(index)
