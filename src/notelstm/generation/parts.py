"""What a session is made of, and checks of what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from notelstm.errors import ConfigError, DataError, FieldError, ShapeError
from notelstm.fields import Field
from notelstm.protocols import Feedback, NoteEncoder, NoteModel, Sampler

__all__ = ["Parts", "check_drawn", "check_forced", "check_numbers", "check_parts"]


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


def check_numbers(lanes: int, seed: int, undoable: int) -> None:
    """Check a session's settings.

    Raises:
        ConfigError: If there are no lanes, or the seed or `undoable` is negative.
    """
    if lanes < 1:
        raise ConfigError("a session has at least 1 lane", got=f"{lanes}")
    for name, value in (("a seed", seed), ("undoable", undoable)):
        if value < 0:
            raise ConfigError(f"{name} is at least 0", got=f"{value}")


def check_parts(model: NoteModel, encoder: NoteEncoder) -> None:
    """Check that a model can play.

    Raises:
        FieldError: If model and encoder have other fields.
        DataError: If a parameter of the model is NaN or infinite.
    """
    if model.fields != encoder.fields:
        raise FieldError(
            "the model's fields are the encoder's",
            got=f"{[f.name for f in model.fields]}, {[f.name for f in encoder.fields]}",
            fix="use the encoder that the model was trained with",
        )
    for name, parameter in cast(nn.Module, model).named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise DataError(
                "a model's parameters are finite",
                got="NaN or infinity",
                where=name,
                fix="the model has diverged; go back to an earlier checkpoint",
            )
