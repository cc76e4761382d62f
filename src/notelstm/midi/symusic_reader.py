"""The fast reader: healthy files are read with symusic, with the same notes as pretty_midi's.

symusic repairs and drops events without a report, matches note-offs in its own way and does not
give channels. Each track chunk is therefore passed to it alone, followed by a *coda* long after the
chunk's end: a note-off for every pitch, which reveals notes that never end, then a note on each
channel, which reveals the channel and its last program. symusic gives ticks, which are converted to
seconds here.

Any file that symusic may read differently is refused, and ``reader="auto"`` then uses the tolerant
reader. Up to the first note every event of a chunk is checked; after it, for speed, only single
bytes, so some healthy files are refused too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import MidiError, MissingExtraError
from notelstm.midi.chunks import END_OF_TRACK, Chunk
from notelstm.midi.parsing import (
    ALL_SOUND_OFF,
    BANK,
    DRUM_CHANNEL,
    NOTES_OFF,
    PART,
    RESET_CONTROLLERS,
    SHARPS,
    SUSTAIN,
    decode_text,
    parse,
    percussion,
)
from notelstm.midi.pedal import Pedal, extend, is_order_needed
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import RawNotes, ReadReport, RepairLog, TrackInfo, refuse, select
from notelstm.midi.ticks import Marks, merge_marks
from notelstm.notes import Notes

__all__ = ["SymusicReader"]

_NAME: Final = "symusic"
_MAX_TICKS: Final = 10_000_000
_CODA: Final = 2**24
"""Ticks from the end of a chunk to its coda."""

_DRUM_BANKS: Final = 120
"""The first bank that makes a channel percussion or melodic: 120, 121 (GM2), 126, 127 (XG)."""

_CACHED_BYTES: Final = 1000
"""The largest chunk without notes that is cached."""

_LONG_WAIT: Final = 2**21
_WAIT: Final = "a wait of more than two million ticks"
_BEFORE_BREAK: Final = 8
"""The most bytes of an event before a line break inside it."""
_WINDOW: Final = 64
_CHECKED_EVENTS: Final = 50
_MAX_DENOMINATOR_POWER: Final = 6
"""symusic stores the denominator of a time signature in a signed byte."""

_TO_CODA: Final = b"\xff\x01\x00\x88\x80\x80\x00"
"""An empty text, which takes the wait before the end of track, and the wait before the coda."""
_ALL_OFF: Final = b"".join(bytes([pitch, 0, 0]) for pitch in range(128))
_CODAS: Final = tuple(
    bytes([0x80 | c]) + _ALL_OFF + bytes([0x90 | c, 0, c + 1, 1, 0x80 | c, 0, 0, 0])
    for c in range(16)
)
"""For each channel: all pitches end; a note of velocity channel + 1 follows; then a wait of 0."""

# A status follows the last byte of a wait, which is below 128; a byte right after a status and its
# two data bytes is the first one of a wait.
_STATUS: Final = rb"(?<=[\x00-\x7f])(?<![\x80-\xbf\xe0-\xef][\x00-\x7f][\x00-\x7f])"
_PROGRAM: Final = tuple(
    re.compile(_STATUS + re.escape(bytes([0xC0 | c])) + rb"[\x00-\x7f]") for c in range(16)
)
_NOTE: Final = tuple(re.compile(bytes([0x90 | c]) + rb"[\x00-\x7f]{2}") for c in range(16))
_RUN: Final = rb"(?:[\x00-\x7f]{2}[\x80-\xff]{0,3}[\x00-\x7f])*?"
"""Other controllers of the same running status."""
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
"""Six channel messages, each with its own status."""

_Ints: TypeAlias = NDArray[np.integer]


class _UnsureError(Exception):
    """A file that symusic may read differently; the message completes "the file has ..."."""


class _Track(NamedTuple):
    """One track of a chunk; times in ticks."""

    program: int
    drum: bool
    channel: int
    start: _Ints
    end: _Ints
    pitch: _Ints
    velocity: _Ints
    zero_length: int


class _Chunk(NamedTuple):
    """A chunk with notes.

    Attributes:
        body: Its events.
        programs: The last program of each channel on which it may have notes.
        last: The tick of its end, 0 without a coda.
        tracks: Its tracks, in the order in which their first notes end.
        controls: Whether it moves pedals or ends all notes of a channel.
    """

    body: bytes
    programs: dict[int, int]
    last: int
    tracks: list[_Track]
    controls: bool


@final
@dataclass(frozen=True, kw_only=True)
class SymusicReader:
    """Reads healthy files with symusic, very fast, and refuses the others."""

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        """Read a healthy file, as :meth:`notelstm.midi.Reader.read` describes.

        Raises:
            NoNotesError: If no notes are left under the policy.
            MidiError: If the file is damaged or unusual, or the policy is not supported.
            MissingExtraError: If symusic is not installed.
        """
        refuse(_NAME, policy, [("simultaneous_order", "file"), ("velocity_zero", "note")])
        log = RepairLog(policy.on_error, where)
        try:
            raw = _raw_notes(data, policy, log)
        except _UnsureError as unsure:
            raise MidiError(
                f"symusic may misread the file: it has {unsure}",
                where=where,
                hint='read it with reader="auto", which uses the tolerant reader for such files',
            ) from unsure
        return select(raw, policy, log, _NAME)


def _raw_notes(data: bytes, policy: ReadPolicy, log: RepairLog) -> RawNotes:
    """All notes of a healthy file."""
    resolution, bodies = _bodies(data)
    division = data[12:14]
    tracks: list[_Track] = []
    infos: list[TrackInfo] = []
    marks: list[Marks] = []
    chunks: list[_Chunk] = []
    silent_channels: set[int] = set()
    zero_length, last = 0, 0
    for number, body in enumerate(bodies):
        channels = _note_channels(body)
        if not channels and len(body) <= _CACHED_BYTES:
            chunk_marks, controlled, tick = _parse_without_notes(body)
            last = max(last, tick)
            marks.append(chunk_marks)
            silent_channels |= controlled
            continue
        if not channels and policy.silence == "keep":
            raise _UnsureError("a long chunk without notes, whose end symusic does not give")
        name = _checked_name(body)
        score = _score(division, body, channels)
        marks.append(_marks(score))
        chunks.append(_chunk(body, score, policy))
        last = max(last, chunks[-1].last)
        for track in chunks[-1].tracks:
            zero_length += track.zero_length
            if len(track.start):
                info = TrackInfo(
                    number=len(infos),
                    name=name,
                    program=track.program,
                    drum=track.drum,
                    notes=len(track.start),
                    channel=track.channel,
                    chunk=number,
                )
                infos.append(info)
                tracks.append(track)
    _check_channels(chunks, silent_channels, pedals=policy.pedal == "extend")
    ticks, tempo_map = merge_marks(resolution, marks, policy, log)
    counts = [info.notes for info in infos]
    return RawNotes(
        start=ticks.seconds_at(_column([track.start for track in tracks])),
        end=ticks.seconds_at(_column([track.end for track in tracks])),
        pitch=_column([track.pitch for track in tracks]),
        velocity=_column([track.velocity for track in tracks]),
        track=np.zeros(counts[0], np.int64)
        if len(counts) == 1
        else np.repeat(range(len(counts)), counts),
        tracks=tuple(infos),
        tempo_map=tempo_map,
        left_out={"zero_length": zero_length} if zero_length else {},
        length=float(ticks.seconds_at(last)) if policy.silence == "keep" else None,
    )


def _column(parts: Sequence[_Ints]) -> _Ints:
    """One column from the tracks' columns; there is often only one track."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _bodies(data: bytes) -> tuple[int, list[bytes]]:
    """The resolution, and the events of each track chunk, of a file with correct lengths."""
    form, count, resolution = (int.from_bytes(data[i : i + 2], "big") for i in (8, 10, 12))
    if data[:8] != b"MThd\0\0\0\6" or form > 1 or not 0 < resolution < 0x8000:
        raise _UnsureError("an unusual header")
    at, bodies = 14, []
    while data[at : at + 4] == b"MTrk":
        stop = at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        bodies.append(data[at + 8 : stop])
        at = stop
    if at != len(data) or len(bodies) != count or (form == 0 and count > 1):
        raise _UnsureError("chunks that do not fit it")
    return resolution, bodies


