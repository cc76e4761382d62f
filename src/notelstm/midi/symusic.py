"""symusic, the fast reader, held to pretty_midi's notes.

symusic does not report what it mends or drops, pairs notes in its own way and does not give
channels. So each track chunk is given to it alone, followed by a *coda* long after its end: a
note-off for every pitch, which shows the notes that never end, then a note on each channel, which
shows the channel and the program that it has at the end. symusic gives ticks; the times are worked
out here. A file that it cannot be trusted with is refused, for the tolerant reader to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import MidiError, MissingExtraError
from notelstm.midi.chunks import END_OF_TRACK
from notelstm.midi.parsing import ALL_SOUND_OFF, BANK, NOTES_OFF, RESET_CONTROLLERS, SUSTAIN
from notelstm.midi.pedal import Pedal, extend, is_order_needed
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import ReadReport, RepairLog, TrackInfo
from notelstm.midi.screening import (
    NeedsTolerantReader,
    healthy_chunks,
    may_steer,
    program_changes,
    quiet,
    screen,
    sounding_channels,
)
from notelstm.midi.selection import RawNotes, refuse, select
from notelstm.midi.tempos import Marks, tempo_maps
from notelstm.notes import Notes

__all__ = ["SymusicReader"]

_NAME: Final = "symusic"
_MOST_TICKS: Final = 10_000_000
_LATE: Final = 2**24
"""How many ticks after the end of a chunk its coda comes."""

_KITS: Final = 120
"""From this bank on some make a channel percussion or melodic: 120, 121 (GM2), 126, 127 (XG)."""

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


class _Loud(NamedTuple):
    """A chunk with notes.

    Attributes:
        body: Its events.
        programs: The program at its end of each channel on which it may have notes.
        tracks: Its tracks, in the order in which their first notes end.
        steered: Whether it moves pedals or ends all notes of a channel.
    """

    body: bytes
    programs: dict[int, int]
    tracks: list[_Track]
    steered: bool


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
        log = RepairLog(policy.on_error, where)
        try:
            raw = _raw(data, policy, log)
        except NeedsTolerantReader as unsure:
            raise MidiError(
                f"symusic may misread the file: {unsure}",
                where=where,
                hint='read it with reader="auto", which uses the tolerant reader for such files',
            ) from unsure
        return select(raw, policy, log, _NAME)


def _raw(data: bytes, policy: ReadPolicy, log: RepairLog) -> RawNotes:
    """All notes of a healthy file."""
    resolution, bodies = healthy_chunks(data)
    division = data[12:14]
    tracks: list[_Track] = []
    infos: list[TrackInfo] = []
    marks: list[Marks] = []
    loud: list[_Loud] = []
    steered: set[int] = set()
    zero_length = 0
    for chunk, body in enumerate(bodies):
        channels = sounding_channels(body)
        if not channels and len(body) <= _SHORT:
            found = quiet(body)
            marks.append(found.marks)
            steered |= found.channels
            continue
        name = screen(body)
        score = _score(division, body, channels)
        marks.append(_marks(score))
        loud.append(_loud(body, score, policy))
        for track in loud[-1].tracks:
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
    _check_channels(loud, steered, pedals=policy.pedal == "extend")
    ticks, beats = tempo_maps(resolution, marks, policy, log)
    return RawNotes(
        start=ticks.seconds_at(_column([track.start for track in tracks])),
        end=ticks.seconds_at(_column([track.end for track in tracks])),
        pitch=_column([track.pitch for track in tracks]),
        velocity=_column([track.velocity for track in tracks]),
        track=_numbers([info.notes for info in infos]),
        tracks=tuple(infos),
        beats=beats,
        left_out={"zero_length": zero_length} if zero_length else {},
    )


def _numbers(counts: Sequence[int]) -> NDArray[np.int64]:
    """The number of each note's track, of which there is often only one."""
    if len(counts) == 1:
        return np.zeros(counts[0], dtype=np.int64)
    return np.repeat(np.arange(len(counts)), counts)


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
            "the reader 'symusic' needs the package symusic, which is not installed",
            hint="run pip install symusic",
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
        raise NeedsTolerantReader(f"what symusic cannot read: {error}") from error


def _check_channels(loud: Sequence[_Loud], steered: set[int], *, pedals: bool) -> None:
    """Refuse files in which a chunk steers, or may steer, notes of another chunk."""
    if len(loud) == 1 and not steered:
        return
    for number, chunk in enumerate(loud):
        if not steered.isdisjoint(chunk.programs):
            raise NeedsTolerantReader("programs or pedals in another chunk than their notes")
        others = [*loud[:number], *loud[number + 1 :]]
        elsewhere = {channel for other in others for channel in other.programs}
        if may_steer(chunk.body, elsewhere - chunk.programs.keys(), pedals=pedals):
            raise NeedsTolerantReader("what may be programs or pedals in another chunk than their notes")
        for channel in elsewhere & chunk.programs.keys():
            program = chunk.programs[channel]
            same = {other.programs.get(channel, program) for other in others}
            if chunk.steered or same != {program} or program_changes(chunk.body, channel) > 1:
                raise NeedsTolerantReader("several chunks on one channel")


