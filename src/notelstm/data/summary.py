"""``summarise``: statistics of a corpus."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from heapq import nlargest
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.data.corpus import Corpus, FileReport
from notelstm.data.leaks import Leak, find_duplicates
from notelstm.encoders import BeatEncoder
from notelstm.encoders.time_signatures import names_of
from notelstm.parts import PartMap

__all__ = ["CorpusSummary", "Distribution", "summarise"]

CELL: Final = 0.001
"""Seconds; the width of the cells in which times are counted."""

LONGEST: Final = 30.0
"""Seconds; longer times are counted as this long."""

_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS: Final = (0.0, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@final
@dataclass(frozen=True, kw_only=True)
class Distribution:
    """The distribution of a number over all notes.

    Attributes:
        quantiles: The 5th, 25th, 50th, 75th and 95th percentile.
        edges: The lower edge of each bin.
        counts: The number of notes in each bin, the last without an upper edge.
    """

    unit: str
    least: float
    most: float
    mean: float
    quantiles: tuple[float, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@final
@dataclass(frozen=True, kw_only=True)
class CorpusSummary:
    """Statistics of a corpus.

    Name, license, source and fingerprint are those of the :class:`~notelstm.data.corpus.Corpus`.

    Attributes:
        files: The number of files.
        pieces: The number of files that were read.
        repaired: The number of files that had to be repaired.
        rejected: The number of files that could not be read.
        reasons: The number of files for each reason.
        notes: Notes in all pieces.
        left_out: The number of notes that the policy left out, by setting.
        seconds: Length of all pieces.
        pitch: MIDI note numbers; one bin each.
        step: Seconds from note to note, in cells of 1 ms; more than 30 s counts as 30 s.
        duration: Seconds, in the same cells.
        velocity: MIDI velocities; one bin each.
        instruments: The number of notes of each part of the corpus, by name or family as
            :meth:`PartMap.from_pieces <notelstm.parts.PartMap.from_pieces>` chooses, the most
            first.
        time_signatures: The number of pieces that state each time signature, the most first.
        changes_in_beats: The number of notes that a :class:`~notelstm.encoders.BeatEncoder` with
            its default settings changes, by reason.
        shortest: The pieces with the fewest notes, and their numbers of notes.
        worst: The files with the most repairs, after those that could not be read.
        duplicates: Music that is in two pieces.
    """

    name: str
    license: str
    source: str
    fingerprint: str
    files: int
    pieces: int
    repaired: int
    rejected: int
    reasons: dict[str, int]
    notes: int
    left_out: dict[str, int]
    seconds: float
    pitch: Distribution
    step: Distribution
    duration: Distribution
    velocity: Distribution
    instruments: dict[str, int]
    time_signatures: dict[str, int]
    changes_in_beats: dict[str, int]
    shortest: tuple[tuple[str, int], ...]
    worst: tuple[FileReport, ...]
    duplicates: tuple[Leak, ...]

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return asdict(self)


def summarise(corpus: Corpus, *, worst: int = 20, passages: bool = True) -> CorpusSummary:
    """Compute the statistics of a corpus.

    Args:
        corpus: The corpus.
        worst: The number of worst files, and of shortest pieces, to list.
        passages: List pieces that share long passages too, not only copies and transpositions.
    """
    pitch, velocity = np.zeros(128, np.int64), np.zeros(128, np.int64)
    step, duration = np.zeros((2, round(LONGEST / CELL) + 1), np.int64)
    time_signatures, changes, beats = Counter[str](), Counter[str](), BeatEncoder()
    seconds = 0.0
    for notes in corpus:
        pitch += np.bincount(notes.pitch, minlength=128)
        velocity += np.bincount(notes.velocity, minlength=128)
        step += _cells(notes.step[1:])  # the first note of a piece has no step
        duration += _cells(notes.duration)
        seconds += notes.end_time
        if notes.tempo_map is not None:
            time_signatures.update(dict.fromkeys(names_of(notes.tempo_map), 1))
            changes.update(beats.changes(notes))
    lengths = corpus.lengths
    order = np.argsort(lengths, kind="stable")[:worst].tolist()
    left_out = Counter[str]()
    for file in corpus.report:
        left_out.update(file.left_out)
    bad = (file for file in corpus.report if file.error or file.repairs_total or file.lost)
    return CorpusSummary(
        name=corpus.name,
        license=corpus.license,
        source=corpus.source,
        fingerprint=corpus.fingerprint,
        files=len(corpus.report),
        pieces=len(corpus),
        repaired=sum(1 for _ in corpus.report.repaired()),
        rejected=corpus.report.rejected_total,
        reasons=dict(corpus.report.reasons().most_common()),
        notes=int(lengths.sum()),
        left_out=dict(left_out),
        seconds=seconds,
        pitch=_of_whole("MIDI note", pitch),
        step=_of_times(step),
        duration=_of_times(duration),
        velocity=_of_whole("MIDI velocity", velocity),
        instruments=_instruments(corpus) if lengths.any() else {},
        time_signatures=dict(time_signatures.most_common()),
        changes_in_beats=dict(changes.most_common()),
        shortest=tuple((corpus.names[k], int(lengths[k])) for k in order),
        worst=tuple(nlargest(worst, bad, key=lambda f: (bool(f.error), f.lost, f.repairs_total))),
        duplicates=tuple(
            find_duplicates(zip(corpus.names, corpus, strict=True), passages=passages)
        ),
    )


def _instruments(corpus: Corpus) -> dict[str, int]:
    """The number of notes of each part, the most first."""
    part_map, counts = PartMap.from_pieces(corpus, by="auto"), Counter[str]()
    for notes in corpus:
        for k, count in enumerate(np.bincount(part_map.classes_of(notes)).tolist()):
            counts[part_map.parts[k].name] += count
    return dict(counts.most_common())


def _cells(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of times in each cell."""
    last = round(LONGEST / CELL)
    return np.bincount(np.minimum(np.rint(times / CELL), last).astype(np.int64), minlength=last + 1)


def _of_whole(unit: str, counts: NDArray[np.int64]) -> Distribution:
    values = np.arange(len(counts), dtype=np.float64)
    return _distribution(unit, values, counts, tuple(values.tolist()), tuple(counts.tolist()))


def _of_times(counts: NDArray[np.int64]) -> Distribution:
    values: NDArray[np.float64] = np.round(np.arange(len(counts)) * CELL, 6)
    places = np.searchsorted(_BINS, values + CELL / 2, side="right") - 1
    bins = np.bincount(places, weights=counts, minlength=len(_BINS)).astype(np.int64)
    return _distribution("s", values, counts, _BINS, tuple(bins.tolist()))


def _distribution(
    unit: str,
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    edges: tuple[float, ...],
    bins: tuple[int, ...],
) -> Distribution:
    total = int(counts.sum())
    least = most = mean = 0.0
    quantiles: tuple[float, ...] = ()
    if total:
        there = np.flatnonzero(counts)
        least, most = float(values[there[0]]), float(values[there[-1]])
        mean = float(values @ counts / total)
        ranks = np.searchsorted(np.cumsum(counts), [q * total for q in _QUANTILES], side="left")
        quantiles = tuple(values[ranks].tolist())
    return Distribution(
        unit=unit, least=least, most=most, mean=mean, quantiles=quantiles, edges=edges, counts=bins
    )
