# SPDX-License-Identifier: Apache-2.0
"""What is trained, and how fast, as the bundles' configs ask for it."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import torch
from monai.optimizers import generate_param_groups
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks.layouts import is_added

__all__ = ["cosine_schedule", "distribute", "trained_parameters"]

_OF_ENCODER = re.compile(r"encoder\.(?:hiera\.)?(?:blocks\.(\d+)|patch_embed|pos_embed)")


def _depth(name: str) -> int | None:
    """Place of a parameter in the encoder: -1 for patch and position embedding, then the block; None for the rest."""
    found = _OF_ENCODER.search(name)
    return None if found is None or is_added(name) else int(found[1] or -1)


def _is_trained_at(depth: int | None, named: tuple[str, nn.Parameter]) -> bool:
    return named[1].requires_grad and _depth(named[0]) == depth


def trained_parameters(
    network: nn.Module, learning_rate: float | None = None, layer_decay: float = 1.0
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """The parameters that require a gradient, for an optimiser; frozen ones get no optimiser state.

    With ``layer_decay`` below 1 the encoder is trained the slower, the nearer a layer is to the image: of n blocks,
    block i (from 0) at ``learning_rate * layer_decay**(n - i)``, patch and position embedding at
    ``learning_rate * layer_decay**(n + 1)``. Decoder, adapters and LoRA keep the full rate. The decay is that of BEiT
    (Bao et al., arXiv 2106.08254); it is meant for full fine-tuning.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet` or MONAI's FlexibleUNet with its encoder, bare or
            distributed.
        learning_rate: the optimiser's rate; needed where ``layer_decay`` is below 1.
        layer_decay: factor from block to block, above 0 and at most 1.

    Returns:
        The parameters; or with ``layer_decay`` below 1 their groups, the one of the full rate first, each with its
        rate as ``lr``, which a schedule scales.

    Raises:
        ConfigError: When ``layer_decay`` is out of its range; or it is below 1 and there is no ``learning_rate``, or
            nothing of the encoder itself is trained.
    """
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay must lie above 0 and be at most 1, got {layer_decay}.")
    if layer_decay == 1:
        return [p for p in network.parameters() if p.requires_grad]
    if learning_rate is None:
        raise ConfigError(f"layer_decay {layer_decay} needs the learning rate that it starts from.")
    parameters = list(network.named_parameters())
    trained = sorted({d for name, p in parameters if p.requires_grad and (d := _depth(name)) is not None}, reverse=True)
    if not trained:
        raise ConfigError(
            f"layer_decay {layer_decay} has no effect on a frozen encoder. Train the encoder "
            "(`--freeze_encoder False`, or some stages of it by `--unfrozen_stages`), or leave layer_decay at 1."
        )
    num_blocks = 1 + max(d for name, _ in parameters if (d := _depth(name)) is not None)
    rates = [learning_rate, *(learning_rate * layer_decay ** (num_blocks - d) for d in trained)]
    matches = [partial(_is_trained_at, place) for place in (None, *trained)]
    groups = generate_param_groups(network, matches, "filter", rates, include_others=False)
    return [{**group, "params": list(group["params"])} for group in groups]  # MONAI's can be read once only


def cosine_schedule(
    optimizer: torch.optim.Optimizer, max_epochs: int, warmup_epochs: int = 0, end_learning_rate: float = 1e-7
) -> LambdaLR:
    """Half a cosine from the optimiser's learning rate down to ``end_learning_rate``, stepped once an epoch.

    Args:
        optimizer: holds the initial learning rate. Of several groups of parameters the largest rate is meant; the
            others keep their ratio to it.
        max_epochs: length of the training in epochs.
        warmup_epochs: epochs before the cosine; 0 for none. The first is trained at a tenth of the rate; where there
            are several, the next ones rise in equal steps, and the whole rate comes with the first epoch after them. A
            training of no more epochs than that has no warm-up.
        end_learning_rate: the rate after the last epoch.

    Raises:
        ConfigError: When ``max_epochs`` is below 1, ``warmup_epochs`` below 0, or the learning rate not above 0.
    """
    if max_epochs < 1 or warmup_epochs < 0:
        raise ConfigError(
            f"max_epochs must be at least 1 and warmup_epochs at least 0, got {max_epochs} and {warmup_epochs}."
        )
    initial = max(float(group["lr"]) for group in optimizer.param_groups)
    if initial <= 0:
        raise ConfigError(f"The learning rate must be above 0, got {initial}.")
    warmup = warmup_epochs if warmup_epochs < max_epochs else 0

    # A closed form of the epoch: a resumed training may be given more epochs than it was begun with.
    def factor(epoch: int) -> float:
        if epoch < warmup:
            return 0.1 + 0.9 * epoch / warmup
        done = min(1.0, (epoch - warmup) / (max_epochs - warmup))
        return (end_learning_rate + (initial - end_learning_rate) * (1 + math.cos(math.pi * done)) / 2) / initial

    return LambdaLR(optimizer, factor)


def distribute(network: nn.Module, device: torch.device | str) -> DistributedDataParallel:
    """Put a network on this process's device and average its gradients over the processes."""
    device = torch.device(device)  # a command line gives text
    device_ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network.to(device), device_ids=device_ids)
