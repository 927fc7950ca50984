# SPDX-License-Identifier: Apache-2.0
"""The archive (PACS) behind the server: its series, and the segmentations of them, by DICOMweb."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from monai_sam2unet.batch.dicomweb_server import PASSWORD, USER, DicomwebServer
from monai_sam2unet.batch.sending.outcome import SentFile
from monai_sam2unet.batch.sending.stow_sender import StowSender
from monai_sam2unet.batch.sources.wado_series import PAGE, WadoSeries, first_value, pages
from monai_sam2unet.batch.transfer import Retries, TransferError
from monai_sam2unet.dicom.segmentation import referenced_series
from monai_sam2unet.errors import ConfigError

__all__ = ["Archive", "ArchivedSegmentation", "is_uid", "share_account"]

#: Asked for besides what a server answers by itself (PS3.18 10.6.3.3).
FIELDS = ("NumberOfSeriesRelatedInstances", "PatientID", "StudyDate")


def is_uid(text: str) -> bool:
    """Whether a text may be a UID: it becomes the name of a folder, too."""
    return re.fullmatch(r"[0-9][0-9.]{0,63}", text) is not None and ".." not in text


def share_account(settings: Any) -> None:
    """Let MONAI Label's name and password for the archive be ours, or ours be its.

    Its proxy asks for what OHIF shows.

    Args:
        settings: MONAI Label's.

    Raises:
        ConfigError: When they hold prefixes, which are not taken.
    """
    prefixes = [f"MONAI_LABEL_{service}_PREFIX" for service in ("QIDO", "WADO", "STOW")]
    given = [name for name in prefixes if getattr(settings, name)]
    if given:
        raise ConfigError(f"{', '.join(given)}: prefixes are not taken. Give the root of the service by --studies.")
    if settings.MONAI_LABEL_DICOMWEB_USERNAME:
        os.environ[USER] = settings.MONAI_LABEL_DICOMWEB_USERNAME
        os.environ[PASSWORD] = settings.MONAI_LABEL_DICOMWEB_PASSWORD
    elif os.environ.get(USER):
        settings.MONAI_LABEL_DICOMWEB_USERNAME = os.environ[USER]
        settings.MONAI_LABEL_DICOMWEB_PASSWORD = os.environ.get(PASSWORD, "")


@dataclass(frozen=True)
class ArchivedSegmentation:
    """A segmentation, as the archive describes it.

    Args:
        image: SeriesInstanceUID of what is segmented; empty where it does not say.
        study: StudyInstanceUID.
        series: SeriesInstanceUID of its own.
        instance: SOPInstanceUID.
        written: ContentDate and ContentTime.
        labels: SegmentLabel of each segment.
        automatic: whether an algorithm alone made one of the segments (SegmentAlgorithmType).
    """

    image: str
    study: str
    series: str
    instance: str
    written: str
    labels: tuple[str, ...]
    automatic: bool = False

    @classmethod
    def of(cls, header: Dataset) -> ArchivedSegmentation:
        """From what the archive says of the instance.

        Args:
            header: of the instance.
        """
        segments = header.get("SegmentSequence") or ()
        return cls(
            image=next(iter(referenced_series(header)), ""),
            study=first_value(header, "StudyInstanceUID"),
            series=first_value(header, "SeriesInstanceUID"),
            instance=first_value(header, "SOPInstanceUID"),
            written=first_value(header, "ContentDate") + first_value(header, "ContentTime"),
            labels=tuple(str(item.get("SegmentLabel", "")) for item in segments),
            automatic=any(item.get("SegmentAlgorithmType") == "AUTOMATIC" for item in segments),
        )


class Archive:
    """What is asked of a DICOMweb server, each request once: somebody is waiting.

    Who we are is read from the environment, see :class:`monai_sam2unet.batch.dicomweb_server.DicomwebServer`.

    Args:
        url: root of the service, as ``http://127.0.0.1:8042/dicom-web``.

    Raises:
        ConfigError: When the address is none of HTTP, or holds a password.
    """

    def __init__(self, url: str) -> None:
        self.server = DicomwebServer(url, Retries(attempts=1))
        self._segmentations: dict[tuple[str, str], list[ArchivedSegmentation]] = {}
        self._turn = threading.Lock()

    def series(self, conditions: Mapping[str, Any]) -> list[Dataset]:
        """What the archive says of series.

        Args:
            conditions: they must fulfil, as ``{"Modality": "CT"}``.

        Raises:
            TransferError: When there is no answer, or an error.
        """

        def search(client: DICOMwebClient, offset: int) -> list[dict[str, Any]]:
            return client.search_for_series(
                limit=PAGE, offset=offset, fields=list(FIELDS), search_filters=dict(conditions)
            )

        return list(pages(self.server, "list its series", "SeriesInstanceUID", search))

    def find(self, series: str) -> Dataset | None:
        """What the archive says of one series; None where it has none.

        Args:
            series: SeriesInstanceUID.

        Raises:
            TransferError: When there is no answer, or an error.
        """
        found = self.series({"SeriesInstanceUID": series}) if is_uid(series) else []
        return next((one for one in found if first_value(one, "SeriesInstanceUID") == series), None)

    def fetch(self, found: Dataset, folder: Path) -> None:
        """Bring the files of a series to a folder, all of them or none.

        Args:
            found: what the archive says of it.
            folder: does not exist yet.

        Raises:
            TransferError: When there is no answer, or an error.
            DataError: When images are missing.
        """
        stated = first_value(found, "NumberOfSeriesRelatedInstances")
        uids = first_value(found, "StudyInstanceUID"), first_value(found, "SeriesInstanceUID")
        with (
            tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as work,
            WadoSeries(self.server, *uids, int(stated) if stated.isdecimal() else None).opened(Path(work)) as files,
        ):
            complete = Path(work) / "series"
            complete.mkdir()
            for file in files:
                shutil.move(file, complete)
            # Another process may have brought it meanwhile.
            if not folder.is_dir():
                complete.replace(folder)

    def segmentations(self) -> list[ArchivedSegmentation]:
        """All segmentations that it has, the newest last.

        Raises:
            TransferError: When there is no answer, or an error.
        """
        listed = self.series({"Modality": "SEG"})
        with self._turn:
            known, self._segmentations = self._segmentations, {}
            for one in listed:
                # One more instance is news of a series, which otherwise never changes.
                key = first_value(one, "SeriesInstanceUID"), first_value(one, "NumberOfSeriesRelatedInstances")
                self._segmentations[key] = known.get(key) or self._described(one)
            found = [one for instances in self._segmentations.values() for one in instances]
        return sorted(found, key=lambda one: one.written)

    def _described(self, series: Dataset) -> list[ArchivedSegmentation]:
        uids = first_value(series, "StudyInstanceUID"), first_value(series, "SeriesInstanceUID")
        headers = self.server.call("describe a segmentation", lambda client: client.retrieve_series_metadata(*uids))
        return [ArchivedSegmentation.of(Dataset.from_json(header, lambda _: b"")) for header in headers]

    def fetch_segmentation(self, found: ArchivedSegmentation, path: Path) -> None:
        """Bring the file of a segmentation.

        Args:
            found: which one.
            path: where to.

        Raises:
            TransferError: When there is no answer, or an error.
        """
        series = WadoSeries(self.server, found.study, found.series, 1, found.instance)
        with series.opened(path.parent) as files:
            shutil.move(files[0], path)

    def store(self, path: Path) -> None:
        """Store a file.

        Args:
            path: the file.

        Raises:
            TransferError: When it is not confirmed that it is stored.
            DataError: When it is no DICOM file.
        """
        for outcome in StowSender(self.server).send([SentFile.of(path)]):
            if outcome.problem:
                raise TransferError(f"{self.server} did not store the label: {outcome.problem}.")
