# SPDX-License-Identifier: Apache-2.0
"""Takes images that are sent to us (C-STORE), and makes a job of each series once no more of it come."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from types import TracebackType

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.batch.inbox import Inbox
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.sending.store_sender import check_ae_title
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import ConfigError

__all__ = ["StorageListener"]

logger = logging.getLogger(__name__)

#: Answers to C-STORE (PS3.4 B.2.3).
SUCCESS, OUT_OF_RESOURCES, NO_MATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
#: What is read of an image before it is kept.
HEADER = ["SOPInstanceUID", "SeriesInstanceUID"]
#: Seconds between two looks at what is quiet.
GLANCE = 0.2
#: Seconds between two searches for images to remove.
SWEEP = 10.0


class _Counts:
    """Bytes that each association has sent since its last image was whole.

    Args:
        limit: how many cut an association off.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._bytes: dict[int, int] = {}

    def add(self, event: Event) -> None:
        """Count what came.

        Args:
            event: of pynetdicom, for each piece of data.
        """
        key = id(event.assoc)
        self._bytes[key] = self._bytes.get(key, 0) + len(event.data)
        if self._bytes[key] > self.limit:
            logger.error("An image of more than %d bytes is being sent; the association is cut off", self.limit)
            event.assoc.abort(block=False)

    def forget(self, event: Event) -> None:
        """Begin to count anew.

        Args:
            event: of pynetdicom, for a whole image, or an association that ended.
        """
        self._bytes.pop(id(event.assoc), None)


