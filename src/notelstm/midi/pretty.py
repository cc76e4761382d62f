"""pretty_midi, the reference reader: the only module that touches the untyped package."""

from __future__ import annotations

import io
import logging
import numbers
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import MidiError
from notelstm.midi.channels import Stream, pedals_of
from notelstm.midi.chunks import Layout
from notelstm.midi.pairing import DRUM_CHANNEL, match_note_offs
from notelstm.midi.parsing import (
    ALL_SOUND_OFF,
    MOST_METER_POWER,
    RESET_CONTROLLERS,
    SUSTAIN,
    Events,
    decode_text,
)
from notelstm.midi.pedal import Pedal, extend, is_order_needed
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.programs import instruments_of
from notelstm.midi.report import ReadReport, RepairLog, TrackInfo
from notelstm.midi.selection import RawNotes, refuse, select
from notelstm.midi.ticks import LAST_TICK, TickMap, fine_resolution
from notelstm.midi.tolerant import Track, parse_file, times_of, tracks_of
from notelstm.notes import TempoMap, Notes

__all__ = ["PrettyMidiReader", "from_pretty_midi", "from_pretty_midi_with_report", "to_pretty_midi"]

_log = logging.getLogger(__name__)

_NAME: Final = "pretty-midi"
_NO_MEANS: Final = (
    ("overlaps", "fifo"),
    ("overlaps", "merge"),
    ("hanging", "end"),
    ("velocity_zero", "note"),
    ("on_error", "skip"),
)
"""What pretty_midi settles for itself, or does not tell."""


@final
@dataclass(frozen=True, kw_only=True)
class PrettyMidiReader:
    """Reads with pretty_midi: slow, strict, and the reference for what the notes are.

    Files that pretty_midi loads but reads otherwise than players do are refused.
    """

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
            MidiError: If pretty_midi cannot read the file or serve the policy.
        """
        refuse(_NAME, policy, [*_NO_MEANS, ("zero_length", "keep")])
        from pretty_midi import PrettyMIDI

        log = RepairLog(policy.on_error, where)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                midi = PrettyMIDI(io.BytesIO(data))
            except Exception as error:  # it raises a dozen kinds, whatever is wrong with the file
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                raise MidiError(
                    f"pretty_midi cannot read the file: {reason}",
                    where=where,
                    hint='read it with reader="auto", which repairs what is broken',
                ) from error
        _check(data, policy, log)
        for warning in heard:
            log.warn(str(warning.message))
        return select(_raw(midi, policy, log), policy, log, _NAME)


def _check(data: bytes, policy: ReadPolicy, log: RepairLog) -> None:
    """Refuse a file that pretty_midi reads otherwise than the other readers; warn of tempos."""
    faults = RepairLog("repair", log.where)
    layout, chunks = parse_file(data, policy, faults)
    if faults.total:
        reason = f"it is damaged, {faults.repairs[0].rule}"
    else:
        found = _differences(layout, chunks, policy)
        reason = next((what for there, what in found if there), "")
    if reason:
        raise MidiError(
            f"pretty_midi misreads the file: {reason}",
            where=log.where,
            hint='read it with reader="auto"',
        )
    times_of(layout, chunks, policy, log)


def _differences(
    layout: Layout, chunks: Sequence[Events], policy: ReadPolicy
) -> Iterator[tuple[bool, str]]:
    """What pretty_midi does not do as the other readers do, and whether the file has it."""
    yield layout.ticks_per_second is not None, "its times are time code"
    elsewhere = any(events.tempos or events.meters for events in chunks[1:])
    yield (
        policy.tempos == "all" and elsewhere,
        "tempo or metre changes outside of the first chunk",
    )
    yield (
        any(events.unknown_metas for events in chunks),
        "meta events of an unknown kind, before which it forgets the wait",
    )
    tracks = tuple(tracks_of(layout, chunks, policy))
    yield (
        not all(_is_by_itself(track, policy) for track in tracks),
        "programs or the like in another chunk than their notes",
    )
    yield (
        any(track.paired.changed for track in tracks),
        "a program that changes while a note sounds",
    )
    yield (
        any(track.paired.silenced for track in tracks),
        "a message that ends all notes of a channel while some sound",
    )
    voices = [voice for track in tracks for voice in track.paired.voices]
    yield (
        any(voice.drum != (voice.channel == DRUM_CHANNEL) for voice in voices),
        "percussion on another channel than 10, or none on it",
    )
    if policy.pedal == "extend":
        reason = _pedal_difference(tracks)
        yield bool(reason), reason


def _is_by_itself(track: Track, policy: ReadPolicy) -> bool:
    """Whether a chunk's notes are the same without what other chunks say of its channels."""
    if not track.stream.foreign:
        return True
    events = track.events
    alone = Stream(events.ticks, events.codes, range(len(events.ticks)), 0, False)
    one, two = track.paired, match_note_offs(events, alone, policy)
    return one.voices == two.voices and all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("voice", "start", "end")
    )


