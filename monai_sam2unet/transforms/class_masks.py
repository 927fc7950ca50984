# SPDX-License-Identifier: Apache-2.0
"""Predictions to classes: the largest channel, or channels above thresholds, a few planes at a time.

Volumes are large: nothing of a prediction's size is made but the result, one byte a class and voxel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["ACTIVATIONS", "above_thresholds", "largest_channel"]

#: What makes probabilities of logits.
ACTIVATIONS = ("sigmoid", "softmax")

#: Pixels that are worked on at once.
SLAB = 2**20


def _slabs(x: Tensor) -> Iterator[slice]:
    """Ranges of the first spatial axis of (K, ...)."""
    step = max(1, SLAB // max(1, x[0, 0].numel()))
    return (slice(first, first + step) for first in range(0, x.shape[1], step))


def _by_slab(x: Tensor, channels: int, write: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A uint8 tensor (channels, ...), written slab by slab by what returns whether all values are numbers."""
    out = torch.empty((channels, *x.shape[1:]), dtype=torch.uint8, device=x.device)
    numbers = torch.ones((), dtype=torch.bool, device=x.device)
    for slab in _slabs(x):
        numbers &= write(x[:, slab], out[:, slab])
    if not bool(numbers):
        raise DataError(
            "The prediction holds NaN or is infinite: the network or its input is broken, and no class can be told."
        )
    return out


def largest_channel(x: Tensor) -> Tensor:
    """The channel with the largest value; of equal ones the first.

    Args:
        x: (K, H, W) or (K, X, Y, Z), 2 to 256 channels.

    Returns:
        (1, H, W) or (1, X, Y, Z), uint8.

    Raises:
        ConfigError: When it has fewer channels, or more.
        DataError: When a value is NaN, or the largest one infinite.
    """
    if not 2 <= len(x) <= 256:
        raise ConfigError(f"The largest of 2 to 256 channels is a class; the prediction has {len(x)}.")

    def write(part: Tensor, out: Tensor) -> Tensor:
        # On a CPU six times as fast as argmax, and NaN is handed on. What is infinite softmax would make NaN.
        largest, out[0] = part.max(0)
        return torch.isfinite(largest).all()

    return _by_slab(x, 1, write)


def _logit(threshold: float) -> float:
    """What a logit must at least be for its sigmoid to reach the threshold."""
    # 1 is the sigmoid of infinity.
    return math.inf if threshold == 1 else math.log(threshold) - math.log1p(-threshold)


def above_thresholds(x: Tensor, thresholds: Sequence[float], activation: str | None = None) -> Tensor:
    """Where each channel's probability is at least its threshold.

    Args:
        x: (K, H, W) or (K, X, Y, Z), probabilities, or logits if there is an activation.
        thresholds: K probabilities, above 0 and at most 1.
        activation: None, ``"sigmoid"``, or ``"softmax"`` over the channels. The sigmoid is not computed: logits are
            held against the threshold's logit, so that large ones cannot be rounded to a probability of 1.

    Returns:
        Masks of 0 and 1, uint8, of ``x``'s shape.

    Raises:
        DataError: When a value is NaN.

    Example:
        >>> above_thresholds(torch.tensor([[[-1.0, 0.0, 1.0]]]), [0.5], "sigmoid").tolist()
        [[[0, 1, 1]]]
    """
    limits = [_logit(threshold) for threshold in thresholds] if activation == "sigmoid" else thresholds

    def write(part: Tensor, out: Tensor) -> Tensor:
        if activation == "softmax":
            part = torch.softmax(part.to(torch.promote_types(part.dtype, torch.float32)), 0)
        for channel, mask, limit in zip(part, out, limits, strict=True):
            torch.ge(channel, limit, out=mask.view(torch.bool))
        return ~torch.isnan(part).any()

    return _by_slab(x, len(x), write)
