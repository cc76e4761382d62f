"""pretty_midi, the reference reader: the only module that touches the untyped package."""

from __future__ import annotations

import io
import logging
import numbers
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import MidiError, counted
from notelstm.midi.pairing import MergedEvents, match_note_offs
from notelstm.midi.parsing import (
    ALL_SOUND_OFF,
    DRUM_CHANNEL,
    MAX_DENOMINATOR_POWER,
    RESET_CONTROLLERS,
    SUSTAIN,
    decode_text,
)
from notelstm.midi.pedal import Pedal, extend, is_order_needed, pedals_of
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import RawNotes, ReadReport, RepairLog, TrackInfo, refuse, select
from notelstm.midi.ticks import LAST_TICK, TickMap, fine_resolution
from notelstm.midi.tolerant import PairedChunk, ParsedFile, parse_file
from notelstm.midi.writing import instruments_of, tempo_map_to_write
from notelstm.notes import Notes, TempoMap

__all__ = ["PrettyMidiReader", "from_pretty_midi", "from_pretty_midi_with_report", "to_pretty_midi"]

_log = logging.getLogger(__name__)

_NAME: Final = "pretty-midi"
_UNSUPPORTED: Final = (
    ("overlaps", "fifo"),
    ("overlaps", "merge"),
    ("hanging", "end"),
    ("velocity_zero", "note"),
    ("on_error", "skip"),
)
"""Settings that a ``PrettyMIDI`` leaves no choice of."""


@final
@dataclass(frozen=True, kw_only=True)
class PrettyMidiReader:
    """Reads with pretty_midi: slow and strict, and the reference for the notes of a file.

    Files that pretty_midi loads but reads differently from players are refused.
    """

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        """Read a file, as :meth:`notelstm.midi.Reader.read` describes.

        Raises:
            NoNotesError: If no notes are left under the policy.
            MidiError: If pretty_midi cannot read the file or does not support the policy.
        """
        refuse(_NAME, policy, [*_UNSUPPORTED, ("zero_length", "keep")])
        from pretty_midi import PrettyMIDI

        log = RepairLog(policy.on_error, where)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                midi = PrettyMIDI(io.BytesIO(data))
            except Exception as error:  # it raises errors of a dozen kinds
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                raise MidiError(
                    f"pretty_midi cannot read the file: {reason}",
                    where=where,
                    hint='read it with reader="auto", which repairs faults',
                ) from error
        length, left_out = _check(data, policy, log)
        for warning in caught:
            log.warn(str(warning.message))
        raw = replace(_raw_notes(midi, policy, log), length=length, left_out=left_out)
        return select(raw, policy, log, _NAME)


def _check(data: bytes, policy: ReadPolicy, log: RepairLog) -> tuple[float | None, dict[str, int]]:
    """Refuse a file that pretty_midi reads differently from other readers; warn of tempos.

    Returns:
        What pretty_midi does not keep: the length of the file, if the policy keeps silence, and
        the number of notes that it leaves out, by setting.
    """
    faults = RepairLog("repair", log.where)
    file = parse_file(data, policy, faults)
    chunks = file.paired(policy)
    if faults.total:
        reason = f"it is damaged, {faults.repairs[0].rule}"
    else:
        reason = next(_differences(file, chunks, policy), "")
    if reason:
        raise MidiError(
            f"pretty_midi misreads the file: {reason}",
            where=log.where,
            hint='read it with reader="auto"',
        )
    counts = {
        name: sum(getattr(chunk.paired, name) for chunk in chunks)
        for name in ("zero_length", "hanging")
    }
    left_out = {name: count for name, count in counts.items() if count}
    ticks, _ = file.times(policy, log)
    if policy.silence == "drop":
        return None, left_out
    last = max((events.tick for events in file.events), default=0)
    return float(ticks.seconds_at(last)), left_out