def _pedal_difference(tracks: Sequence[Track]) -> str:
    """What pretty_midi does not do for pedals, which it keeps by instrument; "" for nothing."""
    pedals = pedals_of([track.events for track in tracks])
    reset = (ALL_SOUND_OFF, RESET_CONTROLLERS)
    for key, pedal in pedals.items():
        status = 0xB0 | key & 0xF
        ends, numbers, instruments = [], set(), 0
        for track in tracks:
            if track.events.port != key >> 4:
                continue
            mine = [n for n, v in enumerate(track.paired.voices) if v.channel == key & 0xF]
            moves = {code >> 8 & 0x7F for code in track.events.codes if code >> 16 == status}
            numbers |= moves
            ends.append(track.paired.end[np.isin(track.paired.voice, mine)])
            instruments += max(len(mine), bool(moves))
        if instruments > 1 or not numbers.isdisjoint(reset):
            return "a pedal that holds several instruments, or is reset"
        if is_order_needed(np.concatenate(ends), pedal):
            return "a pedal that is moved as a note ends"
    return ""


def from_pretty_midi(midi: Any, policy: ReadPolicy | None = None) -> Notes:
    """The notes of a ``PrettyMIDI``.

    Args:
        midi: The ``PrettyMIDI``.
        policy: How to read it; None for ``ReadPolicy()``.

    Returns:
        The notes, sorted by start, at least one.

    Raises:
        NoNotesError: If no notes are left under the policy.
        MidiError: If the policy cannot be served, or it says to raise and a note is broken.
    """
    return from_pretty_midi_with_report(midi, policy)[0]


def from_pretty_midi_with_report(
    midi: Any, policy: ReadPolicy | None = None
) -> tuple[Notes, ReadReport]:
    """The notes of a ``PrettyMIDI``, and what was found, mended and left out.

    Args:
        midi: The ``PrettyMIDI``.
        policy: How to read it; None for ``ReadPolicy()``.

    Returns:
        The notes, sorted by start, at least one; and the report.

    Raises:
        NoNotesError: If no notes are left under the policy.
        MidiError: If the policy cannot be served, or it says to raise and a note is broken.
    """
    policy = ReadPolicy() if policy is None else policy
    refuse(_NAME, policy, _NO_MEANS)
    log = RepairLog(policy.on_error, "PrettyMIDI")
    return select(_raw(midi, policy, log), policy, log, _NAME)


def _raw(midi: Any, policy: ReadPolicy, log: RepairLog) -> RawNotes:
    """All notes of a ``PrettyMIDI``; broken ones are mended or lost."""
    tracks: list[TrackInfo] = []
    blocks, zero = [np.zeros((0, 4))], 0
    pedals = {}
    for instrument in midi.instruments:
        program = instrument.program
        if not isinstance(program, numbers.Integral) or not 0 <= int(program) <= 127:
            raise MidiError(
                f"an instrument of the PrettyMIDI has the program {program!r}",
                hint="use a program from 0 to 127",
            )
        block = _block(instrument.notes)  # (N, 4)
        block = _sound(block, str(instrument.name), log)
        if policy.zero_length == "drop":
            zero += int(np.count_nonzero(block[:, 0] == block[:, 1]))
            block = block[block[:, 0] < block[:, 1]]
        if len(block):
            moves = [c for c in instrument.control_changes if c.number == SUSTAIN]
            pedals[len(tracks)] = Pedal([c.time for c in moves], [c.value for c in moves])
            tracks.append(
                TrackInfo(
                    number=len(tracks),
                    name=_decoded(str(instrument.name)),
                    program=int(instrument.program),
                    drum=bool(instrument.is_drum),
                    notes=len(block),
                )
            )
            blocks.append(block)
    start, end, pitch, velocity = (column.copy() for column in np.concatenate(blocks).T)
    track = np.repeat(np.arange(len(tracks)), [track.notes for track in tracks])
    if policy.pedal == "extend":
        end = extend(start, end, pitch.astype(np.int64), track, pedals)
    return RawNotes(
        start=start,
        end=end,
        pitch=pitch.astype(np.int64),
        velocity=velocity.astype(np.int64),
        track=track,
        tracks=tuple(tracks),
        beats=_beats(midi),
        left_out={"zero_length": zero} if zero else {},
    )


