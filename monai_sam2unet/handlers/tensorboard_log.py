# SPDX-License-Identifier: Apache-2.0
"""Curves and overlays of a training, for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from monai_sam2unet.evaluation.overlay import CLASS_COLOURS, GREEN, draw_overlay

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLog"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class TensorBoardLog:
    """Writes loss and learning rate of the trainer, the validator's metrics, and overlays of the first held-out images.

    Args:
        log_dir: folder of the event files.
        validator: the engine that validates, run before this handler (attach it earlier); its outputs are lists of
            dicts with ``image`` (C, H, W), ``label`` and ``pred`` (1, H, W), or of several classes one-hot (K, H, W)
            with the background first.
        max_images: how many overlays an epoch.
        mean: what the images were centred by, one value a channel.
        std: what they were divided by.
    """

    def __init__(
        self,
        log_dir: str | Path,
        validator: Engine,
        max_images: int = 4,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        self.log_dir = str(log_dir)
        self.validator = validator
        self.max_images = max_images
        self.mean, self.std = mean, std
        self._writer: SummaryWriter | None = None
        self._images_left = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer (and to the validator)."""
        if idist.get_rank() != 0:
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_loss)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log_epoch)
        engine.add_event_handler(Events.COMPLETED, self._close)
        self.validator.add_event_handler(Events.EPOCH_STARTED, self._start_images)
        self.validator.add_event_handler(Events.ITERATION_COMPLETED, self._log_images)

    def _open(self, engine: Engine) -> None:
        # At the first epoch of this run: a resumed one does not begin with epoch 1, and only now knows its iteration.
        if self._writer is not None:
            return
        from torch.utils.tensorboard import SummaryWriter

        # What a broken-off training logged after its last checkpoint is done again.
        self._writer = SummaryWriter(self.log_dir, purge_step=engine.state.iteration + 1)

    def _log_loss(self, engine: Engine) -> None:
        output: Any = engine.state.output
        if self._writer is not None and output:
            self._writer.add_scalar("train/loss", float(output[0]["loss"]), engine.state.iteration)

    def _log_epoch(self, engine: SupervisedTrainer) -> None:
        if self._writer is None:
            return
        self._writer.add_scalar("train/learning_rate", engine.optimizer.param_groups[0]["lr"], engine.state.epoch)
        if self.validator.state.epoch == engine.state.epoch:  # else the metrics are those of an earlier epoch
            for name, value in self.validator.state.metrics.items():
                # Metrics by class may be tensors and dicts; MONAI gives the classes of a dict names of their own, too.
                is_number = isinstance(value, (int, float)) or (isinstance(value, torch.Tensor) and value.numel() == 1)
                if is_number and not math.isnan(float(value)):  # NaN: no image shows the class
                    self._writer.add_scalar(f"validation/{name}", float(value), engine.state.epoch)
        self._writer.flush()

    def _start_images(self, engine: Engine) -> None:
        self._images_left = self.max_images

    def _log_images(self, engine: Engine) -> None:
        if self._writer is None or self._images_left <= 0:
            return
        output: Any = engine.state.output
        for item in output[: self._images_left]:
            number = self.max_images - self._images_left
            image = torch.as_tensor(item["image"]).cpu().float()
            shape = (-1, 1, 1)
            image = image * torch.tensor(self.std).view(shape) + torch.tensor(self.mean).view(shape)
            pixels = image.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            masks = [torch.as_tensor(item[key]) for key in ("pred", "label")]
            prediction, truth = (np.asarray((mask.argmax(0) if len(mask) > 1 else mask[0]).cpu()) for mask in masks)
            colours = CLASS_COLOURS if len(masks[0]) > 1 else (GREEN,)
            overlay = draw_overlay(pixels, prediction, truth, colours=colours)
            self._writer.add_image(f"validation/{number}", overlay, engine.state.epoch, dataformats="HWC")
            self._images_left -= 1

    def _close(self, engine: Engine) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
