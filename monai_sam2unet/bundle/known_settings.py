# SPDX-License-Identifier: Apache-2.0
"""Compares how a network is given its images with how its training gave them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import CheckpointError

__all__ = ["INPUT_KEYS", "warn_of_other_settings"]

logger = logging.getLogger(__name__)

#: Keys of the bundles' configs that say how images come to the network; weights fit any values of them.
INPUT_KEYS = ("spatial_size", "sliding_window")


def warn_of_other_settings(
    ckpt_path: str | Path | Sequence[str | Path],
    spatial_size: Sequence[int] | int | None,
    sliding_window: bool | None = None,
    advice: str = "Give the settings of the training",
) -> None:
    """Warn where a network was trained on images of another size than it is to predict, which it usually does worse.

    What a training had stands in a file beside its checkpoint; see :class:`~monai_sam2unet.data.TrainingCases`. Of a
    checkpoint without such a file, or with one of an earlier version, nothing is known and nothing said; a file that
    cannot be read is told of. Only these two settings are compared: not, for example, the mm of a pixel.

    Args:
        ckpt_path: checkpoint, or several.
        spatial_size: height and width, pixels, that images, slices or windows have in the network; one number for both.
            None: not compared.
        sliding_window: whether these are windows of the images. None: not compared.
        advice: what to do, for the warning.
    """
    now = {"spatial_size": _sides(spatial_size), "sliding_window": sliding_window}
    for path in map(Path, ensure_tuple(ckpt_path)):
        try:
            cases = TrainingCases.of_checkpoint(path)
        except CheckpointError as error:  # predictions do without it, evaluations refuse
            logger.warning(f"Whether images come to the network as in its training is not known: {error}")
            continue
        noted = {} if cases is None else cases.settings
        then = {key: _sides(noted[key]) for key in INPUT_KEYS if key in noted}
        others = [key for key, value in then.items() if now[key] is not None and now[key] != value]
        if others:
            told = "; ".join(f"{key} {json.dumps(then[key])}, now {json.dumps(now[key])}" for key in others)
            logger.warning(
                f"{path} was trained with other settings: {told}. Predictions are usually worse then. {advice}, unless "
                "this is intended."
            )


def _sides(value: Any) -> Any:
    """Height and width, where a value is a size."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value, value]
    return list(value) if isinstance(value, Sequence) else value
