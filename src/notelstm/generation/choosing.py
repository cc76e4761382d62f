"""What all ways of running a model share: checks of forced entries, and what they make likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from notelstm.errors import FieldError, ShapeError
from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Context, Density, Feedback, NoteModel, Prediction, Sampler
from notelstm.tree import leaf, map_tree

__all__ = ["Parts", "check_drawn", "check_forced", "forced_after", "reweighted"]


class Parts(NamedTuple):
    """What a session is made of.

    Attributes:
        model: What predicts.
        sampler: How to choose.
        feedback: What the model reads of a drawn row, None for the row itself.
        fields: By name, in the order of the columns.
        grammar: Whether the trackers say what can come next.
    """

    model: NoteModel
    sampler: Sampler
    feedback: Feedback | None
    fields: Mapping[str, Field]
    grammar: bool


def check_forced(fields: Mapping[str, Field], forced: Mapping[str, float]) -> None:
    """Check entries that are forced.

    Raises:
        FieldError: If a field does not exist, or cannot have that entry.
    """
    for name, entry in forced.items():
        if name not in fields:
            raise FieldError(
                "forced fields are the encoder's", got=name, fix=f"use {', '.join(fields)}"
            )
        field = fields[name]
        low, high = field.interval if field.classes is None else (0, field.classes - 1)
        if not low <= entry <= high or (field.is_categorical and entry != int(entry)):
            what = "a class id" if field.is_categorical else "a number"
            raise FieldError(f"{name} is {what} from {low:g} to {high:g}", got=f"{entry:g}")


def check_drawn(drawn: object, field: Field, lanes: int) -> Tensor:
    """Check what a sampler gave.

    Raises:
        ShapeError: If it is not an entry for each lane.
    """
    if not isinstance(drawn, Tensor) or drawn.shape != (lanes,):
        got = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
        raise ShapeError(
            f"a sampler gives a tensor with an entry for each lane, {(lanes,)}",
            got=f"{got}",
            where=f"field {field.name!r}",
            fix="try the sampler with notelstm.testing.check_sampler",
        )
    return drawn


def forced_after(
    order: Sequence[str], name: str, forced: Mapping[str, float]
) -> Mapping[str, float]:
    """The forced fields that come right after a free one, with no free one between them."""
    after: dict[str, float] = {}
    for later in order[order.index(name) + 1 :]:
        if later not in forced:
            break
        after[later] = forced[later]
    return after


def reweighted(
    parts: Parts,
    name: str,
    prediction: Prediction,
    context: Context,
    known: Mapping[str, Tensor],
    forced: Mapping[str, float],
) -> Prediction:
    """What is predicted of a field once it is known what comes right after it.

    p(entry) becomes proportional to p(entry) p(forced | entry), asked of the model for all classes
    at once. What is not in classes, or has no likelihood, stays as it is.

    Args:
        parts: The model among them.
        name: The field.
        prediction: For (B,) lanes.
        context: (B, ...).
        known: (B,) the fields that come earlier, by name.
        forced: The entries that come right after.
    """
    if not isinstance(prediction, Categorical) or not forced:
        return prediction
    costs = []
    for lane in range(len(prediction.logits)):
        cost = _cost(parts, name, prediction.logits.shape[-1], context, known, forced, lane)
        costs.append(cost - cost.min())
    cost = torch.stack(costs).to(prediction.logits)  # (B, C)
    weights = prediction.weights
    return Categorical(
        prediction.logits - cost, None if weights is None else weights * torch.exp(-cost)
    )


def _cost(
    parts: Parts,
    name: str,
    classes: int,
    context: Context,
    known: Mapping[str, Tensor],
    forced: Mapping[str, float],
    lane: int,
) -> Tensor:
    """(C,) nats of what is forced, after each class of the field before it."""
    here = map_tree(lambda tensor: tensor[lane].expand(classes, *tensor.shape[1:]), context)
    told = {earlier: entries[lane].expand(classes) for earlier, entries in known.items()}
    device = leaf(context).device
    told[name] = torch.arange(classes, device=device)
    cost = torch.zeros(classes, dtype=torch.float64, device=device)
    for later, entry in forced.items():
        said = parts.model.predict(later, here, told)
        kind = torch.int64 if parts.fields[later].is_categorical else torch.float32
        told[later] = torch.full((classes,), entry, dtype=kind, device=device)
        if isinstance(said, Density):
            cost = cost + said.nll(told[later])
    return cost