def _note_channels(body: bytes) -> list[int]:
    """The channels on which a chunk may have notes: all that have some, perhaps others."""
    return [c for c in range(16) if 0x90 | c in body and _NOTE[c].search(body)]


@functools.lru_cache(maxsize=16)  # files of one folder often share such a chunk
def _parse_without_notes(body: bytes) -> tuple[Marks, frozenset[int], int]:
    """The marks of a chunk without notes, the channels of its programs and controllers, its end."""
    log = RepairLog("repair", "")
    events = parse(body, Chunk(0, 0, len(body), False), log)
    if log.total:
        raise _UnsureError(f"a fault: {log.repairs[0].message}")
    if events.tick >= _LONG_WAIT:
        raise _UnsureError(_WAIT)
    for code in events.codes:
        _check_percussion(code)
    statuses = {code >> 16 for code in events.codes}
    channels = frozenset(status & 0xF for status in statuses if status < PART)
    return Marks(events.tempos, events.time_signatures), channels, events.tick


def _check_percussion(code: int) -> None:
    """Refuse a message after which percussion is not exactly channel 10."""
    if code >> 16 == PART and (code >> 8 & 0xF == DRUM_CHANNEL) != code & 1:
        raise _UnsureError("percussion on another channel than 10, or none on it")


def _checked_name(body: bytes) -> str:
    """Refuse a chunk that may be damaged, or that readers disagree about; its name, or ""."""
    names: list[str] = []
    rest = _without_metas(body, _first_note(body, names), names)
    if len(names) > 1:
        raise _UnsureError("several names of one track")
    if rest:
        _check_bytes(rest)
    return names[0] if names else ""


