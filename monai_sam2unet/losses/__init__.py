# SPDX-License-Identifier: Apache-2.0
"""Losses on logits; tensors only."""

from monai_sam2unet.losses.structure_loss import StructureLoss
from monai_sam2unet.losses.weighted_sum_loss import WeightedSumLoss

__all__ = ["StructureLoss", "WeightedSumLoss"]
