# SPDX-License-Identifier: Apache-2.0
"""Tests of the progress shown by a real training, on a terminal and without one."""

from __future__ import annotations

import io
import logging
import re
from contextlib import contextmanager, redirect_stderr

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch import nn

from monai_sam2unet.handlers import ProgressBar

CPU = torch.device("cpu")


class Terminal(io.StringIO):
    def isatty(self):
        return True

    @property
    def bars(self):
        """Each state of the bar that was drawn."""
        return [text for text in re.split(r"[\r\n]+", self.getvalue()) if text.strip()]


@contextmanager
def on_terminal():
    with Terminal() as terminal, redirect_stderr(terminal):
        yield terminal


def loader():
    items = [{"image": torch.zeros(1, 2, 2), "label": torch.full((1, 2, 2), n / 4)} for n in range(4)]
    return DataLoader(Dataset(items), batch_size=2)


def make_validator(handlers=()):
    validator = SupervisedEvaluator(CPU, loader(), nn.Identity(), val_handlers=list(handlers))
    metrics = {"val_mean_dice": 0.25, "other": 0.75}
    validator.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(metrics))
    return validator


def make_trainer(bar, validator=None, epochs=3, fail_at=None):
    """A trainer whose loss is the epoch times the mean of the labels, 0.125 and 0.625."""

    def loss(prediction, label):
        if trainer.state.iteration == fail_at:
            raise ValueError("stop here")
        return prediction.mean() * 0 + label.mean() * trainer.state.epoch

    network = nn.Conv2d(1, 1, 1)
    handlers = [ValidationHandler(1, validator)] if validator else []
    trainer = SupervisedTrainer(
        device=CPU,
        max_epochs=epochs,
        train_data_loader=loader(),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss,
        train_handlers=[*handlers, bar],
    )
    return trainer


def lines(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "monai_sam2unet.handlers.progress_bar"]


def test_a_line_an_epoch_without_a_terminal(caplog):
    validator = make_validator()
    with caplog.at_level(logging.INFO):
        make_trainer(ProgressBar(validator), validator).run()
    found = lines(caplog)
    assert len(found) == 3
    for epoch, line in enumerate(found, start=1):
        assert line.startswith(f"training: epoch {epoch}/3, loss {0.375 * epoch:.4f}, val_mean_dice 0.2500, ")
        assert re.search(r", \d+ s, about \d+ min left$", line)


def test_chosen_metrics_and_description(caplog):
    validator = make_validator()
    with caplog.at_level(logging.INFO):
        make_trainer(ProgressBar(validator, ["other", "missing"], "learning"), validator, epochs=1).run()
    assert lines(caplog)[0].startswith("learning: epoch 1/1, loss 0.3750, other 0.7500, ")


def test_an_evaluation_without_a_terminal_is_silent(caplog):
    with caplog.at_level(logging.INFO):
        make_validator([ProgressBar(description="evaluating")]).run()
    assert lines(caplog) == []


def test_one_bar_for_the_whole_training(caplog):
    validator = make_validator()
    with caplog.at_level(logging.INFO), on_terminal() as terminal:
        make_trainer(ProgressBar(validator), validator).run()
        last = terminal.bars[-1]
        assert last.startswith("training: 100%")
        assert "6/6" in last
        assert "epoch=3/3, loss=1.875, val_mean_dice=0.2500" in last
        assert "other" not in last
        assert terminal.getvalue().endswith("\n")  # the bar is closed
        assert terminal.getvalue().count("\n") == 1
    assert lines(caplog) == []


def test_a_resumed_training_begins_where_it_was():
    trainer = make_trainer(ProgressBar())
    trainer.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", 2))
    with on_terminal() as terminal:
        trainer.run()
        assert " 4/6 " in terminal.bars[0]
        assert " 6/6 " in terminal.bars[-1]


def test_each_evaluation_gets_a_bar():
    validator = make_validator([ProgressBar(description="evaluating")])
    for _ in range(2):
        with on_terminal() as terminal:
            validator.run()
            assert terminal.bars[-1].startswith("evaluating: 100%")
            assert terminal.getvalue().count("\n") == 1


def test_an_error_closes_the_bar_and_goes_on():
    trainer = make_trainer(ProgressBar(), fail_at=4)
    with on_terminal() as terminal:
        with pytest.raises(ValueError, match="stop here"):
            trainer.run()
        assert " 3/6 " in terminal.bars[-1]
        assert terminal.getvalue().endswith("\n")
