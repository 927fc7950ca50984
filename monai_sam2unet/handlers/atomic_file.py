# SPDX-License-Identifier: Apache-2.0
"""Writes files in a way that a crash or a full disk cannot spoil."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import CheckpointError

__all__ = ["save_atomically", "save_cases", "save_with_cases"]

#: What to do when a file cannot be written, where the caller knows no better.
ADVICE = "Make room, or give another place."


def save_atomically(
    content: Any, path: Path, save: Callable[[Any, BinaryIO], object] = torch.save, advice: str = ADVICE
) -> None:
    """Save beside the path, then rename: the file there is the old one or the new one, never half of one.

    Args:
        content: what is saved.
        path: of the file.
        save: takes the content and an open file.
        advice: what to do when it cannot be written, for the message.

    Raises:
        CheckpointError: When the file cannot be written (disk full, no permission); what was there is unchanged.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            save(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        # Where the system refuses in the middle of a file, torch raises an error of its own in reply.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise CheckpointError(
            f"The checkpoint {path} could not be written: {reason}. What was there before is unchanged. {advice}"
        ) from error


def save_with_cases(weights: Any, path: Path, cases: TrainingCases | None, advice: str = ADVICE) -> None:
    """Save weights, and beside them what they were trained on, if that is known.

    Args:
        weights: what is saved.
        path: of the checkpoint.
        cases: of its training; None: what is noted there is taken away.
        advice: what to do when they cannot be written, for the message.

    Raises:
        CheckpointError: When a file cannot be written.
    """
    # In that order: a kill in between leaves weights of which nothing is known, never those of another training.
    TrainingCases.path_of(path).unlink(missing_ok=True)
    save_atomically(weights, path, advice=advice)
    save_cases(cases, path, advice)


def save_cases(cases: TrainingCases | None, path: Path, advice: str = ADVICE) -> None:
    """Save what weights were trained on, beside them, if that is known.

    Args:
        cases: of the training; None: what is noted there is taken away.
        path: of the weights.
        advice: what to do when it cannot be written, for the message.

    Raises:
        CheckpointError: When the file cannot be written.
    """
    beside = TrainingCases.path_of(path)
    if cases is None:
        beside.unlink(missing_ok=True)
    else:
        save_atomically(cases.as_json(), beside, lambda text, file: file.write(text.encode()), advice)