def _decoded(name: str) -> str:
    """pretty_midi takes all text for Latin-1; other readers look whether it is UTF-8."""
    try:
        return decode_text(name.encode("latin-1"))
    except UnicodeEncodeError:
        return name


def _block(notes: Sequence[Any]) -> NDArray[np.float64]:
    """(N, 4) start, end, pitch and velocity of pretty_midi's notes."""
    try:
        rows = [(note.start, note.end, note.pitch, note.velocity) for note in notes]
        return np.array(rows, dtype=np.float64).reshape(-1, 4)
    except (AttributeError, TypeError, ValueError) as error:
        raise MidiError(
            f"a note of the PrettyMIDI cannot be read: {error}",
            hint="give each note start, end, pitch and velocity",
        ) from error


def _sound(block: NDArray[np.float64], name: str, log: RepairLog) -> NDArray[np.float64]:
    """The notes that can be notes, early starts moved to 0; a file never needs this."""
    start, end, pitch, velocity = block.T
    whole = np.all(np.isfinite(block), axis=1) & (pitch % 1 == 0) & (velocity % 1 == 0)
    ranged = (pitch >= 0) & (pitch <= 127) & (velocity >= 1) & (velocity <= 127)
    good = whole & ranged & (end >= np.maximum(start, 0))
    if not good.all():
        lost = int(np.count_nonzero(~good))
        log.add("impossible-note", f"{lost} in track {name!r} left out: values", lost=lost)
    block = block[good]
    if len(block) and block[:, 0].min() < 0:
        log.add("negative-time", f"starts before 0 in track {name!r} moved to 0")
        block[:, 0] = np.maximum(block[:, 0], 0)
    return block


def _beats(midi: Any) -> TempoMap:
    seconds, tempi = midi.get_tempo_changes()
    last = np.append(np.diff(seconds) > 0, True)
    most = 1 << MOST_METER_POWER
    meters = [m for m in midi.time_signature_changes if m.denominator <= most]
    return TempoMap(
        seconds=seconds[last],
        tempi=tempi[last],
        meter_beats=[midi.time_to_tick(m.time) / midi.resolution for m in meters],
        numerators=[m.numerator for m in meters],
        denominators=[m.denominator for m in meters],
    )


def to_pretty_midi(notes: Notes, *, program: str | int | None = None) -> Any:
    """Notes as a ``PrettyMIDI``, times unrounded.

    Args:
        notes: The piece.
        program: General MIDI name or number for all notes but percussion; None for the notes' own
            programs, and "Acoustic Grand Piano" where they have none.

    Returns:
        The ``PrettyMIDI``: an instrument for each track and program, the tempo and metre map to
        the nearest tick.

    Raises:
        MidiError: If there is no such program.
    """
    from pretty_midi import Instrument, Note, PrettyMIDI, TimeSignature

    whole = notes.tempo_map or TempoMap()
    # At the coarsest resolution, later changes make a file that pretty_midi refuses to read.
    beats = whole.until(max(notes.end_time, float(whole.seconds_at(LAST_TICK / 480))))
    late = whole.tempos.size + whole.time_signature_beats.size - beats.tempos.size - beats.time_signature_beats.size
    if late:
        _log.warning("%d tempo or time signature changes after the end left out", late)
    end = beats.beats_at(max(notes.end_time, beats.seconds[-1]))
    resolution = fine_resolution(max(float(end), beats.time_signature_beats.max(initial=0.0)))
    ticks = TickMap.from_beats(resolution, beats)
    midi = PrettyMIDI(resolution=resolution)
    midi._tick_scales = list(zip(ticks.ticks.tolist(), ticks.scales.tolist(), strict=True))
    midi._update_tick_to_time(int(ticks.ticks_at(notes.end_time)))
    for beat, upper, lower in zip(
        beats.time_signature_beats, beats.numerators, beats.denominators, strict=True
    ):
        at = float(ticks.seconds_at(round(float(beat) * resolution)))
        midi.time_signature_changes.append(TimeSignature(int(upper), int(lower), at))
    for number, drum, members in instruments_of(notes, program):
        instrument = Instrument(number, is_drum=drum)
        columns = (notes.velocity, notes.pitch, notes.start, notes.end)
        rows = zip(*(column[members].tolist() for column in columns), strict=True)
        instrument.notes = [Note(*row) for row in rows]
        midi.instruments.append(instrument)
    return midi
