"""The events of one track chunk, however damaged.

A fault is reported, and parsing continues where the bytes are events again.

Source: Standard MIDI Files 1.0, MIDI Manufacturers Association, 1988.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.chunks import Chunk
from notelstm.midi.report import RepairLog
from notelstm.midi.salvage import Budget, Salvage

__all__ = [
    "ALL_SOUND_OFF",
    "BANK",
    "DRUM_CHANNEL",
    "LONG_WAIT",
    "MAX_DENOMINATOR_POWER",
    "NAME",
    "NOTES_OFF",
    "PART",
    "RESET",
    "RESET_CONTROLLERS",
    "SHARPS",
    "SUSTAIN",
    "Events",
    "Wait",
    "columns_of",
    "decode_text",
    "parse",
    "percussion",
]

LONG_WAIT: Final = 4096
"""Longer waits, in ticks, are checked again once their length in seconds is known."""

MAX_DENOMINATOR_POWER: Final = 10
"""The largest plausible denominator of a time signature, as a power of two."""

NAME: Final = 0xFF
"""The status of a track's name among the events."""

PART: Final = 0xF0
"""The status of a system exclusive message that makes a channel percussion (1) or not (0)."""

RESET: Final = 0xF7
"""The status of a GM, XG (0) or GS (1) reset, after which channel 10 alone is percussion."""

DRUM_CHANNEL: Final = 9
"""General MIDI's percussion channel, from 0."""

BANK: Final = 0
"""The controller that selects a bank."""

SUSTAIN: Final = 64
"""The controller of the sustain pedal."""

ALL_SOUND_OFF: Final = 120
"""The controller that silences a channel, pedal or not."""

RESET_CONTROLLERS: Final = 121
"""The controller that releases the pedal."""

NOTES_OFF: Final = (ALL_SOUND_OFF, *range(123, 128))
"""The controllers that end all notes of a channel, mode messages included."""

_KEPT: Final = frozenset((BANK, SUSTAIN, RESET_CONTROLLERS, *NOTES_OFF))
_MAX_JUMPS: Final = 8
_STRAYS: Final = 6
"""The number of note-offs in a row without a note that indicate misread bytes."""

_KNOWN_METAS: Final = frozenset((*range(8), 9, 0x20, 0x21, 0x2F, 0x51, 0x54, 0x58, 0x59, 0x7F))
"""The kinds that mido supports."""

_NOTE_ON: Final = re.compile(rb"[\x90-\x9f][\x00-\x7f][\x01-\x7f]")
_FAR_BACK: Final = 16
_NEAR_BREAK: Final = 8
"""A channel message has at most seven bytes."""

SHARPS: Final = (*range(8), *range(249, 256))
"""The valid key signatures: sharps, or flats as a negative signed byte."""


class Wait(NamedTuple):
    """A long wait: its first tick, its length in ticks, and its position in the file."""

    tick: int
    ticks: int
    byte: int


