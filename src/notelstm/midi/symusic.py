"""symusic, the fast reader, held to pretty_midi's notes.

symusic says nothing of what it mends or drops, pairs notes in its own way and does not tell
channels. So each track chunk is given to it alone, followed by a *coda* long after its end: a
note-off for every pitch, which shows the notes that never end, then a note on each channel, which
shows the channel and the program that it has at the end. symusic gives ticks; the times are worked
out here. A file that it cannot be trusted with is refused, for the tolerant reader to read.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import MidiError, MissingExtraError
from notelstm.midi.chunks import END_OF_TRACK
from notelstm.midi.pedal import SUSTAIN, extend
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import ReadReport, RepairLog, TrackInfo
from notelstm.midi.screening import UnsureError, healthy_chunks, screen, sounding_channels
from notelstm.midi.selection import RawNotes, refuse, select
from notelstm.midi.ticks import TickMap
from notelstm.notes import BeatMap, Notes

__all__ = ["SymusicReader"]

_NAME: Final = "symusic"
_MOST_TICKS: Final = 10_000_000
_LATE: Final = 2**24
"""How many ticks after the end of a chunk its coda comes."""

_SHORT: Final = 1000
"""How many bytes a chunk without notes has at most to be remembered."""

_LATER: Final = b"\x88\x80\x80\x00"
_ALL_OFF: Final = b"".join(bytes([pitch, 0, 0]) for pitch in range(128))
_CODAS: Final = tuple(
    bytes([0x80 | c]) + _ALL_OFF + bytes([0x90 | c, 0, c + 1, 1, 0x80 | c, 0, 0, 0])
    for c in range(16)
)
"""For each channel: all pitches end; a note of velocity channel + 1 follows; then a wait of 0."""


_Ints: TypeAlias = NDArray[np.integer]


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


class _Marks(NamedTuple):
    """Where a chunk sets the tempo and the metre, in ticks."""

    tempos: Sequence[tuple[int, int]]
    meters: Sequence[tuple[int, int, int]]


@final
@dataclass(frozen=True, kw_only=True)
class SymusicReader:
    """Reads healthy files with symusic, very fast, and refuses the others."""

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        """Read.

        Args:
            data: A whole MIDI file.
            policy: How to read it.
            where: What to call the file in messages.

        Returns:
            The notes, sorted by start, at least one; and the report.

        Raises:
            NoNotesError: If no notes are left under the policy.
            MidiError: If the file is damaged or odd, or the policy cannot be served.
            MissingExtraError: If symusic is not installed.
        """
        refuse(_NAME, policy, [("ties", "file"), ("velocity_zero", "note")])
        try:
            raw = _raw(data, policy)
        except UnsureError as unsure:
            raise MidiError(
                "symusic is given only files without fault or oddity",
                got=str(unsure),
                where=where,
                hint='read it with reader="auto", which repairs what is broken',
            ) from unsure
        return select(raw, policy, RepairLog(policy.on_error, where), _NAME)


def _raw(data: bytes, policy: ReadPolicy) -> RawNotes:
    """All notes of a healthy file."""
    resolution, bodies = healthy_chunks(data)
    division = data[12:14]
    tracks: list[_Track] = []
    infos: list[TrackInfo] = []
    marks: list[_Marks] = []
    zero_length = 0
    for chunk, body in enumerate(bodies):
        channels = sounding_channels(body)
        if not channels and len(body) <= _SHORT:
            marks.append(_marks_of(division, body))
            continue
        name = screen(body)
        score = _score(division, body, channels)
        marks.append(_marks(score))
        for track in _tracks(score, policy):
            zero_length += track.zero_length
            if len(track.start):
                info = TrackInfo(
                    number=len(infos),
                    name=name,
                    program=track.program,
                    drum=track.drum,
                    notes=len(track.start),
                    channel=track.channel,
                    chunk=chunk,
                )
                infos.append(info)
                tracks.append(track)
    ticks, beats = _times(resolution, marks if policy.tempos == "all" else marks[:1])
    return RawNotes(
        start=ticks.seconds_at(_column([track.start for track in tracks])),
        end=ticks.seconds_at(_column([track.end for track in tracks])),
        pitch=_column([track.pitch for track in tracks]),
        velocity=_column([track.velocity for track in tracks]),
        track=np.repeat(np.arange(len(infos)), [info.notes for info in infos]),
        tracks=tuple(infos),
        beats=beats,
        left_out={"zero_length": zero_length} if zero_length else {},
    )


def _column(parts: Sequence[_Ints]) -> _Ints:
    """One column out of the tracks' columns."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _score(division: bytes, body: bytes, channels: Sequence[int]) -> Any:
    """What symusic makes of a chunk that is followed by the ends of all notes of the channels."""
    try:
        from symusic import Score
    except ImportError as error:
        raise MissingExtraError(
            "the reader 'symusic' needs symusic", got=str(error), hint="run pip install symusic"
        ) from error
    coda = b"".join(_CODAS[channel] for channel in channels)
    if coda:
        # The wait before the end of track goes to an empty text.
        coda = b"\xff\x01\x00" + _LATER + coda + END_OF_TRACK
    events = memoryview(body)[: -len(END_OF_TRACK)] if coda else body
    size = (len(events) + len(coda)).to_bytes(4, "big")
    head = b"MThd\0\0\0\6\0\0\0\1" + division + b"MTrk" + size
    try:
        return Score.from_midi(b"".join((head, events, coda)))
    except Exception as error:  # whatever it raises, the tolerant reader can say more of it
        raise UnsureError(f"what symusic cannot read: {error}") from error


