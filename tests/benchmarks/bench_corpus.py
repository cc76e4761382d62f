"""Corpora: time to build and to open a cache, memory, batches of memory-mapped rows.

Every figure is measured in a process of its own, so that none depends on the memory of another; the
files are in the page cache for all. The small files, 100,000 by default, are generated.
``make bench`` runs it if NOTELSTM_MAESTRO names the MAESTRO v2.0.0 folder; for another number of
files, run
``NOTELSTM_MAESTRO=... python tests/benchmarks/bench_corpus.py [small files]``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (1, 10, 100, 1000)
WORKERS = 2
STEPS = 1500
SMALL = 100_000
FOLDERS = 100
AIMS = {"MAESTRO: build, s": 15.0, "MAESTRO: open, ms": 50.0}


def own_memory() -> float:
    """MiB that this process holds for itself; mapped files belong to the system."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


def files_of(folder: str, count: int) -> Any:
    from notelstm.data.folder import midi_files

    return midi_files(Path(folder))[:count] if count else folder


def build(folder: str, cache: str, count: int) -> dict[str, float]:
    """Read everything into a new cache."""
    from notelstm.data.corpus import Corpus

    source = files_of(folder, count)
    began = time.perf_counter()
    corpus = Corpus.open(source, cache=cache, workers=WORKERS, progress=False)
    took = time.perf_counter() - began
    used = os.times()
    peaks = [
        resource.getrusage(who).ru_maxrss / 1024
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return {
        "files": len(corpus.report),
        "notes": int(corpus.lengths.sum()),
        "s": took,
        "CPU s": sum(used[:4]),
        "peak MiB": peaks[0],
        "peak MiB of a worker": peaks[1],
        "cache MB": corpus.path.stat().st_size / 1e6,
    }


def reopen(folder: str, cache: str, count: int) -> dict[str, float]:
    """Open a built cache: stat every file, map the cache, read one piece."""
    from notelstm.data.corpus import Corpus

    source, times = files_of(folder, count), []
    for _ in range(7):
        began = time.perf_counter()
        corpus = Corpus.open(source, cache=cache, progress=False)
        times.append(1e3 * (time.perf_counter() - began))
        corpus[len(corpus) // 2]
    return {"first ms": times[0], "ms": float(np.median(times)), "own MiB": own_memory()}


def batches(folder: str, cache: str, count: int) -> dict[str, float]:
    """Batches of mapped rows: memory, and batches a second plain, augmented, and from memory."""
    from notelstm.data import SequenceDataset, StatefulBatches, WindowBatches
    from notelstm.data.corpus import Corpus
    from notelstm.data.dataset import PackedRows
    from notelstm.data.encoding import encode_corpus
    from notelstm.data.transforms import Augmented, TimeStretch, Transpose, VelocityShift
    from notelstm.encoders import LogTimeEncoder

    corpus = Corpus.open(files_of(folder, count), cache=cache, progress=False)
    encoder = LogTimeEncoder()
    began = time.perf_counter()
    rows = encode_corpus(corpus, encoder, cache=cache, progress=False).rows
    took = time.perf_counter() - began

    def rate(made: Any) -> float:
        steps, began = 0, time.perf_counter()
        for epoch in range(10**6):
            for _ in made.epoch(epoch):
                steps += 1
                if steps == STEPS:
                    return steps / (time.perf_counter() - began)
        raise AssertionError

    before = own_memory()
    windows = WindowBatches(dataset=SequenceDataset(rows, sequence_length=25), batch_size=64)
    stretch = min(256, int(rows.lengths.max()) - 1)
    batch_size = StatefulBatches(
        dataset=SequenceDataset(rows, sequence_length=stretch, targets="every"), batch_size=64
    )
    fast = rate(windows)
    rate(batch_size)
    grown = own_memory() - before
    every = (Transpose(), TimeStretch(), VelocityShift())
    changed = rate(Augmented(batches=windows, fields=encoder.fields, transforms=every))
    held = SequenceDataset(PackedRows.join(rows), sequence_length=25)
    return {
        "encode s": took,
        "training MiB": grown,
        "batches/s": fast,
        "augmented": changed,
        "from memory": rate(WindowBatches(dataset=held, batch_size=64)),
    }


def make_small(folder: Path, count: int) -> None:
    """Write many small files of different tunes."""
    from notelstm.midi import midi_bytes
    from notelstm.notes import Notes

    rng = np.random.default_rng(0)
    some = []
    for _ in range(500):
        start = np.cumsum(rng.uniform(0.05, 0.4, 60))
        notes = Notes(start=start, end=start + 0.1, pitch=rng.integers(30, 100, 60))
        some.append(midi_bytes(notes))
    for k in range(FOLDERS):
        (folder / f"{k:03}").mkdir(parents=True)
    for k in range(count):
        (folder / f"{k % FOLDERS:03}" / f"{k:06}.mid").write_bytes(some[k % len(some)])


TASKS: dict[str, Callable[[str, str, int], dict[str, float]]] = {
    "build": build,
    "open": reopen,
    "batches": batches,
}


def measured(task: str, folder: Path, cache: Path, count: int = 0) -> dict[str, float]:
    """One task in a process of its own."""
    command = [sys.executable, __file__, "--task", task, str(folder), str(cache), str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    shown = ", ".join(
        f"{key} {value:,.4g}" if value < 1e4 else f"{key} {value:,.0f}"
        for key, value in found.items()
    )
    print(f"  {task:8} {shown}", file=sys.stderr, flush=True)
    return found


def figures(small: int = SMALL) -> dict[str, float]:
    """Everything that is measured, by corpus, task and figure."""
    maestro = os.environ.get("NOTELSTM_MAESTRO")
    if not maestro:
        sys.exit("set NOTELSTM_MAESTRO to the MAESTRO v2.0.0 folder")
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        corpora = {"MAESTRO": (Path(maestro), base / "all", 0)}
        corpora |= {
            f"{count:,} of its pieces": (Path(maestro), base / f"some-{count}", count)
            for count in SIZES
        }
        corpora[f"{small:,} small files"] = (base / "small", base / "many", 0)
        for name, (folder, cache, count) in corpora.items():
            print(name, file=sys.stderr)
            if not folder.exists():
                make_small(folder, small)
            for task in TASKS:
                for figure, value in measured(task, folder, cache, count).items():
                    found[f"{name}: {task}, {figure}"] = value
    return found


def check(small: int = SMALL) -> None:
    """Measure everything, and compare with the aims."""
    found = figures(small)
    for name, aim in AIMS.items():
        print(f"{name}: {found[name]:.1f} (aim: under {aim:g})")
    assert all(found[name] < aim for name, aim in AIMS.items())


def test_a_large_corpus_opens_in_time() -> None:
    import pytest  # here, since the tasks measure their own memory

    if "NOTELSTM_MAESTRO" not in os.environ:
        pytest.skip("NOTELSTM_MAESTRO is not set")
    check()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        _, _, task, folder, cache, count = sys.argv
        print(json.dumps(TASKS[task](folder, cache, int(count))))
    else:
        check(*map(int, sys.argv[1:2]))
