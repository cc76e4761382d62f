"""The clause of ``check_encoder`` for encoders that tell the measure's cells in their own units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import numpy as np

from notelstm.evaluation.nats import MeasuredEncoder
from notelstm.fields import Bounds, Role
from notelstm.testing.clauses import require
from notelstm.testing.round_trips import Trip

__all__ = ["MEASURE_CLAUSES"]

_ROLES: Final = cast(tuple[Role, ...], ("pitch", "step", "duration", "velocity"))

_CELLS: Final = ((-np.inf, 3), (3, 4), (4, 90), (90, np.inf))
"""Cells that divide all values of a role."""


def _bounds_partition_the_field(trip: Trip) -> None:
    """If it offers `bounds`, cells that meet still meet in its own units, and none is empty."""
    if not isinstance(trip.encoder, MeasuredEncoder) or not len(trip.piece):
        return
    n, told = len(trip.piece), []
    for ends in _CELLS:
        low, high = (np.full(n, end, dtype=np.float64) for end in ends)
        cells: dict[Role, Bounds] = dict.fromkeys(_ROLES, (low, high))
        told.append(trip.encoder.bounds(trip.piece, trip.rows, cells))
    for j, field in enumerate(trip.encoder.fields):
        require(all(field.name in bounds for bounds in told), f"None for {field.name!r}.")
        lows, highs = (np.stack([bounds[field.name][k] for bounds in told]) for k in (0, 1))
        require(lows.shape == highs.shape == (len(_CELLS), n), f"{field.name!r}: {lows.shape}.")
        require((lows < highs).all(), f"{field.name!r}: an empty cell.")
        if field.role in _ROLES:
            whole = (lows[0] == -np.inf).all() and (highs[-1] == np.inf).all()
            require(whole and np.array_equal(highs[:-1], lows[1:]), f"{field.name!r}: a gap.")
        elif field.values:
            value = np.array(field.values)[trip.rows[:, j].astype(int)]
            inside = (lows <= value) & (value < highs)
            require(inside.all(), f"{field.name!r}: it is not the row's own class.")


MEASURE_CLAUSES: tuple[Callable[[Trip], None], ...] = (_bounds_partition_the_field,)
"""What holds for every piece."""
