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
from notelstm.notes import Notes, TempoMap
from notelstm.testing.makers import without_overlaps

__all__ = ["beat_maps", "fields", "logits", "masks", "notes", "rows_for", "uniforms"]

_LAST_UNIFORM = 1 - 2**-24
"""The greatest float32 below 1."""


def _seconds(low: float, high: float, special: Sequence[float]) -> SearchStrategy[float]:
    """Times from low to high, with special values and round milliseconds."""
    inside = [value for value in special if low <= value <= high]
    kinds = [st.sampled_from([low, *inside, high]), st.floats(low, high, allow_subnormal=False)]
    if np.ceil(low * 1000) <= np.floor(high * 1000):
        whole = st.integers(int(np.ceil(low * 1000)), int(np.floor(high * 1000)))
        kinds.append(whole.map(lambda ms: min(max(ms / 1000, low), high)))
    return st.one_of(kinds)


def _integers(low: int, high: int, special: Sequence[int]) -> SearchStrategy[int]:
    inside = [value for value in special if low <= value <= high]
    return st.one_of(st.sampled_from([*inside, low, high]), st.integers(low, high))


_track_name = st.sampled_from(["", "Melody", "melody ", "Bass", "Größe"])


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
        draw: Passed by Hypothesis.
        min_notes: The least number of notes.
        max_notes: The greatest number of notes.
        longest_rest: Seconds; the greatest step from one onset to the next, and to the first.
        max_seconds: The latest onset; later notes are moved to it.
        durations: Seconds; the least and the greatest.
        pitches: MIDI note numbers; the least and the greatest.
        velocities: MIDI velocities; the least and the greatest.
        overlaps: Whether two notes of one pitch may sound together. If not, a note ends where the
            next of its pitch begins, and may become as short as `durations` allows.
        beats: A strategy for tempo maps, such as :func:`beat_maps`; None for pieces without. In
            half of the pieces with one, all onsets are moved back to a quarter of a beat, unless a
            step would become longer than `longest_rest`.
        instruments: Whether pieces have programs, percussion and tracks, with names in half of
            them; a single instrument, or several.
    """
    pitch_of_note = _integers(*pitches, special=(60, 60, 64, 0, 127))
    columns = draw(
        st.lists(
            st.tuples(
                _seconds(0.0, longest_rest, (0.0, 0.0, 0.005, 0.01, 0.25, 0.5)),
                _seconds(*durations, special=(0.01, 0.1, 0.5, 2.0)),
                pitch_of_note,
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
        moved = beat_map.seconds_at(np.floor(beat_map.beats_at(start) * 4) / 4)
        # An onset that is moved further than the next one makes a rest longer.
        if np.diff(moved, prepend=0.0).max() <= longest_rest:
            start = moved
    piece = Notes(
        start=start, end=start + lengths, pitch=pitch, velocity=velocity, tempo_map=beat_map
    )
    if instruments:
        played = st.tuples(st.integers(0, 127), st.booleans(), st.integers(0, 9))
        band = draw(st.lists(played, min_size=1, max_size=4))
        parts = draw(st.lists(st.sampled_from(band), min_size=len(piece), max_size=len(piece)))
        program, drum, track = np.array(parts, dtype=np.int64).T
        names = draw(st.none() | st.lists(_track_name, min_size=10, max_size=10).map(tuple))
        piece = dataclasses.replace(
            piece, program=program, drum=drum.astype(bool), track=track, track_names=names
        )
    if not overlaps:
        whole = piece
        piece = without_overlaps(piece, shortest=durations[0])
        assume(len(piece) >= min_notes)
        # Without a note between them, two onsets can be further apart than any two were.
        rests = np.diff(piece.start, prepend=0.0)
        assume(len(piece) == len(whole) or bool((rests <= longest_rest).all()))
    return piece


@st.composite
def beat_maps(
    draw: st.DrawFn,
    *,
    tempos: tuple[float, float] = (20.0, 300.0),
    time_signatures: Sequence[tuple[int, int]] = ((4, 4), (3, 4), (2, 2), (6, 8), (5, 8)),
) -> TempoMap:
    """Tempo maps with tempo changes on and off the beat, time signature changes, and pick-ups.

    Args:
        draw: Passed by Hypothesis.
        tempos: Quarter notes a minute; the least and the greatest.
        time_signatures: The time signatures to choose from.
    """
    gap = _seconds(0.01, 30.0, (0.25, 0.5, 0.5, 2.0))
    gaps = draw(st.lists(gap, max_size=4))
    tempo = _seconds(*tempos, special=(60.0, 96.0, 120.0, 120.0))
    signatures = draw(st.lists(st.sampled_from(time_signatures), max_size=4))
    starts = [draw(st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0])) for _ in signatures[:1]]
    for upper, lower in signatures[:-1]:
        bars = 4 * upper / lower * draw(st.integers(1, 3))
        starts.append(starts[-1] + draw(st.sampled_from([bars, bars, bars + 0.5, 0.3])))
    return TempoMap(
        seconds=np.cumsum([0.0, *gaps]),
        tempos=draw(st.lists(tempo, min_size=len(gaps) + 1, max_size=len(gaps) + 1)),
        time_signature_beats=starts,
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
def fields(draw: st.DrawFn) -> tuple[Field, ...]:
    """One to five fields of every kind, with different names."""
    return tuple(draw(_field(f"field{i}")) for i in range(draw(st.integers(1, 5))))


def _entries(field: Field) -> SearchStrategy[float]:
    if field.classes is not None:
        return _integers(0, field.classes - 1, special=()).map(float)
    low, high = (np.float32(np.clip(bound, -1e6, 1e6)) for bound in field.interval)
    # Rounding to float32 must not leave the domain of the field.
    if low < field.interval.low:
        low = np.nextafter(low, np.float32(np.inf))
    if high > field.interval.high:
        high = np.nextafter(high, np.float32(-np.inf))
    inside = st.floats(float(low), float(high), width=32, allow_subnormal=False)
    return st.one_of(st.sampled_from([float(low), float(high)]), inside)


def rows_for(columns: Sequence[Field]) -> SearchStrategy[Rows]:
    """(N, F) rows, float32, with entries within the domains of F fields, extremes included."""
    row = st.tuples(*(_entries(field) for field in columns))

    def table(rows: list[tuple[float, ...]]) -> Rows:
        return np.array(rows, dtype=np.float32).reshape(len(rows), len(columns))

    return st.lists(row, max_size=16).map(table)


def logits(classes: int, batch_size: int = 1) -> SearchStrategy[Tensor]:
    """(B, C) logits of a categorical head, float32: uniform, skewed, certain."""
    entry = st.one_of(
        st.floats(-5, 5, width=32, allow_subnormal=False),
        st.sampled_from([0.0, 0.0, -1e4, 1e4, -80.0, 80.0]),
    )
    flat = st.lists(entry, min_size=classes * batch_size, max_size=classes * batch_size)
    return flat.map(lambda values: torch.tensor(values).reshape(batch_size, classes))


def masks(classes: int, batch_size: int = 1) -> SearchStrategy[Tensor]:
    """(B, C) masks, bool, with at least one class of each sequence, often only one."""
    everything = st.sets(st.integers(0, classes - 1), min_size=1, max_size=classes)
    some = st.one_of(st.integers(0, classes - 1).map(lambda c: {c}), everything)

    def table(allowed_in_sequences: list[set[int]]) -> Tensor:
        return torch.tensor(
            [[c in allowed for c in range(classes)] for allowed in allowed_in_sequences]
        )

    return st.lists(some, min_size=batch_size, max_size=batch_size).map(table)


def uniforms(batch_size: int = 1) -> SearchStrategy[Tensor]:
    """(B, 2) noise for sampling, float32, with both ends of [0, 1)."""
    entry = st.one_of(
        st.sampled_from([0.0, _LAST_UNIFORM]),
        st.floats(0, _LAST_UNIFORM, width=32, allow_subnormal=False),
    )
    flat = st.lists(entry, min_size=2 * batch_size, max_size=2 * batch_size)
    return flat.map(lambda values: torch.tensor(values).reshape(batch_size, 2))
