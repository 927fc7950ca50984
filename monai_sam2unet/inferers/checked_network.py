# SPDX-License-Identifier: Apache-2.0
"""A network whose output is checked, so that a wrong one is told at once and in the user's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers.autocast_inferer import AutocastInferer
from monai_sam2unet.transforms.tensors import plain

__all__ = ["ACTIVATIONS", "CheckedNetwork"]

#: What may make probabilities of a network's output; "identity" where the network has done so.
ACTIVATIONS = ("sigmoid", "softmax", "identity")

#: How torch says that a convolution was made for another number of channels than it is given.
CHANNELS_DIFFER = re.compile(r"expected input\[\d+, (\d+)[^]]*\] to have (\d+) channels")


class CheckedNetwork:
    """Takes (N, C, H, W) and gives one float32 tensor (N, K, H, W).

    Args:
        network: the network.
        autocast: how it is run.
        activation: see :meth:`activated`.
        keeps_logits: whether only the order of the channels counts, which a softmax leaves as it is.
        args: given on to the network.
        kwargs: given on to the network.

    Raises:
        ConfigError: When the network is in training mode.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        autocast: AutocastInferer,
        activation: str | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        keeps_logits: bool = False,
    ) -> None:
        self.network = network
        self.autocast = autocast
        self.activation = activation
        self.keeps_logits = keeps_logits
        self.args = args
        self.kwargs = kwargs
        self._channels: int | None = None
        # An exported program has no mode to change: what it says of training means nothing, and its eval() refuses.
        if isinstance(network, nn.Module) and getattr(network, "training", False) and "eval" not in vars(network):
            raise ConfigError(
                "The network is in training mode: BatchNorm would mix the slices of a batch and change its statistics, "
                "dropout would drop. Call network.eval() first."
            )

    def _single(self, x: Tensor) -> Tensor:
        try:
            y = self.network(x, *self.args, **self.kwargs)
        except RuntimeError as error:
            told = CHANNELS_DIFFER.search(str(error))
            if told is None or int(told[1]) != x.shape[1]:
                raise
            raise ConfigError(
                f"The network was given slices of {told[1]} channels, {tuple(x.shape)}, and takes {told[2]}. Make "
                f"the network with in_channels={told[1]}, or the preset (HieraInput) with in_channels={told[2]}. "
                "Without a slice transform the channels are the volume's, times 2 * neighbours + 1."
            ) from error
        if not isinstance(y, Tensor):
            found = f"a {type(y).__name__} of {len(y)}" if hasattr(y, "__len__") else f"a {type(y).__name__}"
            raise ConfigError(
                f"The network must give one tensor, it gave {found}. With deep supervision call network.eval() first; "
                "else give a function that picks the main output."
            )
        return plain(y)

    def __call__(self, x: Tensor) -> Tensor:
        """Run the network.

        Raises:
            ConfigError: When it takes another number of channels, does not give (N, K, H, W), or gives another K than
                before.
        """
        y: Tensor = self.autocast(x, self._single)
        if y.ndim != 4 or len(y) != len(x) or y.shape[2:] != x.shape[2:]:
            raise ConfigError(
                f"For slices {tuple(x.shape)} the network must give ({len(x)}, K, {x.shape[2]}, {x.shape[3]}); "
                f"it gave {tuple(y.shape)}. Resize its output to the height and width of its input."
            )
        if self._channels not in (None, y.shape[1]):
            raise ConfigError(f"The network gave {self._channels} channels at first, and {y.shape[1]} later.")
        self._channels = y.shape[1]
        return y

    def activated(self, y: Tensor) -> Tensor:
        """The network's output (N, K, H, W) as it is averaged.

        Raises:
            ConfigError: When softmax is asked for on one channel.
        """
        if self.activation == "softmax":
            if y.shape[1] == 1:
                raise ConfigError("Softmax over a single channel is 1 everywhere. Take activation sigmoid.")
            return y if self.keeps_logits else torch.softmax(y, 1)
        if self.activation == "sigmoid":
            return torch.sigmoid(y)
        # A compiled network may write its next output where this one is.
        return y if self.activation is None else y.clone()
