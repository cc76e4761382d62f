"""The events of one track chunk, however damaged: what can be read is read.

A fault stops nothing: it is noted, and reading goes on where events make sense again.

Source: Standard MIDI Files 1.0, MIDI Manufacturers Association, 1988.
"""

from __future__ import annotations

import re
from array import array
from typing import Final, final

from notelstm.midi.chunks import Chunk
from notelstm.midi.report import RepairLog
from notelstm.midi.salvage import Budget, Salvage, data_bytes

__all__ = ["MAX_DELTA", "MOST_METER_POWER", "NAME", "Events", "decode_text", "parse"]

MAX_DELTA: Final = 10_000_000
"""The longest wait between two events, ticks, that can be meant."""

MOST_METER_POWER: Final = 10
"""The largest power of two that can be meant by the lower number of a time signature."""

NAME: Final = 0xFF
"""The status under which a track's name stands among the events."""

_NOTE_ON: Final = re.compile(rb"[\x90-\x9f][\x00-\x7f][\x01-\x7f]")
_FAR_BACK: Final = 16
_SHARPS: Final = (*range(8), *range(249, 256))


@final
class Events:
    """What one track chunk holds, as far as it bears on notes.

    Attributes:
        ticks: The tick of each event.
        codes: Each event as ``status << 16 | first << 8 | second``: note-offs, note-ons, sustain
            pedal, program changes, and names (``NAME << 16``).
        names: The names, one for each name event.
        tempos: (tick, microseconds to a beat).
        meters: (tick, upper number, lower number).
        tick: The tick of the last event.
        cut: Whether the end of the chunk is missing.
    """

    def __init__(self, *, cut: bool) -> None:
        self.ticks: array[int] = array("q")
        self.codes: array[int] = array("I")
        self.names: list[str] = []
        self.tempos: list[tuple[int, int]] = []
        self.meters: list[tuple[int, int, int]] = []
        self.tick: int = 0
        self.cut: bool = cut

    @property
    def known(self) -> tuple[int, int, int, int, int]:
        """How much is known so far."""
        return len(self.ticks), len(self.names), len(self.tempos), len(self.meters), self.tick

    def forget(self, known: tuple[int, int, int, int, int]) -> None:
        """Go back to what was known before."""
        events, names, tempos, meters, self.tick = known
        del self.ticks[events:], self.codes[events:]
        del self.names[names:], self.tempos[tempos:], self.meters[meters:]


