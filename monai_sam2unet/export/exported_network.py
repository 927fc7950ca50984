# SPDX-License-Identifier: Apache-2.0
"""Exported files as networks, for MONAI's inferers and engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from monai_sam2unet.errors import ConfigError, DataError, WeightsError

__all__ = ["ExportedNetwork", "check_threads", "existing_file"]

Shape = Sequence[int | None]


def existing_file(path: str | Path, suffix: str) -> Path:
    """The path of an exported file.

    Raises:
        ConfigError: When its suffix is another.
        WeightsError: When there is no such file.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ConfigError(f"An exported file ending in {suffix} is needed, got {path}.")
    if not path.is_file():
        raise WeightsError(f"There is no exported file {path}. Make one: sam2unet export CHECKPOINT {path}")
    return path


def check_threads(num_threads: int | None) -> None:
    """Refuse numbers of threads below 1.

    Raises:
        ConfigError: When the number is below 1; None is allowed.
    """
    if num_threads is not None and num_threads < 1:
        raise ConfigError(f"num_threads must be at least 1, got {num_threads}; None leaves the choice to the library.")


class ExportedNetwork(nn.Module):
    """A network in an exported file, used as SAM2UNet is in evaluation: images to logits.

    It has no parameters: ``to``, ``eval`` and ``train`` change nothing. Images on another device than the file's are
    brought there and the logits back.

    Attributes:
        path: the file.
        input_shape: (B, C, H, W) that the file takes; None where any number will do.
    """

    def __init__(self, path: Path, input_shape: Shape) -> None:
        super().__init__()
        self.path = path
        self.input_shape = tuple(input_shape)

    def _run(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    def _check(self, shape: Sequence[int]) -> None:
        fits = len(shape) == 4 and all(
            size > 0 and fixed in (None, size) for fixed, size in zip(self.input_shape, shape, strict=True)
        )
        if not fits:
            taken = ", ".join("any" if size is None else str(size) for size in self.input_shape)
            raise DataError(
                f"{self.path} takes images of shape ({taken}), got {tuple(shape)}. Bring the images to it, or export "
                "again: without fixed sizes, or with other channels."
            )

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Segment images.

        Args:
            x: images (B, C, H, W), normalised as in training; H and W are any, unless the file was fixed to some.

        Returns:
            Logits (B, out_channels, H, W), float32, on the images' device.

        Raises:
            DataError: When the file does not take this shape, or there is nothing in it.
        """
        self._check(x.shape)
        image = np.ascontiguousarray(x.detach().to("cpu", torch.float32).numpy())
        return torch.from_numpy(self._run(image)).to(x.device)
