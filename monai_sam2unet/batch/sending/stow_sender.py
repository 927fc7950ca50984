# SPDX-License-Identifier: Apache-2.0
"""Stores files on a DICOMweb server by STOW-RS, and reads what it says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from monai_sam2unet.batch.dicomweb_server import DicomwebServer
from monai_sam2unet.batch.sending.outcome import Outcome, SentFile
from monai_sam2unet.batch.transfer import Retries

__all__ = ["StowSender"]

#: Bytes of files in one request at most, but for one file that is larger; they are held in memory.
REQUEST_BYTES = 64 * 2**20
#: Where the answer says what came of each file although the request failed (PS3.18 Table 10.5.3-1).
TOLD_EACH = (HTTPStatus.CONFLICT, HTTPStatus.BAD_REQUEST)


def _requests(files: Sequence[SentFile]) -> Iterator[list[SentFile]]:
    """Files parted so that each part goes in one request."""
    part: list[SentFile] = []
    size = 0
    for file in files:
        length = file.path.stat().st_size
        if part and size + length > REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(file)
        size += length
    if part:
        yield part


class StowSender:
    """Stores files on a DICOMweb server.

    Args:
        server: which one. Its own retries are left out, as :func:`send_files` tries again what is left.
    """

    def __init__(self, server: DicomwebServer) -> None:
        self.server = DicomwebServer(server.url, Retries(attempts=1))

    def __str__(self) -> str:
        return f"dicomweb:{self.server}"

    def send(self, files: Sequence[SentFile]) -> Iterator[Outcome]:
        """Store files, as many in a request as are small enough together.

        Args:
            files: what to store.

        Raises:
            ConfigError: When the environment does not say well who we are.
            TransferError: When the server refuses a request, or there is no connection.
        """
        for part in _requests(files):

            def store(client: DICOMwebClient, paths: Sequence[Path] = tuple(file.path for file in part)) -> Dataset:
                try:
                    return client.store_instances([dcmread(path) for path in paths])
                except requests.HTTPError as error:
                    answer = None if error.response is None else _told(error.response)
                    if answer is None:
                        raise
                    return answer

            answer = self.server.call("store results", store)
            yield from (_outcome(file, answer) for file in part)


def _told(response: requests.Response) -> Dataset | None:
    """What a failed request's answer says of each file; None where it says nothing of them."""
    if response.status_code not in TOLD_EACH:
        return None
    try:
        answer = Dataset.from_json(response.json())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return answer if "FailedSOPSequence" in answer or "ReferencedSOPSequence" in answer else None


def _outcome(file: SentFile, answer: Dataset) -> Outcome:
    for item in answer.get("FailedSOPSequence") or ():
        if item.get("ReferencedSOPInstanceUID") == file.sop_instance:
            reason = item.get("FailureReason")
            return Outcome(file, "it failed, and it is not said why") if reason is None else Outcome.of(file, reason)
    stored = {item.get("ReferencedSOPInstanceUID") for item in answer.get("ReferencedSOPSequence") or ()}
    # A warning, as that values were changed, comes with what is stored.
    return Outcome(file) if file.sop_instance in stored else Outcome(file, "the answer does not say that it is stored")