def _check_bytes(rest: bytes | memoryview) -> None:
    """Refuse unusual bytes among the events from the first note on."""
    numbers = np.frombuffer(rest, dtype=np.uint8)
    _check_line_breaks(rest, numbers)
    # Whether two bytes over 127 are adjacent is quicker to test than where they are.
    if np.minimum(numbers[1:], numbers[:-1]).max(initial=0) > 0x7F:
        high = numbers > 0x7F
        pairs = high[1:] & high[:-1]
        if (pairs[1:] & pairs[:-1]).any():
            raise _UnsureError(_WAIT)
        leading = numbers[:-1][pairs]
        if ((leading >= 0xA0) & (leading < 0xF0)).any():
            raise _UnsureError("data bytes over 127 of pressure or pitch bend")
    if numbers.max() >= 0xF0:
        raise _UnsureError("system messages among the notes")
    if (numbers ^ 0xC0).min() < 0x10:
        programs = numbers[numbers & 0xF0 == 0xC0]
        if len(programs) > len(np.unique(programs)):
            raise _UnsureError("a program that may change twice after the first note")


def _check_line_breaks(rest: bytes | memoryview, numbers: NDArray[np.uint8]) -> None:
    """Refuse a CR LF without which, but not with which, every event has its own status."""
    for at in np.flatnonzero((numbers[:-1] == 0x0D) & (numbers[1:] == 0x0A)).tolist():
        begin, stop = max(at - _BEFORE_BREAK, 0), at + _WINDOW
        without = bytes(rest[begin:at]) + bytes(rest[at + 2 : stop])
        if _is_plain(without) and not _is_plain(bytes(rest[begin:stop])):
            raise _UnsureError("a CR LF that may be an accident")


def _is_plain(events: bytes) -> bool:
    """Whether messages with their own status start at one of the first bytes."""
    return any(_PLAIN.match(events, begin) for begin in range(_BEFORE_BREAK + 1))


