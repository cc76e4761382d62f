"""What fields that are forced make likely of those before them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from notelstm.generation.steps import lanes_of, spread
from notelstm.predictions import Categorical
from notelstm.protocols import Density, Prediction

__all__ = ["Predict", "forced_after", "reweighted"]

Predict: TypeAlias = Callable[[str, Any, Mapping[str, Tensor]], Prediction]
"""What is predicted of a field, given a context and the fields before."""


def forced_after(
    order: Sequence[str], name: str, forced: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The forced fields that come right after a free one, with no free one between them."""
    rest = order[order.index(name) + 1 :]
    return {later: forced[later] for later in itertools.takewhile(forced.__contains__, rest)}


def reweighted(
    predict: Predict,
    name: str,
    prediction: Prediction,
    context: Any,
    known: Mapping[str, Tensor],
    forced: Mapping[str, Tensor],
) -> Prediction:
    """What is predicted of a field once it is known what comes right after it.

    p(entry) becomes proportional to p(entry) p(forced | entry), asked for all classes at once. What
    is not in classes, or has no likelihood, stays as it is.

    Args:
        predict: What is predicted of a field, given a context and the fields before.
        name: The field.
        prediction: For (B,) lanes.
        context: (B, ...).
        known: (B,) the fields that come earlier, by name.
        forced: (B,) those that come right after.
    """
    if not isinstance(prediction, Categorical) or not forced:
        return prediction
    costs = []
    lanes, classes = prediction.logits.shape
    for lane in range(lanes):
        only = slice(lane, lane + 1)
        here = spread(lanes_of(context, only), classes)
        told = {earlier: entries[only].expand(classes) for earlier, entries in known.items()}
        told[name] = torch.arange(classes, device=prediction.logits.device)
        after = {later: entries[only].expand(classes) for later, entries in forced.items()}
        cost = _cost(predict, here, told, after)
        costs.append(cost - cost.min())
    cost = torch.stack(costs).to(prediction.logits)  # (B, C)
    weights = prediction.weights
    return Categorical(
        prediction.logits - cost, None if weights is None else weights * torch.exp(-cost)
    )


def _cost(
    predict: Predict, context: Any, known: Mapping[str, Tensor], forced: Mapping[str, Tensor]
) -> Tensor:
    """(C,) nats of what is forced, after each class of the field before it."""
    told = dict(known)
    nats = []
    for later, entries in forced.items():
        said = predict(later, context, told)
        told[later] = entries
        nats.append(said.nll(entries) if isinstance(said, Density) else torch.zeros_like(entries))
    return torch.stack([part.double() for part in nats]).sum(0)
