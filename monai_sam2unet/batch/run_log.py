# SPDX-License-Identifier: Apache-2.0
"""The log file of a run, without identity unless asked for."""

from __future__ import annotations

import logging
import re
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import TextIO

from monai_sam2unet.batch.identity import discreet
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import UserError, causes

__all__ = ["DiscreetFormatter", "KeptLog", "Said", "about", "kept_log", "run_log", "say", "traceback_text"]

#: A logger's name, a level and a text.
Said = tuple[str, int, str]

package_logger = logging.getLogger("monai_sam2unet.batch")
#: Of warnings, once logging captures them.
warnings_logger = logging.getLogger("py.warnings")
#: Libraries that log UIDs, or addresses that hold them, and up to what. What pydicom logs it warns of, too.
TALKATIVE = {
    "dicomweb_client": logging.WARNING,
    "pydicom": logging.ERROR,
    "pynetdicom": logging.WARNING,
    "urllib3": logging.WARNING,
}
#: Warnings of libraries that quote values of a file: what stands before the quotation can be told.
QUOTED = re.compile(r"(.*[/\\](?:pydicom|highdicom)[/\\][^\n]*?: \w*Warning: [^'\"]*)['\"]", re.DOTALL)
#: The series that a thread is at.
_job: ContextVar[SeriesJob | None] = ContextVar("job", default=None)


def traceback_text(error: BaseException) -> str:
    """Where an error, and those that it was raised from, were raised; without the texts of faults of the program.

    Such a text may quote any value of a file. The journal, which lies beside the results, has it.

    Args:
        error: what was raised.
    """
    lines = []
    for cause in reversed(causes(error)):
        lines += traceback.format_tb(cause.__traceback__)
        told = f": {cause}" if isinstance(cause, UserError) else " (its text is in the journal)"
        lines.append(f"{type(cause).__name__}{told}\n")
    return "".join(lines)


class DiscreetFormatter(logging.Formatter):
    """Formats a run's log without identity; errors of the program with where they were raised, but without their text.

    Args:
        show_identity: whether everything is written as it is.
    """

    def __init__(self, show_identity: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.show_identity = show_identity

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`; a record's ``job`` is the series that it is about."""
        # Another handler's formatter keeps its traceback, with its text, in the record.
        record.exc_text = None
        text = super().format(record)
        record.exc_text = None
        if record.name == warnings_logger.name and not self.show_identity and (found := QUOTED.match(text)):
            text = f"{found[1]}(a value that is not told)"
        return text if self.show_identity else discreet(text, getattr(record, "job", _job.get()))

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """See :class:`logging.Formatter`."""
        return super().formatException(ei) if self.show_identity or ei[1] is None else traceback_text(ei[1])


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: where the disk is full, the run ends and says so once."""


@contextmanager
def about(job: SeriesJob | None) -> Iterator[None]:
    """While it lasts, what this thread logs, and what it warns of, is about a series.

    Args:
        job: the series; None for several.
    """
    token = _job.set(job)
    try:
        yield
    finally:
        _job.reset(token)


class KeptLog(logging.Handler):
    """Keeps what is logged and warned of, by series, to be sent to the program that writes the log."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, list[Said]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See :class:`logging.Handler`."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f"\n{traceback_text(record.exc_info[1])}"
        job = getattr(record, "job", _job.get())
        self._said.setdefault("" if job is None else job.key, []).append((record.name, record.levelno, text))

    def take(self, job: SeriesJob) -> tuple[Said, ...]:
        """What was said of a series, and of none: each once.

        Args:
            job: the series.
        """
        self.acquire()
        try:
            return tuple(said for key in ("", job.key) for said in self._said.pop(key, ()))
        finally:
            self.release()


def say(said: Iterable[Said], job: SeriesJob) -> None:
    """Log what another process has kept.

    Args:
        said: that.
        job: the series that it is about.
    """
    for name, level, text in said:
        logging.getLogger(name).log(level, "%s", text, extra={"job": job})


@contextmanager
def kept_log() -> Iterator[KeptLog]:
    """While it lasts, what this package's runs log, and warnings, are kept, and go nowhere else."""
    kept = KeptLog()
    with _taking(kept, TALKATIVE):
        yield kept


@contextmanager
def run_log(path: Path, show_identity: bool = False) -> Iterator[None]:
    """While it lasts, what this package's runs log goes to a file, and nowhere else: others would write UIDs.

    Warnings go there, too; libraries that log UIDs, or addresses that hold them, are quieter.

    Args:
        path: the file.
        show_identity: whether UIDs, names of files and texts of faults are written as they are.

    Raises:
        OSError: When the file cannot be written.
    """
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(DiscreetFormatter(show_identity))
    with _taking(handler, {} if show_identity else TALKATIVE):
        yield


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a warning; with its place, which some libraries leave out in ``warnings.formatwarning``."""
    warnings_logger.warning("%s", f"{filename}:{lineno}: {category.__name__}: {message}")


@contextmanager
def _taking(handler: logging.Handler, levels_of: Mapping[str, int]) -> Iterator[None]:
    """While it lasts, what this package's runs log, and warnings, go to a handler alone."""
    quiet = [logging.getLogger(name) for name in levels_of]
    levels = [logger.level for logger in quiet]
    before = [(logger, logger.level, logger.propagate) for logger in (package_logger, warnings_logger)]
    for logger, _, _ in before:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    for logger in quiet:
        logger.setLevel(levels_of[logger.name])
    show = warnings.showwarning
    logging.captureWarnings(True)
    warnings.showwarning = _show
    try:
        yield
    finally:
        logging.captureWarnings(False)
        warnings.showwarning = show
        for logger, level, propagate in before:
            logger.propagate = propagate
            logger.setLevel(level)
            logger.removeHandler(handler)
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)
        handler.close()
