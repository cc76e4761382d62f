"""Processors of polyphony: the number of notes of an instrument that sound or begin together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from notelstm.protocols import SamplingContext
from notelstm.sampling.masking import check_whole
from notelstm.sampling.tones import (
    ROUNDING,
    ByInstrument,
    ToneLimit,
    Waits,
    known_entry,
    shortest_step,
)
from notelstm.tracker import MAX_HISTORY

__all__ = ["MaxChordSize", "MaxPolyphony"]


@final
@dataclass(frozen=True, kw_only=True)
class MaxPolyphony(ByInstrument, ToneLimit):
    """Limits the number of pitches of an instrument that sound at the same time.

    Each instrument has its own limit. Steps are limited to those after which fewer pitches sound,
    so that the next note can have any pitch; an instrument that is still full then does not play.
    If step and instrument are fixed and it is full, the pitch is limited to those that it sounds
    already. For events, a note-on must wait for a note-off. The limit always holds if the longest
    step is as long as the longest duration and steps come before pitches, as in the encoders of the
    library.

    Attributes:
        notes: 1 to 128; 1 for a melody.
        instruments: The names of the parts that it acts on; none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    notes: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("max polyphony", self.notes, 1, 128)

    def waits(self, context: SamplingContext) -> Waits:
        """The time until an instrument sounds fewer pitches."""
        tracker = context.tracker
        selected = self.selected(tracker.parts)
        waits = np.zeros((len(selected), 128))
        overlapping = None
        # The pitch comes last: an instrument that is full can repeat those that it sounds.
        known = known_entry(context, "instrument") is not None or len(selected) == 1
        if known and known_entry(context, "step") is not None:
            overlapping = tracker.overlapping(context.known)
        if overlapping is not None:
            sounding = np.array([tone.instrument for tone in overlapping], dtype=np.intp)
            count = np.bincount(sounding, minlength=len(selected))
            waits[selected & (count >= self.notes)] = np.inf
            for tone in overlapping:
                waits[tone.instrument, tone.pitch] = 0.0
            return waits
        left: list[dict[int, float]] = [{} for _ in selected]
        for remaining, (pitch, k) in tracker.remaining():
            left[k][pitch] = max(remaining, left[k].get(pitch, 0.0))
        for k in np.flatnonzero(selected).tolist():
            ends = sorted(left[k].values(), reverse=True)
            waits[k] = ends[self.notes - 1] if len(ends) >= self.notes else 0.0
        return waits


@final
@dataclass(frozen=True, kw_only=True)
class MaxChordSize(ByInstrument, ToneLimit):
    """Limits the number of notes of an instrument that begin at the same time.

    Each instrument has its own limit. After a full chord, the next step is not 0, and at least a
    millisecond for continuous steps, or the next note is one of another instrument; for events, a
    shift must come before the next note-on.

    Attributes:
        notes: 1 to 1024; 1 allows no chords.
        instruments: The names of the parts that it acts on; none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    notes: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("max chord size", self.notes, 1, MAX_HISTORY)

    def waits(self, context: SamplingContext) -> Waits:
        """The shortest step for the instruments whose chord is full."""
        tracker = context.tracker
        waits = np.zeros((len(tracker.parts), 128))
        for k, notes in self.latest(tracker, self.notes).items():
            if len(notes) == self.notes and tracker.time - notes[0][0] < ROUNDING:
                waits[k] = shortest_step(tracker)
        return waits
