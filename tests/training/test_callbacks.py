"""The callbacks that come with the library."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from notelstm.errors import ConfigError
from notelstm.training import (
    BestCheckpoint,
    Callback,
    DivergenceGuard,
    EarlyStopping,
    JSONLogger,
    Profile,
    Progress,
    TimeBudget,
    Trainer,
    TrainerState,
)

Make = Callable[[], Any]


class FakeTrainer:
    """A trainer that notes the requests of a callback."""

    def __init__(self, folder: Path | None = None, *, epoch: int = 0) -> None:
        self.state = TrainerState(epoch=epoch, steps=5 * epoch)
        self.folder = folder
        self.metric_names = ("loss", "loss/pitch", "validation")
        self.baselines: dict[str, dict[str, float]] = {}
        self.asked: list[str] = []

    def stop(self, reason: str, *, now: bool = False) -> None:
        self.asked.append(f"stop{' now' * now}: {reason}")

    def save_best(self) -> None:
        self.asked.append("save")

    def load_best(self) -> None:
        self.asked.append("load")


def epochs(callback: Any, values: list[float], run: FakeTrainer, name: str = "validation") -> None:
    for value in values:
        run.state.epoch, run.state.steps = run.state.epoch + 1, run.state.steps + 5
        callback.on_epoch_end(run, {name: value})


@pytest.mark.parametrize(
    ("options", "values", "stops_after"),
    [
        ({"patience": 2}, [3.0, 2.0, 2.0, 2.0], 4),
        ({"patience": 2}, [3.0, 4.0, 2.0, 4.0, 3.0], 5),
        ({"patience": 2}, [3.0, 4.0, 2.0, 4.0, 1.0], None),
        ({"patience": 1, "min_delta": 0.5}, [3.0, 2.4, 2.0], 3),
        ({"patience": 1, "min_delta": 0.5}, [3.0, 2.4, 1.8], None),
    ],
)
def test_early_stopping(options: Any, values: list[float], stops_after: int | None) -> None:
    for cut in range(len(values)):
        # Saved and loaded in the middle, it knows what it knew.
        callback: Any
        run, callback = FakeTrainer(), EarlyStopping(**options)
        epochs(callback, values[:cut], run)
        again = EarlyStopping(**options)
        again.load_state_dict(json.loads(json.dumps(callback.state_dict())))
        epochs(again, values[cut:], run)
        assert bool(run.asked) == (stops_after is not None)
    if stops_after is not None:
        run, callback = FakeTrainer(), EarlyStopping(**options)
        epochs(callback, values[: stops_after - 1], run)
        assert run.asked == []
        epochs(callback, [values[stops_after - 1]], run)
        waited = "1 epoch" if options["patience"] == 1 else f"{options['patience']} epochs"
        assert run.asked == [f"stop: validation has not fallen for {waited}"]


def test_early_stopping_can_monitor_any_metric() -> None:
    run, callback = FakeTrainer(), EarlyStopping(monitor="loss/pitch", patience=1)
    epochs(callback, [1.0, 1.0], run, name="loss/pitch")
    assert len(run.asked) == 1
    with pytest.raises(ConfigError, match="patience is 0, below 1"):
        EarlyStopping(patience=0)


@pytest.mark.parametrize("part", [EarlyStopping, BestCheckpoint])
def test_an_unknown_monitor_is_rejected_before_the_first_step(make: Make, part: Any) -> None:
    study = make()
    with pytest.raises(ConfigError, match=r"'validation'.*Give a validation set.*loss/pitch"):
        study.trainer([part()]).check(validation=False)
    with pytest.raises(ConfigError, match=r"'validation'.*Give a validation set.*loss/pitch"):
        study.trainer([part()]).fit(study.batches)
    study.trainer([part(monitor="loss/pitch")], epochs=1).fit(study.batches)
    study.trainer([part(monitor="validation/pitch")], epochs=1).fit(study.batches, study.validation)


def test_the_best_checkpoint_is_saved_and_loaded() -> None:
    run: Any = FakeTrainer()
    callback = BestCheckpoint()
    epochs(callback, [3.0, 2.0, 2.5, 2.0, 1.0, math.inf], run)
    assert run.asked == ["save"] * 3
    callback.on_train_end(run)
    assert run.asked[-1] == "load"
    again = BestCheckpoint()
    again.load_state_dict(callback.state_dict())
    epochs(again, [1.0], run)
    assert run.asked[-1] == "load"


def test_a_run_ends_with_its_best_model(make: Make) -> None:
    states: list[dict[str, torch.Tensor]] = []

    class Spoils(Callback):
        """Lets the second epoch be the best."""

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            metrics["validation"] = [2.0, 1.0, 3.0][trainer.state.epoch - 1]
            model = study.model.state_dict()
            states.append({name: value.clone() for name, value in model.items()})

    study = make()
    study.trainer([Spoils(), BestCheckpoint()], epochs=3).fit(study.batches, study.validation)
    final = study.model.state_dict()
    assert all(torch.equal(final[name], states[1][name]) for name in final)
    assert not all(torch.equal(final[name], states[2][name]) for name in final)


def test_a_resumed_run_keeps_the_best_checkpoint_of_before(make: Make, tmp_path: Path) -> None:
    class Worse(Callback):
        """Lets each epoch be worse than the one before."""

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            metrics["validation"] = float(trainer.state.epoch)

    def models(folder: str, *epochs: int) -> dict[str, torch.Tensor]:
        for i, n in enumerate(epochs):
            study = make()
            trainer = study.trainer([Worse(), BestCheckpoint()], tmp_path / folder, epochs=n)
            trainer.fit(study.batches, study.validation, resume=i > 0)
        model: dict[str, torch.Tensor] = study.model.state_dict()
        return model

    first, cut = models("first", 1), models("cut", 2, 3)
    assert all(torch.equal(first[name], cut[name]) for name in first)


def test_callbacks_are_reset_in_each_run(make: Make, tmp_path: Path) -> None:
    """A run must not depend on the one before it that had the same callbacks."""
    used: list[Callback] = [
        EarlyStopping(patience=1),
        BestCheckpoint(),
        DivergenceGuard(max_increase=1e9),
        TimeBudget(minutes=60),
        Profile(after=1),
    ]

    class Fakes(Callback):
        """Replaces the losses."""

        def __init__(self, loss: float) -> None:
            self.loss = loss

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            metrics["validation"] = metrics["loss"] = self.loss + trainer.state.epoch

    lengths = []
    for loss in (0.0, 9.0):
        folder = tmp_path / str(loss)
        study = make()
        trainer = study.trainer([Fakes(loss), *used], folder, epochs=4)
        lengths.append(len(trainer.fit(study.batches, study.validation).epochs))
        saved = torch.load(folder / "last.pt", weights_only=True)
        assert dict(saved["callbacks"])["BestCheckpoint"] == {"best": loss + 1}
        assert dict(saved["callbacks"])["DivergenceGuard"]["lowest"] == loss + 1
        assert saved["best"] is not None
        assert (folder / "profile.txt").exists()
    assert lengths == [2, 2]


def test_only_one_callback_keeps_the_best_model(make: Make) -> None:
    study = make()
    callbacks = [BestCheckpoint(monitor="loss"), BestCheckpoint()]
    with pytest.raises(ConfigError, match=r"only one\. Give one BestCheckpoint"):
        study.trainer(callbacks).fit(study.batches, study.validation)


def test_a_log_has_one_line_an_epoch(make: Make, tmp_path: Path) -> None:
    study = make()
    history = study.trainer([JSONLogger()], tmp_path, epochs=3).fit(study.batches, study.validation)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    n = study.batches.num_batches
    assert lines == [
        {"epoch": i + 1, "step": (i + 1) * n, **values} for i, values in enumerate(history.epochs)
    ]
    terms = {f"{kind}/{name}" for kind in ("loss", "validation") for name in study.loss.terms}
    assert terms < lines[0].keys()


def test_the_log_has_the_learning_rate_of_each_epoch(make: Make, tmp_path: Path) -> None:
    study = make()
    trainer = study.trainer([JSONLogger()], tmp_path, epochs=3, schedule="cosine")
    rates = [epoch["learning_rate"] for epoch in trainer.fit(study.batches).epochs]
    n = study.batches.num_batches
    # That of the last step of the epoch.
    assert rates == [trainer.config.rate(n * k - 1, 3 * n, 0.0) for k in (1, 2, 3)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 2 * rates[2]


def test_baselines_are_written_beside_the_log(make: Make, tmp_path: Path) -> None:
    study = make()
    trainer = study.trainer([JSONLogger()], tmp_path, epochs=1)
    trainer.baselines = {"unigram": {"loss": 4.5, "loss/pitch": 2.5}}
    trainer.fit(study.batches)
    stored = json.loads((tmp_path / "baselines.json").read_text(encoding="utf-8"))
    assert stored == trainer.baselines


def test_a_run_without_a_folder_has_no_log(make: Make) -> None:
    study = make()
    trainer = study.trainer([JSONLogger()], epochs=1)
    trainer.baselines = {"unigram": {"loss": 4.5}}
    trainer.fit(study.batches)


@pytest.mark.parametrize(
    "tail",
    ['{"epoch": 3, "lo', '{"epoch": 3}\n{"epoch": 4}\n', "nonsense\n", "[3]\n\n", '"\xe9'],
    ids=["cut off", "done again", "nonsense", "a list", "half a letter"],
)
def test_a_resumed_run_truncates_the_log(tmp_path: Path, tail: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n' + tail.encode("latin-1"))
    callback: Any = JSONLogger()
    run = FakeTrainer(tmp_path, epoch=2)
    callback.on_train_start(run)
    run.state.epoch, run.state.steps = 3, 15
    callback.on_epoch_end(run, {"loss": 1.5})
    assert log.read_text() == (
        '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3, "step": 15, "loss": 1.5}\n'
    )


def test_a_last_line_without_a_newline_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"epoch": 1}\n{"epoch": 2}')
    callback: Any = JSONLogger()
    run = FakeTrainer(tmp_path, epoch=2)
    callback.on_train_start(run)
    run.state.epoch, run.state.steps = 3, 15
    callback.on_epoch_end(run, {})
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2, 3]


def test_progress_counts_steps_and_shows_losses(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make()
    study.trainer([Progress(bar=True)], tmp_path, epochs=2).fit(study.batches, study.validation)
    steps = 2 * study.batches.num_batches
    out, shown = capsys.readouterr()
    assert out == ""
    assert f"{steps}/{steps}" in shown
    assert "epoch 2/2" in shown
    assert "loss=" in shown
    assert "validation=" in shown
    study = make()
    study.trainer([Progress(bar=True)], tmp_path, epochs=3).fit(study.batches, resume=True)
    done = 3 * study.batches.num_batches
    assert f"{done}/{done}" in capsys.readouterr().err
