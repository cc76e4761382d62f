"""The pieces that a recipe trains on: any form, few or many, read only when all else is right."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import notelstm
from notelstm import Notes
from notelstm.data import Corpus, Folder
from notelstm.errors import ConfigError, DataError, FieldError
from notelstm.losses import CompositeLoss, Likelihood
from notelstm.midi import write_midi
from notelstm.recipes import Recipe, expressive, reference, with_settings
from notelstm.testing.makers import long_piece
from notelstm.training import (
    BestCheckpoint,
    Callback,
    DistributedGroup,
    EarlyStopping,
    JSONLogger,
    Profile,
    Samples,
    TimeBudget,
    Trainer,
)


def tunes(count: int = 3, notes: int = 40) -> list[Notes]:
    rng = np.random.default_rng(0)
    return [long_piece(rng, count=notes, seconds=notes / 4) for _ in range(count)]


def small(**training: Any) -> Recipe:
    settings = {
        "training": {"epochs": 1, "device": "cpu", **training},
        "sequence_length": 8,
        "batch_size": 2,
    }
    return with_settings(expressive(hidden_size=8), settings)


def weights(bundle: notelstm.Bundle) -> torch.Tensor:
    assert isinstance(bundle.model, torch.nn.Module)
    return torch.cat([tensor.flatten() for tensor in bundle.model.state_dict().values()])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("midi")
    for number, notes in enumerate(tunes()):
        write_midi(notes, place / f"{number}.mid")
    return place


FORMS: dict[str, Callable[[Path], Any]] = {
    "pairs of a folder": lambda folder: Folder(path=folder).pieces(),
    "corpus": Corpus.open,
    "pairs of a corpus": lambda folder: Corpus.open(folder).pieces(),
    "list": lambda folder: [notes for _, notes in Folder(path=folder).pieces()],
    "tuple of pairs": lambda folder: tuple(Folder(path=folder).pieces()),
    "generator": lambda folder: (notes for _, notes in Folder(path=folder).pieces()),
    "iterator": lambda folder: iter([notes for _, notes in Folder(path=folder).pieces()]),
}


@pytest.mark.parametrize("form", FORMS)
def test_pieces_come_in_any_form(form: str, folder: Path) -> None:
    wanted = small().train(FORMS["list"](folder), validation=FORMS["list"](folder))
    got = small().train(FORMS[form](folder), validation=FORMS[form](folder))
    assert got.data == wanted.data
    assert got.data.pieces == 3
    assert torch.equal(weights(got), weights(wanted))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there are no pieces to train on"),
        (iter([]), "there are no pieces to train on"),
        (Notes.empty(), "is one piece, not several"),
        (
            Folder(path="anywhere"),
            r"Folder is not a collection of pieces.*Folder\(\.\.\.\)\.pieces",
        ),
        ("pop", r"'pop' is a path, not pieces. Give Corpus\.open"),
        (Path("pop"), r"is a path, not pieces"),
        (3, "int is not a collection of pieces"),
        (["a.mid", "b.mid"], "piece 0 is str, not Notes"),
        ([*tunes(2), None], "piece 2 is NoneType, not Notes"),
        ({"a.mid": tunes(1)[0]}, "piece 0 is str, not Notes"),
    ],
)
def test_other_arguments_are_rejected(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        small().train(given)


def never() -> Iterator[Notes]:
    pytest.fail("pieces were read")
    yield Notes.empty()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": ["progress"]}, "'progress' is not a callback"),
        ({"callbacks": [EarlyStopping]}, "is not a callback"),
        ({"callbacks": [EarlyStopping()]}, "no metric 'validation' to monitor"),
        ({"callbacks": [BestCheckpoint(monitor="loss/nothing")]}, "no metric 'loss/nothing'"),
        ({"callbacks": [Samples()]}, "no run folder"),
        ({"callbacks": [Profile()]}, "no run folder"),
    ],
)
def test_callbacks_are_checked_before_pieces_are_read(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        small().train(never(), **options)


def test_settings_are_checked_before_pieces_are_read(folder: Path) -> None:
    recipe = small()
    for settings in ({"model": {"hidden_size": 0}}, {"training": {"device": "nonsense"}}):
        with pytest.raises(ConfigError):
            with_settings(recipe, settings).train(never())
    loss = CompositeLoss(terms={"nothing": (Likelihood(), 1.0)})
    with pytest.raises(FieldError, match="nothing"):
        Recipe.from_dict(recipe.to_dict(), loss=loss).train(never())
    other = with_settings(recipe, {"model": {"hidden_size": 9}}).train(tunes())
    with pytest.raises(ConfigError, match="another model than the bundle has"):
        recipe.train(never(), init_from=other)
    with pytest.raises(ConfigError, match="the run has no end"):
        with_settings(recipe, {"training": {"epochs": "none"}}).train(never())
    for name, value in (
        ("batch_size", 0),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("sequence_length", -1),
    ):
        with pytest.raises(ConfigError, match=f"{name} is"):
            Recipe(**{**_fields(recipe), name: value})
    recipe.check(callbacks=[EarlyStopping()], validation=True)


def _fields(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}


@pytest.mark.parametrize("count", [1, 4, 20])
def test_few_pieces_are_trained_on_with_smaller_batches(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    pieces = tunes(count, notes=300)
    recipe = expressive(hidden_size=8)
    rows = recipe.encode(pieces)
    with caplog.at_level(logging.WARNING):
        batches = recipe.batches(rows)
    [message] = caplog.messages
    size = next(iter(batches.epoch(0))).rows.shape[0]
    assert size < 64
    assert f"training with batch {size} (steps per epoch: {batches.num_batches})" in message
    assert batches.num_batches >= 50 or size == 1
    if size > 1:
        twice = with_settings(recipe, {"batch_size": 2 * size})
        assert twice.batches(rows).num_batches < 50, "no smaller than it has to be"


def test_many_pieces_keep_the_batch_size(caplog: pytest.LogCaptureFixture) -> None:
    recipe = with_settings(expressive(hidden_size=8), {"batch_size": 2, "min_steps_per_epoch": 50})
    batches = recipe.batches(recipe.encode(tunes(20, notes=400)))
    assert batches.num_batches >= 50
    assert next(iter(batches.epoch(0))).rows.shape[0] == 2
    assert not caplog.messages


def test_an_explicit_batch_size_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    pieces = tunes(4, notes=100)
    for recipe in (with_settings(expressive(hidden_size=8), {"batch_size": 64}), reference()):
        rows = recipe.encode(pieces)
        assert next(iter(recipe.batches(rows).epoch(0))).rows.shape[0] == 64
    assert not caplog.messages


def test_accumulated_batches_count_as_one_step() -> None:
    recipe = with_settings(
        expressive(hidden_size=8),
        {"training": {"accumulate_grad_batches": 4}, "sequence_length": 8},
    )
    batches = recipe.batches(recipe.encode(tunes(8, notes=600)))
    assert batches.num_batches >= 4 * 49


def test_four_files_lower_the_loss() -> None:
    """In as many epochs, the smaller batch brings the loss down further."""
    pieces = tunes(4, notes=100)
    losses = Losses(), Losses()
    for recipe, seen in zip(
        (
            expressive(hidden_size=16, epochs=3),
            with_settings(expressive(hidden_size=16, epochs=3), BIG),
        ),
        losses,
        strict=True,
    ):
        recipe.train(pieces, callbacks=[seen])
    assert losses[0].seen[-1] < losses[1].seen[-1] - 1.0


BIG = {"batch_size": 64}


class Losses(Callback):
    """The loss of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self.seen.append(metrics["loss"])


