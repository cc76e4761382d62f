"""The tempo map of a file, from the tempos and time signatures in its chunks."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import RepairLog
from notelstm.midi.ticks import TickMap
from notelstm.notes import TempoMap

__all__ = ["Marks", "tempo_maps"]


class Marks(NamedTuple):
    """Where a chunk sets the tempo and the time signature.

    Attributes:
        tempos: (tick, microseconds to a quarter note).
        meters: (tick, upper number, lower number).
    """

    tempos: Sequence[tuple[int, int]]
    time_signatures: Sequence[tuple[int, int, int]]


def tempo_maps(
    resolution: float, chunks: Sequence[Marks], policy: ReadPolicy, log: RepairLog
) -> tuple[TickMap, TempoMap]:
    """Merge the tempos and time signatures of the chunks that the policy counts.

    Args:
        resolution: Ticks to a quarter note.
        chunks: The marks of all chunks; on one tick the last one counts.
        policy: Which chunks count.
        log: Where it is noted, and logged, if others would have changed something.

    Returns:
        The tick map and the tempo map.
    """
    if policy.tempos == "all" or not any(any(chunk) for chunk in chunks[1:]):
        return _merged(resolution, chunks)
    ticks, beats = _merged(resolution, chunks[:1])
    if _merged(resolution, chunks)[1] != beats:
        log.warn(
            "tempo or time signature changes outside of the first chunk are left out by "
            "tempos='first'",
            logged=True,
        )
    return ticks, beats


def _merged(resolution: float, chunks: Sequence[Marks]) -> tuple[TickMap, TempoMap]:
    tempos = [tempo for chunk in chunks for tempo in chunk.tempos]
    time_signatures = [
        time_signature for chunk in chunks for time_signature in chunk.time_signatures
    ]
    if len(chunks) > 1:
        tempos.sort(key=lambda tempo: tempo[0])
        time_signatures.sort(key=lambda time_signature: time_signature[0])
    return _maps(resolution, tuple(tempos), tuple(time_signatures))


@functools.lru_cache(maxsize=16)
def _maps(
    resolution: float,
    tempos: tuple[tuple[int, int], ...],
    time_signatures: tuple[tuple[int, int, int], ...],
) -> tuple[TickMap, TempoMap]:
    """Files of one folder often share tempo and time signature: those of the last few are kept."""
    ticks = TickMap.from_tempos(resolution, [t for t, _ in tempos], [m for _, m in tempos])
    columns = list(zip(*time_signatures, strict=True)) or [(), (), ()]
    return ticks, ticks.beat_map(*columns)
