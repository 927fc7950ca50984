# SPDX-License-Identifier: Apache-2.0
"""Makes each epoch's random numbers depend on the seed and the epoch alone."""

from __future__ import annotations

import random

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

__all__ = ["EpochSeed"]


class EpochSeed:
    """Seeds torch, NumPy, Python and the data set's transforms at the start of each epoch.

    An epoch then draws the same numbers whether the training came to it without a break or was resumed before it. In
    distributed training each process draws its own.

    Args:
        seed: of the whole training, at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed for the epoch that starts."""
        sequence = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        set_rnd(getattr(engine.state.dataloader, "dataset", None), seed % 2**31)
