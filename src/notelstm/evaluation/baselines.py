"""Baselines: uniform, unigram, repeat-last and n-grams, scored on the same notes as a model.

A baseline predicts each field of a note (pitch, step, duration, velocity) from the same field of
the notes before. The values are cells of the grid on which models are scored.

With an encoder, notes are in the order of its rows, and merged as there. If it has a part map, a
baseline first predicts the class of the instrument from those of the notes before; each other field
is then predicted from the same field of the notes before and the instrument of the note itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import part_map_of, snapped
from notelstm.errors import ConfigError, DataError, EncodingError
from notelstm.evaluation.grid import FIRST, GRIDS, UNIFORM_MIXIN, octave_bins, places_of, quantize
from notelstm.evaluation.nats import rejections
from notelstm.evaluation.scores import PieceScore, Scores, all_scored, long_enough
from notelstm.fields import Role
from notelstm.notes import Notes
from notelstm.parts import PartMap
from notelstm.protocols import NoteEncoder

__all__ = [
    "NOVELTY",
    "Baseline",
    "NGrams",
    "Places",
    "RepeatLast",
    "Table",
    "Uniform",
    "Unigram",
    "fit_ngrams",
    "fit_unigram",
    "score_baseline",
]

_log = logging.getLogger(__name__)

Places: TypeAlias = Mapping[Role, NDArray[np.int64]]
"""By role, (N,) the cell of each note of a piece, as its index in the support, or its part."""

NOVELTY: Final = 8.0
"""The weight of unseen cells, in notes, for each distinct cell that was seen."""


class Baseline(Protocol):
    """A prediction of each note of a piece from the notes before."""

    def probabilities(self, places: Places) -> Mapping[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell, which may be 0."""
        ...


def score_baseline(
    baseline: Baseline,
    pieces: Sequence[Notes],
    *,
    names: Sequence[str] | None = None,
    encoder: NoteEncoder | None = None,
) -> Scores:
    """Score a baseline as :func:`~notelstm.evaluation.nats_per_note` scores a model.

    Args:
        baseline: The baseline, counted with the same encoder.
        pieces: Held-out pieces.
        names: The names of the pieces; None for their numbers.
        encoder: The encoder of the model, for the notes that it is scored on; None for all notes,
            without instruments.

    Raises:
        DataError: If no piece has more than 25 notes, or there are not as many names as pieces.
        EncodingError: If the encoder rejects a piece.
    """
    sizes = _sizes(_parts(encoder))
    scored = []
    for name, piece in long_enough(pieces, names):
        quantized = quantize(piece)
        notes = quantized if encoder is None else snapped(encoder, quantized)
        if len(notes) <= FIRST:
            continue
        nats: dict[str, float] = {
            role: float(
                -np.log((1 - UNIFORM_MIXIN) * p[FIRST:] + UNIFORM_MIXIN / sizes[role]).sum()
            )
            for role, p in baseline.probabilities(places_of(notes, _parts(encoder))).items()
        }
        scored.append(
            PieceScore(
                notes=len(notes) - FIRST,
                nats=nats,
                name=name,
                seconds=float(notes.start[-1] - notes.start[FIRST - 1]),
                merged=len(quantized) - len(notes),
            )
        )
    return all_scored(scored, len(pieces))


def _parts(encoder: NoteEncoder | None) -> PartMap | None:
    return None if encoder is None else part_map_of(encoder)


def _sizes(parts: PartMap | None) -> dict[Role, int]:
    """By role, the number of cells, or of parts."""
    sizes: dict[Role, int] = {role: grid.size for role, grid in GRIDS.items()}
    return sizes if parts is None else {**sizes, "instrument": len(parts.classes)}


