"""``write_midi``: write notes as a Standard MIDI File, format 1."""

from __future__ import annotations

import logging
import numbers
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, final, get_args

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from notelstm.errors import ConfigError, MidiError, counted
from notelstm.files import atomic_write
from notelstm.midi.parsing import DRUM_CHANNEL
from notelstm.midi.ticks import LAST_TICK, TickMap, fine_resolution
from notelstm.notes import Notes, TempoMap
from notelstm.programs import PROGRAMS, program_number

__all__ = [
    "Instrument",
    "WriteReport",
    "WriteSettings",
    "instrument_labels",
    "instruments_of",
    "midi_bytes",
    "midi_bytes_with_report",
    "tempo_map_to_write",
    "write_midi",
]

WriteOverlaps: TypeAlias = Literal["refuse", "trim"]
Short: TypeAlias = Literal["refuse", "lengthen"]
ManyInstruments: TypeAlias = Literal["ports", "refuse"]

_MAX_TICKS: Final = 2**40

_LONGEST_WAIT: Final = 2**28 - 1
"""Ticks; the most that four bytes can hold."""

_MELODIC_CHANNELS: Final = tuple(c for c in range(16) if c != DRUM_CHANNEL)
_LONGEST_LABEL: Final = 40
_MAX_PORTS: Final = 128
_SLOWEST: Final = 60e6 / (2**24 - 1)
_FASTEST: Final = 60e6

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, kw_only=True)
class WriteReport:
    """The changes made so that a MIDI file can hold the notes.

    Attributes:
        notes: Notes in the file.
        trimmed: Notes that end where the next note of their pitch starts.
        dropped: Notes that start together with a longer one of their pitch and instrument, and are
            not in the file.
        lengthened: Notes that were shorter than a tick and last one tick.
        left_out: Tempo and time signature changes after the last note that are too late for
            pretty_midi to read, and are not in the file.
        ports: MIDI ports of the instruments; 0 without notes.
    """

    notes: int
    trimmed: int = 0
    dropped: int = 0
    lengthened: int = 0
    left_out: int = 0
    ports: int = 0

    @property
    def changed(self) -> bool:
        """Whether the file differs from the notes by more than rounding to ticks."""
        return bool(self.trimmed or self.dropped or self.lengthened or self.left_out)

    @override
    def __str__(self) -> str:
        """The changes in a line, ``"no changes"`` if there are none."""
        total = self.notes + self.dropped
        parts = [
            f"{count} of {total} notes {change}"
            for count, change in (
                (self.trimmed, "end where the next note of their pitch starts"),
                (self.dropped, "start together with another of their pitch and are left out"),
                (self.lengthened, "were too short and last one tick"),
            )
            if count
        ]
        if self.left_out:
            changes = counted(self.left_out, "tempo or time signature change")
            parts.append(f"{changes} after the end left out")
        return "; ".join(parts) or "no changes"


class WriteSettings(TypedDict, total=False):
    """The settings of the three writing functions; :func:`write_midi` documents them."""

    program: str | int | None
    overlaps: WriteOverlaps
    short: Short
    many_instruments: ManyInstruments
    ticks_per_beat: int | None
    tempo: float | None
    text: str


