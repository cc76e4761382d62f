"""A run that was stopped and resumed is the run that was never stopped, to the last bit."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from notelstm.errors import TrainingError
from notelstm.fields import Field
from notelstm.predictions import Categorical, PointEstimate
from notelstm.protocols import Prediction
from notelstm.training import (
    BestCheckpoint,
    Callback,
    EarlyStopping,
    JSONLogger,
    RunFolder,
    Trainer,
)
from notelstm.training.checkpoints import Checkpoints

Make = Callable[[], Any]
OPTIMIZERS = pytest.mark.parametrize(
    "options", [{}, {"optimizer": "adamw", "weight_decay": 0.01, "max_grad_norm": 1.0}]
)


def bits(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in trainer.module.model.state_dict().items()}


def same(a: Any, b: Any) -> bool:
    """Equal trees of tensors and plain values, bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def checkpoint(folder: Path) -> Any:
    return torch.load(folder / "last.pt", weights_only=True)


def losses(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    """What is logged, without what the clock says."""
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines]


def log(folder: Path) -> list[dict[str, float]]:
    return losses([json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()])


def callbacks() -> list[Any]:
    return [EarlyStopping(patience=3), BestCheckpoint(), JSONLogger()]


class StopAfter(Callback):
    """Ends a run in good order after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        if trainer.state.epoch == self.epochs:
            trainer.stop("enough")


class CtrlC(Callback):
    """Presses Ctrl-C after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.steps == self.step:
            os.kill(os.getpid(), signal.SIGINT)


