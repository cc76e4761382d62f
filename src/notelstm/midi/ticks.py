"""``TickMap``: conversion between the ticks of a MIDI file and seconds, and its tempo map."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import RepairLog
from notelstm.notes import TempoMap

__all__ = ["LAST_TICK", "Marks", "TickMap", "fine_resolution", "merge_marks"]

_DEFAULT_TEMPO: Final = 500_000.0
"""Microseconds per quarter note before the first tempo: 120 quarter notes per minute."""

_LONGEST_TEMPO: Final = 2**24 - 1

LAST_TICK: Final = 9_999_998
"""The last tick that pretty_midi reads: it refuses files of 10,000,000 ticks, less one."""

_RESOLUTIONS: Final = (9600, 4800, 1920, 960)


def _scale(micros: float, ticks_per_beat: float) -> float:
    """Seconds per tick."""
    return 60.0 / (6e7 / micros * ticks_per_beat)


def fine_resolution(beats: float) -> int:
    """The finest common resolution at which every reader can read a piece.

    Args:
        beats: The length of the piece and of its tempo map, quarter notes.

    Returns:
        Ticks per quarter note: 9600 to 960, or 480 for very long pieces.
    """
    return next((r for r in _RESOLUTIONS if beats * r <= LAST_TICK), 480)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TickMap:
    """The time of each tick.

    Attributes:
        ticks_per_beat: Ticks per quarter note.
        ticks: (K,) start of each tempo, ascending, the first 0.
        seconds: (K,) start of each tempo.
        scales: (K,) seconds per tick.
    """

    ticks_per_beat: float
    ticks: NDArray[np.int64]
    seconds: NDArray[np.float64]
    scales: NDArray[np.float64]

    @classmethod
    def from_tempos(
        cls, ticks_per_beat: float, ticks: Sequence[int], micros: Sequence[float]
    ) -> TickMap:
        """The map of a file, in exactly pretty_midi's arithmetic.

        Args:
            ticks_per_beat: The file's division, above 0.
            ticks: Where each tempo is set, ascending; the last one on a tick counts.
            micros: Microseconds per quarter note, above 0.

        Returns:
            The map; 120 quarter notes per minute until the first tempo.
        """
        tempos = {0: _DEFAULT_TEMPO, **dict(zip(ticks, map(float, micros), strict=True))}
        starts, seconds, scales = [0], [0.0], [_scale(tempos.pop(0), ticks_per_beat)]
        for tick, micro in tempos.items():
            scale = _scale(micro, ticks_per_beat)
            if scale != scales[-1]:
                seconds.append(seconds[-1] + scales[-1] * (tick - starts[-1]))
                starts.append(tick)
                scales.append(scale)
        return cls(
            ticks_per_beat=ticks_per_beat,
            ticks=np.array(starts, dtype=np.int64),
            seconds=np.array(seconds),
            scales=np.array(scales),
        )

    @classmethod
    def from_tempo_map(cls, ticks_per_beat: int, tempo_map: TempoMap) -> TickMap:
        """The nearest map that a file can hold: whole ticks, whole microseconds."""
        micros = np.clip(np.rint(6e7 / tempo_map.tempos), 1, _LONGEST_TEMPO)
        ticks, second = [0], 0.0
        for at, micro in zip(tempo_map.seconds[1:].tolist(), micros.tolist(), strict=False):
            scale = _scale(micro, ticks_per_beat)
            gap = max(round((at - second) / scale), 0)
            ticks.append(ticks[-1] + gap)
            second += scale * gap
        return cls.from_tempos(ticks_per_beat, ticks, micros.tolist())

    def seconds_at(self, ticks: ArrayLike) -> NDArray[np.float64]:
        """Seconds from the start of the piece at each tick."""
        if self.ticks.size == 1:
            return np.asarray(np.multiply(ticks, self.scales[0], dtype=np.float64))
        at = np.asarray(ticks, dtype=np.int64)
        k = np.searchsorted(self.ticks, at, side="right") - 1
        return np.asarray(self.seconds[k] + self.scales[k] * (at - self.ticks[k]))

    def ticks_at(self, seconds: ArrayLike) -> NDArray[np.int64]:
        """The tick nearest to each time."""
        at = np.asarray(seconds, dtype=np.float64)
        k = np.maximum(np.searchsorted(self.seconds, at, side="right") - 1, 0)
        gap = np.rint((at - self.seconds[k]) / self.scales[k])
        return np.asarray(self.ticks[k] + gap.astype(np.int64))


class Marks(NamedTuple):
    """The tempos (tick, microseconds per quarter note) and time signatures of a chunk."""

    tempos: Sequence[tuple[int, int]]
    time_signatures: Sequence[tuple[int, int, int]]


def merge_marks(
    resolution: float, chunks: Sequence[Marks], policy: ReadPolicy, log: RepairLog
) -> tuple[TickMap, TempoMap]:
    """The tick map and the tempo map, of the marks in the chunks that the policy reads.

    Args:
        resolution: Ticks per quarter note.
        chunks: The marks of all chunks; the last one on a tick counts.
        policy: Which chunks to read.
        log: Gets a warning, logged as well, if marks of other chunks are ignored.
    """
    if policy.tempos == "all" or not any(any(chunk) for chunk in chunks[1:]):
        return _merged(resolution, chunks)
    ticks, tempo_map = _merged(resolution, chunks[:1])
    if _merged(resolution, chunks)[1] != tempo_map:
        log.warn(
            "tempo or time signature changes outside of the first chunk are left out by "
            "tempos='first'",
            logged=True,
        )
    return ticks, tempo_map


def _merged(resolution: float, chunks: Sequence[Marks]) -> tuple[TickMap, TempoMap]:
    tempos = [tempo for chunk in chunks for tempo in chunk.tempos]
    signatures = [signature for chunk in chunks for signature in chunk.time_signatures]
    if len(chunks) > 1:
        tempos.sort(key=lambda tempo: tempo[0])
        signatures.sort(key=lambda signature: signature[0])
    return _maps(resolution, tuple(tempos), tuple(signatures))


@functools.lru_cache(maxsize=16)  # files of one folder often share their tempos
def _maps(
    resolution: float, tempos: tuple[tuple[int, int], ...], signatures: tuple[tuple[int, ...], ...]
) -> tuple[TickMap, TempoMap]:
    ticks = TickMap.from_tempos(resolution, [t for t, _ in tempos], [m for _, m in tempos])
    # At very high resolutions two tempos can share one float64 second: the later one counts.
    keep = np.append(np.diff(ticks.seconds) > 0, True)
    starts, numerators, denominators = list(zip(*signatures, strict=True)) or [(), (), ()]
    return ticks, TempoMap(
        seconds=ticks.seconds[keep],
        tempos=60.0 / (ticks.scales[keep] * resolution),
        time_signature_beats=np.asarray(starts, dtype=np.float64) / resolution,
        numerators=numerators,
        denominators=denominators,
    )
