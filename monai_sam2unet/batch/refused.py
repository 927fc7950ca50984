# SPDX-License-Identifier: Apache-2.0
"""What a source holds that is not processed, and why."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Refused"]


@dataclass(frozen=True)
class Refused:
    """Something that was found and is not processed.

    Args:
        source: which file, folder or series; fit to be shown.
        reason: why; it says what to do, where something can be done.
        series_uid: SeriesInstanceUID of the series that is not processed; empty where it is not known.
    """

    source: str
    reason: str
    series_uid: str = ""
