"""Callbacks that show a run: lines in logs, samples, curves, profiles."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from notelstm import Notes
from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError, MissingExtraError
from notelstm.generation import generate
from notelstm.midi import read_midi
from notelstm.recipes import expressive, with_settings
from notelstm.testing.makers import long_piece
from notelstm.training import (
    Callback,
    JSONLogger,
    Profile,
    Progress,
    Report,
    Samples,
    TensorBoard,
    Trainer,
)
from notelstm.training.progress import progress_on_stderr

Make = Callable[[], Any]
SetClock = Callable[[Callable[[], float]], None]


def undo_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging as in a program that has not set it up; pytest has, before each test."""
    monkeypatch.setattr(logging.getLogger("notelstm"), "propagate", False)


class Ticks(Callback):
    """A clock that moves a second with each step, and with each batch of the validation."""

    def __init__(self, set_clock: SetClock) -> None:
        self.now = 0.0
        set_clock(lambda: self.now)

    def on_step_end(self, trainer: Trainer) -> None:
        self.now += 1.0

    def on_validation_step_end(self, trainer: Trainer) -> None:
        self.now += 1.0


def test_progress_is_logged_now_and_then(
    make: Make, caplog: pytest.LogCaptureFixture, set_clock: SetClock
) -> None:
    study = make()
    n = study.batches.num_batches
    callbacks = [Ticks(set_clock), Progress(seconds=n - 1)]
    with caplog.at_level(logging.INFO):
        study.trainer(callbacks, epochs=2).fit(study.batches)
    assert caplog.messages == [
        f"epoch 1/2, step {n - 1}/{n}: 1 steps/s",
        f"epoch 2/2, step {n - 2}/{n}: 1 steps/s",
    ]


def test_progress_is_logged_every_ten_seconds(
    make: Make,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    set_clock: SetClock,
) -> None:
    study = make()
    clock = Ticks(set_clock)
    times = [0.0]
    monkeypatch.setattr(
        logging.getLogger("notelstm.training.progress"),
        "info",
        lambda *_: times.append(clock.now),
    )
    study.trainer([clock, Progress()], epochs=9).fit(study.batches, study.validation)
    gaps = [later - sooner for sooner, later in itertools.pairwise([*times, clock.now])]
    assert clock.now > 40
    assert max(gaps) <= 10


def test_progress_goes_to_standard_error_by_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, set_clock: SetClock
) -> None:
    undo_logging(monkeypatch)
    small().train(tunes(), callbacks=[Ticks(set_clock)])
    out, shown = capsys.readouterr()
    assert out == ""
    assert "epoch 2/4, step 2/8" in shown
    assert "steps/s" in shown
    assert not logging.getLogger("notelstm.training.progress").handlers


def test_reading_and_encoding_show_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, set_clock: SetClock
) -> None:
    now = [0.0]

    def slowly() -> Iterator[tuple[str, Notes]]:
        for number, notes in enumerate(tunes()):
            now[0] += 11.0
            yield f"{number}.mid", notes

    def encode(self: LogTimeEncoder, notes: Notes) -> Any:
        now[0] += 11.0
        return real(self, notes)

    real = LogTimeEncoder.encode
    monkeypatch.setattr(LogTimeEncoder, "encode", encode)
    set_clock(lambda: now[0])
    undo_logging(monkeypatch)
    small().train(slowly())
    lines = capsys.readouterr().err.splitlines()
    assert "pieces read: 1" in lines
    assert "pieces encoded: 2 of 3" in lines


def test_the_logging_of_the_program_is_unchanged(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO), progress_on_stderr():
        assert not logging.getLogger("notelstm.training.progress").handlers
    with progress_on_stderr(force=True):
        logging.getLogger("notelstm.training.progress").info("forced")
    assert "forced" in capsys.readouterr().err


def test_a_short_run_adds_nothing_to_a_log(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    study = make()
    study.trainer([Progress()], epochs=1).fit(study.batches)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ConfigError, match=r"seconds is -1\.0, below 0"):
        Progress(seconds=-1.0)


@pytest.mark.filterwarnings("error")
def test_a_notebook_without_ipywidgets_has_a_bar(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook: Any = types.ModuleType("IPython")
    notebook.get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ipywidgets" else find(name)
    )
    study = make()
    study.trainer([Progress()], epochs=2).fit(study.batches)
    steps = 2 * study.batches.num_batches
    assert f"{steps}/{steps}" in capsys.readouterr().err


def small() -> Any:
    return with_settings(
        expressive(hidden_size=8),
        {"training": {"epochs": 4}, "sequence_length": 8, "batch_size": 2},
    )


def tunes() -> list[Any]:
    rng = np.random.default_rng(0)
    return [long_piece(rng, count=40, seconds=10) for _ in range(3)]


