"""The sequences of a batch: their trackers, the contexts of samplers, and stopping criteria."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, final, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from notelstm.encoders import tracker_of
from notelstm.errors import ConfigError
from notelstm.fields import Rows
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder, SamplingContext
from notelstm.tracker import Tracker

__all__ = [
    "END_LIMIT",
    "STALL_LIMIT",
    "Progress",
    "SamplingContexts",
    "Sequences",
    "SomeSequences",
    "StoppingCriteria",
    "StoppingCriterion",
    "Until",
]

_PENDING: Final = 1024
"""Maximum number of rows that are pending."""


@final
class Sequences:
    """The trackers of B sequences, which receive pending rows on access.

    Attributes:
        identical: Whether all sequences have the same rows so far.
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

    @property
    def previous(self) -> Rows:
        """(B, F) the latest row of each sequence, of an encoder that limits the next one."""
        if self._pending:
            return self._pending[-1]
        return np.stack([tracker.previous for tracker in self._trackers])

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
        # Much faster than np.stack.
        joined: NDArray[np.float32] = np.concatenate([self._none, *rows])
        return joined.reshape(-1, len(self), joined.shape[1])

    def add(self, rows: Rows) -> None:
        """Add the next row of each sequence, (B, F)."""
        self.identical = self._single
        self._pending.append(rows)
        if len(self._pending) >= _PENDING:
            self._flush()

    def after(self, rows: Rows) -> list[Tracker]:
        """Copies of the trackers, extended by the same rows (T, F).

        Raises:
            EncodingError: If a row is not allowed.
        """
        copies = [tracker.copy() for tracker in self.trackers[: 1 if self.identical else None]]
        for tracker in copies:
            tracker.extend(rows)
        return _copies(copies[0], len(self)) if self.identical else copies

    def add_to_each(self, rows: Sequence[Rows]) -> None:
        """Add rows (T, F) of its own to each sequence.

        Raises:
            EncodingError: If a row is not allowed; no sequence changes.
        """
        copies = [tracker.copy() for tracker in self.trackers]
        for tracker, own in zip(copies, rows, strict=True):
            tracker.extend(own)
        self.trackers = copies
        self.identical = self._single

    def add_to_all(self, rows: Rows) -> None:
        """Add the same rows (T, F) to every sequence."""
        trackers = self.trackers[:1] if self.identical else self.trackers
        for tracker in trackers:
            tracker.extend(rows)
        if self.identical:
            self.trackers = _copies(trackers[0], len(self))


@final
class SomeSequences:
    """Some of the sequences of a session.

    Args:
        sequences: The sequences of the session.
        numbers: The numbers of some of them, ascending.

    Attributes:
        numbers: The same.
    """

    def __init__(self, sequences: Sequences, numbers: Sequence[int]) -> None:
        self._sequences: Final = sequences
        self.numbers: Final = list(numbers)
        self._is_all: Final = len(numbers) == len(sequences)

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.numbers)

    @property
    def trackers(self) -> list[Tracker]:
        """The tracker of each sequence."""
        trackers = self._sequences.trackers
        return trackers if self._is_all else [trackers[i] for i in self.numbers]

    @property
    def previous(self) -> Rows:
        """The latest row of each sequence; see :attr:`Sequences.previous`."""
        previous = self._sequences.previous
        return previous if self._is_all else previous[self.numbers]

    def name_of(self, index: int) -> str:
        """The place of one of these sequences in messages, empty if the session has no other."""
        return f"sequence {self.numbers[index]}" if len(self._sequences) > 1 else ""


def _copies(tracker: Tracker, batch_size: int) -> list[Tracker]:
    return [tracker, *(tracker.copy() for _ in range(batch_size - 1))]


@final
class SamplingContexts(Sequence[SamplingContext]):
    """The context of each sequence, created on access.

    `known` has (B,) the entries of the current row so far, by field name.
    """

    def __init__(self, sequences: SomeSequences, known: Mapping[str, Tensor]) -> None:
        self._sequences: Final = sequences
        self._known: Final = known
        # Several processors ask for the same ones.
        self._created: Final[dict[int, SamplingContext]] = {}

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
        if index not in self._created:
            known = {name: float(entries[index]) for name, entries in self._known.items()}
            self._created[index] = SamplingContext(known, self._sequences.trackers[index])
        return self._created[index]


_log = logging.getLogger(__name__)

STALL_LIMIT: Final = 512
"""A sequence is stopped if it has made no progress in this number of rows."""
_TOO_DENSE: Final = 1000
"""Rows per second of music that are no progress towards a length in seconds."""

END_LIMIT: Final = 10_000
"""The number of new notes after which a piece stops that should come to its end."""

Until: TypeAlias = Literal["end"]
"""A learnt stopping criterion: the end of the piece, which the model samples with each note."""

StoppingCriterion: TypeAlias = Callable[[Tracker], bool]
"""Returns whether to stop, given the tracker of a sequence, which includes the prompt."""