class StorageListener:
    """Takes images that are sent to us, and makes a job of each series once no more of it come.

    It answers C-STORE and C-ECHO. An image is confirmed once it is on the disk, so that what was confirmed outlives a
    power cut. Each image belongs to a job:

    - once no image of a series came for ``quiet_seconds``, jobs are made of it: one of a volume, or one of each image
      that is none, as :func:`monai_sam2unet.batch.sources.find_jobs` has it;
    - images that come while these are worked on, or later, wait until they are over, and make another job, with a key
      of its own: a volume of all images of the series as long as the earlier ones are kept; else a volume is refused,
      since it would lack them, until the whole series is sent again;
    - an image that is sent again, and was worked on, makes no job; one of a job that failed offers that once more;
    - after a restart, jobs that were out come first, with the same keys, then what was received and not worked on, and
      what failed or was refused.

    The keys are made from the series and its images, so that a journal knows them again. ``job.fetch.release(done)``
    must be called for each job when it is over, also for one that a journal knows as done. Images are removed
    ``keep_seconds`` after their jobs were done; those of jobs that failed, or were refused, stay.

    Example::

        with StorageListener(11112, Path("inbox")) as listener:
            for job in listener.jobs():
                ...
                job.fetch.release(done=True)

    Args:
        port: where it listens; 0 for any that is free.
        folder: where images are kept; the same one after a restart.
        host: address of the network card that it listens at; empty for all of them.
        ae_title: ours.
        callers: AE titles that may send; empty for all.
        quiet_seconds: how long no image of a series must have come.
        keep_seconds: how long images are kept after they were worked on, for late ones of their series.
        max_bytes: bytes of images that are kept at most; further ones are answered "out of resources".
        max_image_bytes: bytes of one image at most, as it is held in memory; who sends more is cut off.
        max_associations: how many may send at the same time.

    Raises:
        ConfigError: When a value is out of its range, a title cannot be one, or the port cannot be listened at.
        DataError: When what an earlier listener left in the folder cannot be read.
        OSError: When the folder cannot be made.
    """

    def __init__(
        self,
        port: int,
        folder: Path,
        *,
        host: str = "",
        ae_title: str = "SAM2UNET",
        callers: Collection[str] = (),
        quiet_seconds: float = 30.0,
        keep_seconds: float = 3600.0,
        max_bytes: int | None = None,
        max_image_bytes: int = 2**31,
        max_associations: int = 16,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ConfigError(f"A port is from 1 to 65535, or 0 for any that is free; {port} is none.")
        for name, value in (("quiet_seconds", quiet_seconds), ("keep_seconds", keep_seconds)):
            if value < 0:
                raise ConfigError(f"{name} must be 0 or more, not {value}.")
        for name, value in (("max_image_bytes", max_image_bytes), ("max_associations", max_associations)):
            if value < 1:
                raise ConfigError(f"{name} must be 1 or more, not {value}.")
        self.quiet_seconds = quiet_seconds
        self.keep_seconds = keep_seconds
        self._inbox = Inbox(folder, max_bytes)
        self._stopped = threading.Event()
        self._ending = threading.Lock()
        self._were_out = [series for series in self._inbox.series() if self._inbox.is_out(series)]
        # Of each series' folder, when its last image came; after a start, senders may still be at it.
        self._last: dict[Path, float] = dict.fromkeys(self._inbox.series(), time.monotonic())
        self._lock = threading.Lock()
        self._node = AE(ae_title=check_ae_title(ae_title))
        self._node.require_calling_aet = [check_ae_title(title) for title in callers]
        self._node.maximum_associations = max_associations
        self._node.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            self._node.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
        self._counts = _Counts(max_image_bytes)
        #: The port that it listens at.
        self.port = self._start(host, port)
        if not callers:
            logger.warning("All AE titles may send images to port %d", self.port)

    def _start(self, host: str, port: int) -> int:
        """Listen, and say at which port."""
        handlers: list[EventHandlerType] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_DATA_RECV, self._counts.add),
            (evt.EVT_CONN_CLOSE, self._counts.forget),
        ]
        try:
            server = self._node.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ConfigError(f"Port {port} cannot be listened at: {error.strerror}.") from error
        if server is None:
            raise RuntimeError("pynetdicom started no server.")
        return int(server.server_address[1])

    def __enter__(self) -> StorageListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take no more images, and end :meth:`jobs`. What is not worked on is kept for the next start."""
        self._stopped.set()
        # A second call, as by another Ctrl-C, leaves the end to the first.
        if self._ending.acquire(blocking=False):
            self._node.shutdown()

    def _store(self, event: Event) -> int:
        self._counts.forget(event)
        content = event.encoded_dataset()
        try:
            header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=HEADER)
            uids = [str(header.get(name) or "") for name in ("SeriesInstanceUID", "SOPInstanceUID")]
        except (InvalidDicomError, ValueError, EOFError, KeyError) as error:
            logger.error("An image cannot be read, and is refused: %s", type(error).__name__)
            return NOT_UNDERSTOOD
        if not all(uids) or uids[1] != header.file_meta.MediaStorageSOPInstanceUID:
            logger.error("An image without SeriesInstanceUID, or of another SOPInstanceUID than stated, is refused")
            return NO_MATCH
        # Before, too: what can be seen of a series is never newer than what is known of it here.
        self._came(self._inbox.place(uids[0]))
        try:
            series = self._inbox.store(uids[0], uids[1], content)
        except OSError as error:
            logger.error("An image of series %s cannot be kept, and is refused: %s", hashed_uid(uids[0]), error)
            return OUT_OF_RESOURCES
        self._came(series)
        return SUCCESS

    def _came(self, series: Path) -> None:
        with self._lock:
            self._last[series] = time.monotonic()

    def _is_quiet(self, series: Path) -> bool:
        with self._lock:
            return time.monotonic() - self._last[series] >= self.quiet_seconds

    def jobs(self) -> Iterator[SeriesJob | Refused]:
        """The series, each once no more of it come, until :meth:`stop`."""
        while self._were_out:
            series = self._were_out.pop(0)
            yield from self._take(series, self._inbox.images(series))
        swept = 0.0
        while not self._stopped.wait(GLANCE):
            with self._lock:
                due = [series for series, last in self._last.items() if time.monotonic() - last >= self.quiet_seconds]
            for series in due:
                if self._stopped.is_set():
                    return
                if self._inbox.is_out(series):
                    continue
                images = self._inbox.images(series)
                # Jobs before it may have been waited for, and more of it may have come since.
                if not self._is_quiet(series):
                    continue
                if self._inbox.is_new(series):
                    yield from self._take(series, images)
                else:
                    self._forget(series)
            if time.monotonic() - swept >= SWEEP:
                self._inbox.remove_done(self.keep_seconds)
                swept = time.monotonic()

    def _take(self, series: Path, images: frozenset[str]) -> list[SeriesJob | Refused]:
        jobs = self._inbox.take(series, images)
        logger.info("Series %s is quiet: %d jobs", hashed_uid(series.name), len(jobs))
        return jobs

    def _forget(self, series: Path) -> None:
        """Look at a series no more, until an image of it comes."""
        with self._lock:
            if time.monotonic() - self._last[series] >= self.quiet_seconds and not self._inbox.is_new(series):
                del self._last[series]
