# SPDX-License-Identifier: Apache-2.0
"""Series of a DICOMweb server: looked for by QIDO-RS page by page, fetched by WADO-RS when their turn comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from monai_sam2unet.batch.dicomweb_server import DicomwebServer
from monai_sam2unet.batch.guards import printable
from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.series_job import SeriesJob, safe_key
from monai_sam2unet.batch.sources.dicomweb_query import parse_source, parse_where, unmet
from monai_sam2unet.batch.sources.grouping import orientation
from monai_sam2unet.batch.sources.wado_series import (
    LOCALIZER,
    PAGE,
    WadoSeries,
    first_value,
    normal_of,
    pages,
    shown_image_type,
)
from monai_sam2unet.batch.transfer import Retries, TemporaryError, TransferError
from monai_sam2unet.dicom.frame import image_type
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["WadoSeries", "find_dicomweb_jobs"]

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


def _jobs(found: Dataset, server: DicomwebServer) -> Iterator[SeriesJob | Refused]:
    """One job of a volume or a lone image; else one of each image, as no volume is made of several radiographs."""
    series_uid, study_uid = first_value(found, "SeriesInstanceUID"), first_value(found, "StudyInstanceUID")
    if not series_uid or not study_uid:
        told = "It lists a series without SeriesInstanceUID or StudyInstanceUID."
        yield Refused(str(server), told, series_uid, RefusalKind.LOST)
        return
    stated = first_value(found, "NumberOfSeriesRelatedInstances")
    fetch = WadoSeries(server, study_uid, series_uid, int(stated) if stated.isdecimal() else None)
    job = SeriesJob(
        key=safe_key(series_uid),
        series_uid=series_uid,
        study_uid=study_uid,
        modality=printable(first_value(found, "Modality")),
        description=printable(first_value(found, "SeriesDescription")),
        files=(),
        slices=fetch.instances or 0,
        size_bytes=0,
        body_part=printable(first_value(found, "BodyPartExamined")),
        fetch=fetch,
    )
    if job.modality in NO_IMAGES:
        yield Refused(hashed_uid(series_uid), f"Its modality, {job.modality}, is none of images.", series_uid)
        return
    if fetch.instances == 1 or job.modality in VOLUMES:
        samples = fetch.samples()
        slices = [sample for sample in samples if LOCALIZER not in image_type(sample)] or samples
        normals = [normal_of(sample) for sample in slices]
        plane = orientation(normals) if normals and all(normals) else ""
        yield replace(job, image_type=shown_image_type(slices[0]) if slices else (), orientation=plane)
        return
    for instance in fetch.list_instances():
        uid = first_value(instance, "SOPInstanceUID")
        image = replace(fetch, instances=1, instance_uid=uid)
        about = shown_image_type(fetch.described(instance))
        yield replace(job, key=safe_key(series_uid, uid), slices=1, fetch=image, image_type=about)


def find_dicomweb_jobs(
    source: str, where: Sequence[str] = (), retries: Retries | None = None
) -> Iterator[SeriesJob | Refused]:
    """Look for the series of a DICOMweb server.

    The server is asked page by page, as the jobs are taken. Their files are fetched by
    :meth:`monai_sam2unet.batch.series_job.SeriesJob.opened`. A series of CT, MR or PET is one job; of other modalities
    each image is a job of its own, as :func:`monai_sam2unet.batch.sources.find_jobs` has it. ImageType and
    orientation of a volume are those of its first, middle and last image, which are asked for; localizers among its
    slices are left out where it is fetched. What a server does not say, as the size of files, is empty in a job. A
    series whose images the server does not list is refused alone.

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

    some = unanswered = False
    for found in pages(server, "search for series", "SeriesInstanceUID", search):
        wrong = unmet(where, found)
        if wrong is not None:
            raise DataError(f"{server} does not know a condition: {wrong}. Leave it out, and use rules for series.")
        some = True
        try:
            yield from _jobs(found, server)
            unanswered = False
        except TransferError as error:
            # One series may be damaged there; where there is no answer twice, the server is gone.
            if unanswered and isinstance(error, TemporaryError):
                raise
            unanswered = isinstance(error, TemporaryError)
            uid = first_value(found, "SeriesInstanceUID")
            yield Refused(hashed_uid(uid), f"What is in it is not known: {error}", uid, RefusalKind.LOST)
    if not some:
        # The conditions' values may be names.
        told = f" for which all conditions hold: those on {', '.join(where)}" if where else ""
        raise DataError(f"{server} has no series{told}.")
