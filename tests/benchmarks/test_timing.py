# SPDX-License-Identifier: Apache-2.0
"""Tests of timing in turns."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from benchmarks import timing
from benchmarks.timing import in_turns, lowest_to_highest, quartiles

CPU = torch.device("cpu")


def test_each_round_has_all_calls_and_no_call_always_follows_the_same():
    order: list[str] = []
    times = in_turns({name: partial(order.append, name) for name in "abc"}, 6, CPU, warm_ups=2)
    assert {name: len(values) for name, values in times.items()} == {"a": 6, "b": 6, "c": 6}
    assert order[:6] == list("aabbcc")
    rounds = ["".join(order[i : i + 3]) for i in range(6, 24, 3)]
    assert {"".join(sorted(r)) for r in rounds} == {"abc"}
    assert rounds == ["abc", "cba", "bca", "acb", "cab", "bac"]


def test_of_two_calls_each_is_the_first_as_often():
    order: list[str] = []
    in_turns({name: partial(order.append, name) for name in "ab"}, 4, CPU, warm_ups=0)
    assert "".join(order) == "abbabaab"


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """What the calls are said to take, one after the other; the last goes on for ever."""
    taken: list[float] = []

    def seconds(call, device) -> float:
        call()
        return taken.pop(0) if len(taken) > 1 else taken[0]

    monkeypatch.setattr(timing, "seconds", seconds)
    return taken


def test_a_short_call_is_repeated_until_its_turn_is_long_enough(clock: list[float]) -> None:
    calls: list[str] = []
    clock += [0.01, *(0.01, 0.02, 0.03, 0.04), *(0.06,) * 4]
    times = in_turns({"short": partial(calls.append, "")}, 2, CPU, turn_s=0.04)
    assert len(calls) == 1 + 2 * 4
    assert times["short"] == pytest.approx([0.025, 0.06])


def test_a_long_call_is_warmed_up_once(clock: list[float]) -> None:
    calls: list[str] = []
    clock += [2.0]
    assert in_turns({"long": partial(calls.append, "")}, 2, CPU, warm_ups=3) == {"long": [2.0, 2.0]}
    assert len(calls) == 1 + 2


def test_nothing_to_time():
    assert in_turns({}, 3, CPU) == {}


def test_spreads():
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert quartiles(values) == {"median": 3.0, "lower_quartile": 2.0, "upper_quartile": 4.0}
    assert lowest_to_highest(values) == {"median": 3.0, "lowest": 1.0, "highest": 5.0}
    assert quartiles([7.0]) == pytest.approx({"median": 7.0, "lower_quartile": 7.0, "upper_quartile": 7.0})