def _tracks(score: Any, policy: ReadPolicy) -> list[_Track]:
    """The tracks of a chunk, in the order in which their first notes end."""
    found = []
    steered = []
    for number, track in enumerate(score.tracks):
        if len(notes := track.notes) and not _only_coda(notes):
            played = _track(notes, track, policy)
            if played.zero_length or len(played.start):
                found.append((number, played))
        if policy.pedal == "extend" and len(track.controls):
            steered.append((number, track.controls))
    found = _pedalled(found, steered) if steered and found else found
    firsts = {int(track.end.min()): track for _, track in found if len(track.start)}
    silent = [track for _, track in found if not len(track.start)]
    if len(firsts) + len(silent) < len(found):
        raise UnsureError("several tracks in one chunk whose order cannot be told")
    return silent + [firsts[tick] for tick in sorted(firsts)]


def _only_coda(notes: Any) -> bool:
    """Whether nothing sounds on a channel that seemed to have notes."""
    return len(notes) == 1 and notes[0].time >= _LATE and notes[0].duration == 1


def _track(table: Any, track: Any, policy: ReadPolicy) -> _Track:
    """A track's notes under the policy."""
    table = table.numpy()
    start, pitch, velocity = (table[name][:-1] for name in ("time", "pitch", "velocity"))
    end = start + table["duration"][:-1]
    if table["time"][-1] < _LATE or table["duration"][-1] != 1:
        raise UnsureError("programs that change after the first note")
    if len(start) and not (start[0] >= 0 and start[-1] <= end.max() <= _MOST_TICKS):
        raise UnsureError("notes that never end, or too late")
    channel = int(table["velocity"][-1]) - 1
    zero_length = int(np.count_nonzero(end == start))
    overlapping = _overlapping(start, end, pitch, points=zero_length > 0)
    if overlapping.size:
        if zero_length or policy.overlaps == "merge":
            raise UnsureError("overlapping notes of one pitch")
        if policy.overlaps == "close-all":
            # The first note-off after the start is some note's own end: all notes do end. Of those
            # on one tick with a note-on it would matter which came first.
            voice = pitch.astype(np.int64) << 32
            offs = np.sort(voice | end)
            if np.isin((voice | start)[np.isin(pitch, overlapping)], offs).any():
                raise UnsureError("overlapping notes of one pitch, one begins as another ends")
            end = (offs[np.searchsorted(offs, voice | start, side="right")] & _LATE - 1).astype(
                np.int32
            )
    columns = start, end, pitch, velocity
    if zero_length and policy.zero_length == "drop":
        heard = columns[1] > columns[0]
        columns = tuple(column[heard] for column in columns)
    else:
        zero_length = 0
    return _Track(track.program, track.is_drum, channel, *columns, zero_length=zero_length)


def _overlapping(start: _Ints, end: _Ints, pitch: _Ints, *, points: bool) -> _Ints:
    """Pitches of which notes, sorted by start, sound or start together; or `points` may."""
    by_pitch = pitch.argsort(kind="stable")
    first, last = start.take(by_pitch), end.take(by_pitch)
    close = first[1:] < last[:-1]
    if points:
        close |= first[1:] == first[:-1]
    together = close.nonzero()[0]
    former, latter = pitch[by_pitch[together]], pitch[by_pitch[together + 1]]
    overlapping: _Ints = former[former == latter]
    return overlapping


def _pedalled(
    found: list[tuple[int, _Track]], steered: list[tuple[int, Any]]
) -> list[tuple[int, _Track]]:
    """A chunk's only track under its sustain pedal; both with their numbers."""
    if [number for number, _ in found] != [number for number, _ in steered] or len(found) > 1:
        raise UnsureError("pedals of several tracks in one chunk")
    (number, track), table = found[0], steered[0][1].numpy()
    moved = table["number"] == SUSTAIN
    pedals = {0: (table["time"][moved], table["value"][moved])}
    group = np.zeros(len(track.start), dtype=np.int64)
    end = extend(track.start, track.end, track.pitch, group, pedals)
    return [(number, track._replace(end=end))]


def _marks(score: Any) -> _Marks:
    """The tempos and metres of a chunk."""
    tempos = [(t.time, t.mspq) for t in score.tempos]
    meters = [(m.time, m.numerator, m.denominator) for m in score.time_signatures]
    for marks in (tempos, meters):
        # symusic does not keep the order of many on one tick, of which the last counts.
        if len({mark[0] for mark in marks}) < len(marks):
            raise UnsureError("several tempos or metres on one tick")
    return _Marks(tempos, meters)


@functools.lru_cache(maxsize=16)
def _marks_of(division: bytes, body: bytes) -> _Marks:
    """Those of a short chunk without notes; files of one folder often share it."""
    screen(body)
    return _marks(_score(division, body, ()))


def _times(resolution: int, marks: Sequence[_Marks]) -> tuple[TickMap, BeatMap]:
    """The file's tick map and beat map."""
    tempos = [tempo for chunk in marks for tempo in chunk.tempos]
    meters = [meter for chunk in marks for meter in chunk.meters]
    if len(marks) > 1:
        tempos.sort(key=lambda tempo: tempo[0])
        meters.sort(key=lambda meter: meter[0])
    return _maps(resolution, tuple(tempos), tuple(meters))


@functools.lru_cache(maxsize=16)
def _maps(
    resolution: int, tempos: tuple[tuple[int, int], ...], meters: tuple[tuple[int, int, int], ...]
) -> tuple[TickMap, BeatMap]:
    """Files of one folder often share tempo and metre: those of the last few are kept."""
    ticks = TickMap.from_tempos(resolution, [t for t, _ in tempos], [m for _, m in tempos])
    columns = list(zip(*meters, strict=True)) or [(), (), ()]
    return ticks, ticks.beat_map(*columns)
