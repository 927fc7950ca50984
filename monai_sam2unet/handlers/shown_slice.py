# SPDX-License-Identifier: Apache-2.0
"""The slice of a volume that a report shows: the one with the most foreground."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from monai_sam2unet.transforms import VolumeToSlices
from monai_sam2unet.transforms.tensors import plain

__all__ = ["shown_slice"]


def shown_slice(
    prediction: Tensor, truth: Tensor, image: Tensor, plane: str | int
) -> tuple[Tensor, Tensor, NDArray[np.uint8]]:
    """Cut a case where its truth has the most foreground; where it has none, its prediction.

    Args:
        prediction: (1, X, Y, Z); above 0 is foreground.
        truth: (1, X, Y, Z).
        image: (C, X, Y, Z), a MetaTensor with the affine unless the plane is an array axis.
        plane: as in :class:`monai_sam2unet.transforms.VolumeToSlices`.

    Returns:
        Prediction (1, H, W), truth (1, H, W), and the image's first channel as gray values (H, W) between its smallest
        and largest one.

    Raises:
        DataError: When the plane has a name and the image no affine.
    """
    cut = VolumeToSlices(plane)
    lies = cut.find_plane(image)
    shown = [cut.cut(MetaTensor(plain(x)), lies, 0) for x in (prediction, truth, image)]
    areas = [torch.stack([(part.pixels(n) > 0).sum() for n in range(len(part))]) for part in shown[:2]]
    number = int((areas[1] if bool(areas[1].any()) else areas[0]).argmax())
    pixels = [part.pixels(number) for part in shown]
    gray = pixels[2][0].float()
    gray = (gray - gray.min()) / (gray.max() - gray.min()).clamp(1e-6)
    return pixels[0], pixels[1], (255 * gray).round().byte().cpu().numpy()
