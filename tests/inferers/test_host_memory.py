# SPDX-License-Identifier: Apache-2.0
"""Tests of memory for results, and of results that come from another device."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet.inferers import SliceWiseInferer, prediction_volumes
from monai_sam2unet.inferers.host_memory import HostCopy, empty_result


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 1000, 1000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_memory_of_results_is_ordinary(shape, dtype):
    found = empty_result(shape, dtype, torch.device("cpu"))
    assert found.shape == shape
    assert found.dtype == dtype
    assert found.is_contiguous()
    found.fill_(3)
    copy = found.clone()
    del found
    assert (copy == 3).all()


class Late(HostCopy):
    """A copy that arrives only when it is asked for, and counts how many are on their way."""

    count = 0
    most = 0

    def __init__(self, source, device):
        super().__init__(source.clone(), device)
        Late.count += 1
        Late.most = max(Late.most, Late.count)

    @property
    def under_way(self):
        return True

    def result(self):
        Late.count -= 1
        return super().result()


@pytest.mark.parametrize("given", [{}, {"roi_size": (4, 4)}, {"flips": ["rows"], "uncertainty": "variance"}])
def test_results_from_another_device_are_merged_in_order(monkeypatch, given):
    x = torch.rand(2, 2, 6, 7, 8)
    inferer = SliceWiseInferer((0, 1, 2), 2, activation="sigmoid", **given)
    network = torch.nn.Conv2d(2, 2, 3, padding=1).eval()
    expected = inferer(x, network)
    monkeypatch.setattr(prediction_volumes, "HostCopy", Late)
    Late.count = Late.most = 0
    found = inferer(x, network)
    for name in expected if isinstance(expected, dict) else [slice(None)]:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)
    assert Late.count == 0
    # Two pieces can share a batch, with mean and deviations each: never more than two batches are kept.
    assert 0 < Late.most <= 2 * 2 * 2


def test_one_batch_is_on_its_way_while_the_next_is_computed(monkeypatch):
    monkeypatch.setattr(prediction_volumes, "HostCopy", Late)
    Late.count = Late.most = 0
    under_way = []

    def network(x):
        under_way.append(Late.count)
        return x

    SliceWiseInferer(0, 2)(torch.rand(1, 1, 8, 5, 6), network)
    assert under_way == [0, 1, 1, 1]
    assert Late.most == 2


def test_results_of_one_device_are_merged_before_the_network_writes_its_next_output_there():
    kept = torch.empty(2, 1, 5, 6)
    x = torch.rand(1, 1, 8, 5, 6)
    found = SliceWiseInferer(0, 2)(x, lambda batch: kept.copy_(batch))
    assert torch.equal(found, x)
