# SPDX-License-Identifier: Apache-2.0
"""The log file of a run, without identity unless asked for."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from monai_sam2unet.batch.identity import discreet
from monai_sam2unet.errors import UserError, causes

__all__ = ["DiscreetFormatter", "run_log"]

package_logger = logging.getLogger("monai_sam2unet.batch")


class DiscreetFormatter(logging.Formatter):
    """Formats a run's log without identity; errors of the program with where they were raised, but without their text.

    Such a text may quote any value of a file. The journal, which lies beside the results, has it.

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
        return text if self.show_identity else discreet(text, getattr(record, "job", None))

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """See :class:`logging.Formatter`."""
        if self.show_identity or ei[1] is None:
            return super().formatException(ei)
        lines = []
        for cause in reversed(causes(ei[1])):
            lines += traceback.format_tb(cause.__traceback__)
            told = f": {cause}" if isinstance(cause, UserError) else " (its text is in the journal)"
            lines.append(f"{type(cause).__name__}{told}\n")
        return "".join(lines)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: where the disk is full, the run ends and says so once."""


@contextmanager
def run_log(path: Path, show_identity: bool = False) -> Iterator[None]:
    """While it lasts, what this package's runs log goes to a file, and nowhere else: others would write UIDs.

    Args:
        path: the file.
        show_identity: whether UIDs, names of files and texts of faults are written as they are.

    Raises:
        OSError: When the file cannot be written.
    """
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(DiscreetFormatter(show_identity))
    before = (package_logger.level, package_logger.propagate)
    package_logger.addHandler(handler)
    package_logger.setLevel(logging.INFO)
    package_logger.propagate = False
    try:
        yield
    finally:
        package_logger.propagate = before[1]
        package_logger.setLevel(before[0])
        package_logger.removeHandler(handler)
        handler.close()
