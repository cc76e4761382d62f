"""Time budgets, and runs that diverge."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from notelstm.errors import ConfigError, TrainingError
from notelstm.training import (
    BestCheckpoint,
    Callback,
    DivergenceGuard,
    JSONLogger,
    TimeBudget,
    Trainer,
)

Make = Callable[[], Any]
SetClock = Callable[[Callable[[], float]], None]


class Clock(Callback):
    """A second for each step, for budgets only."""

    def __init__(self, set_clock: SetClock, per_step: float = 1.0) -> None:
        self.now = 100.0
        self.per_step = per_step
        self.rates: list[float] = []
        set_clock(lambda: self.now)

    def on_step_end(self, trainer: Trainer) -> None:
        self.now += self.per_step
        self.rates.append(trainer.optimizer.param_groups[0]["lr"])


@pytest.fixture
def clock(set_clock: SetClock) -> Clock:
    return Clock(set_clock)


@pytest.mark.parametrize("epochs", [None, 1000])
def test_the_schedule_fits_the_budget(make: Make, clock: Clock, epochs: int | None) -> None:
    study = make()
    options = {"schedule": "cosine", "learning_rate": 0.1, "epochs": epochs}
    trainer = study.trainer([clock, TimeBudget(minutes=20.5 / 60)], **options)
    history = trainer.fit(study.batches, study.validation)
    assert history.stopped == f"its {20.5 / 60:g} minutes are over"
    assert len(clock.rates) == 21
    # As a run that was told to take 20.5 steps.
    wanted = [(0.01 + 0.99 * (1 + math.cos(math.pi * n / 20.5)) / 2) / 10 for n in range(21)]
    assert clock.rates == pytest.approx(wanted, rel=1e-6)
    assert clock.rates[-1] < 0.0012
    # The epoch that was cut short is one like the others.
    assert len(history.epochs) == math.ceil(21 / study.batches.num_batches)
    assert math.isfinite(history.epochs[-1]["validation"])


def test_warmup_takes_a_tenth_of_the_time_budget(make: Make, clock: Clock) -> None:
    study = make()
    options = {"warmup_steps": 1000, "learning_rate": 0.1, "epochs": None}
    study.trainer([clock, TimeBudget(minutes=0.5)], **options).fit(study.batches)
    assert clock.rates[:4] == pytest.approx([1e-4, 0.1 / 3, 0.2 / 3, 0.1])
    assert set(clock.rates[4:]) == {0.1}


def test_time_is_left_for_validation(make: Make, clock: Clock) -> None:
    class Measures(Callback):
        """Validation takes three seconds."""

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            clock.now += 3

    study = make()
    n = study.batches.num_batches
    budget = TimeBudget(minutes=(2 * n + 11) / 60)
    study.trainer([clock, Measures(), budget], epochs=None).fit(study.batches)
    assert clock.now == 100 + 2 * n + 11
    assert len(clock.rates) == 2 * n + 2


def test_epochs_that_end_before_the_budget_end_the_run(make: Make, clock: Clock) -> None:
    study = make()
    trainer = study.trainer([clock, TimeBudget(minutes=60)], schedule="cosine", epochs=2)
    assert trainer.fit(study.batches).stopped == ""
    assert len(clock.rates) == 2 * study.batches.num_batches
    assert clock.rates[-1] < 0.1 * clock.rates[0]


def test_a_resumed_run_has_the_remaining_time(make: Make, clock: Clock, tmp_path: Path) -> None:
    def run(minutes: float, resume: bool) -> int:
        before = len(clock.rates)
        study = make()
        trainer = study.trainer([clock, TimeBudget(minutes=minutes)], tmp_path, epochs=None)
        trainer.fit(study.batches, resume=resume)
        return len(clock.rates) - before

    assert run(10 / 60, False) == 10
    clock.now += 1e6
    assert run(10 / 60, True) == 0
    assert run(15 / 60, True) == 5


def test_a_run_without_a_limit_is_rejected(make: Make) -> None:
    study = make()
    with pytest.raises(ConfigError, match=r"the run has no end.*TimeBudget"):
        study.trainer(epochs=None).fit(study.batches)


def test_a_time_budget_is_kept(make: Make) -> None:
    study = make()
    began = time.monotonic()
    # How much of it is left for validation depends on the machine, unlike in the tests above.
    history = study.trainer([TimeBudget(minutes=0.5 / 60)], epochs=None).fit(study.batches)
    assert history.stopped.endswith("minutes are over")
    assert history.epochs
    assert time.monotonic() - began < 60  # it ends; a busy machine is slow


class Spoils(Callback):
    """Makes the loss no number at some steps, however often they are taken."""

    def __init__(self, study: Any, step: int, times: int) -> None:
        self.study, self.step, self.times = study, step, times
        self.rates: list[float] = []
        self.names: list[str] = []

    def on_divergence(self, trainer: Trainer) -> None:
        self.names.append("divergence")

    def on_rollback(self, trainer: Trainer) -> None:
        self.names.append("rollback")

    def on_step_end(self, trainer: Trainer) -> None:
        self.rates.append(trainer.optimizer.param_groups[0]["lr"])
        if trainer.state.steps == self.step and self.times:
            self.times -= 1
            with torch.no_grad():
                self.study.model.lstm.weight_hh_l0.fill_(math.nan)


def weights(study: Any) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in study.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


ADAM = {"optimizer": "adamw", "learning_rate": 0.01}


@pytest.mark.parametrize("times", [1, 2])
def test_divergence_rolls_back_and_lowers_the_learning_rate(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    study = make()
    steps = study.batches.num_batches
    spoils = Spoils(study, steps + 1, times)
    callbacks = [spoils, DivergenceGuard(lr_factor=0.5), JSONLogger(), BestCheckpoint()]
    trainer = study.trainer(callbacks, tmp_path, epochs=3, **ADAM)
    with caplog.at_level(logging.WARNING):
        history = trainer.fit(study.batches, study.validation)
    assert len(history.epochs) == 3
    assert caplog.text.count("rolled back to the last good epoch") == times
    assert spoils.names == ["divergence", "rollback"] * times
    assert spoils.rates[:steps] == [0.01] * steps
    assert spoils.rates[-steps:] == [0.01 * 0.5**times] * steps
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    # Like a run whose rate was lowered after the first epoch, with nothing left of what was tried.
    other = make()

    class Lowers(Callback):
        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            if trainer.state.epoch == 1:
                trainer.state.rate_scale = 0.5**times

    lowered = other.trainer([Lowers(), BestCheckpoint()], epochs=3, **ADAM)
    lowered.fit(other.batches, other.validation)
    assert same(weights(study), weights(other))


def test_too_many_rollbacks_are_an_error(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    study = make()
    with pytest.raises(TrainingError, match="the run diverged: loss is nan"):
        study.trainer([Spoils(study, 1, 3), DivergenceGuard(max_rollbacks=2)]).fit(study.batches)
    assert "after 2 rollbacks: giving up" in caplog.text


def test_a_rising_loss_is_divergence(make: Make) -> None:
    study, rates = make(), []

    class Rises(Callback):
        """Lets the second epoch look bad once."""

        done = False

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            rates.append(trainer.optimizer.param_groups[0]["lr"])
            if trainer.state.epoch == 2 and not self.done:
                self.done = True
                metrics["loss"] += 5.0

    callbacks = [Rises(), DivergenceGuard(max_increase=2.0, lr_factor=0.1)]
    history = study.trainer(callbacks, learning_rate=0.01, epochs=3).fit(study.batches)
    assert len(history.epochs) == 3
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_a_loss_that_rises_after_the_last_rollback_is_an_error(make: Make) -> None:
    class Rises(Callback):
        """Lets each epoch be worse than the one before."""

        worst = 10.0

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            self.worst += 1
            metrics["loss"] = self.worst

    study = make()
    callbacks = [Rises(), DivergenceGuard(max_rollbacks=1, max_increase=0.5)]
    with pytest.raises(TrainingError, match=r"diverged: the loss rose from 11 to 13 \(step.*Lower"):
        study.trainer(callbacks).fit(study.batches)


def test_rollbacks_are_the_same_in_a_resumed_run(make: Make, tmp_path: Path) -> None:
    steps = make().batches.num_batches

    class CtrlC(Callback):
        """Ends the run as Ctrl-C does, in the middle of an epoch."""

        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.state.steps == steps + 1:
                trainer._receive_signal()

    def run(folder: str, *, cut: bool) -> dict[str, Tensor]:
        study = make()
        spoils = Spoils(study, steps + 2, 1)
        if cut:
            first = make()
            with pytest.raises(KeyboardInterrupt):
                first.trainer([DivergenceGuard(), CtrlC()], tmp_path / folder, **ADAM).fit(
                    first.batches
                )
        trainer = study.trainer([spoils, DivergenceGuard()], tmp_path / folder, **ADAM)
        trainer.fit(study.batches, resume=cut)
        assert spoils.names.count("rollback") == 1
        return weights(study)

    assert same(run("cut", cut=True), run("whole", cut=False))


@pytest.mark.parametrize(
    ("part", "options"),
    [
        (TimeBudget, {"minutes": 0}),
        (TimeBudget, {"minutes": math.nan}),
        (DivergenceGuard, {"max_rollbacks": 0}),
        (DivergenceGuard, {"lr_factor": 1.0}),
        (DivergenceGuard, {"max_increase": 0.0}),
    ],
)
def test_settings_are_checked(part: Any, options: Any) -> None:
    with pytest.raises(ConfigError):
        part(**options)
