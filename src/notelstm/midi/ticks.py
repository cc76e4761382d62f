"""``TickMap``: between the ticks of a MIDI file and seconds, both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notelstm.notes import TempoMap

__all__ = ["DEFAULT_TEMPO", "LAST_TICK", "TickMap", "fine_resolution"]

DEFAULT_TEMPO: Final = 500_000
"""Microseconds to a quarter note where a file says nothing: 120 quarter notes per minute."""

_LONGEST_TEMPO: Final = 2**24 - 1

LAST_TICK: Final = 9_999_998
"""The latest tick that pretty_midi reads, which refuses files of 10,000,000 ticks, less one."""

_RESOLUTIONS: Final = (9600, 4800, 1920, 960)


def _scale(micros: float, ticks_per_beat: float) -> float:
    """Seconds to a tick."""
    return 60.0 / (6e7 / micros * ticks_per_beat)


def fine_resolution(beats: float) -> int:
    """The finest of the common resolutions with which every reader can read a piece.

    Args:
        beats: The length of the piece, its tempo changes included, quarter notes.

    Returns:
        Ticks to a quarter note: 9600 to 960, or 480 where the piece is very long.
    """
    return next((r for r in _RESOLUTIONS if beats * r <= LAST_TICK), 480)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TickMap:
    """Which second each tick is at.

    Attributes:
        ticks_per_beat: Ticks to a quarter note.
        ticks: (K,) where each tempo starts, ascending, the first 0.
        seconds: (K,) where each tempo starts.
        scales: (K,) seconds to a tick.
    """

    ticks_per_beat: float
    ticks: NDArray[np.int64]
    seconds: NDArray[np.float64]
    scales: NDArray[np.float64]

    @classmethod
    def from_tempos(
        cls, ticks_per_beat: float, ticks: Sequence[int] = (), micros: Sequence[float] = ()
    ) -> TickMap:
        """The map of a file, in the very arithmetic of pretty_midi.

        Args:
            ticks_per_beat: The file's division, above 0.
            ticks: Where each tempo is set, ascending; of several on one tick the last counts.
            micros: Microseconds to a quarter note, above 0.

        Returns:
            The map; 120 quarter notes per minute until the first tempo.
        """
        tempos = {0: float(DEFAULT_TEMPO), **dict(zip(ticks, map(float, micros), strict=True))}
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
    def from_beats(cls, ticks_per_beat: int, beats: TempoMap) -> TickMap:
        """The nearest map that a file can hold: whole ticks, whole microseconds.

        Args:
            ticks_per_beat: The division of the file to be written.
            beats: The tempo map to come near to.
        """
        micros = np.clip(np.rint(6e7 / beats.tempos), 1, _LONGEST_TEMPO)
        ticks, second = [0], 0.0
        for at, micro in zip(beats.seconds[1:].tolist(), micros.tolist(), strict=False):
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
        """The tick nearest to each second."""
        at = np.asarray(seconds, dtype=np.float64)
        k = np.maximum(np.searchsorted(self.seconds, at, side="right") - 1, 0)
        gap = np.rint((at - self.seconds[k]) / self.scales[k])
        return np.asarray(self.ticks[k] + gap.astype(np.int64))

    def beat_map(
        self,
        meter_ticks: Sequence[int] = (),
        numerators: Sequence[int] = (),
        denominators: Sequence[int] = (),
    ) -> TempoMap:
        """The same map in seconds and beats, with time signatures.

        Args:
            meter_ticks: Where each time signature starts.
            numerators: Their upper numbers, above 0.
            denominators: Their lower numbers, above 0.
        """
        # Very high resolutions can set two tempos within one float64 second: the later counts.
        keep = np.append(np.diff(self.seconds) > 0, True)
        return TempoMap(
            seconds=self.seconds[keep],
            tempi=60.0 / (self.scales[keep] * self.ticks_per_beat),
            meter_beats=np.asarray(meter_ticks, dtype=np.float64) / self.ticks_per_beat,
            numerators=numerators,
            denominators=denominators,
        )
