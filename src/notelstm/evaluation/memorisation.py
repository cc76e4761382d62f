"""Copies: the longest passages that samples share with training pieces, in any key and tempo.

:mod:`notelstm.evaluation.passages` defines when two passages are the same. A copy with a changed,
missing or added note is found as the longest of its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.evaluation.features import excerpts, usual_length
from notelstm.evaluation.grid import CELL
from notelstm.evaluation.passages import Line, hashes_of, line_of, same_tempo, tempo_bounds
from notelstm.notes import Notes

__all__ = ["SHORTEST", "Memorisation", "Passage", "find_copies", "longest_shared"]

SHORTEST: Final = 13
"""The number of notes of the shortest passage that is searched for."""

_SEED: Final = SHORTEST - 1


@final
@dataclass(frozen=True, kw_only=True)
class Passage:
    """A passage of a sample that is in a training piece.

    Notes are counted from 0 in the order of chords, those of a chord in the order of pitches.

    Attributes:
        sample: The number of the sample.
        at: The first note of the passage in it.
        at_seconds: The onset of that note's chord, on the grid.
        piece: The name of the training piece.
        place: The first note of the passage in the training piece.
        place_seconds: The onset of that note's chord, on the grid.
        notes: The number of notes.
        semitones: The transposition of the sample.
        stretch: The tempo factor: 2 if the sample takes twice as long.
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


def longest_shared(
    samples: Sequence[Notes], training: Iterable[tuple[str, Notes]]
) -> tuple[Passage | None, ...]:
    """The longest passage that each sample shares with any training piece.

    Args:
        samples: Any pieces.
        training: The pieces to search, with their names; they are read once.

    Returns:
        A passage for each sample, the first of those that are equally long; None if there is none
        of :data:`SHORTEST` notes.
    """
    best: list[Passage | None] = [None] * len(samples)
    if not len(samples):
        return ()
    lines = [line_of(sample) for sample in samples]
    table = _Table.of(lines)
    if not len(table.seeds):
        return tuple(best)
    for name, piece in training:
        line = line_of(piece)
        for sample, at, place, notes in _runs(table, line):
            known, run = best[sample], (at, place, notes)
            least = SHORTEST - 1 if known is None else known.notes
            if notes > least:
                found = _explained(lines[sample], line, run, least, sample=sample, piece=name)
                best[sample] = found or known
    return tuple(best)


class _Table(NamedTuple):
    """The seeds of all samples.

    Attributes:
        seeds: (S,) the seeds, ascending.
        at: (S,) the first note of each, counted through all samples.
        begins: (K,) the first note of each sample.
        steps: All samples' steps, and 0 after the last note of each.
    """

    seeds: NDArray[np.uint64]
    at: NDArray[np.int64]
    begins: NDArray[np.int64]
    steps: NDArray[np.float64]

    @classmethod
    def of(cls, lines: Sequence[Line]) -> _Table:
        seeds = [hashes_of(line.intervals, _SEED) for line in lines]
        begins = np.cumsum([0, *(len(line.pitch) for line in lines[:-1])])
        at = np.concatenate([k + np.arange(len(own)) for k, own in zip(begins, seeds, strict=True)])
        steps = np.concatenate([np.append(line.steps, 0.0)[: len(line.pitch)] for line in lines])
        joined = np.concatenate(seeds)
        order = np.argsort(joined, kind="stable")
        return cls(joined[order], at[order], begins, steps)


def _runs(table: _Table, line: Line) -> Iterator[tuple[int, int, int, int]]:
    """Runs in which every seed may be the same, the longest first.

    Yields:
        The sample, the first note in it and in the piece, and the number of notes.
    """
    seeds = hashes_of(line.intervals, _SEED)
    first = np.searchsorted(table.seeds, seeds, side="left")
    places = np.flatnonzero(table.seeds[first.clip(max=len(table.seeds) - 1)] == seeds)
    if not len(places):
        return
    first = first[places]
    often = np.searchsorted(table.seeds, seeds[places], side="right") - first
    place = np.repeat(places, often)
    within = np.arange(len(place)) - np.repeat(np.cumsum(often) - often, often)
    at = table.at[np.repeat(first, often) + within]
    fits = same_tempo(table.steps, at, line.steps, place, _SEED)
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