def _differences(
    file: ParsedFile, chunks: Sequence[PairedChunk], policy: ReadPolicy
) -> Iterator[str]:
    """The features of the file that pretty_midi reads differently."""
    if file.time_code:
        yield "its times are time code"
    elsewhere = any(events.tempos or events.time_signatures for events in file.events[1:])
    if policy.tempos == "all" and elsewhere:
        yield "tempo or time signature changes outside of the first chunk"
    if any(events.unknown_metas for events in file.events):
        yield "meta events of an unknown kind, whose waits it ignores"
    if not all(_is_independent(chunk, policy) for chunk in chunks):
        yield "programs or controllers in another chunk than their notes"
    if any(chunk.paired.changed for chunk in chunks):
        yield "a program that changes while a note sounds"
    if any(chunk.paired.silenced for chunk in chunks):
        yield "a message that ends all notes of a channel while some sound"
    voices = [voice for chunk in chunks for voice in chunk.paired.voices]
    if any(voice.drum != (voice.channel == DRUM_CHANNEL) for voice in voices):
        yield "percussion on another channel than 10, or none on it"
    if policy.pedal == "extend":
        yield from _pedal_differences(chunks)


def _is_independent(chunk: PairedChunk, policy: ReadPolicy) -> bool:
    """Whether a chunk has the same notes without the events of other chunks."""
    if not chunk.merged.shared:
        return True
    events = chunk.events
    alone = MergedEvents(events.ticks, events.codes, range(len(events.ticks)), 0, shared=False)
    one, two = chunk.paired, match_note_offs(events, alone, policy)
    return one.voices == two.voices and all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("voice", "start", "end")
    )


def _pedal_differences(chunks: Sequence[PairedChunk]) -> Iterator[str]:
    """How pedals differ in pretty_midi, where they belong to instruments."""
    for key, pedal in pedals_of([chunk.events for chunk in chunks]).items():
        status = 0xB0 | key & 0xF
        ends, controllers, instruments = [], set(), 0
        for chunk in chunks:
            if chunk.events.port != key >> 4:
                continue
            mine = [n for n, v in enumerate(chunk.paired.voices) if v.channel == key & 0xF]
            moves = {code >> 8 & 0x7F for code in chunk.events.codes if code >> 16 == status}
            controllers |= moves
            ends.append(chunk.paired.end[np.isin(chunk.paired.voice, mine)])
            instruments += max(len(mine), bool(moves))
        if instruments > 1 or not controllers.isdisjoint((ALL_SOUND_OFF, RESET_CONTROLLERS)):
            yield "a pedal that holds several instruments, or is reset"
        if is_order_needed(np.concatenate(ends), pedal):
            yield "a pedal that is moved as a note ends"


def from_pretty_midi(midi: Any, policy: ReadPolicy | None = None) -> Notes:
    """The notes of a ``PrettyMIDI``, as :func:`from_pretty_midi_with_report` reads them."""
    return from_pretty_midi_with_report(midi, policy)[0]


def from_pretty_midi_with_report(
    midi: Any, policy: ReadPolicy | None = None
) -> tuple[Notes, ReadReport]:
    """The notes of a ``PrettyMIDI``, sorted by start, at least one; and the report.

    Raises:
        NoNotesError: If no notes are left under the policy.
        MidiError: If the policy is not supported, or a note is invalid under
            ``on_error="raise"``.
    """
    policy = ReadPolicy() if policy is None else policy
    refuse(_NAME, policy, [*_UNSUPPORTED, ("silence", "keep")])
    log = RepairLog(policy.on_error, "PrettyMIDI")
    return select(_raw_notes(midi, policy, log), policy, log, _NAME)


