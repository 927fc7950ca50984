# SPDX-License-Identifier: Apache-2.0
"""Lets Ctrl-C end a run in two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_signals"]


@contextmanager
def stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """While it lasts, the first Ctrl-C (or SIGTERM, from a job scheduler) asks to stop, and the second one stops now.

    Signals that the process was started to ignore stay ignored. Elsewhere than in the main thread, nothing changes.

    Args:
        stop: what to do the first time. It is called inside whatever the main thread is at, so it must take no lock.

    Raises (at the second signal):
        KeyboardInterrupt: in the main thread.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop()

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
