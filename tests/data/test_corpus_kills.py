"""kill -9 at any moment of a build: the next process finds the corpus complete."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from notelstm.midi import write_midi
from notelstm.notes import Notes

KILLS = 40
FILES = 48

# One process that has everything imported forks builders, so that a trial takes milliseconds and
# the moment of the kill falls into the build, not into the start of an interpreter.
TRIALS = """
import os, pickle, random, shutil, signal, sys, time
from pathlib import Path
from notelstm.data.corpus import Corpus
from notelstm.midi import read_midi, write_midi

root, cache, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
files = sorted(root.iterdir())
tunes = [read_midi(path) for path in files]

def opened(workers):
    return Corpus.open(root, cache=cache, workers=workers, progress=False)

def forked(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return child

def check():
    corpus = opened(0)
    assert list(corpus) == [read_midi(path) for path in files], "other notes than the files'"
    assert list(corpus.names) == [path.name for path in files]
    left = [path.name for path in corpus.path.parent.iterdir()]
    assert left == [corpus.path.name], left

began = time.perf_counter()
os.waitpid(forked(lambda: opened(0)), 0)
alone = time.perf_counter() - began
shutil.rmtree(cache)
killed = in_time = 0
while killed < kills:
    workers = 1 if killed % 10 == 9 else 0
    change = rng.randrange(3)
    if change == 0:
        shutil.rmtree(cache / "corpora", ignore_errors=True)
    elif change == 1:
        for path in rng.sample(files, 20):
            write_midi(rng.choice(tunes), path)
    builder = forked(lambda: opened(workers))
    time.sleep(rng.uniform(0, alone + 0.4 * workers))
    os.kill(builder, signal.SIGKILL)
    _, status = os.waitpid(builder, 0)
    if not os.WIFSIGNALED(status):
        in_time += 1  # it was done before: no kill
        continue
    killed += 1
    if rng.random() < 0.5:
        _, status = os.waitpid(forked(check), 0)
        assert status == 0, "the run after a kill failed"
_, status = os.waitpid(forked(check), 0)
assert status == 0, "the run after a kill failed"
print(killed, "killed", in_time, "done before")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no kill -9 of a fork here")
def test_kill_at_any_moment(tmp_path: Path) -> None:
    root = tmp_path / "music"
    root.mkdir()
    for k in range(FILES):
        start = np.arange(30 + k) * 0.25
        pitch = 30 + (start * 7 + k).astype(int) % 60
        write_midi(Notes(start=start, end=start + 0.2, pitch=pitch), root / f"{k:02}.mid")
    seed = random.randrange(10**6)
    command = [sys.executable, "-c", TRIALS, str(root), str(tmp_path / "cache"), str(KILLS)]
    done = subprocess.run(
        [*command, str(seed)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}{done.stderr[-3000:]}"
    assert done.stdout.startswith(f"{KILLS} killed")
