# SPDX-License-Identifier: Apache-2.0
"""Tests of CT windows against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRange

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms import CT_WINDOWS, CTWindow, CTWindowd, VolumeToSlices

# Hounsfield units that become 0 and 1.
ENDS = {
    "lung": (-1350, 150),
    "bone": (-500, 1300),
    "brain": (0, 80),
    "liver": (-45, 105),
    "soft_tissue": (-150, 250),
    "mediastinum": (-125, 225),
}


def test_all_windows_are_tested():
    assert set(ENDS) == set(CT_WINDOWS)


@pytest.mark.parametrize("name", ENDS)
def test_named_windows(name):
    low, high = ENDS[name]
    values = torch.tensor([[-3000, low - 1, low, (low + high) / 2, high, high + 1, 4000]])
    torch.testing.assert_close(CTWindow(name)(values).as_tensor(), torch.tensor([[0, 0, 0, 0.5, 1, 1, 1]]))


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.float16, torch.float32, torch.float64])
def test_is_monais_linear_scale_for_any_type(dtype):
    image = (torch.rand(2, 5, 6, 7) * 200).to(dtype)
    before = image.clone()
    out = CTWindow((40, 80))(image)
    expected = ScaleIntensityRange(0, 80, 0, 1, clip=True)(image.double())
    torch.testing.assert_close(out.as_tensor(), expected.as_tensor().to(out.dtype), rtol=1e-3, atol=1e-6)
    assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(image, before)


def test_several_windows_are_channels():
    image = torch.rand(2, 4, 4) * 2000 - 1000
    out = CTWindow(["lung", [40, 400], "bone"])(image).as_tensor()
    assert out.shape == (6, 4, 4)
    for number, window in enumerate(["lung", (40, 400), "bone"]):
        assert torch.equal(out[2 * number : 2 * number + 2], CTWindow(window)(image).as_tensor())


def test_meta_is_kept_in_the_dictionary_version():
    image = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    image.meta["filename_or_obj"] = "ct.nii"
    item = CTWindowd("image", "liver")({"image": image, "label": 1})
    assert torch.equal(item["image"].affine, image.affine)
    assert item["image"].meta["filename_or_obj"] == "ct.nii"
    assert item["label"] == 1
    torch.testing.assert_close(item["image"].mean().item(), 0.3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_broken_values_are_refused(value, dtype):
    image = torch.zeros(1, 4, 4, 4, dtype=dtype)
    image[0, 1, 2, 3] = value
    with pytest.raises(DataError, match="A CT window needs finite values; the image holds NaN or infinite ones"):
        CTWindow("bone")(image)
    assert CTWindow("bone")(torch.zeros(1, 0, 4)).shape == (1, 0, 4)


@pytest.mark.parametrize("windows", ["bone", ["lung", "soft_tissue", "bone"]])
def test_slices_may_be_windowed_by_themselves(windows):
    volume = MetaTensor(torch.rand(1, 5, 6, 7) * 2000 - 1000, affine=torch.diag(torch.tensor([1.0, -2, 3, 1])))
    cut, window = VolumeToSlices("coronal"), CTWindow(windows)
    for before, after in zip(cut(volume), cut(window(volume)), strict=True):
        assert torch.equal(window(before).as_tensor(), after.as_tensor())
        assert torch.equal(window(before).affine, after.affine)


@pytest.mark.parametrize(
    "windows", ["heart", (40, 0), (40, -1), (float("nan"), 1), (1, 2, 3), [], [["lung"]], 40, [None], ["lung", 40]]
)
def test_what_is_refused(windows):
    with pytest.raises(ConfigError, match=r"[wW]indow"):
        CTWindow(windows)
