# SPDX-License-Identifier: Apache-2.0
"""Times several calls in turns within one run, so that a machine's ups and downs meet them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

WARM_AFTER_S = 1.0


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """Time of one call, until the device has done its work."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def in_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    device: torch.device,
    *,
    warm_ups: int = 1,
    turn_s: float = 0.0,
    pause_s: float = 0.0,
) -> dict[str, list[float]]:
    """Time the calls in turns.

    Every second round is the one before backwards, and each such pair starts with another call, so that none always
    follows the same.

    Args:
        calls: name -> what is timed.
        rounds: turns of each.
        device: what the calls compute on; waited for after each call.
        warm_ups: calls of each before the first round, not counted; on a CPU a call of over a second is not repeated.
        turn_s: length of a turn in seconds; a shorter call is repeated that often, at most 100 times, and the mean
            taken.
        pause_s: seconds to wait before each turn, for threads of the last one that still spin.

    Returns:
        Name -> seconds of a call in each round.
    """
    repeats = {name: 1 for name in calls}
    for name, call in calls.items():
        for _ in range(warm_ups):
            last = seconds(call, device)
            repeats[name] = min(max(round(turn_s / last), 1), 100)
            if device.type == "cpu" and last > WARM_AFTER_S:
                break
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        start = turn // 2 % max(len(names), 1)
        order = names[start:] + names[:start]
        for name in order[::-1] if turn % 2 else order:
            time.sleep(pause_s)
            times[name].append(statistics.fmean(seconds(calls[name], device) for _ in range(repeats[name])))
    return times


def lowest_to_highest(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def quartiles(values: list[float]) -> dict[str, float]:
    """Median and quartiles; a single value is all three."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": statistics.median(values), "lower_quartile": low, "upper_quartile": high}
