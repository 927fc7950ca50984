# SPDX-License-Identifier: Apache-2.0
"""CT windows: Hounsfield units to [0, 1]."""

from __future__ import annotations

import math
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

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.transforms.tensors import check_finite, empty_channels, plain

__all__ = ["CT_WINDOWS", "CTWindow", "CTWindowd"]

#: Level and width in HU, the usual presets: "Windowing (CT)", https://radiopaedia.org/articles/windowing-ct.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "liver": (30.0, 150.0),
    "soft_tissue": (50.0, 400.0),
    "mediastinum": (50.0, 350.0),
}

Window = str | tuple[float, float] | list[float]


def _one(window: Any) -> tuple[float, float]:
    if isinstance(window, str):
        if window not in CT_WINDOWS:
            raise ConfigError(
                f"A CT window is one of {', '.join(CT_WINDOWS)}, or (level, width) in HU, got {window!r}."
            )
        return CT_WINDOWS[window]
    try:
        level, width = (float(value) for value in window)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"A CT window is a name or (level, width) in HU, got {window!r}.") from error
    if not (math.isfinite(level) and math.isfinite(width) and width > 0):
        raise ConfigError(f"A CT window has a finite level and a width above 0 HU, got {window!r}.")
    return level, width


def _all(windows: Any) -> tuple[tuple[float, float], ...]:
    """One window or several; two plain numbers are one window."""
    if isinstance(windows, str):
        return (_one(windows),)
    if not isinstance(windows, Sequence) or len(windows) == 0:
        raise ConfigError(f"windows must be a window or a sequence of windows, got {windows!r}.")
    if all(isinstance(value, (int, float)) for value in windows):
        return (_one(windows),)
    return tuple(_one(window) for window in windows)


class CTWindow(Transform):
    """Show a range of Hounsfield units as [0, 1], clipped: (HU - (level - width / 2)) / width.

    That is DICOM's LINEAR_EXACT; its LINEAR, for whole numbers, differs by half a HU at most.

    There are as many channels as windows (times those of the image). One window keeps a volume at one channel;
    :class:`HieraInput` repeats it slice by slice. Each further window of a volume costs as much memory again. A slice
    has the same values windowed by itself: where memory is short, window the slices of :class:`SliceSequence`.

    Args:
        windows: a name of :data:`CT_WINDOWS`, or (level, width) in HU; or a sequence of these, one a channel.

    Raises:
        ConfigError: When a window has no known name, or is not (level, width) with a width above 0.

    Example:
        >>> CTWindow("brain")(torch.tensor([[-10.0, 0.0, 40.0, 80.0, 1000.0]])).tolist()
        [[0.0, 0.0, 0.5, 1.0, 1.0]]
        >>> tuple(CTWindow(["lung", "soft_tissue", (400, 1800)])(torch.zeros(1, 8, 8)).shape)
        (3, 8, 8)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(self, windows: Window | Sequence[Window] = "soft_tissue") -> None:
        self.windows = _all(windows)

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Window an image.

        Args:
            img: HU (C, ...), of any dtype.

        Returns:
            (C * windows, ...) in [0, 1], float32 (float64 stays), on the image's device; all channels of the first
            window come first.

        Raises:
            DataError: When a value is NaN or infinite.
        """
        x: Tensor = convert_to_tensor(img, track_meta=get_track_meta())
        values = plain(x)
        check_finite(x, "A CT window")
        channels = values.shape[0]
        dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
        out = empty_channels(values, channels * len(self.windows), dtype)
        for number, (level, width) in enumerate(self.windows):
            # In place, for a volume is large.
            part = out[number * channels : (number + 1) * channels].copy_(values)
            part.sub_(level - width / 2).div_(width).clamp_(0, 1)
        return MetaTensor(out).copy_meta_from(x) if isinstance(x, MetaTensor) else out


class CTWindowd(MapTransform):
    """Dictionary version of :class:`CTWindow`.

    Args:
        keys: keys of the images.
        windows: as in :class:`CTWindow`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: As :class:`CTWindow`.
    """

    backend = CTWindow.backend

    def __init__(
        self,
        keys: KeysCollection,
        windows: Window | Sequence[Window] = "soft_tissue",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = CTWindow(windows)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Window the images under the keys; see :meth:`CTWindow.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d
