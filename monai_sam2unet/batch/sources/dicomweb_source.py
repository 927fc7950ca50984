# SPDX-License-Identifier: Apache-2.0
"""Series of a DICOMweb server: looked for by QIDO-RS page by page, fetched by WADO-RS when their turn comes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from monai_sam2unet.batch.dicomweb_server import DicomwebServer
from monai_sam2unet.batch.series_job import Refused, SeriesJob, series_key
from monai_sam2unet.batch.shown_uid import shown_uid
from monai_sam2unet.batch.sources.dicomweb_query import parse_source, parse_where, unmet
from monai_sam2unet.batch.transfer import Retries, TemporaryError, TransferError
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["WadoSeries", "find_dicomweb_jobs"]

#: Series of one answer; servers may give fewer.
PAGE = 100
#: Asked for besides what a server answers by itself (PS3.18 10.6.3.3).
FIELDS = (
    "Modality",
    "NumberOfSeriesRelatedInstances",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyInstanceUID",
)
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
    """The files of a series that a DICOMweb server keeps.

    Args:
        server: which one.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        instances: how many the server said it has; None where it did not say, and is asked once more.
        work_folder: the series gets a folder of its own in it.
    """

    server: DicomwebServer
    study_uid: str
    series_uid: str
    instances: int | None
    work_folder: Path

    def __str__(self) -> str:
        return f"series {shown_uid(self.series_uid)}"

    @property
    def folder(self) -> Path:
        """Where its files are, once they are fetched."""
        return self.work_folder / series_key(self.series_uid)

    def retrieve(self) -> tuple[Path, ...]:
        """Fetch its files, as the server has stored them.

        Raises:
            TransferError: When the server refuses it, or there is no connection after several tries.
            DataError: When fewer instances come than the server says it has.
            OSError: When they cannot be written.
        """
        expected = self.instances if self.instances is not None else self._count()
        with ExitStack() as undo:
            undo.callback(self.release, done=False)
            try:
                files = self.server.call(f"send {self}", lambda client: self._fetch(client, expected))
            except Incomplete as error:
                raise DataError(str(error)) from error
            undo.pop_all()
        return files

    def release(self, done: bool) -> None:
        """Remove the fetched files; the server has them.

        Args:
            done: whether the series was worked on; it makes no difference here.
        """
        shutil.rmtree(self.folder, ignore_errors=True)

    def _fetch(self, client: DICOMwebClient, expected: int) -> tuple[Path, ...]:
        # What an earlier try, or a run that was killed, has left.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        files: dict[str, Path] = {}
        for instance in client.iter_series(self.study_uid, self.series_uid, media_types=AS_STORED):
            uid, series_uid = _text(instance, "SOPInstanceUID"), _text(instance, "SeriesInstanceUID")
            if not uid or series_uid != self.series_uid:
                raise TransferError(f"{self.server} sent an instance that is not of {self}.")
            path = files.setdefault(uid, self.folder / f"{len(files):06}.dcm")
            instance.save_as(path)
        if len(files) < expected:
            raise Incomplete(f"{self.server} sent {len(files)} of the {expected} instances that {self} has.")
        return tuple(files.values())

    def _count(self) -> int:
        def search(client: DICOMwebClient, offset: int) -> list[dict[str, Any]]:
            return client.search_for_instances(self.study_uid, self.series_uid, limit=PAGE, offset=offset)

        return sum(1 for _ in _pages(self.server, f"list {self}", "SOPInstanceUID", search))


class Incomplete(TemporaryError):
    """Instances of a series did not come; perhaps they do the next time."""


def _job(found: Dataset, server: DicomwebServer, work_folder: Path) -> SeriesJob | Refused:
    series_uid, study_uid = _text(found, "SeriesInstanceUID"), _text(found, "StudyInstanceUID")
    if not series_uid or not study_uid:
        return Refused(f"{server}", "the server lists a series without SeriesInstanceUID or StudyInstanceUID")
    stated = _text(found, "NumberOfSeriesRelatedInstances")
    count = int(stated) if stated.isdecimal() else None
    return SeriesJob(
        key=series_key(series_uid),
        series_uid=series_uid,
        study_uid=study_uid,
        modality=_text(found, "Modality"),
        description=_text(found, "SeriesDescription"),
        files=(),
        slices=count or 0,
        size_bytes=0,
        fetch=WadoSeries(server, study_uid, series_uid, count, work_folder),
    )


def find_dicomweb_jobs(
    source: str, where: Sequence[str] = (), *, work_folder: Path, retries: Retries | None = None
) -> Iterator[SeriesJob | Refused]:
    """Look for the series of a DICOMweb server.

    The server is asked page by page, as the series are taken. Their files are fetched by ``job.fetch.retrieve()``, and
    removed by ``job.fetch.release()``. For who we are to the server, see :class:`DicomwebServer`.

    Args:
        source: ``dicomweb:https://host/dicom-web``; ``/studies/UID`` or ``/studies/UID/series/UID`` may follow.
        where: conditions on the series, as ``Modality=CT``; see :func:`parse_where`.
        work_folder: where fetched series are kept until they are done.
        retries: how often what may pass is tried again; None for five times.

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
    return _found(server, conditions | asked, work_folder)


def _found(server: DicomwebServer, where: Mapping[str, str], work_folder: Path) -> Iterator[SeriesJob | Refused]:
    fields = sorted({*FIELDS, *where})

    def search(client: DICOMwebClient, offset: int) -> list[dict[str, Any]]:
        return client.search_for_series(limit=PAGE, offset=offset, fields=fields, search_filters=dict(where))

    some = False
    for found in _pages(server, "search for series", "SeriesInstanceUID", search):
        wrong = unmet(where, found)
        if wrong is not None:
            raise DataError(f"{server} does not know a condition: {wrong}. Leave it out, and use rules for series.")
        some = True
        yield _job(found, server, work_folder)
    if not some:
        # The conditions' values may be names.
        told = f" for which all conditions hold: those on {', '.join(where)}" if where else ""
        raise DataError(f"{server} has no series{told}.")
