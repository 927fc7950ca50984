# SPDX-License-Identifier: Apache-2.0
"""What is trained, and how fast, as the bundles' configs ask for it."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from monai_sam2unet.errors import ConfigError

__all__ = ["cosine_schedule", "distribute", "trained_parameters"]


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that require a gradient; frozen ones get no optimiser state."""
    return [p for p in network.parameters() if p.requires_grad]


def cosine_schedule(
    optimizer: torch.optim.Optimizer, max_epochs: int, warmup_epochs: int = 0, end_learning_rate: float = 1e-7
) -> LambdaLR:
    """Half a cosine from the optimiser's learning rate down to ``end_learning_rate``, stepped once an epoch.

    Args:
        optimizer: holds the initial learning rate.
        max_epochs: length of the training in epochs.
        warmup_epochs: epochs before the cosine, over which the rate rises linearly from a tenth; 0 for none. A training
            of no more epochs than that has no warm-up.
        end_learning_rate: the rate after the last epoch.

    Raises:
        ConfigError: When ``max_epochs`` is below 1, ``warmup_epochs`` below 0, or the learning rate not above 0.
    """
    if max_epochs < 1 or warmup_epochs < 0:
        raise ConfigError(
            f"max_epochs must be at least 1 and warmup_epochs at least 0, got {max_epochs} and {warmup_epochs}."
        )
    if optimizer.param_groups[0]["lr"] <= 0:
        raise ConfigError(f"The learning rate must be above 0, got {optimizer.param_groups[0]['lr']}.")
    warmup = warmup_epochs if warmup_epochs < max_epochs else 0
    initial = float(optimizer.param_groups[0]["lr"])

    # A closed form of the epoch: a resumed training may be given more epochs than it was begun with.
    def factor(epoch: int) -> float:
        if epoch < warmup:
            return 0.1 + 0.9 * epoch / warmup
        done = min(1.0, (epoch - warmup) / (max_epochs - warmup))
        return (end_learning_rate + (initial - end_learning_rate) * (1 + math.cos(math.pi * done)) / 2) / initial

    return LambdaLR(optimizer, factor)


def distribute(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Put a network on this process's device and average its gradients over the processes."""
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network.to(device), device_ids=device_ids)
