"""Train, save, load by name, generate, write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from notelstm_intervals import BestOfTwo, IntervalEncoder, intervals

import notelstm
from notelstm import Notes
from notelstm.recipes import with_settings


def scale(count: int) -> Notes:
    """A scale up and down, louder upwards."""
    degree = np.abs(np.arange(count) % 14 - 7)
    start = 0.25 * np.arange(count)
    return Notes(start=start, end=start + 0.2, pitch=60 + 2 * degree, velocity=50 + 10 * degree)


def test_trained_saved_loaded_generated(tmp_path: Path) -> None:
    recipe = with_settings(
        intervals(hidden_size=32),
        {"sequence_length": 16, "batch_size": 4, "training": {"epochs": 20}},
    )
    recipe.train([scale(200), scale(150)]).save(tmp_path / "model.notelstm")
    bundle = notelstm.load(tmp_path / "model.notelstm")
    assert isinstance(bundle.encoder, IntervalEncoder)
    assert isinstance(bundle.sampler, BestOfTwo)

    music = notelstm.generate(bundle, 60, prompt=scale(30), seed=1)
    assert len(music) == 60
    leaps = np.abs(np.diff(music.pitch))
    assert leaps.max() <= 12
    # It has learned that the scale has steps of a whole tone.
    assert float(np.mean(leaps == 2)) > 0.8
    notelstm.write_midi(music, tmp_path / "out.mid")
    assert len(notelstm.read_midi(tmp_path / "out.mid")) > 50
