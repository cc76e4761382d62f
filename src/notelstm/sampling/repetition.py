"""Processors against repetition of pitches."""

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
    return np.array([pitch for _, pitch in context.tracker.latest(count)], dtype=np.int64)


@final
@dataclass(frozen=True, kw_only=True)
class NoRepeatNGram:
    """No sequence of `ngram_size` pitches that occurred before; for events, it acts on note-ons.

    Attributes:
        ngram_size: How many, 1 to 1024: with 1 no pitch comes back.
        history: How many of the latest notes count, 1 to 1024; never less than `ngram_size`.

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
        """The prediction of a pitch class id, without those that would repeat."""
        values = class_values(field, "pitch")
        if values is None:
            return prediction
        return constrain_classes(prediction, [~np.isin(values, self._ends(v)) for v in contexts])

    def _ends(self, context: SamplingContext) -> NDArray[np.int64]:
        """The pitches that followed the latest pitches before."""
        played = _pitches(context, max(self.history, self.ngram_size))
        if len(played) < self.ngram_size:
            return played[:0]
        runs = np.lib.stride_tricks.sliding_window_view(played, self.ngram_size)  # (N - n + 1, n)
        last = played[len(played) - self.ngram_size + 1 :]
        return np.asarray(runs[(runs[:, :-1] == last).all(axis=1), -1])


@final
@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty:
    """The latest pitches are `penalty` times less likely, relative to the others.

    Attributes:
        penalty: From 1e-6 to 1e6; 1 changes nothing, below 1 pitches come back more.
        history: How many of the latest notes count, 1 to 1024.

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
        """The prediction of a pitch class id, the latest ones less likely."""
        values = class_values(field, "pitch")
        if values is None or self.penalty == 1:
            return prediction
        played = np.stack(
            [np.isin(values, _pitches(context, self.history)) for context in contexts]
        )
        return prediction.add_log_weights(
            torch.from_numpy(played) * -math.log(self.penalty)
        )  # (B, C)
