"""Reading many files, in a pool of processes or in this one.

The workers are plain child processes, each fed through a pipe by a thread. Unlike those of
:mod:`multiprocessing`, they do not import the caller's ``__main__``, so a script or a notebook
needs no ``if __name__ == "__main__"``; they inherit no locks and threads; and after a crash or a
hang only the current file is lost, not the pool.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, NamedTuple, final

from notelstm.data.corpus.report import FileReport
from notelstm.data.folder import reason_of
from notelstm.data.piece_file import Entry, entry_of
from notelstm.errors import DataError, MidiError
from notelstm.files import out_of_resources
from notelstm.midi import ReadPolicy, read_midi_with_report
from notelstm.midi.reading import MAX_BYTES

__all__ = ["FileToRead", "Job", "WorkerPool", "read_file", "read_files", "rejected_entry", "serve"]

SECONDS_A_FILE: Final = 60.0
"""The time after which a worker is killed and its file rejected."""

FILES_A_WORKER: Final = 32
"""Files per worker, at least: starting one takes a quarter of a second."""

CHUNK_BYTES: Final = 1 << 20
CHUNK_FILES: Final = 128
"""Limits of one chunk of files for a worker."""

COMMAND: Final = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from notelstm.data.corpus.reading import serve; serve()"
)
"""The program of a worker. The pipe starts with the caller's module path."""


