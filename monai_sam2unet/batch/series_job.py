# SPDX-License-Identifier: Apache-2.0
"""What a run works on: one volume or one picture, with the files that it is read from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from monai_sam2unet.batch.guards import printable
from monai_sam2unet.errors import DataError

__all__ = ["ORIENTATIONS", "SeriesFiles", "SeriesJob", "safe_key"]

#: Planes that a volume's slices may lie in: the body's, none of these, or not all the same.
ORIENTATIONS = ("axial", "coronal", "sagittal", "oblique", "mixed")
#: A UID (PS3.5 9.1), which may be a folder's name on every system.
SAFE = re.compile(r"[0-9]+(\.[0-9]+)*")
MAX_UID = 64


def safe_key(uid: str, own: str = "") -> str:
    """A folder's name for a series, or for one image of it.

    Args:
        uid: SeriesInstanceUID; from a damaged file it may be any text.
        own: what tells the image from the others of its series (its SOPInstanceUID); empty for a whole series.

    Returns:
        The UID itself where it is one; for an image, or any other text, followed by a short hash. The same for the
        same UIDs, and different for different ones.

    Example:
        >>> safe_key("1.2.840.1")
        '1.2.840.1'
        >>> safe_key("../../etc")
        'series-9f5ae52a88'
    """
    plain = len(uid) <= MAX_UID and SAFE.fullmatch(uid) is not None
    if plain and not own:
        return uid
    digest = hashlib.sha256(f"{uid}\0{own}".encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return f"{uid if plain else 'series'}-{digest}"


class SeriesFiles(Protocol):
    """Brings the files of a job that do not simply lie there, and is told when the job is over. It can be pickled."""

    def opened(self, work_folder: Path) -> AbstractContextManager[tuple[Path, ...]]:
        """The files on the disk, for as long as this lasts.

        Args:
            work_folder: where to bring them, to a folder of their own.
        """

    def release(self, done: bool) -> None:
        """The job is over.

        Args:
            done: whether it succeeded, in this run or one before; else it may be tried again later.
        """


@dataclass(frozen=True)
class SeriesJob:
    """One volume or one picture to process.

    Args:
        key: a folder's name, unique in a run: see :func:`safe_key`.
        series_uid: SeriesInstanceUID; empty where the files have none.
        study_uid: StudyInstanceUID; may be empty.
        modality: Modality, as ``CT``; may be empty.
        description: SeriesDescription, in which control characters are escaped; may be empty.
        files: the files, by name. One in a zip archive is ARCHIVE/MEMBER, which is no file on the disk: they are opened
            with :meth:`opened`.
        slices: how many images, or frames of them, there are.
        size_bytes: size of all files.
        orientation: plane of the slices, one of :data:`ORIENTATIONS`; empty outside a patient space (radiographs,
            ultrasound, endoscopy, cine).
        image_type: values of ImageType of the first image, as ``("ORIGINAL", "PRIMARY", "AXIAL")``.
        body_part: BodyPartExamined; may be empty.
        archives: the zip archives among the parents of ``files``.
        fetch: brings the files of a job from elsewhere, for which ``files`` may be empty; whoever runs the job calls
            its ``release`` when the job is over. None where there is nothing to bring.
    """

    key: str
    series_uid: str
    study_uid: str
    modality: str
    description: str
    files: tuple[Path, ...]
    slices: int
    size_bytes: int
    orientation: str = ""
    image_type: tuple[str, ...] = ()
    body_part: str = ""
    archives: tuple[Path, ...] = ()
    fetch: SeriesFiles | None = None

    @contextmanager
    def opened(self, work_folder: Path) -> Iterator[tuple[Path, ...]]:
        """The files on the disk; those in archives are unpacked, those elsewhere fetched, for as long as this lasts.

        Args:
            work_folder: where to unpack, to ``unpacked-`` and the key, or fetch; what a run that was killed left there
                goes.

        Yields:
            The files, in the order of ``files``.

        Raises:
            DataError: When files have changed since they were found, or an archive is damaged.
            TransferError: When files cannot be fetched.

        Example:
            ``with job.opened(work_folder) as files: volume = read_volume(files)``
        """
        if self.fetch is not None:
            with self.fetch.opened(work_folder) as files:
                yield files
            return
        if not self.archives:
            self._check_unchanged()
            yield self.files
            return
        from monai_sam2unet.batch.sources.archives import unpacked

        with unpacked(self.files, self.archives, work_folder / f"unpacked-{self.key}") as files:
            yield files

    def release(self, done: bool) -> None:
        """Let go what was fetched, since the job is over.

        Args:
            done: whether it succeeded; else it may be tried again later.
        """
        if self.fetch is not None:
            self.fetch.release(done)

    def _check_unchanged(self) -> None:
        """The files are as long as they were: one that was still arriving when it was found is not read."""
        size = 0
        for file in self.files:
            try:
                size += file.stat().st_size
            except OSError as error:
                raise DataError(
                    f"{printable(file)} is not there any more, or cannot be read: {error.strerror}."
                ) from error
        if size != self.size_bytes:
            raise DataError(
                f"The {len(self.files)} files of series {self.series_uid} were found with {self.size_bytes:,} bytes "
                f"and now have {size:,}; they may still be arriving."
            )