def test_samples_do_not_change_the_training(tmp_path: Path) -> None:
    recipe, pieces = small(), tunes()
    plain = recipe.train(pieces)
    played = recipe.train(pieces, folder=tmp_path, callbacks=[Samples(every=2, notes=12, seed=3)])
    files = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert files == ["epoch-0002.mid", "epoch-0004.mid"]
    assert generate(plain, 30, seed=1) == generate(played, 30, seed=1)
    heard = read_midi(tmp_path / "samples" / "epoch-0004.mid")
    # The sigmas of point predictions are measured after training; a likelihood has none.
    last = generate(replace(played, sigmas={}), 12, seed=3)
    assert heard.pitch.tolist() == last.pitch.tolist()
    assert len(read_midi(tmp_path / "samples" / "epoch-0002.mid")) == 12


def test_samples_need_a_recipe_and_a_folder(make: Make, tmp_path: Path) -> None:
    study = make()
    with pytest.raises(ConfigError, match=r"samples need a model.*Recipe\.train"):
        study.trainer([Samples()], tmp_path).fit(study.batches)
    with pytest.raises(ConfigError, match="no run folder"):
        small().train(tunes(), callbacks=[Samples()])
    for options in ({"every": 0}, {"notes": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="below"):
            Samples(**options)


def test_a_report_is_there_from_the_start_to_the_end(tmp_path: Path) -> None:
    page, seen = tmp_path / "new" / "page.html", []

    class Reader(Callback):
        def look(self, hook: str) -> None:
            text = page.read_text(encoding="utf-8")
            lead = text.partition('class="lead">')[2].partition(" ")[0]
            seen.append((hook, lead, "so far" in text, text.count("After epoch ")))

        def on_train_start(self, trainer: Trainer) -> None:
            self.look("start")

        def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
            self.look("epoch")

        def on_train_end(self, trainer: Trainer) -> None:
            self.look("end")

    callbacks = [JSONLogger(), Samples(every=2, notes=12), Report(path=str(page)), Reader()]
    small().train(tunes(), folder=tmp_path / "run", callbacks=callbacks)
    assert seen == [
        ("start", "No", False, 0),
        ("epoch", "1", True, 0),
        ("epoch", "2", True, 1),
        ("epoch", "3", True, 1),
        ("epoch", "4", True, 2),
        ("end", "4", False, 2),
    ]
    assert sorted(path.name for path in page.parent.iterdir()) == ["page.html"]


def test_a_report_needs_a_page_and_a_folder_with_a_log(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.html"):
        Report(path=str(tmp_path / "a.txt"))
    report = Report(path=str(tmp_path / "a.html"))
    with pytest.raises(ConfigError, match="no run folder to report on"):
        small().train(tunes(), callbacks=[report])
    with pytest.raises(ConfigError, match=r"no log to read.*JSONLogger"):
        small().train(tunes(), callbacks=[report], folder=tmp_path / "run")


class FakeWriter:
    """What ``SummaryWriter`` is asked to do."""

    made: ClassVar[list[FakeWriter]] = []

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purged, self.closed = folder, purge_step, False
        self.scalars: list[tuple[str, float, int]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, epoch: int) -> None:
        assert not self.closed
        self.scalars.append((name, value, epoch))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_curves_go_to_tensorboard(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter
    monkeypatch.setattr(FakeWriter, "made", [])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    study = make()
    first = study.trainer([TensorBoard()], tmp_path, epochs=1).fit(study.batches)
    study = make()
    second = study.trainer([TensorBoard()], tmp_path, epochs=2).fit(study.batches, resume=True)
    one, two = FakeWriter.made
    assert one.closed
    assert two.closed
    assert (one.purged, two.purged) == (1, 2)
    assert one.folder == two.folder == str(tmp_path / "tensorboard")
    assert one.scalars == [(name, value, 1) for name, value in first.epochs[0].items()]
    assert two.scalars == [(name, value, 2) for name, value in second.epochs[0].items()]
    with pytest.raises(ConfigError, match="no run folder"):
        study.trainer([TensorBoard()]).fit(study.batches)


def test_tensorboard_is_an_extra(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    study = make()
    with pytest.raises(MissingExtraError, match=r"pip install 'notelstm\[tensorboard\]'"):
        study.trainer([TensorBoard()], tmp_path).fit(study.batches)


@pytest.mark.parametrize("steps", [2, 1000])
def test_a_profile_names_the_operations(make: Make, tmp_path: Path, steps: int) -> None:
    study = make()
    part = Profile(after=1, steps=steps)
    study.trainer([part], tmp_path, epochs=1).fit(study.batches)
    text = (tmp_path / "profile.txt").read_text()
    assert text.startswith(f"{min(steps, study.batches.num_batches - 1)} steps\n")
    assert "aten::" in text
    with pytest.raises(ConfigError, match="no run folder"):
        study.trainer([Profile()]).fit(study.batches)
    with pytest.raises(ConfigError, match="steps is 0, below 1"):
        Profile(steps=0)


def test_a_run_without_steps_to_profile_says_so(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = make()
    study.trainer([Profile(after=1000)], tmp_path, epochs=1).fit(study.batches)
    assert not (tmp_path / "profile.txt").exists()
    assert "no profile: no epoch had a step after the first 1000 of the run" in caplog.text
