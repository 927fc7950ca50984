# SPDX-License-Identifier: Apache-2.0
"""What the images and labels of a PACS are, told by what it lists; no PACS is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from monai_sam2unet.label import compat

pytestmark = pytest.mark.label
FIRST, SECOND = "1.2.3", "1.2.4"


def series(uid: str) -> Dataset:
    found = Dataset()
    found.SeriesInstanceUID = uid
    return found


def header(image: str, written: str, *labels: str, algorithm: str = "SEMIAUTOMATIC") -> Dataset:
    """Of a segmentation."""
    found = Dataset()
    found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID = "1.2", f"{image}.{written}", f"9.{written}"
    found.ContentDate, found.ContentTime = "20260101", written
    found.ReferencedSeriesSequence = [series(image)]
    found.SegmentSequence = [Dataset() for _ in labels]
    for segment, label in zip(found.SegmentSequence, labels, strict=True):
        segment.SegmentLabel, segment.SegmentAlgorithmType = label, algorithm
    return found


class Listed:
    """Stands in for the archive: what it lists is given."""

    def __init__(self, server: Any, images: list[str], *headers: Dataset) -> None:
        from monai_sam2unet.label.archive import ArchivedSegmentation

        self.server, self.images = server, images
        self.found = [ArchivedSegmentation.of(one) for one in headers]
        self.asked = 0

    def series(self, conditions: Mapping[str, Any]) -> list[Dataset]:
        return [series(uid) for uid in self.images]

    def find(self, uid: str) -> Dataset | None:
        return None

    def segmentations(self) -> list[Any]:
        self.asked += 1
        return self.found


def store_of(folder: Path, images: list[str], *headers: Dataset) -> Any:
    compat.apply()
    from monai_sam2unet.label.dicomweb_store import DicomwebStore
    from monai_sam2unet.label.model_classes import ModelClasses

    models = [ModelClasses("heart", {"RV": 1, "LV": 2}, {}, Path)]
    store = DicomwebStore("http://127.0.0.1:9/dicom-web", models, {}, str(folder))
    store.archive = Listed(store.archive.server, images, *headers)  # type: ignore[assignment]
    return store


def test_what_an_algorithm_made_is_no_label(tmp_path: Path) -> None:
    corrected, predicted = header(FIRST, "1000", "RV"), header(FIRST, "1100", "RV", algorithm="AUTOMATIC")
    store = store_of(tmp_path, [FIRST, SECOND], corrected, predicted, header(SECOND, "1200", "LV", algorithm="AUTOMATIC"))
    assert store.get_labeled_images() == [FIRST]
    assert store.get_unlabeled_images() == [SECOND]
    assert store.json()["objects"][FIRST]["labels"]["final"]["info"]["SOPInstanceUID"] == corrected.SOPInstanceUID