class _Fitted(NamedTuple):
    """(N,) columns of the notes of one instrument, in ticks, and the number of each change."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    trimmed: int = 0
    dropped: int = 0
    lengthened: int = 0


class _Place(NamedTuple):
    """The MIDI port and channel of an instrument, from 0."""

    port: int
    channel: int


def write_midi(
    notes: Notes, path: str | os.PathLike[str], **settings: Unpack[WriteSettings]
) -> WriteReport:
    """Write notes as a MIDI file; read again, they are the same within half a tick.

    A warning is logged if notes have to be changed.

    Args:
        notes: The piece.
        path: The file; an existing one is replaced, whole or not at all.
        program: General MIDI name or number for all notes but percussion; None for the notes' own
            programs, or "Acoustic Grand Piano" if they have none.
        overlaps: Notes of one pitch and instrument that sound at the same time, which MIDI cannot
            tell apart: ``"trim"``, the default, ends a note where the next one of its pitch starts,
            and keeps the longest of notes that start together; ``"refuse"`` raises an error.
        short: Notes that start and end on the same tick, which MIDI readers drop: ``"refuse"``
            them, the default, or ``"lengthen"`` them to one tick.
        many_instruments: More instruments than a MIDI port has channels, which are 15 and one for
            percussion: ``"ports"``, the default, gives the others the channels of further ports
            (meta event 0x21), so that no two instruments share a channel; ``"refuse"`` raises an
            error. An instrument is the notes of one track, program and kind (percussion or not).
        ticks_per_beat: Resolution, 1 to 32767; None for the finest that other readers can read,
            9600 for pieces under 500 s at 120 quarter notes per minute.
        tempo: Quarter notes per minute; None for the notes' own tempo and time signature map, or
            120 if they have none.
        text: A text event at the start of the file.

    Returns:
        The changes to the notes.

    Raises:
        MidiError: If notes overlap or are too short and that is refused, or a value cannot be
            held by a MIDI file.
        ConfigError: If a setting cannot have that value.
        OutputError: If the file cannot be written.
    """
    data, report = midi_bytes_with_report(notes, **settings)
    with atomic_write(path) as beside:
        beside.write_bytes(data)
    if report.changed:
        _log.warning("%s: %s", os.fspath(path), report)
    return report


def midi_bytes(notes: Notes, **settings: Unpack[WriteSettings]) -> bytes:
    """The bytes of the MIDI file that :func:`write_midi` writes, with the same settings and errors.

    Returns:
        A Standard MIDI File, format 1: tempo and time signature in the first chunk, then a chunk
        for each track and program.
    """
    data, report = midi_bytes_with_report(notes, **settings)
    if report.changed:
        _log.warning("a MIDI file in memory: %s", report)
    return data


def midi_bytes_with_report(
    notes: Notes,
    *,
    program: str | int | None = None,
    overlaps: WriteOverlaps = "trim",
    short: Short = "refuse",
    many_instruments: ManyInstruments = "ports",
    ticks_per_beat: int | None = None,
    tempo: float | None = None,
    text: str = "",
) -> tuple[bytes, WriteReport]:
    """Like :func:`midi_bytes`, with the changes to the notes, which are not logged."""
    _check_choice("overlaps", overlaps, get_args(WriteOverlaps))
    _check_choice("short", short, get_args(Short))
    _check_choice("many_instruments", many_instruments, get_args(ManyInstruments))
    tempo_map = tempo_map_to_write(notes, tempo)
    # Ticks are 64-bit numbers, but a change after the end may be at any time.
    early = tempo_map.until(max(notes.end_time, float(tempo_map.seconds_at(LAST_TICK))))
    if ticks_per_beat is None:
        ticks_per_beat = fine_resolution(_length(notes, early))
    whole = isinstance(ticks_per_beat, int | np.integer) and not isinstance(ticks_per_beat, bool)
    if not (whole and 1 <= ticks_per_beat <= 32767):
        raise ConfigError(f"ticks_per_beat {ticks_per_beat!r} is not a whole number, 1 to 32767")
    ticks_per_beat = int(ticks_per_beat)  # numpy's have no to_bytes
    length = float(early.beats_at(notes.end_time))
    if length * ticks_per_beat > _MAX_TICKS:
        raise MidiError(
            f"a piece of {length:g} beats is longer than {_MAX_TICKS} ticks",
            hint="shorten the piece, or write it with fewer ticks_per_beat",
        )
    ticks = TickMap.from_tempo_map(ticks_per_beat, early)
    last = max(LAST_TICK, int(ticks.ticks_at(notes.end_time)))
    changes = _tempo_events(ticks, early)
    events = [event for event in changes if event[0] <= last]
    too_late = len(changes) - len(events) + tempo_map.num_changes - early.num_changes
    instruments = instruments_of(notes, program)
    places = _places(instruments, many_instruments)
    fitted = [_fit(notes, instrument, ticks, overlaps, short) for instrument in instruments]
    ports = 1 + max((place.port for place in places), default=-1)
    if text:
        events.insert(0, (0, 0, _text(0x01, text)))
    end = 0 if notes.length is None else int(ticks.ticks_at(notes.length))
    chunks = [_chunk(events, end=end)]
    for track, instrument, place in zip(fitted, instruments, places, strict=True):
        chunks.append(_track(track, instrument, place, name_port=ports > 1))
    header = b"MThd" + _number(6, 4) + _number(1, 2) + _number(len(chunks), 2)
    report = WriteReport(
        notes=sum(len(track.start) for track in fitted),
        trimmed=sum(track.trimmed for track in fitted),
        dropped=sum(track.dropped for track in fitted),
        lengthened=sum(track.lengthened for track in fitted),
        left_out=too_late,
        ports=ports,
    )
    return header + _number(ticks_per_beat, 2) + b"".join(chunks), report


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ConfigError(f"unknown {name} {value!r}", hint=f"use one of {allowed}")


def tempo_map_to_write(notes: Notes, tempo: float | None = None) -> TempoMap:
    """The tempo map to write, which is that of one tempo if it is given.

    Raises:
        MidiError: If a MIDI file cannot hold a tempo of the notes.
        ConfigError: If the tempo is out of range.
    """
    if tempo is not None:
        if not (isinstance(tempo, numbers.Real) and 4 <= tempo <= _FASTEST):
            raise ConfigError(f"tempo {tempo!r} is not 4 to 60,000,000 quarter notes per minute")
        return TempoMap(tempos=[tempo])
    tempo_map = notes.tempo_map or TempoMap()
    tempos = tempo_map.tempos
    bad = np.flatnonzero((tempos < _SLOWEST * (1 - 1e-9)) | (tempos > _FASTEST))
    if bad.size:
        raise MidiError(
            f"a MIDI file cannot hold a tempo of {tempos[bad[0]]:g} quarter notes per minute",
            where=f"{tempo_map.seconds[bad[0]]:g} s",
            hint="use tempos from 3.58 to 60,000,000",
        )
    return tempo_map


def _length(notes: Notes, tempo_map: TempoMap) -> float:
    """Beats to the last event of the file that pretty_midi can read."""
    end = float(tempo_map.beats_at(notes.end_time))
    tempos, signatures = tempo_map.beats_at(tempo_map.seconds), tempo_map.time_signature_beats
    changes = np.concatenate([tempos, signatures])
    # 480 ticks to a beat is the coarsest resolution that is chosen.
    return float(changes[changes * 480 <= LAST_TICK].max(initial=end))


def _places(instruments: Sequence[Instrument], rule: ManyInstruments) -> list[_Place]:
    """A channel of its own for each instrument, on further ports after the first 16."""
    melodic, drums, places = 0, 0, []
    for instrument in instruments:
        if instrument.drum:
            places.append(_Place(drums, DRUM_CHANNEL))
            drums += 1
        else:
            port, number = divmod(melodic, len(_MELODIC_CHANNELS))
            places.append(_Place(port, _MELODIC_CHANNELS[number]))
            melodic += 1
    ports = 1 + max((place.port for place in places), default=0)
    most = 1 if rule == "refuse" else _MAX_PORTS
    if ports > most:
        raise MidiError(
            f"{melodic} melodic instruments and {drums} of percussion are more than "
            f"{'a MIDI port has' if most == 1 else f'{most} MIDI ports have'} channels for",
            hint='write with many_instruments="ports"' if most == 1 else "use fewer tracks",
        )
    return places


def _fit(
    notes: Notes, instrument: Instrument, ticks: TickMap, overlaps: WriteOverlaps, short: Short
) -> _Fitted:
    """An instrument's notes in ticks, by pitch and start; lengthened first, then trimmed."""
    members = instrument.notes
    start, end = ticks.ticks_at(notes.start[members]), ticks.ticks_at(notes.end[members])
    empty = np.flatnonzero(end <= start)
    if empty.size and short == "refuse":
        i = int(members[empty[0]])
        raise MidiError(
            f"a note of {notes.end[i] - notes.start[i]:g} s is shorter than a tick, "
            f"at {ticks.ticks_per_beat:g} ticks per beat",
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
        return _Fitted(start, end, pitch, velocity, lengthened=empty.size)
    if overlaps == "refuse":
        i, j = int(members[over[0]]), int(members[over[0] + 1])
        raise MidiError(
            f"two notes of pitch {notes.pitch[i]} overlap on one channel: from {notes.start[i]:g} "
            f"to {notes.end[i]:g} s and again from {notes.start[j]:g} s",
            where=f"notes {i} and {j}",
            hint='write with overlaps="trim", which ends a note where the next one starts',
        )
    following = np.append(np.where(same, start[1:], np.iinfo(np.int64).max), end[-1:])
    cut = np.minimum(end, following)
    stays = cut > start
    return _Fitted(
        start[stays],
        cut[stays],
        pitch[stays],
        velocity[stays],
        trimmed=int(np.count_nonzero((cut < end) & stays)),
        dropped=int(np.count_nonzero(~stays)),
        lengthened=int(np.count_nonzero(stays & np.isin(members, instrument.notes[empty]))),
    )


def _tempo_events(ticks: TickMap, tempo_map: TempoMap) -> list[tuple[int, int, bytes]]:
    """The tempos and time signatures of the first chunk, in order."""
    micros = np.rint(ticks.scales * ticks.ticks_per_beat * 1e6).astype(np.int64)
    events = [
        (tick, 0, b"\xff\x51\x03" + _number(micro, 3))
        for tick, micro in zip(ticks.ticks.tolist(), micros.tolist(), strict=True)
    ]
    starts = tempo_map.time_signature_beats.tolist()
    for beat, upper, lower in zip(
        starts, tempo_map.numerators, tempo_map.denominators, strict=True
    ):
        power = int(lower).bit_length() - 1
        if upper > 255 or lower != 1 << power:
            raise MidiError(
                f"a MIDI file cannot hold a time signature of {upper}/{lower}",
                hint="use an upper number up to 255, and a lower one that is a power of two",
            )
        meta = b"\xff\x58\x04" + bytes([upper, power, 24, 8])
        events.append((max(round(beat * ticks.ticks_per_beat), 0), 1, meta))
    # Stable, because the last time signature on a tick counts.
    return sorted(events, key=lambda event: event[:2])


def _track(notes: _Fitted, instrument: Instrument, place: _Place, *, name_port: bool) -> bytes:
    """One instrument's chunk; on a tick, notes end before others start."""
    start, end, pitch, velocity = (column.tolist() for column in notes[:4])
    on, off = 0x90 | place.channel, 0x80 | place.channel
    ons = [(t, 2, bytes([on, p, v])) for t, p, v in zip(start, pitch, velocity, strict=True)]
    offs = [(t, 1, bytes([off, p, 64])) for t, p in zip(end, pitch, strict=True)]
    head = [(0, 0, b"\xff\x21\x01" + bytes([place.port]))] if name_port else []
    if instrument.name:
        head.append((0, 0, _text(0x03, instrument.name)))
    head.append((0, 0, bytes([0xC0 | place.channel, instrument.program])))
    return _chunk([*head, *sorted([*ons, *offs])])


def _chunk(events: Sequence[tuple[int, int, bytes]], *, end: int = 0) -> bytes:
    """A track chunk of (tick, rank, message), in order.

    Its end is at the last event, or at the tick `end` if that is later.
    """
    body, now = bytearray(), 0
    last = max([end, *(tick for tick, *_ in events)])
    for tick, _, message in [*events, (last, 0, b"\xff\x2f\x00")]:
        while tick - now > _LONGEST_WAIT:  # an empty text divides the wait
            body += _variable(_LONGEST_WAIT) + b"\xff\x01\x00"
            now += _LONGEST_WAIT
        body += _variable(tick - now) + message
        now = tick
    return b"MTrk" + _number(len(body), 4) + bytes(body)


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def _text(kind: int, text: str) -> bytes:
    """A meta event with a text."""
    encoded = text.encode("utf-8", "replace")
    return bytes([0xFF, kind]) + _variable(len(encoded)) + encoded


def _variable(value: int) -> bytes:
    """A variable-length quantity."""
    if value > _LONGEST_WAIT:
        raise MidiError(f"a text of {value} bytes is longer than a MIDI file can hold")
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


class Instrument(NamedTuple):
    """The notes of one track, program and kind.

    Attributes:
        program: General MIDI program, 0 to 127.
        drum: Whether it is percussion.
        notes: The numbers of its notes in the piece, ascending.
        name: The name of its track, or "".
    """

    program: int
    drum: bool
    notes: NDArray[np.intp]
    name: str = ""


def instruments_of(notes: Notes, program: str | int | None) -> tuple[Instrument, ...]:
    """Group notes by track, program and percussion.

    Args:
        notes: The piece.
        program: One program for all notes but percussion; None for the notes' own column, or
            the first program, Acoustic Grand Piano, if there is none.

    Returns:
        The instruments, by track number, each with at least one note.

    Raises:
        MidiError: If there is no such program.
    """
    zeros = np.zeros(len(notes), dtype=np.int64)
    track, own, drum = (zeros if c is None else c for c in (notes.track, notes.program, notes.drum))
    if program is not None:
        own = np.where(drum, own, program_number(program))
    columns = [track, own, drum]
    groups, which = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    names = notes.track_names or ()
    return tuple(
        Instrument(
            own_program,
            bool(is_drum),
            np.flatnonzero(which == number),
            names[at] if 0 <= at < len(names) else "",
        )
        for number, (at, own_program, is_drum) in enumerate(groups.tolist())
    )


def instrument_labels(instruments: Sequence[Instrument]) -> tuple[str, ...]:
    """Names to show for the instruments of a piece, all different.

    Args:
        instruments: As :func:`instruments_of` gives them.

    Returns:
        For each, the name of its track in one line, cut after 40 characters, or else of its
        General MIDI program, or ``"Drums"``; numbered from 1 where several have the same.
    """
    tracks = [" ".join(one.name.split()) for one in instruments]
    names = [
        name[: _LONGEST_LABEL - 1] + "…" if len(name) > _LONGEST_LABEL else name
        for name in (
            track or ("Drums" if one.drum else PROGRAMS[one.program])
            for track, one in zip(tracks, instruments, strict=True)
        )
    ]
    total = Counter(names)
    taken, labels = set(names), []
    for name in names:
        label = name
        if total[name] > 1:
            numbered = (f"{name} {number}" for number in count(1))
            label = next(label for label in numbered if label not in taken)
            taken.add(label)
        labels.append(label)
    return tuple(labels)
