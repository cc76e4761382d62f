"""What every encoder checks of its rows, and fields that several encoders share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notelstm.errors import EncodingError
from notelstm.fields import Field, Rows

__all__ = ["PITCH", "VELOCITY", "as_rows"]

PITCH: Final = Field.categorical(
    "pitch",
    "pitch",
    values=range(128),
    edges=[k - 0.5 for k in range(129)],
    unit="MIDI note",
)
"""128 classes, one for each MIDI note number."""

VELOCITY: Final = Field.categorical(
    "velocity",
    "velocity",
    values=[4 * k + 2 for k in range(32)],
    edges=[4 * k for k in range(33)],
    unit="MIDI velocity",
)
"""32 classes of four MIDI velocities each."""


def as_rows(rows: ArrayLike, fields: Sequence[Field]) -> Rows:
    """Check that numbers can be rows of these fields.

    Args:
        rows: (N, F) numbers.
        fields: The F fields.

    Returns:
        (N, F) float32.

    Raises:
        EncodingError: If the shape differs, a number is not finite, a class does not exist, or a
            value is out of bounds: which row and why.
    """
    array = np.asarray(rows, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != len(fields):
        names = ", ".join(field.name for field in fields)
        raise EncodingError(
            f"rows of shape {array.shape} are not (N, {len(fields)}): {names}",
            hint="give one column for each field",
        )
    for column, field in zip(array.T.copy(), fields, strict=True):
        if _well(column, field):
            continue
        if field.classes is not None:
            bad = ~((column >= 0) & (column < field.classes) & (column == np.floor(column)))
            kind = f"a whole number from 0 to {field.classes - 1}"
        else:
            low, high = field.interval
            bad = ~(np.isfinite(column) & (column >= low) & (column <= high))
            kind = f"a finite number from {low:g} to {high:g} {field.unit}"
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise EncodingError(
                f"{field.name} {column[row]:g} is not {kind}",
                where=f"row {row}",
                hint="sample only allowed entries, or repair the row",
            )
    return array


def _well(column: NDArray[np.float32], field: Field) -> bool:
    """Whether all entries can be, looked at with as little ado as possible."""
    if not len(column):
        return True
    low, high = field.interval if field.classes is None else (0, field.classes - 1)
    least, most = float(column.min()), float(column.max())
    # NaN fails every comparison.
    inside = low <= least and most <= high and -math.inf < least and most < math.inf
    return inside and (field.classes is None or bool((column == np.floor(column)).all()))
