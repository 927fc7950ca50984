# SPDX-License-Identifier: Apache-2.0
"""Several losses as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from monai_sam2unet.errors import ConfigError

__all__ = ["WeightedSumLoss"]


class WeightedSumLoss(nn.Module):
    """Sum of losses of the same prediction, each with its weight; a loss of weight 0 is not computed.

    Args:
        losses: each takes a prediction and a truth, and gives a scalar.
        weights: one for each loss, at least 0, and not all 0.

    Raises:
        ConfigError: When there are not as many weights as losses, a weight is negative or no number, or all are 0.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> loss = WeightedSumLoss([nn.L1Loss(), nn.MSELoss()], [1.0, 0.5])
        >>> loss(torch.full((1, 1), 2.0), torch.zeros(1, 1))
        tensor(4.)
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        allowed = all(math.isfinite(weight) and weight >= 0 for weight in weights) and any(weights)
        if len(losses) != len(weights) or not allowed:
            raise ConfigError(
                f"{len(losses)} losses need as many weights of at least 0, not all 0; got {list(weights)} (of a bundle "
                "the second is `--hausdorff_weight`, the third `--cldice_weight`)."
            )
        used = [(loss, float(weight)) for loss, weight in zip(losses, weights, strict=True) if weight]
        self.losses = nn.ModuleList(loss for loss, _ in used)
        self.weights = [weight for _, weight in used]

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            input: the prediction, as each of the losses takes it.
            target: the truth, likewise.

        Returns:
            A scalar.
        """
        terms = [w * loss(input, target) for loss, w in zip(self.losses, self.weights, strict=True)]
        total: Tensor = sum(terms[1:], start=terms[0])
        return total
