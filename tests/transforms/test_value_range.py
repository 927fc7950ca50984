# SPDX-License-Identifier: Apache-2.0
"""Tests of the range of values; on a GPU see the tests of devices."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.value_range import ValueRange


@pytest.mark.parametrize("ends", [(0, 1), (-0.5, 1.5), (0.2, 0.2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_what_is_taken(ends, dtype):
    ValueRange.of(torch.tensor(ends, dtype=dtype).view(1, 1, 1, 2)).check()
    ValueRange.of(torch.empty(1, 0, 4, dtype=dtype)).check()


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1000, 1000), (-0.51, 1), (0, 1.51), (0, float("nan"))])
def test_what_is_refused(low, high):
    found = ValueRange.of(torch.tensor([float(low), 0.5, float(high)]))
    with pytest.raises(DataError, match=r"values in \[0, 1\], got .* Scale first"):
        found.check()


def test_it_waits_for_values_that_are_on_their_way():
    class Copy:
        """A copy that is done when it is waited for."""

        def synchronize(self):
            ends.copy_(torch.tensor([-1000.0, 1000.0]))

    ends = torch.zeros(2)
    with pytest.raises(DataError, match="got -1000 to 1000"):
        ValueRange(ends, Copy()).check()
