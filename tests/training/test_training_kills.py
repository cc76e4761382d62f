"""kill -9 at any moment of a run: resumed, it ends with the bits of one that was never stopped."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 32

# One process that has everything imported forks the runs, so that a trial takes milliseconds and
# the moment of the kill falls into the run, not into the start of an interpreter. A run that is to
# die while it saves kills itself: between two of the calls that write, or in the middle of a file.
TRIALS = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import numpy as np
import torch
from notelstm.data import Augmented, StatefulBatches, SequenceDataset, Transpose, WindowBatches
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.losses import CompositeLoss, PositivePressure
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.testing.makers import long_piece
from notelstm.training import (
    BestCheckpoint, DivergenceGuard, EarlyStopping, JSONLogger, Trainer, TrainingConfig
)
from notelstm.training.checkpoints import RunFolder

kind, place, kills, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
rng = random.Random(seed)
generator = np.random.default_rng(0)
tunes = [long_piece(generator, count=n, seconds=n / 8) for n in (140, 90, 120, 60)]

def study():
    torch.manual_seed(1)
    common = dict(epochs=6, device="cpu", checkpoint_every=1, schedule="cosine", warmup_steps=3,
                  max_grad_norm=0.5, accumulate_grad_batches=2, learning_rate=0.02)
    if kind == "windows":
        encoder = StepDurationEncoder()
        rows = [encoder.encode(tune) for tune in tunes]
        data = SequenceDataset(rows[:3], sequence_length=10)
        batches = WindowBatches(dataset=data, batch_size=16)
        validation = SequenceDataset(rows[3:], sequence_length=10)
        held_out = WindowBatches(dataset=validation, batch_size=16)
        model = ThreeHeadLSTM(fields=encoder.fields, hidden_size=8)
        loss = CompositeLoss.for_fields(encoder.fields, continuous=PositivePressure())
        config = TrainingConfig(**common)
    else:
        encoder = LogTimeEncoder()
        rows = [encoder.encode(tune) for tune in tunes]
        data = SequenceDataset(rows[:3], sequence_length=7, targets="every")
        batches = StatefulBatches(dataset=data, batch_size=3)
        validation = SequenceDataset(rows[3:], sequence_length=7, targets="every")
        held_out = StatefulBatches(dataset=validation, batch_size=3)
        model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, dropout=0.3)
        loss = CompositeLoss.for_fields(encoder.fields)
        config = TrainingConfig(**common, optimizer="adamw", weight_decay=0.01)
    changed = Augmented(batches=batches, fields=encoder.fields, transforms=(Transpose(),))
    return model, loss, config, changed, held_out

def run(folder):
    model, loss, config, batches, held_out = study()
    callbacks = [EarlyStopping(patience=5), BestCheckpoint(), DivergenceGuard(), JSONLogger()]
    trainer = Trainer(model, loss, config=config, callbacks=callbacks, folder=folder)
    trainer.fit(batches, held_out, resume=folder.exists() and RunFolder(folder).has_checkpoint)
    torch.save(model.state_dict(), folder / "end.pt")

def dies_saving(calls):
    '''Die at one of the calls that write, or halfway through a file.'''
    left = [calls]
    def bomb(function, halfway=None):
        def called(*given, **named):
            left[0] -= 1
            if left[0] == 0:
                if halfway is not None and rng.random() < 0.5:
                    halfway(*given)
                elif rng.random() < 0.5:
                    function(*given, **named)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)
        return called
    def half(state, path):
        save(state, path)
        os.truncate(path, os.path.getsize(path) // 2)
    save = torch.save
    torch.save = bomb(save, half)
    os.replace, os.fsync = bomb(os.replace), bomb(os.fsync)

def forked(work, *given):
    child = os.fork()
    if child == 0:
        try:
            work(*given)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return child

def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b

def ended(folder):
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in line.items() if "second" not in k} for line in log]
    files = {p.name: torch.load(p, weights_only=True) for p in sorted(folder.glob("*.pt"))}
    assert not list(folder.glob(".*")), "something was left beside"
    return lines, files

run(place / "whole")  # here, so that what torch imports on the way is there before any fork
began = time.perf_counter()
_, status = os.waitpid(forked(run, place / "again"), 0)
alone = time.perf_counter() - began
assert status == 0
wanted = ended(place / "whole")
assert len(wanted[0]) == 6
killed = saving = runs = 0
while killed < kills:
    folder = place / f"cut-{runs}"
    runs += 1
    for _ in range(rng.randrange(1, 5)):
        if 3 * saving <= killed or rng.random() < 0.4:
            def doomed():
                dies_saving(rng.randrange(1, 40))
                run(folder)
            child, inside = forked(doomed), True
        else:
            child, inside = forked(run, folder), False
            time.sleep(rng.uniform(0, 0.9 * alone))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed, saving = killed + 1, saving + inside
        else:
            assert status == 0
    _, status = os.waitpid(forked(run, folder), 0)
    assert status == 0, "a run could not be resumed"
    assert same(ended(folder), wanted), "other bits, or another log"
    shutil.rmtree(folder)
print(f"{kind}, {alone:.2f} s a run: {killed} kills, {saving} of them while saving, in {runs} runs")
assert saving >= killed / 3, "too few kills while saving"
"""


@pytest.mark.slow
@pytest.mark.timeout(400)  # on a machine that does much else
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no kill -9 of a fork here")
@pytest.mark.parametrize("kind", ["windows", "stateful"])
def test_kill_at_any_moment(tmp_path: Path, kind: str) -> None:
    seed = random.randrange(10**6)
    command = [sys.executable, "-c", TRIALS, kind, str(tmp_path), str(KILLS), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=390, check=False, env=environment
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}{done.stderr[-3000:]}"
    print(done.stdout)
