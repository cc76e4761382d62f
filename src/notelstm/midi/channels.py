"""What holds a MIDI channel, in whatever chunk of the file it stands.

Program changes, bank selects, percussion parts, pedals and the messages that end all notes act on a
channel of a port, not on a chunk. Players merge the chunks first; here each chunk's events are
merged with those events of the other chunks that bear on its notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.parsing import (
    ALL_SOUND_OFF,
    BANK,
    NOTES_OFF,
    PART,
    RESET_CONTROLLERS,
    SUSTAIN,
    Events,
)
from notelstm.midi.pedal import PEDAL_DOWN, Pedal

__all__ = ["FOREIGN", "Stream", "merge", "pedals_of"]

FOREIGN: Final = 1 << 24
"""Marks the code of an event of another chunk."""

_Ints = NDArray[np.int64]


class Stream(NamedTuple):
    """The events that bear on the notes of one chunk, in the order in which they act.

    Attributes:
        ticks: (E,) when.
        codes: (E,) as of :class:`~notelstm.midi.parsing.Events`; those of other chunks have
            :data:`FOREIGN` set.
        order: (E,) the place of each in the order of all events of the file; even.
        end: The place of the end of the chunk; odd.
        foreign: Whether there are events of other chunks.
    """

    ticks: Sequence[int]
    codes: Sequence[int]
    order: Sequence[int]
    end: int
    foreign: bool


def merge(chunks: Sequence[Events]) -> tuple[Stream, ...]:
    """Merge the events of each chunk with what other chunks say of its channels.

    Events act in the order of their ticks; on one tick, in the order of the file.

    Args:
        chunks: All chunks of a file.

    Returns:
        A stream for each chunk.
    """
    sizes = [len(events.ticks) for events in chunks]
    ticks, codes = _joined(chunks)
    chunk = np.repeat(np.arange(len(chunks)), sizes)
    by_time = np.argsort(ticks, kind="stable")
    order = np.empty_like(by_time)
    order[by_time] = np.arange(0, 2 * len(by_time), 2)
    steers = _steers(codes)
    steers_all = codes >= PART << 16
    channel = codes >> 16 & 0xF
    steers &= ~steers_all
    steers_all &= codes >> 16 != 0xFF
    ports = np.array([events.port for events in chunks], dtype=np.int64)
    lasts = np.searchsorted(ticks[by_time], [events.tick for events in chunks], side="right")
    streams = []
    first = 0
    for number, (size, last) in enumerate(zip(sizes, lasts.tolist(), strict=True)):
        own = slice(first, first + size)
        first += size
        end = 2 * last - 1
        others = np.zeros(0, dtype=np.intp)
        if len(chunks) > 1:
            sounding = np.zeros(16, dtype=np.bool_)
            sounding[channel[own][codes[own] >> 20 == 9]] = True
            mine = steers_all | (steers & sounding[channel])
            mine &= (chunk != number) & (ports[chunk] == ports[number]) & sounding.any()
            others = np.flatnonzero(mine)
        if not others.size:
            events = chunks[number]
            streams.append(Stream(events.ticks, events.codes, order[own].tolist(), end, False))
            continue
        members = np.concatenate((np.arange(own.start, own.stop), others))
        members = members[np.argsort(order[members])]
        marked = codes[members] | np.where(chunk[members] == number, 0, FOREIGN)
        merged_ticks, merged_order = ticks[members].tolist(), order[members].tolist()
        streams.append(Stream(merged_ticks, marked.tolist(), merged_order, end, True))
    return tuple(streams)


def pedals_of(chunks: Sequence[Events]) -> dict[int, Pedal]:
    """How the sustain pedals were moved.

    Args:
        chunks: All chunks of a file.

    Returns:
        The moves, by ``port << 4 | channel``, their times in ticks and their places in the order
        of all events. A reset of controllers releases the pedal, as does, for the notes that it
        holds, a message that silences the channel.
    """
    ticks, codes = _joined(chunks)
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


def _pedal(ticks: _Ints, number: _Ints, values: _Ints, order: _Ints) -> Pedal:
    """One pedal's moves; a channel that is silenced lets the pedal go and presses it again."""
    values = np.where(number == SUSTAIN, values, 0)
    silenced = np.flatnonzero(number == ALL_SOUND_OFF)
    if silenced.size:
        last = np.maximum.accumulate(np.where(number == ALL_SOUND_OFF, 0, np.arange(len(values))))
        before = np.where(values[last] >= PEDAL_DOWN, 127, 0)[silenced]
        ticks = np.insert(ticks, silenced + 1, ticks[silenced])
        # The press comes right after, before any other event: those have even places.
        order = np.insert(order, silenced + 1, order[silenced] + 1)
        values = np.insert(values, silenced + 1, before)
    return Pedal(ticks, values, order)


def _joined(chunks: Sequence[Events]) -> tuple[_Ints, _Ints]:
    """The ticks and codes of all chunks, one chunk after the other."""
    empty = [np.zeros(0, dtype=np.int64)]
    ticks = empty + [np.array(events.ticks, dtype=np.int64) for events in chunks]
    codes = empty + [np.array(events.codes, dtype=np.int64) for events in chunks]
    return np.concatenate(ticks), np.concatenate(codes)


def _steers(codes: _Ints) -> NDArray[np.bool_]:
    """Which events act on the notes of their channel in every chunk."""
    kind, number = codes >> 20, codes >> 8 & 0x7F
    return np.asarray((kind == 0xC) | ((kind == 0xB) & np.isin(number, (BANK, *NOTES_OFF))))
