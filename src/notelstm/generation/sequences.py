"""The notes of each sequence so far, and the contexts that samplers and processors read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final, final, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from notelstm.encoders import tracker_of
from notelstm.fields import Rows
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder, SamplingContext
from notelstm.tracker import Tracker

__all__ = ["SamplingContexts", "Sequences", "rows_after"]

_PENDING: Final = 1024
"""Rows that may wait for their trackers, so that they do not fill the memory."""


def rows_after(time: float, notes: Notes, encoder: NoteEncoder) -> Rows:
    """Rows (N, F) of notes that continue music which stands at `time`, in seconds."""
    # An anchor note at `time` makes the encoder measure the first step from there; a note that was
    # rounded to a later time must not make the next one begin before it.
    start = np.maximum(notes.start, time)
    anchor = Notes(start=[time], end=[time], pitch=[0], velocity=[1])
    moved = dataclasses.replace(notes, start=start, end=np.maximum(notes.end, start))
    return encoder.encode(Notes.merge([anchor, moved]))[1:]


@final
class Sequences:
    """B trackers, which receive their rows on access.

    Args:
        encoder: The encoder of the rows.
        batch_size: B.

    Attributes:
        identical: Whether all sequences are the same so far.
    """

    def __init__(self, encoder: NoteEncoder, batch_size: int) -> None:
        self._trackers = _copies(tracker_of(encoder), batch_size)
        self._pending: list[Rows] = []
        self._single: Final = batch_size == 1
        self._none: Final = np.zeros((0, len(encoder.fields)), dtype=np.float32)
        self.identical: bool = True

    def __len__(self) -> int:
        """B."""
        return len(self._trackers)

    @property
    def trackers(self) -> list[Tracker]:
        """The tracker of each sequence."""
        if self._pending:
            self._flush()
        return self._trackers

    @trackers.setter
    def trackers(self, trackers: list[Tracker]) -> None:
        self._pending, self._trackers = [], trackers

    def _flush(self) -> None:
        """Push the pending rows."""
        table = self.table(self._pending)  # (T, B, F)
        self._pending = []
        if len(table) == 1:
            for tracker, row in zip(self._trackers, table[0], strict=True):
                tracker.push(row)
            return
        for i, tracker in enumerate(self._trackers):
            tracker.extend(table[:, i])

    def table(self, rows: Sequence[Rows]) -> NDArray[np.float32]:
        """(T, B, F) from T rows (B, F) of each sequence."""
        # Much quicker than np.stack.
        joined: NDArray[np.float32] = np.concatenate([self._none, *rows])
        return joined.reshape(-1, len(self), joined.shape[1])

    def add(self, rows: Rows) -> None:
        """Add the next row of each sequence, (B, F)."""
        self.identical = self._single
        self._pending.append(rows)
        if len(self._pending) >= _PENDING:
            self._flush()

    def after(self, rows: Rows) -> list[Tracker]:
        """The trackers after the same rows (T, F) in every sequence; the current ones stay.

        Raises:
            EncodingError: If a row cannot follow the music so far.
        """
        tried = [tracker.copy() for tracker in self.trackers[: 1 if self.identical else None]]
        for tracker in tried:
            tracker.extend(rows)
        return _copies(tried[0], len(self)) if self.identical else tried

    def add_to_all(self, rows: Rows) -> None:
        """Add the same rows (T, F) to every sequence."""
        trackers = self.trackers[:1] if self.identical else self.trackers
        for tracker in trackers:
            tracker.extend(rows)
        if self.identical:
            self.trackers = _copies(trackers[0], len(self))


def _copies(tracker: Tracker, batch_size: int) -> list[Tracker]:
    return [tracker, *(tracker.copy() for _ in range(batch_size - 1))]


@final
class SamplingContexts(Sequence[SamplingContext]):
    """The context of each sequence, made on access.

    Args:
        sequences: The sequences.
        known: (B,) the entries of the row that are fixed so far, by field name.
    """

    def __init__(self, sequences: Sequences, known: Mapping[str, Tensor]) -> None:
        self._sequences: Final = sequences
        self._known: Final = known

    @override
    def __len__(self) -> int:
        return len(self._sequences)

    @overload
    def __getitem__(self, index: int) -> SamplingContext: ...
    @overload
    def __getitem__(self, index: slice) -> list[SamplingContext]: ...
    @override
    def __getitem__(self, index: int | slice) -> SamplingContext | list[SamplingContext]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        known = {name: float(entries[index]) for name, entries in self._known.items()}
        return SamplingContext(known, self._sequences.trackers[index])
