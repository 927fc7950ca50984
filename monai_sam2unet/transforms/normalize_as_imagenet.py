# SPDX-License-Identifier: Apache-2.0
"""The encoder's channels and ImageNet's mean and standard deviation, for slices and pictures in [0, 1]."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.tensors import plain

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "NormalizeAsImageNet", "NormalizeAsImageNetd"]

#: Mean and standard deviation of ImageNet's red, green and blue in [0, 1]; Hiera was trained on images so normalised.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class NormalizeAsImageNet(Transform):
    """Repeat gray to the network's channels, subtract ImageNet's mean and divide by its standard deviation.

    It is the last step of :class:`HieraInput`, by itself for training, where augmentation comes before it. Other than
    with MONAI's ``NormalizeIntensity(channel_wise=True)`` the image given stays as it is. Values are not checked.

    Args:
        mean: subtracted, one number or one a channel. With another number of channels than three, ImageNet's are
            averaged. None together with ``std`` for images that are normalised already.
        std: what is then divided by, given as ``mean``.
        in_channels: channels that the network takes. With 3, a gray image is repeated; with any other number, images
            must have as many (neighbouring slices, sequences, or 1 for a network that takes gray).
        repeat_gray: whether an image of one channel will do for three. False where three are three slices (2.5D), so
            that one alone means that its neighbours were forgotten.

    Raises:
        ConfigError: When a value is not allowed.

    Example:
        >>> NormalizeAsImageNet()(torch.full((1, 1, 1), 0.485))[:, 0, 0].tolist()[0]
        0.0
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(
        self,
        mean: float | Sequence[float] | None = IMAGENET_MEAN,
        std: float | Sequence[float] | None = IMAGENET_STD,
        in_channels: int = 3,
        repeat_gray: bool = True,
    ) -> None:
        if not isinstance(in_channels, int) or isinstance(in_channels, bool) or in_channels < 1:
            raise ConfigError(f"in_channels must be a whole number of at least 1, got {in_channels!r}.")
        if (mean is None) != (std is None):
            raise ConfigError("mean and std go together: give both, or None for both.")
        self.in_channels = in_channels
        self.repeat_gray = repeat_gray
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
        return values * (self.in_channels // len(values))

    def check_channels(self, shape: Sequence[int]) -> None:
        """Refuse what is not the network's number of channels, nor gray that may be repeated.

        Args:
            shape: (..., C, H, W).

        Raises:
            DataError: When it is another number.
        """
        channels, three = shape[-3], self.in_channels == 3
        repeats = three and self.repeat_gray
        if channels == self.in_channels or (channels == 1 and repeats):
            return
        wanted = "1 or 3 channels" if repeats else f"{self.in_channels} channel{'s' if self.in_channels > 1 else ''}"
        hint = " in_channels says how many the network takes."
        if three and channels in (2, 4):
            hint = " Drop an alpha channel first." + hint
        elif three and channels == 1:
            hint = (
                " One channel is not repeated here, since repeat_gray=False: were the neighbouring slices forgotten? "
                "VolumeToSlices and SliceWiseInferer take neighbours=1 for three; gray images take repeat_gray=True."
            )
        raise DataError(f"The network's input needs {wanted}, got shape {tuple(shape)}.{hint}")

    def normalize(self, x: Tensor) -> Tensor:
        """Do it with plain tensors (..., C, H, W), also in batches; see :meth:`__call__`."""
        self.check_channels(x.shape)
        x = x if x.is_floating_point() else x.float()
        if self.mean is None or self.std is None:
            wide = [-1] * x.ndim
            wide[-3] = self.in_channels
            return x.expand(wide).clone(memory_format=torch.contiguous_format)
        # Filled where they are: a copy from the CPU would make a GPU wait.
        mean, std = (
            torch.cat([torch.full((1, 1, 1), v, dtype=x.dtype, device=x.device) for v in values])
            for values in (self.mean, self.std)
        )
        return (x - mean).div_(std)

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Normalise one slice or picture.

        Args:
            img: (C, H, W) in [0, 1].

        Returns:
            (in_channels, H, W), floating point, new; with the image's meta if it is a MetaTensor.

        Raises:
            DataError: When it is not (C, H, W), or the number of channels is not as said above.
        """
        x: Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        if x.ndim != 3:
            raise DataError(f"Slices and pictures are (C, H, W), got shape {tuple(x.shape)}. Volumes: VolumeToSlices.")
        out = self.normalize(plain(x))
        return MetaTensor(out).copy_meta_from(x) if isinstance(x, MetaTensor) else out


class NormalizeAsImageNetd(MapTransform):
    """Dictionary version of :class:`NormalizeAsImageNet`.

    Args:
        keys: keys of the slices or pictures.
        mean: as in :class:`NormalizeAsImageNet`.
        std: as in :class:`NormalizeAsImageNet`.
        in_channels: as in :class:`NormalizeAsImageNet`.
        repeat_gray: as in :class:`NormalizeAsImageNet`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: As :class:`NormalizeAsImageNet`.
    """

    backend = NormalizeAsImageNet.backend

    def __init__(
        self,
        keys: KeysCollection,
        mean: float | Sequence[float] | None = IMAGENET_MEAN,
        std: float | Sequence[float] | None = IMAGENET_STD,
        in_channels: int = 3,
        repeat_gray: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = NormalizeAsImageNet(mean, std, in_channels, repeat_gray)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise the images under the keys; see :meth:`NormalizeAsImageNet.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d