def _first_note(body: bytes, names: list[str]) -> int:
    """Where the first note-on is, or the event after the first few; earlier events are checked."""
    at, status, checked = 0, 0, 0
    while at < len(body):
        checked += 1
        begin = at
        wait, at = (body[at], at + 1) if body[at] < 0x80 else _variable(body, at)
        if wait >= _LONG_WAIT or at >= len(body):
            raise _UnsureError(f"{_WAIT}, or without an event")
        if body[at] > 0x7F:
            status = body[at]
            at += 1
        if status == 0xFF:
            at = _skip_meta(body, at, names)
            status = 0
        elif status == 0xF0:
            size, start = _variable(body, at)
            at, status = start + size, 0
            _check_percussion(percussion(body[start:at]) or 0)
            if at > len(body):
                raise _UnsureError("a system exclusive message that is longer than its chunk")
        elif not 0x80 <= status < 0xF0:
            raise _UnsureError("an event without a status, or of a kind that files cannot hold")
        elif status & 0xF0 == 0x90 or checked > _CHECKED_EVENTS:
            return begin
        else:
            # Program changes and channel pressure have one data byte.
            stop = at + (1 if status & 0xE0 == 0xC0 else 2)
            if max(body[at:stop], default=0xFF) > 0x7F:
                raise _UnsureError("data bytes over 127")
            at = stop
    if body[-3:] != END_OF_TRACK:
        raise _UnsureError("no end of track")
    return len(body)


def _without_metas(body: bytes, first: int, names: list[str]) -> bytes | memoryview:
    """The events from the first note on, without meta events but with their waits."""
    view = memoryview(body)
    rest, after = [], first
    at = body.find(0xFF, first)
    while at >= 0:
        rest.append(view[after:at])
        after = _skip_meta(body, at + 1, names)
        at = body.find(0xFF, after)
    if after != len(body) or body[-3:] != END_OF_TRACK:
        raise _UnsureError("no end of track")
    return rest[0] if len(rest) == 1 else b"".join(rest)


def _skip_meta(body: bytes, at: int, names: list[str]) -> int:
    """The byte after a meta event, which is checked; a name is appended to `names`."""
    size, start = _variable(body, at + 1)
    stop = start + size
    if body[at] > 0x7F or stop > len(body) or not _is_usual_meta(body[at], body[start:stop]):
        raise _UnsureError("unusual meta events")
    if body[at] == 0x2F and stop != len(body):
        raise _UnsureError("an early end of track")
    if body[at] == 0x03:
        names.append(decode_text(body[start:stop]))
    return stop


def _is_usual_meta(kind: int, text: bytes) -> bool:
    """Whether all readers agree about a tempo, time signature, key or end of track."""
    if kind == 0x51:
        return len(text) == 3 and any(text)
    if kind == 0x58:
        return len(text) == 4 and 0 < text[0] < 0x80 and text[1] <= _MAX_DENOMINATOR_POWER
    if kind == 0x59:
        return len(text) == 2 and text[0] in SHARPS and text[1] <= 1
    return kind != 0x2F or not text


def _variable(body: bytes, at: int) -> tuple[int, int]:
    """A variable-length quantity and the byte after it."""
    value = 0
    for here in range(at, min(at + 4, len(body))):
        value = value << 7 | body[here] & 0x7F
        if body[here] < 0x80:
            return value, here + 1
    raise _UnsureError("a number without an end")


def _score(division: bytes, body: bytes, channels: Sequence[int]) -> Any:
    """The ``symusic.Score`` of a chunk and the codas of its channels."""
    try:
        from symusic import Score
    except ImportError as error:
        raise MissingExtraError(
            "the reader 'symusic' needs the package symusic, which is not installed",
            hint="run pip install symusic",
        ) from error
    events: bytes | memoryview = body
    coda = b""
    if channels:
        events = memoryview(body)[: -len(END_OF_TRACK)]
        coda = b"".join((_TO_CODA, *(_CODAS[channel] for channel in channels), END_OF_TRACK))
    size = (len(events) + len(coda)).to_bytes(4, "big")
    head = b"MThd\0\0\0\6\0\0\0\1" + division + b"MTrk" + size
    try:
        return Score.from_midi(b"".join((head, events, coda)))
    except Exception as error:  # the tolerant reader gives a better message than any of symusic's
        raise _UnsureError(f"a part that symusic cannot read: {error}") from error


