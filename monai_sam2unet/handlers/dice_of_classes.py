# SPDX-License-Identifier: Apache-2.0
"""Dice of each class, as a metric of its own name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric

from monai_sam2unet.metrics.case_metric import reduce_scores

__all__ = ["DiceOfClasses"]


class DiceOfClasses(IgniteMetricHandler):
    """MONAI's Dice of each class over the images whose truth shows it; NaN where none does, for which MONAI gives 0.

    Args:
        names: of the classes without the background, under which their Dice stands in ``engine.state.metrics``.
        output_transform: takes the engine's output to predictions and truth, one-hot with the background first.
        save_details: whether each image's Dice of each class, (N, C), is put into ``engine.state.metric_details``.
    """

    def __init__(
        self,
        names: Sequence[str],
        output_transform: Callable[[Any], Any] = lambda x: x,
        save_details: bool = True,
    ) -> None:
        metric = DiceMetric(include_background=False, reduction="none")
        super().__init__(metric, output_transform=output_transform, save_details=save_details)
        self.names = tuple(names)

    def compute(self) -> dict[str, float]:
        """Dice by name."""
        super().compute()  # keeps the details
        means, _ = reduce_scores(self.metric_fn.get_buffer(), "mean_batch")
        return dict(zip(self.names, means.tolist(), strict=True))
