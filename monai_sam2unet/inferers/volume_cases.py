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
from monai_sam2unet.transforms.tensors import plain

__all__ = ["VolumeCases"]

#: Key of the metadata that says what made probabilities of a result.
ACTIVATION = "activation"

#: What the metadata say of an affine: the one in the file, whether it leads to the patient, what its mm are known from.
GEOMETRY = (MetaKeys.ORIGINAL_AFFINE, "in_patient_space", "spacing_source")


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


def _geometry(x: Tensor, count: int) -> list[dict[str, Any]]:
    """What the meta of each of ``count`` volumes in a tensor says of its affine."""
    meta = x.meta if isinstance(x, MetaTensor) else {}
    return [{name: _of_case(meta[name], case) for name in GEOMETRY if name in meta} for case in range(count)]


def _of_case(value: Any, case: int) -> Any:
    collated = isinstance(value, (list, tuple)) or (hasattr(value, "ndim") and value.ndim in (1, 3))
    return value[case] if collated else value


@dataclass(frozen=True)
class VolumeCases:
    """Volumes as a flat list.

    Args:
        given: what the user gave.
        volumes: plain tensors (C, X, Y, Z), parts of what was given.
        affines: (4, 4) of each, or None.
        geometry: what their metadata say of the affines.
    """

    given: Tensor | list[Tensor]
    volumes: list[Tensor]
    affines: list[Tensor | None]
    geometry: list[dict[str, Any]]

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
            count = len(inputs)
            cases = cls(inputs, list(plain(inputs).unbind()), _affines(inputs, count), _geometry(inputs, count))
        else:
            given = list(inputs)
            for number, x in enumerate(given):
                if not isinstance(x, Tensor) or not (x.ndim == 4 or (x.ndim == 5 and len(x) == 1)):
                    found = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
                    raise DataError(
                        f"Volumes in a list are tensors (C, X, Y, Z) or (1, C, X, Y, Z); number {number} has {found}."
                    )
            volumes = [plain(x)[0] if x.ndim == 5 else plain(x) for x in given]
            cases = cls(given, volumes, [_affines(x, 1)[0] for x in given], [_geometry(x, 1)[0] for x in given])
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

    def located(self, case: int) -> Tensor:
        """The volume (C, X, Y, Z) of a case with its affine and what is said of it; plain where it has none."""
        volume, affine = self.volumes[case], self.affines[case]
        return volume if affine is None else MetaTensor(volume, affine, dict(self.geometry[case]))

    def like_given(self, results: Tensor | list[Tensor], activation: str | None = None) -> Tensor | list[Tensor]:
        """Results in the form of the input, with its metadata.

        Args:
            results: (B, K, X, Y, Z) if one tensor was given, else (K, X, Y, Z) of each case.
            activation: what made probabilities of them, to be noted in ``meta["activation"]``.

        Returns:
            (B, K, X, Y, Z), or a list of (K, X, Y, Z) or (1, K, X, Y, Z).
        """
        if isinstance(self.given, Tensor):
            return _with_meta(results, self.given, activation)
        return [
            _with_meta(y[None] if x.ndim == 5 else y, x, activation) for x, y in zip(self.given, results, strict=True)
        ]


def _with_meta(y: Any, x: Tensor, activation: str | None) -> Any:
    if not isinstance(x, MetaTensor):
        return y
    result: MetaTensor = MetaTensor(y).copy_meta_from(x)
    # The input may itself be a network's result.
    result.meta.pop(ACTIVATION, None)
    if activation is not None:
        result.meta[ACTIVATION] = activation
    return result
