# SPDX-License-Identifier: Apache-2.0
"""Tests of what transforms ask of any tensor."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.tensors import check_finite, own_memory, plain


def test_plain_shares_memory():
    x = MetaTensor(torch.zeros(3))
    values = plain(x)
    assert type(values) is torch.Tensor
    values += 1
    assert x.sum() == 3
    assert plain(values) is values


def test_only_what_is_shared_is_copied():
    source = torch.rand(2, 3, 4)
    for shared in (source, source[:1], source.transpose(0, 2), source.expand(5, 2, 3, 4)):
        own = own_memory(shared, source)
        assert torch.equal(own, shared)
        assert own.is_contiguous()
        assert own.untyped_storage().data_ptr() != source.untyped_storage().data_ptr()
    other = source + 1
    assert own_memory(other, source) is other


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite(dtype):
    x = torch.zeros(3, 4, dtype=dtype)
    check_finite(x, "This")
    check_finite(x[:0], "This")
    check_finite(x.to(torch.int16), "This")
    for value in (float("nan"), float("inf"), -float("inf")):
        x[1, 2] = value
        with pytest.raises(DataError, match="This needs finite values; the image holds NaN"):
            check_finite(x, "This")
        with pytest.raises(DataError, match=r"finite values; scans/ct7\.nii holds NaN"):
            check_finite(MetaTensor(x, meta={"filename_or_obj": "scans/ct7.nii"}), "This")
