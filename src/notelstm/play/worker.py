"""``Worker``: a thread that runs jobs of all sessions in turn."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, final

__all__ = ["ClosedError", "Worker"]

T = TypeVar("T")


@final
class ClosedError(Exception):
    """A job that was ended because the server stops."""


class _Job(NamedTuple):
    """A job, in the order in which jobs run: the number is different for each."""

    due: float
    number: int
    function: Callable[[], Any]
    future: asyncio.Future[Any]


@final
class Worker:
    """A thread that runs jobs one by one, the earliest due first.

    One thread is enough: the interpreter runs one thread at a time, and a second one would delay
    the event loop. A job of some milliseconds lets those that are due earlier run soon.

    The thread starts with the first job. It is a daemon: a job that is running when the process
    ends does not delay that.

    Args:
        name: The name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._changed: Final = threading.Condition()
        self._numbers: Final = itertools.count()
        self._jobs: list[_Job] = []
        self._waiting: Final[dict[int, asyncio.Future[Any]]] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def is_wanted(self, due: float = math.inf) -> bool:
        """Whether a job should end soon: one is due before `due`, or the worker is closed."""
        with self._changed:
            return self._closed or bool(self._jobs and self._jobs[0].due < due)

    async def run(self, function: Callable[[], T], due: float = 0.0) -> T:
        """Run a function in the thread, unless the caller is cancelled before it starts.

        Args:
            function: The function.
            due: The time on the monotonic clock at which the result is needed, seconds.

        Raises:
            ClosedError: If the worker is closed before the end.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._changed:
            if self._closed:
                raise ClosedError
            number = next(self._numbers)
            heapq.heappush(self._jobs, _Job(due, number, function, future))
            self._waiting[number] = future
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            return await future
        finally:
            del self._waiting[number]

    def close(self) -> None:
        """End all jobs; the result of the one that is running is dropped.

        Called in the thread of the event loop, or when there is none any more.
        """
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify()
        for future in self._waiting.values():
            if not future.get_loop().is_closed():
                _set(future, None, ClosedError())

    def _work(self) -> None:
        while (job := self._next()) is not None:
            result = error = None
            try:
                result = job.function()
            except BaseException as raised:
                error = raised
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                job.future.get_loop().call_soon_threadsafe(_set, job.future, result, error)
            del job, result, error  # they would keep a session alive until the next job

    def _next(self) -> _Job | None:
        """The next job that somebody still waits for, None if the worker is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return None
                job = heapq.heappop(self._jobs)
                if not job.future.done():
                    return job


def _set(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    """Set the outcome of a future, unless it has one."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
