# SPDX-License-Identifier: Apache-2.0
"""Names of the scores of a segmentation, as they stand in tables and files, and what people call them."""

from __future__ import annotations

from collections.abc import Sequence

from monai_sam2unet.errors import ConfigError

__all__ = [
    "CLINICAL_COLUMNS",
    "HEADINGS",
    "IDENTITY_COLUMNS",
    "LOWER_IS_BETTER",
    "MAXIMA",
    "MEASURED_CURVES",
    "PAPERS_COLUMNS",
    "PROTOCOLS",
    "VOLUME_IDENTITY_COLUMNS",
    "check_class_names",
    "is_lower_better",
]

#: What identifies and describes a case, before its scores; foreground: the share of the image that is, in truth.
IDENTITY_COLUMNS = ("dataset", "image", "height", "width", "foreground")

#: Those of a volume: voxels along the axes of its array.
VOLUME_IDENTITY_COLUMNS = ("dataset", "image", "size_x", "size_y", "size_z", "foreground")

#: Scores of the clinical reading, with their headings.
CLINICAL_COLUMNS = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
    "surface_dice": "surface Dice",
    "boundary_f": "boundary F",
    "cldice": "clDice",
    "balanced_error_rate": "balanced error rate",
    "false_alarm": "false alarm rate",
    "false_alarm_area": "false alarm area",
    "calibration_error": "calibration error",
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

#: What every score is called.
HEADINGS = {**CLINICAL_COLUMNS, **PAPERS_COLUMNS}

#: Curves over the 256 thresholds of which the papers' protocol takes mean and maximum.
MEASURED_CURVES = ("e", "f", "dice", "iou")

#: Scores at the threshold that is best for a set; of several sets together they have no meaning.
MAXIMA = frozenset(f"{name}_max" for name in MEASURED_CURVES)

#: Scores that are best at 0.
LOWER_IS_BETTER = frozenset(
    {"mae", "hd95", "balanced_error_rate", "false_alarm", "false_alarm_area", "calibration_error"}
)

#: Which readings are computed.
PROTOCOLS = ("both", "clinical", "sod")


def is_lower_better(column: str) -> bool:
    """Whether a smaller value of a score is the better one.

    Args:
        column: its name, as ``"mae"``, or of one class as ``"hd95_liver"``.

    Example:
        >>> is_lower_better("hd95"), is_lower_better("hd95_liver"), is_lower_better("dice_liver")
        (True, True, False)
    """
    return column in LOWER_IS_BETTER or column.startswith("hd95_")


def check_class_names(class_names: Sequence[str], minimum: int = 2) -> tuple[str, ...]:
    """The names of classes, if columns can be called after them.

    Args:
        class_names: the names.
        minimum: how many there are at least.

    Raises:
        ConfigError: When there are fewer, one is empty or there twice, or ``dice_NAME`` is a score already.
    """
    names = tuple(class_names)
    if isinstance(class_names, str) or len(names) < minimum or len(set(names)) < len(names) or not all(names):
        raise ConfigError(f"class_names must be {minimum} or more names, all different, got {class_names!r}.")
    taken = [name for name in names if {f"dice_{name}", f"iou_{name}"} & set(PAPERS_COLUMNS)]
    if taken:
        raise ConfigError(f"A class cannot be called {taken[0]!r}: dice_{taken[0]} is a score of the papers' protocol.")
    return names
