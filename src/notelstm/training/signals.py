"""Ctrl-C and requests to end that wait for the end of a step."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Final

__all__ = ["defer_interrupts"]

# Windows has no SIGHUP.
_ENDS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Requests to end."""


def _is_heard(number: int) -> bool:
    """Whether a run may hear a signal: what is ignored or handled already stays as it is."""
    before = signal.getsignal(number)
    if number in _ENDS:
        return before == signal.SIG_DFL
    return before not in (None, signal.SIG_IGN)


def _silence(streams: Iterable[int]) -> None:
    """Send the output of descriptors nowhere: writing to a terminal that is closed is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)


@contextlib.contextmanager
def defer_interrupts(interrupted: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C, or request to end, only be noted; a second one ends it at once.

    Requests to end are SIGTERM and SIGHUP. SIGTERM is sent when the machine shuts down, when a
    cluster preempts the job, and by the launcher of several processes that has lost one of them;
    SIGHUP is sent when the terminal is closed. Under ``nohup`` SIGHUP stays ignored.

    Args:
        interrupted: Called at the first one.

    Yields:
        Nothing.
    """
    in_main = threading.current_thread() is threading.main_thread()
    heard = filter(_is_heard, (signal.SIGINT, *_ENDS) if in_main else ())
    before = {number: signal.getsignal(number) for number in heard}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    terminals = [stream for stream in (1, 2) if os.isatty(stream)]

    def later(number: int, _frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _silence(terminals)
        interrupted()
        restore()

    for number in before:
        signal.signal(number, later)
    try:
        yield
    finally:
        restore()
