"""Random pieces and rows from a numpy generator, for tests that need one long piece.

Property tests use :mod:`notelstm.testing.strategies`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from notelstm.fields import Field, Rows
from notelstm.notes import Notes

__all__ = ["long_piece", "random_rows", "repeating_rows", "without_overlaps"]


def without_overlaps(notes: Notes, shortest: float = 0.0) -> Notes:
    """End each note where the next of its pitch begins, as in a MIDI file.

    A note that begins less than `shortest` seconds after another of its pitch is left out.
    """
    last: dict[int, int] = {}
    kept: list[int] = []
    end = notes.end.copy()
    for i, (start, pitch) in enumerate(
        zip(notes.start.tolist(), notes.pitch.tolist(), strict=True)
    ):
        before = last.get(pitch)
        if before is not None:
            gap = start - float(notes.start[before])
            if gap < shortest or gap <= 0:
                continue
            end[before] = min(end[before], start)
        last[pitch] = i
        kept.append(i)
    chosen = np.array(kept, dtype=np.intp)
    return dataclasses.replace(notes[chosen], end=end[chosen])


def long_piece(rng: np.random.Generator, *, count: int = 20_000, seconds: float = 3600.0) -> Notes:
    """A long piece with chords, runs and rests, whose last onset is at `seconds`.

    A quarter of the notes begin together with the one before, none overlaps one of its own pitch,
    and no rest is longer than about 100 times the mean step.
    """
    step = rng.exponential(size=count)
    step[rng.random(count) < 0.25] = 0
    step[rng.random(count) < 0.001] *= 10
    step[0] = 0
    start = np.cumsum(step) * (seconds / max(step.sum(), 1e-9))
    # It differs from the pitches of the 11 notes before: chords never double a pitch.
    pitch = (np.arange(count) * 7) % 12 + 24 + 12 * rng.integers(0, 6, size=count)
    duration = np.clip(rng.lognormal(mean=-1.2, sigma=1.0, size=count), 0.02, 8.0)
    piece = Notes(
        start=start, end=start + duration, pitch=pitch, velocity=rng.integers(1, 128, size=count)
    )
    return without_overlaps(piece)


def random_rows(
    fields: Sequence[Field], shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """(..., F) independent random entries within the domains of F fields, float32.

    Continuous entries lie within two units of their field's lower end, a quarter of them on it.
    """
    columns: list[Rows] = []
    for field in fields:
        if field.classes is not None:
            column = rng.integers(0, field.classes, size=shape).astype(np.float32)
        else:
            low, high = field.interval
            if np.isinf(low):
                low = -1.0 if np.isinf(high) else high - 2
            column = rng.uniform(low, min(high, low + 2), size=shape).astype(np.float32)
            # A chord is a step of exactly the least value.
            column[rng.random(shape) < 0.25] = low
        columns.append(column)
    return np.stack(columns, axis=-1)


def repeating_rows(
    fields: Sequence[Field], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float32]:
    """(B, T, F) :func:`random_rows` whose second half repeats the first, but for a few rows."""
    rows = random_rows(fields, shape, rng)
    middle = -(-shape[1] // 2)
    same = rng.random((shape[0], shape[1] - middle)) < 0.8
    rows[:, middle:][same] = rows[:, : shape[1] - middle][same]
    return rows
