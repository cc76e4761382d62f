"""Undoing the last notes of a session, and snapshots of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from notelstm.errors import ConfigError
from notelstm.fields import Field, Rows
from notelstm.generation.sequences import Sequences
from notelstm.generation.steps import ModelState
from notelstm.notes import Note
from notelstm.tracker import Tracker

__all__ = ["Snapshot", "UndoHistory"]

_ROWS_PER_NOTE: Final = 32
"""Rows that are kept at most for each note that can be undone."""


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a session; only a session with the same parts can restore it.

    Attributes:
        state: The state of the model.
        seed: The seed of the noise.
        noise: The row whose noise comes next.
        trackers: The tracker of each sequence.
        identical: Whether all sequences were identical.
        fields: The fields of the session.
        ahead: By how much its time was ahead of the time of the notes fed, seconds.
    """

    state: ModelState
    seed: int
    noise: int
    trackers: Sequence[Tracker]
    identical: bool
    fields: tuple[Field, ...]
    ahead: float


@final
class UndoHistory:
    """The last rows of one sequence with the state of the model before them.

    Args:
        sequences: The sequences, a single one if notes can be undone.
        max_undo: How many notes can be undone.

    Attributes:
        max_undo: The same.
    """

    def __init__(self, sequences: Sequences, max_undo: int) -> None:
        self._sequences: Final = sequences
        self.max_undo: Final = max_undo
        self._given: set[int] = set()
        self.clear()

    def clear(self) -> None:
        """Forget everything so far: nothing before this call can be undone."""
        self._steps: deque[tuple[Rows, ModelState]] = deque()
        # The music before the first of the steps.
        self._base: Tracker = self._sequences.trackers[0].copy()
        self._given.clear()

    def add(self, rows: Rows, before: ModelState) -> None:
        """Record that rows (T, F) were read by a model in the state `before`."""
        if not self.max_undo:
            return
        self._steps.append((rows, before))
        # The trackers cost more than the wait, so this is done now and then.
        if len(self._steps) % self.max_undo == 0:
            self._drop_old(self._sequences.trackers[0].num_notes)

    def _drop_old(self, num_notes: int) -> None:
        kept = self.max_undo
        while len(self._steps) > kept and (
            num_notes - self._base.num_notes > kept or len(self._steps) > kept * _ROWS_PER_NOTE
        ):
            rows, _ = self._steps[0]
            before = self._base.copy() if len(rows) > 1 else None
            self._base.extend(rows)
            if before is not None and num_notes - self._base.num_notes < kept:
                self._base = before
                return
            self._steps.popleft()

    def undo(self, num_notes: int) -> tuple[ModelState, Rows]:
        """Undo the last notes.

        Args:
            num_notes: How many.

        Returns:
            The state of the model before the rows in which the first of them began, and those of
            these rows that came before it, (T, F), which must be read again.

        Raises:
            ConfigError: If so many cannot be undone.
        """
        begun: list[tuple[int, int, int]] = []
        tracker = self._base.copy()
        for i, (rows, _) in enumerate(self._steps):
            for j, row in enumerate(rows):
                number = tracker.num_notes
                tracker.push(row)
                begun += [(i, j, number)] * (tracker.num_notes - number)
        if num_notes > len(begun):
            raise ConfigError(
                f"{num_notes} notes cannot be undone, only the last {len(begun)}",
                hint="create the Session with a larger `max_undo`, or take a snapshot in time",
            )
        step, row_number, left = begun[-num_notes]
        rows, state = self._steps[step]
        while len(self._steps) > step:
            self._steps.pop()
        tracker = self._base.copy()
        for earlier, _ in self._steps:
            tracker.extend(earlier)
        self._sequences.trackers = [tracker]
        self._given = {number for number in self._given if number < left}
        return state, rows[:row_number]

    def pop_finished(self) -> list[list[tuple[int, Note]]]:
        """The finished notes of each sequence that were not given out before."""
        out = [list(tracker.pop_finished()) for tracker in self._sequences.trackers]
        if self.max_undo:
            # The base follows behind: a note that it drops was given out and cannot come again.
            out[0] = [(number, note) for number, note in out[0] if number not in self._given]
            self._given.update(number for number, _ in out[0])
            self._given.difference_update(number for number, _ in self._base.pop_finished())
        return out
