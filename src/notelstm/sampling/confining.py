"""What processors are made of: masks, intervals and tilts of whatever a head said.

Processors look at the role of a field, and at what each of its classes says; so the same one serves
rows of a note and rows of an event.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.errors import ConfigError
from notelstm.fields import EventType, Field, Role
from notelstm.predictions import Categorical, LogisticMixture, Normal
from notelstm.protocols import Prediction, RecallingTracker, Tracker

__all__ = [
    "allow_only",
    "allowed_in_lanes",
    "check_roles",
    "confine",
    "latest",
    "moved",
    "tilted",
    "told",
]

_EVENT_OF: Final[Mapping[Role, EventType]] = {
    "pitch": "note-on",
    "step": "shift",
    "velocity": "velocity",
}


def allow_only(prediction: Categorical, allowed: Tensor) -> Categorical:
    """Keep allowed classes; where none of them was possible, keep everything.

    Args:
        prediction: (B, C).
        allowed: (B, C) or (C,) bool.
    """
    possible = prediction.logits > -torch.inf
    left = possible & allowed
    return prediction.masked(torch.where(left.any(-1, keepdim=True), left, possible))


def allowed_in_lanes(
    prediction: Prediction, allowed: NDArray[np.bool_] | Sequence[NDArray[np.bool_]]
) -> Prediction:
    """The same with numpy masks; a prediction of numbers stays as it is.

    Args:
        prediction: For (B,) lanes.
        allowed: (C,) for all lanes, or one for each of the B lanes.
    """
    if not isinstance(prediction, Categorical):
        return prediction
    mask = torch.from_numpy(np.array(allowed)).to(prediction.logits.device)
    return allow_only(prediction, mask)


def confine(prediction: Prediction, low: Tensor, high: Tensor) -> Prediction:
    """Keep values from `low` to `high`; where none of them was possible, the nearest one that was.

    Args:
        prediction: Of numbers, for (B,) lanes.
        low: (B,) the least.
        high: (B,) the greatest, not below `low`.
    """
    if isinstance(prediction, Normal | LogisticMixture):
        least = low if prediction.low is None else prediction.low.to(low)
        most = high if prediction.high is None else prediction.high.to(high)
        low, high = (torch.minimum(torch.maximum(end, least), most) for end in (low, high))
    return prediction.masked((low, high))


def tilted(prediction: Prediction, tilt: Tensor) -> Prediction:
    """Make classes likelier or rarer; a prediction of numbers stays as it is.

    Args:
        prediction: For (B,) lanes.
        tilt: (B, C) what is added to the logarithm of each class's weight.
    """
    if not isinstance(prediction, Categorical):
        return prediction
    weights = prediction.weights
    return Categorical(
        prediction.logits + tilt.to(prediction.logits),
        None if weights is None else weights * tilt.to(weights).exp(),
    )


def moved(prediction: Prediction, by: Tensor) -> Prediction:
    """Make numbers larger or smaller; classes, and single values, stay as they are.

    A single value does not remember what it was confined to, so it could leave that.

    Args:
        prediction: For (B,) lanes.
        by: (B,) how much is added, in the field's unit.
    """
    if isinstance(prediction, Normal):
        return replace(prediction, mean=prediction.mean + by.to(prediction.mean))
    if isinstance(prediction, LogisticMixture):
        # Each component by its middle, none below the least value.
        middle = prediction.mean.exp() + by.to(prediction.mean).unsqueeze(-1)  # (B, K)
        return replace(prediction, mean=middle.clamp_min(prediction.scale).log())
    return prediction


@functools.lru_cache(maxsize=64)
def told(field: Field, role: Role) -> NDArray[np.float64] | None:
    """What each class of a field says of a role, in the field's unit.

    Args:
        field: A field of that role, or of events.
        role: Of a shift, ``"step"``; of a note-on, ``"pitch"``.

    Returns:
        (C,), NaN for a class that says nothing of it; None for numbers and for other roles.
    """
    if field.role == role and field.values:
        return np.array(field.values)
    kind = _EVENT_OF.get(role)
    if field.events and kind is not None:
        return np.array([event.value if event.type == kind else np.nan for event in field.events])
    return None


def latest(tracker: Tracker, count: int) -> Sequence[tuple[float, int]]:
    """Onset (s) and pitch of the latest `count` notes, in order."""
    # To ask for the whole protocol, as for each lane and row, takes longer than the answer.
    if hasattr(tracker, "latest"):
        return cast(RecallingTracker, tracker).latest(count)
    notes = tracker.notes()[-count:]
    return list(zip(notes.start.tolist(), notes.pitch.tolist(), strict=True))


def check_roles(roles: Sequence[str]) -> None:
    """Refuse a role that there is not.

    Raises:
        ConfigError: If one of `roles` is no role of a field.
    """
    unknown = [role for role in roles if role not in get_args(Role)]
    if unknown:
        raise ConfigError(f"roles are {', '.join(get_args(Role))}", got=repr(unknown[0]))
