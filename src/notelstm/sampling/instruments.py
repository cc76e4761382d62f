"""Processors of the instrument: which ones may play, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from notelstm.errors import ConfigError
from notelstm.fields import Role
from notelstm.parts import Part
from notelstm.protocols import SamplingContext
from notelstm.sampling.masking import check_number, check_whole
from notelstm.sampling.tones import ByInstrument, ToneLimit, Waits, part_names, selected_parts
from notelstm.tracker import MAX_HISTORY

__all__ = ["Instruments", "MaxInstruments"]


@final
@dataclass(frozen=True, kw_only=True)
class Instruments(ToneLimit):
    """Limits the instruments that play to some of them.

    Attributes:
        allowed: The names of parts, in upper or lower case, at least one. Percussion plays if it is
            named.
    """

    allowed: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowed", part_names("allowed", self.allowed))
        if not self.allowed:
            raise ConfigError("no instrument is allowed", hint="name one or more parts")

    def check_parts(self, parts: Sequence[Part], roles: Sequence[Role]) -> None:
        """Check that the parts exist, else raise a ConfigError."""
        selected_parts(tuple(parts), self.allowed)

    def waits(self, context: SamplingContext) -> Waits:
        """Infinite for all other instruments."""
        plays = selected_parts(tuple(context.tracker.parts), self.allowed)
        return np.repeat(np.where(plays, 0.0, np.inf)[:, None], 128, axis=1)


@final
@dataclass(frozen=True, kw_only=True)
class MaxInstruments(ByInstrument, ToneLimit):
    """Limits the number of different instruments that play at a time.

    An instrument plays from the onset of a note until that note has ended and `seconds` have passed
    since its onset. While `count` instruments play, no other may begin; so another one replaces one
    of them after that has been silent. If more of them play already, as in a prompt, those that
    would stop last continue.

    Attributes:
        count: The maximum number, at least 1.
        seconds: The time for which an instrument plays after the onset of its last note, 0 to 3600.
        instruments: The names of the parts that are counted and limited; none for all but
            percussion.
        drums: Whether percussion is also counted and limited.
    """

    count: int = 3
    seconds: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("max instruments", self.count, 1)
        check_number("seconds", self.seconds, 0, 3600)

    def waits(self, context: SamplingContext) -> Waits:
        """The time until another instrument may begin, for those that do not play."""
        tracker = context.tracker
        selected = self.selected(tracker.parts)
        waits = np.zeros((len(selected), 128))
        if selected.sum() <= self.count:
            return waits
        # (I,) the time for which each instrument still plays.
        left = np.zeros(len(selected))
        for onset, (_, k) in tracker.latest(MAX_HISTORY):
            left[k] = (onset + self.seconds - tracker.time) / tracker.seconds_per_unit
        for remaining, (_, k) in tracker.remaining():
            left[k] = max(left[k], remaining)
        left = np.where(selected, np.maximum(left, 0.0), 0.0)
        order = np.argsort(-left, kind="stable")
        last = left[order[self.count - 1]]
        if last > 0:
            others = selected.copy()
            others[order[: self.count]] = False
            waits[others] = last
        return waits
