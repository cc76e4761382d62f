"""The sustain pedal: notes that end while it is down sound until it is released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["PEDAL_DOWN", "SUSTAIN", "extend"]

SUSTAIN: Final = 64
"""The number of the sustain pedal's controller."""

PEDAL_DOWN: Final = 64
"""From this controller value on, the pedal is down."""


def extend(
    start: NDArray[Any],
    end: NDArray[Any],
    pitch: NDArray[np.integer],
    group: NDArray[np.int64],
    pedals: Mapping[int, tuple[ArrayLike, ArrayLike]],
) -> NDArray[Any]:
    """Move the end of each note that ends while the pedal is down to the pedal's release.

    A note of the same pitch and group that starts before the release cuts it short there; a pedal
    that is never released is down until the last note ends.

    Args:
        start: (N,) onsets, ticks or seconds.
        end: (N,) releases.
        pitch: (N,) 0 to 127.
        group: (N,) which pedal each note is under.
        pedals: By group: (E,) when the pedal was moved, ascending, and (E,) its values, 0 to 127.

    Returns:
        (N,) the new ends, none earlier than before.
    """
    new = end.copy()
    for number, (times, values) in pedals.items():
        mine = np.flatnonzero(group == number)
        if mine.size and np.size(times):
            new[mine] = _released(end[mine], np.asarray(times), np.asarray(values))
    return np.asarray(np.maximum(end, np.minimum(new, _struck_again(start, end, pitch, group))))


def _released(end: Any, times: NDArray[Any], values: NDArray[Any]) -> Any:
    """When each note that ends at `end` falls silent under one pedal."""
    down = values >= PEDAL_DOWN
    k = np.searchsorted(times, end, side="right") - 1
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
