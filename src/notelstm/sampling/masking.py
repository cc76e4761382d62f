"""Helpers of processors: masks of classes, intervals of numbers, checks of settings.

Processors depend on the role of a field and on the values of its classes, so one processor serves
rows of notes and rows of events.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.errors import ConfigError, did_you_mean
from notelstm.fields import EventType, Field, Role
from notelstm.protocols import Prediction, Processor

__all__ = [
    "allow_only",
    "as_processors",
    "check_number",
    "check_roles",
    "check_whole",
    "class_values",
    "constrain_classes",
    "constrain_interval",
]

_EVENT_OF: Final[Mapping[Role, EventType]] = {
    "pitch": "note-on",
    "step": "shift",
    "velocity": "velocity",
    "instrument": "instrument",
}


def allow_only(prediction: Prediction, allowed: Tensor) -> Prediction:
    """Limit a prediction to the allowed classes, unless none of them is possible.

    Args:
        prediction: For (B,) sequences; a prediction of numbers is returned unchanged.
        allowed: (B, C) or (C,) bool.
    """
    log_weights = prediction.log_weights()
    if log_weights is None:
        return prediction
    possible = log_weights > -torch.inf
    left = possible & allowed.to(possible.device)
    return prediction.constrained(torch.where(left.any(-1, keepdim=True), left, possible))


def constrain_classes(
    prediction: Prediction, allowed: NDArray[np.bool_] | Sequence[NDArray[np.bool_]]
) -> Prediction:
    """:func:`allow_only` with numpy masks.

    Args:
        prediction: For (B,) sequences.
        allowed: (C,) for all sequences, or (C,) for each.
    """
    return allow_only(prediction, torch.from_numpy(np.array(allowed)))


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
    """The value of each class of a field for a role, in the unit of the field.

    Args:
        field: A field of the role, or of events.
        role: ``"step"`` for the seconds of shifts, ``"pitch"`` for the pitches of note-ons.

    Returns:
        (C,), NaN for classes without such a value; None for numbers and for other roles.
    """
    if field.role == role and field.values:
        return np.array(field.values)
    kind = _EVENT_OF.get(role)
    if field.events and kind is not None:
        return np.array([event.value if event.type == kind else np.nan for event in field.events])
    return None


def check_roles(roles: Sequence[str]) -> None:
    """Check names of roles.

    Raises:
        ConfigError: If one of them does not exist.
    """
    unknown = [role for role in roles if role not in get_args(Role)]
    if unknown:
        raise ConfigError(
            f"unknown role {unknown[0]!r}{did_you_mean(str(unknown[0]), get_args(Role))}",
            hint=f"choose among {', '.join(get_args(Role))}",
        )


def check_whole(
    name: str, value: object, low: int = 0, high: int | None = None, hint: str = ""
) -> None:
    """Check that the setting `name` is a whole number from `low` to `high`, None for no maximum.

    Raises:
        ConfigError: If it is not.
    """
    most = math.inf if high is None else high
    if not isinstance(value, numbers.Integral) or not low <= int(value) <= most:
        domain = f", at least {low}" if high is None else f" from {low} to {high}"
        raise ConfigError(f"{name} {value!r} is not a whole number{domain}", hint=hint)


def check_number(name: str, value: object, low: float, high: float, hint: str = "") -> None:
    """Check that the setting `name` is a number from `low` to `high`.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(value, numbers.Real) or not low <= float(value) <= high:
        raise ConfigError(f"{name} {value!r} is not a number from {low:g} to {high:g}", hint=hint)


def as_processors(processors: object) -> tuple[Processor, ...]:
    """The processors of a sampler as a tuple.

    Raises:
        ConfigError: If they are not an iterable of callables.
    """
    several = tuple(processors) if isinstance(processors, Iterable) else None
    if several is None or not all(map(callable, several)):
        raise ConfigError(
            f"{processors!r} is not a sequence of processors",
            hint="give a tuple, (Scale(name='D dorian'),)",
        )
    return several