@final
class Events:
    """The events of one track chunk that affect notes.

    Attributes:
        ticks: The tick of each event.
        codes: Each event as ``status << 16 | first << 8 | second``: note-offs, note-ons, program
            changes, the controllers that affect notes, names (``NAME << 16``), percussion parts
            (``PART << 16 | channel << 8 | on``) and resets (``RESET << 16 | gs``).
        places: The byte at which each event starts.
        names: The names, one for each name event.
        tempos: (tick, microseconds per beat).
        time_signatures: (tick, numerator, denominator).
        waits: Waits of more than :data:`LONG_WAIT` ticks.
        port: The MIDI port of the chunk.
        unknown_metas: Whether there are meta events that mido does not support.
        tick: The tick of the last event.
        cut: Whether the end of the chunk is missing.
    """

    def __init__(self, *, cut: bool) -> None:
        self.ticks: array[int] = array("q")
        self.codes: array[int] = array("I")
        self.places: array[int] = array("q")
        self.names: list[str] = []
        self.tempos: list[tuple[int, int]] = []
        self.time_signatures: list[tuple[int, int, int]] = []
        self.waits: list[Wait] = []
        self.port: int = 0
        self.unknown_metas: bool = False
        self.tick: int = 0
        self.cut: bool = cut

    def add(self, code: int, byte: int) -> None:
        """Append an event at the current tick."""
        self.ticks.append(self.tick)
        self.codes.append(code)
        self.places.append(byte)

    def shorten(self, waits: Sequence[Wait]) -> None:
        """Remove some of the long waits; later events move forward."""
        ends = [wait.tick + wait.ticks for wait in waits]
        shifts = np.cumsum([0, *(wait.ticks for wait in waits)])

        def earlier(tick: int) -> int:
            return tick - int(shifts[bisect_right(ends, tick)])

        ticks = np.array(self.ticks, dtype=np.int64)
        ticks -= shifts[np.searchsorted(ends, ticks, side="right")]
        self.ticks = array("q", ticks.tolist())
        self.tempos = [(earlier(tick), micros) for tick, micros in self.tempos]
        self.time_signatures = [
            (earlier(tick), upper, lower) for tick, upper, lower in self.time_signatures
        ]
        self.tick = earlier(self.tick)
        self.waits = []

    @property
    def size(self) -> tuple[int, int, int, int, int]:
        """The number of events, names, tempos and time signatures, and the tick."""
        others = len(self.names), len(self.tempos), len(self.time_signatures)
        return (len(self.ticks), *others, self.tick)

    def truncate(self, size: tuple[int, int, int, int, int]) -> None:
        """Remove all events after an earlier :attr:`size`."""
        events, names, tempos, time_signatures, self.tick = size
        del self.ticks[events:], self.codes[events:], self.places[events:]
        del self.names[names:], self.tempos[tempos:], self.time_signatures[time_signatures:]
        while self.waits and self.waits[-1].tick + self.waits[-1].ticks > self.tick:
            self.waits.pop()


