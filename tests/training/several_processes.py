"""Runs of several processes, forked from one that has everything imported.

``python several_processes.py FOLDER`` writes what each scenario came to into ``FOLDER/NAME.pt``.
A launcher's part is played by environment variables; the real one has a test of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from notelstm.batch import Batch
from notelstm.data import Augmented, SequenceDataset, StatefulBatches, Transpose, WindowBatches
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.losses import CompositeLoss, PositivePressure
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.testing.makers import long_piece
from notelstm.training import (
    BestCheckpoint,
    Callback,
    DivergenceGuard,
    EarlyStopping,
    JSONLogger,
    TimeBudget,
    Trainer,
    TrainingConfig,
    checkpoints,
)
from notelstm.training import distributed as group_of
from notelstm.training import step as steps

Outcome = dict[str, Any]


def windows(dropout: float, batch_size: int = 16) -> tuple[Any, Any, Any, Any]:
    """The reference's: a lone window in the last batch, the model's beginning unused."""
    encoder = StepDurationEncoder()
    generator = np.random.default_rng(0)
    rows = [encoder.encode(long_piece(generator, count=n, seconds=n / 8)) for n in (43, 42, 30)]
    batches = WindowBatches(
        dataset=SequenceDataset(rows[:2], sequence_length=10), batch_size=batch_size
    )
    held_out = WindowBatches(
        dataset=SequenceDataset(rows[2:], sequence_length=10), batch_size=batch_size
    )
    torch.manual_seed(1)
    model = ThreeHeadLSTM(fields=encoder.fields, hidden_size=8)
    loss = CompositeLoss.for_fields(encoder.fields, continuous=PositivePressure())
    return model, loss, batches, held_out


def stateful(dropout: float, batch_size: int = 3) -> tuple[Any, Any, Any, Any]:
    """Every row scored, in another key each time, the state carried from batch to batch."""
    encoder = LogTimeEncoder()
    generator = np.random.default_rng(0)
    rows = [encoder.encode(long_piece(generator, count=n, seconds=n / 8)) for n in (60, 40, 50)]

    def made(some: Any) -> StatefulBatches:
        return StatefulBatches(
            dataset=SequenceDataset(some, sequence_length=7, targets="every"), batch_size=batch_size
        )

    changed = Augmented(batches=made(rows[:2]), fields=encoder.fields, transforms=(Transpose(),))
    torch.manual_seed(1)
    model = NoteLSTM(
        fields=encoder.fields,
        hidden_size=8,
        embedding_dim=4,
        sounding_features=True,
        dropout=dropout,
    )
    return model, CompositeLoss.for_fields(encoder.fields), changed, made(rows[2:])


KINDS: dict[str, Callable[..., tuple[Any, Any, Any, Any]]] = {
    "windows": windows,
    "stateful": stateful,
}


@dataclass(frozen=True)
class Unshared:
    """Batches that can only be read whole, as a user's own may be."""

    batches: Any

    @property
    def num_batches(self) -> int:
        return int(self.batches.num_batches)

    @property
    def stateful(self) -> bool:
        return bool(self.batches.stateful)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        yield from self.batches.epoch(number, first)


def train(
    kind: str,
    callbacks: Any = (),
    folder: Path | None = None,
    *,
    resume: bool = False,
    dropout: float = 0.0,
    batch_size: int | None = None,
    shared: bool = True,
    **options: Any,
) -> Outcome:
    """One process's part of a run, and what it came to."""
    sizes = {} if batch_size is None else {"batch_size": batch_size}
    model, loss, batches, held_out = KINDS[kind](dropout, **sizes)
    settings = {"epochs": 3, "learning_rate": 0.02, "max_grad_norm": 0.5, "schedule": "cosine"}
    config = TrainingConfig(**{**settings, "device": "cpu", "checkpoint_every": 1, **options})
    trainer = Trainer(model, loss, config=config, callbacks=callbacks, folder=folder)
    history = trainer.fit(batches if shared else Unshared(batches), held_out, resume=resume)
    return {
        "epochs": [{k: v for k, v in e.items() if "second" not in k} for e in history.epochs],
        "stopped": history.stopped,
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "steps": trainer.state.steps,
        "callbacks": len(trainer.callbacks),
        "has_folder": trainer.folder is not None,
        "precision": trainer.precision,
        "rate": trainer.optimizer.param_groups[0]["lr"],
    }


def rank() -> int:
    return int(os.environ["RANK"])


