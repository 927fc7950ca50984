# SPDX-License-Identifier: Apache-2.0
"""What a plan chooses for a folder of pictures, each choice with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.networks.network_costs import count_activations
from monai_sam2unet.plan.picture_survey import PictureSurvey
from monai_sam2unet.transforms import MODALITIES

__all__ = ["Choice", "choose_for_pictures", "training_bytes"]

#: Pixels that objects are to be thick at the network's input; its finest features are 4 pixels apart.
THICKNESS = 8
SIZES = (352, 512, 704)
#: Without a GPU one smaller, too.
SIZES_OF_CPU = (224, *SIZES)
#: Images seen in the paper's training: 1,450 images, 20 epochs.
IMAGES_SEEN = 29_000
MAX_BATCH, MIN_BATCH = 12, 4
#: Share of a GPU's memory that is planned with, and what a step needs for a moment beside what it keeps.
GPU_SHARE, PASSING = 0.85, 1.3
#: Axes of random flips and the largest rotation, in radians, where a picture's up and down mean something.
UPRIGHT = {"xray": ((), 0.175, "left and right, up and down"), "ultrasound": ((1,), 0.35, "up and down")}
ENCODERS = ("large", "base_plus", "small", "tiny")


@dataclass(frozen=True)
class Choice:
    """A setting, and why it is as it is.

    Attributes:
        name: of the setting, as in the bundle's configs.
        value: chosen.
        reason: in a sentence.
    """

    name: str
    value: object
    reason: str


@cache
def _network_bytes(encoder_size: str, side: int, out_channels: int) -> tuple[int, int]:
    """Bytes of the parameters with what the optimiser keeps, and of the activations of one image."""
    with torch.device("meta"):
        network = SAM2UNet(size=encoder_size, out_channels=out_channels, deep_supervision=True)
    parameters = sum(p.numel() * (16 if p.requires_grad else 4) for p in network.parameters())
    return parameters, count_activations(network.train(), 3, side, side)


def training_bytes(encoder_size: str, side: int, batch_size: int, out_channels: int = 1) -> int:
    """Estimate the memory of a training step in float32, with the frozen encoder and its adapters.

    Args:
        encoder_size: tiny, small, base_plus or large.
        side: height and width of the network's input.
        batch_size: images a step.
        out_channels: of the network.
    """
    parameters, activations = _network_bytes(encoder_size, side, out_channels)
    return round(parameters + PASSING * batch_size * activations)


def _modality(survey: PictureSurvey, modality: str | None) -> Choice:
    if modality is not None:
        return Choice("modality", modality, "as given")
    colour = survey.is_colour
    name, what = ("endoscopy", "coloured") if colour else ("xray", "gray")
    return Choice(
        "modality", name,
        f"the pictures are {what}, nothing says of what: they are read as {name} is; `--modality` says what they are",
    )  # fmt: skip


def _thin_share(survey: PictureSurvey) -> float | None:
    """How thick objects are, as a share of their image's longer side: of the class with the thinnest.

    Of a class nine tenths of the area lie in objects that are at least as thick, so that specks do not count.
    """
    by_class: dict[int, list[tuple[float, float]]] = {}
    for case in survey.cases:
        side = max(case.height, case.width)
        for value, area, thickness in zip(case.objects, case.areas, case.thickness, strict=True):
            by_class.setdefault(value, []).append((thickness / side, area / side**2))
    thin = []
    for objects in by_class.values():
        thickness, area = np.array(sorted(objects)).T
        thin.append(float(thickness[np.searchsorted(area.cumsum(), 0.1 * area.sum())]))
    return min(thin, default=None)


def _flips(modality: str) -> list[Choice]:
    axes, rotation, what = UPRIGHT.get(modality, ((0, 1), 1.5708, "neither up and down nor left and right"))
    reason = f"of {modality} {what} mean something"
    return [Choice("flip_axes", list(axes), reason), Choice("rotation", rotation, f"{reason}; at most, in radians")]


def _side(survey: PictureSurvey, sizes: Sequence[int]) -> Choice:
    thin = _thin_share(survey)
    if thin is None:
        return Choice("spatial_size", 352, "there are no objects to go by; it is the paper's")
    side = next((size for size in sizes if size * thin >= THICKNESS), sizes[-1])
    reason = f"at that size objects, by nine tenths of their area, are {thin * side:.1f} pixels thick and more"
    if side * thin < THICKNESS:
        return Choice("spatial_size", side, f"{reason}: less than {THICKNESS}; expect that thin parts are lost")
    return Choice("spatial_size", side, f"{reason}, and {THICKNESS} are wanted")


def _network(side: int, out_channels: int, num_cases: int, gpu_memory: float) -> list[Choice]:
    if not gpu_memory:
        reason = "without a GPU the smallest; `--gpu-memory GB` plans for one"
        return [Choice("encoder_size", "tiny", reason), Choice("batch_size", MIN_BATCH, "small steps for a CPU")]
    allowed = GPU_SHARE * gpu_memory * 2**30
    most = max(1, min(MAX_BATCH, num_cases // 4))
    fitting = {
        size: next((b for b in range(most, 0, -1) if training_bytes(size, side, b, out_channels) <= allowed), 0)
        for size in ENCODERS
    }
    size = next((size for size in ENCODERS if fitting[size] >= min(MIN_BATCH, most)), None)
    if size is None:
        raise ConfigError(f"{gpu_memory:g} GB are too little to train the smallest network at {side}x{side}.")
    batch = fitting[size]
    needed = training_bytes(size, side, batch, out_channels) / 2**30
    return [
        Choice("encoder_size", size, f"the largest of which {min(MIN_BATCH, most)} images fit into {gpu_memory:g} GB"),
        Choice(
            "batch_size",
            batch,
            f"takes about {needed:.1f} GB in float32, less in bf16; at most {MAX_BATCH}, the paper's",
        ),
    ]


def _epochs(num_cases: int, gpu_memory: float) -> Choice:
    if not gpu_memory:
        return Choice("max_epochs", 20, "as the paper; more would take long on a CPU")
    epochs = min(max(20, math.ceil(IMAGES_SEEN / num_cases)), 200)
    return Choice("max_epochs", epochs, f"{epochs * num_cases} images are seen; in the paper's training {IMAGES_SEEN}")


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
        Settings of the bundle's configs; before them ``modality``, ``flip_axes`` and ``rotation``, of its plan.

    Raises:
        ConfigError: When the modality is not one of pictures, or the memory is too little for any network.
    """
    pictures = [name for name, own in MODALITIES.items() if not own.is_volume]
    if modality is not None and modality not in pictures:
        raise ConfigError(f"--modality must be one of {', '.join(pictures)}, got {modality!r}.")
    side = _side(survey, SIZES if gpu_memory else SIZES_OF_CPU)
    out_channels = survey.num_classes + 1 if survey.mask_threshold is None else 1
    length = int(str(side.value))
    threshold = survey.mask_threshold
    values = (
        "0 and 1" if threshold == 0.5 else "0 and 255" if threshold else f"class indices from 0 to {survey.num_classes}"
    )
    empty = sum(case.foreground == 0 for case in survey.cases)
    kind = _modality(survey, modality)
    return [
        kind,
        *_flips(str(kind.value)),
        Choice("spatial_size", [length, length], side.reason),
        Choice("mask_threshold", threshold, f"masks hold {values}"),
        *_network(length, out_channels, len(survey.cases), gpu_memory),
        _epochs(len(survey.cases), gpu_memory),
        Choice(
            "bce", "released",
            "the structure loss takes the IoU of each class alike, so that rare classes need no weights of their own"
            + (f"; {empty} of {len(survey.cases)} images are empty and teach where nothing is" if empty else ""),
        ),
        Choice("fold", 0, "a fifth of the images is left out of training, and measured on; `--fold 1` to 4: another"),
        Choice(
            "group_pattern", group_pattern,
            "as given" if group_pattern else
            "each image counts as a patient of its own; where one has several, `--group-pattern` must tell them",
        ),
    ]  # fmt: skip
