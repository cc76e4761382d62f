"""The classes of rows that ascend: notes that begin together are sorted, without repetitions."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.fields import Field, Role

__all__ = ["AscendingRows", "class_ids"]

_KEYS: Final[tuple[Role, ...]] = ("instrument", "pitch")
"""The roles by which notes that begin together are sorted, the most significant first."""


@final
class AscendingRows:
    """The classes with which a row can follow another if rows ascend.

    A row of step class 0 begins with the row before; its keys, compared in the order of their
    significance, are then greater than those of that row. A class of a field is allowed if the row
    can be completed with it, and fields that are not known yet can still take their last class. So
    some class is always allowed: a step of 0 is excluded after a row with the last class of every
    key, and any longer step can be followed by any keys. This holds for any order of prediction.

    Args:
        fields: Fields of classes: one of the role step, and at least one of the keys, which are
            instrument and pitch.

    Attributes:
        fields: The names of the fields that are limited: the keys and the step.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        (step,) = (field for field in fields if field.role == "step")
        self._step: Final = step.name
        self._keys: Final = {
            field.name: field.classes or 0
            for role in _KEYS
            for field in fields
            if field.role == role
        }
        self._classes: Final = {**self._keys, step.name: step.classes or 0}
        self.fields: Final = tuple(self._classes)

    def allowed(self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]) -> Any:
        """The allowed classes of a field, for arrays of numpy or torch.

        Args:
            field: The name of one of `fields`.
            known: (...) the class ids of fields of the same row that are known, by name.
            previous: (...) the class ids of the row before, by name; -1 if there is none.

        Returns:
            (..., C) bool, or None if all classes are allowed.
        """
        is_step = field == self._step
        step = None if is_step else known.get(self._step)
        if not is_step and (step is None or (isinstance(step, np.number) and int(step) > 0)):
            return None
        before = {key: previous[key][..., None] for key in self._keys}
        candidates = class_ids(self._classes[field], next(iter(before.values())))
        greater = equal = None
        for key, size in self._keys.items():
            value = size - 1
            if key == field:
                value = candidates
            elif key in known:
                value = known[key][..., None]
            here = value > before[key]
            greater = here if greater is None else greater | (equal & here)
            equal = (value == before[key]) if equal is None else equal & (value == before[key])
        if is_step and isinstance(greater, np.ndarray) and greater.all():
            return None
        later = candidates > 0 if step is None else step[..., None] > 0
        return later | greater


def class_ids(classes: int, like: Any) -> Any:
    """(C,) the class ids, as an array of the kind and on the device of `like`."""
    if isinstance(like, np.ndarray | np.generic):
        return _numpy_class_ids(classes)
    import torch  # not at the top: reading and encoding do without torch

    return torch.arange(classes, device=like.device)


@functools.lru_cache(maxsize=64)
def _numpy_class_ids(classes: int) -> NDArray[np.int64]:
    return np.arange(classes)
