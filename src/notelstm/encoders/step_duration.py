"""``StepDurationEncoder``: the pitch, step and duration of the original, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from notelstm.encoders.rows import PITCH, as_rows
from notelstm.fields import Field, Rows
from notelstm.notes import DEFAULT_VELOCITY, Notes

__all__ = ["StepDurationEncoder"]

_FIELDS: Final = (
    PITCH,
    Field.continuous("step", "step", unit="s", low=0.0),
    Field.continuous("duration", "duration", unit="s", low=0.0),
)


@final
@dataclass(frozen=True, kw_only=True)
class StepDurationEncoder:
    """One row per note: the class id of the pitch, step and duration in seconds.

    Pitches are exact. Onsets, from the first note, have a relative error of 6e-8 (0.2 ms in an
    hour: float32 steps summed in float64), as do durations. Velocity (decoded as 100), program,
    drums, track, tempo map and the silence before the first note are lost. The domain is all
    pieces.

    Source:
        The article's ``pitch, step, duration`` rows, after TensorFlow's tutorial "Generate music
        with an RNN".

    Example:
        >>> notes = Notes(start=[1.0, 1.5], end=[2.0, 1.75], pitch=[60, 64])
        >>> StepDurationEncoder().encode(notes).tolist()
        [[60.0, 0.0, 1.0], [64.0, 0.5, 0.25]]
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """Pitch (128 classes), step and duration (seconds, at least 0)."""
        return _FIELDS

    def encode(self, notes: Notes) -> Rows:
        """(N, 3) float32 rows; the first step is 0."""
        return np.stack([notes.pitch, notes.step, notes.duration], axis=1).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        """Notes from (N, 3) rows; the first starts at its own step.

        Raises:
            EncodingError: If a pitch is not from 0 to 127, or a time is negative or not finite.
        """
        pitch, step, duration = as_rows(rows, self.fields).T.astype(np.float64)
        start = np.add.accumulate(step)
        return Notes.unchecked(
            start=start,
            end=start + duration,
            pitch=pitch.astype(np.int64),
            velocity=np.full(len(start), DEFAULT_VELOCITY),
        )
