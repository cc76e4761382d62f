"""What a session is made of, and checks of what it is given."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn

from notelstm.errors import ConfigError, DataError, FieldError, ShapeError
from notelstm.fields import Field
from notelstm.protocols import Feedback, Legal, NoteEncoder, NoteModel, Sampler

__all__ = [
    "Parts",
    "check_drawn",
    "check_forced",
    "check_legal",
    "check_parts",
    "check_sampler",
]

_MOST: Final = float(torch.finfo(torch.float32).max)
"""The greatest number that a row can hold."""


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
                "forced fields are the encoder's", got=name, hint=f"use {', '.join(fields)}"
            )
        field = fields[name]
        low, high = field.interval if field.classes is None else (0, field.classes - 1)
        good = isinstance(entry, numbers.Real) and low <= entry <= high and abs(entry) <= _MOST
        if not good or (field.is_categorical and entry != int(entry)):
            what = "a class id" if field.is_categorical else "a finite number"
            raise FieldError(f"{name} is {what} from {low:g} to {high:g}", got=f"{entry!r}")


def check_legal(entries: Tensor, field: Field, legal: Legal | None) -> None:
    """Check that (B,) forced entries can come next in every lane.

    Raises:
        FieldError: If one cannot.
    """
    if legal is None:
        return
    if isinstance(legal, Tensor):
        good = legal[torch.arange(len(entries), device=entries.device), entries]
    else:
        good = (legal[0] <= entries) & (entries <= legal[1])
    if not bool(good.all()):
        raise FieldError(
            "a forced entry is one that can come next",
            got=f"{field.name} {float(entries[0]):g}",
            where="" if len(good) == 1 else f"lane {int((~good).nonzero()[0])}",
            hint="force another, or the fields before it as well",
        )


def check_drawn(drawn: object, field: Field, lanes: int) -> Tensor:
    """Check what a sampler gave.

    Raises:
        ShapeError: If it is not an entry for each lane.
        FieldError: If a class id is none of the field's.
    """
    if not isinstance(drawn, Tensor) or drawn.shape != (lanes,):
        got = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
        raise ShapeError(
            f"a sampler gives a tensor with an entry for each lane, {(lanes,)}",
            got=f"{got}",
            where=f"field {field.name!r}",
            hint="try the sampler with notelstm.testing.check_sampler",
        )
    if field.classes is not None:
        least, most = (int(end) for end in drawn.aminmax())
        if not 0 <= least <= most < field.classes:
            raise FieldError(
                f"a sampler draws class ids of the field, 0 to {field.classes - 1}",
                got=f"{most if least >= 0 else least}",
                where=f"field {field.name!r}",
                hint="try the sampler, and what processors give it, with notelstm.testing: "
                "check_sampler, check_processor",
            )
    return drawn


def check_sampler(sampler: object) -> None:
    """Check that something can choose.

    Raises:
        ConfigError: If it cannot.
    """
    if not callable(sampler) or isinstance(sampler, type):
        raise ConfigError(
            "a sampler is an object that chooses, or a function",
            got=f"{sampler!r}",
            hint="give an object: Greedy()",
        )


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
            hint="use the encoder that the model was trained with",
        )
    for name, parameter in cast(nn.Module, model).named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise DataError(
                "a model's parameters are finite",
                got="NaN or infinity",
                where=name,
                hint="the model has diverged; go back to an earlier checkpoint",
            )
