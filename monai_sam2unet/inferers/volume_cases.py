# SPDX-License-Identifier: Apache-2.0
"""The volumes given to an inferer, one tensor or several of different sizes, and results in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["VolumeCases"]


def _plain(x: Tensor) -> Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def _affines(x: Tensor, count: int) -> list[Tensor | None]:
    """The affine (4, 4) of each of ``count`` volumes in a tensor; None where there is none."""
    affine = x.meta.get("affine") if isinstance(x, MetaTensor) else None
    if affine is None:
        return [None] * count
    affine = torch.as_tensor(affine).detach().cpu()
    if affine.ndim == 2:
        return [affine] * count
    if len(affine) != count:
        raise DataError(f"{count} volumes carry {len(affine)} affines. Collate them with MONAI's DataLoader.")
    return list(affine)


def _affine_read(x: Tensor) -> bool:
    return isinstance(x, MetaTensor) and MetaKeys.ORIGINAL_AFFINE in x.meta


@dataclass(frozen=True)
class VolumeCases:
    """Volumes as a flat list.

    Args:
        given: what the user gave.
        volumes: plain tensors (C, X, Y, Z), parts of what was given.
        affines: (4, 4) of each, or None.
        affines_read: whether these were read from files.
    """

    given: Tensor | list[Tensor]
    volumes: list[Tensor]
    affines: list[Tensor | None]
    affines_read: list[bool]

    @classmethod
    def of(cls, inputs: Tensor | Sequence[Tensor]) -> VolumeCases:
        """Take volumes apart.

        Args:
            inputs: (B, C, X, Y, Z); or a list of (C, X, Y, Z) or (1, C, X, Y, Z).

        Raises:
            DataError: When a tensor has another shape, is empty or complex, or channels or devices differ.
        """
        if isinstance(inputs, Tensor):
            if inputs.ndim != 5:
                raise DataError(
                    f"A batch of volumes has shape (B, C, X, Y, Z), got {tuple(inputs.shape)}. One volume "
                    "(C, X, Y, Z) needs a first dimension, volume[None]; or give a list of volumes."
                )
            read = [_affine_read(inputs)] * len(inputs)
            cases = cls(inputs, list(_plain(inputs).unbind()), _affines(inputs, len(inputs)), read)
        else:
            given = list(inputs)
            for number, x in enumerate(given):
                if not isinstance(x, Tensor) or not (x.ndim == 4 or (x.ndim == 5 and len(x) == 1)):
                    found = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
                    raise DataError(
                        f"Volumes in a list are tensors (C, X, Y, Z) or (1, C, X, Y, Z); number {number} has {found}."
                    )
            volumes = [_plain(x)[0] if x.ndim == 5 else _plain(x) for x in given]
            cases = cls(given, volumes, [_affines(x, 1)[0] for x in given], [_affine_read(x) for x in given])
        cases._check()
        return cases

    def _check(self) -> None:
        if not self.volumes:
            raise DataError("There is no volume to predict.")
        for number, x in enumerate(self.volumes):
            if not x.numel() or x.is_complex():
                raise DataError(f"Volume {number} has shape {tuple(x.shape)} and type {x.dtype}: it cannot be sliced.")
        channels = [x.shape[0] for x in self.volumes]
        if len(set(channels)) > 1:
            raise DataError(f"All volumes must have the same number of channels, got {channels}.")
        devices = {str(x.device) for x in self.volumes}
        if len(devices) > 1:
            raise DataError(f"All volumes must lie on one device, got {', '.join(sorted(devices))}.")

    @property
    def stacked(self) -> bool:
        """Whether one tensor was given."""
        return isinstance(self.given, Tensor)

    def like_given(self, results: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        """Results in the form of the input, with its metadata.

        Args:
            results: (B, K, X, Y, Z) if one tensor was given, else (K, X, Y, Z) of each case.

        Returns:
            (B, K, X, Y, Z), or a list of (K, X, Y, Z) or (1, K, X, Y, Z).
        """
        if isinstance(self.given, Tensor):
            return _with_meta(results, self.given)
        return [_with_meta(y[None] if x.ndim == 5 else y, x) for x, y in zip(self.given, results, strict=True)]


def _with_meta(y: Any, x: Tensor) -> Any:
    return MetaTensor(y).copy_meta_from(x) if isinstance(x, MetaTensor) else y
