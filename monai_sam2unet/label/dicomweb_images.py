# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's images in a PACS, read by our DICOM reader."""

from __future__ import annotations

import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dicomweb_client.api import DICOMwebClient
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.interfaces.exception import ImageNotFoundException

from monai_sam2unet.batch.sources.wado_series import first_value
from monai_sam2unet.dicom import read_volume
from monai_sam2unet.errors import DataError
from monai_sam2unet.label.archive import Archive, is_uid
from monai_sam2unet.label.archive_lists import ArchiveLists
from monai_sam2unet.label.dicom_images import dicom_files, save_volume
from monai_sam2unet.label.image_notes import EPISTEMIC, REASON, ImageNotes, merged
from monai_sam2unet.label.locked_store import LockedStore, without_patient
from monai_sam2unet.label.model_classes import ModelClasses

__all__ = ["DicomwebImages"]

#: Of an image or label, told to viewers.
ABOUT = ("PatientID", "Modality", "StudyInstanceUID", "SeriesInstanceUID")
#: Below the folder of MONAI Label's own store, whose files were made otherwise.
CACHE = "sam2unet"
#: Beside what is fetched: what is known of series of which no file is kept, as those that cannot be read.
NOTES = "notes.json"
#: Keys of what is no longer so when a series is fetched anew, or was read: that, and why it has no scores.
_OF_FILES = (REASON, EPISTEMIC)


class DicomwebImages(DICOMWebDatastore, LockedStore):
    """Series of a PACS as images.

    An image's name is its SeriesInstanceUID. What is fetched is kept in a folder. Which series there are, and which are
    labelled, :class:`ArchiveLists` says.

    Args:
        url: root of the DICOMweb service.
        models: of the server.
        conditions: on the series that are listed, as ``{"Modality": "CT"}``.
        cache_path: where what is fetched is kept, in its folder ``sam2unet``; None: ``~/.cache/monailabel/dicom``.

    Raises:
        ConfigError: When the address is none of HTTP, or holds a password.
    """

    def __init__(
        self, url: str, models: Sequence[ModelClasses], conditions: Mapping[str, Any], cache_path: str | None = None
    ) -> None:
        self.archive, self.models = Archive(url), list(models)
        expiry = settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY
        self.lists = ArchiveLists(self.archive, self.models, conditions, expiry)
        self._image_turns: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        # Upstream's own methods take from the client its address.
        cache = Path(cache_path) if cache_path else Path.home() / ".cache" / "monailabel" / "dicom"
        super().__init__(DICOMwebClient(self.archive.server.url), dict(conditions), str(cache / CACHE))
        self._notes = ImageNotes(Path(self._datastore_path) / NOTES)

    @contextmanager
    def _turn_of(self, image_id: str) -> Iterator[None]:
        with self._turn:
            turn = self._image_turns[image_id]
        with turn:
            yield

    @contextmanager
    def _work(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".work-", dir=self._datastore_path) as folder:
            yield Path(folder)

    def list_images(self) -> list[str]:
        """SeriesInstanceUID of all series that fulfil the conditions."""
        return self.lists.images()

    def fetch(self, image_id: str) -> Path:
        """The folder with the DICOM files of a series, which are fetched once.

        Args:
            image_id: SeriesInstanceUID.

        Raises:
            ImageNotFoundException: When the PACS has no such series.
            TransferError: When it does not answer.
        """
        folder = Path(self._datastore.image_path()).resolve() / image_id
        with self._turn_of(image_id):
            if not is_uid(image_id) or not folder.is_dir():
                found = self.archive.find(image_id)
                if found is None:
                    raise ImageNotFoundException(f"There is no series {image_id!r} in the DICOMweb store.")
                self.archive.fetch(found, folder)
                self._notes.forget(image_id, _OF_FILES)
        return folder

    def get_image_uri(self, image_id: str) -> str:
        """A file of a series for viewers and trainings: NIfTI, or of a lone picture its DICOM file.

        Args:
            image_id: SeriesInstanceUID.

        Raises:
            ImageNotFoundException: When the PACS has no such series.
            DataError: When the series makes no volume of gray values.
            TransferError: When the PACS does not answer.
        """
        with self._turn_of(image_id):
            kept = LockedStore.get_image_uri(self, image_id)
            if kept and Path(kept).is_file():
                return kept
            files = dicom_files(self.fetch(image_id))
            reason = self._notes.of(image_id).get(REASON)
            if reason is not None:
                raise DataError(reason)
            try:
                self._make_image(image_id, files)
            except DataError as error:
                self._notes.add(image_id, {REASON: " ".join(str(error).split())})
                raise
            self._notes.forget(image_id, _OF_FILES)
            return str(LockedStore.get_image_uri(self, image_id))

    def _make_image(self, image_id: str, files: Sequence[Path]) -> None:
        volume = read_volume(files)
        header = volume.first.dataset
        info = {keyword: first_value(header, keyword) or "UNK" for keyword in ABOUT}
        with self._work() as work:
            path = volume.first.path
            if volume.in_patient_space:
                if volume.pixels.ndim > 3:
                    raise DataError(f"The series {image_id} is a volume in colours; there is no NIfTI file of it.")
                save_volume(volume, path := work / "image.nii.gz")
            LockedStore.add_image(self, image_id, str(path), info)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of a series, also of one that was not fetched or cannot be read.

        Args:
            image_id: SeriesInstanceUID.
        """
        return merged(self._notes.of(image_id), LockedStore.get_image_info(self, image_id))

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of a series.

        Args:
            image_id: SeriesInstanceUID.
            info: what is known; of PatientID a hash is kept.

        Raises:
            ImageNotFoundException: When it is not listed.
            TransferError: When the PACS does not answer.
        """
        if image_id in LockedStore.list_images(self):
            LockedStore.update_image_info(self, image_id, info)
        elif image_id in self.list_images():
            self._notes.add(image_id, without_patient(info))
        else:
            raise ImageNotFoundException(f"There is no series {image_id!r} among those that are listed.")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refused: images are sent to the PACS.

        Raises:
            DataError: Always.
        """
        raise DataError(f"Images are sent to the PACS, {self.archive.server}; then they are listed here.")

    def remove_image(self, image_id: str) -> None:
        """Refused: images are removed in the PACS.

        Raises:
            DataError: Always.
        """
        raise DataError(f"Images are in the PACS, {self.archive.server}; remove them there.")
