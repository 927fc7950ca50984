# SPDX-License-Identifier: Apache-2.0
"""Makes an interactive refiner of what a preset loaded and a network predicted."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_sam2unet.inferers.interactive_refiner import InteractiveRefiner
from monai_sam2unet.transforms.preset import Preset
from monai_sam2unet.transforms.tensors import plain

__all__ = ["refiner_of_case"]


def _picture(preset: Preset, image: MetaTensor) -> np.ndarray:
    """The network's input of a picture (C, h, w) on the picture's own grid, about in [0, 1]."""
    back = plain(preset.slice_transform.inverse(image)).cpu()
    done = preset.slice_transform.normalization
    if done.mean is not None and done.std is not None:
        back = back * torch.tensor(done.std)[:, None, None] + torch.tensor(done.mean)[:, None, None]
    return back.numpy()


def refiner_of_case(
    preset: Preset, image: MetaTensor, probabilities: Tensor, labels: Tensor, threshold: float = 0.5
) -> InteractiveRefiner:
    """A refiner of one case.

    Args:
        preset: that loaded the case.
        image: what ``preset.inference()`` gave: of a picture the network's input, of a volume its values.
        probabilities: (K, ...), what ``preset.probabilities()`` gave; of volumes they are kept in half precision.
        labels: (1, ...) classes, what ``preset.postprocessing()`` gave: the mask without marks.
        threshold: of one channel, that of ``postprocessing``.

    Raises:
        DataError: When they do not belong together.
    """
    values, spacing = None, None
    if preset.is_volume:
        values = plain(image).cpu().numpy()
        spacing = np.linalg.norm(np.asarray(image.affine.cpu())[:3, :3], axis=0).tolist()
    return InteractiveRefiner(
        plain(probabilities).cpu().numpy().astype(np.float16 if preset.is_volume else np.float32),
        plain(labels)[0].cpu().numpy().astype(np.uint8),
        _picture(preset, image) if values is None else values,
        spacing,
        threshold,
    )
