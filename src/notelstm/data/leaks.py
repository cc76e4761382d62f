"""Duplicate music: copies, transpositions, and pieces that share long passages.

Pieces are compared by the intervals from note to note, notes of a chord in order of pitch,
regardless of tempo, velocity and key. Two performances of one work are found only if it is mostly
monophonic, since the order of notes in a chord varies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final, Literal, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.data.splits import Split, content_key, percussion_and_rest, pitches_in_order
from notelstm.notes import Notes

__all__ = ["Leak", "find_duplicates", "find_leaks", "find_shared"]

PASSAGE: Final = 24
"""The length of a passage, in intervals."""

SHARE: Final = 0.2
"""The least share of passages that two reported pieces have in common."""

LEAST: Final = 4
"""The least number of passages, of the compared quarter, that two reported pieces share."""

FEWEST: Final = 8
"""Pieces of fewer notes are not compared."""

COMMON: Final = 20
"""Passages in more pieces, such as scales and trills, are ignored."""

Kind: TypeAlias = Literal["copy", "transposition", "passages"]
Pieces: TypeAlias = Iterable[tuple[str, Notes]]


@final
@dataclass(frozen=True, kw_only=True)
class Leak:
    """Two pieces that share music, by name.

    Attributes:
        kind: ``"copy"``, ``"transposition"``, or ``"passages"`` if only parts are equal.
        semitones: The transposition from left to right, None if only parts are equal.
        share: The share of the passages of the shorter one that are in the other, 0 to 1.
    """

    left: str
    right: str
    kind: Kind
    semitones: int | None
    share: float

    def to_json(self) -> dict[str, Any]:
        """The pair as JSON values."""
        return asdict(self)


class _Features(NamedTuple):
    """The features by which a piece is compared."""

    name: str
    key: str
    first: int
    passages: NDArray[np.uint64]


def find_leaks(pieces: Pieces, split: Split) -> list[Leak]:
    """Find music that is on two sides of a split of all `pieces`, such as a corpus' ``pieces()``.

    Returns:
        The pairs, left the earlier one of training, validation and test.
    """
    features = [_features(name, notes) for name, notes in pieces]
    sides = [[features[k] for k in side] for side in (split.train, split.validation, split.test)]
    found: list[Leak] = []
    for left, right in combinations(sides, 2):
        found += _shared([*left, *right], len(left))
    return found


def find_shared(left: Pieces, right: Pieces) -> list[Leak]:
    """Find music that is in both of two corpora, given as pieces with their names."""
    first = [_features(name, notes) for name, notes in left]
    second = [_features(name, notes) for name, notes in right]
    return _shared([*first, *second], len(first))


def find_duplicates(pieces: Pieces, *, passages: bool = True) -> list[Leak]:
    """Find music that is in two pieces of one corpus.

    Args:
        pieces: The pieces with their names.
        passages: Find shared passages too, not only copies and transpositions of whole pieces,
            which take a fifth of the time.
    """
    return _shared([_features(name, notes, passages=passages) for name, notes in pieces], None)


def _features(name: str, notes: Notes, *, passages: bool = True) -> _Features:
    drums, others = percussion_and_rest(notes)
    # Percussion is not transposed; it is compared only in pieces without enough other notes.
    pitch = pitches_in_order(others if len(others) >= FEWEST else drums)
    none = np.zeros(0, np.uint64)
    if len(pitch) < FEWEST:
        return _Features(name, "", 0, none)
    found = _passages(pitch) if passages else none
    # Few notes beside percussion tell the interval of a transposition all the same.
    first = pitches_in_order(others if len(others) else drums)[0]
    return _Features(name, content_key(notes), int(first), found)


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


def _shared(features: Sequence[_Features], left: int | None) -> list[Leak]:
    """The pairs that share music, of one of the first `left` and one of the rest, or any."""

    def apart(i: int, j: int) -> bool:
        return left is None or (i < left) != (j < left)

    def leak(i: int, j: int, kind: Kind, semitones: int | None, share: float) -> Leak:
        left, right = features[i].name, features[j].name
        return Leak(left=left, right=right, kind=kind, semitones=semitones, share=share)

    found: dict[tuple[int, int], Leak] = {}
    same: defaultdict[str, list[int]] = defaultdict(list)
    for k, made in enumerate(features):
        if made.key:
            same[made.key].append(k)
    for group in same.values():
        for i, j in combinations(group, 2):
            if apart(i, j):
                semitones = features[j].first - features[i].first
                kind: Kind = "transposition" if semitones else "copy"
                found[i, j] = leak(i, j, kind, semitones, 1.0)
    for (i, j), count in _pairs(features, apart).items():
        share = count / min(len(features[i].passages), len(features[j].passages))
        if (i, j) not in found and share >= SHARE and count >= LEAST:
            found[i, j] = leak(i, j, "passages", None, share)
    return [found[pair] for pair in sorted(found)]


def _pairs(
    features: Sequence[_Features], apart: Callable[[int, int], bool]
) -> dict[tuple[int, int], int]:
    """The number of passages that each pair of pieces has in common."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(made.passages for made in features)])
    owners = np.repeat(np.arange(len(features)), [len(made.passages) for made in features])
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    starts = np.flatnonzero(np.diff(hashes, prepend=~hashes[:1]) != 0)
    counts = np.diff(starts, append=len(hashes))
    shared: defaultdict[tuple[int, int], int] = defaultdict(int)
    for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
        if 1 < count <= COMMON:
            for i, j in combinations(owners[start : start + count].tolist(), 2):
                if apart(i, j):
                    shared[i, j] += 1
    return shared
