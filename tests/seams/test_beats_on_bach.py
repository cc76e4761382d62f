"""Beats all the way: chorales in, a model in beats, new music with bars and tempos out."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import notelstm
from notelstm import Ancestral, BeatEncoder, Bundle, Notes
from notelstm.data.bach import BachChorales
from notelstm.models import NoteLSTM
from notelstm.recipes import Recipe
from notelstm.training import TrainingConfig


@pytest.fixture(scope="module")
def chorales() -> list[Notes]:
    return [notes for _, notes in BachChorales().pieces(limit=14)]


@pytest.fixture(scope="module")
def bundle(chorales: list[Notes]) -> Bundle:
    recipe = Recipe(
        name="beats",
        encoder=BeatEncoder(),
        model=functools.partial(NoteLSTM, hidden_size=64, embedding_dim=16),
        sampler=Ancestral(),
        sequence_length=32,
        stateful=True,
        batch_size=4,
        training=TrainingConfig(epochs=8, optimizer="adamw", learning_rate=0.01, max_grad_norm=1.0),
    )
    return recipe.train(chorales[:12])


def test_it_is_saved_loaded_and_scored(
    bundle: Bundle, chorales: list[Notes], tmp_path: Path
) -> None:
    bundle.save(tmp_path / "beats.notelstm")
    loaded = notelstm.load(tmp_path / "beats.notelstm")
    assert loaded.encoder.fields == bundle.encoder.fields
    scores = notelstm.nats_per_note(loaded.generation_model, loaded.encoder, chorales[12:])
    assert scores.pitch_step_duration is not None
    # A guess costs 20.9.
    assert scores.pitch_step_duration < 12


def test_what_it_writes_has_bars_and_a_tempo(bundle: Bundle, tmp_path: Path) -> None:
    music = notelstm.generate(bundle, 100, seed=1)
    assert len(music) == 100
    assert music.tempo_map is not None
    cells = music.tempo_map.beats_at(music.start) * 12
    assert np.allclose(cells, np.rint(cells), atol=1e-6)
    notelstm.write_midi(music, tmp_path / "out.mid")
    back = notelstm.read_midi(tmp_path / "out.mid")
    assert back.tempo_map is not None
    for column in ("time_signature_beats", "numerators", "denominators"):
        wanted = getattr(music.tempo_map, column)
        assert getattr(back.tempo_map, column).tolist() == pytest.approx(wanted.tolist()), column
    assert np.allclose(back.tempo_map.tempos[:1], music.tempo_map.tempos[:1], rtol=1e-4)


def test_it_continues_in_the_bar_of_the_prompt(bundle: Bundle, chorales: list[Notes]) -> None:
    """New notes are encoded as they were sampled, with the bars and positions of the whole."""
    prompt = chorales[12][:41]
    session = notelstm.Session(bundle.generation_model, bundle.encoder, Ancestral(), seed=1)
    session.feed(bundle.encoder.encode(prompt))
    drawn = np.concatenate([session.next() for _ in range(60)])
    music = notelstm.generate(bundle, 60, prompt=prompt, seed=1)
    again = bundle.encoder.encode(music)
    assert np.array_equal(again[1:, :3], drawn[1:, :3])
    assert again[0, 2] == drawn[0, 2]


def test_a_prompt_without_beats_is_an_error(bundle: Bundle) -> None:
    bare = Notes(start=[0, 1], end=[1, 2], pitch=60)
    with pytest.raises(notelstm.NotelstmError, match="no tempo map"):
        notelstm.generate(bundle, 5, prompt=bare)
    with_one = replace(bare, tempo_map=notelstm.TempoMap())
    assert len(notelstm.generate(bundle, 5, prompt=with_one)) == 5
