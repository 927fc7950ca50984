# SPDX-License-Identifier: Apache-2.0
"""The choices of a slice-wise inferer, checked once, and the stacks of slices that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from monai.utils import BlendMode, PytorchPadMode

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers.checked_network import ACTIVATIONS
from monai_sam2unet.inferers.slice_stack import SliceStack, SliceTransform
from monai_sam2unet.inferers.volume_cases import VolumeCases
from monai_sam2unet.inferers.window_grid import WindowGrid
from monai_sam2unet.transforms.anatomical_plane import AnatomicalPlane, check_plane
from monai_sam2unet.transforms.fit_geometry import pair
from monai_sam2unet.transforms.pixel_size import patient_affine

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
    given = spatial_dim if isinstance(spatial_dim, (list, tuple)) else [spatial_dim]
    planes = tuple(check_plane(plane, "spatial_dim") for plane in given)
    if len({isinstance(plane, str) for plane in planes}) != 1:
        raise ConfigError(f"spatial_dim must be one plane, or several, all names or all axes; got {spatial_dim!r}.")
    if len(set(planes)) < len(planes):
        raise ConfigError(f"spatial_dim names a plane twice: {spatial_dim!r}.")
    return planes


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
        self.windows = None if given["roi_size"] is None else pair("roi_size", given["roi_size"])
        self.overlaps = pair("overlap", given["overlap"])
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
        self.argmax: bool = given["argmax"]
        self.one_prediction = passes == 1 and len(self.planes) == 1 and self.windows is None
        self._check_values()
        self._check_together(passes)

    def _check_values(self) -> None:
        if self.windows is not None and not all(isinstance(n, Integral) for n in self.windows):
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
        if self.argmax and (len(self.planes) > 1 or self.uncertainty is not None):
            raise ConfigError(
                "argmax keeps the classes of one plane only, without uncertainty: of several planes, or beside an "
                "uncertainty, make the classes afterwards (FinaliseSegmentation(argmax=True))."
            )
        if self.output_dtype != torch.float32 and (len(self.planes) > 1 or self.uncertainty == "variance"):
            raise ConfigError(
                f"output_dtype {self.output_dtype} is too coarse to add up several planes or a variance in: "
                "take float32."
            )

    def _planes_of(self, cases: VolumeCases, case: int) -> list[AnatomicalPlane]:
        volume = cases.located(case)
        return [
            AnatomicalPlane.from_spatial_dim(plane)
            if isinstance(plane, int)
            else AnatomicalPlane.from_affine(plane, patient_affine(volume, f"Volume {case}: {plane} slices"))
            for plane in self.planes
        ]

    def stacks(self, cases: VolumeCases) -> list[SliceStack]:
        """All cases along all planes; windows of one shape follow each other, so that batches are full.

        Raises:
            DataError: When a plane by name meets a volume whose affine is not known.
        """
        stacks = []
        for case, volume in enumerate(cases.volumes):
            seen = []
            for plane in self._planes_of(cases, case):
                size = (volume.shape[1 + plane.axes[0]], volume.shape[1 + plane.axes[1]])
                seen.append((WindowGrid.of(size, self.windows, self.overlaps), plane))
            seen.sort(key=lambda one: one[0].roi)
            stacks += [
                SliceStack(
                    case=case,
                    rank=rank,
                    plane=plane,
                    volume=volume,
                    affine=cases.affines[case],
                    geometry=cases.geometry[case],
                    grid=grid,
                    neighbours=self.neighbours,
                    padding_mode=self.padding_mode,
                    cval=self.cval,
                )
                for rank, (grid, plane) in enumerate(seen)
            ]
        return sorted(stacks, key=lambda stack: stack.grid.roi)
