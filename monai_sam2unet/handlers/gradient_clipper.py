# SPDX-License-Identifier: Apache-2.0
"""Clips gradients by their norm and stops a training that has gone astray."""

from __future__ import annotations

import math

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

from monai_sam2unet.errors import ConfigError, UserError

__all__ = ["GradientClipper"]


class GradientClipper:
    """Scales the gradients so that their common norm is at most ``max_norm``, before the optimiser's step.

    Args:
        network: whose gradients.
        max_norm: largest L2 norm; 0 clips nothing, but still checks.

    Raises:
        ConfigError: When ``max_norm`` is not a number of at least 0.
    """

    def __init__(self, network: nn.Module, max_norm: float = 0.0) -> None:
        if not isinstance(max_norm, (int, float)) or not max_norm >= 0:
            raise ConfigError(f"max_norm (`--clip_norm`) must be a number of at least 0, got {max_norm!r}.")
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.max_norm = float(max_norm) or math.inf

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip the gradients of this step.

        Raises:
            UserError: When a gradient is not finite; the optimiser has not made the step.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        if not torch.isfinite(norm):
            raise UserError(
                f"The gradient is not finite at epoch {engine.state.epoch}, iteration {engine.state.iteration}. "
                "The checkpoints of earlier epochs are as they were. Try a smaller `--learning_rate`, a smaller "
                "`--clip_norm`, more `--warmup_epochs`, or `--precision fp32`, and look for odd images in the data."
            )
