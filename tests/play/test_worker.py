"""The worker runs what is due first, and nothing that nobody waits for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from notelstm.play import Limits
from notelstm.play.sessions import Sessions
from notelstm.play.worker import ClosedError, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("test")
    yield made
    made.close()


class Gate:
    """A job that lasts until it is let go."""

    def __init__(self) -> None:
        self.started, self._go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.started.set()
        self._go.wait(600)
        return "done"

    def open(self) -> None:
        self._go.set()


async def begun(worker: Worker, gate: Gate) -> asyncio.Task[str]:
    """The gate, which the worker has begun."""
    task = asyncio.ensure_future(worker.run(gate))
    while not gate.started.is_set():
        await asyncio.sleep(0.001)
    return task


def noted(order: list[int], number: int) -> Callable[[], None]:
    return lambda: order.append(number)


def test_the_earliest_due_runs_first(worker: Worker) -> None:
    order: list[int] = []

    async def play() -> None:
        gate = Gate()
        first = await begun(worker, gate)
        assert not worker.is_wanted()
        jobs = [
            asyncio.ensure_future(worker.run(noted(order, number), due))
            for number, due in enumerate([3.0, 1.0, 2.0, 1.0])
        ]
        await asyncio.sleep(0)
        assert worker.is_wanted()
        assert worker.is_wanted(1.5)
        assert not worker.is_wanted(1.0)
        gate.open()
        assert await first == "done"
        await asyncio.gather(*jobs)

    asyncio.run(play())
    assert order == [1, 3, 2, 0]


def test_an_error_is_that_of_the_job(worker: Worker) -> None:
    async def play() -> int:
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        return await worker.run(lambda: 1)

    assert asyncio.run(play()) == 1


def test_what_nobody_waits_for_does_not_run(worker: Worker) -> None:
    order: list[int] = []

    async def play() -> None:
        gate = Gate()
        first = await begun(worker, gate)
        jobs = [asyncio.ensure_future(worker.run(noted(order, k))) for k in range(3)]
        await asyncio.sleep(0)
        jobs[1].cancel()
        gate.open()
        await asyncio.gather(first, *jobs, return_exceptions=True)

    asyncio.run(play())
    assert order == [0, 2]


def test_a_closed_worker_keeps_nobody_waiting(worker: Worker) -> None:
    order: list[int] = []
    gate = Gate()

    async def play() -> None:
        first = await begun(worker, gate)
        second = asyncio.ensure_future(worker.run(noted(order, 1)))
        await asyncio.sleep(0)
        worker.close()
        assert worker.is_wanted(0.0)  # a long job sees that it should end
        for job in (first, second):
            with pytest.raises(ClosedError):
                await job
        with pytest.raises(ClosedError):
            await worker.run(noted(order, 2))

    # The loop ends although the job still runs.
    asyncio.run(play())
    gate.open()
    assert order == []


def test_the_threads_of_an_app_end_with_it() -> None:
    def running() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "notelstm" and t not in before]

    before = threading.enumerate()
    sessions = Sessions({}, Limits(), None, [])
    asyncio.run(sessions.worker.run(lambda: None))
    (thread,) = running()
    del sessions
    gc.collect()
    thread.join(600)
    assert not running()
