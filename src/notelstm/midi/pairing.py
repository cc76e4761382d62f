"""From the events of track chunks to notes, in ticks.

Program changes, bank selects, percussion messages and the messages that end all notes act on a
channel of a port, in whichever chunk they are. Players merge the chunks first; here the events of
each chunk are merged with the events of other chunks that affect its notes.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.parsing import (
    BANK,
    DRUM_CHANNEL,
    NAME,
    NOTES_OFF,
    PART,
    RESET,
    Events,
    columns_of,
)
from notelstm.midi.policy import ReadPolicy

__all__ = ["MergedEvents", "Paired", "Voice", "match_note_offs", "merge_chunks"]

_OTHER_CHUNK: Final = 1 << 24
"""Marks the code of an event of another chunk."""

_XG_DRUM_BANKS: Final = (126, 127)
"""The banks of XG's drum and effect kits; in GS they are other melodic sounds."""

_GM2_BANKS: Final = {120: True, 121: False}
"""The banks by which GM2 makes a channel percussion, or melodic."""


class MergedEvents(NamedTuple):
    """The events that affect the notes of one chunk, in the order in which they act.

    Attributes:
        ticks: (E,) ticks.
        codes: (E,) as in :class:`~notelstm.midi.parsing.Events`; those of other chunks are marked.
        order: (E,) the position of each in the order of all events of the file; even.
        end: The position of the end of the chunk; odd.
        shared: Whether there are events of other chunks.
    """

    ticks: Sequence[int]
    codes: Sequence[int]
    order: Sequence[int]
    end: int
    shared: bool


def merge_chunks(chunks: Sequence[Events]) -> tuple[MergedEvents, ...]:
    """Merge the events of each chunk with those of other chunks that affect its channels.

    Events act in the order of their ticks; on one tick, in the order of the file.
    """
    sizes = [len(events.ticks) for events in chunks]
    ticks, codes = columns_of(chunks)
    chunk = np.repeat(np.arange(len(chunks)), sizes)
    by_time = np.argsort(ticks, kind="stable")
    order = np.empty_like(by_time)
    order[by_time] = np.arange(0, 2 * len(by_time), 2)
    kind, number, channel = codes >> 20, codes >> 8 & 0x7F, codes >> 16 & 0xF
    by_channel = (kind == 0xC) | ((kind == 0xB) & np.isin(number, (BANK, *NOTES_OFF)))
    system = (codes >= PART << 16) & (codes >> 16 != NAME)
    ports = np.array([events.port for events in chunks], dtype=np.int64)
    lasts = np.searchsorted(ticks[by_time], [events.tick for events in chunks], side="right")
    merged = []
    first = 0
    for k, (size, last) in enumerate(zip(sizes, lasts.tolist(), strict=True)):
        own = slice(first, first + size)
        first += size
        end = 2 * last - 1
        others = np.zeros(0, dtype=np.intp)
        if len(chunks) > 1:
            has_notes = np.zeros(16, dtype=np.bool_)
            has_notes[channel[own][kind[own] == 9]] = True
            affects = system | (by_channel & has_notes[channel])
            affects &= (chunk != k) & (ports[chunk] == ports[k]) & has_notes.any()
            others = np.flatnonzero(affects)
        members = np.concatenate((np.arange(own.start, own.stop), others))
        members = members[np.argsort(order[members])]
        marked = codes[members] | np.where(chunk[members] == k, 0, _OTHER_CHUNK)
        columns = (ticks[members].tolist(), marked.tolist(), order[members].tolist())
        merged.append(MergedEvents(*columns, end, shared=others.size > 0))
    return tuple(merged)


class Voice(NamedTuple):
    """The notes of one program on one channel of one chunk: one track of the file."""

    name: str
    program: int
    channel: int
    drum: bool


