"""What samplers and processors are tried on: predictions of every kind, and lanes of music."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from notelstm.encoders.rows import PITCH
from notelstm.encoders.step_duration import StepDurationEncoder
from notelstm.encoders.tracker import RowTracker
from notelstm.fields import Field
from notelstm.predictions import Categorical, LogisticMixture, Normal, PointEstimate
from notelstm.protocols import Prediction, SamplingContext

__all__ = ["FIELDS", "LANES", "Trial", "contents", "equal", "lane", "sampling_contexts", "trials"]

LANES: Final = 6
"""B, how many lanes each prediction is for."""

FIELDS: Final = (
    PITCH,
    Field.categorical("step", "step", values=(0.0, 0.25, 1.0), edges=(0, 0.1, 0.5, 2), unit="s"),
    Field.categorical("duration", "duration", values=(0.001, 0.5), edges=(0, 0.1, 1), unit="s"),
    Field.categorical("velocity", "velocity", values=(40, 80)),
    Field.continuous("duration-s", "duration", unit="s", low=0.0),
    Field.continuous("tempo", "tempo", unit="quarter notes a minute", low=10.0, high=400.0),
)
"""What samplers and processors are tried on."""


class Trial(NamedTuple):
    """One prediction of (B,) lanes.

    Attributes:
        field: What it is of.
        prediction: What was said.
        what: What to call it in messages.
    """

    field: Field
    prediction: Prediction
    what: str


def sampling_contexts(count: int) -> list[SamplingContext]:
    """Lanes in the middle of a piece: a chord sounds."""
    lanes = []
    for i in range(count):
        tracker = RowTracker(StepDurationEncoder())
        for pitch in (60, 64, 67 + i):
            tracker.push(np.array([pitch, 0.0, 1.5], dtype=np.float32))
        lanes.append(SamplingContext({}, tracker))
    return lanes


def _predictions(field: Field) -> Iterator[tuple[Prediction, str]]:
    """What heads may say of a field: open, confined, confined to one; classes or values."""
    generator = torch.Generator().manual_seed(0)
    if field.classes is None:
        low = field.interval.low if field.low is not None else -1.0
        value = low + 2 * torch.rand(LANES, generator=generator) - 0.5
        ends = tuple(torch.full((LANES,), bound) for bound in field.interval)
        yield PointEstimate(value).constrained((ends[0], ends[1])), "a point"
        yield Normal(value, torch.full((LANES,), 0.5)).constrained((ends[0], ends[1])), "a normal"
        if field.low is not None:
            logits, mean, spread = torch.randn(3, LANES, 4, generator=generator).unbind(0)
            mixture = LogisticMixture(logits, mean[:, 1:], spread[:, 1:].exp(), origin=field.low)
            yield mixture.constrained((ends[0], ends[1])), "a mixture"
        return
    logits = 3 * torch.randn(LANES, field.classes, generator=generator)
    weights = torch.rand(LANES, field.classes, generator=generator)
    some = torch.rand(LANES, field.classes, generator=generator) < 0.4
    some[:, 0] |= ~some.any(-1)
    yield Categorical(logits), "open"
    yield Categorical(logits, weights).constrained(some), "some classes left"
    for c in range(min(field.classes, 3)):
        only = torch.zeros(LANES, field.classes, dtype=torch.bool)
        only[:, c] = True
        yield Categorical(logits, weights).constrained(only), f"class {c} left"


def trials(fields: Sequence[Field]) -> Iterator[Trial]:
    """Predictions of each field: open, confined, confined to one; classes or values."""
    for field in fields:
        for prediction, what in _predictions(field):
            yield Trial(field, prediction, f"{field.name!r}, {what}")


def lane(prediction: Prediction, i: int) -> Prediction:
    """One lane of a prediction, alone."""
    at = slice(i, i + 1)
    if isinstance(prediction, Categorical):
        weights = None if prediction.weights is None else prediction.weights[at]
        return Categorical(prediction.logits[at], weights)
    if isinstance(prediction, Normal):
        low = None if prediction.low is None else prediction.low[at]
        high = None if prediction.high is None else prediction.high[at]
        return Normal(prediction.mean[at], prediction.sigma[at], low, high, prediction.cell)
    if isinstance(prediction, LogisticMixture):
        low = None if prediction.low is None else prediction.low[at]
        high = None if prediction.high is None else prediction.high[at]
        logits, mean, spread = (
            part[at] for part in (prediction.logits, prediction.mean, prediction.scale)
        )
        return replace(prediction, logits=logits, mean=mean, scale=spread, low=low, high=high)
    assert isinstance(prediction, PointEstimate)
    return PointEstimate(prediction.value[at])


def contents(prediction: Prediction) -> list[Tensor]:
    """Copies of everything in a prediction."""
    names = ("logits", "weights", "value", "mean", "sigma", "scale", "low", "high")
    found = (getattr(prediction, name, None) for name in names)
    return [tensor.clone() for tensor in found if isinstance(tensor, Tensor)]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    """Whether two lists hold the same tensors."""
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
