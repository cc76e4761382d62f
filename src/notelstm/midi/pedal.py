"""The sustain pedal: notes that end while it is down last until it is released."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notelstm.midi.parsing import ALL_SOUND_OFF, RESET_CONTROLLERS, SUSTAIN, Events, columns_of

__all__ = ["Pedal", "extend", "is_order_needed", "pedals_of"]

_DOWN: Final = 64
"""The controller value from which the pedal is down."""


class Pedal(NamedTuple):
    """The moves of one pedal.

    Attributes:
        times: (E,) ascending, ticks or seconds.
        values: (E,) 0 to 127.
        order: (E,) the position of each move in the order of all events; None where it is not
            known, and moves then come before the notes that end at the same time.
    """

    times: ArrayLike
    values: ArrayLike
    order: ArrayLike | None = None


def pedals_of(chunks: Sequence[Events]) -> dict[int, Pedal]:
    """The moves of the sustain pedals, in ticks, by ``port << 4 | channel``.

    A reset of controllers releases the pedal, as does, for the notes that it holds, a message that
    silences the channel.
    """
    ticks, codes = columns_of(chunks)
    sizes = [len(events.ticks) for events in chunks]
    ports = np.repeat([events.port for events in chunks], sizes).astype(np.int64)
    by_time = np.argsort(ticks, kind="stable")
    order = np.arange(0, 2 * len(by_time), 2)
    ticks, codes, ports = ticks[by_time], codes[by_time], ports[by_time]
    number = codes >> 8 & 0xFF
    moves = (codes >> 20 == 0xB) & np.isin(number, (SUSTAIN, RESET_CONTROLLERS, ALL_SOUND_OFF))
    key = ports << 4 | codes >> 16 & 0xF
    pedals = {}
    for channel in np.unique(key[moves]).tolist():
        at = np.flatnonzero(moves & (key == channel))
        pedals[int(channel)] = _pedal(ticks[at], number[at], codes[at] & 0x7F, order[at])
    return pedals


def _pedal(
    ticks: NDArray[np.int64],
    number: NDArray[np.int64],
    values: NDArray[np.int64],
    order: NDArray[np.int64],
) -> Pedal:
    """One pedal's moves; silencing the channel releases the pedal and presses it again."""
    values = np.where(number == SUSTAIN, values, 0)
    silenced = np.flatnonzero(number == ALL_SOUND_OFF)
    if silenced.size:
        last = np.maximum.accumulate(np.where(number == ALL_SOUND_OFF, 0, np.arange(len(values))))
        before = np.where(values[last] >= _DOWN, 127, 0)[silenced]
        ticks = np.insert(ticks, silenced + 1, ticks[silenced])
        # The press comes right after it, before any other event: those have even positions.
        order = np.insert(order, silenced + 1, order[silenced] + 1)
        values = np.insert(values, silenced + 1, before)
    return Pedal(ticks, values, order)


def extend(
    start: NDArray[Any],
    end: NDArray[Any],
    pitch: NDArray[np.integer],
    group: NDArray[np.int64],
    pedals: Mapping[int, Pedal],
    order: NDArray[np.int64] | None = None,
) -> NDArray[Any]:
    """Move the end of each note that ends while the pedal is down to the pedal's release.

    The note ends earlier where another note of its pitch and group starts. A pedal that is never
    released is down until the last note ends.

    Args:
        start: (N,) ticks or seconds.
        end: (N,) likewise.
        pitch: (N,) 0 to 127.
        group: (N,) the number of each note's pedal.
        pedals: The moves of each pedal, by group.
        order: (N,) the position of each release in the order of all events, if it is known.

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
    return np.asarray(np.maximum(end, np.minimum(new, _next_start(start, end, pitch, group))))


def is_order_needed(end: NDArray[Any], pedal: Pedal) -> bool:
    """Whether a pedal's moves and note-offs at the same time, (N,) `end`, depend on their order."""
    if not end.size or not np.size(pedal.times):
        return False
    before, after = (
        _released(end, np.searchsorted(pedal.times, end, side=side) - 1, pedal)
        for side in ("left", "right")
    )
    return not np.array_equal(before, after)


def _released(end: Any, k: Any, pedal: Pedal) -> Any:
    """The new ends of notes that end at `end`, after move `k` of the pedal."""
    times, down = np.asarray(pedal.times), np.asarray(pedal.values) >= _DOWN
    held = (k >= 0) & down[np.maximum(k, 0)]
    # (E + 1,) the first release at or after each move; the last stands for none.
    releases = np.append(np.where(down, len(times), np.arange(len(times))), len(times))
    releases = np.minimum.accumulate(releases[::-1])[::-1]
    last = max(end.max(), times[-1])
    release = np.append(times, last)[releases[np.maximum(k, 0)]]
    return np.where(held, release, end)


def _next_start(start: Any, end: Any, pitch: NDArray[np.integer], group: NDArray[np.int64]) -> Any:
    """The start of the next note of each note's pitch and group, at its end or later."""
    voice = group * 128 + pitch.astype(np.int64)
    order = np.lexsort((start, voice))
    never = np.iinfo(start.dtype).max if start.dtype.kind == "i" else np.inf
    following = np.full_like(start, never)
    sorted_start, sorted_voice = start[order], voice[order]
    for number in np.unique(voice):
        low, high = np.searchsorted(sorted_voice, [number, number + 1])
        mine = order[low:high]
        onsets = np.append(sorted_start[low:high], never)
        following[mine] = onsets[np.searchsorted(onsets[:-1], end[mine], side="left")]
    return following
