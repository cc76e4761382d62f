"""The strategies make what they promise, shown on the strategies themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from notelstm.fields import Field, Rows
from notelstm.notes import Notes, TempoMap
from notelstm.testing import strategies
from notelstm.testing.makers import long_piece, random_rows, without_overlaps

T = TypeVar("T")

KINDS: dict[str, Callable[[Notes], bool]] = {
    "none": lambda n: len(n) == 0,
    "one note": lambda n: len(n) == 1,
    "a tie": lambda n: bool(np.any(np.diff(n.start) == 0)),
    "a tie whose pitch falls": lambda n: bool(
        np.any((np.diff(n.start) == 0) & (np.diff(n.pitch) < 0))
    ),
    "a chord of three": lambda n: bool(np.any(n.start[2:] == n.start[:-2])),
    "a repeated pitch": lambda n: bool(np.any(np.diff(n.pitch) == 0)),
    "a pitch twice at once": lambda n: bool(np.any((n.step[1:] == 0) & (np.diff(n.pitch) == 0))),
    "an overlap of one pitch": lambda n: (
        len(without_overlaps(n)) < len(n) or not np.array_equal(without_overlaps(n).end, n.end)
    ),
    "a long rest": lambda n: bool(np.any(n.step > 30)),
    "a late first note": lambda n: len(n) > 0 and n.start[0] > 1,
    "a first note at 0": lambda n: len(n) > 1 and n.start[0] == 0,
    "pitch 0": lambda n: bool(np.any(n.pitch == 0)),
    "pitch 127": lambda n: bool(np.any(n.pitch == 127)),
    "a very short note": lambda n: bool(np.any(n.duration < 0.002)),
    "a very long note": lambda n: bool(np.any(n.duration > 50)),
    "velocity 1": lambda n: bool(np.any(n.velocity == 1)),
    "velocity 127": lambda n: bool(np.any(n.velocity == 127)),
    "times off any grid": lambda n: bool(np.any((n.start * 1000) % 1 > 0.1)),
    "many notes": lambda n: len(n) > 15,
}


def tempos_change(beats: TempoMap) -> NDArray[np.float64]:
    """The seconds at which another tempo begins."""
    return np.asarray(beats.seconds[1:][np.diff(beats.tempos) != 0])


def off_quarters(piece: Notes, beats: TempoMap) -> NDArray[np.float64]:
    """(N,) how far each onset is from a quarter of a beat, in beats."""
    at = beats.beats_at(piece.start) * 4
    return np.asarray(np.abs(at - np.rint(at)) / 4)


def time_signatures_change_by(beats: TempoMap) -> NDArray[np.float64]:
    """Bars from each time signature to another that follows it."""
    changes = np.diff(beats.numerators / beats.denominators + beats.numerators) != 0
    bars = (
        np.diff(beats.time_signature_beats) * beats.denominators[:-1] / (4 * beats.numerators[:-1])
    )
    return np.asarray(bars[changes])


def mapped(holds: Callable[[Notes, TempoMap], object]) -> Callable[[Notes], bool]:
    """A kind of piece that has notes and a beat map."""
    return lambda n: n.tempo_map is not None and len(n) > 0 and bool(holds(n, n.tempo_map))


BEATS: dict[str, Callable[[Notes], bool]] = {
    "one tempo": mapped(lambda n, b: b.tempos.size == 1),
    "a tempo change on an onset": mapped(lambda n, b: np.isin(n.start, tempos_change(b)).any()),
    "a tempo change between onsets": mapped(
        lambda n, b: any(
            n.start[0] < at < n.start[-1] and at not in n.start for at in tempos_change(b)
        )
    ),
    "a tempo change within a note": mapped(
        lambda n, b: any(((n.start < at) & (at < n.end)).any() for at in tempos_change(b))
    ),
    "no time signature": mapped(lambda n, b: b.time_signature_beats.size == 0),
    "a time signature change at a bar line": mapped(
        lambda n, b: (np.abs(time_signatures_change_by(b) % 1) < 1e-9).any()
    ),
    "a time signature change within a bar": mapped(
        lambda n, b: (time_signatures_change_by(b) % 1 > 0.01).any()
    ),
    "a time signature change between onsets": mapped(
        lambda n, b: (
            (b.time_signature_beats[1:] > b.beats_at(n.start[0]))
            & (b.time_signature_beats[1:] < b.beats_at(n.start[-1]))
        ).any()
    ),
    "a time signature stated again": mapped(
        lambda n, b: ((np.diff(b.numerators) == 0) & (np.diff(b.denominators) == 0)).any()
    ),
    "a pick-up": mapped(
        lambda n, b: (
            b.time_signature_beats.size > 0 and b.beats_at(n.start[0]) < b.time_signature_beats[0]
        )
    ),
    "onsets on the beat": mapped(
        lambda n, b: np.unique(n.start).size > 2 and not (off_quarters(n, b) > 1e-6).any()
    ),
    "onsets off any grid": mapped(lambda n, b: (off_quarters(n, b) > 0.01).any()),
}
GENERATE = settings(phases=[Phase.generate], derandomize=True, database=None)


class _AllSeenError(Exception):
    """Every kind has turned up: no more examples are needed."""


def seen(
    strategy: SearchStrategy[T], kinds: Mapping[str, Callable[[T], bool]], examples: int = 400
) -> set[str]:
    """The kinds that turn up among the first examples of a strategy."""
    found: set[str] = set()

    @settings(GENERATE, max_examples=examples)
    @given(strategy)
    def look(value: T) -> None:
        found.update(kind for kind, holds in kinds.items() if holds(value))
        if len(found) == len(kinds):
            raise _AllSeenError

    with contextlib.suppress(_AllSeenError):
        look()
    return found


def test_notes_are_of_every_kind() -> None:
    assert seen(strategies.notes(), KINDS) == set(KINDS)


def test_notes_with_beats_are_of_every_kind() -> None:
    beaten = strategies.notes(longest_rest=4.0, beats=strategies.beat_maps())
    # A note begins exactly at a change of tempo in one of some hundred examples, in clusters.
    assert seen(beaten, BEATS, examples=4000) == set(BEATS)
    assert seen(strategies.notes(), BEATS) == set()
    waltz = strategies.beat_maps(tempos=(50, 50), time_signatures=[(3, 4)])
    other = mapped(lambda n, b: (b.tempos != 50).any() or (b.numerators != 3).any())
    assert seen(strategies.notes(beats=waltz), {"other": other, **BEATS}) == {
        "one tempo",
        "no time signature",
        "a time signature change between onsets",
        "a time signature stated again",
        "a pick-up",
        "onsets off any grid",
        "onsets on the beat",
    }


def test_a_narrow_strategy_lacks_what_it_excludes() -> None:
    narrow = strategies.notes(min_notes=2, overlaps=False, longest_rest=1.0, pitches=(1, 126))
    missing = {"none", "one note", "a pitch twice at once", "an overlap of one pitch"}
    missing |= {"a long rest", "pitch 0", "pitch 127", "a late first note"}
    assert set(KINDS) - seen(narrow, KINDS) == missing


@given(
    strategies.notes(
        min_notes=1,
        max_notes=12,
        longest_rest=3.0,
        max_seconds=8.0,
        durations=(0.05, 2.0),
        pitches=(40, 50),
        velocities=(10, 20),
        overlaps=False,
    )
)
def test_notes_keep_to_the_knobs(piece: Notes) -> None:
    assert 1 <= len(piece) <= 12
    assert piece.start.max() <= 8
    assert np.all(np.diff(piece.start) <= 3.0 + 1e-9)
    assert np.all((piece.duration >= 0.05 - 1e-9) & (piece.duration <= 2 + 1e-9))
    assert set(piece.pitch.tolist()) <= set(range(40, 51))
    assert np.all((piece.velocity >= 10) & (piece.velocity <= 20))
    for pitch in set(piece.pitch.tolist()):
        own = piece[piece.pitch == pitch]
        assert np.all(own.end[:-1] <= own.start[1:])


@given(strategies.notes(longest_rest=1.0, beats=strategies.beat_maps(), max_seconds=60.0))
@settings(max_examples=300, derandomize=True, database=None)
def test_onsets_on_the_beat_keep_to_the_longest_rest(piece: Notes) -> None:
    assert np.all(np.diff(piece.start, prepend=0.0) <= 1.0 + 1e-9)


def test_without_overlaps_trims_and_leaves_out() -> None:
    piece = Notes(start=[0, 0, 1, 1.5], end=[5, 1, 2, 2], pitch=[60, 60, 60, 61])
    trimmed = without_overlaps(piece)
    assert trimmed.start.tolist() == [0, 1, 1.5]
    assert trimmed.end.tolist() == [1, 2, 2]


def test_a_long_piece_is_long_and_always_the_same() -> None:
    piece = long_piece(np.random.default_rng(0))
    assert len(piece) == 20_000
    assert piece.start[-1] == pytest.approx(3600)
    assert 0.2 < np.mean(piece.step == 0) < 0.3
    assert np.all(piece.duration > 0)
    assert piece == long_piece(np.random.default_rng(0))
    assert piece == without_overlaps(piece)


@given(st.data())
def test_rows_lie_in_their_fields(data: st.DataObject) -> None:
    columns = data.draw(strategies.fields())
    assert len({field.name for field in columns}) == len(columns)
    made = data.draw(strategies.rows_for(columns))
    random = random_rows(columns, (3, 2), np.random.default_rng(0))
    assert random.shape == (3, 2, len(columns))
    for rows in (made, random.reshape(-1, len(columns))):
        assert rows.dtype == np.float32
        assert rows.shape[1] == len(columns)
        for j, field in enumerate(columns):
            assert_in_domain(field, rows[:, j])


def assert_in_domain(field: Field, column: Rows) -> None:
    if field.classes is not None:
        assert np.all((column % 1 == 0) & (column >= 0) & (column < field.classes))
    else:
        low, high = field.interval
        assert np.all((column >= np.float32(low)) & (column <= np.float32(high)))


def test_rows_reach_the_bounds_of_their_fields() -> None:
    bounded = Field.continuous("step", "step", unit="s", low=0.0, high=2.0)
    kinds: dict[str, Callable[[Rows], bool]] = {
        "the minimum": lambda rows: bool((rows == 0).any()),
        "the maximum": lambda rows: bool((rows == 2).any()),
        "between": lambda rows: bool(((rows > 0.1) & (rows < 1.9)).any()),
    }
    assert seen(strategies.rows_for((bounded,)), kinds) == set(kinds)


def test_fields_are_of_every_kind() -> None:
    kinds: dict[str, Callable[[tuple[Field, ...]], bool]] = {
        "one": lambda f: len(f) == 1,
        "five": lambda f: len(f) == 5,
        "classes without edges": lambda f: any(x.values and not x.edges for x in f),
        "classes with edges": lambda f: any(x.edges for x in f),
        "events": lambda f: any(x.events for x in f),
        "one class": lambda f: any(x.classes == 1 for x in f),
        "bounded": lambda f: any(not x.is_categorical and x.low is not None for x in f),
        "unbounded": lambda f: any(x.low is x.high is x.classes is None for x in f),
    }
    assert seen(strategies.fields(), kinds) == set(kinds)


@given(strategies.logits(5, 3), strategies.masks(5, 3), strategies.uniforms(3))
def test_tensors_for_heads(
    logits: torch.Tensor, masks: torch.Tensor, uniforms: torch.Tensor
) -> None:
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    assert masks.any(-1).all()
    assert uniforms.shape == (3, 2)
    assert (uniforms >= 0).all()
    assert (uniforms < 1).all()


def test_tensors_reach_their_extremes() -> None:
    ends: dict[str, Callable[[torch.Tensor], bool]] = {
        "0": lambda u: bool((u == 0).any()),
        "just below 1": lambda u: bool((u == 1 - 2**-24).any()),
        "between": lambda u: bool(((u > 0.1) & (u < 0.9)).any()),
    }
    assert seen(strategies.uniforms(), ends) == set(ends)
    left: dict[str, Callable[[torch.Tensor], bool]] = {
        "one class": lambda m: bool((m.sum(-1) == 1).all()),
        "some": lambda m: bool((m.sum(-1) == 3).any()),
        "all": lambda m: bool(m.all()),
    }
    assert seen(strategies.masks(4, 2), left) == set(left)
