"""Processors against repeated pitches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.fields import Field
from notelstm.protocols import Prediction, SamplingContext
from notelstm.sampling.masking import check_number, check_whole, class_values, constrain_classes
from notelstm.tracker import MAX_HISTORY

__all__ = ["NoRepeatNGram", "RepetitionPenalty"]


def _pitches(context: SamplingContext, count: int) -> NDArray[np.int64]:
    return np.array([tone.pitch for _, tone in context.tracker.latest(count)], dtype=np.int64)


@final
@dataclass(frozen=True, kw_only=True)
class NoRepeatNGram:
    """Forbids sequences of `ngram_size` pitches that occurred before; for events, on note-ons.

    Attributes:
        ngram_size: 1 to 1024; with 1, no pitch is repeated.
        history: Number of the latest notes that count, 1 to 1024, at least `ngram_size`.

    Raises:
        ConfigError: If a setting is out of range.
    """

    ngram_size: int = 6
    history: int = 256

    def __post_init__(self) -> None:
        """Check the settings."""
        check_whole("ngram_size", self.ngram_size, 1, MAX_HISTORY)
        check_whole("history", self.history, 1, MAX_HISTORY)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Remove the pitches that would repeat a sequence."""
        values = class_values(field, "pitch")
        if values is None:
            return prediction
        return constrain_classes(prediction, [~np.isin(values, self._ends(v)) for v in contexts])

    def _ends(self, context: SamplingContext) -> NDArray[np.int64]:
        """The pitches that followed earlier occurrences of the latest pitches."""
        latest = _pitches(context, max(self.history, self.ngram_size))
        if len(latest) < self.ngram_size:
            return latest[:0]
        runs = np.lib.stride_tricks.sliding_window_view(latest, self.ngram_size)  # (N - n + 1, n)
        last = latest[len(latest) - self.ngram_size + 1 :]
        return np.asarray(runs[(runs[:, :-1] == last).all(axis=1), -1])


@final
@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty:
    """Makes the latest pitches `penalty` times less likely, relative to the others.

    Attributes:
        penalty: From 1e-6 to 1e6; 1 changes nothing, numbers below 1 favour repetition.
        history: Number of the latest notes that count, 1 to 1024.

    Raises:
        ConfigError: If a setting is out of range.
    """

    penalty: float = 1.5
    history: int = 16

    def __post_init__(self) -> None:
        """Check the settings."""
        check_number("penalty", self.penalty, 1e-6, 1e6)
        check_whole("history", self.history, 1, MAX_HISTORY)

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Reduce the log-weights of the latest pitches."""
        values = class_values(field, "pitch")
        if values is None or self.penalty == 1:
            return prediction
        latest = np.stack(
            [np.isin(values, _pitches(context, self.history)) for context in contexts]
        )
        return prediction.add_log_weights(
            torch.from_numpy(latest) * -math.log(self.penalty)
        )  # (B, C)
