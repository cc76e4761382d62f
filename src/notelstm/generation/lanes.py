"""The music of each lane so far, and what processors may know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast, final, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from notelstm.encoders import tracker_of
from notelstm.fields import Rows
from notelstm.notes import Notes
from notelstm.protocols import BulkTracker, NoteEncoder, Tracker, View

__all__ = ["Lanes", "Views", "push_all", "rows_after"]

_WAITING: Final = 1024
"""Rows that may wait for their trackers, so that they do not fill the memory."""


def push_all(tracker: Tracker, rows: Rows, *, bulk: bool) -> None:
    """Push (T, F) rows, all at once if the tracker can (`bulk`)."""
    if bulk:
        cast(BulkTracker, tracker).extend(rows)
        return
    for row in rows:
        tracker.push(row)


def rows_after(clock: float, notes: Notes, encoder: NoteEncoder) -> Rows:
    """Rows (N, F) of notes that follow on what ended at `clock`, in seconds on the same clock."""
    # A note where the music stands makes the encoder measure the step from there; one that was put
    # a little later than where it began lets none begin before it.
    start = np.maximum(notes.start, clock)
    anchor = Notes(start=[clock], end=[clock], pitch=[0], velocity=[1])
    plain = Notes(
        start=start,
        end=np.maximum(notes.end, start),
        pitch=notes.pitch,
        velocity=notes.velocity,
    )
    return encoder.encode(Notes.merge([anchor, plain]))[1:]


@final
class Lanes:
    """B trackers that catch up only when someone looks.

    Args:
        encoder: What the rows mean.
        lanes: B.

    Attributes:
        bulk: Whether the trackers take in many rows at once.
        alike: Whether all lanes have played the same.
    """

    def __init__(self, encoder: NoteEncoder, lanes: int) -> None:
        self._trackers = _copies(tracker_of(encoder), lanes)
        # Looked at once, since it takes longer than a push.
        self.bulk: Final = isinstance(self._trackers[0], BulkTracker)
        self._waiting: list[Rows] = []
        self._alone: Final = lanes == 1
        self._none: Final = np.zeros((0, len(encoder.fields)), dtype=np.float32)
        self.alike: bool = True

    def __len__(self) -> int:
        """B."""
        return len(self._trackers)

    @property
    def trackers(self) -> list[Tracker]:
        """Each lane's music so far."""
        if self._waiting:
            self._catch_up()
        return self._trackers

    @trackers.setter
    def trackers(self, trackers: list[Tracker]) -> None:
        self._waiting, self._trackers = [], trackers

    def _catch_up(self) -> None:
        """Let the trackers take in what waits for them."""
        table = self.table(self._waiting)  # (T, B, F)
        self._waiting = []
        if len(table) == 1:
            for tracker, row in zip(self._trackers, table[0], strict=True):
                tracker.push(row)
            return
        for i, tracker in enumerate(self._trackers):
            push_all(tracker, table[:, i], bulk=self.bulk)

    def table(self, rows: Sequence[Rows]) -> NDArray[np.float32]:
        """(T, B, F) of the rows of each lane, (B, F) each or several of these in one."""
        # Much quicker than to stack.
        joined: NDArray[np.float32] = np.concatenate([self._none, *rows])
        return joined.reshape(-1, len(self), joined.shape[1])

    def add(self, rows: Rows) -> None:
        """Take in the next row of each lane, (B, F)."""
        self.alike = self._alone
        self._waiting.append(rows)
        if len(self._waiting) >= _WAITING:
            self._catch_up()

    def after(self, rows: Rows) -> list[Tracker]:
        """The trackers as they will be with the same rows (T, F) in every lane; these stay.

        Raises:
            EncodingError: If a row does not fit what was played.
        """
        tried = [tracker.copy() for tracker in self.trackers[: 1 if self.alike else None]]
        for tracker in tried:
            push_all(tracker, rows, bulk=self.bulk)
        return _copies(tried[0], len(self)) if self.alike else tried

    def add_all(self, rows: Rows) -> None:
        """Take in the same rows (T, F) in every lane."""
        trackers = self.trackers[:1] if self.alike else self.trackers
        for tracker in trackers:
            push_all(tracker, rows, bulk=self.bulk)
        if self.alike:
            self.trackers = _copies(trackers[0], len(self))


def _copies(tracker: Tracker, lanes: int) -> list[Tracker]:
    return [tracker, *(tracker.copy() for _ in range(lanes - 1))]


@final
class Views(Sequence[View]):
    """What processors may know of each lane, made when looked at.

    Args:
        lanes: The music so far.
        known: (B,) the entries of the row that are fixed, by field name.
    """

    def __init__(self, lanes: Lanes, known: Mapping[str, Tensor | float]) -> None:
        self._lanes: Final = lanes
        self._known: Final = known

    @override
    def __len__(self) -> int:
        return len(self._lanes)

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> list[View]: ...
    @override
    def __getitem__(self, index: int | slice) -> View | list[View]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        known = {
            name: float(entry[index]) if isinstance(entry, Tensor) else entry
            for name, entry in self._known.items()
        }
        return View(known, self._lanes.trackers[index])
