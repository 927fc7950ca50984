# SPDX-License-Identifier: Apache-2.0
"""Goes on training a bundle's weights in use, by its own ``train.yaml``, and measures them before and after."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedEvaluator, Trainer
from monailabel.tasks.train.handler import prepare_stats
from torch import nn

from monai_sam2unet.bundle import BundleConfig, load_checkpoint, warn_of_other_settings
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.handlers import FrozenStatistics
from monai_sam2unet.label.published_weights import PublishedWeights
from monai_sam2unet.label.train_request import TrainRequest

__all__ = ["FineTuning"]

logger = logging.getLogger(__name__)

Cases = Sequence[Mapping[str, str]]


def _plain(value: Any) -> Any:
    """What JSON can hold: NaN and infinity it cannot."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class FineTuning:
    """One training, in a folder of its own, with light checkpoints: the frozen encoder is not stored again.

    Args:
        weights: that it starts from, and may replace.
        request: what was asked for.
        training: cases to train on, as of :func:`monai_sam2unet.bundle.training_datalist`.
        validation: cases held out.
        folder: of this training.

    Attributes:
        best: the checkpoint of the epoch with the best Dice of the cases held out.

    Raises:
        ConfigError: When a part of the config cannot be made with these settings.
        WeightsError: When the weights in use do not fit.
    """

    def __init__(
        self, weights: PublishedWeights, request: TrainRequest, training: Cases, validation: Cases, folder: Path
    ) -> None:
        self.weights = weights
        self.best = folder / "model.pt"
        device = {} if request.device is None else {"device": request.device}
        settings = {
            **weights.settings,
            **request.settings,
            **device,
            "bundle_root": str(weights.folder),
            "dataset_dir": str(Path(training[0]["image"]).parent),
            "datalist": {"training": list(training), "validation": list(validation)},
            "weights": str(weights.current),
            "network_def::weights": weights.encoder,
            "ckpt_dir": str(folder),
            "log_dir": str(folder / "runs"),
            "light_checkpoints": True,
            "resume": request.resume,
        }
        self._start = time.time()
        config = BundleConfig(weights.folder, settings, name="train.yaml")
        config.build("initialize")
        network: nn.Module = config.build("network_def")
        load_checkpoint(network, weights.current)
        warn_of_other_settings(weights.current, **config.input_settings)
        self.evaluator: SupervisedEvaluator = config.build("validate::evaluator")
        self.metric: str = self.evaluator.state.key_metric_name
        logger.info(f"Training on {len(training)} labels, {len(validation)} are held out.")
        self.dice_before = self._measure()
        logger.info(f"The weights in use have {self.metric} {self.dice_before:.4f} on the labels held out.")
        self.trainer: Trainer = config.build("train::trainer")
        # Those of a few labels are worse than those that the weights were trained with.
        FrozenStatistics(network).attach(self.trainer)

    def _measure(self) -> float:
        self.evaluator.run(1)
        state = self.evaluator.state
        # None of this was an epoch of the training.
        state.epoch, state.best_metric, state.best_metric_epoch = 0, -1, -1
        return float(state.metrics[self.metric])

    def stats(self) -> dict[str, Any]:
        """How far it is, as MONAI Label's trainings tell it."""
        found = prepare_stats(self._start, self.trainer, self.evaluator)
        # Viewers show this as the model's accuracy; NaN is neither larger nor a number that they can show.
        best = max(0.0, self.dice_before, found["best_metric"])
        return _plain({**found, "best_metric": best, "dice_before": self.dice_before})

    def run(self, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Train, measure the best epoch as the weights in use were measured, and replace these if it is not worse.

        Args:
            tell: is given the state at the start and after each epoch.

        Returns:
            The last state, with ``dice_before``, ``dice_after``, ``published`` and ``result``, a line that says why.

        Raises:
            CheckpointError: When a checkpoint cannot be written, or there is nothing to resume from that fits.
            DataError: When an image cannot be read.
        """
        for event in (Events.STARTED, Events.EPOCH_COMPLETED):
            self.trainer.add_event_handler(event, lambda: tell(self.stats()))
        self.trainer.run()
        found = self.stats()
        network: nn.Module = self.evaluator.network
        load_checkpoint(network, self.best)
        after = self._measure()
        # NaN, where no label held out shows the object, is above nothing.
        published = after >= self.dice_before and after > 0
        if published:
            self.weights.replace(network, TrainingCases.path_of(self.best))
        result = self._result(after, published)
        logger.info(result)
        best = max(0.0, after if published else self.dice_before)
        told = {"dice_after": after, "published": published, "result": result, "best_metric": best}
        return _plain({**found, **told})

    def _result(self, after: float, published: bool) -> str:
        told = f"Dice of the labels held out: {self.dice_before:.4f} before, {after:.4f} after the training"
        if math.isnan(after):
            return f"Not published: none of the labels held out shows the object, so that nothing was measured. {told}."
        if after < self.dice_before:
            return f"Not published, for it is worse: {told}."
        return f"Published: {told}." if published else f"Not published: neither finds anything of them. {told}."
