"""Hypothesis strategies for pieces, fields, rows, logits and noise.

Example:
    >>> from hypothesis import given
    >>> @given(notes(max_notes=8, overlaps=False))
    ... def test_something(piece: Notes) -> None:
    ...     assert len(piece) <= 8
    >>> test_something()
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from notelstm.fields import Event, Field, Rows
from notelstm.notes import TempoMap, Notes
from notelstm.testing.makers import without_overlaps

__all__ = ["beat_maps", "fields", "logits", "masks", "notes", "rows_for", "uniforms"]

_LAST_UNIFORM = 1 - 2**-24
"""The greatest float32 below 1."""


def _seconds(low: float, high: float, special: Sequence[float]) -> SearchStrategy[float]:
    """Times between two ends, both included, with favourites and round milliseconds."""
    inside = [value for value in special if low <= value <= high]
    kinds = [st.sampled_from([low, *inside, high]), st.floats(low, high, allow_subnormal=False)]
    if np.ceil(low * 1000) <= np.floor(high * 1000):
        whole = st.integers(int(np.ceil(low * 1000)), int(np.floor(high * 1000)))
        kinds.append(whole.map(lambda ms: min(max(ms / 1000, low), high)))
    return st.one_of(kinds)


def _integers(low: int, high: int, special: Sequence[int]) -> SearchStrategy[int]:
    inside = [value for value in special if low <= value <= high]
    return st.one_of(st.sampled_from([*inside, low, high]), st.integers(low, high))


@st.composite
def notes(
    draw: st.DrawFn,
    *,
    min_notes: int = 0,
    max_notes: int = 24,
    longest_rest: float = 60.0,
    max_seconds: float = 3600.0,
    durations: tuple[float, float] = (0.001, 60.0),
    pitches: tuple[int, int] = (0, 127),
    velocities: tuple[int, int] = (1, 127),
    overlaps: bool = True,
    beats: SearchStrategy[TempoMap] | None = None,
    instruments: bool = False,
) -> Notes:
    """Pieces with ties, repeated pitches, long rests, extremes; one note, or none.

    Args:
        draw: Given by Hypothesis.
        min_notes: The least number of notes.
        max_notes: The greatest number of notes.
        longest_rest: Seconds; the greatest step from one onset to the next, and to the first.
        max_seconds: The latest onset; what would come later begins there.
        durations: Seconds; the least and the greatest.
        pitches: MIDI note numbers; the least and the greatest.
        velocities: MIDI velocities; the least and the greatest.
        overlaps: Whether two notes of one pitch may sound together. Without, a note ends where the
            next of its pitch begins at the latest, and may become as short as `durations` allows.
        beats: Makes each piece's beat map, :func:`beat_maps` say; None for pieces without. Half of
            the pieces with one begin all notes on a quarter of a beat, up to that much earlier.
        instruments: Whether pieces have programs, percussion and tracks; most of them several.

    Returns:
        A strategy for pieces.
    """
    favourite = _integers(*pitches, special=(60, 60, 64, 0, 127))
    columns = draw(
        st.lists(
            st.tuples(
                _seconds(0.0, longest_rest, (0.0, 0.0, 0.005, 0.01, 0.25, 0.5)),
                _seconds(*durations, special=(0.01, 0.1, 0.5, 2.0)),
                favourite,
                _integers(*velocities, special=(64, 100)),
            ),
            min_size=min_notes,
            max_size=max_notes,
        )
    )
    if not columns:
        return Notes.empty()
    steps, lengths, pitch, velocity = zip(*columns, strict=True)
    start = np.minimum(np.cumsum(steps), max_seconds)
    beat_map = None if beats is None else draw(beats)
    if beat_map is not None and draw(st.booleans()):
        start = beat_map.seconds_at(np.floor(beat_map.beats_at(start) * 4) / 4)
    piece = Notes(start=start, end=start + lengths, pitch=pitch, velocity=velocity, beats=beat_map)
    if instruments:
        played = st.tuples(st.integers(0, 127), st.booleans(), st.integers(0, 9))
        band = draw(st.lists(played, min_size=1, max_size=4))
        parts = draw(st.lists(st.sampled_from(band), min_size=len(piece), max_size=len(piece)))
        program, drum, track = np.array(parts, dtype=np.int64).T
        piece = dataclasses.replace(piece, program=program, drum=drum.astype(bool), track=track)
    if not overlaps:
        piece = without_overlaps(piece, shortest=durations[0])
        assume(len(piece) >= min_notes)
    return piece


@st.composite
def beat_maps(
    draw: st.DrawFn,
    *,
    tempi: tuple[float, float] = (20.0, 300.0),
    metres: Sequence[tuple[int, int]] = ((4, 4), (3, 4), (2, 2), (6, 8), (5, 8)),
) -> TempoMap:
    """Beat maps with tempo changes on and off the beat, metre changes, pick-ups, or none of them.

    Args:
        draw: Given by Hypothesis.
        tempi: Quarter notes a minute; the least and the greatest.
        metres: The time signatures that may be drawn.

    Returns:
        A strategy for beat maps.
    """
    gap = _seconds(0.01, 30.0, (0.25, 0.5, 0.5, 2.0))
    gaps = draw(st.lists(gap, max_size=4))
    tempo = _seconds(*tempi, special=(60.0, 96.0, 120.0, 120.0))
    signatures = draw(st.lists(st.sampled_from(metres), max_size=4))
    starts = [draw(st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0])) for _ in signatures[:1]]
    for upper, lower in signatures[:-1]:
        bars = 4 * upper / lower * draw(st.integers(1, 3))
        starts.append(starts[-1] + draw(st.sampled_from([bars, bars, bars + 0.5, 0.3])))
    return TempoMap(
        seconds=np.cumsum([0.0, *gaps]),
        tempi=draw(st.lists(tempo, min_size=len(gaps) + 1, max_size=len(gaps) + 1)),
        meter_beats=starts,
        numerators=[upper for upper, _ in signatures],
        denominators=[lower for _, lower in signatures],
    )


@st.composite
def _field(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(["classes", "steps", "continuous", "events"]))
    if kind == "classes":
        n = draw(st.integers(1, 9))
        return Field.categorical(name, "pitch", values=range(60, 60 + n), unit="MIDI note")
    if kind == "steps":
        widths = draw(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=9))
        edges = np.concatenate([[0.0], np.cumsum(widths)])
        values = (edges[:-1] + edges[1:]) / 2
        return Field.categorical(
            name, "duration", values=values.tolist(), edges=edges.tolist(), unit="s"
        )
    if kind == "continuous":
        low = draw(st.none() | st.floats(-1.0, 1.0))
        high = draw(st.none() | st.floats(1.5, 3.0))
        return Field.continuous(name, "duration", unit="s", low=low, high=high)
    pitch = draw(st.lists(st.integers(0, 127), min_size=1, max_size=4, unique=True))
    events = [Event("note-on", p) for p in pitch] + [Event("note-off", p) for p in pitch]
    return Field.of_events(name, [*events, Event("shift", 0.01), Event("velocity", 64)])


@st.composite
def fields(draw: st.DrawFn, *, min_fields: int = 1, max_fields: int = 5) -> tuple[Field, ...]:
    """Columns of every kind, with names of their own.

    Args:
        draw: Given by Hypothesis.
        min_fields: The least number of columns.
        max_fields: The greatest number of columns.

    Returns:
        A strategy for tuples of fields.
    """
    n = draw(st.integers(min_fields, max_fields))
    return tuple(draw(_field(f"field{i}")) for i in range(n))


def _entries(field: Field) -> SearchStrategy[float]:
    if field.classes is not None:
        return _integers(0, field.classes - 1, special=()).map(float)
    low, high = field.interval
    # float32 holds the entries, so the strategy must not round one out of the field's domain.
    return st.floats(
        float(np.nextafter(np.float32(max(low, -1e6)), np.float32(np.inf))),
        float(np.nextafter(np.float32(min(high, 1e6)), np.float32(-np.inf))),
        width=32,
        allow_subnormal=False,
    )


def rows_for(
    columns: Sequence[Field], *, min_rows: int = 0, max_rows: int = 16
) -> SearchStrategy[Rows]:
    """Rows whose entries lie in their fields' domains, extremes among them.

    Args:
        columns: F fields.
        min_rows: The least number of rows.
        max_rows: The greatest number of rows.

    Returns:
        A strategy for (N, F) float32 arrays.
    """
    row = st.tuples(*(_entries(field) for field in columns))

    def table(rows: list[tuple[float, ...]]) -> Rows:
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(columns))

    return st.lists(row, min_size=min_rows, max_size=max_rows).map(table)


def logits(classes: int, lanes: int = 1) -> SearchStrategy[Tensor]:
    """What a categorical head may say: even, lopsided, certain.

    Args:
        classes: C.
        lanes: B.

    Returns:
        A strategy for (B, C) float32 tensors.
    """
    entry = st.one_of(
        st.floats(-5, 5, width=32, allow_subnormal=False),
        st.sampled_from([0.0, 0.0, -1e4, 1e4, -80.0, 80.0]),
    )
    flat = st.lists(entry, min_size=classes * lanes, max_size=classes * lanes)
    return flat.map(lambda values: torch.tensor(values).reshape(lanes, classes))


def masks(classes: int, lanes: int = 1) -> SearchStrategy[Tensor]:
    """What may come next: at least one class in each lane, often only one.

    Args:
        classes: C.
        lanes: B.

    Returns:
        A strategy for (B, C) bool tensors.
    """
    everything = st.sets(st.integers(0, classes - 1), min_size=1, max_size=classes)
    some = st.one_of(st.integers(0, classes - 1).map(lambda c: {c}), everything)

    def table(lanes_legal: list[set[int]]) -> Tensor:
        return torch.tensor([[c in allowed for c in range(classes)] for allowed in lanes_legal])

    return st.lists(some, min_size=lanes, max_size=lanes).map(table)


def uniforms(lanes: int = 1) -> SearchStrategy[Tensor]:
    """Noise for a draw, with both ends of [0, 1).

    Args:
        lanes: B.

    Returns:
        A strategy for (B, 2) float32 tensors.
    """
    entry = st.one_of(
        st.sampled_from([0.0, _LAST_UNIFORM]),
        st.floats(0, _LAST_UNIFORM, width=32, allow_subnormal=False),
    )
    flat = st.lists(entry, min_size=2 * lanes, max_size=2 * lanes)
    return flat.map(lambda values: torch.tensor(values).reshape(lanes, 2))
