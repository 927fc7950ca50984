# SPDX-License-Identifier: Apache-2.0
"""Sends the files of a result, each until it is confirmed, and never one that was confirmed before."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from monai_sam2unet.batch.sending.outcome import Outcome, Sender, SentFile
from monai_sam2unet.batch.sending.receipts import Receipts
from monai_sam2unet.batch.transfer import Retries, TemporaryError, TransferError
from monai_sam2unet.errors import listing

__all__ = ["send_files"]

logger = logging.getLogger(__name__)


def send_files(
    sender: Sender, files: Sequence[Path], *, receipts_file: Path | None = None, retries: Retries | None = None
) -> int:
    """Send files, and come back when the other side has confirmed all of them.

    Args:
        sender: where to; see :func:`monai_sam2unet.batch.sending.destination`.
        files: DICOM files.
        receipts_file: where it is kept which files were confirmed, so that they are not sent again; None to keep
            nothing. It goes beside the files.
        retries: how often files that failed for what may pass are sent again; None for eight times in two minutes.

    Returns:
        How many were sent; those confirmed before do not count.

    Raises:
        DataError: When a file is no DICOM file, or the receipts cannot be read.
        TransferError: When files could not be sent; all of them are listed with why. Those confirmed stay so.
        OSError: When a receipt cannot be written.
    """
    receipts = None if receipts_file is None else Receipts(receipts_file, str(sender))
    left = {file.path: file for file in map(SentFile.of, files) if receipts is None or not receipts.has(file.path)}
    total = len(left)
    failed: dict[Path, Outcome] = {}

    def once() -> None:
        for path in [path for path, outcome in failed.items() if outcome.passing]:
            del failed[path]
        reason, passing = "no answer came for it", True
        try:
            for outcome in sender.send([file for path, file in left.items() if path not in failed]):
                path = outcome.file.path
                if outcome.problem:
                    failed[path] = outcome
                    continue
                if receipts is not None:
                    receipts.add(path)
                del left[path]
        except TransferError as error:
            reason, passing = str(error), isinstance(error, TemporaryError)
        failed.update((path, Outcome(file, reason, passing)) for path, file in left.items() if path not in failed)
        if any(outcome.passing for outcome in failed.values()):
            raise TemporaryError(f"{len(failed)} files could not be sent to {sender}.")

    if left:
        try:
            (retries or Retries()).call(once)
        except TemporaryError:
            logger.warning("%d of %d files could not be sent to %s", len(failed), total, sender)
    if failed:
        told = listing([f"{path.name}: {outcome.problem}" for path, outcome in failed.items()], limit=100)
        raise TransferError(f"{len(failed)} of {total} files could not be sent to {sender}:\n{told}")
    return total