def _marks(score: Any) -> Marks:
    """The tempos and time signatures of a chunk."""
    tempos = [(t.time, t.mspq) for t in score.tempos]
    time_signatures = [(m.time, m.numerator, m.denominator) for m in score.time_signatures]
    for marks in (tempos, time_signatures):
        # The last one on a tick counts, but symusic does not keep their order.
        if len({mark[0] for mark in marks}) < len(marks):
            raise _UnsureError("several tempos or time signatures on one tick")
    return Marks(tempos, time_signatures)


def _check_channels(chunks: Sequence[_Chunk], silent: set[int], *, pedals: bool) -> None:
    """Refuse a file in which a chunk may change notes of another chunk's channels.

    `silent` are the channels that chunks without notes have programs or controllers for.
    """
    if len(chunks) == 1 and not silent:
        return
    for number, chunk in enumerate(chunks):
        if not silent.isdisjoint(chunk.programs):
            raise _UnsureError("programs or pedals in another chunk than their notes")
        others = [*chunks[:number], *chunks[number + 1 :]]
        elsewhere = {channel for other in others for channel in other.programs}
        if _may_control(chunk.body, elsewhere - chunk.programs.keys(), pedals=pedals):
            raise _UnsureError("possibly programs or pedals in another chunk than their notes")
        for channel in elsewhere & chunk.programs.keys():
            program = chunk.programs[channel]
            same = {other.programs.get(channel, program) for other in others}
            changes = _PROGRAM[channel].findall(chunk.body)
            if chunk.controls or same != {program} or len(changes) > 1:
                raise _UnsureError("several chunks on one channel")


def _may_control(body: bytes, channels: Iterable[int], *, pedals: bool) -> bool:
    """Whether a chunk may have programs, or controllers that matter, for one of some channels."""
    controls = _PEDALS if pedals else _CONTROLS
    return any(
        (0xC0 | c in body and _PROGRAM[c].search(body))
        or (0xB0 | c in body and controls[c].search(body))
        for c in channels
    )


def _chunk(body: bytes, score: Any, policy: ReadPolicy) -> _Chunk:
    """The tracks of a chunk with notes."""
    found: list[tuple[int, _Track]] = []
    tables = []
    programs = {}
    codas = []
    for number, track in enumerate(score.tracks):
        if len(notes := track.notes):
            last = notes[-1]
            programs[last.velocity - 1] = track.program
            codas.append(last.time)
            # A channel that only seemed to have notes has those of the coda.
            if len(notes) > 1 or notes[0].time < _CODA or notes[0].duration != 1:
                read = _track(notes, track, policy)
                if read.zero_length or len(read.start):
                    found.append((number, read))
        if len(track.controls):
            tables.append((number, track.controls.numpy()))
    controls = _check_controls([table for _, table in tables], [track for _, track in found])
    if policy.pedal == "extend" and tables:
        controls = True
        found = _extended(found, tables) if found else found
    # Tracks are numbered in the order in which their first notes end.
    firsts = {int(track.end.min()): track for _, track in found if len(track.start)}
    silent = [track for _, track in found if not len(track.start)]
    if len(firsts) + len(silent) < len(found):
        raise _UnsureError("several tracks in one chunk whose first notes end together")
    tracks = silent + [firsts[tick] for tick in sorted(firsts)]
    return _Chunk(body, programs, min(codas, default=_CODA) - _CODA, tracks, controls)


