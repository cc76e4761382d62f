"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["ctrl_c_waits"]


@contextlib.contextmanager
def ctrl_c_waits(interrupted: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C only be noted; a second one interrupts at once.

    Args:
        interrupted: Called at the first one.

    Yields:
        Nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    # A run in the background, which the shell has told to ignore Ctrl-C, goes on ignoring it.
    ignored = before in (None, signal.SIG_IGN)
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return

    def later(_number: int, _frame: FrameType | None) -> None:
        interrupted()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
