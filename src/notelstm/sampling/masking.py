"""Masks of classes: those that an encoder allows, and those of processors; checks of settings."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.batch import columns
from notelstm.errors import ConfigError, did_you_mean
from notelstm.fields import EventType, Field, Role, known_before
from notelstm.protocols import ConstrainingEncoder, NoteEncoder, Prediction, Processor

__all__ = [
    "Constraints",
    "allow_only",
    "as_processors",
    "check_number",
    "check_roles",
    "check_whole",
    "class_values",
    "constrain_interval",
    "rows_before",
]

_EVENT_OF: Final[Mapping[Role, EventType]] = {
    "pitch": "note-on",
    "step": "shift",
    "velocity": "velocity",
    "instrument": "instrument",
}


def allow_only(
    prediction: Prediction, allowed: Tensor | NDArray[np.bool_] | Sequence[NDArray[np.bool_]]
) -> Prediction:
    """Limit a prediction to the allowed classes, unless none of them is possible.

    Args:
        prediction: For (B,) sequences; a prediction of numbers is returned unchanged.
        allowed: (B, C) or (C,) bool, as a tensor or in numpy.
    """
    log_weights = prediction.log_weights()
    if log_weights is None:
        return prediction
    mask = allowed if isinstance(allowed, Tensor) else torch.from_numpy(np.array(allowed))
    possible = log_weights > -torch.inf
    left = possible & mask.to(possible.device)
    return prediction.constrained(torch.where(left.any(-1, keepdim=True), left, possible))


def constrain_interval(prediction: Prediction, low: Tensor, high: Tensor) -> Prediction:
    """Limit values to [low, high], or to the nearest possible value if none of them is possible.

    Args:
        prediction: A prediction of numbers for (B,) sequences.
        low: (B,) the minimum.
        high: (B,) the maximum, not below `low`.
    """
    support = prediction.support()
    if support is not None:
        least, most = (end.to(low) for end in support)
        low, high = (torch.minimum(torch.maximum(end, least), most) for end in (low, high))
    return prediction.constrained((low, high))


@functools.lru_cache(maxsize=64)
def class_values(field: Field, role: Role) -> NDArray[np.float64] | None:
    """(C,) the value of each class of a field, if it has the role; None for other fields.

    Of a field of events, these are the seconds of shifts for the role step, the pitches of note-ons
    for the role pitch and so on, and NaN for other events.
    """
    if field.role == role and field.values:
        values = np.array(field.values)
        if field.none is not None:
            values[field.none] = np.nan
        return values
    kind = _EVENT_OF.get(role)
    if field.events and kind is not None:
        return np.array([event.value if event.type == kind else np.nan for event in field.events])
    return None


def check_roles(roles: Sequence[str]) -> tuple[str, ...]:
    """The roles as a tuple; one that does not exist is a ConfigError."""
    unknown = [role for role in roles if role not in get_args(Role)]
    if unknown:
        raise ConfigError(
            f"unknown role {unknown[0]!r}{did_you_mean(str(unknown[0]), get_args(Role))}",
            hint=f"choose among {', '.join(get_args(Role))}",
        )
    return tuple(roles)


def check_whole(
    name: str, value: object, low: int = 0, high: int | None = None, hint: str = ""
) -> None:
    """Check that a setting is a whole number from `low` to `high`, else raise a ConfigError."""
    most = math.inf if high is None else high
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or not low <= int(value) <= most
    ):
        domain = f", at least {low}" if high is None else f" from {low} to {high}"
        raise ConfigError(f"{name} {value!r} is not a whole number{domain}", hint=hint)


def check_number(name: str, value: object, low: float, high: float, hint: str = "") -> None:
    """Check that a setting is a number from `low` to `high`, else raise a ConfigError."""
    # Compared without a conversion, since an int may be too large for a float.
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Real)
        or not (value <= high and not value < low)
    ):
        raise ConfigError(f"{name} {value!r} is not a number from {low:g} to {high:g}", hint=hint)


def as_processors(processors: object) -> tuple[Processor, ...]:
    """The processors of a sampler as a tuple; any other object is a ConfigError."""
    several = tuple(processors) if isinstance(processors, Iterable) else None
    if several is None or not all(map(callable, several)):
        raise ConfigError(
            f"{processors!r} is not a sequence of processors",
            hint="give a tuple, (Scale(name='D dorian'),)",
        )
    return several


def rows_before(rows: Tensor, fields: Sequence[Field]) -> Tensor:
    """(..., T, F) the row before each row of sequences (..., T, F) that start a piece.

    Before the first, it is :func:`~notelstm.fields.no_row`.
    """
    # Filled on the device: a copy from the CPU would wait for a GPU.
    none = torch.full_like(rows[..., :1, :], -1)
    for i, field in enumerate(fields):
        if not field.is_categorical:
            none[..., i] = math.nan
    return torch.cat([none, rows[..., :-1, :]], dim=-2)


@final
class Constraints:
    """Limits the predictions of a model to the classes that an encoder allows.

    Training, scoring and generation share it. Without an encoder that limits the rows, all classes
    are allowed.

    Args:
        encoder: The encoder, or None.
        field_order: The names of the fields in the order of prediction.
    """

    def __init__(self, encoder: NoteEncoder | None, field_order: Sequence[str]) -> None:
        self._encoder: Final = encoder if isinstance(encoder, ConstrainingEncoder) else None
        self._limited: Final = () if self._encoder is None else self._encoder.limited_fields
        self._fields: Final = () if encoder is None else encoder.fields
        self._earlier: Final = known_before(self._fields, field_order)

    def __bool__(self) -> bool:
        """Whether the encoder limits any field."""
        return bool(self._limited)

    def allowed(self, field: str, known: Mapping[str, Tensor], previous: Tensor) -> Tensor | None:
        """(..., C) bool, the allowed classes of a field; None if all are.

        Args:
            field: The name of the field.
            known: (...) the entries of the row that are known, by name.
            previous: (..., F) the row before, see :func:`rows_before`.
        """
        if self._encoder is None or field not in self._limited:
            return None
        before = columns(previous, self._fields)
        mask: Tensor | None = self._encoder.allowed_classes(field, known, before)
        return mask

    def apply(
        self,
        field: str,
        prediction: Prediction,
        known: Mapping[str, Tensor],
        previous: Tensor,
        *,
        keep_own: bool = False,
    ) -> Prediction:
        """The prediction of rows that are known, limited to the allowed classes.

        Args:
            field: The name of the field.
            prediction: For (...) rows.
            known: (...) the entries of the field and of the earlier ones, by name; later ones are
                not used.
            previous: (..., F) the row before each.
            keep_own: Whether the class of each row remains even if it is not allowed. Augmentation
                can change the order of rows; their loss then stays finite.
        """
        if field not in self._limited:
            return prediction
        earlier = {name: known[name] for name in self._earlier[field]}
        allowed = self.allowed(field, earlier, previous)
        if allowed is None:
            return prediction
        if not keep_own:
            return prediction.constrained(allowed)
        allowed = allowed.scatter(-1, known[field].unsqueeze(-1), True)
        # `constrained` checks that some class is possible, which would wait for a GPU.
        none = torch.zeros((), device=allowed.device)
        return prediction.add_log_weights(torch.where(allowed, none, -math.inf))
