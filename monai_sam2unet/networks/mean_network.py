# SPDX-License-Identifier: Apache-2.0
"""Several networks as one, whose probabilities are the mean of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError

__all__ = ["MeanNetwork"]


class MeanNetwork(nn.Module):
    """Networks of several trainings (folds, seeds) averaged at inference.

    What it gives are logits again, so that it takes the place of one network everywhere: their sigmoid, where there is
    one channel, or their softmax, where there are several, is the mean of the networks' probabilities. They are
    computed from the logarithms of these, so that none is rounded to 0 or 1. The networks run one after the other.

    Args:
        networks: at least one; they take the same images and give the same channels.

    Attributes:
        networks: the networks.

    Raises:
        ConfigError: When there is no network.

    Example:
        >>> image = torch.tensor([[[[2.0, -1.0]]]])
        >>> mean = MeanNetwork([nn.Identity(), nn.Conv2d(1, 1, 1)]).eval()
        >>> expected = (image.sigmoid() + mean.networks[1](image).sigmoid()) / 2
        >>> torch.allclose(mean(image).sigmoid(), expected)
        True
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        if not len(self.networks):
            raise ConfigError("A mean is of at least one network; none is given.")

    def forward(self, x: Tensor) -> Tensor:
        """Segment images.

        Args:
            x: images (B, in_channels, H, W), as each of the networks takes them.

        Returns:
            Logits (B, out_channels, H, W), float32.

        Raises:
            ConfigError: When a network gives several outputs, as in training with deep supervision; or the networks
                give different shapes.
        """
        first, *others = self.networks
        total = _log_probabilities(first(x))
        for number, network in enumerate(others, 1):
            own = _log_probabilities(network(x))
            if own[0].shape != total[0].shape:
                raise ConfigError(
                    f"Network {number} gives the shape {tuple(own[0].shape)}, those before it {tuple(total[0].shape)}; "
                    "only networks of the same channels can be averaged."
                )
            total = [torch.logaddexp(a, b) for a, b in zip(total, own, strict=True)]
        # These are logarithms of sums. Of means they would be less by the same number all, which changes no result.
        return total[0] - total[1] if len(total) == 2 else total[0]


def _log_probabilities(logits: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Of one channel the logarithms of its probability and of the background's; of several those of all in one."""
    if not isinstance(logits, Tensor):
        raise ConfigError("Networks are averaged for inference, not in training; call eval() first.")
    logits = logits.float()
    if logits.shape[1] == 1:
        return [F.logsigmoid(logits), F.logsigmoid(-logits)]
    return [F.log_softmax(logits, 1)]
