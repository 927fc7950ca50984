# SPDX-License-Identifier: Apache-2.0
"""The one place where a slice or picture becomes the encoder's input."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.fit_geometry import FitPlan
from monai_sam2unet.transforms.fit_to_size import FitToSize

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "HieraInput", "HieraInputd"]

#: Mean and standard deviation of ImageNet's red, green and blue in [0, 1]; Hiera was trained on images so normalised.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: Values beyond these were not scaled to [0, 1]; noise or a gain may lead a little out of it.
TOLERATED = (-0.5, 1.5)


def _check_channels(shape: Sequence[int], in_channels: int) -> None:
    channels = shape[-3]
    if channels == in_channels or (channels == 1 and in_channels == 3):
        return
    wanted = "1 or 3 channels" if in_channels == 3 else f"{in_channels} channel{'s' if in_channels > 1 else ''}"
    hint = " Drop an alpha channel first." if in_channels == 3 and channels in (2, 4) else ""
    raise DataError(
        f"The network's input needs {wanted}, got shape {tuple(shape)}.{hint} "
        "in_channels says how many the network takes."
    )


class HieraInput(InvertibleTransform):
    """Fit a slice or picture with values in [0, 1] to the network's size, make three channels, normalise as ImageNet.

    It equals :class:`FitToSize`, :class:`ThreeChannels` and MONAI's ``NormalizeIntensity(IMAGENET_MEAN, IMAGENET_STD,
    channel_wise=True)`` in this order; training that augments between them uses those three. Only the geometry is
    inverted: a prediction (K, h, w) goes back to the source's grid.

    Padding is black, that is 0 before the normalisation.

    Args:
        spatial_size: as in :class:`FitToSize`.
        keep_aspect: as in :class:`FitToSize`.
        pixel_spacing: as in :class:`FitToSize`.
        mean: subtracted, one number or one a channel. With another number of channels than three, ImageNet's are
            averaged. None together with ``std`` for images that are normalised already.
        std: what is then divided by, given as ``mean``.
        in_channels: channels that the network takes. With 3, a gray image is repeated; with any other number, images
            must have as many (neighbouring slices, sequences, or 1 for a network that takes gray).
        anti_aliasing: as in :class:`FitToSize`.
        enlarge_or_shrink: as in :class:`FitToSize`.

    Raises:
        ConfigError: When a value is not allowed.

    Example:
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
    ) -> None:
        if not isinstance(in_channels, int) or in_channels < 1:
            raise ConfigError(f"in_channels must be a whole number of at least 1, got {in_channels!r}.")
        if (mean is None) != (std is None):
            raise ConfigError("mean and std go together: give both, or None for both.")
        self.fit = FitToSize(
            spatial_size,
            keep_aspect,
            pixel_spacing,
            anti_aliasing=anti_aliasing,
            enlarge_or_shrink=enlarge_or_shrink,
        )
        self.in_channels = in_channels
        self.mean = self._per_channel(mean, IMAGENET_MEAN, "mean")
        self.std = self._per_channel(std, IMAGENET_STD, "std")
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(f"std must be above 0, got {std!r}.")

    def _per_channel(
        self, given: float | Sequence[float] | None, imagenet: tuple[float, ...], name: str
    ) -> tuple[float, ...] | None:
        if given is None:
            return None
        values = (float(given),) if isinstance(given, (int, float)) else tuple(float(v) for v in given)
        if values == imagenet and self.in_channels != 3:
            values = (sum(imagenet) / 3,)
        if len(values) not in (1, self.in_channels):
            raise ConfigError(f"{name} must have one value, or one for each of {self.in_channels} channels: {given!r}.")
        return values

    def _check_range(self, x: Tensor) -> None:
        if self.mean is None or x.numel() == 0:
            return
        low, high = (float(v) for v in torch.aminmax(x))
        # Written so that NaN fails too.
        if not (low >= TOLERATED[0] and high <= TOLERATED[1]):
            raise DataError(
                f"HieraInput takes values in [0, 1], got {low:g} to {high:g}. Scale first: CTWindow, VOIWindow, "
                "PercentileScale, or 8-bit pictures divided by 255; for standardised images set mean and std to None."
            )

    def _normalise(self, x: Tensor) -> Tensor:
        """Normalise (..., C, h, w) and widen it to ``in_channels``, at once."""
        if self.mean is None or self.std is None:
            wide = [-1] * x.ndim
            wide[-3] = self.in_channels
            return x.expand(wide).contiguous()
        mean, std = (
            torch.tensor(v, dtype=x.dtype, device=x.device).expand(self.in_channels).view(-1, 1, 1)
            for v in (self.mean, self.std)
        )
        return (x - mean) / std

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
            _check_channels(x.shape, self.in_channels)
        self._check_range(x.as_tensor() if isinstance(x, MetaTensor) else x)
        fitted = self.fit(x)
        if not isinstance(fitted, MetaTensor):
            return self._normalise(fitted)
        out: MetaTensor = MetaTensor(self._normalise(fitted.as_tensor())).copy_meta_from(fitted)
        return out

    def inverse(self, data: Tensor) -> MetaTensor:
        """Bring a prediction that carries the input's trace to the source's grid; see :meth:`FitToSize.inverse`."""
        return self.fit.inverse(data)

    def forward_batch(self, x: Tensor, spacing: Sequence[float] | None = None) -> tuple[Tensor, FitPlan]:
        """Make the network's input of a batch of slices of one size, on their device.

        Values are checked on the CPU only: on a GPU that would make it wait.

        Args:
            x: (N, C, H, W) in [0, 1].
            spacing: mm between rows and columns; needed with ``pixel_spacing`` only, unless ``x`` is a MetaTensor.

        Returns:
            (N, in_channels, h, w), and what :meth:`inverse_batch` needs.

        Raises:
            DataError: As :meth:`__call__`.
        """
        if x.ndim != 4:
            raise DataError(f"A batch of slices is (N, C, H, W), got shape {tuple(x.shape)}.")
        _check_channels(x.shape, self.in_channels)
        plan = self.fit.plan(x, spacing)
        plain = x.as_tensor() if isinstance(x, MetaTensor) else x
        if plain.device.type == "cpu":
            self._check_range(plain)
        return self._normalise(plan.forward(plain, anti_aliasing=self.fit.anti_aliasing)), plan

    def inverse_batch(self, y: Tensor, state: FitPlan) -> Tensor:
        """Bring a batch of predictions to the source's grid, linearly.

        Args:
            y: probabilities or logits (N, K, h, w).
            state: what :meth:`forward_batch` gave.

        Returns:
            (N, K, H, W).

        Raises:
            DataError: When ``y`` does not have the height and width that the network was given.
        """
        return state.inverse(y)


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
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = HieraInput(
            spatial_size, keep_aspect, pixel_spacing, mean, std, in_channels, anti_aliasing, enlarge_or_shrink
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
