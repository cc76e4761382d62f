"""Reading files into shards, in worker processes or in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

from notelstm.data.corpus.report import FileReport
from notelstm.data.corpus.shards import (
    FileToRead,
    Job,
    chunks_of,
    new_shard,
    read_shard,
    write_shard,
)
from notelstm.data.corpus.worker import COMMAND
from notelstm.errors import DataError, OutputError

__all__ = ["read_files", "usable_cores"]

SECONDS_A_FILE: Final = 60.0
"""How long a worker may take over a file before it is ended and the file refused."""

FILES_A_WORKER: Final = 32
"""A worker takes a quarter of a second to start, longer than reading a few files here."""


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_files(
    files: Sequence[FileToRead], job: Job, folder: Path, workers: int | None
) -> Iterator[int]:
    """Read files into shards.

    Args:
        files: The files.
        job: How they are read.
        folder: Where the shards go.
        workers: Processes; 0 to read in this one; None for as many as are worth it.

    Yields:
        How many files have been read, after each shard.

    Raises:
        OutputError: If a shard cannot be written.
    """
    chunks = list(chunks_of(files))
    if workers is None:
        workers = min(usable_cores(), len(files) // FILES_A_WORKER)
    workers = min(workers, len(chunks))
    if not workers or not sys.executable:
        for chunk in chunks:
            write_shard(new_shard(folder), read_shard(chunk, job))
            yield len(chunk)
        return
    crew = _Crew(job, folder)
    threads = ThreadPoolExecutor(workers, thread_name_prefix="notelstm-reading")
    try:
        waiting: list[Future[int]] = [threads.submit(crew.read, chunk) for chunk in chunks]
        for done in as_completed(waiting):
            yield done.result()
    finally:
        crew.dismiss()
        threads.shutdown(cancel_futures=True)


class _Crew:
    """Worker processes, one for each thread that asks."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._job, self._folder = job, folder
        self._own = threading.local()
        self._lock = threading.Lock()
        self._all: list[subprocess.Popen[str]] = []
        self._dismissed = False

    def read(self, files: list[FileToRead]) -> int:
        """Have files read; one whose reading ends the worker is refused. How many they are."""
        ended = self._try(files)
        if ended and len(files) > 1:
            for file in files:
                self.read([file])
        elif ended:
            self._refuse(files[0], ended)
        return len(files)

    def _try(self, files: list[FileToRead]) -> str:
        """Have files read by this thread's worker; why it ended, "" if it did not."""
        worker = self._worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        asked = {"shard": str(new_shard(self._folder)), "files": files}
        late = threading.Timer(SECONDS_A_FILE * len(files), worker.kill)
        late.start()
        try:
            worker.stdin.write(json.dumps(asked) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        except OSError:
            answer = ""
        finally:
            late.cancel()
        if not answer:
            self._own.worker = None
            return f"process ended with code {_ended(worker)}"
        problem = json.loads(answer)
        if problem:
            raise OutputError("the cache can be written", got=problem, where=str(self._folder))
        return ""

    def _worker(self) -> subprocess.Popen[str]:
        worker: subprocess.Popen[str] | None = getattr(self._own, "worker", None)
        if worker is None:
            worker = self._own.worker = self._start()
        return worker

    def _start(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._dismissed:
                raise OutputError("the build goes on", got="an interruption")
            worker = subprocess.Popen(
                [sys.executable, "-c", COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="ascii",
            )
            self._all.append(worker)
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            told = (json.dumps([*map(str, sys.path)]), json.dumps(self._job.to_json()))
            worker.stdin.write("\n".join(told) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        except OSError:
            answer = ""
        if not answer and not self._dismissed:
            raise DataError(
                "a worker process starts",
                got=f"one that ended with code {_ended(worker)}",
                hint="read the files in this process: workers=0",
            )
        return worker

    def _refuse(self, file: FileToRead, ended: str) -> None:
        """A shard that says of a file that it cannot be read."""
        rule = "reading a file does not end the process that reads it"
        report = FileReport(name=file.name, error=f"{rule}; got {ended} ({file.path})", rule=rule)
        entry: dict[str, Any] = {**file._asdict(), "notes": None, "file_hash": bytes(32)}
        entry["report"] = json.dumps(report.to_json())
        write_shard(new_shard(self._folder), [entry])

    def dismiss(self) -> None:
        """End all workers; shards that are finished stay."""
        with self._lock:
            self._dismissed = True
            for worker in self._all:
                worker.kill()
                _ended(worker)


def _ended(worker: subprocess.Popen[str]) -> int:
    """Close a worker's pipes and wait for its end; its exit code."""
    code = worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not yet sent cannot be flushed any more
                continue
    return code
