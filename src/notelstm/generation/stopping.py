"""Stopping criteria: when a sequence is long enough, and when it stalls."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError
from notelstm.notes import Notes
from notelstm.tracker import Tracker

__all__ = ["STALL_LIMIT", "Progress", "StoppingCriteria", "StoppingCriterion"]

_log = logging.getLogger(__name__)

STALL_LIMIT: Final = 512
"""A sequence that gets no nearer to its end in so many rows is stopped."""
_TOO_DENSE: Final = 1000
"""Rows in a second of music that no instrument plays: such a sequence gets no nearer to its end."""

StoppingCriterion: TypeAlias = Callable[[Tracker], bool]
"""Returns whether to stop, given the tracker of a sequence, which includes the prompt."""


class StoppingCriteria(NamedTuple):
    """The limits of new music; the first one that is reached ends it.

    Attributes:
        num_notes: New notes.
        seconds: New seconds.
        criterion: A function of the music so far.
    """

    num_notes: int | None = None
    seconds: float | None = None
    criterion: StoppingCriterion | None = None

    def checked(self) -> StoppingCriteria:
        """The same criteria.

        Raises:
            ConfigError: If a number is negative, infinite or NaN, `num_notes` is not whole, or the
                criterion cannot be called.
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


@final
class Progress:
    """The progress of one sequence towards its end.

    Args:
        criteria: The criteria that end it.
        tracker: The sequence at its beginning.

    Attributes:
        first: The number of notes at the beginning.
        zero: The onset of the last of them, seconds; 0 if there were none.
    """

    def __init__(self, criteria: StoppingCriteria, tracker: Tracker) -> None:
        self._criteria: Final = criteria
        self.first: Final = tracker.num_notes
        self.zero: Final = float(tracker.latest(1)[0][0]) if tracker.num_notes else 0.0
        self._time: Final = tracker.time
        self._mark = (tracker.num_notes, tracker.time)

    def is_done(self, tracker: Tracker) -> bool:
        """Whether a criterion is met."""
        num_notes, seconds, criterion = self._criteria
        return (
            (num_notes is not None and tracker.num_notes - self.first >= num_notes)
            or (seconds is not None and tracker.time - self._time >= seconds)
            or (criterion is not None and bool(criterion(tracker)))
        )

    def includes(self, number: int, start: float) -> bool:
        """Whether a note is new and within the limits.

        Args:
            number: From 0, with the notes before the beginning.
            start: Its onset, seconds after `zero`.
        """
        num_notes, seconds, _ = self._criteria
        new = number - self.first
        return (
            new >= 0
            and (num_notes is None or new < num_notes)
            and (seconds is None or start < seconds)
        )

    def _num_included(self, start: NDArray[np.float64]) -> int:
        """How many of (N,) new notes in order, by their onsets, are within the limits."""
        num_notes, seconds, _ = self._criteria
        count = len(start) if seconds is None else int(np.searchsorted(start, seconds))
        return count if num_notes is None else min(count, int(num_notes))

    def new_notes(self, tracker: Tracker) -> Notes:
        """The new notes, with 0 s at `zero`."""
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
        included = self._num_included(new.start)
        return new if included == len(new) else new[:included]

    def is_stalled(self, tracker: Tracker, sequence: int) -> bool:
        """Whether the sequence got no nearer to its end since the last call; this is logged."""
        (num_notes, time), self._mark = self._mark, (tracker.num_notes, tracker.time)
        by_notes = self._criteria.num_notes is not None or self._criteria.criterion is not None
        by_time = self._criteria.seconds is not None or self._criteria.criterion is not None
        nearer = by_notes and tracker.num_notes > num_notes
        nearer |= by_time and tracker.time - time > STALL_LIMIT / _TOO_DENSE
        if not nearer:
            _log.warning(
                "sequence %d stops short after %d notes: its last %d rows have no notes or no time "
                "passes; train the model longer, or sample with another temperature or seed",
                sequence,
                tracker.num_notes,
                STALL_LIMIT,
            )
        return not nearer
