"""Four classes a note: pitch, step, velocity and duration, times in bins that grow."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import PITCH, VELOCITY, as_rows
from notelstm.errors import ConfigError
from notelstm.fields import Field, Role, Rows
from notelstm.notes import Notes

__all__ = ["LogTimeEncoder"]

_MOST: Final = 1_000_000
"""More cells than that are a slip, and would fill the memory."""
_MOST_CLASSES: Final = 2**16
"""No model predicts more classes of a time than that."""


@final
@dataclass(frozen=True, kw_only=True)
class LogTimeEncoder:
    """One row a note: pitch, step, duration and velocity as classes, times in growing bins.

    Times are counted in cells of `cell` seconds. Up to `linear` seconds every cell is a class of
    its own; above, classes grow by the factor `growth`, up to a last one that is `longest` alone.
    Each step is measured from the onsets as they will be decoded, so rounding never adds up: an
    onset is off by at most half of the widest step class passed, half a cell where no step is
    longer than `linear`, if of each rest above `longest` no more than that is counted.

    Keeps pitch exactly, onsets (from the first note) and durations within half their class,
    velocity within 2. A rest or a note longer than `longest` becomes `longest`; a note shorter
    than half a cell becomes one cell. Does not keep program, drums, track, beats, and the silence
    before the first note. Its domain is every piece.

    Attributes:
        cell: Width of the finest class, seconds.
        linear: Seconds up to which every cell has a class of its own.
        growth: Ratio of a class's border to the one before, above `linear`.
        longest: The longest step and duration, seconds.

    Raises:
        ConfigError: If the settings give no classes.
    """

    cell: float = 0.01
    linear: float = 0.4
    growth: float = 1.06
    longest: float = 30.0

    def __post_init__(self) -> None:
        """Check the settings."""
        ordered = 0 < self.cell <= self.linear < self.longest <= _MOST * self.cell
        if not (ordered and 1 < self.growth < math.inf):
            raise ConfigError(
                f"{self} has no time classes",
                hint=f"choose 0 < cell <= linear < longest, at most {_MOST} cells, and a growth "
                "above 1",
            )
        if len(self._borders) > _MOST_CLASSES:
            raise ConfigError(
                f"{len(self._borders)} time classes are more than {_MOST_CLASSES}",
                hint="use a larger growth, or a larger cell",
            )

    @functools.cached_property
    def _borders(self) -> NDArray[np.int64]:
        """(K + 1,) the first cell of each class, and one past the last cell."""
        last = round(self.longest / self.cell)
        borders = list(range(min(round(self.linear / self.cell) + 2, last + 1)))
        while borders[-1] < last:
            grown = max(borders[-1] + 1, round(borders[-1] * self.growth))
            borders.append(min(grown, last))
        # The last cell is a class of its own: a rest cut off there leaves nothing to catch up with.
        return np.array([*borders, last + 1])

    def _times(self, name: str, role: Role, first: int) -> Field:
        """A field of time classes whose first cell is `first`."""
        borders = self._borders[first:]
        centres = (borders[:-1] + borders[1:] - 1) / 2
        return Field.categorical(
            name,
            role,
            values=tuple(centres * self.cell),
            edges=tuple((borders - 0.5) * self.cell),
            unit="s",
        )

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """Pitch (128), step, duration (seconds in growing classes) and velocity (32)."""
        return (
            PITCH,
            self._times("step", "step", 0),
            self._times("duration", "duration", 1),
            VELOCITY,
        )

    def encode(self, notes: Notes) -> Rows:
        """(N, 4) float32 class ids."""
        cells = np.maximum(1, np.rint(notes.duration / self.cell))
        rows = np.zeros((len(notes), 4), dtype=np.float32)
        rows[:, 0] = notes.pitch
        rows[:, 1] = self._step_classes(notes.start)
        # A duration has no class for 0 cells, so its ids are one less than a step's.
        rows[:, 2] = np.searchsorted(self._borders[1:-1], cells, side="right") - 1
        rows[:, 3] = notes.velocity // 4
        return rows

    def _step_classes(self, start: NDArray[np.float64]) -> list[int]:
        """(N,) the class of each step, measured from where the note before will be decoded."""
        if not start.size:
            return []
        class_of = np.repeat(np.arange(len(self._borders) - 1), np.diff(self._borders)).tolist()
        centre = ((self._borders[:-1] + self._borders[1:] - 1) / 2).tolist()
        classes, clock, last = [], 0.0, len(class_of) - 1
        before, given_up = 0.0, 0.0
        for onset in ((start - start[0]) / self.cell).tolist():
            # What a rest has above `longest` is given up, not caught up with by later notes.
            given_up += max(0.0, onset - before - last)
            before = onset
            wanted = onset - given_up - clock
            k = class_of[round(min(max(0.0, wanted), last))]
            clock += centre[k]
            classes.append(k)
        return classes

    def decode(self, rows: Rows) -> Notes:
        """Notes from (N, 4) class ids; the first starts at its own step.

        Raises:
            EncodingError: If a class does not exist.
        """
        checked = as_rows(rows, self.fields).astype(np.int64)
        values = [np.array(field.values) for field in self.fields]
        start = np.cumsum(values[1][checked[:, 1]])
        return Notes(
            start=start,
            end=start + values[2][checked[:, 2]],
            pitch=checked[:, 0],
            velocity=values[3][checked[:, 3]],
        )
