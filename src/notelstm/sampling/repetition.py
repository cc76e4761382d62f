"""Processors that keep music from repeating itself: of pitches, by what was played last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, View
from notelstm.sampling.confining import allowed_in_lanes, latest, tilted, told
from notelstm.sampling.settings import MOST_RECALLED, check_number, check_whole

__all__ = ["NoRepeat", "RepetitionPenalty"]


def _pitches(view: View, count: int) -> NDArray[np.int64]:
    return np.array([pitch for _, pitch in latest(view.tracker, count)], dtype=np.int64)


@final
@dataclass(frozen=True, kw_only=True)
class NoRepeat:
    """No `n` pitches in a row that were played in a row before; of events, it acts on note-ons.

    Attributes:
        n: How many, 1 to 1024: with 1 no pitch comes back.
        memory: How many of the latest notes count, 1 to 1024; never less than `n`.

    Raises:
        ConfigError: If a setting is out of range.
    """

    n: int = 6
    memory: int = 256

    def __post_init__(self) -> None:
        """Check the settings."""
        check_whole("how many pitches are not repeated", self.n, 1, MOST_RECALLED)
        check_whole("a memory", self.memory, 1, MOST_RECALLED)

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """The prediction of a pitch class id, without those that would repeat."""
        values = told(field, "pitch")
        if values is None or not isinstance(prediction, Categorical):
            return prediction
        return allowed_in_lanes(prediction, [~np.isin(values, self._ends(v)) for v in views])

    def _ends(self, view: View) -> NDArray[np.int64]:
        """The pitches that followed before on the pitches played last."""
        played = _pitches(view, max(self.memory, self.n))
        if len(played) < self.n:
            return played[:0]
        runs = np.lib.stride_tricks.sliding_window_view(played, self.n)  # (N - n + 1, n)
        last = played[len(played) - self.n + 1 :]
        return np.asarray(runs[(runs[:, :-1] == last).all(axis=1), -1])


@final
@dataclass(frozen=True, kw_only=True)
class RepetitionPenalty:
    """Pitches among those played last are `penalty` times less likely, beside the others.

    Attributes:
        penalty: From 1e-6 to 1e6; 1 changes nothing, below 1 pitches come back more.
        memory: How many of the latest notes count, 1 to 1024.

    Raises:
        ConfigError: If a setting is out of range.
    """

    penalty: float = 1.5
    memory: int = 16

    def __post_init__(self) -> None:
        """Check the settings."""
        check_number("a penalty", self.penalty, 1e-6, 1e6)
        check_whole("a memory", self.memory, 1, MOST_RECALLED)

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """The prediction of a pitch class id, those played last rarer."""
        values = told(field, "pitch")
        if values is None or self.penalty == 1 or not isinstance(prediction, Categorical):
            return prediction
        played = np.stack([np.isin(values, _pitches(view, self.memory)) for view in views])
        tilt = torch.from_numpy(played) * -math.log(self.penalty)  # (B, C)
        return tilted(prediction, tilt)
