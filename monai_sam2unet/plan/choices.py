# SPDX-License-Identifier: Apache-2.0
"""Choices that plans of pictures and of volumes have in common, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from monai_sam2unet.bundle.folds import patients_of
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.networks.network_costs import count_activations

__all__ = [
    "SIZES",
    "THICKNESS",
    "Choice",
    "choose_cldice_iterations",
    "choose_epochs",
    "choose_network",
    "choose_size",
    "choose_split",
    "class_thickness",
    "thin_share",
    "training_bytes",
]

#: Pixels that objects are to be thick at the network's input; its finest features are 4 pixels apart.
THICKNESS = 8
SIZES = (352, 512, 704)
#: Without a GPU one smaller, too.
SIZES_OF_CPU = (224, *SIZES)
#: Images seen in the paper's training: 1,450 images, 20 epochs.
IMAGES_SEEN = 29_000
#: Share of the images that is trained on: without a fold, and without what is held out for validation.
TRAINED_SHARE = 0.8 * 0.9
MAX_BATCH, MIN_BATCH = 12, 4
NUM_FOLDS = 5
#: Erosions of clDice's loss: MONAI's own number, and the most that are worth their time.
CLDICE_ITERATIONS, MAX_CLDICE_ITERATIONS = 3, 20
#: Share of a GPU's memory that is planned with, and what a step needs for a moment beside what it keeps.
GPU_SHARE, PASSING = 0.85, 1.3
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
    value: Any
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


def class_thickness(objects: Iterable[tuple[int | str, float, float]], share: float) -> list[float]:
    """How thick the objects of each class are: a share of their area lies in objects that are thinner.

    Args:
        objects: of each object its class, its thickness and its area, the latter as shares of the picture's longer side
            and of that side's square.
        share: of the area of a class, in [0, 1].

    Returns:
        Of each class that there is, the thickness as a share of the picture's longer side.
    """
    by_class: dict[int | str, list[tuple[float, float]]] = {}
    for value, thickness, area in objects:
        by_class.setdefault(value, []).append((thickness, area))
    found = []
    for own in by_class.values():
        thickness, area = np.array(sorted(own)).T
        found.append(float(thickness[np.searchsorted(area.cumsum(), share * area.sum())]))
    return found


def thin_share(objects: Iterable[tuple[int | str, float, float]]) -> float | None:
    """How thick objects are, as a share of their picture's longer side: of the class with the thinnest.

    Of a class nine tenths of the area lie in objects that are at least as thick, so that specks do not count.

    Args:
        objects: as in :func:`class_thickness`.

    Returns:
        The share; None where there are no objects.
    """
    return min(class_thickness(objects, 0.1), default=None)


def choose_size(thin: float | None, gpu_memory: float) -> Choice:
    """Choose height and width of the network's input.

    Args:
        thin: as :func:`thin_share` gives it.
        gpu_memory: GB of the GPU to train on; 0: there is none.
    """
    sizes = SIZES if gpu_memory else SIZES_OF_CPU
    if thin is None:
        return Choice("spatial_size", [352, 352], "there are no objects to go by; it is the paper's")
    side = next((size for size in sizes if size * thin >= THICKNESS), sizes[-1])
    reason = f"at that size objects, by nine tenths of their area, are {thin * side:.1f} pixels thick and more"
    enough = side * thin >= THICKNESS
    told = f", and {THICKNESS} are wanted" if enough else f": less than {THICKNESS}; expect that thin parts are lost"
    return Choice("spatial_size", [side, side], f"{reason}{told}")


def choose_network(size: Choice, out_channels: int, num_images: int, gpu_memory: float) -> list[Choice]:
    """Choose the encoder and how many images a step takes.

    Args:
        size: as :func:`choose_size` gives it.
        out_channels: of the network.
        num_images: pictures, or slices, of all cases.
        gpu_memory: GB of the GPU to train on; 0: there is none.

    Raises:
        ConfigError: When the memory is too little for any network.
    """
    side = size.value[0]
    if not gpu_memory:
        reason = "without a GPU the smallest; `--gpu-memory GB` plans for one"
        return [Choice("encoder_size", "tiny", reason), Choice("batch_size", MIN_BATCH, "small steps for a CPU")]
    allowed = GPU_SHARE * gpu_memory * 2**30
    most = max(1, min(MAX_BATCH, num_images // 4))
    fitting = {
        size: next((b for b in range(most, 0, -1) if training_bytes(size, side, b, out_channels) <= allowed), 0)
        for size in ENCODERS
    }
    encoder = next((size for size in ENCODERS if fitting[size] >= min(MIN_BATCH, most)), None)
    if encoder is None:
        raise ConfigError(f"{gpu_memory:g} GB are too little to train the smallest network at {side}x{side}.")
    batch = fitting[encoder]
    needed = training_bytes(encoder, side, batch, out_channels) / 2**30
    return [
        Choice("encoder_size", encoder, f"the largest of which {min(MIN_BATCH, most)} images fit in {gpu_memory:g} GB"),
        Choice(
            "batch_size",
            batch,
            f"takes about {needed:.1f} GB in float32, less in bf16; at most {MAX_BATCH}, the paper's",
        ),
    ]


def choose_epochs(num_images: int, gpu_memory: float) -> Choice:
    """Choose how long to train.

    Args:
        num_images: as in :func:`choose_network`.
        gpu_memory: as there.
    """
    if not gpu_memory:
        return Choice("max_epochs", 20, "as the paper; more would take long on a CPU")
    trained = max(1, round(TRAINED_SHARE * num_images))
    epochs = min(max(20, math.ceil(IMAGES_SEEN / trained)), 200)
    return Choice("max_epochs", epochs, f"{epochs * trained} images are seen; in the paper's training {IMAGES_SEEN}")


def choose_cldice_iterations(objects: Iterable[tuple[int | str, float, float]], side: float) -> Choice:
    """Choose how often clDice's loss erodes what it takes the centreline of.

    n erosions find that of strips up to 2 n + 2 pixels wide, and vessels are up to about twice as wide as they are on
    average: n is their thickness. Of CHASE_DB1, 8 pixels thick, that leaves out 0.3 % of the centreline's pixels, and
    MONAI's 3 erosions 34 %.

    Args:
        objects: as in :func:`class_thickness`.
        side: pixels that the longer side of a picture has at the network's input.
    """
    thickness = [side * share for share in class_thickness(objects, 0.5)]
    thin = max((value for value in thickness if value <= MAX_CLDICE_ITERATIONS), default=None)
    name = "cldice_iterations"
    if thin is None:
        return Choice(name, CLDICE_ITERATIONS, "MONAI's own; clDice is for thin objects, and here are none")
    number = max(CLDICE_ITERATIONS, math.ceil(thin))
    reason = f"thin objects are {thin:.1f} pixels thick; parts up to {2 * number + 2} pixels wide have a centreline"
    return Choice(name, number, f"{reason} then, where `cldice_weight` is not 0")


def choose_split(items: Sequence[Mapping[str, Any]], group_pattern: str | None, cases: str) -> list[Choice]:
    """Choose what is left out to measure on.

    Args:
        items: all cases, as :func:`monai_sam2unet.bundle.folds.leave_out_fold` takes them.
        group_pattern: regular expression that finds the patient in a file's name.
        cases: what there is, as ``images``.

    Raises:
        ConfigError: When the pattern is no regular expression.
        DataError: When it finds no patient in a name.
    """
    patients = len(patients_of(items, group_pattern))
    told = f"each of the {cases} counts as a patient of its own; `--group-pattern` must tell those with several"
    if any(item.get("patient") for item in items):
        told = f"PatientID tells {patients} patients; `--group-pattern` may, where it is wrong"
    if patients < NUM_FOLDS:
        fold = Choice("fold", None, f"{patients} patients are too few for {NUM_FOLDS} folds: measure on other data")
    else:
        reason = f"a fifth of the {cases} is left out of training, and measured on; `--fold 1` to 4: another"
        fold = Choice("fold", 0, reason)
    return [fold, Choice("group_pattern", group_pattern, "as given" if group_pattern else told)]
