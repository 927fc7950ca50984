# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's images and labels in a PACS; labels are DICOM segmentations by our own writer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.datastore.utils.convert import binary_to_image
from monailabel.interfaces.datastore import DefaultLabelTag

from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.batch.transfer import TransferError
from monai_sam2unet.errors import DataError, UserError
from monai_sam2unet.label.archive import ArchivedSegmentation
from monai_sam2unet.label.dicom_images import dicom_files, save_label_volume
from monai_sam2unet.label.dicomweb_images import DicomwebImages
from monai_sam2unet.label.image_notes import REASON
from monai_sam2unet.label.label_segmentation import KeptLabel, label_of, segmentation_of
from monai_sam2unet.label.locked_store import LockedStore

__all__ = ["DicomwebStore"]

logger = logging.getLogger(__name__)

FINAL, INSTANCE = DefaultLabelTag.FINAL.value, "SOPInstanceUID"


class DicomwebStore(DicomwebImages):
    """Series of a PACS as images, and its DICOM segmentations as final labels.

    A label's name is the SeriesInstanceUID of its image. For the arguments see :class:`DicomwebImages`.
    """

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The series that have a segmentation."""
        return list(self.lists.labels())

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The series that have no segmentation, without those that cannot be read, unless there are no others."""
        done = self.lists.labels()
        left = [image for image in self.list_images() if image not in done]
        # Who asks for the next one is told why, when only such are left.
        return [image for image in left if REASON not in self._notes.of(image)] or left

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """The tags of a series' labels, those that have not been fetched, too; each with the label's name.

        Args:
            image_id: SeriesInstanceUID.
        """
        kept = {tag: name for tag, name in LockedStore.get_labels_by_image_id(self, image_id).items() if tag != FINAL}
        return kept | ({FINAL: image_id} if image_id in self.lists.labels() else {})

    def status(self) -> dict[str, Any]:
        """How many images there are, and how many of them have a label."""
        done = len(self.lists.labels())
        tags = LockedStore.json(self)["objects"].values()
        kept = [tag for known in tags for tag in known["labels"] if tag != FINAL]
        counts = {tag: kept.count(tag) for tag in dict.fromkeys(kept)} | ({FINAL: done} if done else {})
        return {"total": len(self.list_images()), "completed": done, "label_tags": counts}

    def json(self) -> dict[str, Any]:
        """All images and labels, those that have not been fetched, too."""
        told: dict[str, Any] = LockedStore.json(self)
        for image in self.list_images():
            about = {"ext": ".nii.gz", "info": self._notes.of(image)}
            told["objects"].setdefault(image, {"image": about, "labels": {}})
        for image, label in self.lists.labels().items():
            info = {"SeriesInstanceUID": label.series, "SOPInstanceUID": label.instance}
            told["objects"][image]["labels"].setdefault(FINAL, {"ext": ".nii.gz", "info": info})
        return told

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """A label as NIfTI on its image's grid, with the class ids of the model; empty where there is none.

        Args:
            label_id: SeriesInstanceUID of the image, or of the label.
            label_tag: ``final``: what the PACS has; else what is kept here.
            image_id: SeriesInstanceUID of the image, where it is not ``label_id``.

        Raises:
            DataError: When the segmentation does not lie on the image.
            TransferError: When the PACS does not answer.
        """
        if label_tag != FINAL:
            return str(LockedStore.get_label_uri(self, image_id or label_id, label_tag))
        labels = self.lists.labels()
        label = labels.get(image_id or label_id) or next(
            (one for one in labels.values() if one.series == label_id), None
        )
        if label is None:
            return ""
        with self._turn_of(label.image):
            kept = LockedStore.get_label_uri(self, label.image, FINAL)
            if kept and Path(kept).is_file() and self._is_of(label):
                return kept
            self.get_image_uri(label.image)
            with self._work() as work:
                self.archive.fetch_segmentation(label, file := work / "label.dcm")
                kept_label = label_of(file, dicom_files(self.fetch(label.image)), self.models)
                self._keep(label.image, kept_label, {"SeriesInstanceUID": label.series, INSTANCE: label.instance})
            return str(LockedStore.get_label_uri(self, label.image, FINAL))

    def _is_of(self, label: ArchivedSegmentation) -> bool:
        return bool(LockedStore.get_label_info(self, label.image, FINAL).get("SOPInstanceUID") == label.instance)

    def _keep(self, image_id: str, label: KeptLabel, info: Mapping[str, Any]) -> None:
        with self._work() as work:
            save_label_volume(label.ids, label.grid.affine, path := work / "label.nii.gz")
            LockedStore.save_label(self, image_id, str(path), FINAL, {**info, **label.model.label_info})

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Save a label: a final one as DICOM SEG in the PACS, others here.

        Args:
            image_id: SeriesInstanceUID of the image.
            label_filename: of the label, on the image's grid.
            label_tag: ``final``, or another.
            label_info: what the viewer says of it, see :func:`monai_sam2unet.label.model_classes.to_class_ids`.
            label_id: not used.

        Returns:
            The image's name, which is the label's, too.

        Raises:
            ImageNotFoundException: When the PACS has no such series.
            DataError: When the label cannot be read, is on another grid, or its classes are not those of a model.
            TransferError: When the PACS does not take it.
        """
        image = self.get_image_uri(image_id)
        converted = binary_to_image(image, label_filename) if label_filename.endswith(".bin") else None
        try:
            if label_tag != FINAL:
                return str(LockedStore.save_label(self, image_id, converted or label_filename, label_tag, label_info))
            self._save_final(image_id, converted or label_filename, label_info)
            return image_id
        finally:
            if converted:
                Path(converted).unlink(missing_ok=True)

    def _save_final(self, image_id: str, label_filename: str, info: dict[str, Any]) -> None:
        made, label = segmentation_of(label_filename, dicom_files(self.fetch(image_id)), info, self.models)
        with self._work() as work:
            made.save_as(work / "label.dcm")
            self.archive.store(work / "label.dcm")
        self.lists.add(ArchivedSegmentation.of(made))
        if label.grid.in_patient_space:
            about = {"SeriesInstanceUID": str(made.SeriesInstanceUID), INSTANCE: str(made.SOPInstanceUID)}
            self._keep(image_id, label, {**info, **about})

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label that is kept here.

        Raises:
            DataError: For a final one: that is removed in the PACS.
        """
        if label_tag == FINAL:
            raise DataError(f"Final labels are in the PACS, {self.archive.server}; remove them there.")
        LockedStore.remove_label(self, label_id, label_tag)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Image and label of all series that have a segmentation which can be read, for trainings.

        Args:
            full_path: whether files are told by their whole path, or from the store's folder on.

        Raises:
            TransferError: When the PACS does not answer.
        """
        labels, found = self.lists.labels(), []
        self._forget_labels_but(labels)
        for image in labels:
            try:
                pair = {"image": self.get_image_uri(image), "label": self.get_label_uri(image, FINAL)}
            except TransferError:
                raise
            except UserError as error:
                name = hashed_uid(image)
                logger.warning("The label of %s is left out: %s", name, str(error).replace(image, name))
                continue
            base = Path(self._datastore_path).resolve()
            found.append(pair if full_path else {key: str(Path(path).relative_to(base)) for key, path in pair.items()})
        return found

    def _forget_labels_but(self, labels: Mapping[str, ArchivedSegmentation]) -> None:
        with self._turn:
            gone = [image for image in LockedStore.get_labeled_images(self) if image not in labels]
            for image in gone:
                Path(LockedStore.get_label_uri(self, image, FINAL)).unlink(missing_ok=True)
            if gone:
                self._reconcile_datastore()
