"""Whether a file is so plainly healthy that a fast reader, which reports nothing, may read it.

The screen never takes a damaged event for a sound one because it looks at single bytes: what might
be odd is turned away, at the cost of a slower reading, even where it is not.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from notelstm.midi.chunks import END_OF_TRACK
from notelstm.midi.parsing import decode_text

__all__ = ["UnsureError", "healthy_chunks", "screen", "sounding_channels"]

_ILLEGAL: Final = (*range(0xF1, 0xF7), *range(0xF8, 0xFF))
_PROGRAM_CHANGES: Final = range(0xC0, 0xD0)
_NOTE_ONS: Final = range(0x90, 0xA0)
_NOTE_ON: Final = tuple(re.compile(bytes([0x90 | c]) + rb"[\x00-\x7f]{2}") for c in range(16))
_SHARPS: Final = (*range(8), *range(249, 256))
_MOST_POWER: Final = 6
"""symusic holds the lower number of a metre in a signed byte."""


class UnsureError(Exception):
    """The file is not plainly healthy: why."""


def healthy_chunks(data: bytes) -> tuple[int, list[bytes]]:
    """The resolution and the track chunks of a file whose every length and count is right.

    Raises:
        UnsureError: If one is not.
    """
    form, count, resolution = (int.from_bytes(data[i : i + 2], "big") for i in (8, 10, 12))
    if data[:8] != b"MThd\0\0\0\6" or form > 1 or not 0 < resolution < 0x8000:
        raise UnsureError("an unusual header")
    at, bodies = 14, []
    while data[at : at + 4] == b"MTrk":
        stop = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        bodies.append(data[at + 8 : stop])
        at = stop
    if at != len(data) or len(bodies) != count or (form == 0 and count > 1):
        raise UnsureError("chunks that do not fit the file")
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
    if any(byte in body for byte in _ILLEGAL):
        raise UnsureError("messages that no file may hold")
    high = np.frombuffer(body, dtype=np.uint8) > 0x7F
    if np.any(high[2:] & high[1:-1] & high[:-2]):
        raise UnsureError("a wait of more than two million ticks, or text that looks like one")
    first = min((at for b in _NOTE_ONS if (at := body.find(b)) >= 0), default=len(body))
    if any(0 <= body.find(byte, first) < body.rfind(byte) for byte in _PROGRAM_CHANGES):
        raise UnsureError("a program that may change twice after the first note")
    _check_sysex(body)
    return _check_metas(body)


def sounding_channels(body: bytes) -> list[int]:
    """The channels, 0 to 15, on which a chunk may have notes; those that have are among them."""
    return [c for c in range(16) if 0x90 | c in body and _NOTE_ON[c].search(body)]


def _check_sysex(body: bytes) -> None:
    """After a system exclusive message a new status byte has to come: symusic stumbles without."""
    after, at = 0, body.find(0xF0)
    while at >= 0:
        if body.find(0xF7, after, at) >= 0:
            break
        size, start = _variable(body, at + 1)
        after = start + size
        _, status = _variable(body, after)
        if status >= len(body) or body[status] < 0x80:
            raise UnsureError("running status after a system exclusive message")
        at = body.find(0xF0, after)
    if body.find(0xF7, after) >= 0:
        raise UnsureError("escaped messages")


def _check_metas(body: bytes) -> str:
    """Whatever looks like a meta event is one that all readers take alike."""
    names = []
    at = body.find(0xFF)
    while at >= 0:
        kind = body[at + 1] if at + 1 < len(body) else 0x80
        size, start = _variable(body, at + 2)
        text = body[start : start + size]
        if kind > 0x7F or start + size > len(body) or not _sound_meta(kind, text):
            raise UnsureError("meta events that are odd")
        if kind == 0x2F and start != len(body):
            raise UnsureError("an early end of track")
        if kind == 0x03:
            names.append(decode_text(text))
        at = body.find(0xFF, start + size)
    if body[-3:] != END_OF_TRACK or len(names) > 1:
        raise UnsureError("no end of track, or several names")
    return names[0] if names else ""


def _sound_meta(kind: int, text: bytes) -> bool:
    """Whether a tempo, metre, key or end of track is one that all readers take alike."""
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
    raise UnsureError("a number that does not end")