class CtrlC(Callback):
    """Presses Ctrl-C after a step."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.state.steps == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def _interrupts() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_ctrl_c_leaves_a_complete_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "run"
    recipe = small(epochs=3)
    steps = recipe.batches(recipe.encode(tunes())).num_batches
    with pytest.raises(KeyboardInterrupt):
        recipe.train(tunes(), folder=place, callbacks=[CtrlC(steps + 1)])
    path = place / "interrupted.notelstm"
    assert f"the model so far is in {path}" in caplog.text
    bundle = notelstm.load(path)
    assert len(notelstm.generate(bundle, 9, seed=1)) == 9
    assert bundle.data.pieces == 3
    assert Recipe.from_dict(bundle.settings) == recipe
    saved = torch.load(place / "last.pt", weights_only=True)["model"]
    assert torch.equal(weights(bundle), torch.cat([t.flatten() for t in saved.values()]))
    # The run goes on all the same, and leaves nothing of it.
    whole = small(epochs=3).train(tunes())
    again = recipe.train(tunes(), folder=place, resume=True)
    assert torch.equal(weights(again), weights(whole))
    assert not path.exists()


@pytest.mark.usefixtures("_interrupts")
def test_with_a_validation_set_it_is_the_best_model(tmp_path: Path) -> None:
    recipe = small(epochs=3)
    steps = recipe.batches(recipe.encode(tunes())).num_batches
    with pytest.raises(KeyboardInterrupt):
        recipe.train(
            tunes(),
            validation=tunes(),
            folder=tmp_path,
            callbacks=[BestCheckpoint(), CtrlC(steps + 1)],
        )
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    bundle = notelstm.load(tmp_path / "interrupted.notelstm")
    assert torch.equal(weights(bundle), torch.cat([t.flatten() for t in best.values()]))


@pytest.mark.usefixtures("_interrupts")
def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        small().train(tunes(), folder=tmp_path, callbacks=[CtrlC(1, times=2)])
    assert not (tmp_path / "interrupted.notelstm").exists()


def test_a_time_budget_ends_the_run() -> None:
    recipe = with_settings(small(), {"training": {"epochs": "none"}})
    recipe.train(tunes(), callbacks=[TimeBudget(minutes=0.2 / 60), JSONLogger()])
    assert DistributedGroup().is_main_process
