# SPDX-License-Identifier: Apache-2.0
"""Tests of the reductions that all metrics of masks share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_sam2unet.metrics.case_metric import reduce_scores

NAN = float("nan")
SCORES = torch.tensor([[0.2, NAN, 0.5], [NAN, NAN, NAN], [0.9, NAN, 0.1], [0.4, NAN, NAN]])


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", (0.35 + 0.5 + 0.4) / 3),
        ("mean_batch", [0.5, NAN, 0.3]),
        ("mean_channel", [0.35, NAN, 0.5, 0.4]),
        ("sum", 2.1),
        ("sum_batch", [1.5, 0, 0.6]),
        ("sum_channel", [0.7, 0, 1.0, 0.4]),
        ("none", SCORES.numpy()),
    ],
)
def test_nan_does_not_count_and_a_mean_of_none_is_nan(reduction, expected):
    reduced, _ = reduce_scores(SCORES, reduction)
    assert reduced.flatten().tolist() == pytest.approx(np.atleast_1d(expected).flatten().tolist(), nan_ok=True)


def test_scores_stay_as_they_were():
    scores = SCORES.clone()
    reduce_scores(scores)
    torch.testing.assert_close(scores, SCORES, rtol=0, atol=0, equal_nan=True)
