# SPDX-License-Identifier: Apache-2.0
"""What a DICOMweb server holds of one series: what it says of the images (QIDO-RS), and the files (WADO-RS)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from monai_sam2unet.batch.dicomweb_server import DicomwebServer
from monai_sam2unet.batch.guards import printable
from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.batch.series_job import safe_key
from monai_sam2unet.batch.transfer import TemporaryError, TransferError
from monai_sam2unet.dicom.frame import image_type
from monai_sam2unet.errors import DataError

__all__ = ["LOCALIZER", "PAGE", "WadoSeries", "first_value", "normal_of", "pages", "shown_image_type"]

#: Series, or images, of one answer; servers may give fewer.
PAGE = 100
#: Asked for of an image, to know what it is, and where an enhanced one says the same.
OF_IMAGE = ("ImageType", "ImageOrientationPatient")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: Images come as they are stored, not decoded first.
AS_STORED = (("application/dicom", "*"),)
LOCALIZER = "LOCALIZER"


def first_value(dataset: Dataset, keyword: str) -> str:
    """A value, or the first of several, as text; empty where there is none.

    Args:
        dataset: what the server has answered.
        keyword: of the element.
    """
    value = dataset.get(keyword)
    return "" if value is None else str(value[0] if isinstance(value, MultiValue) else value).strip()


def pages(
    server: DicomwebServer, what: str, keyword: str, search: Callable[[DICOMwebClient, int], list[dict[str, Any]]]
) -> Iterator[Dataset]:
    """All that a search finds, each once, asked for page by page.

    A page may be short without being the last, so there is none after an empty one, or one that holds nothing new, as
    from a server that cannot leave out the first ones.

    Args:
        server: which one.
        what: what is asked for, for errors.
        keyword: what tells one answer from another.
        search: asks for the page that starts after so many answers.

    Raises:
        TransferError: When the server refuses the search, or there is no connection after several tries.
    """
    seen: set[str] = set()
    offset = 0
    while True:

        def page(client: DICOMwebClient, start: int = offset) -> list[Dataset]:
            return [Dataset.from_json(item) for item in search(client, start)]

        answers = server.call(what, page)
        offset += len(answers)
        fresh = [answer for answer in answers if first_value(answer, keyword) not in seen]
        if not fresh:
            return
        for answer in fresh:
            uid = first_value(answer, keyword)
            if uid not in seen or not uid:
                seen.add(uid)
                yield answer


def shown_image_type(instance: Dataset) -> tuple[str, ...]:
    """Values of ImageType, fit to be shown.

    Args:
        instance: what the server has answered.
    """
    return tuple(printable(str(value)) for value in image_type(instance))


def normal_of(instance: Dataset) -> tuple[float, ...]:
    """Unit vector (3,) in LPS at right angles to an image, or to its first frame; empty where it says none.

    Args:
        instance: what the server has answered.
    """
    groups = [group for keyword in GROUPS for group in (instance.get(keyword) or [])[:1]]
    planes = [plane for group in groups for plane in (group.get("PlaneOrientationSequence") or [])[:1]]
    cosines = next((each.ImageOrientationPatient for each in (instance, *planes) if OF_IMAGE[1] in each), None)
    if cosines is None or len(cosines) != 6:
        return ()
    try:
        normal = np.cross(*np.asarray(cosines, float).reshape(2, 3))
    except (TypeError, ValueError):
        return ()
    length = float(np.linalg.norm(normal))
    return tuple((normal / length).tolist()) if length else ()


class Incomplete(TemporaryError):
    """Instances of a series did not come; perhaps they do the next time."""


@dataclass(frozen=True)
class WadoSeries:
    """The files of a series, or of one image, that a DICOMweb server keeps.

    Args:
        server: which one.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        instances: how many the server said it has; None where it did not say, and is asked once more.
        instance_uid: SOPInstanceUID where one image is wanted; empty for the whole series.
    """

    server: DicomwebServer
    study_uid: str
    series_uid: str
    instances: int | None
    instance_uid: str = ""

    def __str__(self) -> str:
        return f"series {hashed_uid(self.series_uid)}"

    @contextmanager
    def opened(self, work_folder: Path) -> Iterator[tuple[Path, ...]]:
        """The files, as the server has stored them, for as long as this lasts.

        Args:
            work_folder: where to bring them, to ``fetched-`` and the job's key; what a run that was killed left there
                goes.

        Raises:
            TransferError: When the server refuses it, or there is no connection after several tries.
            DataError: When fewer instances come than the server says it has.
            OSError: When they cannot be written.
        """
        folder = work_folder / f"fetched-{safe_key(self.series_uid, self.instance_uid)}"
        try:
            expected = self.instances if self.instances is not None else len(list(self.list_instances()))
            yield self.server.call(f"send {self}", lambda client: self._fetch(client, expected, folder))
        except Incomplete as error:
            raise DataError(str(error)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def release(self, done: bool) -> None:
        """Nothing is left to be done: the server keeps the series.

        Args:
            done: whether it succeeded.
        """

    def list_instances(self) -> Iterator[Dataset]:
        """What the server says of each instance of the series.

        Raises:
            TransferError: When the server refuses the search, or there is no connection after several tries.
        """

        def search(client: DICOMwebClient, offset: int) -> list[dict[str, Any]]:
            return client.search_for_instances(self.study_uid, self.series_uid, limit=PAGE, offset=offset)

        yield from pages(self.server, f"list {self}", "SOPInstanceUID", search)

    def samples(self) -> list[Dataset]:
        """What the server says of the first, middle and last instance, which shows what the series is.

        Raises:
            TransferError: As :meth:`list_instances`.
        """
        number = self.instances or 1
        found: dict[str, Dataset] = {}
        for place in sorted({0, number // 2, number - 1}):

            def search(client: DICOMwebClient, offset: int = place) -> list[Dataset]:
                uids = self.study_uid, self.series_uid
                answers = client.search_for_instances(*uids, limit=1, offset=offset, fields=OF_IMAGE)
                return [Dataset.from_json(answer) for answer in answers[:1]]

            for instance in self.server.call(f"list {self}", search):
                found.setdefault(first_value(instance, "SOPInstanceUID"), instance)
        return [self.described(instance, OF_IMAGE) for instance in found.values()]

    def described(self, instance: Dataset, keywords: Sequence[str] = ("ImageType",)) -> Dataset:
        """An instance with what its header says of it: servers need not tell that when they list it.

        Args:
            instance: as the server has listed it.
            keywords: what is to be known; where one of them is missing, the header is asked for.

        Raises:
            TransferError: When the server refuses it, or there is no connection after several tries.
        """
        uid = first_value(instance, "SOPInstanceUID")
        if all(keyword in instance for keyword in keywords) or not uid:
            return instance
        wanted = {f"{tag_for_keyword(keyword):08X}" for keyword in (*OF_IMAGE, *GROUPS)}

        def ask(client: DICOMwebClient) -> Dataset:
            header = client.retrieve_instance_metadata(self.study_uid, self.series_uid, uid)
            # The rest may be large.
            return Dataset.from_json({tag: value for tag, value in header.items() if tag in wanted}, lambda _: b"")

        return self.server.call(f"tell what is in {self}", ask)

    def _fetch(self, client: DICOMwebClient, expected: int, folder: Path) -> tuple[Path, ...]:
        # What an earlier try, or a run that was killed, has left.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files: dict[str, Path] = {}
        localizers = set[str]()
        for instance in self._instances(client):
            uid, series_uid = first_value(instance, "SOPInstanceUID"), first_value(instance, "SeriesInstanceUID")
            if not uid or series_uid != self.series_uid or self.instance_uid not in ("", uid):
                raise TransferError(f"{self.server} sent an instance that is not of {self}.")
            path = files.setdefault(uid, folder / f"{len(files):06}.dcm")
            instance.save_as(path)
            if LOCALIZER in image_type(instance):
                localizers.add(uid)
        if len(files) < expected:
            raise Incomplete(f"{self.server} sent {len(files)} of the {expected} instances that {self} has.")
        # As of files: no volume is made of slices and overviews.
        return tuple(path for uid, path in files.items() if uid not in localizers) or tuple(files.values())

    def _instances(self, client: DICOMwebClient) -> Iterator[Dataset]:
        if self.instance_uid:
            yield client.retrieve_instance(self.study_uid, self.series_uid, self.instance_uid, media_types=AS_STORED)
        else:
            yield from client.iter_series(self.study_uid, self.series_uid, media_types=AS_STORED)
