# SPDX-License-Identifier: Apache-2.0
"""Writes predicted masks, and overlays of them, as PNG files named after their images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.data import to_shown
from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.columns import check_class_names
from monai_sam2unet.evaluation.overlay import CLASS_COLOURS, draw_overlay

__all__ = ["PredictionWriter"]

logger = logging.getLogger(__name__)


def _write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    image.save(part, format="PNG")
    part.replace(path)


def _with_palette(classes: NDArray[np.uint8]) -> Image.Image:
    """An image of class indices, in colours to look at."""
    image = Image.fromarray(classes)
    colours = [CLASS_COLOURS[number % len(CLASS_COLOURS)] for number in range(255)]
    image.putpalette([0, 0, 0, *(value for colour in colours for value in colour)])
    return image


class PredictionWriter:
    """Writes, for each image, a mask of its size and name (8 bit), and the mask drawn over the image.

    Masks are 0 and 255; of several classes they hold class indices, with a palette to look at.

    Masks go to ``output_dir/masks`` and overlays to ``output_dir/overlays``, below these as the images lie below
    ``dataset_dir``. ``a/b.jpg`` gives ``masks/a/b.png``; where that name is taken by another image of the run
    (``a/b.png`` beside ``a/b.jpg``) the suffix stays in it: ``a/b.jpg.png``.

    Attach it to an evaluator whose outputs are lists of dicts with ``pred`` (1, H, W) at the image's size: binary, or
    class indices.

    Args:
        output_dir: folder to write to.
        dataset_dir: folder that the images' names are taken relative to, or the one image.
        overlays: whether overlays are written, too.
        class_names: names of the classes where there is more than one, 255 at most.
    """

    def __init__(
        self,
        output_dir: str | Path,
        dataset_dir: str | Path,
        overlays: bool = True,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.dataset_dir = Path(dataset_dir)
        self.overlays = overlays
        self.class_names = None if class_names is None else check_class_names(class_names)
        self._names: dict[Path, Path] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self._names.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _name(self, image: Path) -> Path:
        root = self.dataset_dir if self.dataset_dir.is_dir() else self.dataset_dir.parent
        below = image.relative_to(root)
        name = below.with_suffix(".png")
        if self._names.get(name, image) != image:
            name = below.with_name(below.name + ".png")
        self._names[name] = image
        return name

    def __call__(self, engine: Engine) -> None:
        """Write the masks of a batch.

        Raises:
            DataError: When a prediction does not have its image's size.
        """
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            path = Path(str(item["image"].meta["filename_or_obj"]))
            mask = np.asarray(torch.as_tensor(output["pred"])[0].cpu()).astype(np.uint8)
            with Image.open(path) as opened:
                image = np.asarray(to_shown(opened))
            if mask.shape != image.shape[:2]:
                raise DataError(f"The prediction for {path} is {mask.shape}, the image {image.shape[:2]} pixels.")
            name = self._name(path)
            is_one = self.class_names is None
            drawn = Image.fromarray((mask > 0).astype(np.uint8) * 255) if is_one else _with_palette(mask)
            _write(drawn, self.output_dir / "masks" / name)
            if self.overlays:
                overlay = draw_overlay(image, mask > 0) if is_one else draw_overlay(image, mask, colours=CLASS_COLOURS)
                _write(Image.fromarray(overlay), self.output_dir / "overlays" / name)

    def _tell(self, engine: Engine) -> None:
        logger.info(f"{len(self._names)} masks written to {self.output_dir / 'masks'}.")
