# SPDX-License-Identifier: Apache-2.0
"""Finds the series of a source and makes jobs of them, the first ones while it still looks for more."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

from monai_sam2unet.batch.guards import kind_of_file, printable
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.sources.archives import ZIP_START, scan_archive
from monai_sam2unet.batch.sources.folders import files_of_dicomdir, files_of_list, files_of_tree
from monai_sam2unet.batch.sources.grouping import SeriesGroups
from monai_sam2unet.batch.sources.headers import BadFile, Header, NoImage, read_brief
from monai_sam2unet.dicom.series import HEAD, has_dicom_name, starts_as_dicom
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["find_jobs"]

#: After how many files without one of its own a series is taken for whole.
LOOKAHEAD = 20_000
#: Files that a thread looks at before it takes more.
AT_ONCE = 16
OTHER_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
#: Text of at most this size (bytes) may be a list of files.
MAX_LIST = 256 * 2**20

Found = Header | BadFile | NoImage | Refused


def find_jobs(
    source: str | os.PathLike[str],
    series_uid: str | None = None,
    lookahead: int | None = LOOKAHEAD,
    strict: bool = True,
    follow_links: bool = False,
    num_workers: int | None = None,
    passed_over: Counter[str] | None = None,
) -> Iterator[SeriesJob | Refused]:
    """Find what is to be processed.

    Only headers are read, by several threads. Files are told by what they hold, not by their names. Zip archives are
    looked into, and not unpacked: :meth:`monai_sam2unet.batch.series_job.SeriesJob.opened` does that for one job.

    The images of a series that lie in the patient make one job, wherever in the source their files are: slices of a
    volume, and frames of enhanced images. Every other image (radiographs, ultrasound, endoscopy, cine, secondary
    captures) is a job of its own, since a series of them is no volume; its ``key`` is made of the series' UID and its
    own. A series is handed out as :class:`monai_sam2unet.batch.sources.grouping.SeriesGroups` says: after
    ``lookahead`` further files, or at the end.

    One bad file loses no other series. That of which it is a slice, by its header or else by the images before and
    after it in its folder, is refused, since a slice would be missing.

    Args:
        source: a folder (searched at any depth), a zip archive, a DICOMDIR, a DICOM file, or a text file that names
            such, one a line.
        series_uid: find this series alone.
        lookahead: after how many files without one of its own a series is taken for whole; None: when all files were
            looked at, which is the one safe way where the files of a series are spread over a large tree.
        strict: whether a file without File Meta Information is bad, as in :func:`monai_sam2unet.dicom.read_volume`.
        follow_links: whether linked folders are entered, and links out of the source's folder are followed.
        num_workers: threads that read headers; None for 8.
        passed_over: counts, by kind, what is no image to process (``not DICOM``, reports, segmentations, copies).

    Yields:
        Jobs, and what is refused with its reason. They come in the same order each time.

    Raises:
        DataError: At once, when there is no such source.
        ConfigError: At once, when ``lookahead`` or ``num_workers`` is below 1.
    """
    for name, value in (("lookahead", lookahead), ("num_workers", num_workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be None or at least 1, got {value}.")
    # Whole paths can be told from other words of a reason, and hidden.
    path = Path(source).absolute()
    try:
        kind = kind_of_file(path)
    except (OSError, ValueError) as error:
        raise DataError(f"There is no file or folder {printable(path)}.") from error
    if kind is not None:
        raise DataError(f"{printable(path)} is {kind}; give a file or a folder.")
    counts = Counter[str]() if passed_over is None else passed_over
    return _jobs(path, series_uid, lookahead, strict, follow_links, num_workers or 8, counts)


def _jobs(
    path: Path,
    series_uid: str | None,
    lookahead: int | None,
    strict: bool,
    follow_links: bool,
    num_workers: int,
    passed_over: Counter[str],
) -> Iterator[SeriesJob | Refused]:
    groups = SeriesGroups(lookahead, passed_over)
    there = False
    for item in _grouped(_found(_named(path, passed_over, follow_links), strict, num_workers), groups, passed_over):
        if series_uid is None or item.series_uid == series_uid:
            there = True
            yield item
    if not there:
        what = "no DICOM image" if series_uid is None else f"no series {printable(series_uid)}"
        others = "".join(f" {count} {kind}," for kind, count in sorted(passed_over.items()))
        passed = f" Passed over:{others[:-1]}." if others else ""
        yield Refused(printable(path), f"There is {what} in it.{passed}", series_uid or "", RefusalKind.NOTHING)


def _grouped(found: Iterable[Found], groups: SeriesGroups, passed_over: Counter[str]) -> Iterator[SeriesJob | Refused]:
    for item in found:
        if isinstance(item, NoImage):
            passed_over[item.kind] += 1
        elif isinstance(item, Refused):
            yield item
        else:
            yield from groups.add(item)
        yield from groups.looked()
    yield from groups.finish()


def _named(source: Path, passed_over: Counter[str], follow_links: bool) -> Iterator[Path | BadFile | Refused]:
    """The files of a source; a list is followed to what it names, and so is a DICOMDIR that is named itself."""
    if source.is_dir():
        yield from files_of_tree(source, passed_over, follow_links)
        return
    head, size = _start_of(source)
    if head.startswith(ZIP_START) or starts_as_dicom(head) or has_dicom_name(source):
        yield from _named_file(source, head)
    elif b"\0" in head or size > MAX_LIST:
        told = "It is neither DICOM, nor a zip archive, nor a list of files."
        yield Refused(printable(source), told, kind=RefusalKind.NOTHING)
    else:
        for item in files_of_list(source, source.read_bytes()):
            if isinstance(item, Path) and item.is_dir():
                yield from files_of_tree(item, passed_over, follow_links)
            elif isinstance(item, Path):
                yield from _named_file(item, b"")
            else:
                yield item


def _start_of(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(HEAD), path.stat().st_size
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}.") from error


def _named_file(path: Path, head: bytes) -> Iterator[Path | BadFile | Refused]:
    if path.name.upper() == "DICOMDIR" or (head and _is_dicomdir(path)):
        yield from files_of_dicomdir(path)
    else:
        yield path


def _is_dicomdir(path: Path) -> bool:
    found = _look_at(path, strict=True)
    return found == [NoImage("a DICOMDIR")]


def _found(files: Iterator[Path | BadFile | Refused], strict: bool, num_workers: int) -> Iterator[Found]:
    """What the files are, in their order; a few of them are looked at ahead."""

    def look(batch: list[Path | BadFile | Refused]) -> list[Found]:
        looked = ([item] if isinstance(item, BadFile | Refused) else _look_at(item, strict) for item in batch)
        return list(chain.from_iterable(looked))

    running: deque[Future[list[Found]]] = deque()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="headers")
    try:
        while batch := list(islice(files, AT_ONCE)):
            running.append(pool.submit(look, batch))
            if len(running) > 2 * num_workers:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _look_at(path: Path, strict: bool) -> list[Found]:
    """What one file is; for an archive, what its files are."""
    try:
        before = path.stat()
        with path.open("rb", buffering=0) as file:
            head = file.read(HEAD)
            if head.startswith(ZIP_START):
                return list(scan_archive(path, strict))
            if not has_dicom_name(path) and not starts_as_dicom(head):
                if path.name.lower().endswith(OTHER_ARCHIVES):
                    told = "Of archives, zip alone is opened; unpack it first."
                    return [Refused(printable(path), told, kind=RefusalKind.LOST)]
                return [NoImage("not DICOM")]
            file.seek(0)
            found = read_brief(file, path, before.st_size, strict)
        after = path.stat()
    except OSError as error:
        return [BadFile(path, f"{printable(path)} cannot be read: {error.strerror or error}.")]
    # What no check has foreseen in one file must not end the search.
    except Exception as error:
        return [BadFile(path, f"{printable(path)} cannot be read ({type(error).__name__}): {error}")]
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        uid = found.series_uid if isinstance(found, Header | BadFile) else ""
        return [BadFile(path, f"{printable(path)} was changed while it was read; it may still be arriving.", uid)]
    return [found]
