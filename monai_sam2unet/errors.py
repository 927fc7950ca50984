# SPDX-License-Identifier: Apache-2.0
"""The errors that a user can mend; the command line prints their text without a traceback."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CheckpointError", "ConfigError", "DataError", "UserError", "WeightsError", "causes", "listing"]


class UserError(Exception):
    """Something given is not as it must be. The text says what, and what to do about it."""


class ConfigError(UserError, ValueError):
    """A value or key of a configuration is not allowed."""


class DataError(UserError, ValueError):
    """Images or labels are missing, unreadable or do not belong together."""


class WeightsError(UserError, ValueError):
    """Weights cannot be found, cannot be read, or do not fit the network."""


class CheckpointError(UserError, OSError):
    """A checkpoint could not be written or read."""


def causes(error: BaseException | None) -> list[BaseException]:
    """An error with those that it was raised from, the last one first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def listing(lines: Sequence[str], limit: int = 10) -> str:
    """Join lines for an error's text, indented, with a count of those left out.

    Args:
        lines: what to list.
        limit: how many lines are shown at most.

    Example:
        >>> print(listing(["a", "b", "c"], limit=2))
          a
          b
          ... and 1 more
    """
    shown = [f"  {line}" for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"  ... and {len(lines) - limit} more")
    return "\n".join(shown)
