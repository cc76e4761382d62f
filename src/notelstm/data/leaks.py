"""Duplicate music: copies, transpositions, and pieces that share long passages.

Pieces are compared by the intervals from note to note, notes of a chord in the order of their
pitches. Tempo, velocity and key do not count. Two performances of one work are found only where it
is mostly one voice: no two players play the notes of a chord in the same order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.data.splits import Split, content_key, percussion_and_rest
from notelstm.notes import Notes

__all__ = ["Leak", "find_duplicates", "find_leaks", "find_shared"]

PASSAGE: Final = 24
"""The length of a passage, in intervals."""

SHARE: Final = 0.2
"""The least share of its passages that a reported piece has in common with another."""

LEAST: Final = 4
"""The least number of compared passages, a quarter of all, that two reported pieces share."""

FEWEST: Final = 8
"""Pieces of fewer notes are alike by chance."""

COMMON: Final = 20
"""A passage that is in more pieces than this is a scale or a trill, and is ignored."""

Kind: TypeAlias = Literal["copy", "transposition", "passages"]
Pieces: TypeAlias = Iterable[tuple[str, Notes]]


@final
@dataclass(frozen=True, kw_only=True)
class Leak:
    """Two pieces that share music.

    Attributes:
        left: The name of one.
        right: The name of the other.
        kind: ``"copy"``, ``"transposition"``, or ``"passages"`` if only parts are the same.
        semitones: The transposition from left to right, None if only parts are the same.
        share: The share of the passages of the shorter one that is in the other, 0 to 1.
    """

    left: str
    right: str
    kind: Kind
    semitones: int | None
    share: float

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


class _Print(NamedTuple):
    """The features by which a piece is compared."""

    name: str
    key: str
    first: int
    passages: NDArray[np.uint64]


def find_leaks(pieces: Pieces, split: Split) -> list[Leak]:
    """Music that is on two sides of a split.

    Args:
        pieces: All pieces, for example a corpus' ``pieces()``.
        split: Their numbers on each side.

    Returns:
        The pairs, left the side that is earlier of training, validation and test.
    """
    prints = [_print(name, notes) for name, notes in pieces]
    sides = [[prints[k] for k in side] for side in (split.train, split.validation, split.test)]
    found: list[Leak] = []
    for left, right in combinations(sides, 2):
        found += _shared([*left, *right], len(left))
    return found


def find_shared(left: Pieces, right: Pieces) -> list[Leak]:
    """Music that is in both of two corpora.

    Args:
        left: Some pieces with their names.
        right: Others.
    """
    first = [_print(name, notes) for name, notes in left]
    second = [_print(name, notes) for name, notes in right]
    return _shared([*first, *second], len(first))


def find_duplicates(pieces: Pieces, *, passages: bool = True) -> list[Leak]:
    """Music that is in two pieces of one corpus.

    Args:
        pieces: The pieces with their names.
        passages: Look for long passages, too; without it only for copies and transpositions of
            whole pieces, which takes a fifth of the time.
    """
    return _shared([_print(name, notes, passages=passages) for name, notes in pieces], None)


def _print(name: str, notes: Notes, *, passages: bool = True) -> _Print:
    key = content_key(notes)
    drums, others = percussion_and_rest(notes)
    # Percussion does not move with a transposition; a piece of nothing else is compared by it.
    notes = others if len(others) >= FEWEST else drums
    order = np.lexsort((notes.pitch, notes.start))
    pitch = notes.pitch[order]
    first = int(pitch[0]) if len(pitch) else 0
    if len(pitch) < FEWEST:
        return _Print(name, "", first, np.zeros(0, np.uint64))
    found = _passages(pitch) if passages else np.zeros(0, np.uint64)
    return _Print(name, key, first, found)


def _passages(pitch: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes of a quarter of the passages of a piece: the same quarter in every piece."""
    steps = (np.diff(pitch) + 128).astype(np.uint64)
    count = len(steps) - PASSAGE + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    hashes = np.zeros(count, np.uint64)
    for k in range(PASSAGE):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + steps[k : k + count]
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes[hashes >> np.uint64(62) == 0])


def _shared(prints: Sequence[_Print], left: int | None) -> list[Leak]:
    """The pairs that share music: across the first `left` and the rest, or any if it is None."""

    def apart(i: int, j: int) -> bool:
        return left is None or (i < left) != (j < left)

    found: dict[tuple[int, int], Leak] = {}
    same: defaultdict[str, list[int]] = defaultdict(list)
    for k, made in enumerate(prints):
        if made.key:
            same[made.key].append(k)
    for group in same.values():
        for i, j in combinations(group, 2):
            if apart(i, j):
                semitones = prints[j].first - prints[i].first
                kind: Kind = "transposition" if semitones else "copy"
                found[i, j] = _leak(prints[i], prints[j], kind, semitones, 1.0)
    for (i, j), often in _pairs(prints, apart).items():
        share = often / min(len(prints[i].passages), len(prints[j].passages))
        if (i, j) not in found and share >= SHARE and often >= LEAST:
            found[i, j] = _leak(prints[i], prints[j], "passages", None, share)
    return [found[pair] for pair in sorted(found)]


def _leak(left: _Print, right: _Print, kind: Kind, semitones: int | None, share: float) -> Leak:
    return Leak(left=left.name, right=right.name, kind=kind, semitones=semitones, share=share)


def _pairs(
    prints: Sequence[_Print], apart: Callable[[int, int], bool]
) -> dict[tuple[int, int], int]:
    """The number of passages that each pair of pieces has in common."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(made.passages for made in prints)])
    owners = np.repeat(np.arange(len(prints)), [len(made.passages) for made in prints])
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    starts = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]) != 0)
    counts = np.diff(starts, append=len(hashes))
    often: defaultdict[tuple[int, int], int] = defaultdict(int)
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        if 1 < count <= COMMON:
            for i, j in combinations(owners[start : start + count].tolist(), 2):
                if apart(i, j):
                    often[i, j] += 1
    return often