def _check_controls(tables: Sequence[Any], tracks: Sequence[_Track]) -> bool:
    """Refuse controllers that symusic ignores; whether any of the rest affect notes."""
    controls = False
    for table in tables:
        number = table["number"]
        if number.max() < ALL_SOUND_OFF and number.min() > BANK:
            continue
        if ((number == BANK) & (table["value"] >= _DRUM_BANKS)).any():
            raise _UnsureError("banks of percussion")
        ends = table["time"][np.isin(number, NOTES_OFF)]
        controls |= bool(ends.size)
        for track in tracks if ends.size else ():
            k = np.searchsorted(ends, track.start)
            if (ends[np.minimum(k, len(ends) - 1)][k < len(ends)] < track.end[k < len(ends)]).any():
                raise _UnsureError("a message that ends all notes of a channel while some sound")
    return controls


def _track(table: Any, track: Any, policy: ReadPolicy) -> _Track:
    """A track's notes under the policy; the last row of the table is the coda's note."""
    table = table.numpy()
    start, pitch, velocity = (table[name][:-1] for name in ("time", "pitch", "velocity"))
    end = start + table["duration"][:-1]
    if table["time"][-1] < _CODA or table["duration"][-1] != 1:
        raise _UnsureError("programs that change after the first note")
    if len(start) and not (start[0] >= 0 and start[-1] <= end.max() <= _MAX_TICKS):
        raise _UnsureError("notes that never end, or too late")
    channel = int(table["velocity"][-1]) - 1
    zero_length = int(np.count_nonzero(end == start))
    overlapping = _overlapping(start, end, pitch, zero_length=zero_length > 0)
    if overlapping.size:
        if zero_length or policy.overlaps == "merge":
            raise _UnsureError("overlapping notes of one pitch")
        if policy.overlaps == "close-all":
            # All notes do end, so the first note-off after a start is the end of some note. If it
            # shares its tick with a note-on, their order would matter.
            voice = pitch.astype(np.int64) << 32
            offs = np.sort(voice | end)
            if np.isin((voice | start)[np.isin(pitch, overlapping)], offs).any():
                raise _UnsureError("overlapping notes of one pitch, one begins as another ends")
            ends = offs[np.searchsorted(offs, voice | start, side="right")]
            end = (ends & _CODA - 1).astype(np.int32)
    columns = start, end, pitch, velocity
    if zero_length and policy.zero_length == "drop":
        kept = end > start
        columns = tuple(column[kept] for column in columns)
    else:
        zero_length = 0
    return _Track(track.program, track.is_drum, channel, *columns, zero_length=zero_length)


def _overlapping(start: _Ints, end: _Ints, pitch: _Ints, *, zero_length: bool) -> _Ints:
    """The pitches of which notes overlap or, where some have no length, start together."""
    by_pitch = pitch.argsort(kind="stable")
    first, last = start.take(by_pitch), end.take(by_pitch)
    close = first[1:] < last[:-1]
    if zero_length:
        close |= first[1:] == first[:-1]
    together = close.nonzero()[0]
    former, latter = pitch[by_pitch[together]], pitch[by_pitch[together + 1]]
    overlapping: _Ints = former[former == latter]
    return overlapping


def _extended(
    found: list[tuple[int, _Track]], tables: list[tuple[int, Any]]
) -> list[tuple[int, _Track]]:
    """The only track of a chunk, its notes extended by its pedal; both with their numbers."""
    if [number for number, _ in found] != [number for number, _ in tables] or len(found) > 1:
        raise _UnsureError("pedals of several tracks in one chunk")
    (number, track), table = found[0], tables[0][1]
    if np.isin(table["number"], (ALL_SOUND_OFF, RESET_CONTROLLERS)).any():
        raise _UnsureError("pedals that are reset")
    moved = table["number"] == SUSTAIN
    pedal = Pedal(table["time"][moved], table["value"][moved])
    if is_order_needed(track.end, pedal):
        raise _UnsureError("a pedal that is moved as a note ends")
    group = np.zeros(len(track.start), dtype=np.int64)
    end = extend(track.start, track.end, track.pitch, group, {0: pedal})
    return [(number, track._replace(end=end))]
