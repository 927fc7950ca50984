# SPDX-License-Identifier: Apache-2.0
"""Tests of the errors that a user can mend."""

from __future__ import annotations

import pytest

from monai_sam2unet.errors import CheckpointError, ConfigError, DataError, UserError, WeightsError, causes, listing


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (0, {}, ""),
        (1, {}, "  0"),
        (3, {"limit": 3}, "  0\n  1\n  2"),
        (4, {"limit": 3}, "  0\n  1\n  2\n  ... and 1 more"),
        (9, {"limit": 1}, "  0\n  ... and 8 more"),
        (2, {"limit": 0}, "  ... and 2 more"),
    ],
)
def test_listing(count, options, expected):
    assert listing([str(n) for n in range(count)], **options) == expected


def test_listing_shows_ten_lines():
    assert listing([str(n) for n in range(10)]) == "\n".join(f"  {n}" for n in range(10))
    assert listing([str(n) for n in range(25)]).splitlines()[9:] == ["  9", "  ... and 15 more"]


def test_causes_of_an_error_begin_with_the_last():
    first, second, third = KeyError("a"), ConfigError("b"), RuntimeError("c")
    second.__context__ = first
    third.__cause__ = second
    first.__context__ = third  # a loop, as errors that are raised again can make
    assert causes(third) == [third, second, first]
    assert causes(None) == []


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(ConfigError, ValueError), (DataError, ValueError), (WeightsError, ValueError), (CheckpointError, OSError)],
)
def test_errors_can_be_caught_as_what_python_raises(kind, builtin):
    error = kind("What is wrong.")
    assert isinstance(error, UserError)
    assert isinstance(error, builtin)
    assert str(error) == "What is wrong."