def read_files(files: Sequence[FileToRead], job: Job, workers: int | None) -> Iterator[Entry]:
    """Read files, in order, in a number of worker processes; 0 to read in this one.

    Raises:
        DataError: If the processes cannot be started, or run out of descriptors or memory.
    """
    if workers is None:
        workers = min(_usable_cores(), len(files) // FILES_A_WORKER)
    if not workers or not sys.executable:
        yield from (read_file(file, job) for file in files)
        return
    chunks = list(_chunks_of(files))
    with contextlib.closing(WorkerPool(min(workers, len(chunks)), job)) as pool:
        yield from pool.read(chunks)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _chunks_of(files: Sequence[FileToRead]) -> Iterator[list[FileToRead]]:
    chunk: list[FileToRead] = []
    size = 0
    for file in files:
        if chunk and (size + file.size > CHUNK_BYTES or len(chunk) >= CHUNK_FILES):
            yield chunk
            chunk, size = [], 0
        chunk.append(file)
        size += file.size
    if chunk:
        yield chunk


@final
class WorkerPool:
    """Processes that read files."""

    def __init__(self, workers: int, job: Job) -> None:
        self._job, self._count = job, workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="notelstm-reading")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._all: list[subprocess.Popen[bytes]] = []
        self._since: dict[subprocess.Popen[bytes], float] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._end_hanging, daemon=True).start()

    def read(self, chunks: Sequence[list[FileToRead]]) -> Iterator[Entry]:
        """The entries of all files, in order; a few chunks are read ahead."""
        waiting: deque[Future[list[Entry]]] = deque()
        for chunk in chunks:
            waiting.append(self._threads.submit(self._read, chunk))
            if len(waiting) > 4 * self._count:
                yield from waiting.popleft().result()
        yield from chain.from_iterable(done.result() for done in waiting)

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._closed.set()
            for worker in self._all:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._all:
            _end(worker)

    def _read(self, files: list[FileToRead]) -> list[Entry]:
        """The entries of a chunk; if its process ends, another one reads the rest."""
        entries: list[Entry] = []
        while len(entries) < len(files):
            if ended := self._ask(files[len(entries) :], entries):
                entries.append(rejected_entry(files[len(entries)], ended))
        return entries

    def _ask(self, files: list[FileToRead], entries: list[Entry]) -> str:
        """Append the entries of files; why the process ended meanwhile, "" if it did not."""
        if not hasattr(self._own, "worker"):
            self._own.worker = self._start()
        worker: subprocess.Popen[bytes] = self._own.worker
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            self._since[worker] = time.monotonic()
            pickle.dump(files, worker.stdin)
            worker.stdin.flush()
            for _ in files:
                answer = pickle.load(worker.stdout)
                self._since[worker] = time.monotonic()
                if isinstance(answer, DataError):
                    break
                entries.append(answer)
            else:
                return ""
        except (OSError, EOFError, pickle.UnpicklingError):
            answer = None
        finally:
            took = time.monotonic() - self._since.pop(worker)
        if answer is not None:
            raise answer
        del self._own.worker  # this thread starts another one
        code = _end(worker)
        if self._closed.is_set():
            raise DataError("the reading was interrupted")
        if took > SECONDS_A_FILE:
            return f"reading it takes more than {SECONDS_A_FILE:g} s"
        return f"reading it ended the process with code {code}"

    def _start(self) -> subprocess.Popen[bytes]:
        hint = "read the files in this process: workers=0"
        with self._lock:
            if self._closed.is_set():
                raise DataError("the reading was interrupted")
            try:
                worker = subprocess.Popen(
                    [sys.executable, "-c", COMMAND],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            except OSError as error:
                raise DataError(
                    f"cannot start a worker process: {error.strerror or error}", hint=hint
                ) from error
            self._all.append(worker)
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            pickle.dump([*map(str, sys.path)], worker.stdin)
            pickle.dump(self._job, worker.stdin)
            worker.stdin.flush()
            pickle.load(worker.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            code = _end(worker)
            raise DataError(
                f"a worker process ended with code {code} while it was started", hint=hint
            ) from error
        return worker

    def _end_hanging(self) -> None:
        """Kill the processes that take too long over a file, until the pool is closed."""
        while not self._closed.wait(min(1.0, SECONDS_A_FILE / 4)):
            for worker, since in list(self._since.items()):
                if time.monotonic() - since > SECONDS_A_FILE:
                    worker.kill()


def _end(worker: subprocess.Popen[bytes]) -> int:
    """Close a process's pipes and wait for its end; its exit code."""
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # data that was not yet sent cannot be flushed
                pipe.close()
    return worker.wait()


def serve() -> None:
    """Read files until the input ends: the main function of a worker.

    The input holds the :class:`Job`, then lists of files; the output one entry for each, or the
    error that ends the reading. All are pickled.
    """
    # Ctrl-C reaches every process of a terminal; only the caller handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a reader prints must not be taken for an answer

    def send(answer: Any) -> None:
        pickle.dump(answer, answers)
        answers.flush()

    job: Job = pickle.load(sys.stdin.buffer)
    send("ready")
    # The input ends when the caller is done or killed.
    with contextlib.suppress(EOFError):
        while True:
            for file in pickle.load(sys.stdin.buffer):
                try:
                    send(read_file(file, job))
                except DataError as error:
                    send(error)
                    return


_log = logging.getLogger(__name__)


class FileToRead(NamedTuple):
    """A file to read: its name in the corpus, its path, and its bytes when it was listed."""

    name: str
    path: str
    size: int


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """How files are read."""

    policy: ReadPolicy
    reader: str = "auto"


def read_file(file: FileToRead, job: Job) -> Entry:
    """Read a file; the entry of one that cannot be read has the reason.

    Raises:
        DataError: If the process runs out of descriptors or memory.
    """
    try:
        with open(file.path, "rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        named = io.BytesIO(data)
        named.name = file.path
        notes, report = read_midi_with_report(named, job.policy, reader=job.reader)
    except MidiError as error:
        return rejected_entry(file, reason_of(error), str(error))
    except OSError as error:
        if out_of_resources(error):
            raise DataError(
                f"cannot read the corpus: {error.strerror}",
                where=file.path,
                hint="close other files, or raise the limit with ulimit -n",
            ) from error
        return rejected_entry(file, f"cannot read the file: {error.strerror or error}")
    except Exception as error:  # one failure of a plugin must not stop the rest
        _log.exception("%s: the reader failed", file.path)
        problem = f"the reader failed with {type(error).__name__}"
        return rejected_entry(file, problem, f"{problem}: {error} ({file.path})")
    made = FileReport.of_read(file.name, report)
    return entry_of(file.name, notes, json.dumps(made.to_json()))


def rejected_entry(file: FileToRead, problem: str, error: str = "") -> Entry:
    """An entry of a file that cannot be read.

    `problem` is without details of the file; `error` is the whole message, ``""`` for the problem
    and the path.
    """
    error = error or f"{problem} ({file.path})"
    report = FileReport(name=file.name, error=error, problem=problem)
    return Entry(name=file.name, report=json.dumps(report.to_json()))
