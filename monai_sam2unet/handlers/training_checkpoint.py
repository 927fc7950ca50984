# SPDX-License-Identifier: Apache-2.0
"""Writes the best weights and the state to resume from, in a way that a crash or a full disk cannot spoil."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import CheckpointError, ConfigError, listing
from monai_sam2unet.handlers.atomic_file import save_atomically, save_with_cases
from monai_sam2unet.handlers.weight_average import WeightAverage
from monai_sam2unet.networks import frozen_sha256, light_state_dict

__all__ = ["TrainingCheckpoint"]

logger = logging.getLogger(__name__)
ADVICE = "Make room or give another folder (`--ckpt_dir`), then go on from the last epoch saved with `--resume True`."


class TrainingCheckpoint:
    """Saves after each epoch; resumes where asked to.

    ``model.pt`` holds the network's weights of the epoch with the best validation metric: a plain full state dict, or a
    light checkpoint (see :mod:`monai_sam2unet.networks.light_checkpoint`). ``last.pt`` holds all that is needed to go
    on: network, average of its weights, optimiser, epoch, best metric. The learning rate of a resumed training is that
    of its own schedule. In a distributed training all processes validate what the first one would save.

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
        cases: what is trained on and chosen by, if it is to be kept; a resumed training must have the same.

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
        cases: TrainingCases | None = None,
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
        self.cases = cases
        self.best_metric = -math.inf
        self.best_epoch = 0
        self._frozen_sha256: str | None = None
        self._are_cases_written = False

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        self.average.attach(engine)
        # The distributed wrapper shares buffers at the start of a step: after an epoch's last each process has its own.
        self.validator.add_event_handler(Events.STARTED, self.average.share_buffers)
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
            self._check_cases(state.get("cases"))
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

    def _check_cases(self, content: dict[str, Any] | None) -> None:
        if self.cases is None:
            return
        if content is None:
            if idist.get_rank() == 0:
                logger.warning(f"{self.last_path} does not say what was trained on; it is taken to be the same as now.")
            return
        before = TrainingCases.from_content(content, self.last_path)
        lines = before.differences(self.cases)
        if lines:
            raise CheckpointError(
                f"{self.last_path} is of a training on other cases; going on would train on what the first part "
                "validated on or left out. Give the `--dataset_dir`, sets, `--split_file`, `--fold`, `--num_folds`, "
                "`--group_pattern`, `--val_fraction`, `--max_cases` and `--seed` of then, or start anew in another "
                f"`--ckpt_dir`:\n{listing(lines)}"
            )
        if before.settings and before.settings != self.cases.settings and idist.get_rank() == 0:
            logger.warning(
                f"{self.last_path} was trained with {json.dumps(before.settings)}, and goes on with "
                f"{json.dumps(self.cases.settings)}: {self.best_path.name} is replaced, and they are noted beside it, "
                "where an epoch is better than the best one before."
            )
        # Where the weights are resumed from the file, `--weights` of now are not what it started from.
        unknown = before.unknown if "unknown" in content else self.cases.unknown
        self.cases = replace(self.cases, earlier=before.earlier, unknown=unknown)

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
            self._save_best()

    def _save_best(self) -> None:
        if self._are_cases_written:
            save_atomically(self._weights(self.average.network), self.best_path, advice=ADVICE)
            return
        save_with_cases(self._weights(self.average.network), self.best_path, self.cases, ADVICE)
        self._are_cases_written = True

    def _save(self, engine: Engine) -> None:
        improved = self._improved(engine.state.epoch)
        if idist.get_rank() != 0:
            return
        if improved:
            self._save_best()
        state = {
            "network": self._weights(self.network),
            "optimizer": self.optimizer.state_dict(),
            "epoch": engine.state.epoch,
            "best_metric": self.best_metric,
            "best_epoch": self.best_epoch,
        }
        if self.cases is not None:
            state["cases"] = self.cases.content()
        if self._has_average:
            state |= {"average": self._weights(self.average.network), "averaged_steps": self.average.steps}
        save_atomically(state, self.last_path, advice=ADVICE)
