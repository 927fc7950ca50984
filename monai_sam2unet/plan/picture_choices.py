# SPDX-License-Identifier: Apache-2.0
"""What a plan chooses for a folder of pictures, each choice with its reason."""

from __future__ import annotations

import numpy as np

from monai_sam2unet.errors import ConfigError, DataError, listing
from monai_sam2unet.plan.choices import (
    SIZES,
    THICKNESS,
    Choice,
    choose_cldice_iterations,
    choose_epochs,
    choose_network,
    choose_size,
    choose_split,
    thin_share,
)
from monai_sam2unet.plan.picture_survey import PictureSurvey
from monai_sam2unet.transforms import MODALITIES

__all__ = ["choose_for_pictures"]

#: Windows drawn from a picture in each epoch.
NUM_SAMPLES = 4

#: Axes of random flips and the largest rotation, in radians, where a picture's up and down mean something.
UPRIGHT = {"xray": ((), 0.175, "left and right, up and down"), "ultrasound": ((1,), 0.35, "up and down")}


def _modality(survey: PictureSurvey, modality: str | None) -> Choice:
    if modality is not None:
        return Choice("modality", modality, "as given")
    colour = survey.is_colour
    name, what = ("endoscopy", "coloured") if colour else ("xray", "gray")
    return Choice(
        "modality", name,
        f"the pictures are {what}, nothing says of what: they are read as {name} is; `--modality` says what they are",
    )  # fmt: skip


def _flips(modality: str) -> list[Choice]:
    axes, rotation, what = UPRIGHT.get(modality, ((0, 1), 1.5708, "neither up and down nor left and right"))
    reason = f"of {modality} {what} mean something"
    return [Choice("flip_axes", list(axes), reason), Choice("rotation", rotation, f"{reason}; at most, in radians")]


def _own_side(survey: PictureSurvey) -> float:
    """Pixels of a picture's longer side."""
    return float(np.median([max(case.height, case.width) for case in survey.cases]))


def _size(survey: PictureSurvey, gpu_memory: float) -> tuple[Choice, Choice]:
    """Size of the network's input, and whether it is that of windows at the pictures' own resolution."""
    thin = thin_share(survey.objects)
    size = choose_size(thin, gpu_memory)
    own = _own_side(survey)
    largest = max(SIZES)
    if thin is None or thin * largest >= THICKNESS or own <= largest:
        return size, Choice("sliding_window", False, "whole pictures are resized")
    reason = f"resized to {largest} objects would be {thin * largest:.1f} pixels thick, as they are {thin * own:.1f}"
    return Choice("spatial_size", [SIZES[0]] * 2, "of the windows"), Choice("sliding_window", True, reason)


def _network(size: Choice, windows: Choice, out_channels: int, num_images: int, gpu_memory: float) -> list[Choice]:
    encoder, batch = choose_network(size, out_channels, num_images, gpu_memory)
    if not windows.value:
        return [encoder, batch]
    images = max(1, batch.value // NUM_SAMPLES)
    return [encoder, Choice("batch_size", images, f"{NUM_SAMPLES} windows are drawn from each; {batch.reason}")]


def choose_for_pictures(
    survey: PictureSurvey, modality: str | None = None, gpu_memory: float = 0.0, group_pattern: str | None = None
) -> list[Choice]:
    """Choose the settings of a bundle for a folder of pictures.

    Args:
        survey: what is in the folder.
        modality: of the pictures; None: told by their colours.
        gpu_memory: GB of the GPU to train on; 0: there is none.
        group_pattern: regular expression that finds the patient in a file's name.

    Returns:
        Settings of the bundle's configs; those of its plan among them.

    Raises:
        ConfigError: When the modality is not one of pictures, the memory is too little for any network, or the pattern
            is no regular expression.
        DataError: When the pattern finds no patient in a name, or images have 16 bits and the modality takes 8.
    """
    pictures = [name for name, own in MODALITIES.items() if not own.is_volume]
    if modality is not None and modality not in pictures:
        raise ConfigError(f"--modality must be one of {', '.join(pictures)}, got {modality!r}.")
    kind = _modality(survey, modality)
    name = kind.value
    deep = [case.image for case in survey.cases if case.bits == 16]
    if deep and MODALITIES[name].picture == "rgb":
        raise DataError(f"{len(deep)} images have 16 bits, which {name} does not take (xray does):\n{listing(deep)}")
    size, windows = _size(survey, gpu_memory)
    out_channels = survey.num_classes + 1 if survey.mask_threshold is None else 1
    threshold = survey.mask_threshold
    values = (
        "0 and 1" if threshold == 0.5 else "0 and 255" if threshold else f"class indices from 0 to {survey.num_classes}"
    )
    empty = sum(case.foreground == 0 for case in survey.cases)
    return [
        kind,
        *_flips(name),
        size,
        windows,
        Choice("mask_threshold", threshold, f"masks hold {values}"),
        *_network(size, windows, out_channels, len(survey.cases), gpu_memory),
        choose_epochs(len(survey.cases), gpu_memory),
        choose_cldice_iterations(survey.objects, _own_side(survey) if windows.value else size.value[0]),
        Choice(
            "bce", "released",
            "the structure loss takes the IoU of each class alike, so that rare classes need no weights of their own"
            + (f"; {empty} of {len(survey.cases)} images are empty and teach where nothing is" if empty else ""),
        ),
        *choose_split([{"image": case.image} for case in survey.cases], group_pattern, "images"),
    ]  # fmt: skip
