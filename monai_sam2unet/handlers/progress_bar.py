# SPDX-License-Identifier: Apache-2.0
"""One bar for a whole training, with loss, Dice and the time left."""

from __future__ import annotations

import logging
import sys
import time

import ignite.distributed as idist
from ignite.engine import Engine, Events
from tqdm import tqdm

__all__ = ["ProgressBar"]

logger = logging.getLogger(__name__)


class ProgressBar:
    """Shows how far a training or an evaluation is; where there is no terminal, logs a line an epoch instead.

    Args:
        validator: the engine whose metrics are shown after each epoch, if any.
        metrics: names of these metrics.
        description: put before the bar.
    """

    def __init__(
        self,
        validator: Engine | None = None,
        metrics: tuple[str, ...] = ("val_mean_dice", "val_mean_iou"),
        description: str = "training",
    ) -> None:
        self.validator = validator
        self.metrics = tuple(metrics)
        self.description = description
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}
        self._losses: list[float] = []
        self._epoch_start = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or an evaluator, after the handlers whose results it shows."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end_epoch)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self._close)

    def _start_epoch(self, engine: Engine) -> None:
        self._losses = []
        self._epoch_start = time.monotonic()
        if self._bar is None and sys.stderr.isatty():
            length = engine.state.epoch_length or 0
            epochs = engine.state.max_epochs or 1
            done = (engine.state.epoch - 1) * length
            self._bar = tqdm(desc=self.description, total=epochs * length, initial=done, dynamic_ncols=True)

    def _step(self, engine: Engine) -> None:
        output = engine.state.output
        first = output[0] if isinstance(output, list) and output else output
        if isinstance(first, dict) and first.get("loss") is not None:
            self._losses.append(float(first["loss"]))
            self._shown["loss"] = f"{self._losses[-1]:.3f}"
        if self._bar is not None:
            self._bar.set_postfix({"epoch": f"{engine.state.epoch}/{engine.state.max_epochs}", **self._shown})
            self._bar.update()

    def _end_epoch(self, engine: Engine) -> None:
        self._shown = {k: v for k, v in self._shown.items() if k not in self.metrics}
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            found = self.validator.state.metrics
            self._shown |= {name: f"{float(found[name]):.4f}" for name in self.metrics if name in found}
        if self._bar is not None:
            self._bar.set_postfix({"epoch": f"{engine.state.epoch}/{engine.state.max_epochs}", **self._shown})
        elif self._losses:
            seconds = time.monotonic() - self._epoch_start
            left = seconds * ((engine.state.max_epochs or engine.state.epoch) - engine.state.epoch)
            shown = {**self._shown, "loss": f"{sum(self._losses) / len(self._losses):.4f}"}
            text = ", ".join(f"{name} {value}" for name, value in shown.items())
            logger.info(
                f"{self.description}: epoch {engine.state.epoch}/{engine.state.max_epochs}, {text}, "
                f"{seconds:.0f} s, about {left / 60:.0f} min left"
            )

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if error is not None:
            raise error
