# SPDX-License-Identifier: Apache-2.0
"""Writes predicted masks, and overlays of them, as PNG files named after their images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from PIL import Image

from monai_sam2unet.data import list_images, to_shown
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


def _mask_names(images: Sequence[str]) -> dict[str, str]:
    """What the masks of a folder's images are called: as the images, with the suffix where several would be the same.

    Example:
        >>> _mask_names(["a.jpg", "b.jpg", "b.png"])
        {'a.jpg': 'a.png', 'b.jpg': 'b.jpg.png', 'b.png': 'b.png.png'}
    """
    names = {image: str(Path(image).with_suffix(".png")) for image in images}
    # A longer name may be that of another image: b.png.tif beside those above.
    while len(set(names.values())) < len(names):
        times = Counter(names.values())
        names = {image: f"{image}.png" if times[name] > 1 else name for image, name in names.items()}
    return names


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
    ``dataset_dir``. ``a/b.jpg`` gives ``masks/a/b.png``; where several images of the folder would give that name
    (``a/b.png`` beside ``a/b.jpg``) their suffixes stay in it: ``a/b.jpg.png`` and ``a/b.png.png``.

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
        self._names: dict[Path, dict[str, str]] = {}
        self._written = 0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _start(self, engine: Engine) -> None:
        self._names.clear()
        self._written = 0

    def _name(self, image: Path) -> Path:
        if not self.dataset_dir.is_dir():
            return Path(image.name).with_suffix(".png")
        if image.parent not in self._names:
            self._names[image.parent] = _mask_names([path.name for path in list_images(image.parent)])
        return image.relative_to(self.dataset_dir).with_name(self._names[image.parent][image.name])

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
            self._written += 1
            if self.overlays:
                overlay = draw_overlay(image, mask > 0) if is_one else draw_overlay(image, mask, colours=CLASS_COLOURS)
                _write(Image.fromarray(overlay), self.output_dir / "overlays" / name)

    def _tell(self, engine: Engine) -> None:
        masks = "1 mask" if self._written == 1 else f"{self._written} masks"
        logger.info(f"{masks} written to {self.output_dir / 'masks'}.")