def together(place: Path, count: int, work: Callable[[], Outcome]) -> list[Outcome]:
    """What `work` came to in each of so many processes, or the error it ended with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place.mkdir(parents=True, exist_ok=True)
    files = [place / f"rank-{number}.pt" for number in range(count)]
    children = []
    began = time.monotonic()
    for number, file in enumerate(files):
        file.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": number}
            os.environ.update({k: str(v) for k, v in here.items()} | {"WORLD_SIZE": str(count)})
            try:
                outcome = work()
            except BaseException as error:
                outcome = {"error": type(error).__name__, "said": str(error)}
                outcome |= {"where": traceback.format_exc(), "after": time.monotonic() - began}
            torch.save(outcome, file)
            os._exit(0)
        children.append(child)
    for child in children:
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > began + 200:
                for other in children:
                    os.kill(other, signal.SIGKILL)
                raise TimeoutError("the processes wait for each other")
            time.sleep(0.005)
    return [torch.load(f, weights_only=False) if f.exists() else {"error": "killed"} for f in files]


class FirstKept(Callback):
    """Keeps the model of the first epoch and puts it back at the end, whatever came after."""

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if trainer.state.epoch == 1:
            trainer.save_best()

    def on_train_end(self, trainer: Trainer) -> None:
        trainer.load_best()


def everywhere(step: int, act: Callable[[Any], object]) -> None:
    """Do something at a step in this process, whether it has callbacks or not."""
    ends_here = Trainer._epoch_ends_here

    def looks(self: Trainer, diverged: bool) -> bool:
        if self.state.steps == step:
            act(self)
        return ends_here(self, diverged)

    Trainer._epoch_ends_here = looks  # type: ignore[method-assign]


def files_of(folder: Path) -> dict[str, Any]:
    """Every checkpoint, and the log without what the clock says."""
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in line.items() if "second" not in k} for line in log]
    return {"log": lines} | {p.name: torch.load(p) for p in sorted(folder.glob("*.pt"))}


Scenario = Callable[[Path], dict[str, Any]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


@scenario
def curves(place: Path) -> dict[str, Any]:
    """One process, two and three; an odd last batch leaves one of three without a sequence."""
    plans: dict[str, tuple[str, dict[str, Any]]] = {
        "windows": ("windows", {}),
        "windows, two batches to a step": ("windows", {"accumulate_grad_batches": 2}),
        "stateful": ("stateful", {"optimizer": "adamw", "weight_decay": 0.01}),
        "stateful, two batches to a step": ("stateful", {"accumulate_grad_batches": 2}),
        "stateful, fewer than processes": ("stateful", {"batch_size": 2}),
        "stateful, half precision": ("stateful", {"precision": "bfloat16"}),
        "stateful, read whole": ("stateful", {"shared": False}),
    }
    return {
        name: {
            count: together(place, count, lambda: train(kind, **options))  # noqa: B023 - run now
            for count in (1, 2, 3)
        }
        for name, (kind, options) in plans.items()
    }


@scenario
def one_precision(place: Path) -> dict[str, Any]:
    """Half precision is faster for the first process, not for the other."""

    def work() -> Outcome:
        steps._times = lambda *_: (2.0, 1.0) if rank() == 0 else (1.0, 2.0)
        return train("stateful", precision="auto", epochs=1)

    return {"ranks": together(place, 2, work)}


@scenario
def early_stop(place: Path) -> dict[str, Any]:
    """The first process's callbacks stop all, and the best model is everyone's."""

    def work() -> Outcome:
        return train(
            "stateful", [EarlyStopping(patience=1, min_delta=1.0), FirstKept()], place / "run"
        )

    return {"ranks": together(place, 2, work), "best": torch.load(place / "run" / "best.pt")}


@scenario
def time_budget(place: Path) -> dict[str, Any]:
    """A second a step; each process would count its own."""

    def work() -> Outcome:
        now = [0.0]
        distributed.all_reduce = ticks(now, distributed.all_reduce)
        time.monotonic = lambda: now[0]
        return train("stateful", [TimeBudget(minutes=1)], epochs=None)

    def ticks(now: list[float], function: Any) -> Any:
        def called(*given: Any) -> Any:
            now[0] += 1.0 if rank() == 0 else 0.3
            return function(*given)

        return called

    return {"ranks": together(place, 2, work)}


def spoil(number: int) -> None:
    """Make the loss of one process no number, once, in the second epoch."""
    done: list[bool] = []

    def spoils(run: Any) -> None:
        if rank() == number and not done:
            done.append(True)
            run._sums.fill_(float("nan"))

    everywhere(8, spoils)


@scenario
def divergence(place: Path) -> dict[str, Any]:
    """The last process diverges, the first one's guard takes all of them back."""

    def work() -> Outcome:
        spoil(1)
        return train("stateful", [DivergenceGuard(), JSONLogger()], place / "run")

    def unguarded() -> Outcome:
        spoil(1)
        return train("stateful")

    ranks = together(place, 2, work)
    return {"ranks": ranks, "unguarded": together(place, 2, unguarded), **files_of(place / "run")}


