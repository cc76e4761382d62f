"""``Worker``: a thread that runs jobs of all sessions in turn."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, TypeVar, final

__all__ = ["Worker"]

T = TypeVar("T")


class _Job(NamedTuple):
    """A job, in the order in which jobs run: the number is different for each."""

    due: float
    number: int
    function: Callable[[], Any]
    future: Future[Any]


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
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, function: Callable[[], T], due: float = 0.0) -> T:
        """Run a function in the thread, unless the caller is cancelled before it starts.

        Args:
            function: The function.
            due: The time on the clock of the event loop at which the result is needed, seconds.

        Raises:
            RuntimeError: If the worker is closed.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the worker is closed")
            heapq.heappush(self._jobs, _Job(due, next(self._numbers), function, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Cancel the jobs that have not started, and end the thread after the one that has."""
        with self._changed:
            self._closed = True
            jobs, self._jobs = self._jobs, []
            self._changed.notify()
        for job in jobs:
            job.future.cancel()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(job.function())
                except BaseException as error:
                    job.future.set_exception(error)
            del job  # it would keep its session alive until the next one comes

    def _next(self) -> _Job | None:
        """The next job, None if the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            return None if self._closed else heapq.heappop(self._jobs)
