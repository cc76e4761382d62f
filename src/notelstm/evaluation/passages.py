"""The longest passages that pieces share, whatever their key and tempo.

Two passages are the same if their intervals from note to note are, and one tempo factor explains
all steps. Notes that follow each other within 50 ms are a chord, and chords are read from the
lowest pitch up: no two tempi round the notes of a chord to the same order. A copy in which a note
is changed, left out or put in is found as the longest of its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple, TypeAlias, final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from notelstm.evaluation.grid import CELL, quantize
from notelstm.notes import Notes

__all__ = ["SHORTEST", "Passage", "longest_shared"]

SHORTEST: Final = 13
"""Notes of the shortest passage that is looked for."""

_SLOWEST: Final = 0.4
_FASTEST: Final = 2.5
_CHORD: Final = 5
_OFF: Final = 3
_SLACK: Final = 0.1
_SEED: Final = SHORTEST - 1
_PAIRS: Final = 1 << 16
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)

_Bounds: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


@final
@dataclass(frozen=True, kw_only=True)
class Passage:
    """Music that is in a sample and in a training piece.

    Notes are counted from 0 in the order of chords, those of a chord in the order of pitches.

    Attributes:
        sample: The number of the sample.
        at: The first note of the passage in it.
        at_seconds: When that note's chord begins, on the grid.
        piece: The name of the training piece.
        place: The first note of the passage there.
        place_seconds: When that note's chord begins, on the grid.
        notes: How many notes it has.
        semitones: How much higher the sample is.
        stretch: How many times slower the sample is.
    """

    sample: int
    at: int
    at_seconds: float
    piece: str
    place: int
    place_seconds: float
    notes: int
    semitones: int
    stretch: float

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def longest_shared(
    samples: Sequence[Notes], training: Iterable[tuple[str, Notes]]
) -> tuple[Passage | None, ...]:
    """The longest passage that each sample shares with any training piece.

    Args:
        samples: Any pieces.
        training: The pieces to search, with their names; they are read once.

    Returns:
        A passage for each sample, the first found of those that are equally long; None where there
        is none of :data:`SHORTEST` notes.
    """
    best: list[Passage | None] = [None] * len(samples)
    lines = [_line_of(sample) for sample in samples]
    if not any(len(line.seeds) for line in lines):
        return tuple(best)
    table = _Table.of(lines)
    for name, piece in training:
        line = _line_of(piece)
        for sample, at, place, notes in _runs(table, line):
            known = best[sample]
            least = SHORTEST - 1 if known is None else known.notes
            if notes > least:
                found = _explained(table.lines[sample], line, (at, place, notes), least)
                if found is not None:
                    best[sample] = _passage(
                        table.lines[sample], line, found, sample=sample, piece=name
                    )
    return tuple(best)


class _Line(NamedTuple):
    """A piece as it is compared.

    Attributes:
        pitch: (N,) MIDI note numbers.
        onset: (N,) the cell in which each note's chord begins.
        seeds: (N - SEED,) hashes of all stretches of SEED intervals.
    """

    pitch: NDArray[np.int64]
    onset: NDArray[np.int64]
    seeds: NDArray[np.uint64]

    @property
    def steps(self) -> NDArray[np.float64]:
        """(N - 1,) from each note to the next, in cells."""
        return np.diff(self.onset).astype(np.float64)


def _line_of(piece: Notes) -> _Line:
    notes = quantize(piece)
    cells = np.rint(notes.start / CELL).astype(np.int64)
    # The first note begins a chord, whatever its onset.
    begins = np.diff(cells, prepend=-_CHORD - 1) > _CHORD
    chord = np.cumsum(begins) - 1
    order = np.lexsort((notes.pitch, chord))
    pitch = notes.pitch[order]
    intervals = (np.diff(pitch) + 128).astype(np.uint64)
    count = max(0, len(intervals) - _SEED + 1)
    hashes = np.zeros(count, np.uint64)
    for k in range(_SEED):
        hashes = hashes * _FACTOR + intervals[k : k + count]
        hashes ^= hashes >> np.uint64(29)
    return _Line(pitch, cells[begins][chord], hashes)


class _Table(NamedTuple):
    """The seeds of all samples.

    Attributes:
        lines: The samples.
        seeds: (S,) their seeds, ascending.
        at: (S,) the note at which each begins, counted through all samples.
        begins: (K,) the first note of each sample.
        steps: All samples' steps, and 0 after the last note of each.
    """

    lines: Sequence[_Line]
    seeds: NDArray[np.uint64]
    at: NDArray[np.int64]
    begins: NDArray[np.int64]
    steps: NDArray[np.float64]

    @classmethod
    def of(cls, lines: Sequence[_Line]) -> _Table:
        seeds = np.concatenate([line.seeds for line in lines])
        begins = np.cumsum([0, *(len(line.pitch) for line in lines[:-1])])
        at = np.concatenate(
            [k + np.arange(len(line.seeds)) for k, line in zip(begins, lines, strict=True)]
        )
        steps = np.concatenate([np.append(line.steps, 0.0)[: len(line.pitch)] for line in lines])
        order = np.argsort(seeds, kind="stable")
        return cls(lines, seeds[order], at[order], begins, steps)


def _runs(table: _Table, line: _Line) -> Iterator[tuple[int, int, int, int]]:
    """Stretches whose every seed may be the same, the longest first.

    Yields:
        The sample, the first note in it and in the piece, and the number of notes.
    """
    first = np.searchsorted(table.seeds, line.seeds, side="left")
    places = np.flatnonzero(table.seeds[first.clip(max=len(table.seeds) - 1)] == line.seeds)
    if not len(places):
        return
    first = first[places]
    often = np.searchsorted(table.seeds, line.seeds[places], side="right") - first
    place = np.repeat(places, often)
    within = np.arange(len(place)) - np.repeat(np.cumsum(often) - often, often)
    at = table.at[np.repeat(first, often) + within]
    fits = _may_be_same(table, line, at, place)
    at, place = at[fits], place[fits]
    # Seeds that overlap lie beside each other on a diagonal.
    along = np.lexsort((at, place - at))
    at, place = at[along], place[along]
    fresh = np.ones(len(at), np.bool_)
    fresh[1:] = (np.diff(at) != 1) | (np.diff(place) != 1)
    heads = np.flatnonzero(fresh)
    lengths = np.diff(np.append(heads, len(at))) + _SEED
    samples = np.searchsorted(table.begins, at[heads], side="right") - 1
    for k in np.argsort(-lengths, kind="stable"):
        sample = int(samples[k])
        begin = int(at[heads[k]] - table.begins[sample])
        yield sample, begin, int(place[heads[k]]), int(lengths[k])


def _may_be_same(
    table: _Table, line: _Line, at: NDArray[np.int64], place: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(P,) of which pairs of seeds one tempo factor explains the steps."""
    left, right = (sliding_window_view(steps, _SEED) for steps in (table.steps, line.steps))
    fits = np.zeros(len(at), np.bool_)
    for first in range(0, len(at), _PAIRS):
        some = slice(first, first + _PAIRS)
        low, high = _tempi(left[at[some]], right[place[some]])
        fits[some] = low.max(-1) <= high.min(-1)
    return fits


