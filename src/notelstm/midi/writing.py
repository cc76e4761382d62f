"""``write_midi``: notes become a Standard MIDI File, format 1."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, MidiError
from notelstm.files import written_whole
from notelstm.midi.programs import Instrument, instruments_of
from notelstm.midi.ticks import TickMap, fine_resolution
from notelstm.notes import BeatMap, Notes

__all__ = ["midi_bytes", "write_midi"]

WriteOverlaps: TypeAlias = Literal["refuse", "trim"]
Short: TypeAlias = Literal["refuse", "lengthen"]

_MOST_TICKS: Final = 2**40

_LONGEST_WAIT: Final = 2**28 - 1
"""Ticks, the most that four bytes can hold."""

_DRUM_CHANNEL: Final = 9
_MELODIC_CHANNELS: Final = (*range(9), *range(10, 16))


class _Played(NamedTuple):
    """(N,) columns of what one instrument plays, in ticks."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]


def write_midi(
    notes: Notes,
    path: str | os.PathLike[str],
    *,
    program: str | int | None = None,
    overlaps: WriteOverlaps = "trim",
    short: Short = "refuse",
    ticks_per_beat: int | None = None,
    tempo: float | None = None,
) -> None:
    """Write notes as a MIDI file; read again, they are the same within half a tick.

    Args:
        notes: The piece.
        path: Where to write; an existing file is replaced, whole or not at all.
        program: General MIDI name or number for all notes; None for the notes' own programs and
            percussion, and "Acoustic Grand Piano" where they have none.
        overlaps: Notes of one pitch that sound at the same time on one channel, which MIDI cannot
            tell apart: ``"trim"``, as a key is let go before it is struck again: a note ends where
            the next one of its pitch starts, and of notes that start together the longest stays;
            or ``"refuse"`` them.
        short: Notes that start and end on the same tick, which MIDI readers drop: ``"refuse"``
            them, or ``"lengthen"`` them to one tick.
        ticks_per_beat: Resolution, 1 to 32767; None for the finest that other readers can read,
            9600 for pieces under 500 s at 120 quarter notes per minute.
        tempo: Quarter notes per minute; None for the notes' own tempo and metre map, and 120 where
            they have none.

    Raises:
        MidiError: If notes overlap or are too short and that is refused, or a value cannot be
            held by a MIDI file.
        ConfigError: If a setting cannot have that value.
        OutputError: If the file cannot be written.
    """
    data = midi_bytes(
        notes,
        program=program,
        overlaps=overlaps,
        short=short,
        ticks_per_beat=ticks_per_beat,
        tempo=tempo,
    )
    with written_whole(path) as beside:
        beside.write_bytes(data)


def midi_bytes(
    notes: Notes,
    *,
    program: str | int | None = None,
    overlaps: WriteOverlaps = "trim",
    short: Short = "refuse",
    ticks_per_beat: int | None = None,
    tempo: float | None = None,
) -> bytes:
    """The bytes of the MIDI file that :func:`write_midi` writes.

    Args:
        notes: The piece.
        program: As for :func:`write_midi`.
        overlaps: As for :func:`write_midi`.
        short: As for :func:`write_midi`.
        ticks_per_beat: As for :func:`write_midi`.
        tempo: As for :func:`write_midi`.

    Returns:
        A Standard MIDI File, format 1: tempo and metre in the first chunk, then a chunk for each
        track and program.

    Raises:
        MidiError: If notes overlap or are too short and that is refused, or a value cannot be
            held by a MIDI file.
        ConfigError: If a setting cannot have that value.
    """
    _check_choice("overlaps", overlaps, get_args(WriteOverlaps))
    _check_choice("short", short, get_args(Short))
    beats = _beats_of(notes, tempo)
    length = float(beats.beats_at(notes.seconds))
    if ticks_per_beat is None:
        ticks_per_beat = fine_resolution(length)
    if isinstance(ticks_per_beat, bool) or not 1 <= ticks_per_beat <= 32767:
        raise ConfigError("ticks_per_beat is 1 to 32767", got=repr(ticks_per_beat))
    if length * ticks_per_beat > _MOST_TICKS:
        raise MidiError(f"a piece ends within {_MOST_TICKS} ticks", got=f"{length:g} beats")
    ticks = TickMap.from_beats(ticks_per_beat, beats)
    chunks = [_conductor(ticks, beats)]
    melodic = 0
    for instrument in instruments_of(notes, program):
        channel = _DRUM_CHANNEL
        if not instrument.drum:
            channel = _MELODIC_CHANNELS[melodic % len(_MELODIC_CHANNELS)]
            melodic += 1
        played = _fit(notes, instrument, ticks, overlaps, short)
        chunks.append(_track(played, instrument.program, channel))
    header = b"MThd" + _number(6, 4) + _number(1, 2) + _number(len(chunks), 2)
    return header + _number(ticks_per_beat, 2) + b"".join(chunks)


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        wanted = ", ".join(repr(choice) for choice in choices)
        raise ConfigError(f"{name} is one of {wanted}", got=repr(value))


