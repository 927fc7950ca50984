# SPDX-License-Identifier: Apache-2.0
"""Tests of the weighted sum of losses."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss, HausdorffDTLoss
from torch import nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.losses import StructureLoss, WeightedSumLoss


class Fails(nn.Module):
    def forward(self, input, target):
        raise AssertionError("a loss of weight 0 is not computed")


def maps():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 16, 16, generator=generator, requires_grad=True)
    truth = torch.zeros(2, 1, 16, 16)
    truth[:, :, 4:12, 5:11] = 1
    return logits, truth


def test_sum_and_gradient():
    logits, truth = maps()
    structure, distance = StructureLoss(), HausdorffDTLoss(alpha=1.0, include_background=True, sigmoid=True)
    loss = WeightedSumLoss([structure, distance], [1.0, 0.25])(logits, truth)
    expected = structure(logits, truth) + 0.25 * distance(logits, truth)
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(x, logits)[0] for x in (loss, expected))
    torch.testing.assert_close(found, wanted)


def test_one_loss_stays_what_it_is_under_deep_supervision():
    logits, truth = maps()
    alone, summed = (
        DeepSupervisionLoss(loss, weight_mode="same")([logits, 2 * logits], truth)
        for loss in (StructureLoss(), WeightedSumLoss([StructureLoss(), Fails()], [1, 0]))
    )
    assert torch.equal(alone, summed)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, 1.0, 1.0], [1.0, float("nan")]])
def test_weights_that_do_not_fit(weights):
    with pytest.raises(ConfigError, match="2 losses need as many weights of at least 0, not all 0"):
        WeightedSumLoss([nn.L1Loss(), nn.L1Loss()], weights)
