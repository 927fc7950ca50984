# SPDX-License-Identifier: Apache-2.0
"""What came of sending a file, and what can send files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from monai_sam2unet.errors import DataError

__all__ = ["Outcome", "Sender", "SentFile", "meaning"]

#: What an archive answers a file with (PS3.4 B.2.3, PS3.7 C, PS3.18 I.2); for those of which the end may differ, the
#: first ones.
FAILURES = {
    0x0110: "it failed while it processed it",
    0x0112: "it does not know that instance",
    0x0117: "an UID in it is not valid",
    0x0122: "it does not take this kind of object (SOP class)",
    0x0124: "it does not allow us to store",
    0x0272: "it failed while it stored it",
    0x8100: "it may not store it",
    0xA700: "it is out of resources, as of disk space",
    0xA900: "the object does not fit its kind (SOP class)",
    0xC000: "it cannot understand the object",
}
#: An archive has it already, as where its first answer was lost.
DUPLICATE = 0x0111
#: What may be otherwise a little later.
PASSING = (0x0110, 0xA700)


def _first(status: int) -> int:
    """The failure that a status stands for, which may have any end."""
    if status >> 12 == 0xC:
        return 0xC000
    return status & 0xFF00 if status >> 12 == 0xA else status


def meaning(status: int) -> tuple[str, bool]:
    """What a failure's status says, and whether another try may help.

    Args:
        status: the code that an archive answered.

    Example:
        >>> meaning(0xA701)
        ('it is out of resources, as of disk space (A701)', True)
    """
    first = _first(status)
    return f"{FAILURES.get(first, 'it failed')} ({status:04X})", first in PASSING


@dataclass(frozen=True)
class SentFile:
    """A DICOM file to send.

    Args:
        path: the file.
        sop_class: its SOPClassUID.
        sop_instance: its SOPInstanceUID.
        transfer_syntax: its TransferSyntaxUID.
    """

    path: Path
    sop_class: str
    sop_instance: str
    transfer_syntax: str

    @classmethod
    def of(cls, path: Path) -> SentFile:
        """Read what a file holds.

        Args:
            path: the file.

        Raises:
            DataError: When it cannot be read, or is no DICOM file with File Meta Information.
        """
        try:
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
            return cls(
                path,
                str(dataset.SOPClassUID),
                str(dataset.SOPInstanceUID),
                str(dataset.file_meta.TransferSyntaxUID),
            )
        except (OSError, InvalidDicomError, AttributeError) as error:
            raise DataError(f"{path} cannot be sent, as it cannot be read as a DICOM file: {error}.") from error


@dataclass(frozen=True)
class Outcome:
    """What came of sending a file.

    Args:
        file: which one.
        problem: why the other side does not have it, in words; empty where it has confirmed that it has.
        passing: whether another try may help.
    """

    file: SentFile
    problem: str = ""
    passing: bool = False

    @classmethod
    def of(cls, file: SentFile, status: int) -> Outcome:
        """An outcome from the status that a failure was answered with.

        Args:
            file: which one.
            status: the code that the archive answered.
        """
        return cls(file) if status == DUPLICATE else cls(file, *meaning(status))


class Sender(Protocol):
    """Sends files to one place. Its text, as ``str()`` gives it, names the place."""

    def send(self, files: Sequence[SentFile]) -> Iterator[Outcome]:
        """Send files, once each; what came of each is told as soon as it is known, in any order.

        Args:
            files: what to send.

        Raises:
            ConfigError: When the place cannot be one.
            TransferError: When none that is left can be sent, and why.
        """
