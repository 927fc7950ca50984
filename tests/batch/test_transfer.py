# SPDX-License-Identifier: Apache-2.0
"""Tries that are made again."""

from __future__ import annotations

import time

import pytest

from monai_sam2unet.batch.transfer import Retries, TemporaryError, TransferError
from monai_sam2unet.errors import ConfigError


def tries(retries: Retries, error: Exception, monkeypatch) -> list[float]:
    """The waits between tries that all fail."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)

    def action() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        retries.call(action)
    assert caught.value is error
    return waits


def test_waits_double_up_to_the_longest(monkeypatch):
    waits = tries(Retries(attempts=6, first_wait=2.0, longest_wait=10.0), TemporaryError("busy"), monkeypatch)
    assert len(waits) == 5
    for wait, least in zip(waits, [2, 4, 8, 10, 10], strict=True):
        assert least <= wait <= 1.25 * least


def test_a_restart_of_a_server_is_outlived(monkeypatch):
    assert 120 <= sum(tries(Retries(), TemporaryError("busy"), monkeypatch)) <= 160


@pytest.mark.parametrize("error", [TransferError("no"), ValueError("no")])
def test_other_errors_are_raised_at_once(monkeypatch, error: Exception):
    assert tries(Retries(), error, monkeypatch) == []


@pytest.mark.parametrize("options", [{"attempts": 0}, {"first_wait": -1.0}, {"longest_wait": -1.0}])
def test_retries_that_are_refused(options: dict):
    with pytest.raises(ConfigError, match="Retries need 1 attempt or more"):
        Retries(**options)
