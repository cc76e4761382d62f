"""The header and the track chunks of a MIDI file, even where the stated lengths are wrong.

Source: Standard MIDI Files 1.0, MIDI Manufacturers Association, 1988; RP-029 (RMID).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, final

from notelstm.errors import MidiError
from notelstm.midi.report import RepairLog

__all__ = ["END_OF_TRACK", "Chunk", "Layout", "find_chunks", "undo_text_mode"]

END_OF_TRACK: Final = b"\xff\x2f\x00"
"""The meta event that every track chunk ends with."""
_ASSUMED_DIVISION: Final = 480
_MAX_CHUNKS: Final = 65535
_NAME: Final = re.compile(rb"[A-Za-z0-9 ]{4}")
_HEADER: Final = b"MThd\x00\x00\x00\x06"
_STREAMED: Final = (0, 0xFFFFFFFF)
"""Sizes in a RIFF wrapper that was written as a stream."""
_FRAME_RATES: Final = {24: 24.0, 25: 25.0, 29: 30000 / 1001, 30: 30.0}


class Chunk(NamedTuple):
    """One track chunk: its number from 0, the bytes from `start` to before `end`.

    Attributes:
        cut: Whether its end is missing.
    """

    number: int
    start: int
    end: int
    cut: bool


class Layout(NamedTuple):
    """The track chunks of a file, and its resolution in beats or, with time code, in seconds."""

    ticks_per_beat: int | None
    ticks_per_second: float | None
    chunks: tuple[Chunk, ...]


class _Header(NamedTuple):
    form: int
    num_tracks: int | None
    division: int
    at: int
    first: int


def undo_text_mode(data: bytes, log: RepairLog) -> bytes:
    """The file with each CR LF as LF if its chunk lengths are right only then, else unchanged.

    A transfer as text converts LF to CR LF.
    """
    if b"\r\n" not in data or data.count(b"\n") != data.count(b"\r\n") or _fits(data):
        return data
    undone = data.replace(b"\r\n", b"\n")
    if not _fits(undone):
        return data
    message = f"transferred as text: {len(data) - len(undone)} CR LF are changed to LF"
    log.add("text-mode", message, byte=data.find(b"\r\n"))
    return undone


def _fits(data: bytes) -> bool:
    """Whether the file is a header and chunks of correct lengths."""
    at = 0
    while _NAME.match(data, at) and at + 8 <= len(data):
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
    return at == len(data) and data.startswith(_HEADER)


def find_chunks(data: bytes, log: RepairLog) -> Layout:
    """Find the track chunks of a file; none if it ends before the first.

    Raises:
        MidiError: If it is no MIDI file at all, or has a fault, under ``on_error="raise"``.
    """
    end = _end_of_riff(data, log)
    header = _header(data, end, log)
    per_beat, per_second = _division(header, log)
    chunks = _walk(data, header.first, end, log)
    if header.num_tracks is not None and header.num_tracks != len(chunks):
        message = f"{header.num_tracks} tracks in the header, {len(chunks)} in the file"
        log.add("track-count", message, byte=header.at + 10)
    elif header.form == 0 and len(chunks) > 1:
        message = f"{len(chunks)} tracks in a format 0 file, read as format 1"
        log.add("format-0", message, byte=header.at + 8)
    if header.form == 2 and len(chunks) > 1:
        log.warn("format 2: tracks that follow each other are read as simultaneous")
    return Layout(per_beat, per_second, tuple(chunks))


def _end_of_riff(data: bytes, log: RepairLog) -> int:
    """The end of the MIDI data: of the file, or of the data chunk of a RIFF wrapper."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return len(data)
    at = data.find(b"MThd")
    size = int.from_bytes(data[max(at - 4, 0) : max(at, 0)], "little")
    end = at + size + size % 2
    if at >= 20 and data[at - 8 : at - 4] == b"data" and size in _STREAMED:
        log.warn("wrapped in RIFF (RMID), without sizes")
        return len(data)
    log.warn("wrapped in RIFF (RMID)")
    if at < 20 or data[at - 8 : at - 4] != b"data" or at + size > len(data):
        log.add("riff", "the RIFF wrapper's sizes are wrong and are not used", byte=4)
        return len(data)
    return at + size if end >= len(data) or _NAME.match(data, end) else len(data)


def _header(data: bytes, end: int, log: RepairLog) -> _Header:
    """Read the header, wherever it is, with defaults for missing fields."""
    at = data.find(_HEADER, 0, end)
    at = data.find(b"MThd", 0, end) if at < 0 else at
    first = data.find(b"MTrk", max(at, 0), end)
    if at < 0 and first < 0:
        if not data:
            raise MidiError("the MIDI file is empty", where=log.where)
        raise MidiError(
            f"not a MIDI file: it has neither MThd nor MTrk, and starts with {data[:8]!r}",
            where=log.where,
        )
    if at < 0:
        log.add("no-header", f"no header; {_ASSUMED_DIVISION} ticks per beat assumed", byte=0)
        return _Header(1, None, _ASSUMED_DIVISION, 0, first)
    if at > 0 and data[:4] != b"RIFF":
        log.add("junk-in-front", f"{at} bytes before the header are skipped", byte=0)
    size = int.from_bytes(data[at + 4 : at + 8], "big")
    if end < at + 14:
        log.add("cut-header", "the file ends in its header", byte=end)
        return _Header(1, None, _ASSUMED_DIVISION, at, end)
    form, count, division = (
        int.from_bytes(data[i : i + 2], "big") for i in range(at + 8, at + 14, 2)
    )
    follows = at + 8 + size
    if size != 6 and not (size > 6 and follows <= end and _NAME.match(data, follows)):
        log.add("header-length", f"the header has a length of {size} bytes, not 6", byte=at + 4)
        follows = first if first >= 0 else end
    if form > 2:
        log.add("format", f"format {form} is unknown, read as format 1", byte=at + 8)
    return _Header(form, count, division, at, follows)


