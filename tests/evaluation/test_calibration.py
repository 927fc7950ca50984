# SPDX-License-Identifier: Apache-2.0
"""Tests of the calibration: against a plain count of pixels, and cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import calibration_binning

from monai_sam2unet.evaluation.calibration import (
    NUM_BINS,
    calibration_bins,
    expected_calibration_error,
    reliability_frame,
)


def maps(seed=0, size=(2, 1, 30, 40)):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(size, generator=generator)
    return probability, torch.rand(size, generator=generator) < probability**2


def counted(probability, truth):
    """Pixels, sum of probabilities and foreground by bin, one pixel after the other."""
    bins = np.zeros((3, NUM_BINS))
    for p, t in zip(probability.flatten().double().tolist(), truth.flatten().tolist(), strict=True):
        bins[:, min(int(p * NUM_BINS), NUM_BINS - 1)] += (1, p, t)
    return bins


def test_bins_are_those_of_a_plain_count():
    probability, truth = maps()
    found = calibration_bins(probability, truth)
    assert found.shape == (2, 3, NUM_BINS)
    for bins, p, t in zip(found, probability, truth, strict=True):
        np.testing.assert_allclose(bins, counted(p, t), rtol=1e-5)


def test_large_images_are_summed_exactly():
    probability = torch.full((1, 1, 1500, 1500), 0.97)
    truth = torch.zeros(1, 1, 1500, 1500, dtype=torch.bool)
    truth.view(-1)[: round(0.97 * truth.numel())] = True
    bins = calibration_bins(probability, truth)
    assert expected_calibration_error(bins)[0] == pytest.approx(0, abs=1e-6)
    assert bins[0, 0].sum() == 1500 * 1500


def test_equals_monai_on_small_images():
    probability, truth = maps(2)
    predicted, observed, counts = calibration_binning(probability, truth.float(), NUM_BINS)
    found = calibration_bins(probability, truth)
    np.testing.assert_allclose(found[:, 0], counts[:, 0])
    np.testing.assert_allclose(found[:, 1] / found[:, 0], predicted[:, 0], rtol=1e-5)
    np.testing.assert_allclose(found[:, 2] / found[:, 0], observed[:, 0], rtol=1e-5)


def test_error_is_the_mean_distance_over_pixels():
    probability, truth = maps()
    counts, predicted, observed = counted(probability, truth)
    expected = sum(n / counts.sum() * abs(o / n - p / n) for n, p, o in zip(counts, predicted, observed, strict=True))
    bins = calibration_bins(probability, truth).sum(0)
    assert expected_calibration_error(bins) == pytest.approx(expected, rel=1e-5)
    # Foreground comes with the square of the probability: the distance's mean is that of p - p * p.
    assert expected == pytest.approx(1 / 6, abs=0.02)


@pytest.mark.parametrize(("value", "error"), [(0.0, 0.0), (1.0, 1.0), (0.25, 0.25)])
def test_constant_maps_of_images_without_object(value, error):
    bins = calibration_bins(torch.full((1, 1, 4, 4), value), torch.zeros(1, 1, 4, 4, dtype=torch.bool))
    assert expected_calibration_error(bins)[0] == pytest.approx(error)
    assert len(reliability_frame(bins[0])) == 1


def test_what_is_as_likely_as_told_has_no_error():
    probability = torch.full((1, 1, 10, 10), 0.3)
    truth = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    truth[..., :3] = True
    assert expected_calibration_error(calibration_bins(probability, truth))[0] == pytest.approx(0, abs=1e-6)


def test_reliability_frame():
    probability, truth = maps(1)
    bins = calibration_bins(probability, truth).sum(0)
    frame = reliability_frame(bins)
    assert frame["pixels"].sum() == probability.numel()
    assert ((frame["low"] <= frame["probability"]) & (frame["probability"] <= frame["high"])).all()
    inside = (probability >= frame["low"][9]) & (probability < frame["high"][9])
    assert frame["frequency"][9] == pytest.approx(float(truth[inside].float().mean()))
