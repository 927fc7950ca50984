# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_sam2unet.metrics import windows
from monai_sam2unet.metrics.windows import Boxes, at_once, bounding_boxes, cut_windows, rows_of_images, sums_of_lines


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_boxes_hold_all_pixels_and_no_empty_edge(monkeypatch, dtype):
    monkeypatch.setattr(windows, "CACHED", 3 * 20 * 30)
    images = torch.zeros(7, 20, 30, dtype=dtype)
    rng = np.random.default_rng(0)
    for image in images[:6]:
        image[rng.integers(0, 20, 3), rng.integers(0, 30, 3)] = 1
    boxes = bounding_boxes(*sums_of_lines(images))
    for i, image in enumerate(images[:6]):
        y, x = image.nonzero().unbind(1)
        assert (boxes.top[i], boxes.bottom[i]) == (y.min(), y.max() + 1)
        assert (boxes.left[i], boxes.right[i]) == (x.min(), x.max() + 1)
    assert (boxes.top[6], boxes.bottom[6], boxes.left[6], boxes.right[6]) == (20, 0, 30, 0)
    assert boxes.areas()[6] == 0


def boxes_of(*corners):
    return Boxes(*(torch.tensor(x) for x in zip(*corners, strict=True)))


def test_boxes_around_and_within_others():
    nothing = (20, 0, 30, 0)
    one, other = boxes_of((5, 8, 2, 4), nothing), boxes_of((1, 6, 3, 25), (4, 5, 6, 7))
    around = one.around(other)
    assert [x.tolist() for x in (around.top, around.bottom, around.left, around.right)] == [
        [1, 4],
        [8, 5],
        [2, 6],
        [25, 7],
    ]
    within = other.within(one, 3)
    assert (within.top[0], within.bottom[0], within.left[0], within.right[0]) == (2, 6, 3, 7)
    assert around.areas().tolist() == [7 * 23, 1]
    assert one[torch.tensor([1])].top.tolist() == [20]


def test_windows_are_cut_where_said_and_rows_outside_come_from_elsewhere():
    images = torch.arange(3 * 10 * 12, dtype=torch.int32).view(3, 10, 12)
    with_none = torch.cat([images.flatten(0, 1), torch.full((1, 12), -1, dtype=torch.int32)])
    which, top, left = torch.tensor([2, 0, 2]), torch.tensor([-2, 4, 7]), torch.tensor([0, 7, 3])
    cut = cut_windows(with_none, rows_of_images(which, top, 6, 10, 30), left, 5)
    padded = torch.nn.functional.pad(images, (0, 0, 6, 6), value=-1)
    for window, i, y, x in zip(cut, which, top, left, strict=True):
        assert torch.equal(window, padded[i, y + 6 : y + 12, x : x + 5])


def test_a_view_is_cut_from_its_own_beginning():
    images = torch.arange(48).view(4, 3, 4)
    assert cut_windows(images[2:], torch.tensor([[0, 1]]), torch.tensor([1]), 2).tolist() == [[[25, 26], [29, 30]]]


def test_at_least_one_image_at_once():
    assert at_once(torch.zeros(1, 1, 1).expand(3, 4000, 4000)) == 1
    assert at_once(torch.zeros(9, 512, 512)) == 4