class StoppingCriteria(NamedTuple):
    """Stopping criteria of new music; the first one that is met ends it."""

    num_notes: int | None = None
    seconds: float | None = None
    criterion: StoppingCriterion | None = None

    def checked(self) -> StoppingCriteria:
        """The same criteria, validated.

        Raises:
            ConfigError: If a number is negative, infinite or NaN, `num_notes` is not whole, or the
                criterion is not callable.
        """
        for name, value in (("num_notes", self.num_notes), ("seconds", self.seconds)):
            if value is None:
                continue
            if not isinstance(value, numbers.Real) or not 0 <= float(value) < math.inf:
                raise ConfigError(f"{name} {value!r} is not a finite number of at least 0")
            if name == "num_notes" and value != int(value):
                raise ConfigError(f"num_notes {value!r} is not a whole number")
        if self.criterion is not None and not callable(self.criterion):
            raise ConfigError(
                f"stopping_criterion {self.criterion!r} is not a function",
                hint="give a function of the tracker that returns True or False",
            )
        return self

    def until(self, until: Until | None) -> StoppingCriteria:
        """The same criteria, which the end of the piece meets too if it is asked for.

        Without a number of notes or seconds, the limit is then :data:`END_LIMIT` notes.

        Raises:
            ConfigError: If `until` is neither ``"end"`` nor None.
        """
        if until is None:
            return self
        if until != "end":
            raise ConfigError(f"until is {until!r}", hint="give until='end', or leave it out")
        num_notes, seconds, criterion = self

        def ends(tracker: Tracker) -> bool:
            return tracker.ended or (criterion is not None and bool(criterion(tracker)))

        limit = END_LIMIT if num_notes is None and seconds is None else num_notes
        return StoppingCriteria(limit, seconds, ends)


@final
class Progress:
    """The progress of one sequence towards its stopping criteria.

    The tracker is that of the sequence before the new music.

    Attributes:
        first: The number of notes before the new music.
        zero: The onset of the last of them, seconds; 0 if there are none.
    """

    def __init__(self, criteria: StoppingCriteria, tracker: Tracker) -> None:
        self._criteria: Final = criteria
        self.first: Final = tracker.num_notes
        self.zero: Final = float(tracker.latest(1)[0][0]) if tracker.num_notes else 0.0
        self._time: Final = tracker.time
        # The new music begins after the rest, or the end of a held note, that the rows end with.
        self._ahead: Final = max(0.0, self._time - self.zero)
        self._mark = (tracker.num_notes, tracker.time)

    def is_over(self, tracker: Tracker, num_rows: int, sequence: int = 0) -> bool:
        """Whether, after `num_rows` new rows, a criterion is met or no progress is made.

        The latter is logged with the number of the sequence.
        """
        num_notes, seconds, criterion = self._criteria
        return (
            (num_notes is not None and tracker.num_notes - self.first >= num_notes)
            or (seconds is not None and tracker.time - self._time >= seconds)
            or (criterion is not None and bool(criterion(tracker)))
            or (num_rows > 0 and num_rows % STALL_LIMIT == 0 and self._stalls(tracker, sequence))
        )

    def includes(self, number: int, start: float) -> bool:
        """Whether a note is new and within the limits.

        `number` is its number in the sequence, from 0, and `start` its onset, seconds after `zero`.
        """
        num_notes, seconds, _ = self._criteria
        new = number - self.first
        return (
            new >= 0
            and (num_notes is None or new < num_notes)
            and (seconds is None or start < seconds + self._ahead)
        )

    def new_notes(self, tracker: Tracker) -> Notes:
        """The new notes; 0 s is `zero`."""
        closing = tracker.closing_rows()
        if len(closing):
            tracker = tracker.copy()
            tracker.extend(closing)
        new = tracker.notes()
        count = tracker.num_notes - self.first
        if count < len(new):
            new = new[len(new) - count :]
        if self.zero:
            new = new.shifted(-self.zero)
        num_notes, seconds, _ = self._criteria
        if seconds is not None:
            count = int(np.searchsorted(new.start, seconds + self._ahead))
        return new[: count if num_notes is None else min(count, int(num_notes))]

    def _stalls(self, tracker: Tracker, sequence: int) -> bool:
        """Whether the sequence has made no progress since the last call, which is logged."""
        (num_notes, time), self._mark = self._mark, (tracker.num_notes, tracker.time)
        by_notes = self._criteria.num_notes is not None or self._criteria.criterion is not None
        by_time = self._criteria.seconds is not None or self._criteria.criterion is not None
        progress = self._criteria == StoppingCriteria()
        progress |= by_notes and tracker.num_notes > num_notes
        progress |= by_time and tracker.time - time > STALL_LIMIT / _TOO_DENSE
        if not progress:
            _log.warning(
                "sequence %d stops short after %d notes: no notes or no time in the last %d rows; "
                "train the model longer, or sample with another temperature or seed",
                sequence,
                tracker.num_notes,
                STALL_LIMIT,
            )
        return not progress
