# SPDX-License-Identifier: Apache-2.0
"""Tests of cutting maps into windows against plain loops."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from monai_sam2unet.networks.windows import padding_to_multiple, window_index, window_merge, window_partition


def loops(x: torch.Tensor, size: int) -> torch.Tensor:
    """Windows of a map, zeros beyond its edge, one after the other."""
    _, height, width, channels = x.shape
    windows = []
    for image in x:
        for top in range(0, height, size):
            for left in range(0, width, size):
                window = torch.zeros(size, size, channels)
                part = image[top : top + size, left : left + size]
                window[: part.shape[0], : part.shape[1]] = part
                windows.append(window)
    return torch.stack(windows)


def tokens(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, height, width, 3, generator=torch.Generator().manual_seed(0)) + 1


@pytest.mark.parametrize(("height", "width", "size"), [(8, 12, 4), (4, 4, 4), (6, 3, 1)])
def test_partition(height, width, size):
    assert torch.equal(window_partition(tokens(height, width), size), loops(tokens(height, width), size))


@pytest.mark.parametrize(("height", "width", "size"), [(8, 12, 4), (7, 12, 4), (5, 3, 7), (22, 22, 14), (1, 9, 4)])
def test_index_gathers_the_windows_and_the_padding(height, width, size):
    x = tokens(height, width)
    preceded = torch.cat([torch.zeros(2, 1, 3), x.flatten(1, 2)], dim=1)
    gathered = preceded[:, window_index(height, width, size, x.device)]
    assert torch.equal(gathered.reshape(-1, size, size, 3), loops(x, size))


@pytest.mark.parametrize(("height", "width", "size"), [(8, 12, 4), (7, 12, 4), (5, 3, 7), (22, 22, 14)])
def test_merge_undoes_the_cutting(height, width, size):
    x = tokens(height, width)
    assert torch.equal(window_merge(loops(x, size), 2, height, width), x)


@pytest.mark.parametrize("length", range(1, 12))
def test_missing(length):
    padded = F.pad(torch.zeros(length), [0, padding_to_multiple(length, 5)])
    assert len(padded) % 5 == 0
    assert len(padded) - length < 5