def columns_of(chunks: Sequence[Events]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ticks and codes of all chunks, one chunk after the other."""
    empty = [np.zeros(0, dtype=np.int64)]
    ticks = empty + [np.array(events.ticks, dtype=np.int64) for events in chunks]
    codes = empty + [np.array(events.codes, dtype=np.int64) for events in chunks]
    return np.concatenate(ticks), np.concatenate(codes)


def decode_text(text: bytes) -> str:
    """Decode a text of a MIDI file, which has no stated encoding.

    UTF-16 after a byte-order mark, else UTF-8 if it is valid, else Latin-1; byte-order marks are
    removed, and control characters become spaces.
    """
    decoded = text.decode("latin-1")
    for encoding in ("utf-16", "utf-8") if text[:2] in {b"\xff\xfe", b"\xfe\xff"} else ("utf-8",):
        with contextlib.suppress(UnicodeDecodeError):
            decoded = text.decode(encoding)
            break
    if not decoded.isprintable():
        kept = (" " if unicodedata.category(c) == "Cc" else c for c in decoded if c != "\ufeff")
        decoded = " ".join("".join(kept).split())
    return decoded


def percussion(message: bytes) -> int | None:
    """The code of a system exclusive message that selects percussion channels, else None.

    Source: Roland SC-88 owner's manual, "use for rhythm part"; Yamaha XG specification 1.26,
    "part mode"; General MIDI System Level 1, "GM System On".
    """
    roland = message[:1] == b"\x41" and message[2:4] == b"\x42\x12"
    yamaha = message[:1] == b"\x43" and message[1:2] and message[1] & 0xF0 == 0x10
    if roland and len(message) > 7 and message[4] == 0x40 and message[5] & 0xF0 == 0x10:
        part = message[5] & 0xF
        channel = 9 if not part else part - (part < 10)
        return PART << 16 | channel << 8 | (message[7] > 0) if message[6] == 0x15 else None
    if roland and message[4:7] in {b"\x40\x00\x7f", b"\x00\x00\x7f"}:
        return RESET << 16 | 1
    if yamaha and len(message) > 6 and message[2] == 0x4C:
        if message[3:6] == b"\x00\x00\x7e":
            return RESET << 16
        if message[3] == 8 and message[5] == 7 and message[4] < 16:
            return PART << 16 | message[4] << 8 | (message[6] > 0)
    if message[:1] == b"\x7e" and message[2:4] in {b"\x09\x01", b"\x09\x03"}:
        return RESET << 16
    return None


def _data_bytes(status: int) -> int:
    """The number of data bytes after a status byte other than sysex and meta events."""
    if status < 0xF0:
        return 1 if 0xC0 <= status < 0xE0 else 2
    return {0xF1: 1, 0xF2: 2, 0xF3: 1}.get(status, 0)


class _Fault(NamedTuple):
    rule: str
    message: str
    byte: int
    lost: int


class _FaultError(Exception):
    """Bytes that cannot be an event."""

    def __init__(self, rule: str, message: str, byte: int) -> None:
        super().__init__(message)
        self.rule, self.message, self.byte = rule, message, byte


def parse(data: bytes, chunk: Chunk, log: RepairLog, budget: Budget | None = None) -> Events:
    """Parse the events of a track chunk; `log` receives the faults.

    Raises:
        MidiError: If there is a fault, under ``on_error="raise"``.
    """
    jumps: dict[int, int] = {}
    while True:
        parser = _Parser(data, chunk, budget, jumps)
        parser.run()
        jump = parser.misread() if len(jumps) < _MAX_JUMPS else None
        if jump is None:
            break
        jumps[jump[0]] = jump[1]
    for fault in parser.faults:
        log.add(fault.rule, fault.message, byte=fault.byte, chunk=chunk.number, lost=fault.lost)
    return parser.events


@final
class _Parser:
    """Parses a chunk once; `jumps` are where earlier passes went wrong, and where to continue."""

    def __init__(
        self, data: bytes, chunk: Chunk, budget: Budget | None, jumps: dict[int, int]
    ) -> None:
        self.data, self.chunk, self.jumps, self.budget = data, chunk, jumps, budget
        self.faults: list[_Fault] = []
        self.events = Events(cut=chunk.cut)
        self.at = chunk.start
        self.end = chunk.end
        self.line_break = data.find(b"\r\n", chunk.start, chunk.end)
        self.removed = 0
        self.status = 0
        self.exclusive = False
        self.wait = 0
        self.ended = False
        # The last event with its own status: its byte, the events before it, and how many since.
        self.anchor = chunk.start
        self.before = self.events.size
        self.since = 0

    @cached_property
    def salvage(self) -> Salvage:
        """The search for events after faults; healthy chunks need none."""
        budget = self.budget or Budget()
        return Salvage(self.data, self.end, self.chunk.cut, budget)

    def run(self) -> None:
        """Parse to the end of the chunk."""
        while self.at < self.end:
            begin = self.at
            if 0 <= self.line_break < begin + _NEAR_BREAK:
                self._line_break(begin)
            if begin in self.jumps:
                self._jump(begin)
                continue
            try:
                if self.ended:
                    self._after_the_end()
                else:
                    self._event()
            except _FaultError as fault:
                self._recover(begin, fault)
        if not (self.ended or self.chunk.cut):
            self._note("no-end-of-track", "the track has no end of track", self.end)

    def _note(self, rule: str, message: str, byte: int, lost: int = 0) -> None:
        self.faults.append(_Fault(rule, message, byte + self.removed, lost))

    def _line_break(self, begin: int) -> None:
        """Remove each CR LF from the next event that would be music only without it."""
        if self.line_break < begin:
            self.line_break = self.data.find(b"\r\n", begin, self.end)
        while begin <= self.line_break < begin + self._length_ahead(begin):
            at = self.line_break
            if self.salvage.better_without(begin, at, self.status):
                self._note("line-break", "CR LF within an event is skipped", at)
                self.removed += 2
                self.data = self.salvage.data = self.data[:at] + self.data[at + 2 :]
                self.end = self.salvage.end = self.end - 2
                self.line_break = self.data.find(b"\r\n", at, self.end)
            else:
                self.line_break = self.data.find(b"\r\n", at + 1, self.end)

    def _length_ahead(self, begin: int) -> int:
        """The length of the next event if it is a channel message, 0 if it is not."""
        if self.ended:
            return 0
        data, at = self.data, begin
        while at < min(begin + 3, self.end - 1) and data[at] > 0x7F:
            at += 1
        at += 1
        status = data[at] if at < self.end else 0xFF
        at += status > 0x7F
        status = status if status > 0x7F else self.status
        if not status:  # no status was given yet
            return at + 2 - begin
        return at + _data_bytes(status) - begin if 0x80 <= status < 0xF0 else 0

    def _jump(self, begin: int) -> None:
        """Continue where an earlier pass, which went wrong here, found music again."""
        stop = self.jumps[begin]
        lost = len(_NOTE_ON.findall(self.data, begin, stop))
        message = f"misread note-offs without notes; reading on at byte {stop + self.removed}"
        self._note("misread", message, begin, lost)
        self.at = stop

    def misread(self) -> tuple[int, int] | None:
        """The byte where this pass went wrong without a fault, and where to continue instead."""
        codes = np.array(self.events.codes, dtype=np.int64)
        kind = codes >> 20
        on = (kind == 9) & (codes & 0x7F > 0)
        off = (kind == 8) | ((kind == 9) & ~on)
        if np.count_nonzero(off) - np.count_nonzero(on) < _STRAYS:
            return None
        opened: Counter[int] = Counter()
        run: list[int] = []
        for index in np.flatnonzero(on | off).tolist():
            key = int(codes[index]) >> 8 & 0xF7F
            if on[index]:
                opened[key] += 1
            elif opened[key]:
                opened[key] -= 1
                run = []
            else:
                run.append(index)
            if len(run) == _STRAYS:
                begin = self.events.places[run[0]]
                there = None
                if begin not in self.jumps:
                    there = self.salvage.other_reading(begin, int(codes[run[0]]) >> 16)
                if there is not None:
                    return begin, there
        return None

    def _event(self) -> None:
        """Parse one event; after a fault, none of it is kept."""
        data, begin = self.data, self.at
        self.wait = 0
        delta = self._variable()
        self.wait = delta
        at = self.at
        if at >= self.end:
            raise _FaultError("cut-event", "the track ends before an event", begin)
        status = data[at]
        self.since += 1
        if status < 0x80:
            status = self.status
            if not status:
                self._lost_status(begin)
                status = self.status
            elif self.exclusive:
                self._note("kept-status", "the status before a sysex is used again", begin)
            self.exclusive = False
        else:
            self.at = at = at + 1
            self.anchor, self.before, self.since = begin, self.events.size, 0
        if status < 0xF0:
            self.status, self.exclusive = status, False
            self._channel(status, at, delta, begin)
        elif status == 0xFF:
            self._meta(delta, begin)
        elif status in {0xF0, 0xF7}:
            body = self._skip(self._variable(), begin)
            self.events.tick += delta
            self.exclusive = True
            code = percussion(body) if status == 0xF0 else None
            if code is not None:
                self.events.add(code, begin)
        else:
            self._illegal(status, begin)
            self.events.tick += delta
        if delta > LONG_WAIT:
            tick = self.events.tick - delta
            self.events.waits.append(Wait(tick, delta, begin + self.removed))

    def _variable(self) -> int:
        """A variable-length quantity of at most four bytes."""
        value, begin = 0, self.at
        for at in range(begin, min(begin + 4, self.end)):
            byte = self.data[at]
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                self.at = at + 1
                return value
        raise _FaultError("bad-length", "a number does not end within four bytes", begin)

    def _skip(self, size: int, begin: int) -> bytes:
        """The next bytes, of an event of a declared length."""
        if self.at + size > self.end:
            raise _FaultError("overlong-event", f"{size} bytes, more than are left", begin)
        self.at += size
        return self.data[self.at - size : self.at]

    def _channel(self, status: int, at: int, delta: int, begin: int) -> None:
        """Parse a channel message; it is kept if it affects notes."""
        data, events = self.data, self.events
        two = not 0xC0 <= status < 0xE0
        stop = at + 1 + two
        if stop > self.end:
            raise _FaultError("cut-event", "the track ends within an event", at)
        first, second = data[at], data[at + two] if two else 0
        if first > 0x7F or second > 0x7F:
            first, second = self._bad_data(status, at, first, second)
        self.at = stop
        events.tick = tick = events.tick + delta
        if first < 0x80 and (
            status < 0xA0 or 0xC0 <= status < 0xD0 or (first in _KEPT and status & 0xF0 == 0xB0)
        ):
            events.ticks.append(tick)
            events.codes.append(status << 16 | first << 8 | second)
            events.places.append(begin)

    def _bad_data(self, status: int, at: int, first: int, second: int) -> tuple[int, int]:
        """Repair data bytes over 127, if an event follows where it should."""
        after = at + _data_bytes(status)
        if after > self.end or not self.salvage.parses_from(after, status):
            raise _FaultError("data-byte", f"data byte {max(first, second)}", at)
        if first > 0x7F:
            lost = int(status & 0xF0 == 0x90 and second > 0)
            self._note("data-byte", f"{first} is no data byte: the event is left out", at, lost)
        else:
            self._note("data-byte", f"{second} is no data byte: 127 is used", at + 1)
        return first, min(second, 127)

    def _illegal(self, status: int, begin: int) -> None:
        """Skip a message that files cannot hold, and its data bytes."""
        size = _data_bytes(status)
        stop = self.at + size
        if stop > self.end or any(byte > 0x7F for byte in self.data[self.at : stop]):
            raise _FaultError("illegal-message", f"message 0x{status:02x} in a file", begin)
        self.at = stop
        self._note("illegal-message", f"message 0x{status:02x} is skipped", begin)

    def _lost_status(self, begin: int) -> None:
        """Take data before any status as notes of channel 1, if they are music then."""
        if not self.salvage.makes_sense(begin, 0x90):
            raise _FaultError("lost-status", "data bytes without a status", begin)
        self._note("lost-status", "data without a status are taken as notes of channel 1", begin)
        self.status = 0x90

    def _meta(self, delta: int, begin: int) -> None:
        """Parse a meta event; tempo, time signature and name are kept."""
        if self.at >= self.end:
            raise _FaultError("cut-event", "the track ends within an event", begin)
        kind = self.data[self.at]
        self.at += 1
        body = self._skip(self._variable(), begin)
        events = self.events
        events.tick += delta
        if kind == 0x2F:
            self.ended = True
        elif kind == 0x51:
            micros = int.from_bytes(body[:3], "big")
            if len(body) < 3 or not micros:
                self._note("tempo", f"tempo {body.hex() or 'without a value'} is left out", begin)
            else:
                events.tempos.append((events.tick, micros))
        elif kind == 0x58:
            if len(body) < 2 or not body[0] or body[1] > MAX_DENOMINATOR_POWER:
                self._note("time-signature", f"{body.hex() or 'nothing'} is left out", begin)
            else:
                events.time_signatures.append((events.tick, body[0], 1 << body[1]))
        elif kind == 0x59 and (len(body) < 2 or body[0] not in SHARPS or body[1] > 1):
            self._note("key-signature", f"{body.hex() or 'nothing'} is left out", begin)
        elif kind == 0x03:
            events.add(NAME << 16, begin)
            events.names.append(decode_text(body))
        elif kind == 0x21:
            events.port = body[0] if body else 0
        else:
            events.unknown_metas |= kind not in _KNOWN_METAS

    def _after_the_end(self) -> None:
        """Parse the bytes after the end of track if they are events, or skip them."""
        begin = self.at
        if not self.salvage.makes_sense(begin, self.status):
            self._note("bytes-after-end", f"{self.end - begin} bytes are not read", begin)
            self.at = self.end
        else:
            self._note("events-after-end", "events after the end of track are read", begin)
            self.ended = False

    def _recover(self, begin: int, fault: _FaultError) -> None:
        """Report a fault and continue where the bytes are events again, if anywhere."""
        back = None
        if self.since <= _FAR_BACK:
            # Events since the last status may be misread: a byte may have been lost there.
            back = self.salvage.plain(self.anchor + 1, begin, self.status)
        at = self.salvage.resume(begin + 1, self.status) if back is None else back
        if back is not None:
            self.events.truncate(self.before)
            begin = self.anchor
        stop = self.end if at is None else at
        lost = len(_NOTE_ON.findall(self.data, begin, stop))
        what = "nothing more of the track is read" if at is None else f"reading on at byte {at}"
        self._note(fault.rule, f"{fault.message}; {what}", fault.byte, lost)
        if at is None:
            self.events.tick += self.wait
            self.events.cut = True
            self.ended = True
        self.at = stop
        self.since = _FAR_BACK + 1
