# SPDX-License-Identifier: Apache-2.0
"""Compares an exported file with the network that it was made of."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from monai_sam2unet.errors import WeightsError, listing
from monai_sam2unet.export.open_exported import open_exported
from monai_sam2unet.networks import SAM2UNet

__all__ = ["CHECKED_SIZES", "SizeCheck", "check_export"]

CHECKED_SIZES = ((1, 352, 352), (2, 64, 96), (1, 320, 416), (3, 224, 160), (1, 250, 333))


class SizeCheck(NamedTuple):
    """How far an exported file's logits are from the network's, at one size.

    Attributes:
        shape: of the images (B, C, H, W).
        largest: largest magnitude among the network's logits.
        difference: largest difference from them.
        changed: share of the pixels, in [0, 1], whose logit has another sign: of a binary mask, those that change.
    """

    shape: tuple[int, ...]
    largest: float
    difference: float
    changed: float

    @property
    def relative(self) -> float:
        """The difference as a share of the largest logit."""
        return self.difference / self.largest if self.largest > 0 else self.difference


def _random_images(exported: nn.Module, channels: int, sizes: Iterable[Sequence[int]]) -> list[Tensor]:
    """Random images of the sizes, with those that the file is fixed to in their place, each once."""
    fixed = getattr(exported, "input_shape", (None, None, None, None))
    shapes = [(batch, channels, height, width) for batch, height, width in sizes]
    wanted = [tuple(f or size for f, size in zip(fixed, shape, strict=True)) for shape in shapes]
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in dict.fromkeys(wanted)]


@torch.no_grad()
def check_export(
    exported: str | Path | nn.Module,
    network: SAM2UNet,
    sizes: Iterable[Sequence[int]] = CHECKED_SIZES,
    *,
    images: Iterable[Tensor] = (),
    tolerance: float | None = 1e-5,
    on_size: Callable[[], None] = lambda: None,
) -> list[SizeCheck]:
    """Compare an exported file with the network that it was made of.

    The network is run in float64, so that what is measured is the file's own rounding: in float32 the network itself is
    up to 7e-6 of its largest logit away from that.

    Args:
        exported: the file, or what :func:`~monai_sam2unet.export.open_exported` gave for it.
        network: as it was given to the export; it stays as it is.
        sizes: (batch, height, width) of random images. Where the file is fixed to a size that one is taken instead.
        images: further images (B, C, H, W), normalised as in training.
        tolerance: largest difference allowed, as a share of the network's largest logit; None allows any that is a
            number. The default is for float32.
        on_size: called after each size, for a progress bar.

    Returns:
        A row for each size and image.

    Raises:
        ConfigError: When the file is of no known kind or the package that runs it is not installed.
        WeightsError: When the file is not there or cannot be read, its logits are of another shape, or a difference is
            not a number or above ``tolerance``.
        DataError: When the file does not take the images.
    """
    opened = exported if isinstance(exported, nn.Module) else open_exported(exported)
    exact = copy.deepcopy(network).cpu().eval().double()
    rows = []
    channels = network.encoder.patch_embed.proj.in_channels
    for image in [*_random_images(opened, channels, sizes), *images]:
        wanted, found = exact(image.double()), opened(image).double()
        if found.shape != wanted.shape:
            raise WeightsError(
                f"The exported file gives logits {tuple(found.shape)} where the network gives {tuple(wanted.shape)}."
            )
        rows.append(
            SizeCheck(
                tuple(image.shape),
                wanted.abs().max().item(),
                (wanted - found).abs().max().item(),
                ((wanted > 0) != (found > 0)).double().mean().item(),
            )
        )
        on_size()
    allowed = math.inf if tolerance is None else tolerance
    # Written so that NaN is too far.
    far = [row for row in rows if not (row.relative <= allowed and math.isfinite(row.relative))]
    if far:
        raise WeightsError(
            "The exported file does not compute what the network computes. Largest difference as a share of the "
            f"largest logit, of which {allowed:.0e} is allowed:\n"
            + listing([f"{row.shape}: {row.relative:.1e}" for row in far])
        )
    return rows
