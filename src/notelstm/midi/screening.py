"""Whether a file is so plainly healthy that a fast reader, which reports nothing, may read it.

At the start of a chunk every event is looked at; from the first note on only single bytes, for
speed: what might be odd is turned away, at the cost of a slower reading, even where it is not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.chunks import END_OF_TRACK, Chunk
from notelstm.midi.pairing import DRUM_CHANNEL
from notelstm.midi.parsing import PART, decode_text, parse, percussion
from notelstm.midi.report import RepairLog
from notelstm.midi.salvage import Budget, data_bytes
from notelstm.midi.tempos import Marks

__all__ = [
    "NeedsTolerantReaderError",
    "Quiet",
    "healthy_chunks",
    "may_steer",
    "program_changes",
    "quiet",
    "screen",
    "sounding_channels",
]

_LONG_WAIT: Final = 2**21
_HEADROOM: Final = 8
"""How many bytes in front of a line break the event starts that it is in, at most."""
_WINDOW: Final = 64
_LOOKED_AT: Final = 50
_SHARPS: Final = (*range(8), *range(249, 256))
_MOST_POWER: Final = 6
"""symusic holds the lower number of a time signature in a signed byte."""


class NeedsTolerantReaderError(Exception):
    """The file is not plainly healthy: why."""


def healthy_chunks(data: bytes) -> tuple[int, list[bytes]]:
    """The resolution and the track chunks of a file whose every length and count is right.

    Raises:
        UnsureError: If one is not.
    """
    form, count, resolution = (int.from_bytes(data[i : i + 2], "big") for i in (8, 10, 12))
    if data[:8] != b"MThd\0\0\0\6" or form > 1 or not 0 < resolution < 0x8000:
        raise NeedsTolerantReaderError("an unusual header")
    at, bodies = 14, []
    while data[at : at + 4] == b"MTrk":
        stop = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        bodies.append(data[at + 8 : stop])
        at = stop
    if at != len(data) or len(bodies) != count or (form == 0 and count > 1):
        raise NeedsTolerantReaderError("chunks that do not fit the file")
    return resolution, bodies


def screen(body: bytes) -> str:
    """The name of a track chunk that is plainly healthy.

    Args:
        body: The chunk's events.

    Returns:
        Its name, or "".

    Raises:
        UnsureError: If the chunk may be damaged, or odd in a way that readers disagree about.
    """
    names: list[str] = []
    first = _first_note(body, names)
    rest = _without_metas(body, first, names)
    if len(names) > 1:
        raise NeedsTolerantReaderError("several names")
    name = names[0] if names else ""
    if not rest:
        return name
    numbers = np.frombuffer(rest, dtype=np.uint8)
    _no_line_breaks(rest, numbers)
    # Whether two bytes over 127 follow each other; it is quicker to ask than to look for them.
    if np.minimum(numbers[1:], numbers[:-1]).max(initial=0) > 0x7F:
        high = numbers > 0x7F
        pairs = high[1:] & high[:-1]
        if (pairs[1:] & pairs[:-1]).any():
            raise NeedsTolerantReaderError("a wait of more than two million ticks")
        leading = numbers[:-1][pairs]
        if ((leading >= 0xA0) & (leading < 0xF0)).any():
            raise NeedsTolerantReaderError("data bytes over 127 of pressure or pitch bend")
    if numbers.max() >= 0xF0:
        raise NeedsTolerantReaderError(
            "messages that no file may hold, or system exclusive ones among the notes"
        )
    if (numbers ^ 0xC0).min() < 0x10:
        chosen = numbers[numbers & 0xF0 == 0xC0]
        if len(chosen) > len(np.unique(chosen)):
            raise NeedsTolerantReaderError("a program that may change twice after the first note")
    return name


class Quiet(NamedTuple):
    """A chunk without notes.

    Attributes:
        marks: Its tempos and time signatures.
        channels: The channels that it has programs, pedals or the like for.
    """

    marks: Marks
    channels: frozenset[int]


@functools.lru_cache(maxsize=16)
def quiet(body: bytes) -> Quiet:
    """Read a short chunk without notes event by event; files of one folder often share it.

    Raises:
        UnsureError: If it is damaged, or says which channels are percussion.
    """
    log = RepairLog("repair", "")
    events = parse(body, Chunk(0, 0, len(body), False), log, Budget(_LONG_WAIT))
    if log.total:
        raise NeedsTolerantReaderError(log.repairs[0].message)
    if events.tick >= _LONG_WAIT:
        raise NeedsTolerantReaderError("a wait of more than two million ticks")
    for code in events.codes:
        _usual_part(code)
    statuses = {code >> 16 for code in events.codes}
    channels = frozenset(status & 0xF for status in statuses if status < PART)
    return Quiet(Marks(events.tempos, events.time_signatures), channels)


def _usual_part(code: int) -> None:
    """Refuse a message that makes another channel than 10 percussion, or 10 not."""
    if code >> 16 == PART and (code >> 8 & 0xF == DRUM_CHANNEL) != code & 1:
        raise NeedsTolerantReaderError("percussion on another channel than 10, or none on it")


def program_changes(body: bytes, channel: int) -> int:
    """How often a chunk changes the program of a channel, at most."""
    status = 0xC0 | channel
    if status not in body:
        return 0
    return len(_PROGRAM[channel].findall(body))


def may_steer(body: bytes, channels: Iterable[int], *, pedals: bool) -> bool:
    """Whether a chunk may have programs, pedals or the like for one of some channels.

    Args:
        body: The chunk's events.
        channels: 0 to 15.
        pedals: Whether pedals matter.
    """
    controls = _PEDALS if pedals else _CONTROLS
    return any(
        (0xC0 | c in body and _PROGRAM[c].search(body))
        or (0xB0 | c in body and controls[c].search(body))
        for c in channels
    )


# A status follows the last byte of a wait, which is below 128; a byte right after a status and its
# two data bytes is the first one of a wait.
_STATUS: Final = rb"(?<=[\x00-\x7f])(?<![\x80-\xbf\xe0-\xef][\x00-\x7f][\x00-\x7f])"
_PROGRAM: Final = tuple(
    re.compile(_STATUS + re.escape(bytes([0xC0 | c])) + rb"[\x00-\x7f]") for c in range(16)
)
_RUN: Final = rb"(?:[\x00-\x7f]{2}[\x80-\xff]{0,3}[\x00-\x7f])*?"
"""Controllers before the one that is looked for, which has the same status."""
_CONTROLS, _PEDALS = (
    tuple(
        re.compile(_STATUS + re.escape(bytes([0xB0 | c])) + _RUN + numbers + rb"[\x00-\x7f]")
        for c in range(16)
    )
    for numbers in (rb"[\x00\x78-\x7f]", rb"[\x00\x40\x78-\x7f]")
)
_PLAIN: Final = re.compile(
    rb"(?:[\x80-\xff]{0,3}[\x00-\x7f]"
    rb"(?:[\x80-\xbf\xe0-\xef][\x00-\x7f]{2}|[\xc0-\xdf][\x00-\x7f])){6}"
)
"""Six channel messages that all give their status."""


def _is_plain(events: bytes) -> bool:
    """Whether messages that give their status start at one of the first bytes."""
    return any(_PLAIN.match(events, begin) for begin in range(_HEADROOM + 1))


def _no_line_breaks(rest: bytes | memoryview, numbers: NDArray[np.uint8]) -> None:
    """Refuse events which all give their status only without a CR LF.

    Between events without statuses it could not be told.
    """
    for at in np.flatnonzero((numbers[:-1] == 0x0D) & (numbers[1:] == 0x0A)).tolist():
        begin, stop = max(at - _HEADROOM, 0), at + _WINDOW
        without = bytes(rest[begin:at]) + bytes(rest[at + 2 : stop])
        if _is_plain(without) and not _is_plain(bytes(rest[begin:stop])):
            raise NeedsTolerantReaderError("a CR LF that may not be meant")


def sounding_channels(body: bytes) -> list[int]:
    """The channels, 0 to 15, on which a chunk may have notes; those that have are among them."""
    return [c for c in range(16) if 0x90 | c in body and _may_sound(body, 0x90 | c)]


def _may_sound(body: bytes, status: int) -> bool:
    """Whether the byte is somewhere followed by two data bytes, as a status is by its note."""
    at = body.find(status)
    while at >= 0:
        note = body[at + 1 : at + 3]
        if len(note) == 2 and max(note) < 0x80:
            return True
        at = body.find(status, at + 1)
    return False


def _first_note(body: bytes, names: list[str]) -> int:
    """Where the first note-on is, or the event after the first few; all before is looked at."""
    at, status, seen = 0, 0, 0
    while at < len(body):
        seen += 1
        begin = at
        wait, at = (body[at], at + 1) if body[at] < 0x80 else _variable(body, at)
        if wait >= _LONG_WAIT or at >= len(body):
            raise NeedsTolerantReaderError("a wait of more than two million ticks, or for nothing")
        if body[at] > 0x7F:
            status = body[at]
            at += 1
        if status == 0xFF:
            at = _meta(body, at, names)
            status = 0
        elif status == 0xF0:
            size, start = _variable(body, at)
            at, status = start + size, 0
            _usual_part(percussion(body[start:at]) or 0)
            if at > len(body):
                raise NeedsTolerantReaderError(
                    "a system exclusive message that is longer than its chunk"
                )
        elif not 0x80 <= status < 0xF0:
            raise NeedsTolerantReaderError(
                "an event without a status, or of a kind that no file may hold"
            )
        elif status & 0xF0 == 0x90 or seen > _LOOKED_AT:
            return begin
        else:
            stop = at + data_bytes(status)
            if max(body[at:stop], default=0xFF) > 0x7F:
                raise NeedsTolerantReaderError("data bytes over 127")
            at = stop
    if body[-3:] != END_OF_TRACK:
        raise NeedsTolerantReaderError("no end of track")
    return len(body)


def _without_metas(body: bytes, first: int, names: list[str]) -> bytes | memoryview:
    """The events from the first note on, without meta events; their waits stay."""
    view = memoryview(body)
    rest, after = [], first
    at = body.find(0xFF, first)
    while at >= 0:
        rest.append(view[after:at])
        after = _meta(body, at + 1, names)
        at = body.find(0xFF, after)
    if after != len(body) or body[-3:] != END_OF_TRACK:
        raise NeedsTolerantReaderError("no end of track")
    return rest[0] if len(rest) == 1 else b"".join(rest)


def _meta(body: bytes, at: int, names: list[str]) -> int:
    """The byte after a meta event that all readers take alike; names are noted."""
    size, start = _variable(body, at + 1)
    stop = start + size
    if body[at] > 0x7F or stop > len(body) or not _sound_meta(body[at], body[start:stop]):
        raise NeedsTolerantReaderError("meta events that are odd")
    if body[at] == 0x2F and stop != len(body):
        raise NeedsTolerantReaderError("an early end of track")
    if body[at] == 0x03:
        names.append(decode_text(body[start:stop]))
    return stop


def _sound_meta(kind: int, text: bytes) -> bool:
    """Whether a tempo, time signature, key or end of track is one that all readers take alike."""
    if kind == 0x51:
        return len(text) == 3 and any(text)
    if kind == 0x58:
        return len(text) == 4 and 0 < text[0] < 0x80 and text[1] <= _MOST_POWER
    if kind == 0x59:
        return len(text) == 2 and text[0] in _SHARPS and text[1] <= 1
    return kind != 0x2F or not text


def _variable(body: bytes, at: int) -> tuple[int, int]:
    """A variable-length quantity and the byte after it."""
    value = 0
    for here in range(at, min(at + 4, len(body))):
        value = value << 7 | body[here] & 0x7F
        if body[here] < 0x80:
            return value, here + 1
    raise NeedsTolerantReaderError("a number that does not end")