def interrupted(place: Path, folder: Path, count: int, **options: Any) -> list[Outcome]:
    """Ctrl-C to the last process only, in the middle of the second epoch."""

    def work() -> Outcome:
        if rank() == count - 1:
            everywhere(8, lambda run: os.kill(os.getpid(), signal.SIGINT))
        return train("stateful", made(), folder, dropout=0.3, **options)

    return together(place, count, work)


def made() -> list[Any]:
    return [DivergenceGuard(), BestCheckpoint(), EarlyStopping(patience=9), JSONLogger()]


@scenario
def resume(place: Path) -> dict[str, Any]:
    """A run that was interrupted, and one that lost a process, come to the same end."""

    def whole() -> Outcome:
        return train("stateful", made(), place / "whole", dropout=0.3)

    def lost() -> Outcome:
        if rank() == 1:
            everywhere(8, lambda run: os.kill(os.getpid(), signal.SIGKILL))
        return train("stateful", made(), place / "lost", dropout=0.3)

    def long_epoch() -> Outcome:
        """Checkpoints are due after each step; the loss comes before the exchange of one."""
        checkpoints._MOST_SECONDS = 0  # type: ignore[misc]
        if rank() == 1:
            everywhere(8, lambda run: os.kill(os.getpid(), signal.SIGKILL))
        return train("stateful", made(), place / "long", dropout=0.3)

    def goes_on(folder: str) -> Callable[[], Outcome]:
        return lambda: train("stateful", made(), place / folder, dropout=0.3, resume=True)

    found: dict[str, Any] = {"whole": together(place, 2, whole)}
    found["interrupted"] = interrupted(place, place / "cut", 2)
    found["cut"] = together(place, 2, goes_on("cut"))
    found["ended"] = together(place, 2, lost)
    found["other"] = together(place, 2, goes_on("lost"))
    together(place, 2, long_epoch)
    found["saved"] = torch.load(place / "long" / "last.pt")["steps"]
    found["long"] = together(place, 2, goes_on("long"))
    found["files"] = {name: files_of(place / name) for name in ("whole", "cut", "lost")}
    return found


@scenario
def sequences_that_are_empty(place: Path) -> dict[str, Any]:
    """The last of four processes has sequences without a target, in each batch of an epoch."""
    size = 12
    while True:
        _, _, batches, _ = stateful(0.0, size)
        mine = list(batches.shard(3, 4).epoch(0))
        if len(mine) > 1 and not any(bool(b.target_mask.any()) for b in mine):
            break
        size -= 1

    def work() -> Outcome:
        everywhere(1, lambda run: os.kill(os.getpid(), signal.SIGINT))
        return train("stateful", [], place / "run", batch_size=size)

    whole = together(place, 1, lambda: train("stateful", batch_size=size))
    cut = together(place, 4, work)
    again = together(
        place, 4, lambda: train("stateful", [], place / "run", batch_size=size, resume=True)
    )
    return {"whole": whole, "cut": cut, "ranks": again}


@scenario
def another_number(place: Path) -> dict[str, Any]:
    """Interrupted with three processes, ended with two, and with one."""
    found: dict[str, Any] = {}
    for count in (1, 2):
        folder = place / f"then-{count}"

        def cut() -> Outcome:
            if rank() == 1:
                everywhere(8, lambda run: os.kill(os.getpid(), signal.SIGINT))
            return train("stateful", [], folder)  # noqa: B023 - run now

        together(place, 3, cut)
        goes_on = lambda: train("stateful", [], folder, resume=True)  # noqa: B023, E731 - run now
        found[f"{count}"] = together(place, count, goes_on)
    found["whole"] = together(place, 1, lambda: train("stateful"))
    return found


@scenario
def one_that_hangs(place: Path) -> dict[str, Any]:
    """A process that is there but does not answer."""

    def work() -> Outcome:
        group_of.TIMEOUT = timedelta(seconds=1)  # type: ignore[misc]
        if rank() == 1:
            everywhere(4, lambda run: time.sleep(4))
        return train("stateful")

    return {"ranks": together(place, 2, work)}


@scenario
def a_folder_that_is_taken(place: Path) -> dict[str, Any]:
    """The first process has an error of its own before the first step."""
    together(place, 1, lambda: train("stateful", [], place / "run", epochs=1))
    return {"ranks": together(place, 2, lambda: train("stateful", [], place / "run"))}


def main() -> None:
    """Play every scenario."""
    torch.set_num_threads(1)
    # What runs in the background inherits an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    place = Path(sys.argv[1])
    # What torch imports on the way is there before any fork.
    for kind, optimizer in (("windows", "sgd"), ("stateful", "adamw")):
        train(kind, made(), place / "first" / kind, epochs=1, optimizer=optimizer)
    for name in sys.argv[2:] or SCENARIOS:
        try:
            outcome = SCENARIOS[name](place / name)
        except Exception:
            outcome = {"broken": traceback.format_exc()}
        torch.save(outcome, place / f"{name}.pt")


if __name__ == "__main__":
    main()
