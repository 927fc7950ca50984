# SPDX-License-Identifier: Apache-2.0
"""Losses on logits; tensors only."""

from monai_sam2unet.losses.structure_loss import StructureLoss

__all__ = ["StructureLoss"]
