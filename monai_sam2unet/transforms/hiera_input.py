# SPDX-License-Identifier: Apache-2.0
"""The one place where a slice or picture becomes the encoder's input."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.fit_geometry import FitPlan
from monai_sam2unet.transforms.fit_to_size import FitToSize
from monai_sam2unet.transforms.normalize_as_imagenet import IMAGENET_MEAN, IMAGENET_STD, NormalizeAsImageNet
from monai_sam2unet.transforms.tensors import plain
from monai_sam2unet.transforms.value_range import ValueRange

__all__ = ["HieraInput", "HieraInputState", "HieraInputd"]


@dataclass(frozen=True, eq=False)
class HieraInputState:
    """What the way back of a batch needs.

    Args:
        plan: where the slices lie in the network's grid.
        values: the range of the slices' values; None where it is not looked at.
    """

    plan: FitPlan
    values: ValueRange | None


class HieraInput(InvertibleTransform):
    """Fit a slice or picture with values in [0, 1] to the network's size, make three channels, normalise as ImageNet.

    It is :class:`FitToSize`, then :class:`NormalizeAsImageNet`; training that augments between them uses those two.
    Only the geometry is inverted: a prediction (K, h, w) goes back to the source's grid.

    Padding is black, that is 0 before the normalisation.

    Args:
        spatial_size: as in :class:`FitToSize`.
        keep_aspect: as in :class:`FitToSize`.
        pixel_spacing: as in :class:`FitToSize`.
        mean: as in :class:`NormalizeAsImageNet`; with None values are not checked.
        std: as in :class:`NormalizeAsImageNet`.
        in_channels: as in :class:`NormalizeAsImageNet`.
        anti_aliasing: as in :class:`FitToSize`.
        enlarge_or_shrink: as in :class:`FitToSize`.
        repeat_gray: as in :class:`NormalizeAsImageNet`.
        multiple: as in :class:`FitToSize`.

    Raises:
        ConfigError: When a value is not allowed.

    Example:
        >>> import torch
        >>> tuple(HieraInput((64, 96))(torch.rand(1, 30, 40)).shape)
        (3, 64, 96)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(
        self,
        spatial_size: int | Sequence[int] | None = (352, 352),
        keep_aspect: bool = False,
        pixel_spacing: float | Sequence[float] | None = None,
        mean: float | Sequence[float] | None = IMAGENET_MEAN,
        std: float | Sequence[float] | None = IMAGENET_STD,
        in_channels: int = 3,
        anti_aliasing: bool = True,
        enlarge_or_shrink: bool = True,
        repeat_gray: bool = True,
        multiple: int = 32,
    ) -> None:
        self.fit = FitToSize(
            spatial_size,
            keep_aspect,
            pixel_spacing,
            anti_aliasing=anti_aliasing,
            enlarge_or_shrink=enlarge_or_shrink,
            multiple=multiple,
        )
        self.normalization = NormalizeAsImageNet(mean, std, in_channels, repeat_gray)

    def _range(self, x: Tensor) -> ValueRange | None:
        return None if self.normalization.mean is None else ValueRange.of(x)

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Make the network's input of one slice or picture.

        Args:
            img: (C, H, W) in [0, 1].

        Returns:
            (in_channels, h, w), floating point, with the affine of its pixels and a trace for the inverse.

        Raises:
            DataError: When the number of channels or the values are not as said above, or the slice does not fit (see
                :class:`FitToSize`).
        """
        x: Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        if x.ndim == 3:
            self.normalization.check_channels(x.shape)
        values = self._range(plain(x))
        if values is not None:
            values.check()
        return self.normalization(self.fit(x))

    def inverse(self, data: Tensor) -> MetaTensor:
        """Bring a prediction that carries the input's trace to the source's grid; see :meth:`FitToSize.inverse`."""
        return self.fit.inverse(data)

    def forward_batch(self, x: Tensor, spacing: Sequence[float] | None = None) -> tuple[Tensor, HieraInputState]:
        """Make the network's input of a batch of slices of one size, on their device.

        On a GPU values out of range are told by :meth:`inverse_batch` only: here it would have to wait for all that is
        queued, there the network is queued already, and it waits no longer than until that one begins.

        Args:
            x: (N, C, H, W) in [0, 1].
            spacing: mm between rows and columns, for ``pixel_spacing`` and ``keep_aspect``; read from the affine if
                ``x`` is a MetaTensor.

        Returns:
            (N, in_channels, h, w), new, and what :meth:`inverse_batch` needs.

        Raises:
            DataError: As :meth:`__call__`.
        """
        if x.ndim != 4:
            raise DataError(f"A batch of slices is (N, C, H, W), got shape {tuple(x.shape)}.")
        self.normalization.check_channels(x.shape)
        plan = self.fit.plan(x, spacing)
        source = plain(x)
        values = self._range(source)
        if values is not None and not source.is_cuda:
            values.check()
        fitted = plan.forward(source, anti_aliasing=self.fit.anti_aliasing)
        return self.normalization.normalize(fitted), HieraInputState(plan, values)

    def inverse_batch(self, y: Tensor, state: HieraInputState) -> Tensor:
        """Bring a batch of predictions to the source's grid, linearly.

        Args:
            y: probabilities or logits (N, K, h, w).
            state: what :meth:`forward_batch` gave.

        Returns:
            (N, K, H, W).

        Raises:
            DataError: When the values that :meth:`forward_batch` was given were not in [0, 1], or ``y`` does not have
                the height and width that the network was given.
        """
        if state.values is not None:
            state.values.check()
        return state.plan.inverse(y)


class HieraInputd(MapTransform, InvertibleTransform):
    """Dictionary version of :class:`HieraInput`; labels take :class:`FitToSized` with ``mode="nearest"``.

    Args:
        keys: keys of the slices or pictures.
        spatial_size: as in :class:`HieraInput`.
        keep_aspect: as in :class:`HieraInput`.
        pixel_spacing: as in :class:`HieraInput`.
        mean: as in :class:`HieraInput`.
        std: as in :class:`HieraInput`.
        in_channels: as in :class:`HieraInput`.
        anti_aliasing: as in :class:`HieraInput`.
        enlarge_or_shrink: as in :class:`HieraInput`.
        repeat_gray: as in :class:`HieraInput`.
        multiple: as in :class:`HieraInput`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: When a value is not allowed.
    """

    backend = HieraInput.backend

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: int | Sequence[int] | None = (352, 352),
        keep_aspect: bool = False,
        pixel_spacing: float | Sequence[float] | None = None,
        mean: float | Sequence[float] | None = IMAGENET_MEAN,
        std: float | Sequence[float] | None = IMAGENET_STD,
        in_channels: int = 3,
        anti_aliasing: bool = True,
        enlarge_or_shrink: bool = True,
        repeat_gray: bool = True,
        multiple: int = 32,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = HieraInput(
            spatial_size,
            keep_aspect,
            pixel_spacing,
            mean,
            std,
            in_channels,
            anti_aliasing,
            enlarge_or_shrink,
            repeat_gray,
            multiple,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the network's input under the keys; see :meth:`HieraInput.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring what is under the keys to the source's grid; see :meth:`FitToSize.inverse`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform.inverse(d[key])
        return d
