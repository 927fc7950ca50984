# SPDX-License-Identifier: Apache-2.0
"""The choices of a slice-wise inferer, checked once, and the stacks of slices that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.utils import BlendMode, PytorchPadMode
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers.checked_network import ACTIVATIONS
from monai_sam2unet.inferers.slice_stack import SliceStack, SliceTransform
from monai_sam2unet.inferers.volume_cases import VolumeCases
from monai_sam2unet.inferers.window_grid import WindowGrid
from monai_sam2unet.transforms.anatomical_plane import PLANES, AnatomicalPlane

__all__ = ["SliceSettings"]

UNCERTAINTIES = ("entropy", "variance")
PADDINGS = tuple(mode.value for mode in PytorchPadMode)


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}.")
    return value


def _one_of(name: str, value: Any, allowed: Sequence[str], none: bool = False) -> Any:
    if value in allowed or (none and value is None):
        return value
    raise ConfigError(f"{name} must be one of {', '.join(allowed)}{' or None' if none else ''}; got {value!r}.")


def _planes(spatial_dim: Any) -> tuple[int | str, ...]:
    planes = tuple(spatial_dim) if isinstance(spatial_dim, (list, tuple)) else (spatial_dim,)
    names = all(isinstance(p, str) and p in PLANES for p in planes)
    axes = all(isinstance(p, int) and not isinstance(p, bool) and 0 <= p <= 2 for p in planes)
    if not planes or not (names or axes):
        raise ConfigError(
            f"spatial_dim must be of {', '.join(PLANES)}, or an array axis 0, 1 or 2; several are all names or all "
            f"axes. Got {spatial_dim!r}."
        )
    if len(set(planes)) < len(planes):
        raise ConfigError(f"spatial_dim names a plane twice: {spatial_dim!r}.")
    return planes


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    pair = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in pair):
        raise ConfigError(f"{name} must be one number, or one for rows and one for columns; got {value!r}.")
    return pair


class SliceSettings:
    """The arguments of :class:`monai_sam2unet.inferers.SliceWiseInferer`, where they are described.

    Args:
        passes: predictions of each batch, flipped or scaled.
        **given: the other arguments.

    Raises:
        ConfigError: When a value is not allowed, or does not go with another one.
    """

    def __init__(self, passes: int, **given: Any) -> None:
        self.planes = _planes(given["spatial_dim"])
        self.sw_batch_size = _whole("sw_batch_size", given["sw_batch_size"], 1)
        self.windows = None if given["roi_size"] is None else _pair("roi_size", given["roi_size"])
        self.overlaps = _pair("overlap", given["overlap"])
        self.mode = BlendMode(_one_of("mode", given["mode"], tuple(m.value for m in BlendMode))).value
        self.sigma_scale = given["sigma_scale"]
        self.padding_mode = _one_of("padding_mode", given["padding_mode"], PADDINGS)
        self.cval = given["cval"]
        self.slice_transform: SliceTransform | None = given["slice_transform"]
        self.neighbours = _whole("neighbours", given["neighbours"], 0)
        self.activation: str | None = _one_of("activation", given["activation"], ACTIVATIONS, none=True)
        self.uncertainty: str | None = _one_of("uncertainty", given["uncertainty"], UNCERTAINTIES, none=True)
        self.max_device_bytes: int | None = given["max_device_bytes"]
        self.output_dtype: torch.dtype = given["output_dtype"]
        self._check_values()
        self._check_together(passes)

    def _check_values(self) -> None:
        if self.windows is not None and not all(isinstance(n, int) for n in self.windows):
            raise ConfigError(f"roi_size must be whole numbers, got {self.windows!r}.")
        if not all(0 <= share < 1 for share in self.overlaps):
            raise ConfigError(f"overlap must lie in [0, 1), got {self.overlaps}.")
        if not self.sigma_scale > 0:
            raise ConfigError(f"sigma_scale must be above 0, got {self.sigma_scale!r}.")
        if self.max_device_bytes is not None:
            _whole("max_device_bytes", self.max_device_bytes, 0)
        transform = self.slice_transform
        if transform is not None and not all(hasattr(transform, m) for m in ("forward_batch", "inverse_batch")):
            raise ConfigError(
                f"slice_transform must have forward_batch and inverse_batch, as HieraInput has; {transform!r} has not."
            )
        if self.output_dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ConfigError(f"output_dtype must be float32, float16 or bfloat16, got {self.output_dtype}.")

    def _check_together(self, passes: int) -> None:
        total = passes * len(self.planes)
        if total > 1 and self.activation is None:
            raise ConfigError(
                f"{total} predictions are averaged, and logits must not be: give activation sigmoid or softmax, or "
                "identity if the network gives probabilities itself."
            )
        if self.uncertainty == "variance" and total == 1:
            raise ConfigError("One prediction has no variance: add planes, flips or scales, or take entropy.")
        if self.uncertainty == "entropy" and self.activation not in ("sigmoid", "softmax"):
            raise ConfigError(f"Entropy needs activation sigmoid or softmax, got {self.activation!r}.")
        if self.output_dtype != torch.float32 and (len(self.planes) > 1 or self.uncertainty == "variance"):
            raise ConfigError(
                f"output_dtype {self.output_dtype} is too coarse to add up several planes or a variance in: "
                "take float32."
            )

    def _plane(self, spatial_dim: int | str, affine: Tensor | None) -> AnatomicalPlane:
        if isinstance(spatial_dim, int):
            return AnatomicalPlane.from_spatial_dim(spatial_dim)
        if affine is None:
            raise DataError(
                f"{spatial_dim} slices are told by the affine, and the input is a tensor without one. Give a "
                "MetaTensor, as MONAI's LoadImage does, or the array axis as spatial_dim: 0, 1 or 2."
            )
        return AnatomicalPlane.from_affine(spatial_dim, affine)

    def stacks(self, cases: VolumeCases) -> list[SliceStack]:
        """All cases along all planes; windows of one shape follow each other, so that batches are full.

        Raises:
            DataError: When a plane by name meets a volume without an affine.
        """
        stacks = []
        for case, volume in enumerate(cases.volumes):
            affine = cases.affines[case]
            seen = []
            for plane in (self._plane(spatial_dim, affine) for spatial_dim in self.planes):
                size = (volume.shape[1 + plane.axes[0]], volume.shape[1 + plane.axes[1]])
                seen.append((WindowGrid.of(size, self.windows, self.overlaps), plane))
            seen.sort(key=lambda one: one[0].roi)
            stacks += [
                SliceStack(
                    case=case,
                    rank=rank,
                    plane=plane,
                    volume=volume,
                    affine=affine,
                    affine_read=cases.affines_read[case],
                    grid=grid,
                    neighbours=self.neighbours,
                    padding_mode=self.padding_mode,
                    cval=self.cval,
                )
                for rank, (grid, plane) in enumerate(seen)
            ]
        return sorted(stacks, key=lambda stack: stack.grid.roi)
