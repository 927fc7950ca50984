# SPDX-License-Identifier: Apache-2.0
"""How far the masks of two forms of one network agree on photographs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.network.forms import Run
from monai_sam2unet.data.image_sets import list_images
from monai_sam2unet.transforms import Preset
from monai_sam2unet.transforms.tensors import plain

__all__ = ["Picture", "agreement", "photographs", "relative_difference", "with_logits"]

Picture = tuple[Tensor, Tensor]


def photographs(folder: Path, count: int, pixels: int) -> list[Tensor]:
    """Images of a folder as the bundles give them to the network, evenly taken over the sorted names.

    Args:
        folder: holds pictures, its sub-folders are not looked into.
        count: how many at most.
        pixels: height and width that they are brought to.

    Returns:
        Images (1, 3, pixels, pixels).

    Raises:
        DataError: When the folder is not there or holds no picture.
    """
    files = list_images(folder)
    taken = min(count, len(files))
    read = Preset("endoscopy", spatial_size=pixels).inference()
    chosen = [files[i * len(files) // taken] for i in range(taken)]
    return [plain(read({"image": str(file)})["image"])[None].contiguous() for file in chosen]


def relative_difference(logits: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    return float((logits - expected).abs().max() / expected.abs().max())


@torch.inference_mode()
def with_logits(images: list[Tensor], plain: Run, device: torch.device) -> list[Picture]:
    """Each image (1, 3, H, W) with the plain network's logits (1, 1, H, W)."""
    return [(image, plain(image.to(device))) for image in images]


@torch.inference_mode()
def agreement(run: Run, pictures: list[Picture], batch: int, device: torch.device) -> dict[str, float]:
    """Compare a form's masks (logit above 0) with those of the plain network.

    Args:
        run: the form, built for this batch size.
        pictures: what :func:`with_logits` gives.
        batch: images of one call; the last call is filled up with the last image.
        device: what both compute on.

    Returns:
        ``images``; ``dice_mean`` and ``dice_min`` of the masks, where two empty masks count 1;
        ``max_relative_difference`` of the logits, relative to the largest one.
    """
    scores: list[float] = []
    apart = 0.0
    for start in range(0, len(pictures), batch):
        given = pictures[start : start + batch]
        x = torch.cat([image for image, _ in (*given, *given[-1:] * (batch - len(given)))]).to(device)
        expected, logits = torch.cat([theirs for _, theirs in given]), run(x)[: len(given)]
        apart = max(apart, relative_difference(logits, expected))
        a, b = (expected > 0).flatten(1).double(), (logits > 0).flatten(1).double()
        total = a.sum(1) + b.sum(1)
        dice = torch.where(total > 0, 2 * (a * b).sum(1) / total.clamp(min=1), 1.0)
        scores += dice.tolist()
    return {
        "images": len(scores),
        "dice_mean": sum(scores) / len(scores),
        "dice_min": min(scores),
        "max_relative_difference": apart,
    }
