"""Training pieces of which some notes are given: the mixture, the recipe, and fine-tuning."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import notelstm
from notelstm import plugins
from notelstm.bundle import load
from notelstm.data import GivenMixture, TimeStretch, Transpose
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.errors import ConfigError
from notelstm.evaluation import nats_per_note
from notelstm.fields import written_rows
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.recipes import Recipe, chorales, expressive, load_recipe, with_settings
from notelstm.recipes.pieces import rows_of
from notelstm.testing import long_piece, strategies
from notelstm.training import Callback, TrainingConfig

ENCODER = AnticipatingEncoder(inner=LogTimeEncoder(exact=True, linear=1.0), seconds=1.0)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points of this version, whatever version is installed."""
    own: dict[str, dict[str, Any]] = {
        "encoders": {"anticipating": AnticipatingEncoder},
        "recipes": {"chorales": chorales},
    }
    before = plugins._scan

    class Point:
        def __init__(self, name: str, part: Any) -> None:
            self.name, self.attr, self.module = name, part.__name__, part.__module__
            self.value, self._part = f"{self.module}:{self.attr}", part

        def load(self) -> Any:
            return self._part

    def scan(kind: str, path: Any) -> tuple[plugins.Plugin, ...]:
        found = [p for p in before(kind, path) if p.name not in own.get(kind, {})]
        for name, part in own.get(kind, {}).items():
            point: Any = Point(name, part)
            found.append(
                plugins.Plugin(
                    kind=kind, name=name, distribution="notelstm", version="0", entry_point=point
                )
            )
        return tuple(sorted(found, key=lambda p: (p.name, p.distribution)))

    monkeypatch.setattr(plugins, "_scan", scan)


def kinds(**weights: Any) -> GivenMixture:
    none: dict[str, Any] = dict.fromkeys(("nothing", "spans", "parts", "notes"), 0.0)
    return GivenMixture(**{**none, **weights})


@given(strategies.notes(min_notes=1, max_notes=40, longest_rest=6.0), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_each_kind_gives_what_it_promises(piece: Notes, seed: int) -> None:
    part = np.arange(len(piece)) % 3
    rng = np.random.default_rng(seed)
    assert not kinds(nothing=1).choose(piece, part, rng).any()
    some = kinds(parts=1).choose(piece, part, rng)
    chosen = {k: set(some[part == k].tolist()) for k in set(part.tolist())}
    assert all(len(values) == 1 for values in chosen.values())
    if len(chosen) > 1:
        assert some.any()
        assert not some.all()
    alone = np.zeros(len(piece), dtype=np.int64)
    for mixture in (kinds(spans=1), kinds(parts=1)):
        spans = mixture.choose(piece, alone, rng)
        # Notes that begin together are given together.
        for onset in set(piece.start.tolist()):
            assert len(set(spans[piece.start == onset].tolist())) == 1


def test_spans_have_the_lengths_of_the_settings() -> None:
    start = np.arange(20_000) / 10
    piece = Notes(start=start, end=start + 1, pitch=60)
    mixture = GivenMixture(nothing=0, spans=1, parts=0, notes=0, gap=(2.0, 4.0), span=(5.0, 6.0))
    given = mixture.choose(piece, np.zeros(len(piece), int), np.random.default_rng(3))
    borders = piece.start[1:][np.diff(given)]
    lengths = np.diff(borders)
    after = given[1:][np.diff(given)][:-1]
    for is_given, low, high in ((False, 2.0, 4.0), (True, 5.0, 6.0)):
        found = lengths[after == is_given]
        assert len(found) > 50
        assert found.min() > low - 0.5
        assert found.max() < high + 0.5
    assert 0.25 < given.mean() < 0.9
    shares = [
        kinds(notes=1).choose(piece, np.zeros(len(piece), int), np.random.default_rng(k)).mean()
        for k in range(40)
    ]
    assert min(shares) < 0.2
    assert max(shares) > 0.8


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"nothing": -1.0}, "no weights"),
        ({"nothing": 0.0, "spans": 0.0, "parts": 0.0, "notes": 0.0}, "no weights"),
        ({"gap": (0.0, 1.0)}, "the gap"),
        ({"span": (3.0, 1.0)}, "the span"),
        ({"variants": 0}, "below 1"),
        ({"variants": 1.5}, "not a whole number"),
    ],
)
def test_other_mixtures_are_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        GivenMixture(**wrong)


def test_copies_are_the_same_each_time_and_differ_from_each_other() -> None:
    pieces = [long_piece(np.random.default_rng(k), count=60, seconds=20) for k in range(3)]
    mixture = GivenMixture(variants=3)
    rows = rows_of(pieces, ENCODER, None, given=mixture, seed=1)
    assert len(rows) == 9
    again = rows_of(pieces, ENCODER, None, given=mixture, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(rows, again, strict=True))
    other = rows_of(pieces, ENCODER, None, given=mixture, seed=2)
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(rows, other, strict=True))
    # A piece is marked in the same way whatever pieces follow it.
    alone = rows_of(pieces[:1], ENCODER, None, given=mixture, seed=1)
    assert all(np.array_equal(rows[3 * v], alone[v]) for v in range(3))
    for k, table in enumerate(rows):
        assert np.array_equal(
            np.sort(ENCODER.decode(table).pitch), np.sort(ENCODER.snapped(pieces[k % 3]).pitch)
        )
    assert any((~written_rows(table, ENCODER.fields)).any() for table in rows)


