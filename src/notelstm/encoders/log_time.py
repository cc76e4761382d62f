"""``LogTimeEncoder``: pitch, step, duration and velocity as classes, with logarithmic times."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.encoders.rows import (
    END,
    PITCH,
    VELOCITY,
    AscendingRows,
    as_rows,
    ascending,
    ends_of,
    is_truncated,
    snapped,
)
from notelstm.errors import ConfigError
from notelstm.fields import Field, Role, Rows
from notelstm.labels import LabelMap
from notelstm.notes import Notes
from notelstm.parts import PartMap

__all__ = ["LogTimeEncoder"]

_MAX_CELLS: Final = 1_000_000
"""Limits the memory of wrong settings."""
_MAX_CLASSES: Final = 2**16


@final
@dataclass(frozen=True, kw_only=True)
class LogTimeEncoder:
    """One row per note: pitch, step, duration and velocity as classes, with logarithmic times.

    Times are counted in cells of `cell` seconds. Up to `linear` seconds, every cell is a class;
    above, classes grow by the factor `growth`, up to a last class of the cell `longest` alone.
    Steps are measured from the onsets as they will be decoded, so that rounding does not
    accumulate: the error of an onset is at most half of the widest step class so far, or half a
    cell if no step is longer than `linear`, apart from the excess of rests over `longest`.

    Pitches are exact, durations are within half of their class, velocities within 2. Rests and
    notes longer than `longest` become `longest`; notes shorter than half a cell become one cell.
    Program, drums, track, tempo map and the silence before the first note are lost. The domain is
    all pieces.

    With `exact`, onsets and durations are rounded to cells, the notes of a cell are sorted by
    pitch, and of a pitch that is repeated in a cell the first note remains, with the greatest
    duration and velocity; :meth:`allowed_classes` excludes all other rows in training, scoring and
    generation. Steps are the differences of the rounded onsets, and a class of several cells is
    decoded as a whole cell. So steps of up to `linear` are exact, and no longer one changes the
    class of those that follow. A step of a class of w cells is decoded within w // 2 cells, and
    these errors add up: the error of an onset is at most their sum over the steps so far, and half
    a cell each for its own rounding and that of the first onset. The borders of the classes are the
    same with and without `exact`, so that the weights of a model fit both.

    With a part map, which needs `exact`, each note also has the class of its part, and the notes of
    a cell are sorted by class and pitch. They are decoded with the program, percussion and track
    name of the part, and with its class as the track.

    With `conditions`, each row has the classes of the labels of its piece as given fields, and rows
    are decoded with the labels of the first one.

    With `ends`, the last field of a row is whether the note is the last of its piece, which no note
    of truncated :class:`~notelstm.notes.Notes` is. Rows that do not reach an end are decoded as
    truncated notes.

    Attributes:
        cell: Width of the finest class, seconds.
        linear: Seconds up to which every cell is a class.
        growth: Ratio of consecutive class borders above `linear`.
        longest: The longest step and duration, seconds.
        exact: Whether times are whole cells and rows are sorted, as above.
        parts: The classes of instruments; None for rows without instruments.
        ends: Whether rows have the end of the piece.
        conditions: The classes of labels; None for rows without labels.

    Raises:
        ConfigError: If the settings give no classes, or a label has the name of another field.
    """

    cell: float = 0.01
    linear: float = 0.4
    growth: float = 1.06
    longest: float = 30.0
    exact: bool = False
    parts: PartMap | None = None
    ends: bool = False
    conditions: LabelMap | None = None

    def __post_init__(self) -> None:
        ordered = 0 < self.cell <= self.linear < self.longest <= _MAX_CELLS * self.cell
        if not (ordered and 1 < self.growth < math.inf):
            raise ConfigError(
                f"{self} has no time classes",
                hint=f"choose 0 < cell <= linear < longest <= {_MAX_CELLS} cells, growth above 1",
            )
        if self.parts is not None and not self.exact:
            raise ConfigError(
                "parts without exact cells: their notes are sorted in each cell",
                hint="set exact=True",
            )
        for label in () if self.conditions is None else self.conditions.labels:
            if label.name in ("pitch", "step", "duration", "velocity", "instrument", "end"):
                raise ConfigError(
                    f"the label {label.name!r} has the name of a field of notes",
                    hint="leave it out, or rename it",
                )
        if len(self._borders) > _MAX_CLASSES:
            raise ConfigError(
                f"{len(self._borders)} time classes are more than {_MAX_CLASSES}",
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
        # With the last cell as a class, a rest clipped to it has no rounding error.
        return np.array([*borders, last + 1])

    @functools.cached_property
    def _centres(self) -> NDArray[np.float64]:
        """(K,) the cell as which each class is decoded; of an even number the earlier if exact."""
        centres = (self._borders[:-1] + self._borders[1:] - 1) / 2
        return np.floor(centres) if self.exact else centres

    def _times(self, name: str, role: Role, first: int) -> Field:
        """A field of the time classes from cell `first`."""
        borders, centres = self._borders[first:], self._centres[first:]
        return Field.categorical(
            name,
            role,
            values=tuple(centres * self.cell),
            edges=tuple((borders - 0.5) * self.cell),
            unit="s",
        )

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """Pitch, step, duration (s) and velocity; instrument, labels and end if they are set."""
        return (
            PITCH,
            self._times("step", "step", 0),
            self._times("duration", "duration", 1),
            VELOCITY,
            *(() if self.parts is None else (self.parts.field(),)),
            *(() if self.conditions is None else self.conditions.fields()),
            *((END,) if self.ends else ()),
        )

    def encode(self, notes: Notes) -> Rows:
        """(N, F) float32 class ids of the fields; if `exact`, of :meth:`snapped` notes.

        Raises:
            EncodingError: If the part map refuses a note.
        """
        notes = snapped(self, notes)
        cells = np.maximum(1, np.rint(notes.duration / self.cell))
        rows = np.zeros((len(notes), len(self.fields)), dtype=np.float32)
        rows[:, 0] = notes.pitch
        rows[:, 1] = self._step_classes(notes.start)
        # A duration has no class for 0 cells, so its ids are one less than a step's.
        rows[:, 2] = np.searchsorted(self._borders[1:-1], cells, side="right") - 1
        rows[:, 3] = notes.velocity // 4
        if self.parts is not None:
            rows[:, 4] = self.parts.classes_of(notes)
        if self.conditions is not None:
            rows[:, self._labels] = self.conditions.classes_of(notes)
        if self.ends:
            rows[:, -1] = ends_of(notes)
        return rows

    @property
    def _labels(self) -> slice:
        """The columns of the labels."""
        first = 4 if self.parts is None else 5
        return slice(first, first + (0 if self.conditions is None else len(self.conditions.labels)))

    def _step_classes(self, start: NDArray[np.float64]) -> list[int]:
        """(N,) the class of each step from the decoded (if `exact`, rounded) onset before."""
        if not start.size:
            return []
        if self.exact:
            onset = np.rint(start / self.cell)
            steps = np.diff(onset, prepend=onset[:1])
            return list(map(int, np.searchsorted(self._borders[1:-1], steps, side="right")))
        class_of = np.repeat(np.arange(len(self._borders) - 1), np.diff(self._borders)).tolist()
        centre = self._centres.tolist()
        classes, decoded, last = [], 0.0, len(class_of) - 1
        previous, excess = 0.0, 0.0
        for onset in ((start - start[0]) / self.cell).tolist():
            # The excess of a rest over `longest` is lost; later notes do not make up for it.
            excess += max(0.0, onset - previous - last)
            previous = onset
            step = onset - excess - decoded
            k = class_of[round(min(max(0.0, step), last))]
            decoded += centre[k]
            classes.append(k)
        return classes

    def snapped(self, notes: Notes) -> Notes | None:
        """The notes that the rows of `exact` encode; None without it, for the notes as they are."""
        if not self.exact:
            return None
        onset = np.rint(notes.start / self.cell)
        cells = np.maximum(1, np.rint(notes.duration / self.cell))
        start, end = onset * self.cell, (onset + cells) * self.cell
        # Rounded first: notes must be in the order of their onsets.
        return ascending(replace(notes, start=start, end=end), self.parts)

    def changes(self, notes: Notes) -> Mapping[str, int]:
        """The number of notes that :meth:`snapped` merges, if any."""
        merged = len(notes) - len(snapped(self, notes))
        return {"that repeat a pitch within a cell, merged": merged} if merged else {}

    @functools.cached_property
    def _ascending(self) -> AscendingRows:
        return AscendingRows(self.fields)

    @functools.cached_property
    def limited_fields(self) -> tuple[str, ...]:
        """Step, instrument and pitch with `exact`, else none."""
        return self._ascending.fields if self.exact else ()

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        """The classes with which the notes of a cell ascend, as in a ConstrainingEncoder."""
        return self._ascending.allowed(field, known, previous)

    def decode(self, rows: Rows) -> Notes:
        """Notes from (N, F) class ids; the first starts at its own step.

        Raises:
            EncodingError: If a class does not exist.
        """
        rows = as_rows(rows, self.fields)
        checked = rows.astype(np.int64)
        values = [np.array(field.values) for field in self.fields]
        start = np.cumsum(values[1][checked[:, 1]])
        labels: dict[str, str] = {}
        if self.conditions is not None and len(checked):
            labels = self.conditions.texts_of(checked[0, self._labels].tolist())
        return Notes(
            start=start,
            end=start + values[2][checked[:, 2]],
            pitch=checked[:, 0],
            velocity=values[3][checked[:, 3]],
            truncated=is_truncated(rows, self.fields),
            labels=labels,
            **({} if self.parts is None else self.parts.columns_of(checked[:, 4])),
        )
