"""The tracker of ``BeatEncoder``: decoding in beats, row by row."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence, Set
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import EncodingError
from notelstm.fields import Field, Mask, Row, Rows
from notelstm.notes import TempoMap, Note, Notes
from notelstm.tracker import MAX_HISTORY, Tracker

__all__ = ["BeatTracker"]


@final
class BeatTracker(Tracker):
    """Decodes rows in beats, with the positions that a step leads to.

    Args:
        fields: Those of the encoder: metre, step, position, tempo, pitch, duration, velocity.
        per_beat: Cells in a quarter note; times are counted in them.
        bars: (M,) cells in a bar of each metre.
        signatures: (M, 2) the numbers of each metre's time signature.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        per_beat: int,
        bars: NDArray[np.int64],
        signatures: NDArray[np.int64],
    ) -> None:
        super().__init__(fields)
        self._per_beat: Final = per_beat
        self._signatures: Final = signatures
        self._bars: Final = bars
        self._lengths: Final[list[int]] = bars.tolist()
        self._steps: Final = np.arange(fields[1].classes or 0)
        self._places: Final = np.arange(fields[2].classes or 0)
        self._tempi: Final = fields[3].values
        self._velocities: Final = fields[6].values
        self._rows: list[list[int]] = []
        self._at: list[int] = []
        self._played: list[tuple[float, int]] = []
        self._time = 0.0
        self._n = 0
        self._forgotten = False
        # (end in cells, number, onset in seconds, pitch, velocity)
        self._open: list[tuple[int, int, float, int, int]] = []
        self._done: list[tuple[int, Note]] = []

    @property
    def num_notes(self) -> int:
        """How many notes have begun."""
        return self._n

    @property
    def time(self) -> float:
        """The onset of the latest note, seconds."""
        return self._time

    def push(self, row: Row) -> None:
        """Take in the next note, (7,).

        Raises:
            EncodingError: If its position is not one that metre and step lead to.
        """
        ids = [int(entry) for entry in row.tolist()]
        metre, step, position, tempo, pitch, duration, loud = ids
        if not self._fits(metre, step, position):
            raise EncodingError(
                f"position {position} of a bar of {self._lengths[metre]} cells does not follow "
                f"from a step of {step} cells",
                where=f"row {self.num_notes}",
                hint="sample only allowed entries, or repair the row",
            )
        at = self._at[-1] + step if self._rows else step
        # What ends by now ends in the tempo of the note before.
        self._done += [self._ended(note) for note in self._open if note[0] <= at]
        self._open = [note for note in self._open if note[0] > at]
        since = self._rows[-1][3] if self._rows else tempo
        self._time += step * 60 / (self._tempi[since] * self._per_beat)
        self._rows.append(ids)
        self._at.append(at)
        self._played.append((self._time, pitch))
        velocity = int(self._velocities[loud])
        self._open.append((at + duration + 1, self._n, self._time, pitch, velocity))
        self._n += 1

    def _ended(self, note: tuple[int, int, float, int, int]) -> tuple[int, Note]:
        """The number of a note that goes on, and the note as it ends in the tempo of the latest."""
        end, number, start, pitch, velocity = note
        left = (end - self._at[-1]) / self._per_beat * self.seconds_per_unit
        return number, Note(start, self._time + left, pitch, velocity)

    def _fits(self, metre: int, step: int, position: int) -> bool:
        bar = self._lengths[metre]
        if not self._rows:
            return position < bar
        last, _, place, *_ = self._rows[-1]
        if metre == last:
            return position == (place + step) % bar
        return position < min(bar, step)

    def sounding(self, at: float) -> Set[int]:
        """The pitches that sound `at` seconds after the start, at or after the latest onset."""
        if not self._rows:
            return set()
        tempo = self._tempi[self._rows[-1][3]]
        now = self._at[-1] + (at - self._time) * tempo * self._per_beat / 60
        return {pitch for end, _, _, pitch, _ in self._open if end > now}

    def latest(self, count: int) -> Sequence[tuple[float, int]]:
        """Onset (s) and pitch of the latest `count` notes, in order."""
        return self._played[-count:]

    @property
    def position(self) -> float:
        """Beats from the bar line to the latest note."""
        return self._rows[-1][2] / self._per_beat if self._rows else 0.0

    @property
    def seconds_per_unit(self) -> float:
        """Seconds of a beat in the tempo of the latest note; of the middle one before the first."""
        return 60 / self._tempi[self._rows[-1][3] if self._rows else len(self._tempi) // 2]

    def remaining(self) -> Sequence[tuple[float, int]]:
        """How many beats longer each note lasts that sounds beyond the latest onset."""
        return [((note[0] - self._at[-1]) / self._per_beat, note[3]) for note in self._open]

    def overlapping(self, known: Mapping[str, float]) -> Set[int] | None:
        """The pitches that still sound after the step that is known; None if none is."""
        if "step" not in known:
            return None
        at = self._at[-1] + int(known["step"]) if self._at else 0
        return {pitch for end, _, _, pitch, _ in self._open if end > at}

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """What metre, step and position can be so that they agree; anything for other fields."""
        metre, step, position = (known.get(name) for name in ("metre", "step", "position"))
        if field.role == "metre":
            return self._allowed_metres(step, position)
        if field.role == "step":
            return self._allowed_steps(metre, position)
        if field.role == "position":
            return self._allowed_positions(metre, step)
        return None

    def _allowed_metres(self, step: float | None, position: float | None) -> Mask:
        place = 0 if position is None else position
        allowed = self._bars > place
        if self._rows and step is not None:
            last, _, before, *_ = self._rows[-1]
            allowed &= step > place
            allowed[last] = position is None or position == (before + step) % self._lengths[last]
        return allowed

    def _allowed_steps(self, metre: float | None, position: float | None) -> Mask:
        if not self._rows:
            return self._steps >= 0
        last, _, before, *_ = self._rows[-1]
        place = 0 if position is None else position
        goes_on = self._steps >= 0
        if position is not None:
            goes_on = (before + self._steps) % self._lengths[last] == position
        if metre == last:
            return goes_on
        changes = self._steps > place
        if metre is not None:
            return changes
        others = np.delete(self._bars, last)
        return goes_on | changes if np.any(others > place) else goes_on

    def _allowed_positions(self, metre: float | None, step: float | None) -> Mask:
        longest = self._bars.max() if metre is None else self._lengths[int(metre)]
        if not self._rows:
            return self._places < longest
        last, _, before, *_ = self._rows[-1]
        goes_on = self._places < self._lengths[last]
        if step is not None:
            goes_on = self._places == (before + step) % self._lengths[last]
        if metre == last:
            return goes_on
        if metre is None:
            longest = np.delete(self._bars, last).max(initial=0)
        changes = self._places < (longest if step is None else min(longest, step))
        return changes if metre is not None else goes_on | changes

    def closing_rows(self) -> Rows:
        """No rows: the end of each note is known."""
        return np.zeros((0, 7), dtype=np.float32)

    def notes(self) -> Notes:
        """Everything pushed and not forgotten; with its beat map unless something was."""
        if not self._rows:
            return Notes.empty()
        if self._forgotten:
            kept = sorted([*self._done, *map(self._ended, self._open)])
            if not kept:
                return Notes.empty()
            start, end, pitch, velocity = zip(*(note for _, note in kept), strict=True)
            return Notes(start=start, end=end, pitch=pitch, velocity=velocity)
        at = np.array(self._at)
        metre, _, position, tempo, pitch, duration, velocity = np.array(self._rows).T
        beats = self._beat_map(at, metre, position, np.array(self._tempi)[tempo])
        return Notes(
            start=beats.seconds_at(at / self._per_beat),
            end=beats.seconds_at((at + duration + 1) / self._per_beat),
            pitch=pitch,
            velocity=np.array(self._velocities)[velocity],
            beats=beats,
        )

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Give out the notes that have ended, or all of them; what sounds goes on."""
        out = self._done
        if include_sounding:
            out, self._open = [*out, *map(self._ended, self._open)], []
        self._done, self._forgotten = [], True
        del self._rows[:-1], self._at[:-1], self._played[:-MAX_HISTORY]
        return out

    def copy(self) -> BeatTracker:
        """Another tracker that stands where this one does."""
        twin = copy.copy(self)
        for name in ("_rows", "_at", "_played", "_open", "_done"):
            setattr(twin, name, [*getattr(self, name)])
        return twin

    def _beat_map(
        self,
        at: NDArray[np.int64],
        metre: NDArray[np.int64],
        position: NDArray[np.int64],
        tempo: NDArray[np.float64],
    ) -> TempoMap:
        changes = np.flatnonzero(np.diff(tempo)) + 1
        knots, tempi = np.append(0, at[changes]), np.append(tempo[0], tempo[changes])
        last = np.append(np.diff(knots) > 0, True)
        knots, tempi = knots[last], tempi[last]
        seconds = np.cumsum(np.diff(knots) * 60 / (tempi[:-1] * self._per_beat))
        runs = np.append(0, np.flatnonzero(np.diff(metre)) + 1)
        lines, signatures = at[runs] - position[runs], self._signatures[metre[runs]]
        lines[0] %= self._lengths[metre[0]]
        if len(lines) > 1 and lines[0] >= lines[1]:
            lines, signatures = lines[1:], signatures[1:]
        return TempoMap(
            seconds=np.append(0.0, seconds),
            tempi=tempi,
            meter_beats=lines / self._per_beat,
            numerators=signatures[:, 0],
            denominators=signatures[:, 1],
        )