def _raw_notes(midi: Any, policy: ReadPolicy, log: RepairLog) -> RawNotes:
    """All notes of a ``PrettyMIDI``; invalid ones are repaired or left out."""
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
        name = str(instrument.name)
        block = _valid(_block(instrument.notes), name, log)  # (N, 4)
        if policy.zero_length == "drop":
            zero += int(np.count_nonzero(block[:, 0] == block[:, 1]))
            block = block[block[:, 0] < block[:, 1]]
        if len(block):
            moves = [c for c in instrument.control_changes if c.number == SUSTAIN]
            moves.sort(key=lambda move: move.time)
            pedals[len(tracks)] = Pedal([c.time for c in moves], [c.value for c in moves])
            tracks.append(
                TrackInfo(
                    number=len(tracks),
                    name=_decoded(name),
                    program=int(program),
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
        tempo_map=_tempo_map(midi),
        left_out={"zero_length": zero} if zero else {},
    )


def _decoded(name: str) -> str:
    """A name, which pretty_midi always decodes as Latin-1, decoded as in other readers."""
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


def _valid(block: NDArray[np.float64], name: str, log: RepairLog) -> NDArray[np.float64]:
    """The valid notes, negative starts moved to 0; those of a file always are."""
    start, end, pitch, velocity = block.T
    whole = np.all(np.isfinite(block), axis=1) & (pitch % 1 == 0) & (velocity % 1 == 0)
    in_range = (pitch >= 0) & (pitch <= 127) & (velocity >= 1) & (velocity <= 127)
    good = whole & in_range & (end >= np.maximum(start, 0))
    if not good.all():
        lost = int(np.count_nonzero(~good))
        log.add("impossible-note", f"{lost} invalid notes of track {name!r} left out", lost=lost)
    block = block[good]
    if len(block) and block[:, 0].min() < 0:
        log.add("negative-time", f"starts before 0 in track {name!r} moved to 0")
        block[:, 0] = np.maximum(block[:, 0], 0)
    return block


def _tempo_map(midi: Any) -> TempoMap:
    seconds, tempos = midi.get_tempo_changes()
    last = np.append(np.diff(seconds) > 0, True)
    most = 1 << MAX_DENOMINATOR_POWER
    time_signatures = [m for m in midi.time_signature_changes if m.denominator <= most]
    time_signatures.sort(key=lambda signature: signature.time)
    return TempoMap(
        seconds=seconds[last],
        tempos=tempos[last],
        time_signature_beats=[midi.time_to_tick(m.time) / midi.resolution for m in time_signatures],
        numerators=[m.numerator for m in time_signatures],
        denominators=[m.denominator for m in time_signatures],
    )


def to_pretty_midi(notes: Notes, *, program: str | int | None = None) -> Any:
    """Notes as a ``PrettyMIDI``, times unrounded.

    Args:
        notes: The piece.
        program: General MIDI name or number for all notes but percussion; None for the notes' own
            programs, or "Acoustic Grand Piano" if they have none.

    Returns:
        The ``PrettyMIDI``: an instrument for each track and program, the tempo and time signature
        map to the nearest tick.

    Raises:
        MidiError: If there is no such program, or a MIDI file cannot hold a tempo.
    """
    from pretty_midi import Instrument, Note, PrettyMIDI, TimeSignature

    whole = tempo_map_to_write(notes)
    # Even at the coarsest resolution, pretty_midi refuses files with later changes.
    tempo_map = whole.until(max(notes.end_time, float(whole.seconds_at(LAST_TICK / 480))))
    late = whole.num_changes - tempo_map.num_changes
    if late:
        changes = counted(late, "tempo or time signature change")
        _log.warning("%s after the end left out", changes)
    end = tempo_map.beats_at(max(notes.end_time, tempo_map.seconds[-1]))
    starts = tempo_map.time_signature_beats
    resolution = fine_resolution(max(float(end), starts.max(initial=0.0)))
    ticks = TickMap.from_tempo_map(resolution, tempo_map)
    midi = PrettyMIDI(resolution=resolution)
    midi._tick_scales = list(zip(ticks.ticks.tolist(), ticks.scales.tolist(), strict=True))
    midi._update_tick_to_time(int(ticks.ticks_at(notes.end_time)))
    for beat, upper, lower in zip(
        starts, tempo_map.numerators, tempo_map.denominators, strict=True
    ):
        at = float(ticks.seconds_at(round(float(beat) * resolution)))
        midi.time_signature_changes.append(TimeSignature(int(upper), int(lower), at))
    for number, drum, members, name in instruments_of(notes, program):
        # pretty_midi reads and writes names as Latin-1; in files they are UTF-8.
        latin = name.encode("utf-8", "replace").decode("latin-1")
        instrument = Instrument(number, is_drum=drum, name=latin)
        columns = (notes.velocity, notes.pitch, notes.start, notes.end)
        rows = zip(*(column[members].tolist() for column in columns), strict=True)
        instrument.notes = [Note(*row) for row in rows]
        midi.instruments.append(instrument)
    return midi
