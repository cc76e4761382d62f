"""When a lane has played enough, and when it gets nowhere."""

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
from notelstm.protocols import Tracker
from notelstm.sampling.confining import latest

__all__ = ["LOST", "Goal", "Limits", "Until"]

_log = logging.getLogger(__name__)

LOST: Final = 512
"""A lane that gets no nearer to its end in so many rows has lost its way; the loop stops it."""
_TOO_DENSE: Final = 1000
"""Rows in a second of music that no instrument plays: such a lane gets no nearer to its end."""

Until: TypeAlias = Callable[[Tracker], bool]
"""Told of a lane's music so far, the prompt included, it says whether to stop."""


class Limits(NamedTuple):
    """What ends new music, whichever is reached first.

    Attributes:
        notes: New notes.
        seconds: New seconds.
        until: What says stop.
    """

    notes: int | None = None
    seconds: float | None = None
    until: Until | None = None

    def checked(self) -> Limits:
        """The limits.

        Raises:
            ConfigError: If a number is negative, infinite or NaN, notes are not whole, or `until`
                cannot be called.
        """
        for name, value in (("notes", self.notes), ("seconds", self.seconds)):
            if value is None:
                continue
            if not isinstance(value, numbers.Real) or not 0 <= float(value) < math.inf:
                raise ConfigError(f"{name} is finite and at least 0", got=f"{value!r}")
            if name == "notes" and value != int(value):
                raise ConfigError("notes are whole", got=f"{value!r}")
        if self.until is not None and not callable(self.until):
            raise ConfigError("until is a function of the music so far", got=f"{self.until!r}")
        return self


@final
class Goal:
    """Where one lane is going.

    Args:
        limits: What ends it.
        tracker: The lane's music as it sets out.

    Attributes:
        n: How many notes there were.
        zero: The onset of the last of them, seconds; 0 if there were none.
    """

    def __init__(self, limits: Limits, tracker: Tracker) -> None:
        self._limits: Final = limits
        self.n: Final = tracker.n
        self.zero: Final = _last_onset(tracker)
        self._clock: Final = tracker.clock
        self._mark = (tracker.n, tracker.clock)

    def reached(self, tracker: Tracker) -> bool:
        """Whether the lane has played enough."""
        notes, seconds, until = self._limits
        return (
            (notes is not None and tracker.n - self.n >= notes)
            or (seconds is not None and tracker.clock - self._clock >= seconds)
            or (until is not None and bool(until(tracker)))
        )

    def holds(self, number: int, start: float) -> bool:
        """Whether a note is one of the new ones within the limits.

        Args:
            number: From 0, those before the lane set out included.
            start: Its onset, seconds after `zero`.
        """
        notes, seconds, _ = self._limits
        new = number - self.n
        return new >= 0 and (notes is None or new < notes) and (seconds is None or start < seconds)

    def held(self, start: NDArray[np.float64]) -> int:
        """How many of (N,) new notes in order, by their onsets, are within the limits."""
        notes, seconds, _ = self._limits
        count = len(start) if seconds is None else int(np.searchsorted(start, seconds))
        return count if notes is None else min(count, notes)

    def new_notes(self, tracker: Tracker) -> Notes:
        """What the lane has played since it set out, from its last note before on."""
        closing = tracker.closing()
        if len(closing):
            tracker = tracker.copy()
            for row in closing:
                tracker.push(row)
        new = tracker.notes()
        count = tracker.n - self.n
        if count < len(new):
            new = new[len(new) - count :]
        if self.zero:
            new = new.shifted(-self.zero)
        held = self.held(new.start)
        return new if held == len(new) else new[:held]

    def is_lost(self, tracker: Tracker, lane: int) -> bool:
        """Whether the lane got no nearer to its end since it was asked last; then it is logged."""
        (n, clock), self._mark = self._mark, (tracker.n, tracker.clock)
        notes, seconds, until = self._limits
        nearer = (notes is not None or until is not None) and tracker.n > n
        timed = seconds is not None or until is not None
        nearer |= timed and tracker.clock - clock > LOST / _TOO_DENSE
        if not nearer:
            _log.warning(
                "lane %d stops short after %d notes: its last %d rows play none or stand still "
                "in time; train the model longer, or draw with another temperature or seed",
                lane,
                tracker.n,
                LOST,
            )
        return not nearer


def _last_onset(tracker: Tracker) -> float:
    if not tracker.n:
        return 0.0
    return float(latest(tracker, 1)[0][0])