def _loud(body: bytes, score: Any, policy: ReadPolicy) -> _Loud:
    """The tracks of a chunk with notes."""
    found: list[tuple[int, _Track]] = []
    controls = []
    programs = {}
    for number, track in enumerate(score.tracks):
        if len(notes := track.notes):
            last = notes[-1]
            programs[last.velocity - 1] = track.program
            if not _only_coda(notes):
                played = _track(notes, track, policy)
                if played.zero_length or len(played.start):
                    found.append((number, played))
        if len(track.controls):
            controls.append((number, track.controls.numpy()))
    steered = _check_controls([table for _, table in controls], [track for _, track in found])
    if policy.pedal == "extend" and controls:
        steered = True
        found = _pedalled(found, controls) if found else found
    return _Loud(body, programs, _in_order(found), steered)


def _check_controls(tables: Sequence[Any], tracks: Sequence[_Track]) -> bool:
    """Refuse a chunk whose controllers do what symusic does not; whether any bear on notes."""
    steered = False
    for table in tables:
        number = table["number"]
        if number.max() < ALL_SOUND_OFF and number.min() > BANK:
            continue
        if ((number == BANK) & (table["value"] >= _KITS)).any():
            raise NeedsTolerantReader("banks of percussion")
        ends = table["time"][np.isin(number, NOTES_OFF)]
        steered |= bool(ends.size)
        for track in tracks if ends.size else ():
            k = np.searchsorted(ends, track.start)
            if (ends[np.minimum(k, len(ends) - 1)][k < len(ends)] < track.end[k < len(ends)]).any():
                raise NeedsTolerantReader("a message that ends all notes of a channel while some sound")
    return steered


def _in_order(found: Sequence[tuple[int, _Track]]) -> list[_Track]:
    """Tracks in the order in which their first notes end."""
    firsts = {int(track.end.min()): track for _, track in found if len(track.start)}
    silent = [track for _, track in found if not len(track.start)]
    if len(firsts) + len(silent) < len(found):
        raise NeedsTolerantReader("several tracks in one chunk whose order cannot be told")
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
        raise NeedsTolerantReader("programs that change after the first note")
    if len(start) and not (start[0] >= 0 and start[-1] <= end.max() <= _MOST_TICKS):
        raise NeedsTolerantReader("notes that never end, or too late")
    channel = int(table["velocity"][-1]) - 1
    zero_length = int(np.count_nonzero(end == start))
    overlapping = _overlapping(start, end, pitch, points=zero_length > 0)
    if overlapping.size:
        if zero_length or policy.overlaps == "merge":
            raise NeedsTolerantReader("overlapping notes of one pitch")
        if policy.overlaps == "close-all":
            # The first note-off after the start is some note's own end: all notes do end. Of those
            # on one tick with a note-on it would matter which came first.
            voice = pitch.astype(np.int64) << 32
            offs = np.sort(voice | end)
            if np.isin((voice | start)[np.isin(pitch, overlapping)], offs).any():
                raise NeedsTolerantReader("overlapping notes of one pitch, one begins as another ends")
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
        raise NeedsTolerantReader("pedals of several tracks in one chunk")
    (number, track), table = found[0], steered[0][1]
    if np.isin(table["number"], (ALL_SOUND_OFF, RESET_CONTROLLERS)).any():
        raise NeedsTolerantReader("pedals that are reset")
    moved = table["number"] == SUSTAIN
    pedal = Pedal(table["time"][moved], table["value"][moved])
    if is_order_needed(track.end, pedal):
        raise NeedsTolerantReader("a pedal that is moved as a note ends")
    group = np.zeros(len(track.start), dtype=np.int64)
    end = extend(track.start, track.end, track.pitch, group, {0: pedal})
    return [(number, track._replace(end=end))]


def _marks(score: Any) -> Marks:
    """The tempos and metres of a chunk."""
    tempos = [(t.time, t.mspq) for t in score.tempos]
    meters = [(m.time, m.numerator, m.denominator) for m in score.time_signatures]
    for marks in (tempos, meters):
        # symusic does not keep the order of many on one tick, of which the last counts.
        if len({mark[0] for mark in marks}) < len(marks):
            raise NeedsTolerantReader("several tempos or metres on one tick")
    return Marks(tempos, meters)
