"""The sustain pedal: notes that end while it is down sound until it is released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["PEDAL_DOWN", "Pedal", "extend", "is_order_needed"]

PEDAL_DOWN: Final = 64
"""From this controller value on, the pedal is down."""


class Pedal(NamedTuple):
    """How one pedal was moved.

    Attributes:
        times: (E,) when, ascending, ticks or seconds.
        values: (E,) 0 to 127.
        order: (E,) the place of each move in the order of all events, or None where that is not
            known: then moves count before the notes that end at the same time.
    """

    times: ArrayLike
    values: ArrayLike
    order: ArrayLike | None = None


def extend(
    start: NDArray[Any],
    end: NDArray[Any],
    pitch: NDArray[np.integer],
    group: NDArray[np.int64],
    pedals: Mapping[int, Pedal],
    order: NDArray[np.int64] | None = None,
) -> NDArray[Any]:
    """Move the end of each note that ends while the pedal is down to the pedal's release.

    A note of the same pitch and group that starts before the release cuts it short there; a pedal
    that is never released is down until the last note ends.

    Args:
        start: (N,) onsets, ticks or seconds.
        end: (N,) releases.
        pitch: (N,) 0 to 127.
        group: (N,) which pedal each note is under.
        pedals: The moves of each pedal, by group.
        order: (N,) the place of each release in the order of all events, for pedals that have it.

    Returns:
        (N,) the new ends, none earlier than before.
    """
    new = end.copy()
    for number, pedal in pedals.items():
        mine = np.flatnonzero(group == number)
        if mine.size and np.size(pedal.times):
            if order is None or pedal.order is None:
                k = np.searchsorted(pedal.times, end[mine], side="right") - 1
            else:
                k = np.searchsorted(pedal.order, order[mine]) - 1
            new[mine] = _released(end[mine], k, pedal)
    return np.asarray(np.maximum(end, np.minimum(new, _struck_again(start, end, pitch, group))))


def is_order_needed(end: NDArray[Any], pedal: Pedal) -> bool:
    """Whether it matters which of a pedal's moves and note-offs at one time come first.

    Args:
        end: (N,) releases of the notes that are under the pedal.
        pedal: Its moves.
    """
    if not end.size or not np.size(pedal.times):
        return False
    before, after = (
        _released(end, np.searchsorted(pedal.times, end, side=side) - 1, pedal)
        for side in ("left", "right")
    )
    return not np.array_equal(before, after)


def _released(end: Any, k: Any, pedal: Pedal) -> Any:
    """When each note that ends at `end`, after move `k` of the pedal, falls silent."""
    times, down = np.asarray(pedal.times), np.asarray(pedal.values) >= PEDAL_DOWN
    held = (k >= 0) & down[np.maximum(k, 0)]
    # (E + 1,) the first release at or after each event; the last stands for none.
    releases = np.append(np.where(down, len(times), np.arange(len(times))), len(times))
    releases = np.minimum.accumulate(releases[::-1])[::-1]
    last = max(end.max(), times[-1])
    release = np.append(times, last)[releases[np.maximum(k, 0)]]
    return np.where(held, release, end)


def _struck_again(
    start: Any, end: Any, pitch: NDArray[np.integer], group: NDArray[np.int64]
) -> Any:
    """When the next note of each note's pitch and group starts, at its end or later."""
    voice = group * 128 + pitch.astype(np.int64)
    order = np.lexsort((start, voice))
    never = np.iinfo(start.dtype).max if start.dtype.kind == "i" else np.inf
    again = np.full_like(start, never)
    sorted_start, sorted_voice = start[order], voice[order]
    for number in np.unique(voice):
        low, high = np.searchsorted(sorted_voice, [number, number + 1])
        mine = order[low:high]
        onsets = np.append(sorted_start[low:high], never)
        again[mine] = onsets[np.searchsorted(onsets[:-1], end[mine], side="left")]
    return again
