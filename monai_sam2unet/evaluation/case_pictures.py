# SPDX-License-Identifier: Apache-2.0
"""Keeps a small copy of each case's masks, so that any case can be drawn once it is known which to show."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from monai_sam2unet.data.image_check import READ_ERRORS
from monai_sam2unet.data.picture_modes import to_shown
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation.case_scores import to_probabilities
from monai_sam2unet.evaluation.overlay import draw_overlay

__all__ = ["CasePicture", "CasePictures"]

BACKGROUND = 32  # gray, where the image itself cannot be shown


@dataclass(frozen=True)
class CasePicture:
    """One picture of a case.

    Args:
        title: what it shows.
        jpeg: the file's bytes.
        width: in pixels.
        height: in pixels.
    """

    title: str
    jpeg: bytes
    width: int
    height: int


@dataclass(frozen=True)
class _Kept:
    height: int
    width: int
    truth: bytes
    prediction: bytes
    picture: Path | NDArray[np.uint8] | None


def _encode(pixels: NDArray[np.uint8], title: str) -> CasePicture:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=80)
    return CasePicture(title, file.getvalue(), pixels.shape[1], pixels.shape[0])


class CasePictures:
    """Keeps masks of at most ``size`` pixels a side, packed: about half a kB a case. Images are read when drawn.

    Gray values that are given instead of a file are kept, too: 64 kB a case.

    Args:
        threshold: pixels with at least this probability are drawn as foreground.
        size: longest side of the pictures in pixels.

    Raises:
        ConfigError: When the size is below 16 pixels.
    """

    def __init__(self, threshold: float = 0.5, size: int = 256) -> None:
        if size < 16:
            raise ConfigError(f"Pictures have at least 16 pixels a side, got {size}.")
        self.threshold = threshold
        self.size = size
        self._kept: dict[tuple[str, str], _Kept] = {}

    def clear(self) -> None:
        """Forget all cases."""
        self._kept.clear()

    def add(
        self,
        dataset: str,
        image: str,
        probabilities: Tensor,
        truth: Tensor,
        picture: str | Path | NDArray[np.uint8] | None = None,
    ) -> None:
        """Keep a case.

        Args:
            dataset: its set.
            image: its name.
            probabilities: (K, H, W) in [0, 1], or uint8 levels of 255; of several channels the union is shown.
            truth: (K, H, W); above 0 is foreground.
            picture: file of the image that both belong to, or its gray values (H, W), if it is known.
        """
        masks = [(to_probabilities(torch.as_tensor(probabilities)) >= self.threshold), torch.as_tensor(truth) > 0]
        prediction, true = (self._pack(np.asarray(mask.any(0).cpu())) for mask in masks)
        height, width = self._fit(*masks[0].shape[1:])
        shown: Path | NDArray[np.uint8] | None = Path(picture) if isinstance(picture, (str, Path)) else picture
        if isinstance(shown, np.ndarray):
            shown = np.asarray(Image.fromarray(shown).resize((width, height), Image.Resampling.BILINEAR))
        self._kept[dataset, image] = _Kept(height, width, true, prediction, shown)

    def _fit(self, height: int, width: int) -> tuple[int, int]:
        factor = min(1.0, self.size / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _pack(self, mask: NDArray[np.bool_]) -> bytes:
        height, width = self._fit(*mask.shape)
        small = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX))
        return zlib.compress(np.packbits(small >= 128).tobytes())

    def draw(self, dataset: str, image: str) -> list[CasePicture]:
        """Draw a case: the image, the truth, and the prediction over the image with the truth's outline.

        Args:
            dataset: its set.
            image: its name.

        Returns:
            Three pictures; two where the image is not known or cannot be read, drawn on gray.

        Raises:
            DataError: When the case was not added.
        """
        kept = self._kept.get((dataset, image))
        if kept is None:
            raise DataError(f"There is no picture of the case {image} of the set {dataset}.")
        shape = (kept.height, kept.width)
        truth, prediction = (
            np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=shape[0] * shape[1]).reshape(shape)
            for packed in (kept.truth, kept.prediction)
        )
        photo = self._read(kept)
        pictures = [] if photo is None else [_encode(photo, "image")]
        canvas = np.full((*shape, 3), BACKGROUND, np.uint8) if photo is None else photo
        overlay = _encode(draw_overlay(canvas, prediction, truth), "prediction (green), outline of the truth (yellow)")
        return [*pictures, _encode(truth * np.uint8(255), "truth"), overlay]

    @staticmethod
    def _read(kept: _Kept) -> NDArray[np.uint8] | None:
        if kept.picture is None:
            return None
        if isinstance(kept.picture, np.ndarray):
            return np.asarray(Image.fromarray(kept.picture).convert("RGB"))
        try:
            with Image.open(kept.picture) as opened:
                # JPEG decodes to a smaller size at no cost; what is drawn is smaller still.
                opened.draft("RGB", (2 * kept.width, 2 * kept.height))
                return np.asarray(to_shown(opened).resize((kept.width, kept.height), Image.Resampling.BILINEAR))
        except READ_ERRORS:
            # A DICOM file, say: the report then shows masks only, and says so.
            return None