class Paired(NamedTuple):
    """The notes of a chunk, in the order in which they end; columns of (N,), times in ticks.

    Attributes:
        voice: The number of each note's voice.
        order: The position, in the order of all events of the file, of the event that ended each
            note.
        voices: In the order in which their first notes end.
        zero_length: Notes without length that were left out.
        hanging: Notes without an end that were left out.
        silenced: Notes ended by a message that ends all notes of a channel.
        changed: Notes that ended under another program than they started under.
        conflicts: The channels that several chunks give different programs on one tick.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    voice: NDArray[np.int64]
    order: NDArray[np.int64]
    voices: tuple[Voice, ...]
    zero_length: int
    hanging: int
    silenced: int
    changed: int
    conflicts: frozenset[int]


def match_note_offs(events: Events, merged: MergedEvents, policy: ReadPolicy) -> Paired:
    """Find the note-off of every note-on.

    A note's program is its channel's when the note starts. If several chunks give a channel a
    program on one tick, each chunk uses its own. Notes still open where a chunk is cut end there.
    """
    pairing = _Pairing(policy)
    for tick, code, order in zip(merged.ticks, merged.codes, merged.order, strict=True):
        status = code >> 16 & 0xFF
        kind = status & 0xF0
        if kind == 0x90:
            velocity = code & 0x7F
            if velocity or policy.velocity_zero == "note":
                pairing.note_on(code >> 8 & 0xF7F, tick, velocity or 1)
            else:
                pairing.note_off(code >> 8 & 0xF7F, tick, order)
        elif kind == 0x80:
            pairing.note_off(code >> 8 & 0xF7F, tick, order)
        elif kind == 0xC0:
            pairing.program(status & 0xF, code >> 8 & 0x7F, tick, other=code >= _OTHER_CHUNK)
        elif kind == 0xB0:
            number, value = code >> 8 & 0x7F, code & 0x7F
            if number == BANK:
                pairing.bank(status & 0xF, value, tick, other=code >= _OTHER_CHUNK)
            elif number in NOTES_OFF:
                pairing.end_all(status & 0xF, tick, order)
        elif status == NAME:
            pairing.name = events.names[pairing.names]
            pairing.names += 1
        elif status == PART:
            pairing.parts[code >> 8 & 0xF] = bool(code & 1)
        elif status == RESET:
            pairing.reset(gs=bool(code & 1))
    ends = events.cut or policy.hanging == "end"
    paired = pairing.finish(events.tick, merged.end, end=ends)
    return _without_overlaps(paired) if policy.overlaps == "merge" else paired


@final
class _Pairing:
    """Open notes by ``channel << 8 | pitch``; closed ones in columns.

    An open note is ``tick << 15 | drum << 14 | program << 7 | velocity``.
    """

    def __init__(self, policy: ReadPolicy) -> None:
        self.close_all = policy.overlaps == "close-all"
        self.keep_zero = policy.zero_length == "keep"
        self.open: dict[int, deque[int]] = {}
        self.programs = [0] * 16
        self.banks = [0] * 16
        self.set_at = [-1] * 16  # the tick of the chunk's own last program or bank
        self.conflicts: set[int] = set()
        self.reset(gs=False)
        self.name, self.names = "", 0
        self.zero_length = self.hanging = self.silenced = self.changed = 0
        self.voices: dict[tuple[int, int], tuple[int, Voice]] = {}
        self.columns = tuple(array("q") for _ in range(6))

    def reset(self, *, gs: bool) -> None:
        """Make channel 10 alone percussion."""
        self.gs = gs
        self.parts = [channel == DRUM_CHANNEL for channel in range(16)]
        self.kits: list[bool | None] = [None] * 16  # None where the bank does not decide

    def program(self, channel: int, number: int, tick: int, *, other: bool) -> None:
        """Give a channel a program, of the bank that was selected before."""
        if other and self.set_at[channel] == tick:
            if number != self.programs[channel]:
                self.conflicts.add(channel)
            return
        if not other:
            self.set_at[channel] = tick
        self.programs[channel] = number
        bank = self.banks[channel]
        kit = _GM2_BANKS.get(bank)
        self.kits[channel] = True if bank in _XG_DRUM_BANKS and not self.gs else kit

    def bank(self, channel: int, number: int, tick: int, *, other: bool) -> None:
        """Select the bank of a channel's next program."""
        if not other:
            self.set_at[channel] = tick
        elif self.set_at[channel] == tick:
            return
        self.banks[channel] = number

    def end_all(self, channel: int, tick: int, order: int) -> None:
        """End all open notes of a channel."""
        for key in [key for key, notes in self.open.items() if notes and key >> 8 == channel]:
            notes = self.open.pop(key)
            self.silenced += len(notes)
            self._close(key, notes, tick, order)

    def _sound(self, channel: int) -> int:
        """The instrument of a channel, ``drum << 7 | program``."""
        kit = self.kits[channel]
        drum = self.parts[channel] if kit is None else kit
        return drum << 7 | self.programs[channel]

    def note_on(self, key: int, tick: int, velocity: int) -> None:
        """Open a note."""
        note = tick << 15 | self._sound(key >> 8) << 7 | velocity
        self.open.setdefault(key, deque()).append(note)

    def note_off(self, key: int, tick: int, order: int) -> None:
        """End every open note of a pitch, or the oldest."""
        notes = self.open.get(key)
        if not notes:
            return
        if not self.close_all:
            self._close(key, [notes.popleft()], tick, order)
            return
        # A note that starts on this tick is a new one and stays open, unless nothing else is open.
        kept = deque(note for note in notes if note >> 15 == tick)
        closed = [note for note in notes if note >> 15 != tick]
        self.open[key] = kept if closed else deque()
        self._close(key, closed or notes, tick, order)

    def finish(self, tick: int, order: int, *, end: bool) -> Paired:
        """All notes; those that are open at the end of the chunk end there, or are left out."""
        for key, notes in self.open.items():
            if end:
                self._close(key, notes, tick, order)
            else:
                self.hanging += len(notes)
        start, ends, pitch, velocity, voice, ended_by = (
            np.array(column, dtype=np.int64) for column in self.columns
        )
        voices = tuple(voice for _, voice in self.voices.values())
        columns = (start, ends, pitch, velocity, voice, ended_by, voices)
        lost = (self.zero_length, self.hanging, self.silenced, self.changed)
        return Paired(*columns, *lost, frozenset(self.conflicts))

    def _close(self, key: int, notes: Iterable[int], tick: int, order: int) -> None:
        channel, pitch = key >> 8, key & 0x7F
        now = self._sound(channel)
        for note in notes:
            start, sound, velocity = note >> 15, note >> 7 & 0xFF, note & 0x7F
            if start == tick and not self.keep_zero:
                self.zero_length += 1
                continue
            self.changed += sound != now
            voice = self.voices.get((channel, sound))
            if voice is None:
                program, drum = sound & 0x7F, bool(sound >> 7)
                voice = len(self.voices), Voice(self.name, program, channel, drum)
                self.voices[channel, sound] = voice
            row = (start, tick, pitch, velocity, voice[0], order)
            for column, value in zip(self.columns, row, strict=True):
                column.append(value)


def _without_overlaps(paired: Paired) -> Paired:
    """Join overlapping notes of one voice and pitch into one, with the first note's velocity."""
    order = np.lexsort((paired.end, paired.start, paired.pitch, paired.voice))
    keys = (paired.voice[order] * 128 + paired.pitch[order]).tolist()
    starts, ends = paired.start[order].tolist(), paired.end[order].tolist()
    ended_by = paired.order[order].tolist()
    heads: list[int] = []
    for i, start in enumerate(starts):
        if heads and keys[heads[-1]] == keys[i] and start < ends[heads[-1]]:
            ends[heads[-1]] = max(ends[heads[-1]], ends[i])
            ended_by[heads[-1]] = max(ended_by[heads[-1]], ended_by[i])
        else:
            heads.append(i)
    end = np.array([ends[i] for i in heads], dtype=np.int64)
    by_end = np.argsort(end, kind="stable")
    kept = order[np.array(heads, dtype=np.intp)[by_end]]
    return paired._replace(
        start=paired.start[kept],
        end=end[by_end],
        pitch=paired.pitch[kept],
        velocity=paired.velocity[kept],
        voice=paired.voice[kept],
        order=np.array([ended_by[i] for i in heads], dtype=np.int64)[by_end],
    )
