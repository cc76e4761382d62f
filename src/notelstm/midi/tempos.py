"""The tempo and metre map of a file, from where its chunks set tempo and metre."""

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
    """Where a chunk sets the tempo and the metre.

    Attributes:
        tempos: (tick, microseconds to a quarter note).
        meters: (tick, upper number, lower number).
    """

    tempos: Sequence[tuple[int, int]]
    meters: Sequence[tuple[int, int, int]]


def tempo_maps(
    resolution: float, chunks: Sequence[Marks], policy: ReadPolicy, log: RepairLog
) -> tuple[TickMap, TempoMap]:
    """Merge the tempos and metres of the chunks that the policy counts.

    Args:
        resolution: Ticks to a quarter note.
        chunks: The marks of all chunks; on one tick the last one counts.
        policy: Which chunks count.
        log: Where it is noted, and logged, if others would have changed something.

    Returns:
        The tick map and the beat map.
    """
    if policy.tempos == "all" or not any(any(chunk) for chunk in chunks[1:]):
        return _merged(resolution, chunks)
    ticks, beats = _merged(resolution, chunks[:1])
    if _merged(resolution, chunks)[1] != beats:
        log.warn(
            "tempo or metre changes outside of the first chunk are left out by tempos='first'",
            logged=True,
        )
    return ticks, beats


def _merged(resolution: float, chunks: Sequence[Marks]) -> tuple[TickMap, TempoMap]:
    tempos = [tempo for chunk in chunks for tempo in chunk.tempos]
    meters = [meter for chunk in chunks for meter in chunk.meters]
    if len(chunks) > 1:
        tempos.sort(key=lambda tempo: tempo[0])
        meters.sort(key=lambda meter: meter[0])
    return _maps(resolution, tuple(tempos), tuple(meters))


@functools.lru_cache(maxsize=16)
def _maps(
    resolution: float, tempos: tuple[tuple[int, int], ...], meters: tuple[tuple[int, int, int], ...]
) -> tuple[TickMap, TempoMap]:
    """Files of one folder often share tempo and metre: those of the last few are kept."""
    ticks = TickMap.from_tempos(resolution, [t for t, _ in tempos], [m for _, m in tempos])
    columns = list(zip(*meters, strict=True)) or [(), (), ()]
    return ticks, ticks.beat_map(*columns)
