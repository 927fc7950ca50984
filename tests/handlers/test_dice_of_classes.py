# SPDX-License-Identifier: Apache-2.0
"""Tests of the Dice of each class, in an evaluator."""

from __future__ import annotations

import math

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, from_engine
from torch import nn
from torch.nn.functional import one_hot

from monai_sam2unet.handlers import DiceOfClasses


def item(pred: list[int], label: list[int]) -> dict[str, torch.Tensor]:
    """A batch of one image (1, 4, 1, W) of three classes and the background."""
    image, truth = (one_hot(torch.tensor([[classes]]), 4).movedim(-1, 1).float() for classes in (pred, label))
    return {"image": image, "label": truth}


def test_a_class_that_no_image_shows_has_no_dice() -> None:
    data = [item([1, 1, 0, 2], [1, 0, 0, 0]), item([0, 0, 1, 2], [1, 1, 1, 2])]
    pair = from_engine(["pred", "label"])
    validator = SupervisedEvaluator(
        torch.device("cpu"),
        data,
        nn.Identity(),
        key_val_metric={"val_mean_dice": MeanDice(include_background=False, output_transform=pair)},
        additional_metrics={"val_dice": DiceOfClasses(["liver", "spleen", "gallbladder"], pair)},
    )
    for _ in range(2):  # a second run starts anew
        validator.run()
        found = validator.state.metrics
        assert found["liver"] == pytest.approx((2 / 3 + 1 / 2) / 2)
        assert found["spleen"] == 1  # in the first image it is not there
        assert math.isnan(found["gallbladder"])
        assert validator.state.metric_details["val_dice"].shape == (2, 3)
