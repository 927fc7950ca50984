# SPDX-License-Identifier: Apache-2.0
"""Names of the scores of a segmentation, as they stand in tables and files, and what people call them."""

from __future__ import annotations

__all__ = [
    "CLINICAL_COLUMNS",
    "IDENTITY_COLUMNS",
    "LOWER_IS_BETTER",
    "MEASURED_CURVES",
    "PAPERS_COLUMNS",
    "PROTOCOLS",
    "is_lower_better",
]

#: What identifies and describes a case, before its scores.
IDENTITY_COLUMNS = ("dataset", "image", "height", "width")

#: Scores of the clinical reading, with their headings.
CLINICAL_COLUMNS = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
    "surface_dice": "surface Dice",
    "boundary_f": "boundary F",
    "balanced_error_rate": "balanced error rate",
    "false_alarm": "false alarm rate",
}

#: Scores of the papers' protocol, with their headings.
PAPERS_COLUMNS = {
    "s_measure": "S-measure",
    "e_mean": "E-measure, mean",
    "e_max": "E-measure, max",
    "e_adaptive": "E-measure, adaptive",
    "weighted_f": "weighted F",
    "f_mean": "F-measure, mean",
    "f_max": "F-measure, max",
    "f_adaptive": "F-measure, adaptive",
    "mae": "MAE",
    "dice_mean": "Dice, mean (mDice)",
    "dice_max": "Dice, max",
    "iou_mean": "IoU, mean (mIoU)",
    "iou_max": "IoU, max",
    "iou_fixed": "IoU, at 0.5",
}

#: Curves over the 256 thresholds of which the papers' protocol takes mean and maximum.
MEASURED_CURVES = ("e", "f", "dice", "iou")

#: Scores that are best at 0.
LOWER_IS_BETTER = frozenset({"mae", "hd95", "balanced_error_rate", "false_alarm"})

#: Which readings are computed.
PROTOCOLS = ("both", "clinical", "sod")


def is_lower_better(column: str) -> bool:
    """Whether a smaller value of a score is the better one.

    Args:
        column: its name, as ``"mae"``.

    Example:
        >>> is_lower_better("hd95"), is_lower_better("dice")
        (True, False)
    """
    return column in LOWER_IS_BETTER
