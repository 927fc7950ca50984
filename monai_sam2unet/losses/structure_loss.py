# SPDX-License-Identifier: Apache-2.0
"""The structure loss of SAM2-UNet: cross-entropy and IoU, both weighted towards outlines."""

from __future__ import annotations

import torch
from monai.networks import one_hot
from monai.utils import LossReduction
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

__all__ = ["StructureLoss"]


class StructureLoss(_Loss):
    """Binary cross-entropy plus IoU loss, where pixels that differ from their surroundings weigh up to six times.

    The weight of a pixel is ``1 + boundary_weight * |mean of the truth over a kernel_size square - truth|``.
    Introduced by Wei et al., "F3Net: Fusion, Feedback and Focus for Salient Object Detection", arXiv 1911.11445, and
    used by PraNet and SAM2-UNet (arXiv 2408.08870).

    The published formula weights the cross-entropy. The released code of all three passes ``reduce='none'`` to torch,
    which takes the non-empty string for true and averages the cross-entropy *without* weights. Published numbers were
    trained that way, hence ``bce="released"`` is the default.

    With ``softmax=True`` the classes exclude each other: the first term is the cross-entropy over the classes, the
    second the IoU of each class. Two classes with ``include_background=False`` give what one sigmoid channel gives.

    Args:
        bce: ``"released"`` (cross-entropy unweighted) or ``"weighted"`` (as published on paper).
        to_onehot_y: whether the target holds class indices (B, 1, H, W), to be turned into one channel per class.
        softmax: whether the channels are classes that exclude each other, instead of independent masks.
        include_background: whether channel 0 takes part in the IoU term and, without ``softmax``, in the
            cross-entropy; needs more than one channel if False.
        kernel_size: side in pixels of the square that the truth is averaged over; odd.
        boundary_weight: factor of the weight, at least 0; 5 as published.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, over images and channels.

    Raises:
        ValueError: When ``bce`` or ``reduction`` is not one of these, ``kernel_size`` is not odd and positive, or
            ``boundary_weight`` is negative.

    Example:
        >>> import torch
        >>> from monai_sam2unet.losses import StructureLoss
        >>> truth = torch.zeros(2, 1, 8, 8)
        >>> truth[:, :, 2:6, 2:6] = 1
        >>> bool(StructureLoss()(20 * (truth - 0.5), truth) < 0.01)
        True
    """

    def __init__(
        self,
        bce: str = "released",
        *,
        to_onehot_y: bool = False,
        softmax: bool = False,
        include_background: bool = True,
        kernel_size: int = 31,
        boundary_weight: float = 5.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        if bce not in ("released", "weighted"):
            raise ValueError(f"bce must be 'released' or 'weighted', got {bce!r}.")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}.")
        if boundary_weight < 0:
            raise ValueError(f"boundary_weight must not be negative, got {boundary_weight}.")
        self.bce = bce
        self.to_onehot_y = to_onehot_y
        self.softmax = softmax
        self.include_background = include_background
        self.kernel_size = kernel_size
        self.boundary_weight = boundary_weight

    def _weights(self, target: Tensor) -> Tensor:
        """Weight of each pixel, (B, C, H, W); or (B, 1, H, W) where the classes exclude each other."""
        size, margin = self.kernel_size, self.kernel_size // 2
        # The mean of a square, by its columns and then its rows: of 31x31 that is a fifteenth of the additions.
        columns = F.avg_pool2d(target, (size, 1), stride=1, padding=(margin, 0))
        surroundings = F.avg_pool2d(columns, (1, size), stride=1, padding=(0, margin))
        if not self.softmax:
            return 1 + self.boundary_weight * (surroundings - target).abs()
        # Beyond the frame lies background: its share is what the other classes leave.
        others = surroundings[:, 1:]
        surroundings = torch.cat([1 - others.sum(dim=1, keepdim=True), others], dim=1)
        # Half the sum over the classes: for two classes this is the weight of the binary mask.
        return 1 + self.boundary_weight * (surroundings - target).abs().sum(dim=1, keepdim=True) / 2

    def _average(self, values: Tensor, weights: Tensor) -> Tensor:
        """Mean over each map, with the weights or without, (B, C, H, W) to (B, C)."""
        if self.bce == "released":
            return values.mean(dim=(2, 3))
        return (values * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))

    def _iou_loss(self, probability: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        intersection = (probability * target * weights).sum(dim=(2, 3))
        total = ((probability + target) * weights).sum(dim=(2, 3))
        return 1 - (intersection + 1) / (total - intersection + 1)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            input: logits (B, C, H, W).
            target: truth in [0, 1], (B, C, H, W), soft masks allowed; or class indices (B, 1, H, W) with
                ``to_onehot_y``.

        Returns:
            A scalar, or (B, C) for ``reduction="none"`` (C without the background, where that is excluded).

        Raises:
            ValueError: When the shapes differ, the tensors are not (B, C, H, W), or ``softmax``, ``to_onehot_y`` or
                ``include_background=False`` is asked for with one channel.
        """
        channels = input.shape[1] if input.dim() == 4 else 0
        if channels == 1 and (self.softmax or self.to_onehot_y or not self.include_background):
            raise ValueError("softmax, to_onehot_y and include_background=False need more than one channel of logits.")
        if self.to_onehot_y and channels:
            if target.dim() != 4 or target.shape[1] != 1:
                raise ValueError(f"With to_onehot_y the truth must be (B, 1, H, W), got {tuple(target.shape)}.")
            target = one_hot(target, num_classes=channels)
        if input.shape != target.shape or not channels:
            raise ValueError(f"Logits and truth must both be (B, C, H, W), got {input.shape} and {target.shape}.")
        logits, target = input.float(), target.float()
        weights = self._weights(target)
        if self.softmax:
            probability = logits.softmax(dim=1)
            cross_entropy = -(target * logits.log_softmax(dim=1)).sum(dim=1, keepdim=True)
        else:
            probability = logits.sigmoid()
            cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if not self.include_background:
            probability, target = probability[:, 1:], target[:, 1:]
            if not self.softmax:
                cross_entropy, weights = cross_entropy[:, 1:], weights[:, 1:]
        loss = self._average(cross_entropy, weights) + self._iou_loss(probability, target, weights)
        if self.reduction == LossReduction.MEAN.value:
            return torch.mean(loss)
        if self.reduction == LossReduction.SUM.value:
            return torch.sum(loss)
        return loss
