"""From note-ons and note-offs to notes, in ticks."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.channels import FOREIGN, Stream
from notelstm.midi.parsing import BANK, NAME, NOTES_OFF, PART, RESET, Events
from notelstm.midi.policy import ReadPolicy

__all__ = ["DRUM_CHANNEL", "Paired", "Voice", "join_overlapping", "match_note_offs"]

DRUM_CHANNEL: Final = 9
"""Where General MIDI has percussion, counted from 0."""

_KITS: Final = (126, 127)
"""The banks of XG's drum and effect kits; in GS they are other melodic sounds."""

_GM2_BANKS: Final = {120: True, 121: False}
"""The banks by which GM2 makes a channel percussion, or melodic."""


class Voice(NamedTuple):
    """What the notes of one program on one channel of one chunk share."""

    name: str
    program: int
    channel: int
    drum: bool


class Paired(NamedTuple):
    """The notes of a chunk, in the order in which they end.

    Attributes:
        start: (N,) ticks.
        end: (N,) ticks.
        pitch: (N,) 0 to 127.
        velocity: (N,) 1 to 127.
        voice: (N,) number of each note's voice.
        order: (N,) the place of what ended each note in the order of all events of the file.
        voices: In the order in which their first notes end.
        zero_length: How many notes without length were left out.
        hanging: How many notes that never end were left out.
        silenced: How many notes a message ended that ends all notes of its channel.
        changed: How many notes ended under another program than they began under.
        shared: The channels that several chunks give different programs on one tick.
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
    shared: frozenset[int]


def match_note_offs(events: Events, stream: Stream, policy: ReadPolicy) -> Paired:
    """Find the note-off of every note-on.

    A note's program is the one that its channel has when it begins. If several chunks give a
    channel a program on one tick, each keeps its own. Notes still open where a chunk is cut end at
    the cut.

    Args:
        events: What a chunk holds.
        stream: Its events among what other chunks say of its channels.
        policy: How notes that overlap, never end or have no length are read.

    Returns:
        The notes.
    """
    pairing = _Pairing(policy)
    for tick, code, order in zip(stream.ticks, stream.codes, stream.order, strict=True):
        status = code >> 16 & 0xFF
        kind = status & 0xF0
        if kind == 0x90:
            velocity = code & 0x7F
            if velocity or policy.velocity_zero == "note":
                pairing.on(code >> 8 & 0xF7F, tick, velocity or 1)
            else:
                pairing.off(code >> 8 & 0xF7F, tick, order)
        elif kind == 0x80:
            pairing.off(code >> 8 & 0xF7F, tick, order)
        elif kind == 0xC0:
            pairing.program(status & 0xF, code >> 8 & 0x7F, tick, foreign=code >= FOREIGN)
        elif kind == 0xB0:
            number, value = code >> 8 & 0x7F, code & 0x7F
            if number == BANK:
                pairing.bank(status & 0xF, value, tick, foreign=code >= FOREIGN)
            elif number in NOTES_OFF:
                pairing.silence(status & 0xF, tick, order)
        elif status == NAME:
            pairing.name = events.names[pairing.names]
            pairing.names += 1
        elif status == PART:
            pairing.parts[code >> 8 & 0xF] = bool(code & 1)
        elif status == RESET:
            pairing.reset(gs=bool(code & 1))
    ends = events.cut or policy.hanging == "end"
    hanging = pairing.hang(events.tick, stream.end, end=ends)
    paired = pairing.result(hanging)
    return join_overlapping(paired) if policy.overlaps == "merge" else paired


@final
class _Pairing:
    """Open notes by ``channel << 8 | pitch``; closed ones in columns.

    An open note is ``tick << 15 | drum << 14 | program << 7 | velocity``.
    """

    def __init__(self, policy: ReadPolicy) -> None:
        self.all_at_once = policy.overlaps == "close-all"
        self.keep_zero = policy.zero_length == "keep"
        self.open: dict[int, deque[int]] = {}
        self.programs = [0] * 16
        self.banks = [0] * 16
        self.set_at = [-1] * 16  # the tick of the chunk's own last program or bank
        self.shared: set[int] = set()
        self.reset(gs=False)
        self.silenced = 0
        self.changed = 0
        self.name = ""
        self.names = 0
        self.zero_length = 0
        self.voices: dict[tuple[int, int], tuple[int, Voice]] = {}
        self.columns = tuple(array("q") for _ in range(6))

    def reset(self, *, gs: bool) -> None:
        """Channel 10 alone is percussion."""
        self.gs = gs
        self.parts = [channel == DRUM_CHANNEL for channel in range(16)]
        self.kits: list[bool | None] = [None] * 16  # None where the bank does not say

    def program(self, channel: int, number: int, tick: int, *, foreign: bool) -> None:
        """A channel gets a program, of the bank that was selected before."""
        if foreign and self.set_at[channel] == tick:
            if number != self.programs[channel]:
                self.shared.add(channel)
            return
        if not foreign:
            self.set_at[channel] = tick
        self.programs[channel] = number
        bank = self.banks[channel]
        kit = _GM2_BANKS.get(bank)
        self.kits[channel] = True if bank in _KITS and not self.gs else kit

    def bank(self, channel: int, number: int, tick: int, *, foreign: bool) -> None:
        """A bank is selected for the next program of a channel."""
        if not foreign:
            self.set_at[channel] = tick
        elif self.set_at[channel] == tick:
            return
        self.banks[channel] = number

    def silence(self, channel: int, tick: int, order: int) -> None:
        """All open notes of a channel end."""
        for key in [key for key, notes in self.open.items() if notes and key >> 8 == channel]:
            notes = self.open.pop(key)
            self.silenced += len(notes)
            self._close(key, notes, tick, order)

    def sound(self, channel: int) -> int:
        """What a channel plays, ``drum << 7 | program``."""
        kit = self.kits[channel]
        drum = self.parts[channel] if kit is None else kit
        return drum << 7 | self.programs[channel]

    def on(self, key: int, tick: int, velocity: int) -> None:
        """A note begins."""
        note = tick << 15 | self.sound(key >> 8) << 7 | velocity
        self.open.setdefault(key, deque()).append(note)

    def off(self, key: int, tick: int, order: int) -> None:
        """A note-off: it ends every open note of its pitch, or the oldest."""
        notes = self.open.get(key)
        if not notes:
            return
        if not self.all_at_once:
            self._close(key, [notes.popleft()], tick, order)
            return
        # What begins on this very tick is a new note that goes on, unless nothing else is open.
        kept = deque(note for note in notes if note >> 15 == tick)
        closed = [note for note in notes if note >> 15 != tick]
        self.open[key] = kept if closed else deque()
        self._close(key, closed or notes, tick, order)

    def hang(self, tick: int, order: int, *, end: bool) -> int:
        """What is open at the end of the chunk ends there, or is left out; how many are."""
        left = 0
        for key, notes in self.open.items():
            if end:
                self._close(key, notes, tick, order)
            else:
                left += len(notes)
        return left

    def _close(self, key: int, notes: Iterable[int], tick: int, order: int) -> None:
        channel, pitch = key >> 8, key & 0x7F
        now = self.sound(channel)
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

    def result(self, hanging: int) -> Paired:
        """The notes."""
        start, end, pitch, velocity, voice, order = (
            np.array(column, dtype=np.int64) for column in self.columns
        )
        voices = tuple(voice for _, voice in self.voices.values())
        return Paired(
            start=start,
            end=end,
            pitch=pitch,
            velocity=velocity,
            voice=voice,
            order=order,
            voices=voices,
            zero_length=self.zero_length,
            hanging=hanging,
            silenced=self.silenced,
            changed=self.changed,
            shared=frozenset(self.shared),
        )


def join_overlapping(paired: Paired) -> Paired:
    """Make notes of one voice and pitch that overlap into one, with the first's velocity.

    Args:
        paired: The notes, each with its own note-off.

    Returns:
        The notes, in the order in which they end.
    """
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
