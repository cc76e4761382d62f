"""What was played last, to be taken back or taken out; and where one stood, to go back to."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from notelstm.errors import ConfigError
from notelstm.fields import Field, Rows
from notelstm.generation.lanes import Lanes, push_all
from notelstm.generation.steps import Place
from notelstm.notes import Note
from notelstm.protocols import Tracker

__all__ = ["Past", "Snapshot"]

_ROWS: Final = 32
"""Rows a note, at most, that are kept to be taken back."""


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where a session stood; only a session made of the same parts can go back to it.

    Attributes:
        place: Where the model stood.
        seed: What the noise is made from.
        noise: Which row's noise came next.
        trackers: Each lane's music.
        alike: Whether all lanes were alike.
        fields: The session's fields.
        ahead: By how much its clock was ahead of that of whoever feeds notes, seconds.
    """

    place: Place
    seed: int
    noise: int
    trackers: Sequence[Tracker]
    alike: bool
    fields: tuple[Field, ...]
    ahead: float


@final
class Past:
    """The last rows of one lane with where the model stood before them, and the notes given out.

    Args:
        lanes: The lanes, one if notes can be taken back.
        undoable: How many notes can be.

    Attributes:
        undoable: The same.
    """

    def __init__(self, lanes: Lanes, undoable: int) -> None:
        self._lanes: Final = lanes
        self.undoable: Final = undoable
        self._given: set[int] = set()
        self.clear()

    def clear(self) -> None:
        """Begin here: nothing from before can be taken back."""
        self._steps: deque[tuple[Rows, Place]] = deque()
        # The music before the first of the steps.
        self._base: Tracker = self._lanes.trackers[0].copy()
        self._given.clear()

    def add(self, rows: Rows, before: Place) -> None:
        """Rows (T, F) were read, by a model that stood in `before`."""
        if not self.undoable:
            return
        self._steps.append((rows, before))
        # Looking costs more than waiting, so it is done now and then.
        if len(self._steps) % self.undoable == 0:
            self._forget_old(self._lanes.trackers[0].n)

    def _forget_old(self, n: int) -> None:
        kept = self.undoable
        while len(self._steps) > kept and (
            n - self._base.n > kept or len(self._steps) > kept * _ROWS
        ):
            rows, _ = self._steps[0]
            before = self._base.copy() if len(rows) > 1 else None
            push_all(self._base, rows, bulk=self._lanes.bulk)
            if before is not None and n - self._base.n < kept:
                self._base = before
                return
            self._steps.popleft()

    def undo(self, notes: int) -> tuple[Place, Rows]:
        """Take back the last notes.

        Args:
            notes: How many.

        Returns:
            Where the model stood before the rows in which the first of them began, and those of
            these rows that came before it, (T, F), which are to be read again.

        Raises:
            ConfigError: If so many cannot be taken back.
        """
        begun: list[tuple[int, int, int]] = []
        tracker = self._base.copy()
        for i, (rows, _) in enumerate(self._steps):
            for j, row in enumerate(rows):
                n = tracker.n
                tracker.push(row)
                begun += [(i, j, n)] * (tracker.n - n)
        if notes > len(begun):
            raise ConfigError(
                f"with one lane the last {len(begun)} notes can be taken back",
                got=f"{notes}",
                hint="make the Session with a larger `undoable`, or take a snapshot in time",
            )
        step, row_number, left = begun[-notes]
        rows, place = self._steps[step]
        while len(self._steps) > step:
            self._steps.pop()
        tracker = self._base.copy()
        for earlier, _ in self._steps:
            push_all(tracker, earlier, bulk=self._lanes.bulk)
        self._lanes.trackers = [tracker]
        self._given = {number for number in self._given if number < left}
        return place, rows[:row_number]

    def take(self) -> list[list[tuple[int, Note]]]:
        """The notes of each lane that have ended and were not given out before."""
        out = [list(tracker.forget()) for tracker in self._lanes.trackers]
        if self.undoable:
            # The base comes behind: what it forgets was given out, and cannot come again.
            out[0] = [(number, note) for number, note in out[0] if number not in self._given]
            self._given.update(number for number, _ in out[0])
            self._given.difference_update(number for number, _ in self._base.forget())
        return out
