# SPDX-License-Identifier: Apache-2.0
"""A queue between threads that is bounded by number and by memory, and that can be closed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["BoundedQueue"]

Item = TypeVar("Item")


class BoundedQueue(Generic[Item]):
    """First in, first out, for any number of threads on both sides.

    Args:
        max_items: how many wait at most.
        max_bytes: how much memory those that wait take at most; an item that is larger waits alone. None is no bound.

    Example:
        >>> queue = BoundedQueue[str](max_items=3)
        >>> [queue.put(word) for word in ("a", "b")], queue.take(5)
        ([True, True], ['a', 'b'])
        >>> queue.close(), queue.put("c"), queue.take(1)
        ([], False, [])
    """

    def __init__(self, max_items: int, max_bytes: int | None = None) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self._waiting: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def _has_room(self, size: int) -> bool:
        if self._closed or not self._waiting:
            return True
        fits = self.max_bytes is None or self._bytes + size <= self.max_bytes
        return fits and len(self._waiting) < self.max_items

    @property
    def ended(self) -> bool:
        """Whether it is closed and empty."""
        return self._closed and not self._waiting

    def put(self, item: Item, size: int = 0) -> bool:
        """Add an item, once there is room for it.

        Args:
            item: the item.
            size: memory that it takes, in bytes.

        Returns:
            Whether it was added; False where the queue is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size))
            if self._closed:
                return False
            self._waiting.append((item, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def take(
        self, max_items: int, takers: int = 1, fit: Callable[[Sequence[Item]], bool] = lambda items: True
    ) -> list[Item]:
        """Take what waits, once something does.

        Args:
            max_items: how many at most.
            takers: how many threads share what waits; each takes no more than its share, but one at least.
            fit: whether several go together; it is asked with each further one.

        Returns:
            The items; none where the queue is closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            share = min(max_items, -(-len(self._waiting) // takers))
            taken: list[Item] = []
            while len(taken) < share and (not taken or fit([*taken, self._waiting[0][0]])):
                item, size = self._waiting.popleft()
                taken.append(item)
                self._bytes -= size
            self._changed.notify_all()
            return taken

    def close(self, drop: bool = False) -> list[Item]:
        """Take nothing more in; who waits on either side goes on.

        Args:
            drop: whether what waits is taken out as well.

        Returns:
            What was taken out.
        """
        with self._changed:
            self._closed = True
            dropped = [item for item, _ in self._waiting] if drop else []
            if drop:
                self._waiting.clear()
                self._bytes = 0
            self._changed.notify_all()
            return dropped
