# SPDX-License-Identifier: Apache-2.0
"""Joins the journal with the output folder, so that one never says what the other does not hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from time import perf_counter

from monai_sam2unet.batch.identity import discreet
from monai_sam2unet.batch.journal import Journal
from monai_sam2unet.batch.journal_row import JournalRow, State
from monai_sam2unet.batch.publishing import OutputFolder
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import DataError, UserError

__all__ = ["ResultStore", "Standing"]

logger = logging.getLogger(__name__)


class Standing(Enum):
    """What is to be done with a series that was found; the value is said where it is done once more."""

    NEW = ""
    DONE = "done before"
    FAILED = "failed before"
    RETRIED = "failed before: tried again"
    VANISHED = "done before, but results are gone: done again"
    CHANGED = "begun before, but its files have changed since: done again"


class ResultStore:
    """Begins, keeps and gives up series: each is published once, wherever the program is killed.

    Whole results are noted in the journal before they get their name. Where the program ends between the two, the next
    start gives them their name; where it ends right after, it finds them there.

    Args:
        journal: of the output folder.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.output = OutputFolder(journal.path.parent)

    def recover(self) -> tuple[int, int]:
        """Bring to an end what a killed program had begun to publish, and remove its unfinished folders.

        Returns:
            How many series were published now or just before the end, and how many unfinished folders were removed.
        """
        recovered = 0
        for row in self.journal.rows():
            if not row.partial:
                continue
            partial = self.output.partials / row.partial
            if partial.is_dir():
                with suppress(DataError):  # something else has taken its place: noted as failed
                    self._publish(partial, row)
                    recovered += 1
            elif not self.output.missing(row.key, row.outputs):
                self.journal.done(row.key)
                recovered += 1
        return recovered, self.output.clean()

    def standing(self, job: SeriesJob, retry_failed: bool = False) -> Standing:
        """What is to be done with a series.

        Args:
            job: the series.
            retry_failed: whether those that failed before are tried again.
        """
        row = self.journal.row(job.key)
        if row is None or row.state not in (State.DONE, State.FAILED):
            return Standing.NEW
        if (row.slices, row.size_bytes) != (job.slices, job.size_bytes):
            return Standing.CHANGED
        if row.state is State.FAILED:
            return Standing.RETRIED if retry_failed else Standing.FAILED
        return Standing.VANISHED if self.output.missing(row.key, row.outputs) else Standing.DONE

    def keep(
        self, job: SeriesJob, write: Callable[[Path], None], seconds: tuple[float, float], notes: Sequence[str] = ()
    ) -> None:
        """Write the results of a series and give them their place.

        Args:
            job: the series, which was begun.
            write: writes them into a folder.
            seconds: taken to read and to predict.
            notes: what is to be known of how they were made.

        Raises:
            DiskFullError: When there is no room.
            DataError: When there is a folder in their place that is not ours.
            Exception: What ``write`` raises.
        """
        begin = perf_counter()
        partial, outputs = self.output.write_partial(job.key, write)
        self.accept(job, partial.name, outputs, (*seconds, perf_counter() - begin), notes)

    def accept(
        self,
        job: SeriesJob,
        partial: str,
        outputs: Sequence[str],
        seconds: tuple[float, float, float],
        notes: Sequence[str] = (),
    ) -> None:
        """Give whole results their place, and let the files of the series go; the results are on the disk.

        Args:
            job: the series, which was begun.
            partial: name of the partial folder that they are in.
            outputs: names of the files in it.
            seconds: taken to read, predict and write.
            notes: what is to be known of how they were made.

        Raises:
            DataError: When there is a folder in their place that is not ours.
            OSError: When the folder cannot be renamed.
        """
        self.journal.ready(job.key, partial, outputs, seconds, notes)
        row = self.journal.row(job.key)
        if row is not None:
            self._publish(self.output.partials / partial, row)
        self.release(job, done=True)

    def fail(self, job: SeriesJob, reason: str, shown_reason: str) -> None:
        """Note that a series cannot be done, and let its files go.

        Results of its files as they were before are taken away: they are not those of the files that are there.

        Args:
            job: the series.
            reason: why.
            shown_reason: the same without what a fault of the program quotes.
        """
        told = self._take_away(job.key)
        self.journal.fail(job.key, f"{reason}{told}", f"{discreet(shown_reason, job)}{told}")
        self.release(job, done=False)

    @staticmethod
    def release(job: SeriesJob, done: bool) -> None:
        """Let the files of a series go, once the journal says what came of it.

        Args:
            job: the series.
            done: whether its results are there.
        """
        try:
            job.release(done)
        except Exception as error:
            # What came of the series stands. Who starts anew lets its files go once more.
            logger.warning("Files of a series could not be let go.", exc_info=error, extra={"job": job})

    def _take_away(self, key: str) -> str:
        """Remove the earlier results of a series that has failed now; says so, if there were any."""
        row, place = self.journal.row(key), self.output.folder / key
        if row is None or not row.published or not place.is_dir():
            return ""
        try:
            # Out of sight in one step. Were the program killed next, the series would be begun anew.
            old = place.rename(self.output.new_partial(key) / "old")
        except OSError as error:
            return f" Its folder still holds the results of an earlier run, and cannot be removed: {error.strerror}."
        self.output.discard(old.parent)
        return " The results of an earlier run, of its files as they were then, were removed."

    def _publish(self, partial: Path, row: JournalRow) -> None:
        try:
            self.output.publish(partial, row.key, replace=row.published > 0)
        except UserError as error:
            self.journal.fail(row.key, str(error), "There is a folder in its place already.")
            self.output.discard(partial)
            raise
        self.journal.done(row.key)
