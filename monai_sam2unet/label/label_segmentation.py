# SPDX-License-Identifier: Apache-2.0
"""Final labels as DICOM SEG: made of what a viewer sends, and read onto the grid of their image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from highdicom.seg import Segmentation
from numpy.typing import NDArray

from monai_sam2unet.dicom import DicomGrid, DicomSegmentation, DicomVolume, read_grid
from monai_sam2unet.dicom.segmentation_writer import segmentation
from monai_sam2unet.errors import DataError
from monai_sam2unet.label.dicom_images import slices_first
from monai_sam2unet.label.model_classes import ModelClasses, model_of, to_class_ids
from monai_sam2unet.transforms import LoadAnyImage, MatchOrientation, volume_grid

__all__ = ["KeptLabel", "label_of", "segmentation_of"]


@dataclass(frozen=True, eq=False)
class KeptLabel:
    """A label on the grid of its image.

    Args:
        ids: class ids (columns, rows, slices) of a volume, (rows, columns) of a picture.
        grid: of the image.
        model: whose classes they are.
    """

    ids: NDArray[np.uint8]
    grid: DicomGrid
    model: ModelClasses


def segmentation_of(
    label_file: str, files: Sequence[Path], info: Mapping[str, Any], models: Sequence[ModelClasses]
) -> tuple[Segmentation, KeptLabel]:
    """Make a DICOM SEG of a label that a viewer has sent.

    Args:
        label_file: on the image's grid.
        files: of the DICOM series.
        info: what the viewer says of it, see :func:`monai_sam2unet.label.model_classes.to_class_ids`.
        models: of the server.

    Raises:
        DataError: When the label cannot be read, is on another grid, or its classes are not those of a model.
    """
    grid = read_grid(files)
    label = LoadAnyImage("label", require_orientation=False)(label_file)
    if grid.in_patient_space:
        label = MatchOrientation()(label, volume_grid(files))
    ids, model = to_class_ids(label[0].numpy(), info, models)
    # The writer asks of the pixels no more than how many there are.
    empty = np.broadcast_to(np.uint8(0), grid.shape)
    volume = DicomVolume(**{own.name: getattr(grid, own.name) for own in fields(grid)}, pixels=empty)
    slices = slices_first(ids) if grid.in_patient_space else ids[np.newaxis]
    now = datetime.now().astimezone()
    made = segmentation(slices, volume, model.segments, model.algorithm, now, algorithm_type="SEMIAUTOMATIC")
    return made, KeptLabel(ids, grid, model)


def label_of(path: Path, files: Sequence[Path], models: Sequence[ModelClasses]) -> KeptLabel:
    """Read a DICOM SEG onto the grid of its image.

    Args:
        path: the file.
        files: of the DICOM series that it segments.
        models: of the server.

    Raises:
        DataError: When its segments are not all classes of one model, or do not lie on the image.
    """
    found, grid = DicomSegmentation(path), read_grid(files)
    labels = [segment.label for segment in found.segments.values()]
    model = model_of(labels, models)
    if model is None:
        raise DataError(f"No model has all the classes {', '.join(labels)}.")
    numbers = {number: model.id_of(segment.label) or 0 for number, segment in found.segments.items()}
    ids = found.to_classes(numbers, grid.affine, grid.shape[::-1]).astype(np.uint8)
    return KeptLabel(ids, grid, model)
