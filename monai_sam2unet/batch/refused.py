# SPDX-License-Identifier: Apache-2.0
"""What a source holds that is not processed, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["RefusalKind", "Refused"]


class RefusalKind(Enum):
    """What it means that something is not processed."""

    LEFT = "left"  # as a rule says, or it holds no image: nothing is missing
    LOST = "lost"  # damaged, incomplete, or not to be opened: results are missing, so it counts as failed
    NOTHING = "nothing"  # the whole source holds nothing to process


@dataclass(frozen=True)
class Refused:
    """Something that was found and is not processed.

    Args:
        source: which file, folder or series; fit to be shown.
        reason: why; it says what to do, where something can be done.
        series_uid: SeriesInstanceUID of the series that is not processed; empty where it is not known.
        kind: whether results are missing for it.
    """

    source: str
    reason: str
    series_uid: str = ""
    kind: RefusalKind = RefusalKind.LEFT