class Crash(Callback):
    """Fails after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.steps == self.step:
            raise RuntimeError("a crash")


@pytest.mark.parametrize("resumed_in", ["first epoch", "second epoch"])
def test_a_long_epoch_has_checkpoints_too(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed_in: str
) -> None:
    options: dict[str, Any] = {"checkpoint_every": 100, "epochs": 2}

    def train(folder: Path, *more: Callback, resume: bool = False) -> list[dict[str, float]]:
        study = make()
        trainer = study.trainer([*callbacks(), *more], folder, **options)
        return losses(trainer.fit(study.batches, study.validation, resume=resume).epochs)

    history = train(tmp_path / "whole")
    per_epoch = make().batches.num_batches
    first = 2 if resumed_in == "first epoch" else per_epoch + 1
    with pytest.raises(RuntimeError, match="a crash"):
        train(tmp_path / "soon", Crash(first))
    assert not RunFolder(tmp_path / "soon").has_checkpoint  # none is due
    monkeypatch.setattr("notelstm.training.checkpoints._MOST_SECONDS", 0)
    for steps in range(first, first + per_epoch):
        folder = tmp_path / str(steps)
        with pytest.raises(RuntimeError, match="a crash"):
            train(folder, Crash(steps))
        assert checkpoint(folder)["steps"] == steps - 1
        assert train(folder, resume=True)[-1] == history[-1]
        assert same(checkpoint(folder)["model"], checkpoint(tmp_path / "whole")["model"])
        assert log(folder) == log(tmp_path / "whole")


def test_without_a_folder_no_checkpoint_is_due(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notelstm.training.checkpoints._MOST_SECONDS", 0)
    saved: list[int] = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, *_: saved.append(self.position.steps))
    study = make()
    study.trainer(epochs=1).fit(study.batches)
    assert saved == [study.batches.num_batches] * 2  # of the epoch, and of the run


@OPTIMIZERS
def test_two_and_two_resumed_epochs_equal_four(
    make: Make, options: dict[str, Any], tmp_path: Path
) -> None:
    whole = make().trainer(callbacks(), tmp_path / "whole", **options)
    study = make()
    history = whole.fit(study.batches, study.validation)
    # Other noise on the process's generators must not matter.
    torch.rand(7)
    first = make().trainer(callbacks(), tmp_path / "cut", epochs=2, **options)
    first.fit(study.batches, study.validation)
    torch.rand(7)
    second = make().trainer(callbacks(), tmp_path / "cut", **options)
    rest = second.fit(study.batches, study.validation, resume=True)
    assert losses(rest.epochs) == losses(history.epochs)[2:]
    assert same(bits(second), bits(whole))
    assert same(checkpoint(tmp_path / "cut"), checkpoint(tmp_path / "whole"))
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    assert len(log(tmp_path / "whole")) == 4


def test_a_stopped_run_resumes(make: Make, tmp_path: Path) -> None:
    study = make()
    whole = make().trainer()
    whole.fit(study.batches)
    cut = study.trainer([StopAfter(1)], tmp_path)
    assert cut.fit(study.batches).stopped == "enough"
    again = make().trainer([], tmp_path)
    history = again.fit(study.batches, resume=True)
    assert history.stopped == ""
    assert len(history.epochs) == 3
    assert same(bits(again), bits(whole))


@OPTIMIZERS
def test_ctrl_c_anywhere_in_an_epoch(make: Make, options: dict[str, Any], tmp_path: Path) -> None:
    study = make()
    per_epoch = study.batches.num_batches
    whole = make().trainer(callbacks(), tmp_path / "whole", epochs=2, **options)
    whole.fit(study.batches, study.validation)
    for step in (1, per_epoch - 1, per_epoch, per_epoch + 1):
        folder = tmp_path / f"cut-{step}"
        cut = make().trainer([*callbacks(), CtrlC(step)], folder, epochs=2, **options)
        with pytest.raises(KeyboardInterrupt):
            cut.fit(study.batches, study.validation)
        assert checkpoint(folder)["steps"] == step
        again = make().trainer(callbacks(), folder, epochs=2, **options)
        again.fit(study.batches, study.validation, resume=True)
        assert same(checkpoint(folder), checkpoint(tmp_path / "whole")), step
        assert log(folder) == log(tmp_path / "whole")
        assert same(bits(again), bits(whole))


def test_the_same_trainer_can_continue_after_ctrl_c(make: Make, tmp_path: Path) -> None:
    study = make()
    whole = make().trainer(epochs=2)
    whole.fit(study.batches)
    trainer = make().trainer([CtrlC(2)], tmp_path, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(study.batches)
    trainer.fit(study.batches, resume=True)
    assert same(bits(trainer), bits(whole))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait_for_the_end_of_the_step(make: Make, tmp_path: Path) -> None:
    study = make()
    trainer = study.trainer([CtrlC(2), CtrlC(2)], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(study.batches)
    assert not (tmp_path / "last.pt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_ctrl_c_stays_ignored(make: Make) -> None:
    study = make()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    history = study.trainer([CtrlC(2)], epochs=1).fit(study.batches)
    assert len(history.epochs) == 1
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_training_in_a_thread_leaves_ctrl_c_to_the_main_one(make: Make) -> None:
    study = make()
    handlers = []

    class Look(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            handlers.append(signal.getsignal(signal.SIGINT))

    trainer = study.trainer([Look()], epochs=1)
    thread = threading.Thread(target=trainer.fit, args=(study.batches,))
    thread.start()
    thread.join()
    assert len(handlers) == study.batches.num_batches
    assert set(handlers) == {signal.default_int_handler}


def test_a_run_that_stopped_early_stays_stopped(make: Make, tmp_path: Path) -> None:
    study = make()
    stop = EarlyStopping(patience=1, min_delta=1e9)
    first = study.trainer([stop], tmp_path).fit(study.batches, study.validation)
    assert len(first.epochs) == 2
    assert "has not fallen for 1 epoch" in first.stopped
    again = make().trainer([EarlyStopping(patience=1, min_delta=1e9)], tmp_path)
    history = again.fit(study.batches, study.validation, resume=True)
    assert history.epochs == []
    assert "has not fallen" in history.stopped


def test_only_the_number_of_epochs_can_change_in_a_resumed_run(make: Make, tmp_path: Path) -> None:
    study = make()
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    assert len(make().trainer([], tmp_path, epochs=2).fit(study.batches, resume=True).epochs) == 1
    # What is noted is what was asked for last.
    assert (
        json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))["training"]["epochs"]
        == 2
    )
    for options, said in (
        ({"learning_rate": 0.1}, "training.learning_rate: 0.005 became 0.1"),
        ({"optimizer": "adamw"}, "optimizer: 'sgd' became 'adamw'"),
        ({"seed": 3}, "seed: 0 became 3"),
    ):
        with pytest.raises(TrainingError, match=said):
            make().trainer([], tmp_path, **options).fit(study.batches, resume=True)
    with pytest.raises(TrainingError, match=r"holds a run already.*Resume it"):
        make().trainer([], tmp_path).fit(study.batches)


def test_settings_of_the_recipe_cannot_change_in_a_resumed_run(make: Make, tmp_path: Path) -> None:
    study = make()
    config = study.trainer(epochs=1).config

    def fit(resume: bool, **settings: Any) -> None:
        trainer = Trainer(
            make().model, study.loss, config=config, folder=tmp_path, settings=settings
        )
        trainer.fit(study.batches, resume=resume)

    fit(False, window=(1, 2), corpus="a")
    fit(True, window=[1, 2], corpus="a")
    with pytest.raises(TrainingError, match=r"corpus: 'a' became 'b'; extra: None became 1"):
        fit(True, window=[1, 2], corpus="b", extra=1)


def test_resume_without_a_checkpoint_is_an_error(make: Make, tmp_path: Path) -> None:
    study = make()
    with pytest.raises(TrainingError, match="no checkpoint to resume from"):
        study.trainer([], tmp_path).fit(study.batches, resume=True)
    with pytest.raises(TrainingError, match="no run folder to resume from"):
        study.trainer().fit(study.batches, resume=True)


def test_another_model_or_other_callbacks_are_rejected(make: Make, tmp_path: Path) -> None:
    study = make()
    study.trainer([EarlyStopping(), BestCheckpoint()], tmp_path, epochs=1).fit(
        study.batches, study.validation
    )
    for others, said in (
        ([], "callbacks are none; .* with EarlyStopping, BestCheckpoint"),
        (
            [BestCheckpoint(), EarlyStopping()],
            "are BestCheckpoint, EarlyStopping; .* with EarlyStopping, BestCheckpoint",
        ),
    ):
        with pytest.raises(TrainingError, match=said):
            make().trainer(others, tmp_path).fit(study.batches, study.validation, resume=True)
    other = make()
    other.model.initial_context = nn.Parameter(torch.zeros(9))
    with pytest.raises(TrainingError, match=r"of another model.*size mismatch for initial_context"):
        other.trainer([EarlyStopping(), BestCheckpoint()], tmp_path).fit(
            study.batches, study.validation, resume=True
        )


def damage_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_tail(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_all(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_other(path: Path) -> None:
    torch.save({"model": {}}, path)


DAMAGES = pytest.mark.parametrize(
    "damage", [damage_bit, damage_tail, damage_all, damage_empty, damage_other]
)


@DAMAGES
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    make: Make,
    tmp_path: Path,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = make()
    whole = make().trainer(callbacks(), tmp_path / "whole", epochs=4)
    whole.fit(study.batches, study.validation)
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        make().trainer(
            [*callbacks(), CtrlC(2 * study.batches.num_batches + 2)], folder, epochs=4
        ).fit(study.batches, study.validation)
    assert checkpoint(folder)["batch"] == 2
    damage(folder / "last.pt")
    resumed = make().trainer(callbacks(), folder, epochs=4)
    history = resumed.fit(study.batches, study.validation, resume=True)
    assert len(history.epochs) == 2
    said = [line for line in caplog.messages if line.startswith("damaged checkpoint")]
    assert len(said) == 1
    assert re.search(r"damaged checkpoint .*last\.pt: .*the one before it, .*previous\.pt", said[0])
    assert same(bits(resumed), bits(whole))
    assert same(checkpoint(folder), checkpoint(tmp_path / "whole"))
    assert log(folder) == log(tmp_path / "whole")


@DAMAGES
def test_two_damaged_checkpoints_are_both_reported(
    make: Make, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    study = make()
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    for name in ("last.pt", "previous.pt"):
        damage(tmp_path / name)
    with pytest.raises(TrainingError, match=r"damaged .*last\.pt.*damaged .*previous\.pt.*new run"):
        make().trainer([], tmp_path).fit(study.batches, resume=True)


def test_a_crash_between_the_renames_loses_nothing(make: Make, tmp_path: Path) -> None:
    study = make()
    whole = make().trainer()
    whole.fit(study.batches)
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    (tmp_path / "last.pt").replace(tmp_path / "previous.pt")
    with pytest.raises(TrainingError, match="holds a run already"):
        make().trainer([], tmp_path).fit(study.batches)
    again = make().trainer([], tmp_path)
    again.fit(study.batches, resume=True)
    assert same(bits(again), bits(whole))


def test_foreign_checkpoints_are_rejected(make: Make, tmp_path: Path) -> None:
    study = make()
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    RunFolder(tmp_path).save("last", {"model": {}})
    with pytest.raises(TrainingError, match="the checkpoint is of another model"):
        make().trainer([], tmp_path).fit(study.batches, resume=True)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_damaged_settings_are_rejected(make: Make, tmp_path: Path, text: str) -> None:
    study = make()
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    (tmp_path / "settings.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(TrainingError, match="settings"):
        make().trainer([], tmp_path).fit(study.batches, resume=True)


def test_a_checkpoint_never_runs_code(make: Make, tmp_path: Path) -> None:
    study = make()
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    for _ in range(2):
        RunFolder(tmp_path).save("last", {"model": Path("a class of its own")})
    with pytest.raises(TrainingError, match=r"damaged checkpoint .*Weights only load failed"):
        make().trainer([], tmp_path).fit(study.batches, resume=True)


def test_models_of_some_epochs_and_the_best_are_kept(make: Make, tmp_path: Path) -> None:
    study = make()
    trainer = study.trainer([BestCheckpoint()], tmp_path, checkpoint_every=2, epochs=5)
    trainer.fit(study.batches, study.validation)
    files = {path.name for path in tmp_path.iterdir()}
    models = {"best.pt", "epoch-0002.pt", "epoch-0004.pt"}
    assert files == {"run.lock", "settings.json", "last.pt", "previous.pt"} | models
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert same(best, bits(trainer))
    assert checkpoint(tmp_path)["epoch"] == 5


def test_temporary_files_of_a_killed_run_are_removed(make: Make, tmp_path: Path) -> None:
    study = make()
    study.trainer([], tmp_path, epochs=1).fit(study.batches)
    shutil.copy(tmp_path / "last.pt", tmp_path / ".last.pt.0123abcd.part")
    make().trainer([], tmp_path).fit(study.batches, resume=True)
    assert not list(tmp_path.glob(".*"))


def test_only_the_latest_models_of_epochs_are_kept(make: Make, tmp_path: Path) -> None:
    study = make()
    study.trainer([], tmp_path, checkpoint_every=1, epochs=8).fit(study.batches)
    kept = sorted(path.name for path in tmp_path.glob("epoch-*.pt"))
    assert kept == [f"epoch-{k:04}.pt" for k in (4, 5, 6, 7, 8)]


class OnlyContext(NamedTuple):
    """The context of a model that sees one row."""

    hidden: Tensor


class Nothing(NamedTuple):
    """The state of a model that carries none."""


class OneRow(nn.Module):
    """Predicts each row from the one before it."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        super().__init__()
        self.fields, self.field_order = fields, tuple(field.name for field in fields)
        self.initial = nn.Parameter(torch.zeros(4))
        self.embed = nn.Embedding(128, 4)
        self.heads = nn.ModuleDict({f.name: nn.Linear(4, f.classes or 1) for f in fields})

    def initial_state(self, batch_size: int) -> tuple[OnlyContext, Nothing]:
        return OnlyContext(self.initial.expand(batch_size, 1, -1)), Nothing()

    def forward(self, rows: Tensor, state: Nothing) -> tuple[OnlyContext, Nothing]:
        return OnlyContext(self.embed(rows[..., 0].long())), state

    def predict(self, field: str, context: OnlyContext, known: Any) -> Prediction:
        found = self.heads[field](context.hidden)
        return PointEstimate(found[..., 0]) if found.shape[-1] == 1 else Categorical(found)


def test_a_model_without_a_state_resumes(make: Make, tmp_path: Path) -> None:
    def study() -> Any:
        made = make()
        torch.manual_seed(1)
        return made._replace(model=OneRow(made.model.fields))

    whole = study().trainer()
    whole.fit(study().batches)
    with pytest.raises(KeyboardInterrupt):
        study().trainer([CtrlC(3)], tmp_path).fit(study().batches)
    again = study().trainer([], tmp_path)
    again.fit(study().batches, resume=True)
    assert same(bits(again), bits(whole))