@final
@dataclass(frozen=True, kw_only=True)
class Uniform:
    """The uniform distribution over all cells.

    Attributes:
        num_parts: The number of parts, over which instruments are distributed.
    """

    num_parts: int = 1

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) one over the number of cells."""
        return {
            role: np.full(len(at), 1 / (GRIDS[role].size if role in GRIDS else self.num_parts))
            for role, at in places.items()
        }


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Unigram:
    """The frequency of each cell in the training pieces, whatever the notes before.

    After N notes in D distinct cells, the probability :data:`NOVELTY` D / (NOVELTY D + N) is
    distributed evenly over all cells. With instruments, the frequency is that among the notes of
    the same instrument, interpolated with the one among all notes.

    Attributes:
        counts: By role, (C,) the count of each cell.
        repeats: By role, the number of notes with the cell of the note before.
        pairs: The number of notes that are not the first of their piece.
        by_part: By role, the counts after each part; empty without instruments.
    """

    counts: Mapping[Role, NDArray[np.int64]]
    repeats: Mapping[Role, int] = field(default_factory=dict)
    pairs: int = 0
    by_part: Mapping[Role, Table] = field(default_factory=dict)

    def distribution(self, role: Role) -> NDArray[np.float64]:
        """(C,) the probability of each cell of a role; they sum to 1.

        Raises:
            DataError: If there are no counts of instruments.
        """
        if role not in self.counts:
            raise DataError(
                f"the unigram has no counts of the role {role}",
                hint="fit it again with fit_unigram(pieces, encoder=...)",
            )
        counts = self.counts[role]
        new = NOVELTY * max(1, int((counts > 0).sum()))
        return np.asarray((counts + new / len(counts)) / (counts.sum() + new))

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the frequency of each note's cell."""
        made = {role: self.distribution(role)[at] for role, at in places.items()}
        if "instrument" in places:
            for role, table in self.by_part.items():
                made[role] = table.mixed(places["instrument"], places[role], made[role])
        return made

    def to_json(self) -> dict[str, Any]:
        """The counts, without zeros at the end, as JSON values that a bundle stores."""
        stored = {
            "counts": {
                role: (np.trim_zeros(counts, "b") if role in GRIDS else counts).tolist()
                for role, counts in self.counts.items()
            },
            "repeats": dict(self.repeats),
            "pairs": self.pairs,
        }
        by_part = {role: table.to_json() for role, table in self.by_part.items()}
        return {**stored, "by_part": by_part} if by_part else stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Unigram:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: If the stored values are damaged.
        """
        try:
            sizes: dict[Role, int] = {role: grid.size for role, grid in GRIDS.items()}
            if "instrument" in stored["counts"]:
                sizes["instrument"] = len(stored["counts"]["instrument"])
            made = cls(
                counts={role: _padded(stored["counts"][role], n) for role, n in sizes.items()},
                repeats={role: int(stored["repeats"][role]) for role in sizes},
                pairs=int(stored["pairs"]),
                by_part={
                    role: Table.from_json(stored["by_part"][role], GRIDS[role].size)
                    for role in GRIDS
                    if "instrument" in sizes
                },
            )
        except (LookupError, OverflowError, TypeError, ValueError) as error:
            raise DataError(
                f"the stored unigram is damaged: {error}",
                hint="fit it again with fit_unigram(pieces)",
            ) from error
        return made


def _padded(counts: Sequence[int], size: int) -> NDArray[np.int64]:
    """(C,) the counts, padded with zeros."""
    given = np.array(counts, dtype=np.int64)
    if given.ndim != 1 or np.any(given < 0):
        raise ValueError("its counts are not a list of numbers of at least 0")
    return np.pad(given, (0, size - len(given)))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RepeatLast:
    """The cell of the note before, with the frequency of repeats in training; else a unigram.

    Attributes:
        unigram: The counts of the training pieces.
    """

    unigram: Unigram

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell; the unigram's for the first note."""
        made = self.unigram.probabilities(places)
        for role, at in places.items():
            share = self.unigram.repeats[role] / max(1, self.unigram.pairs)
            made[role][1:] *= 1 - share
            made[role][1:] += share * (at[1:] == at[:-1])
        return made


def fit_unigram(pieces: Iterable[Notes], *, encoder: NoteEncoder | None = None) -> Unigram:
    """Count the cells of training pieces; empty ones add nothing.

    Args:
        pieces: Training pieces; those that the encoder rejects are left out with a warning.
        encoder: The encoder of the model that the baseline is compared with; None for all notes,
            without instruments.
    """
    return _unigram(_training_places(pieces, encoder), _sizes(_parts(encoder)))


