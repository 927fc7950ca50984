# SPDX-License-Identifier: Apache-2.0
"""Which series and which labels an archive has, asked for anew after a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cachetools import TTLCache

from monai_sam2unet.batch.sources.wado_series import first_value
from monai_sam2unet.label.archive import Archive, ArchivedSegmentation
from monai_sam2unet.label.model_classes import ModelClasses, model_of

__all__ = ["ArchiveLists"]

logger = logging.getLogger(__name__)

IMAGES, LABELS = "images", "labels"


class ArchiveLists:
    """The series that fulfil conditions, and the newest label of each, as an archive lists them.

    A segmentation is a label when its segments are all classes of one of the models, and none of them is AUTOMATIC
    (SegmentAlgorithmType): those are what models predicted.

    Args:
        archive: is asked.
        models: of the server.
        conditions: on the series, as ``{"Modality": "CT"}``.
        seconds: after which it is asked anew.
    """

    def __init__(
        self, archive: Archive, models: Sequence[ModelClasses], conditions: Mapping[str, Any], seconds: float
    ) -> None:
        self.archive, self.models, self.conditions = archive, list(models), dict(conditions)
        self._kept: TTLCache[str, Any] = TTLCache(2, seconds)
        self._turn = threading.RLock()

    def images(self) -> list[str]:
        """SeriesInstanceUID of all series that fulfil the conditions.

        Raises:
            TransferError: When the archive does not answer.
        """
        with self._turn:
            found: list[str] | None = self._kept.get(IMAGES)
            if found is None:
                listed = self.archive.series(self.conditions)
                found = self._kept[IMAGES] = [first_value(series, "SeriesInstanceUID") for series in listed]
            return list(found)

    def labels(self) -> dict[str, ArchivedSegmentation]:
        """The labels, by the SeriesInstanceUID of what they are of.

        Raises:
            TransferError: When the archive does not answer.
        """
        with self._turn:
            return dict(self._listed_labels())

    def add(self, label: ArchivedSegmentation) -> None:
        """Add a label that the archive was just given, which it may list a little later only.

        Args:
            label: of a series; passed over where that is not listed.

        Raises:
            TransferError: When the archive does not answer.
        """
        with self._turn:
            if label.image in self.images():
                self._listed_labels()[label.image] = label

    def _listed_labels(self) -> dict[str, ArchivedSegmentation]:
        # Nobody else may ask meanwhile: what is saved while the archive answers comes to this list afterwards.
        found: dict[str, ArchivedSegmentation] | None = self._kept.get(LABELS)
        if found is not None:
            return found
        images, found = set(self.images()), {}
        for label in self.archive.segmentations():
            if label.image not in images:
                logger.info("A segmentation is passed over: it is of none of the series that are listed")
            elif label.automatic:
                logger.info("A segmentation is passed over: an algorithm made it, and nobody has looked at it")
            elif not label.labels or model_of(label.labels, self.models) is None:
                logger.info("A segmentation is passed over: no model has the classes %s", ", ".join(label.labels))
            else:
                found[label.image] = label
        self._kept[LABELS] = found
        return found
