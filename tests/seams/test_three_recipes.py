"""Three recipes that share nothing but the seams: trained, saved, loaded, played and scored alike.

The reference has windows, one target in each, point times and a classifier of its own; the
expressive one has four chained classes a note, every position and a state that is carried; the
event one has a single field, several rows a note and a grammar. Trainer, bundle, note loop, writer
and scorer are the same for all, and none of them knows which it has.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import notelstm
from notelstm import Ancestral, Bundle, Notes, PerformanceEventEncoder
from notelstm.data.bach import BachChorales
from notelstm.models import NoteLSTM
from notelstm.recipes import Recipe, expressive, reference, with_settings
from notelstm.testing import without_overlaps
from notelstm.training import TrainingConfig

UNIFORM = {"pitch": math.log(128), "step": math.log(3001), "duration": math.log(3000)}
"""Nats per note of a guess that knows nothing: 20.9 for pitch, step and duration."""


def events(hidden: int = 128) -> Recipe:
    """An event model: one field, several rows a note."""
    return Recipe(
        name="events",
        encoder=PerformanceEventEncoder(),
        model=functools.partial(NoteLSTM, hidden_size=hidden, embedding_dim=64),
        sampler=Ancestral(),
        sequence_length=64,
        stateful=True,
        batch_size=16,
        training=TrainingConfig(optimizer="adamw", learning_rate=0.003, max_grad_norm=1.0),
    )


RECIPES = {
    "reference": reference(),
    "expressive": expressive(hidden_size=128, memory_window=256),
    "events": events(),
}


def guess(bundle: Bundle, pieces: list[Notes]) -> float:
    """Nats per note of a uniform guess, of what the model is measured by."""
    if "event" not in {field.role for field in bundle.encoder.fields}:
        return sum(UNIFORM.values())
    rows = sum(len(bundle.encoder.encode(piece)) for piece in pieces)
    return math.log(388) * rows / sum(map(len, pieces))


def check_played(bundle: Bundle, prompt: Notes, path: Path) -> None:
    """Music comes out, alone and after a prompt, and a MIDI file gives it back."""
    for start in (None, prompt):
        music = notelstm.generate(bundle, 64, prompt=start, seed=3)
        assert len(music) == 64
        assert music.start[0] >= 0
        held = without_overlaps(music, shortest=0.002).by_pitch()
        notelstm.write_midi(held, path)
        back = notelstm.read_midi(path)
        assert np.array_equal(back.pitch, held.pitch)
        assert np.array_equal(back.velocity, held.velocity)
        assert np.abs(back.start - held.start).max() < 1e-3
        assert np.abs(back.end - held.end).max() < 1e-3


def way_through(recipe: Recipe, train: list[Notes], held_out: list[Notes], folder: Path) -> float:
    """Train, save, load, play and score; the nats per note of the loaded model."""
    bundle = recipe.train(train, folder=folder / "run")
    path = folder / "model.notelstm"
    bundle.save(path)
    loaded = notelstm.load(path)
    assert loaded.encoder.fields == recipe.encoder.fields
    assert loaded.data.pieces == len(train)
    one = notelstm.generate(bundle, 20, seed=5)
    assert notelstm.generate(loaded, 20, seed=5) == one
    check_played(loaded, held_out[0][:40], folder / "out.mid")

    scores = notelstm.nats_per_note(
        loaded.generation_model, loaded.encoder, held_out, sigmas=loaded.sigmas
    )
    # An event encoder plays notes of one pitch and moment as one.
    assert scores.notes == pytest.approx(sum(len(p) - 25 for p in held_out), rel=0.01)
    nats = scores.pitch_step_duration if scores.pitch_step_duration is not None else scores.total
    assert nats is not None
    assert 0 < nats < guess(loaded, held_out)
    return nats


@pytest.fixture(scope="module")
def chorales() -> list[Notes]:
    """The first 108 chorales; the last eight are not trained on."""
    return [notes for _, notes in BachChorales().pieces(limit=108)]


@pytest.mark.parametrize("name", RECIPES)
def test_the_way_through_in_a_second(name: str, chorales: list[Notes], tmp_path: Path) -> None:
    small: dict[str, Any] = {"model": {"hidden_size": 32}, "training": {"epochs": 1}}
    if RECIPES[name].stateful:
        small |= {"training": {"epochs": 6}, "batch_size": 4, "sequence_length": 32}
    recipe = with_settings(RECIPES[name], small)
    way_through(recipe, chorales[:4], chorales[-2:], tmp_path)


LEARNT = {"reference": (50, 4, 13.0), "expressive": (100, 8, 8.0), "events": (100, 6, 11.0)}
"""Chorales, epochs, and the nats per note that must be reached with them."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RECIPES)
def test_trained_on_bach(name: str, chorales: list[Notes], tmp_path: Path) -> None:
    pieces, epochs, reached = LEARNT[name]
    # A hundred chorales would be six batches of the expressive recipe's.
    few = {"batch_size": 16} if RECIPES[name].stateful else {}
    recipe = with_settings(RECIPES[name], {"training": {"epochs": epochs}, **few})
    nats = way_through(recipe, chorales[:pieces], chorales[-8:], tmp_path)
    print(f"{name}: {nats:.3f} nats per note")
    assert nats < reached


def performances(folder: Path, count: int) -> list[Notes]:
    """The first 1,500 notes of some pieces."""
    paths = sorted(folder.glob("*/*.midi"))[:: 1200 // count][:count]
    return [notelstm.read_midi(path)[:1500] for path in paths]


@pytest.mark.slow
@pytest.mark.maestro
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    "NOTELSTM_MAESTRO" not in os.environ, reason="NOTELSTM_MAESTRO does not name a folder"
)
@pytest.mark.parametrize("name", RECIPES)
def test_trained_on_performances(name: str, tmp_path: Path) -> None:
    pieces = performances(Path(os.environ["NOTELSTM_MAESTRO"]), 18)
    epochs = {"reference": 1, "expressive": 5, "events": 4}[name]
    recipe = with_settings(RECIPES[name], {"training": {"epochs": epochs}})
    nats = way_through(recipe, pieces[:16], pieces[16:], tmp_path)
    print(f"{name}: {nats:.3f} nats per note")
    assert nats < {"reference": 15.0, "expressive": 12.5, "events": 17.0}[name]