def _beats_of(notes: Notes, tempo: float | None) -> BeatMap:
    if tempo is None:
        return notes.beats or BeatMap()
    if not 4 <= tempo <= 60_000_000:
        raise ConfigError("tempo is 4 to 60,000,000 quarter notes per minute", got=repr(tempo))
    return BeatMap(tempi=[tempo])


def _fit(
    notes: Notes, instrument: Instrument, ticks: TickMap, overlaps: WriteOverlaps, short: Short
) -> _Played:
    """An instrument's notes in ticks, by pitch and start.

    Notes are made long enough first, so that trimming sees them as they will sound.
    """
    members = instrument.notes
    start, end = ticks.ticks_at(notes.start[members]), ticks.ticks_at(notes.end[members])
    empty = np.flatnonzero(end <= start)
    if empty.size and short == "refuse":
        i = int(members[empty[0]])
        raise MidiError(
            "a note lasts at least one tick",
            got=f"{notes.end[i] - notes.start[i]:g} s at {ticks.ticks_per_beat} ticks per beat",
            where=f"note {i}, pitch {notes.pitch[i]}, {notes.start[i]:g} s",
            hint='write with short="lengthen", or make the note longer',
        )
    end = np.maximum(end, start + 1)
    order = np.lexsort((end, start, notes.pitch[members]))
    members, start, end = members[order], start[order], end[order]
    pitch, velocity = notes.pitch[members], notes.velocity[members]
    same = pitch[1:] == pitch[:-1]
    over = np.flatnonzero(same & (start[1:] < end[:-1]))
    if not over.size:
        return _Played(start, end, pitch, velocity)
    if overlaps == "refuse":
        i, j = int(members[over[0]]), int(members[over[0] + 1])
        raise MidiError(
            "notes of one pitch on one channel do not overlap",
            got=f"pitch {notes.pitch[i]} from {notes.start[i]:g} to {notes.end[i]:g} s and again "
            f"from {notes.start[j]:g} s",
            where=f"notes {i} and {j}",
            hint='write with overlaps="trim", which ends a note where the next one starts',
        )
    following = np.append(np.where(same, start[1:], np.iinfo(np.int64).max), end[-1:])
    end = np.minimum(end, following)
    stays = end > start
    return _Played(start[stays], end[stays], pitch[stays], velocity[stays])


def _conductor(ticks: TickMap, beats: BeatMap) -> bytes:
    """The first chunk: tempos and time signatures."""
    micros = np.rint(ticks.scales * ticks.ticks_per_beat * 1e6).astype(np.int64)
    events = [
        (tick, 0, b"\xff\x51\x03" + _number(micro, 3))
        for tick, micro in zip(ticks.ticks.tolist(), micros.tolist(), strict=True)
    ]
    for beat, upper, lower in zip(
        beats.meter_beats.tolist(), beats.numerators, beats.denominators, strict=True
    ):
        power = int(lower).bit_length() - 1
        if upper > 255 or lower != 1 << power:
            raise MidiError(
                "a MIDI time signature is up to 255 over a power of two", got=f"{upper}/{lower}"
            )
        meta = b"\xff\x58\x04" + bytes([upper, power, 24, 8])
        events.append((max(round(beat * ticks.ticks_per_beat), 0), 1, meta))
    return _chunk(sorted(events))


def _track(played: _Played, program: int, channel: int) -> bytes:
    """One instrument's chunk; on a tick, notes end before others start."""
    start, end, pitch, velocity = (column.tolist() for column in played)
    on, off = 0x90 | channel, 0x80 | channel
    ons = [(t, 2, bytes([on, p, v])) for t, p, v in zip(start, pitch, velocity, strict=True)]
    offs = [(t, 1, bytes([off, p, 64])) for t, p in zip(end, pitch, strict=True)]
    return _chunk(sorted([(0, 0, bytes([0xC0 | channel, program])), *ons, *offs]))


def _chunk(events: Sequence[tuple[int, int, bytes]]) -> bytes:
    """A track chunk of (tick, rank, message), in order."""
    body, now = bytearray(), 0
    for tick, _, message in events:
        while tick - now > _LONGEST_WAIT:  # an empty text breaks the wait
            body += _variable(_LONGEST_WAIT) + b"\xff\x01\x00"
            now += _LONGEST_WAIT
        body += _variable(tick - now) + message
        now = tick
    body += b"\x00\xff\x2f\x00"
    return b"MTrk" + _number(len(body), 4) + bytes(body)


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def _variable(value: int) -> bytes:
    """A variable-length quantity."""
    if value >= 1 << 28:
        raise MidiError(
            "events are less than 2**28 ticks apart",
            got=f"{value} ticks",
            hint="write with fewer ticks_per_beat, or remove the silence",
        )
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))
