# SPDX-License-Identifier: Apache-2.0
"""Writes the best weights and the state to resume from, in a way that a crash or a full disk cannot spoil."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from monai_sam2unet.errors import CheckpointError, ConfigError
from monai_sam2unet.handlers.weight_average import WeightAverage
from monai_sam2unet.networks import frozen_sha256, light_state_dict

__all__ = ["TrainingCheckpoint", "save_atomically"]

logger = logging.getLogger(__name__)


def save_atomically(content: Any, path: Path) -> None:
    """``torch.save`` beside the path, then rename: the file there is the old one or the new one, never half of one.

    Raises:
        CheckpointError: When the file cannot be written (disk full, no permission); what was there is unchanged.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        # Where the system refuses in the middle of a file, torch raises an error of its own in reply.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise CheckpointError(
            f"The checkpoint {path} could not be written: {reason}. What was there before is unchanged. Make room or "
            "give another folder (`--ckpt_dir`), then go on from the last epoch saved with `--resume True`."
        ) from error


class TrainingCheckpoint:
    """Saves after each epoch; resumes where asked to.

    ``model.pt`` holds the network's weights of the epoch with the best validation metric: a plain full state dict, or a
    light checkpoint (see :mod:`monai_sam2unet.networks.light_checkpoint`). ``last.pt`` holds all that is needed to go
    on: network, average of its weights, optimiser, epoch, best metric. The learning rate of a resumed training is that
    of its own schedule.

    Args:
        ckpt_dir: folder to write to; it exists.
        network: the network itself, not its distributed wrapper.
        optimizer: its optimiser.
        lr_scheduler: the schedule, stepped before this handler (attach it earlier).
        validator: the engine that validates, run before this handler (attach it earlier).
        metric: which of the validator's metrics; the larger, the better. Where no epoch is validated, ``model.pt``
            holds the last one's weights.
        light: whether frozen parameters are left out of both files.
        resume: whether to go on from ``last.pt``.
        average: average of the network's weights, if there is one: ``model.pt`` then holds it. It is attached with
            this handler.

    Raises (when the engine runs):
        CheckpointError: When a file cannot be written, or there is nothing to resume from that fits.
        ConfigError: When the validator has no such metric.
    """

    def __init__(
        self,
        ckpt_dir: str | Path,
        network: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LambdaLR,
        validator: Engine,
        metric: str = "val_mean_dice",
        light: bool = False,
        resume: bool = False,
        average: WeightAverage | None = None,
    ) -> None:
        self.best_path = Path(ckpt_dir) / "model.pt"
        self.last_path = Path(ckpt_dir) / "last.pt"
        self.network = network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.validator = validator
        self.metric = metric
        self.light = light
        self.resume = resume
        self.average = average or WeightAverage(network)
        self.best_metric = -math.inf
        self.best_epoch = 0
        self._frozen_sha256: str | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        self.average.attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    @property
    def _has_average(self) -> bool:
        return self.average.network is not self.network

    def _weights(self, network: nn.Module) -> dict[str, Any]:
        if not self.light:
            return network.state_dict()
        return light_state_dict(network, self._frozen_hash())

    def _take_weights(self, network: nn.Module, weights: dict[str, Any]) -> None:
        if self.light:
            self._check_frozen(weights["frozen_sha256"])
            weights = {**network.state_dict(), **weights["state_dict"]}
        network.load_state_dict(weights)

    def _frozen_hash(self) -> str:
        """Hash of the frozen parameters; they do not change, and Large takes a while."""
        if self._frozen_sha256 is None:
            self._frozen_sha256 = frozen_sha256(self.network)
        return self._frozen_sha256

    def _start(self, engine: Engine) -> None:
        if self.resume:
            self._load(engine)
        elif self.best_path.exists() and idist.get_rank() == 0:
            logger.warning(f"{self.best_path} of an earlier training will be replaced after the first epoch.")

    def _load(self, engine: Engine) -> None:
        if not self.last_path.is_file():
            raise CheckpointError(f"There is no {self.last_path} to resume from. Leave out `--resume` to start anew.")
        try:
            state = torch.load(self.last_path, map_location="cpu", weights_only=True)
            self._take_weights(self.network, state["network"])
            if self._has_average:
                self._take_weights(self.average.network, state["average"])
                self.average.steps = state["averaged_steps"]
            settings = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
            self.optimizer.load_state_dict(state["optimizer"])
            self.best_metric, self.best_epoch = state["best_metric"], state["best_epoch"]
            epoch = int(state["epoch"])
        except CheckpointError:
            raise
        except Exception as error:  # what a spoilt file raises in torch is of many kinds
            raise CheckpointError(
                f"{self.last_path} cannot be resumed from: {' '.join(str(error).splitlines()[:2])}\n"
                "It must come from a training of the same network (`--encoder_size`, `--adapter_channels`, "
                "`--lora_rank`) with the same `--freeze_encoder`, `--unfrozen_stages`, `--layer_decay`, `--ema_decay` "
                "and `--light_checkpoints`."
            ) from error
        self._apply_settings(settings, epoch)
        engine.state.epoch = epoch
        engine.state.iteration = epoch * (engine.state.epoch_length or 0)
        if idist.get_rank() == 0:
            logger.info(f"Resumed from {self.last_path} after epoch {epoch}.")
            if epoch >= (engine.state.max_epochs or 0):
                logger.info(f"All {engine.state.max_epochs} epochs are done; nothing is left to train.")

    def _apply_settings(self, settings: list[dict[str, Any]], epoch: int) -> None:
        """Let the config's learning rate, schedule and weight decay hold, not those of the broken-off training."""
        for group, given in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(given)
        self.lr_scheduler.last_epoch = epoch
        for group, rate, factor in zip(
            self.optimizer.param_groups, self.lr_scheduler.base_lrs, self.lr_scheduler.lr_lambdas, strict=True
        ):
            group["lr"] = rate * factor(epoch)

    def _check_frozen(self, sha256: str) -> None:
        if self._frozen_hash() != sha256:
            raise CheckpointError(
                f"{self.last_path} was trained on other frozen encoder weights; give the same `--weights` as then."
            )

    def _improved(self, epoch: int) -> bool:
        """Whether this epoch was validated, and better than those before."""
        # A metric of another epoch is left over where validation is not due every epoch.
        if self.validator.state.epoch != epoch:
            return False
        found = self.validator.state.metrics
        if self.metric not in found:
            raise ConfigError(f"The validation gives no metric {self.metric!r}; it gives {', '.join(found)}.")
        value = float(found[self.metric])
        value = -math.inf if math.isnan(value) else value  # no held-out image shows the object
        if self.best_epoch > 0 and value <= self.best_metric:
            return False
        self.best_metric, self.best_epoch = value, epoch
        return True

    def _finish(self, engine: Engine) -> None:
        if self.best_epoch == 0 and idist.get_rank() == 0:
            logger.warning(f"No epoch was validated: {self.best_path} holds the weights of the last one.")
            save_atomically(self._weights(self.average.network), self.best_path)

    def _save(self, engine: Engine) -> None:
        improved = self._improved(engine.state.epoch)
        if idist.get_rank() != 0:
            return
        if improved:
            save_atomically(self._weights(self.average.network), self.best_path)
        state = {
            "network": self._weights(self.network),
            "optimizer": self.optimizer.state_dict(),
            "epoch": engine.state.epoch,
            "best_metric": self.best_metric,
            "best_epoch": self.best_epoch,
        }
        if self._has_average:
            state |= {"average": self._weights(self.average.network), "averaged_steps": self.average.steps}
        save_atomically(state, self.last_path)