def decode_text(text: bytes) -> str:
    """Text of a MIDI file, which has no stated encoding: UTF-8 if it is that, else Latin-1."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


class _FaultError(Exception):
    """Something that cannot be an event."""

    def __init__(self, rule: str, message: str, byte: int) -> None:
        super().__init__(message)
        self.rule, self.message, self.byte = rule, message, byte


def parse(data: bytes, chunk: Chunk, log: RepairLog, budget: Budget) -> Events:
    """Read the events of a track chunk.

    Args:
        data: The file.
        chunk: Where the events are.
        log: Where faults are noted.
        budget: How much searching this file may still cost.

    Returns:
        The events that could be read.

    Raises:
        MidiError: If there is a fault and the policy says to raise.
    """
    parser = _Parser(data, chunk, log, budget)
    parser.run()
    return parser.events


@final
class _Parser:
    def __init__(self, data: bytes, chunk: Chunk, log: RepairLog, budget: Budget) -> None:
        self.data, self.chunk, self.log = data, chunk, log
        self.salvage = Salvage(data, chunk.end, cut=chunk.cut, budget=budget)
        self.events = Events(cut=chunk.cut)
        self.at = chunk.start
        self.end = chunk.end
        self.status = 0
        self.exclusive = False
        self.wait = 0
        self.ended = False
        # Where the last event was that gave its status, what was known then, and how long ago.
        self.anchor = chunk.start
        self.known = self.events.known
        self.since = 0

    def run(self) -> None:
        """Read to the end of the chunk."""
        while self.at < self.end:
            begin = self.at
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
        self.log.add(rule, message, byte=byte, chunk=self.chunk.number, lost=lost)

    def _event(self) -> None:
        """Read one event; on a fault nothing of it is kept."""
        data, begin = self.data, self.at
        self.wait = 0
        delta = self._variable()
        if delta > MAX_DELTA:
            self._note("absurd-delta", f"a wait of {delta} ticks is passed over", begin)
            delta = 0
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
                self._note("kept-status", "a status is taken to hold on after sysex", begin)
            self.exclusive = False
        else:
            self.at = at = at + 1
            self.anchor, self.known, self.since = begin, self.events.known, 0
        if status < 0xF0:
            self.status, self.exclusive = status, False
            self._channel(status, at, delta)
        elif status == 0xFF:
            self._meta(delta, begin)
        elif status in {0xF0, 0xF7}:
            self._skip(self._variable(), begin)
            self.events.tick += delta
            self.exclusive = True
        else:
            self._illegal(status, begin)
            self.events.tick += delta

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
        """The next bytes, for an event that says how long it is."""
        if self.at + size > self.end:
            raise _FaultError("overlong-event", f"{size} bytes, more than are left", begin)
        self.at += size
        return self.data[self.at - size : self.at]

    def _channel(self, status: int, at: int, delta: int) -> None:
        """A channel message: what bears on notes is kept."""
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
            status < 0xA0 or 0xC0 <= status < 0xD0 or (first == 64 and status & 0xF0 == 0xB0)
        ):
            events.ticks.append(tick)
            events.codes.append(status << 16 | first << 8 | second)

    def _bad_data(self, status: int, at: int, first: int, second: int) -> tuple[int, int]:
        """Mend data bytes over 127, if the event is otherwise as long as it should be."""
        after = at + data_bytes(status)
        if after > self.end or not self.salvage.goes_on(after, status):
            raise _FaultError("data-byte", f"data byte {max(first, second)}", at)
        if first > 0x7F:
            lost = int(status & 0xF0 == 0x90 and second > 0)
            self._note("data-byte", f"{first} is no data byte: the event is left out", at, lost)
        else:
            self._note("data-byte", f"{second} is no data byte: 127 is taken", at + 1)
        return first, min(second, 127)

    def _illegal(self, status: int, begin: int) -> None:
        """A message that no file may hold: pass over it and its data bytes."""
        size = data_bytes(status)
        stop = self.at + size
        if stop > self.end or any(byte > 0x7F for byte in self.data[self.at : stop]):
            raise _FaultError("illegal-message", f"message 0x{status:02x} in a file", begin)
        self.at = stop
        self._note("illegal-message", f"message 0x{status:02x} is passed over", begin)

    def _lost_status(self, begin: int) -> None:
        """Data where no status was given yet: notes of channel 1, if that makes sense."""
        if not self.salvage.makes_sense(begin, 0x90):
            raise _FaultError("lost-status", "data bytes without a status", begin)
        self._note("lost-status", "data without a status is taken as notes of channel 1", begin)
        self.status = 0x90

    def _meta(self, delta: int, begin: int) -> None:
        """A meta event: tempo, metre and name are kept."""
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
            if len(body) < 2 or not body[0] or body[1] > MOST_METER_POWER:
                self._note("time-signature", f"{body.hex() or 'nothing'} is left out", begin)
            else:
                events.meters.append((events.tick, body[0], 1 << body[1]))
        elif kind == 0x59:
            if len(body) < 2 or body[0] not in _SHARPS or body[1] > 1:
                self._note("key-signature", f"{body.hex() or 'nothing'} is left out", begin)
        elif kind == 0x03:
            events.ticks.append(events.tick)
            events.codes.append(NAME << 16)
            events.names.append(decode_text(body))

    def _after_the_end(self) -> None:
        """Bytes after the end of track: events, or nothing."""
        begin = self.at
        if not self.salvage.makes_sense(begin, self.status):
            self._note("bytes-after-end", f"{self.end - begin} bytes are not read", begin)
            self.at = self.end
        else:
            self._note("events-after-end", "events after the end of track are read", begin)
            self.ended = False

    def _recover(self, begin: int, fault: _FaultError) -> None:
        """Note a fault and go on where events make sense again, if anywhere."""
        back = None
        if self.since <= _FAR_BACK:
            # What was read since the last status may be misread: a byte may have been lost there.
            back = self.salvage.plain(self.anchor + 1, begin, self.status)
        at = self.salvage.resume(begin + 1, self.status) if back is None else back
        if back is not None:
            self.events.forget(self.known)
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