def _training_places(
    pieces: Iterable[Notes], encoder: NoteEncoder | None
) -> Iterator[dict[Role, NDArray[np.int16]]]:
    """The places of the pieces that the encoder accepts.

    Millions of notes fit into memory as 16-bit numbers.
    """
    rejected = []
    for piece in pieces:
        try:
            notes = quantize(piece) if encoder is None else snapped(encoder, quantize(piece))
            places = places_of(notes, _parts(encoder))
        except EncodingError as error:
            rejected.append(str(error))
            continue
        yield {role: at.astype(np.int16) for role, at in places.items()}
    if rejected:
        _log.warning("%s", rejections(rejected))


def _unigram(
    places: Iterable[Mapping[Role, NDArray[np.int16]]], sizes: Mapping[Role, int]
) -> Unigram:
    counts = {role: np.zeros(size, np.int64) for role, size in sizes.items()}
    repeats = dict.fromkeys(sizes, 0)
    parts = sizes.get("instrument", 0)
    by_part = {role: np.zeros((parts, grid.size), np.int64) for role, grid in GRIDS.items()}
    pairs = 0
    for piece in places:
        for role, at in piece.items():
            counts[role] += np.bincount(at, minlength=sizes[role])
            repeats[role] += int((at[1:] == at[:-1]).sum())
            if parts and role in by_part:
                np.add.at(by_part[role], (piece["instrument"], at), 1)
        pairs += max(0, len(piece["pitch"]) - 1)
    return Unigram(
        counts=counts,
        repeats=repeats,
        pairs=pairs,
        by_part={role: Table.of_counts(joint) for role, joint in by_part.items() if parts},
    )


_HIGHEST: Final = 6

_CLASSES: Final = {
    role: octave_bins(np.arange(grid.size), 10, 4)
    if role in ("step", "duration")
    else np.arange(grid.size)
    for role, grid in GRIDS.items()
}
"""By role, (C,) the class of each cell in a context; that of a part is its own."""

