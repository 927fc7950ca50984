# SPDX-License-Identifier: Apache-2.0
"""Images without a fixed unit, such as MR, to [0, 1] by their own percentiles."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.tensors import check_finite, plain

__all__ = ["PercentileScale", "PercentileScaled", "percentiles"]


def selected_percentiles(x: Tensor, q: Sequence[float]) -> list[float]:
    """As :func:`percentiles`, by PyTorch's selection on the tensor's own device."""
    values = x.detach().flatten()
    results = []
    for percent in q:
        position = percent / 100 * (values.numel() - 1)
        below = math.floor(position)
        low = float(values.kthvalue(below + 1).values)
        high = float(values.kthvalue(below + 2).values) if position > below else low
        results.append(low + (high - low) * (position - below))
    return results


def percentiles(x: Tensor, q: Sequence[float]) -> list[float]:
    """Percentiles of all values, equal to ``numpy.percentile`` with its linear interpolation, for any size and device.

    ``torch.quantile`` refuses more than 16 million values, and MONAI then brings a GPU's tensor to the CPU.

    Args:
        x: any shape, at least one value, none of them NaN.
        q: percentiles in [0, 100].

    Returns:
        As many numbers as ``q``.

    Example:
        >>> percentiles(torch.tensor([0, 10, 20, 30]), [0, 50, 90])
        [0.0, 15.0, 27.0]
    """
    if x.device.type != "cpu":
        return selected_percentiles(x, q)
    # NumPy's selection holds one copy in the tensor's dtype; PyTorch's on the CPU adds an index of 8 bytes a value.
    # Small floating types would be interpolated in themselves.
    plain = x.detach().float() if x.dtype in (torch.float16, torch.bfloat16) else x.detach()
    return [float(value) for value in np.percentile(plain.numpy(), q)]


class PercentileScale(Transform):
    """Map the values between two percentiles of the image to [0, 1], clipped.

    Use it on the whole volume, before it is cut: the same tissue should not change from slice to slice.

    Args:
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.
        nonzero: whether the percentiles are those of the values other than 0 (images whose background is set to 0).
        channel_wise: whether each channel has its own.

    Raises:
        ConfigError: When it is not 0 <= lower < upper <= 100.

    Example:
        >>> PercentileScale(0, 100)(torch.tensor([[10.0, 20.0, 30.0]])).tolist()
        [[0.0, 0.5, 1.0]]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(
        self, lower: float = 0.5, upper: float = 99.5, nonzero: bool = False, channel_wise: bool = False
    ) -> None:
        if not 0 <= lower < upper <= 100:
            raise ConfigError(f"Percentiles must be 0 <= lower < upper <= 100, got lower {lower} and upper {upper}.")
        self.lower = lower
        self.upper = upper
        self.nonzero = nonzero
        self.channel_wise = channel_wise

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Scale an image.

        Args:
            img: (C, ...), of any dtype.

        Returns:
            (C, ...) in [0, 1], float32 (float64 stays), on the image's device; 0 where both percentiles are one value
            or, with ``nonzero``, there is nothing but 0.

        Raises:
            DataError: When the image is empty, or holds NaN or an infinite value.
        """
        x: Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        values = plain(x)
        if values.numel() == 0:
            raise DataError(f"An image needs at least one value, got shape {tuple(values.shape)}.")
        check_finite(x, "A percentile")
        # Limits first: the selection's copy of a large volume is gone before the result is made.
        limits = [self._limits(part) for part in (values if self.channel_wise else [values])]
        out = values.to(torch.float64 if values.dtype == torch.float64 else torch.float32, copy=True)
        for part, (low, high) in zip(out if self.channel_wise else [out], limits, strict=True):
            if high > low:
                part.sub_(low).div_(high - low).clamp_(0, 1)
            else:
                part.zero_()
        return MetaTensor(out).copy_meta_from(x) if isinstance(x, MetaTensor) else out

    def _limits(self, source: Tensor) -> tuple[float, float]:
        values = source[source != 0] if self.nonzero else source
        if values.numel() == 0:
            return 0.0, 0.0
        low, high = percentiles(values, (self.lower, self.upper))
        return low, high


class PercentileScaled(MapTransform):
    """Dictionary version of :class:`PercentileScale`.

    Args:
        keys: keys of the images.
        lower: as in :class:`PercentileScale`.
        upper: as in :class:`PercentileScale`.
        nonzero: as in :class:`PercentileScale`.
        channel_wise: as in :class:`PercentileScale`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: As :class:`PercentileScale`.
    """

    backend = PercentileScale.backend

    def __init__(
        self,
        keys: KeysCollection,
        lower: float = 0.5,
        upper: float = 99.5,
        nonzero: bool = False,
        channel_wise: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = PercentileScale(lower, upper, nonzero, channel_wise)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the images under the keys; see :meth:`PercentileScale.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d
