# SPDX-License-Identifier: Apache-2.0
"""The mean of several checkpoints' weights: one network, with no more work at inference than each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks.weights import read_whole_network
from monai_sam2unet.networks.weights_fit import check_tensors

__all__ = ["average_checkpoints"]


def average_checkpoints(checkpoints: Sequence[str | Path]) -> dict[str, Tensor]:
    """Average the weights of a network before and after it was trained further, or of several such trainings.

    Such networks mostly lie in one valley of the loss, and the mean is often better on images of other origin than the
    last one (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903, with a half; "Model soups",
    arXiv 2203.05482). Of trainings that started from other random adapters and decoders it is worth nothing: average
    their predictions (``ensemble.yaml``) instead. BatchNorm's statistics are averaged as all else.

    Args:
        checkpoints: at least two full checkpoints of networks with the same arguments.

    Returns:
        A full state dict; whole numbers, as BatchNorm's count of batches, are the first one's.

    Raises:
        ConfigError: When there are fewer than two.
        WeightsError: When one cannot be read, holds no whole network, or one of another shape than the first.
    """
    if len(checkpoints) < 2:
        raise ConfigError(f"An average needs at least two checkpoints, got {len(checkpoints)}.")
    mean = dict(read_whole_network(Path(checkpoints[0])).tensors)
    for count, path in enumerate(map(Path, checkpoints[1:]), start=2):
        tensors = read_whole_network(path).tensors
        check_tensors(tensors, mean, path, f" It is averaged with {checkpoints[0]}.")
        for name, value in tensors.items():
            if value.is_floating_point():
                mean[name] = torch.lerp(mean[name].float(), value.float(), 1 / count)
    return mean