def _division(header: _Header, log: RepairLog) -> tuple[int | None, float | None]:
    """Ticks per beat, or ticks per second."""
    division, byte = header.division, header.at + 12
    if 0 < division < 0x8000:
        return division, None
    frames, per_frame = 256 - (division >> 8), division & 0xFF
    if division and per_frame and frames in _FRAME_RATES:
        return None, _FRAME_RATES[frames] * per_frame
    if division:
        message = f"{frames} frames of {per_frame} ticks do not exist; read as {division} per beat"
    else:
        message = f"0 ticks per beat; {_ASSUMED_DIVISION} assumed"
    log.add("division", message, byte=byte)
    return division or _ASSUMED_DIVISION, None


def _walk(data: bytes, at: int, end: int, log: RepairLog) -> list[Chunk]:
    """The track chunks from byte `at` on."""
    chunks: list[Chunk] = []
    finder = _Finder(data, end)
    while at < end and len(chunks) < _MAX_CHUNKS:
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        if chunks and data.startswith(_HEADER, at):
            log.add("second-file", f"{end - at} bytes of a second file are left out", byte=at)
            return chunks
        if data[at : at + 4] == b"MTrk" and at + 8 <= end:
            chunk = _track(data, at, end, len(chunks), log, finder)
            chunks.append(chunk)
            at = chunk.end
        elif _NAME.match(data, at, end) and at + 8 + size <= end:
            log.warn(f"chunk {data[at : at + 4]!r} at byte {at} is no track")
            at += 8 + size
        else:
            following = finder.next_chunk(at + 1)
            following = end if following < 0 else following
            log.add("junk", f"{following - at} bytes are no chunk and are skipped", byte=at)
            at = following
    if at < end:
        log.add("too-many-tracks", f"tracks after the first {_MAX_CHUNKS} are not read", byte=at)
    return chunks


@final
class _Finder:
    """Finds the next boundary from ever later bytes on, without searching any byte twice.

    Otherwise a file of many headers with large lengths would be searched to its end for each.
    """

    def __init__(self, data: bytes, end: int) -> None:
        self._data: Final = data
        self._end: Final = end
        self._last: dict[bytes, int] = {}

    def next_chunk(self, start: int) -> int:
        """The next track chunk or second header from `start` on, -1 if there is none."""
        found = [at for at in (self.next(b"MTrk", start), self.next(_HEADER, start)) if at >= 0]
        return min(found, default=-1)

    def next(self, wanted: bytes, start: int) -> int:
        """The next occurrence from `start` on, -1 if there is none."""
        last = self._last.get(wanted, 0)
        if 0 <= last < start or wanted not in self._last:
            last = self._data.find(wanted, start, self._end)
            self._last[wanted] = last
        return last


def _track(data: bytes, at: int, end: int, number: int, log: RepairLog, finder: _Finder) -> Chunk:
    """The track chunk at byte `at`, of its declared length if that can be right."""
    start, size = at + 8, int.from_bytes(data[at + 4 : at + 8], "big")
    stop = start + size
    boundaries = END_OF_TRACK + b"MTrk", END_OF_TRACK + _HEADER
    found = [(finder.next(boundary, start), len(boundary)) for boundary in boundaries]
    last = min(stop, end)
    inside = min((at for at, size in found if 0 <= at <= last - size), default=-1)
    if inside < 0 and (stop == end or (stop < end and _credible(data, start, stop, end))):
        return Chunk(number, start, stop, False)
    following = finder.next_chunk(start)
    real = inside + 3 if inside >= 0 else following if following >= 0 else end
    cut = data[real - 3 : real] != END_OF_TRACK
    if stop > end and cut and real == end:
        message = f"{stop - end} of {size} bytes are missing at the end"
        log.add("truncated-track", message, byte=end, chunk=number)
    else:
        message = f"the chunk has a length of {size} bytes, {real - start} are read"
        log.add("track-length", message, byte=at + 4, chunk=number)
    return Chunk(number, start, real, cut)


def _credible(data: bytes, start: int, stop: int, end: int) -> bool:
    """Whether a track can end at `stop`: a chunk follows, or its last event is its end."""
    size = int.from_bytes(data[stop + 4 : stop + 8], "big")
    return (
        data[stop : stop + 4] == b"MTrk"
        or data[max(stop - 3, start) : stop] == END_OF_TRACK
        or (_NAME.match(data, stop, end) is not None and stop + 8 + size <= end)
    )
