"""Processors against repeated pitches, in each instrument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from notelstm.fields import Field, Role
from notelstm.parts import Part
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import check_number, check_whole, class_values
from notelstm.sampling.tones import ByInstrument, ToneLimit, Waits
from notelstm.tracker import MAX_HISTORY

__all__ = ["NoRepeatNGram", "RepetitionPenalty"]


@final
@dataclass(frozen=True, kw_only=True)
class NoRepeatNGram(ByInstrument, ToneLimit):
    """Forbids sequences of `ngram_size` pitches that occurred before; for events, on note-ons.

    The pitches of each instrument are a sequence of their own.

    Attributes:
        ngram_size: 1 to 1024; with 1, no pitch is repeated.
        history: Number of the latest notes of an instrument that count, 1 to 1024, at least
            `ngram_size`.
        instruments: The names of the parts that it acts on; none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    ngram_size: int = 6
    history: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("ngram_size", self.ngram_size, 1, MAX_HISTORY)
        check_whole("history", self.history, 1, MAX_HISTORY)

    def waits(self, context: SamplingContext) -> Waits:
        """Infinite for the pitches that would repeat a sequence."""
        tracker = context.tracker
        waits = np.zeros((len(tracker.parts), 128))
        for k, notes in self.latest(tracker, max(self.history, self.ngram_size)).items():
            waits[k, self._ends(np.array([pitch for _, pitch in notes], dtype=np.int64))] = np.inf
        return waits

    def _ends(self, latest: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pitches that followed earlier occurrences of the latest pitches."""
        if len(latest) < self.ngram_size:
            return latest[:0]
        runs = np.lib.stride_tricks.sliding_window_view(latest, self.ngram_size)  # (N - n + 1, n)
        last = latest[len(latest) - self.ngram_size + 1 :]
        return np.asarray(runs[(runs[:, :-1] == last).all(axis=1), -1])


@final
@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty(ByInstrument):
    """Makes the latest pitches of an instrument `penalty` times less likely than its others.

    Attributes:
        penalty: From 1e-6 to 1e6; 1 changes nothing, numbers below 1 favour repetition.
        history: Number of the latest notes of an instrument that count, 1 to 1024.
        instruments: The names of the parts that it acts on; none for all but percussion.
        drums: Whether it also acts on percussion.
    """

    penalty: float = 1.5
    history: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("penalty", self.penalty, 1e-6, 1e6)
        check_whole("history", self.history, 1, MAX_HISTORY)

    @override
    def check_parts(self, parts: Sequence[Part], roles: Sequence[Role]) -> None:
        """Check that the parts exist, and that the instrument is predicted before the pitch."""
        super().check_parts(parts, roles)
        if len(parts) > 1:
            self.require_instrument_before("pitch", roles)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Reduce the log-weights of the latest pitches.

        Raises:
            FieldError: If the instrument of one of several is predicted after the pitch.
        """
        values = class_values(field, "pitch")
        if values is None or self.penalty == 1:
            return prediction
        latest = np.stack([np.isin(values, self._latest(field, v)) for v in contexts])  # (B, C)
        return prediction.add_log_weights(torch.from_numpy(latest) * -math.log(self.penalty))

    def _latest(self, field: Field, context: SamplingContext) -> list[int]:
        """The latest pitches of the next note's instrument; none if it is not selected."""
        instrument = self.next_instrument(field, context)
        if instrument is None:
            return []
        latest = self.latest(context.tracker, self.history)
        return [pitch for _, pitch in latest.get(instrument, ())]
