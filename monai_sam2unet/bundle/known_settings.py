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

__all__ = ["INPUT_KEYS", "compare_settings"]

logger = logging.getLogger(__name__)

#: Keys of the bundles' configs that say how images come to the network; a file of weights fits any.
INPUT_KEYS = ("spatial_size", "sliding_window")


def compare_settings(
    ckpt_path: str | Path | Sequence[str | Path],
    spatial_size: Sequence[int] | int,
    sliding_window: bool | None = None,
) -> None:
    """Warn where a network was trained on images of another size than it is to predict: it does so, but worse.

    What a training had stands in a file beside its checkpoint; see :class:`~monai_sam2unet.data.TrainingCases`. Of a
    checkpoint without such a file, or with one of an earlier version, nothing is known and nothing said.

    Args:
        ckpt_path: checkpoint, or several.
        spatial_size: height and width, pixels, that images, slices or windows have in the network; one number for both.
        sliding_window: whether these are windows of the images; None where a bundle has no such choice.

    Raises:
        CheckpointError: When the file beside a checkpoint cannot be read.
    """
    now = {"spatial_size": _sides(spatial_size), "sliding_window": sliding_window}
    for path in map(Path, ensure_tuple(ckpt_path)):
        cases = TrainingCases.of_checkpoint(path)
        noted = {} if cases is None else cases.settings
        then = {key: _sides(noted[key]) for key in INPUT_KEYS if key in noted}
        others = [key for key, value in then.items() if now[key] is not None and now[key] != value]
        if others:
            told = " and ".join(f"{key} {_text(then[key])}, not {_text(now[key])}" for key in others)
            advice = " ".join(f'--{key} "{_text(then[key], ",")}"' for key in others)
            logger.warning(
                f"{path} was trained with {told}, and predicts worse with other than that. Give the training's "
                f"settings (`{advice}` of a bundle), unless this is meant."
            )


def _sides(value: Any) -> Any:
    """Height and width, where a value is a size."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [value, value]
    return list(value) if isinstance(value, Sequence) else value


def _text(value: object, separator: str = ", ") -> str:
    return json.dumps(value, separators=(separator, ":")) if isinstance(value, list) else str(value)