def _explained(
    mine: Line, other: Line, run: tuple[int, int, int], least: int, *, sample: int, piece: str
) -> Passage | None:
    """The longest part of a run that one factor explains, if it is longer than `least` notes."""
    at, place, notes = run
    a, b = mine.steps[at:][: notes - 1], other.steps[place:][: notes - 1]
    low, high = tempo_bounds(a, b)
    begin, best = 0, 0
    for first in range(len(low)):
        if len(low) - first <= max(best, least - 1):
            break
        fits = np.maximum.accumulate(low[first:]) <= np.minimum.accumulate(high[first:])
        steps = len(fits) if fits.all() else int(np.argmin(fits))
        if steps > best:
            begin, best = first, steps
    if best < least:
        return None
    at, place, part = at + begin, place + begin, slice(begin, begin + best)
    whole = a[part].sum() / b[part].sum() if b[part].sum() else 1.0
    return Passage(
        sample=sample,
        at=at,
        at_seconds=float(mine.onset[at] * CELL),
        piece=piece,
        place=place,
        place_seconds=float(other.onset[place] * CELL),
        notes=best + 1,
        semitones=int(mine.pitch[at] - other.pitch[place]),
        # The factor of the whole passage may be outside the bounds of a step.
        stretch=float(np.clip(whole, low[part].max(), high[part].min())),
    )


@final
@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Passages that samples, and real pieces from elsewhere, share with the training pieces.

    Attributes:
        samples: The longest passage of each sample, None if there is none of :data:`SHORTEST`
            notes.
        real: The longest passage of each excerpt of real pieces, as long as the median sample.
    """

    samples: tuple[Passage | None, ...]
    real: tuple[Passage | None, ...] = ()

    @property
    def longest(self) -> Passage | None:
        """The longest passage of all samples."""
        return max(filter(None, self.samples), key=lambda made: made.notes, default=None)

    @property
    def usual(self) -> int:
        """Notes of the longest passage that real music shares with the training pieces; 0 for none.

        Scales, trills and formulas are common to all music.
        """
        return max((made.notes for made in self.real if made is not None), default=0)

    @property
    def copied(self) -> tuple[Passage, ...]:
        """The passages longer than any that real music shares; empty without real music."""
        made = filter(None, self.samples if self.real else ())
        return tuple(passage for passage in made if passage.notes > self.usual)

    @property
    def sentence(self) -> str:
        """The finding, with the remedy if a sample copies."""
        line = f"real music shares up to {self.usual}" if self.real else "nothing to compare with"
        found = self.longest
        if found is None:
            return f"no passage of {SHORTEST} notes is shared with the training pieces; {line}"
        where = (
            f"{found.notes} notes from note {found.at} of sample {found.sample} on are those from "
            f"note {found.place} of {found.piece} on ({found.semitones:+d} semitones, "
            f"{found.stretch:.2f} times as slow); {line}"
        )
        if not self.copied:
            return where
        return (
            f"{len(self.copied)} of {len(self.samples)} samples copy: {where}. To fix: stop "
            "training earlier, where the validation loss is least, or add augmentation, dropout or "
            "more pieces"
        )

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON values."""
        return {
            "longest": None if self.longest is None else asdict(self.longest),
            "usual": self.usual,
            "copied": [made.sample for made in self.copied],
            "sentence": self.sentence,
            **asdict(self),
        }


def find_copies(
    samples: Sequence[Notes], training: Iterable[tuple[str, Notes]], real: Sequence[Notes] = ()
) -> Memorisation:
    """Search samples for passages of training pieces.

    Args:
        samples: Generated pieces.
        training: The pieces that the model was trained on, with their names; they are read once.
        real: Pieces that it was not trained on, whose excerpts are searched as well.

    Raises:
        DataError: If there are real pieces, but no samples of at least two notes.
    """
    others = excerpts(real, usual_length(samples)) if len(real) else []
    found = longest_shared([*samples, *others], training)
    first = len(samples)
    return Memorisation(samples=found[:first], real=found[first:])
