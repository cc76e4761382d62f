"""Helpers of processors: masks of classes, intervals of numbers, checks of settings.

Processors depend on the role of a field and on the values of its classes, so one processor serves
rows of notes and rows of events.
"""

from __future__ import annotations

import functools
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
}


def allow_only(prediction: Prediction, allowed: Tensor) -> Prediction:
    """Keep the allowed classes; where none of them was possible, keep every class.

    Args:
        prediction: (B, C); a prediction of numbers is returned unchanged.
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
        allowed: (C,) for all sequences, or one for each of them.
    """
    return allow_only(prediction, torch.from_numpy(np.array(allowed)))


def constrain_interval(prediction: Prediction, low: Tensor, high: Tensor) -> Prediction:
    """Keep values from `low` to `high`; where none of them was possible, the nearest possible one.

    Args:
        prediction: Of numbers, for (B,) sequences.
        low: (B,) the least.
        high: (B,) the greatest, not below `low`.
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
        field: A field of that role, or of events.
        role: Of a shift, ``"step"``; of a note-on, ``"pitch"``.

    Returns:
        (C,), NaN for a class without such a value; None for numbers and for other roles.
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
        ConfigError: If one of `roles` is no role of a field.
    """
    unknown = [role for role in roles if role not in get_args(Role)]
    if unknown:
        raise ConfigError(
            f"unknown role {unknown[0]!r}{did_you_mean(str(unknown[0]), get_args(Role))}",
            hint=f"choose among {', '.join(get_args(Role))}",
        )


def check_whole(
    what: str, value: object, least: int = 0, most: int | None = None, hint: str = ""
) -> None:
    """Refuse what is no whole number in a range.

    Args:
        what: The name of the setting.
        value: Its value.
        least: The least that it can be.
        most: The greatest, None for no end.
        hint: What to do instead.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(value, numbers.Integral) and least <= int(value) <= (
        int(value) if most is None else most
    ):
        return
    domain = f", at least {least}" if most is None else f" from {least} to {most}"
    raise ConfigError(f"{what} {value!r} is not a whole number{domain}", hint=hint)


def check_number(what: str, value: object, least: float, most: float, hint: str = "") -> None:
    """Refuse what is no number in a range; the arguments are those of :func:`check_whole`.

    Raises:
        ConfigError: If it is none.
    """
    if not isinstance(value, numbers.Real) or not least <= float(value) <= most:
        raise ConfigError(f"{what} {value!r} is not a number from {least:g} to {most:g}", hint=hint)


def as_processors(given: object) -> tuple[Processor, ...]:
    """The processors of a sampler.

    Raises:
        ConfigError: If they are not several things that can be called.
    """
    several = tuple(given) if isinstance(given, Iterable) else None
    if several is None or not all(map(callable, several)):
        raise ConfigError(
            f"{given!r} is not a sequence of processors",
            hint="give a tuple, (Scale(name='D dorian'),)",
        )
    return several
