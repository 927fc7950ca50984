# SPDX-License-Identifier: Apache-2.0
"""The errors that a user can mend; the command line prints their text without a traceback."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["CheckpointError", "ConfigError", "DataError", "UserError", "WeightsError", "causes", "listing", "text_of"]

#: How torch begins the text of an error that it brings from a worker process of a ``DataLoader``.
_FROM_WORKER = re.compile(r"Caught \w+ in [^\n]*\.\nOriginal Traceback")


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


def text_of(error: BaseException) -> str:
    r"""An error's own text, without the traceback that torch puts before it in worker processes of a ``DataLoader``.

    Args:
        error: any.

    Example:
        >>> trace = "Original Traceback (most recent call last):\n  ...\nValueError: No such image.\n"
        >>> text_of(ValueError(f"Caught ValueError in DataLoader worker process 0.\n{trace}"))
        'No such image.'
    """
    text = str(error)
    if not _FROM_WORKER.match(text):
        return text
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    _, found, own = text.rpartition(f"\n{name}: ")
    return own.rstrip("\n") if found else text


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
