# SPDX-License-Identifier: Apache-2.0
"""Series of a DICOMweb server: looked for by QIDO-RS page by page, fetched by WADO-RS when their turn comes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from monai_sam2unet.batch.dicomweb_server import DicomwebServer
from monai_sam2unet.batch.guards import printable
from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import SeriesJob, safe_key
from monai_sam2unet.batch.sources.dicomweb_query import parse_source, parse_where, unmet
from monai_sam2unet.batch.transfer import Retries, TemporaryError, TransferError
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["WadoSeries", "find_dicomweb_jobs"]

#: Series of one answer; servers may give fewer.
PAGE = 100
#: Asked for besides what a server answers by itself (PS3.18 10.6.3.3).
FIELDS = (
    "BodyPartExamined",
    "Modality",
    "NumberOfSeriesRelatedInstances",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyInstanceUID",
)
#: Modalities of which a series is a volume.
VOLUMES = ("CT", "MR", "PT", "NM")
#: Modalities without images to segment (PS3.3 C.7.3.1.1.1).
NO_IMAGES = ("AU", "DOC", "ECG", "FID", "KO", "PR", "REG", "RTDOSE", "RTPLAN", "RTRECORD", "RTSTRUCT", "SEG", "SR")
#: Images come as they are stored, not decoded first.
AS_STORED = (("application/dicom", "*"),)


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value[0] if isinstance(value, MultiValue) else value).strip()


def _pages(
    server: DicomwebServer, what: str, keyword: str, search: Callable[[DICOMwebClient, int], list[dict[str, Any]]]
) -> Iterator[Dataset]:
    """All that a search finds, each once, asked for page by page.

    A page may be short without being the last, so there is none after an empty one, or one that holds nothing new, as
    from a server that cannot leave out the first ones.
    """
    seen: set[str] = set()
    offset = 0
    while True:

        def page(client: DICOMwebClient, start: int = offset) -> list[Dataset]:
            return [Dataset.from_json(item) for item in search(client, start)]

        answers = server.call(what, page)
        offset += len(answers)
        fresh = [answer for answer in answers if _text(answer, keyword) not in seen]
        if not fresh:
            return
        for answer in fresh:
            uid = _text(answer, keyword)
            if uid not in seen or not uid:
                seen.add(uid)
                yield answer


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

        yield from _pages(self.server, f"list {self}", "SOPInstanceUID", search)

    def _fetch(self, client: DICOMwebClient, expected: int, folder: Path) -> tuple[Path, ...]:
        # What an earlier try, or a run that was killed, has left.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files: dict[str, Path] = {}
        for instance in self._instances(client):
            uid, series_uid = _text(instance, "SOPInstanceUID"), _text(instance, "SeriesInstanceUID")
            if not uid or series_uid != self.series_uid or self.instance_uid not in ("", uid):
                raise TransferError(f"{self.server} sent an instance that is not of {self}.")
            path = files.setdefault(uid, folder / f"{len(files):06}.dcm")
            instance.save_as(path)
        if len(files) < expected:
            raise Incomplete(f"{self.server} sent {len(files)} of the {expected} instances that {self} has.")
        return tuple(files.values())

    def _instances(self, client: DICOMwebClient) -> Iterator[Dataset]:
        if self.instance_uid:
            yield client.retrieve_instance(self.study_uid, self.series_uid, self.instance_uid, media_types=AS_STORED)
        else:
            yield from client.iter_series(self.study_uid, self.series_uid, media_types=AS_STORED)


class Incomplete(TemporaryError):
    """Instances of a series did not come; perhaps they do the next time."""


def _jobs(found: Dataset, server: DicomwebServer) -> Iterator[SeriesJob | Refused]:
    """One job of a volume or a lone image; else one of each image, as no volume is made of several radiographs."""
    series_uid, study_uid = _text(found, "SeriesInstanceUID"), _text(found, "StudyInstanceUID")
    if not series_uid or not study_uid:
        yield Refused(str(server), "It lists a series without SeriesInstanceUID or StudyInstanceUID.", series_uid)
        return
    stated = _text(found, "NumberOfSeriesRelatedInstances")
    fetch = WadoSeries(server, study_uid, series_uid, int(stated) if stated.isdecimal() else None)
    job = SeriesJob(
        key=safe_key(series_uid),
        series_uid=series_uid,
        study_uid=study_uid,
        modality=printable(_text(found, "Modality")),
        description=printable(_text(found, "SeriesDescription")),
        files=(),
        slices=fetch.instances or 0,
        size_bytes=0,
        body_part=printable(_text(found, "BodyPartExamined")),
        fetch=fetch,
    )
    if job.modality in NO_IMAGES:
        yield Refused(hashed_uid(series_uid), f"Its modality, {job.modality}, is none of images.", series_uid)
        return
    if fetch.instances == 1 or job.modality in VOLUMES:
        yield job
        return
    for instance in fetch.list_instances():
        uid = _text(instance, "SOPInstanceUID")
        image = replace(fetch, instances=1, instance_uid=uid)
        yield replace(job, key=safe_key(series_uid, uid), slices=1, fetch=image)


def find_dicomweb_jobs(
    source: str, where: Sequence[str] = (), retries: Retries | None = None
) -> Iterator[SeriesJob | Refused]:
    """Look for the series of a DICOMweb server.

    The server is asked page by page, as the jobs are taken. Their files are fetched by
    :meth:`monai_sam2unet.batch.series_job.SeriesJob.opened`. A series of CT, MR or PET is one job; of other modalities
    each image is a job of its own, as :func:`monai_sam2unet.batch.sources.find_jobs` has it. What a server does not
    say of a series, as its orientation and the size of its files, is empty in its job.

    For who we are to the server, see :class:`monai_sam2unet.batch.dicomweb_server.DicomwebServer`.

    Args:
        source: ``dicomweb:https://host/dicom-web``; ``/studies/UID`` or ``/studies/UID/series/UID`` may follow.
        where: conditions on the series, as ``Modality=CT``; see :func:`parse_where`.
        retries: how often what may pass is tried again; None for eight times in two minutes.

    Raises:
        ConfigError: When the source or a condition cannot be read.
        TransferError: When the server refuses the search, or there is no connection after several tries.
        DataError: When there is no such series, or the server passes over a condition.
    """
    url, conditions = parse_source(source)
    asked = parse_where(where)
    twice = sorted(conditions.keys() & asked.keys())
    if twice:
        raise ConfigError(f"{twice[0]} is given by --where and by the address; give it once.")
    server = DicomwebServer(url, retries or Retries())
    return _found(server, conditions | asked)


def _found(server: DicomwebServer, where: Mapping[str, str]) -> Iterator[SeriesJob | Refused]:
    fields = sorted({*FIELDS, *where})

    def search(client: DICOMwebClient, offset: int) -> list[dict[str, Any]]:
        return client.search_for_series(limit=PAGE, offset=offset, fields=fields, search_filters=dict(where))

    some = False
    for found in _pages(server, "search for series", "SeriesInstanceUID", search):
        wrong = unmet(where, found)
        if wrong is not None:
            raise DataError(f"{server} does not know a condition: {wrong}. Leave it out, and use rules for series.")
        some = True
        yield from _jobs(found, server)
    if not some:
        # The conditions' values may be names.
        told = f" for which all conditions hold: those on {', '.join(where)}" if where else ""
        raise DataError(f"{server} has no series{told}.")
