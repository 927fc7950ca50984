# SPDX-License-Identifier: Apache-2.0
"""What an image without object counts."""

from __future__ import annotations

from typing import Literal, Union

import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.metrics.map_statistics import Maps

__all__ = ["EmptyTruth", "check_empty_truth", "without_empty"]

EmptyTruth = Union[Literal["ignore", "score"], int]


def check_empty_truth(empty_truth: EmptyTruth, defined: bool) -> float:
    """Check the option, and say what 0/0 counts.

    Args:
        empty_truth: the option as given.
        defined: whether the measure is defined for images without object, so that ``"score"`` is allowed and numbers
            are not.

    Returns:
        0.0 or 1.0.

    Raises:
        ConfigError: When the option is not allowed.
    """
    allowed: tuple[EmptyTruth, ...] = ("ignore", "score") if defined else ("ignore", 0, 1)
    if isinstance(empty_truth, bool) or empty_truth not in allowed:
        raise ConfigError(f"empty_truth must be one of {', '.join(repr(a) for a in allowed)}, got {empty_truth!r}.")
    return float(empty_truth) if isinstance(empty_truth, (int, float)) else 0.0


def without_empty(scores: Tensor, maps: Maps, empty_truth: EmptyTruth) -> Tensor:
    """Scores, (N,) or (N, thresholds), with NaN for maps without object if these are to be ignored."""
    if empty_truth != "ignore":
        return scores
    empty = maps.counts[:, :, 1].sum(1) == 0
    return torch.where(empty if scores.ndim == 1 else empty[:, None], torch.nan, scores)
