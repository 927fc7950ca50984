from __future__ import annotations

import logging
from typing import Any

import pytest

from monai_sam2unet.batch.predictor import Predictor, is_out_of_gpu_memory
from monai_sam2unet.batch.processor import Fallback

SMALL, SMALLEST, CPU = Fallback("batches of 2 slices"), Fallback("batches of 1 slice"), Fallback("the CPU", keep=False)


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


class Doubling:
    """Doubles numbers; those above what a way can hold are too much."""

    def __init__(self, holds: int = 10) -> None:
        self.holds = holds
        self.calls: list[list[int]] = []

    def predict(self, cases: list[int]) -> list[int]:
        self.calls.append(cases)
        if sum(cases) > self.holds:
            raise OutOfMemoryError("CUDA out of memory.")
        if 0 in cases:
            raise ZeroDivisionError
        return [2 * case for case in cases]


class WithLess(Doubling):
    limits = {SMALL: 20, SMALLEST: 30, CPU: 100}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.ways: list[str] = []

    def fallbacks(self) -> list[Fallback]:
        return list(self.limits)

    def predict_with(self, cases: list[int], fallback: Fallback) -> list[int]:
        self.ways.append(fallback.name)
        if sum(cases) > self.limits[fallback]:
            raise OutOfMemoryError("CUDA out of memory.")
        return [2 * case for case in cases]


def values(outcomes: list[Any]) -> list[Any]:
    return [outcome.result if outcome.error is None else type(outcome.error).__name__ for outcome in outcomes]


def test_together() -> None:
    processor = Doubling()
    assert values(Predictor(processor)([1, 2, 3])) == [2, 4, 6]
    assert processor.calls == [[1, 2, 3]]


def test_a_bad_case_fails_alone() -> None:
    processor = Doubling()
    assert values(Predictor(processor)([1, 0, 3])) == [2, "ZeroDivisionError", 6]
    assert processor.calls == [[1, 0, 3], [1], [0], [3]]


def test_too_much_together_is_not_too_much_alone() -> None:
    processor = WithLess()
    outcomes = Predictor(processor)([6, 7])
    assert values(outcomes) == [12, 14]
    assert not processor.ways
    assert not outcomes[0].notes


def test_too_large_without_other_ways() -> None:
    (outcome,) = Predictor(Doubling())([11])
    assert is_out_of_gpu_memory(outcome.error)


def test_smaller_batches_are_kept_and_the_cpu_is_not(caplog: pytest.LogCaptureFixture) -> None:
    processor = WithLess()
    predictor = Predictor(processor)
    with caplog.at_level(logging.WARNING):
        (first,) = predictor([15])
    assert (first.result, processor.ways) == (30, [SMALL.name])
    assert "batches of 2 slices" in first.notes[0]
    assert "trying batches of 2 slices" in caplog.text
    processor.ways.clear()
    assert values(predictor([5, 5])) == [10, 10]  # kept
    (large,) = predictor([90])
    assert (large.result, "the CPU" in large.notes[0]) == (180, True)
    assert processor.ways == [SMALL.name, SMALL.name, SMALLEST.name, CPU.name]
    processor.ways.clear()
    assert values(predictor([5])) == [10]  # not kept
    assert processor.ways == [SMALL.name]
    assert values(predictor([101])) == ["OutOfMemoryError"]
    assert values(predictor([5])) == [10]


def test_nothing_is_held_while_the_next_way_is_tried() -> None:
    class Watching(WithLess):
        def predict(self, cases: list[int]) -> list[int]:
            self.error = OutOfMemoryError("CUDA out of memory.")
            raise RuntimeError("in the network") from self.error

        def predict_with(self, cases: list[int], fallback: Fallback) -> list[int]:
            assert self.error.__traceback__ is None
            return super().predict_with(cases, fallback)

    assert values(Predictor(Watching())([15])) == [30]


def test_wrong_number_of_results() -> None:
    class Losing(Doubling):
        def predict(self, cases: list[int]) -> list[int]:
            return []

    assert values(Predictor(Losing())([1, 2])) == ["RuntimeError", "RuntimeError"]


def test_torch_names_it_so() -> None:
    torch = pytest.importorskip("torch")
    assert is_out_of_gpu_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_gpu_memory(MemoryError())