def small(**changes: Any) -> Recipe:
    recipe = replace(
        expressive(hidden_size=16, memory_window=0),
        encoder=ENCODER,
        given=GivenMixture(variants=2, gap=(1.0, 3.0), span=(1.0, 3.0)),
        model=functools.partial(
            NoteLSTM,
            field_order=("step", "pitch", "velocity", "duration"),
            hidden_size=16,
            embedding_dim=4,
            sounding_features=True,
        ),
        sequence_length=16,
        batch_size=2,
        min_steps_per_epoch=0,
        transforms=(Transpose(), TimeStretch()),
        training=TrainingConfig(epochs=1, learning_rate=0.003, device="cpu", checkpoint_every=1),
    )
    return replace(recipe, **changes)


def pieces_of(count: int = 3, notes: int = 80) -> list[Notes]:
    return [long_piece(np.random.default_rng(k), count=notes, seconds=30) for k in range(count)]


@pytest.mark.parametrize("make", [small, chorales], ids=["small", "chorales"])
def test_recipes_round_trip(make: Any) -> None:
    recipe = make()
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict(replace(recipe, given=None).to_dict()).given is None


def test_settings_reach_the_wrapped_encoder_and_the_mixture() -> None:
    recipe = with_settings(
        load_recipe("chorales", {"options": {"hidden_size": 8}}),
        {
            "encoder": {"seconds": 2.5, "inner": {"linear": 2.5}},
            "given": {"gap": [1.0, 2.0], "variants": 2},
        },
    )
    encoder: Any = recipe.encoder
    assert (encoder.seconds, encoder.inner.linear) == (2.5, 2.5)
    assert encoder.inner.cell == chorales().encoder.inner.cell  # type: ignore[attr-defined]
    assert recipe.given is not None
    assert (recipe.given.gap, recipe.given.variants) == ((1.0, 2.0), 2)
    none = with_settings(recipe, {"given": "none"})
    assert none.given is None
    assert with_settings(none, {"given": {"variants": 3}}).given == GivenMixture(variants=3)
    wrapped = with_settings(
        expressive(),
        {"encoder": {"name": "anticipating", "inner": {"name": "log-time", "exact": True}}},
    )
    assert wrapped.encoder == AnticipatingEncoder(inner=LogTimeEncoder(exact=True))
    for settings_tree, problem in (
        ({"encoder": {"inner": {"sell": 1}}}, "unknown setting 'encoder.inner.sell'"),
        ({"encoder": {"name": "anticipating", "inner": {"cell": 1}}}, "no encoder.inner to change"),
        ({"given": {"gap": 1}}, "given.gap is 1"),
        ({"given": {"gaps": 1}}, "unknown setting 'given.gaps'"),
    ):
        with pytest.raises(ConfigError, match=problem):
            with_settings(chorales(), settings_tree)
    with pytest.raises(ConfigError, match="given notes with an encoder without them"):
        replace(expressive(), given=GivenMixture())


def test_the_parts_of_a_wrapped_encoder_are_fitted() -> None:
    recipe = small(parts="track", encoder=ENCODER)
    band = replace(pieces_of(1)[0], track=np.arange(80) % 2)
    fitted = recipe.fitted([band])
    encoder: Any = fitted.encoder
    assert len(encoder.inner.parts.parts) == 2
    assert encoder.seconds == ENCODER.seconds


def test_other_parts_replace_the_four_voices() -> None:
    band = Notes(start=[0, 0], end=1, pitch=[60, 36], program=[0, 33])
    assert chorales().fitted([band]) == chorales()
    for recipe in (chorales().by_parts("family"), with_settings(chorales(), {"parts": "family"})):
        encoder: Any = recipe.fitted([band]).encoder
        assert [part.name for part in encoder.parts.parts] == ["Piano", "Bass"]
        assert encoder.seconds == 5.0


class StopAfter(Callback):
    """Ends a run after some steps, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, trainer: Any) -> None:
        if trainer.state.steps == self.steps:
            trainer._receive_signal()


def test_a_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    recipe, pieces = small(), pieces_of()
    whole = recipe.train(pieces, validation=pieces[:1], folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        recipe.train(
            pieces, validation=pieces[:1], folder=tmp_path / "cut", callbacks=[StopAfter(3)]
        )
    cut = recipe.train(pieces, validation=pieces[:1], folder=tmp_path / "cut", resume=True)
    weights: Any = (whole.model, cut.model)
    one, other = (model.state_dict() for model in weights)
    assert all((one[name] == other[name]).all() for name in one)
    assert whole.data.pieces == 3
    assert whole.data.notes == 240


def test_a_plain_model_is_fine_tuned_and_saved(tmp_path: Path) -> None:
    pieces = pieces_of()
    plain = small(encoder=ENCODER.inner, given=None).train(pieces)
    wide = replace(plain.recipe(epochs=1), encoder=ENCODER, given=GivenMixture(variants=2))
    untrained = wide._prepared((), None, plain)[1]
    before = nats_per_note(plain.generation_model, plain.encoder, pieces)
    same = nats_per_note(untrained.generation_model, ENCODER, pieces)
    one, other = before.of("total"), same.of("total")
    assert one is not None
    assert other is not None
    # Classes of steps longer than a rest are excluded, which an untrained model predicts often.
    assert 0 < one - other < 0.5
    tuned = wide.train(pieces, init_from=plain)
    tuned.save(tmp_path / "tuned.notelstm")
    again = load(tmp_path / "tuned.notelstm")
    assert again.encoder == ENCODER
    assert notelstm.generate(again, num_notes=30) == notelstm.generate(tuned, num_notes=30)
    assert again.recipe(epochs=1).given == GivenMixture(variants=2)
