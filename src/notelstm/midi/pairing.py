"""From note-ons and note-offs to notes, in ticks."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.parsing import NAME, Events
from notelstm.midi.policy import ReadPolicy

__all__ = ["DRUM_CHANNEL", "Paired", "Voice", "join_overlapping", "pair"]

DRUM_CHANNEL: Final = 9
"""Where General MIDI has percussion, counted from 0."""


class Voice(NamedTuple):
    """What the notes of one program on one channel of one chunk share."""

    name: str
    program: int
    channel: int


class Paired(NamedTuple):
    """The notes of a chunk, in the order in which they end.

    Attributes:
        start: (N,) ticks.
        end: (N,) ticks.
        pitch: (N,) 0 to 127.
        velocity: (N,) 1 to 127.
        voice: (N,) number of each note's voice.
        voices: In the order in which their first notes end.
        zero_length: How many notes without length were left out.
        hanging: How many notes that never end were left out.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    voice: NDArray[np.int64]
    voices: tuple[Voice, ...]
    zero_length: int
    hanging: int


def pair(events: Events, policy: ReadPolicy) -> Paired:
    """Find the note-off of every note-on.

    A note's program is the one that its channel has when it ends, as in pretty_midi. Notes still
    open where a chunk is cut end at the cut.

    Args:
        events: What a chunk holds.
        policy: How notes that overlap, never end or have no length are read.

    Returns:
        The notes.
    """
    pairing = _Pairing(policy)
    for tick, code in zip(events.ticks, events.codes, strict=True):
        status = code >> 16
        kind = status & 0xF0
        if kind == 0x90:
            velocity = code & 0x7F
            if velocity or policy.velocity_zero == "note":
                pairing.on(code >> 8 & 0xF7F, tick, velocity or 1)
            else:
                pairing.off(code >> 8 & 0xF7F, tick)
        elif kind == 0x80:
            pairing.off(code >> 8 & 0xF7F, tick)
        elif kind == 0xC0:
            pairing.programs[status & 0xF] = code >> 8 & 0x7F
        elif status == NAME:
            pairing.name = events.names[pairing.names]
            pairing.names += 1
    hanging = pairing.hang(events.tick, end=events.cut or policy.hanging == "end")
    paired = pairing.result(hanging)
    return join_overlapping(paired) if policy.overlaps == "merge" else paired


@final
class _Pairing:
    """Open notes, ``tick << 7 | velocity``, by ``channel << 8 | pitch``; closed ones in columns."""

    def __init__(self, policy: ReadPolicy) -> None:
        self.all_at_once = policy.overlaps == "close-all"
        self.keep_zero = policy.zero_length == "keep"
        self.open: dict[int, deque[int]] = {}
        self.programs = [0] * 16
        self.name = ""
        self.names = 0
        self.zero_length = 0
        self.voices: dict[tuple[int, int], tuple[int, Voice]] = {}
        self.columns = tuple(array("q") for _ in range(5))

    def on(self, key: int, tick: int, velocity: int) -> None:
        """A note begins."""
        self.open.setdefault(key, deque()).append(tick << 7 | velocity)

    def off(self, key: int, tick: int) -> None:
        """A note-off: it ends every open note of its pitch, or the oldest."""
        notes = self.open.get(key)
        if not notes:
            return
        if not self.all_at_once:
            self._close(key, [notes.popleft()], tick)
            return
        # What begins on this very tick is a new note that goes on, unless nothing else is open.
        kept = deque(note for note in notes if note >> 7 == tick)
        closed = [note for note in notes if note >> 7 != tick]
        self.open[key] = kept if closed else deque()
        self._close(key, closed or notes, tick)

    def hang(self, tick: int, *, end: bool) -> int:
        """What is open at the end of the chunk ends there, or is left out; how many are."""
        left = 0
        for key, notes in self.open.items():
            if end:
                self._close(key, notes, tick)
            else:
                left += len(notes)
        return left

    def _close(self, key: int, notes: Iterable[int], tick: int) -> None:
        channel, pitch = key >> 8, key & 0x7F
        for note in notes:
            start, velocity = note >> 7, note & 0x7F
            if start == tick and not self.keep_zero:
                self.zero_length += 1
                continue
            program = self.programs[channel]
            voice = self.voices.get((program, channel))
            if voice is None:
                voice = len(self.voices), Voice(self.name, program, channel)
                self.voices[program, channel] = voice
            row = (start, tick, pitch, velocity, voice[0])
            for column, value in zip(self.columns, row, strict=True):
                column.append(value)

    def result(self, hanging: int) -> Paired:
        """The notes."""
        start, end, pitch, velocity, voice = (np.array(c, dtype=np.int64) for c in self.columns)
        voices = tuple(voice for _, voice in self.voices.values())
        return Paired(start, end, pitch, velocity, voice, voices, self.zero_length, hanging)


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
    heads: list[int] = []
    for i, start in enumerate(starts):
        if heads and keys[heads[-1]] == keys[i] and start < ends[heads[-1]]:
            ends[heads[-1]] = max(ends[heads[-1]], ends[i])
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
    )
