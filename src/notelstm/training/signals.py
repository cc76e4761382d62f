"""Ctrl-C and requests to end that wait for the end of a step."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["defer_interrupts"]


def _is_heard(number: int) -> bool:
    """Whether a run may hear a signal: what is ignored or handled already stays as it is."""
    before = signal.getsignal(number)
    if number == signal.SIGTERM:
        return before == signal.SIG_DFL
    return before not in (None, signal.SIG_IGN)


@contextlib.contextmanager
def defer_interrupts(interrupted: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C, or request to end, only be noted; a second one ends it at once.

    A request to end (SIGTERM) comes from a machine that shuts down, from a cluster that wants its
    place back, and from the launcher of several processes that has lost one of them.

    Args:
        interrupted: Called at the first one.

    Yields:
        Nothing.
    """
    in_main = threading.current_thread() is threading.main_thread()
    heard = filter(_is_heard, (signal.SIGINT, signal.SIGTERM) if in_main else ())
    before = {number: signal.getsignal(number) for number in heard}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def later(_number: int, _frame: FrameType | None) -> None:
        interrupted()
        restore()

    for number in before:
        signal.signal(number, later)
    try:
        yield
    finally:
        restore()
