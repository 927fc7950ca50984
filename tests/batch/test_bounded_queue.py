from __future__ import annotations

import threading

import pytest

from monai_sam2unet.batch.bounded_queue import BoundedQueue


def put_in_thread(queue: BoundedQueue[str], item: str, size: int = 0) -> tuple[threading.Thread, list[bool]]:
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(queue.put(item, size)), daemon=True)
    thread.start()
    return thread, answers


@pytest.mark.parametrize("queue", [BoundedQueue(2), BoundedQueue(9, max_bytes=100)], ids=["number", "bytes"])
def test_waits_for_room(queue: BoundedQueue[str]) -> None:
    queue.put("a", 50)
    queue.put("b", 50)
    thread, answers = put_in_thread(queue, "c", 50)
    thread.join(0.1)
    assert thread.is_alive()
    assert queue.take(1) == ["a"]
    thread.join(5)
    assert answers == [True]
    assert queue.take(9) == ["b", "c"]


def test_larger_than_the_bound_waits_alone() -> None:
    queue = BoundedQueue[str](9, max_bytes=100)
    assert queue.put("huge", 1000)
    thread, answers = put_in_thread(queue, "small", 1)
    thread.join(0.1)
    assert thread.is_alive()
    assert queue.take(9) == ["huge"]
    thread.join(5)
    assert answers == [True]


def test_takers_share() -> None:
    queue = BoundedQueue[int](9)
    for number in range(5):
        queue.put(number)
    assert [queue.take(4, takers=2) for _ in range(3)] == [[0, 1, 2], [3], [4]]


def test_only_what_fits_is_taken_together() -> None:
    queue = BoundedQueue[int](9)
    for number in (7, 1, 2, 3, 9):
        queue.put(number)
    assert [queue.take(9, fit=lambda items: sum(items) <= 5) for _ in range(4)] == [[7], [1, 2], [3], [9]]


def test_close_wakes_both_sides() -> None:
    full, empty = BoundedQueue[str](1), BoundedQueue[str](1)
    full.put("a")
    putter, answers = put_in_thread(full, "b")
    taken: list[list[str]] = []
    taker = threading.Thread(target=lambda: taken.append(empty.take(1)), daemon=True)
    taker.start()
    assert full.close(drop=True) == ["a"]
    empty.close()
    putter.join(5)
    taker.join(5)
    assert answers == [False]
    assert taken == [[]]