_KINDS: Final[Mapping[Role, int]] = {
    "instrument": 1025,  # the greatest number of parts, and another for those of no part
    **{role: int(classes.max()) + 1 for role, classes in _CLASSES.items()},
}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The counts of each cell after each context of one length.

    Attributes:
        codes: (G,) the n-grams that were seen, ascending: context times number of cells plus cell.
        ends: (G + 1,) the cumulative counts of the n-grams before each.
        cells: C, the number of cells.
    """

    codes: NDArray[np.int64]
    ends: NDArray[np.int64]
    cells: int

    @classmethod
    def of(cls, contexts: NDArray[np.int64], places: NDArray[np.int64], cells: int) -> Table:
        """Count (N,) contexts and the cells after them, given as indices."""
        codes, counts = np.unique(contexts * cells + places, return_counts=True)
        return cls(codes=codes, ends=np.concatenate([[0], np.cumsum(counts)]), cells=cells)

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> Table:
        """The (K, C) counts of each cell after K contexts."""
        codes = np.flatnonzero(counts)
        ends = np.concatenate([[0], np.cumsum(counts.reshape(-1)[codes])])
        return cls(codes=codes, ends=ends, cells=counts.shape[1])

    def to_json(self) -> dict[str, Any]:
        """The n-grams and the count of each, as JSON values."""
        return {"codes": self.codes.tolist(), "counts": np.diff(self.ends).tolist()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], cells: int) -> Table:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: If the stored values are damaged.
        """
        codes, counts = (np.array(stored[name], dtype=np.int64) for name in ("codes", "counts"))
        fits = codes.ndim == counts.ndim == 1 and len(codes) == len(counts)
        if not fits or np.any(np.diff(codes, prepend=-1) < 1) or np.any(counts < 1):
            raise ValueError("its n-grams do not ascend, or their counts are not at least 1")
        return cls(codes=codes, ends=np.concatenate([[0], np.cumsum(counts)]), cells=cells)

    def mixed(
        self, contexts: NDArray[np.int64], places: NDArray[np.int64], shorter: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(N,) P of cells after contexts, interpolated with P after shorter contexts.

        After a context that was seen N times, with D distinct cells following, P is
        (count + w shorter) / (N + w) with w = NOVELTY D: Witten and Bell's rule if NOVELTY is 1.
        """
        begin = np.searchsorted(self.codes, contexts * self.cells)
        end = np.searchsorted(self.codes, (contexts + 1) * self.cells)
        # Equal if the n-gram was not seen.
        code = contexts * self.cells + places
        before, after = (np.searchsorted(self.codes, code, side=s) for s in ("left", "right"))
        count = self.ends[after] - self.ends[before]
        seen = self.ends[end] - self.ends[begin]
        weight = NOVELTY * (end - begin)
        return np.asarray(
            np.where(seen > 0, (count + weight * shorter) / np.maximum(1, seen + weight), shorter)
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NGrams:
    """Predictions from the n - 1 notes before, with back-off to fewer if they were not seen.

    Contexts have pitches and velocities as they are, and times as classes: cells up to 0.1 s, then
    four classes to the octave. With instruments, they also have the part of the note itself, but
    for that of the instrument. The prediction is always the exact cell.

    Attributes:
        unigram: The last back-off.
        tables: By role, the tables of contexts of 1, 2 ... n - 1 notes.

    Source:
        Witten and Bell: The zero-frequency problem, IEEE Transactions on Information Theory 37(4),
        1991; interpolated as in Chen and Goodman, 1999, with more weight on unseen cells.
    """

    unigram: Unigram
    tables: Mapping[Role, tuple[Table, ...]]

    @property
    def order(self) -> int:
        """n, the number of notes of an n-gram."""
        return 1 + min(len(tables) for tables in self.tables.values())

    def up_to(self, order: int) -> NGrams:
        """The same baseline with shorter contexts: `order` 2 is a bigram.

        Raises:
            ConfigError: If the order is not 1 to n.
        """
        if not 1 <= order <= self.order:
            raise ConfigError(f"the order {order} is not 1 to {self.order}")
        return replace(self, tables={role: t[: order - 1] for role, t in self.tables.items()})

    def probabilities(self, places: Places) -> dict[Role, NDArray[np.float64]]:
        """By role, (N,) the probability of each note's cell; the first have shorter contexts."""
        made = self.unigram.probabilities(places)
        for role, at in places.items():
            part = None if role == "instrument" else places.get("instrument")
            for depth, table in enumerate(self.tables[role], start=1):
                contexts = _contexts(role, at, depth, part)
                made[role][depth:] = table.mixed(contexts, at[depth:], made[role][depth:])
        return made


def _contexts(
    role: Role, places: NDArray[np.int64], depth: int, part: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """(N - depth,) the classes of the `depth` notes before each note, as one number.

    It begins with the part of the note itself, if (N,) parts are given.
    """
    classes, kinds = _CLASSES[role][places] if role in _CLASSES else places, _KINDS[role]
    code = np.zeros(max(0, len(places) - depth), np.int64) if part is None else part[depth:]
    for back in range(depth, 0, -1):
        code = code * kinds + classes[depth - back : max(0, len(places) - back)]
    return code


def fit_ngrams(
    pieces: Iterable[Notes], *, order: int = 4, encoder: NoteEncoder | None = None
) -> NGrams:
    """Count the n-grams of training pieces; several million notes take seconds.

    `order`, n, is 1 to 6; shorter n-grams are counted as well. The other arguments are those of
    :func:`fit_unigram`.

    Raises:
        ConfigError: If the order is out of range.
        DataError: If there is no note.
    """
    if not 1 <= order <= _HIGHEST:
        raise ConfigError(f"the order {order} is not 1 to {_HIGHEST}")
    places = [piece for piece in _training_places(pieces, encoder) if len(piece["pitch"])]
    if not places:
        raise DataError(
            "there are no notes to count n-grams in", hint="give pieces that have notes"
        )
    index = np.concatenate([np.arange(len(piece["pitch"])) for piece in places])
    sizes = _sizes(_parts(encoder))
    joined = {
        role: np.concatenate([piece[role] for piece in places]).astype(np.int64) for role in sizes
    }
    tables: dict[Role, tuple[Table, ...]] = {}
    for role, size in sizes.items():
        at, part = joined[role], None if role == "instrument" else joined.get("instrument")
        by_depth = []
        for depth in range(1, order):
            inside = index[depth:] >= depth
            contexts = _contexts(role, at, depth, part)[inside]
            by_depth.append(Table.of(contexts, at[depth:][inside], size))
        tables[role] = tuple(by_depth)
    return NGrams(unigram=_unigram(places, sizes), tables=tables)
