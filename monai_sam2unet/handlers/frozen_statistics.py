# SPDX-License-Identifier: Apache-2.0
"""Lets BatchNorm keep the statistics of trained weights while these are trained further."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

__all__ = ["FrozenStatistics"]


def _evaluate(module: nn.Module, _: object) -> None:
    module.eval()


class FrozenStatistics:
    """Has the BatchNorm layers of a network normalise by their running statistics, and not change them, in a training.

    A few batches of few images say little about the statistics of a feature: trained weights that are trained further
    on them lose those of the images that they were trained on. Scale and shift are trained as all else. Trainers turn
    on the training mode before each step, so the layers leave it when they are called.

    Args:
        network: that is trained.
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self._hooks: list[RemovableHandle] = []

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, until its run ends."""
        engine.add_event_handler(Events.STARTED, self)
        for event in (Events.COMPLETED, Events.TERMINATE):
            engine.add_event_handler(event, self.release)

    def __call__(self, engine: Engine) -> None:
        """Freeze them from now on."""
        self.release()
        self._hooks = [layer.register_forward_pre_hook(_evaluate) for layer in self.layers]

    def release(self) -> None:
        """Let them learn statistics again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
