# SPDX-License-Identifier: Apache-2.0
"""Keeps an exponential moving average of a network's weights beside the training."""

from __future__ import annotations

import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from monai_sam2unet.errors import ConfigError

__all__ = ["WeightAverage"]


class WeightAverage:
    """After each step of the optimiser moves a copy of the network a little towards it (EMA).

    The copy begins as the network after the first step; BatchNorm's statistics are averaged likewise.

    Args:
        network: the network itself, not its distributed wrapper, on the device that it is trained on.
        decay: share of itself that the average keeps in a step, in [0, 1), such as 0.99; 0 for no average.

    Attributes:
        network: what is to be validated and kept: the average; or with a decay of 0 the network itself.

    Raises:
        ConfigError: When ``decay`` is outside [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"decay (`--ema_decay`) must lie in [0, 1), got {decay!r}.")
        self.trained = network
        self._average = None
        if decay > 0:
            self._average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.network: nn.Module = network if self._average is None else self._average.module

    @property
    def steps(self) -> int:
        """Number of steps averaged; to be set when a training is resumed."""
        return 0 if self._average is None else int(self._average.n_averaged)

    @steps.setter
    def steps(self, value: int) -> None:
        if self._average is not None:
            self._average.n_averaged.fill_(value)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self._average is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Take this step into the average."""
        if self._average is not None:
            self._average.update_parameters(self.trained)

    def share_buffers(self) -> None:
        """Give :attr:`network` on all processes the buffers of the first, such as BatchNorm's statistics.

        Each process takes them from its own images. Parameters are the same everywhere, as gradients are averaged.
        """
        if dist.is_available() and dist.is_initialized():
            for buffer in self.network.buffers():
                dist.broadcast(buffer, src=0)
