# SPDX-License-Identifier: Apache-2.0
"""The window that a DICOM file itself asks to be shown with (VOI LUT)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils.enums import TransformBackends
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.tensors import check_finite

__all__ = ["VOI_FUNCTIONS", "VOIWindow", "VOIWindowd"]

#: Values of DICOM's VOI LUT Function (0028,1056); absent means LINEAR.
VOI_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def _numbers(value: Any, name: str) -> list[float]:
    """The numbers given; none for None and for NaN, by which the DICOM reader says that there are none."""
    try:
        numbers = [] if value is None else np.atleast_1d(np.asarray(value, dtype=np.float64)).tolist()
    except (TypeError, ValueError) as error:
        raise DataError(f"The image's {name} must be one or more numbers, got {value!r}.") from error
    return [] if np.isnan(numbers).all() else numbers


class VOIWindow(Transform):
    """Map values to [0, 1] by the window in the image's meta, as DICOM PS3.3 C.11.2.1.2 has it.

    Read from the meta: ``window_center`` and ``window_width`` (numbers, or lists of them; NaN is none), and
    ``voi_lut_function`` (LINEAR where absent). Values are those after the rescale slope and intercept: HU in CT.

    Args:
        index: which of several windows is taken, from 0.

    Raises:
        ConfigError: When the index is not a whole number of at least 0.

    Example:
        >>> image = MetaTensor(torch.tensor([[0.0, 50.0, 100.0]]))
        >>> image.meta.update(window_center=50.0, window_width=100.0, voi_lut_function="LINEAR_EXACT")
        >>> VOIWindow()(image).tolist()
        [[0.0, 0.5, 1.0]]
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI declares it so)

    def __init__(self, index: int = 0) -> None:
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise ConfigError(f"index must be a whole number of at least 0, got {index!r}.")
        self.index = index

    def _window(self, meta: Mapping[Any, Any]) -> tuple[float, float, str]:
        centers, widths = (_numbers(meta.get(name), name) for name in ("window_center", "window_width"))
        if not centers or not widths:
            raise DataError(
                "The image's meta has no window_center and window_width: its DICOM files do not give a window, or they "
                "were not read. Use CTWindow for CT, PercentileScale for MR."
            )
        if len(centers) != len(widths) or self.index >= len(centers):
            raise DataError(
                f"Window {self.index} was asked for; the image has {len(centers)} centres and {len(widths)} widths."
            )
        function = str(meta.get("voi_lut_function") or "LINEAR").upper()
        if function not in VOI_FUNCTIONS:
            raise DataError(f"voi_lut_function must be one of {', '.join(VOI_FUNCTIONS)}, got {function!r}.")
        center, width = centers[self.index], widths[self.index]
        if not (np.isfinite(center) and (width >= 1 if function == "LINEAR" else 0 < width < np.inf)):
            least = "at least 1" if function == "LINEAR" else "above 0"
            raise DataError(f"A {function} window needs a finite centre and a width {least}, got {center}, {width}.")
        return center, width, function

    def __call__(self, img: Tensor) -> MetaTensor:
        """Window an image.

        Args:
            img: MetaTensor (C, ...), of any dtype.

        Returns:
            (C, ...) in [0, 1], float32 (float64 stays), on the image's device.

        Raises:
            DataError: When it is no MetaTensor, a value is NaN or infinite, or its meta gives no window, not that many,
                or one that DICOM does not allow.
        """
        if not isinstance(img, MetaTensor):
            raise DataError(f"The window is in a MetaTensor's meta; got a {type(img).__name__}.")
        center, width, function = self._window(img.meta)
        check_finite(img, "A window")
        dtype = torch.float64 if img.dtype == torch.float64 else torch.float32
        x = img.as_tensor().to(dtype, copy=True)
        if function == "SIGMOID":
            x.sub_(center).mul_(4 / width).sigmoid_()
        elif function == "LINEAR_EXACT":
            x.sub_(center - width / 2).div_(width).clamp_(0, 1)
        elif width == 1:
            x = (x > center - 0.5).to(dtype)
        else:
            x.sub_(center - 0.5 - (width - 1) / 2).div_(width - 1).clamp_(0, 1)
        out: MetaTensor = MetaTensor(x).copy_meta_from(img)
        return out


class VOIWindowd(MapTransform):
    """Dictionary version of :class:`VOIWindow`.

    Args:
        keys: keys of the images.
        index: as in :class:`VOIWindow`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: As :class:`VOIWindow`.
    """

    backend = VOIWindow.backend

    def __init__(self, keys: KeysCollection, index: int = 0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = VOIWindow(index)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Window the images under the keys; see :meth:`VOIWindow.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d