def _tempi(mine: NDArray[np.float64], other: NDArray[np.float64]) -> _Bounds:
    """The least and the greatest factor that explains each step, given in cells.

    A step of `other` cells that is played f times as slow takes f `other` cells. Either step may
    be off by some cells: onsets are rounded, and another note of a chord may be its first. Players
    are not exact either.
    """
    low = ((1 - _SLACK) * mine - _OFF) / (other + _OFF)
    with np.errstate(divide="ignore"):
        high = np.where(other > _OFF, ((1 + _SLACK) * mine + _OFF) / (other - _OFF), np.inf)
    return np.maximum(low, _SLOWEST), np.minimum(high, _FASTEST)


def _explained(
    mine: _Line, other: _Line, run: tuple[int, int, int], least: int
) -> tuple[int, int, int] | None:
    """The longest stretch of a run that one factor explains, if it is longer than `least` notes."""
    at, place, notes = run
    low, high = _tempi(mine.steps[at:][: notes - 1], other.steps[place:][: notes - 1])
    begin, best = 0, 0
    for first in range(len(low)):
        if len(low) - first <= max(best, least - 1):
            break
        fits = np.maximum.accumulate(low[first:]) <= np.minimum.accumulate(high[first:])
        steps = len(fits) if fits.all() else int(np.argmin(fits))
        if steps > best:
            begin, best = first, steps
    return (at + begin, place + begin, best + 1) if best >= least else None


def _passage(
    mine: _Line, other: _Line, run: tuple[int, int, int], *, sample: int, piece: str
) -> Passage:
    at, place, notes = run
    a, b = mine.steps[at:][: notes - 1], other.steps[place:][: notes - 1]
    low, high = _tempi(a, b)
    whole = a.sum() / b.sum() if b.sum() else 1.0
    return Passage(
        sample=sample,
        at=at,
        at_seconds=float(mine.onset[at] * CELL),
        piece=piece,
        place=place,
        place_seconds=float(other.onset[place] * CELL),
        notes=notes,
        semitones=int(mine.pitch[at] - other.pitch[place]),
        # What explains the whole passage need not explain each step.
        stretch=float(np.clip(whole, low.max(), high.min())),
    )
