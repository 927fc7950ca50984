# SPDX-License-Identifier: Apache-2.0
"""The errors of the weighted F-measure: smoothed inside the foreground, weighted by distance outside of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monai_sam2unet.metrics.foreground_distance import nearest_foreground, squared_distance

__all__ = ["weighted_errors"]

# Margolin et al., CVPR 2014: a Gaussian of 7 by 7 pixels and sigma 5, and a weight that falls by half every 5 pixels.
RADIUS, SIGMA, HALF_LIFE = 3, 5.0, 5.0


def _smoothed(errors: Tensor) -> Tensor:
    """Gaussian over 7 by 7 pixels, zero outside; by sums of shifted images: a convolution of one channel is slower."""
    weights = [math.exp(-(i * i) / (2 * SIGMA * SIGMA)) for i in range(RADIUS + 1)]
    norm = weights[0] + 2 * sum(weights[1:])
    for dim in (2, 1):
        smoothed = errors * (weights[0] / norm)
        size = errors.shape[dim]
        for shift in range(1, min(RADIUS, size - 1) + 1):
            weight = weights[shift] / norm
            smoothed.narrow(dim, shift, size - shift).add_(errors.narrow(dim, 0, size - shift), alpha=weight)
            smoothed.narrow(dim, 0, size - shift).add_(errors.narrow(dim, shift, size - shift), alpha=weight)
        errors = smoothed
    return errors


def weighted_errors(errors: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the weighted errors in the foreground and in the background.

    Args:
        errors: absolute difference of prediction and truth, (N, H, W), float32.
        truth: (N, H, W), ``bool``.

    Returns:
        The sums over the foreground, and over the background, (N,) each, float64.
    """
    squared = squared_distance(truth, (errors > 0) & ~truth)
    pixels, nearest = nearest_foreground(truth, squared)
    # Only what lies within 7 by 7 pixels of the foreground can reach it by smoothing.
    outside = errors.masked_fill(truth, 0)
    dependent = errors.clone()
    dependent.view(-1)[pixels] = errors.view(-1)[nearest]
    inside = torch.minimum(_smoothed(dependent), errors).masked_fill_(~truth, 0)
    less = squared.float().sqrt_().mul_(-math.log(2) / HALF_LIFE).exp_().mul_(outside)
    background = 2 * outside.sum((1, 2), dtype=torch.float64) - less.sum((1, 2), dtype=torch.float64)
    return inside.sum((1, 2), dtype=torch.float64), background
