# SPDX-License-Identifier: Apache-2.0
"""How sure a segmentation is, read from its probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError

__all__ = ["normalised_entropy"]


def normalised_entropy(probabilities: Tensor, activation: str, channel_dim: int = 0) -> Tensor:
    """Entropy as a share of the largest possible one: 0 where the prediction is certain, 1 where it says nothing.

    With ``"sigmoid"``, for each channel, H = -p log2(p) - (1 - p) log2(1 - p), which is also the entropy in bits. With
    ``"softmax"``, over the K channels, H = -sum_k p_k log(p_k) / log(K).

    Args:
        probabilities: class probabilities, channels on ``channel_dim``; rounding beyond [0, 1] is cut.
        activation: ``"sigmoid"`` for independent channels, ``"softmax"`` for channels that add up to 1.
        channel_dim: the dimension of the channels.

    Returns:
        The entropy in [0, 1], of the same shape; with ``"softmax"`` one channel.

    Raises:
        ConfigError: When ``activation`` is neither, or ``"softmax"`` has a single channel.

    Example:
        >>> normalised_entropy(torch.tensor([0.0, 0.5, 1.0]), "sigmoid")
        tensor([0., 1., 0.])
    """
    p = probabilities.clamp(0, 1)
    if activation == "sigmoid":
        return (torch.special.entr(p) + torch.special.entr(1 - p)) / math.log(2)
    if activation != "softmax":
        raise ConfigError(f"Entropy is defined for sigmoid and softmax, got activation {activation!r}.")
    classes = p.shape[channel_dim]
    if classes < 2:
        raise ConfigError("Softmax over a single channel is 1 everywhere and has no entropy: take sigmoid.")
    return torch.special.entr(p).sum(channel_dim, keepdim=True) / math.log(classes)
