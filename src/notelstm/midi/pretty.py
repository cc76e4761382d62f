"""pretty_midi, the reference reader: the only module that touches the untyped package."""

from __future__ import annotations

import io
import logging
import numbers
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import MidiError
from notelstm.midi.parsing import MOST_METER_POWER, decode_text
from notelstm.midi.pedal import SUSTAIN, extend
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.programs import instruments_of
from notelstm.midi.report import ReadReport, RepairLog, TrackInfo
from notelstm.midi.selection import RawNotes, refuse, select
from notelstm.midi.ticks import LAST_TICK, TickMap, fine_resolution
from notelstm.notes import BeatMap, Notes

__all__ = ["PrettyMidiReader", "from_pretty_midi", "from_pretty_midi_with_report", "to_pretty_midi"]

_log = logging.getLogger(__name__)

_NAME: Final = "pretty-midi"
_NO_MEANS: Final = (
    ("overlaps", "fifo"),
    ("overlaps", "merge"),
    ("hanging", "end"),
    ("velocity_zero", "note"),
    ("tempos", "all"),
    ("on_error", "skip"),
)
"""What pretty_midi settles for itself, or does not tell."""


@final
@dataclass(frozen=True, kw_only=True)
class PrettyMidiReader:
    """Reads with pretty_midi: slow, strict, and the reference for what the notes are."""

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
                raise MidiError(
                    "pretty_midi can read the file",
                    got=f"{type(error).__name__}: {error}".rstrip(": "),
                    where=where,
                    hint='read it with reader="auto", which repairs what is broken',
                ) from error
        log.warnings.extend(str(warning.message) for warning in heard)
        return select(_raw(midi, policy, log), policy, log, _NAME)


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
                "an instrument of a PrettyMIDI has a program from 0 to 127", got=f"{program!r}"
            )
        block = _block(instrument.notes)  # (N, 4)
        block = _sound(block, str(instrument.name), log)
        if policy.zero_length == "drop":
            zero += int(np.count_nonzero(block[:, 0] == block[:, 1]))
            block = block[block[:, 0] < block[:, 1]]
        if len(block):
            moves = [c for c in instrument.control_changes if c.number == SUSTAIN]
            pedals[len(tracks)] = [c.time for c in moves], [c.value for c in moves]
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
            "a PrettyMIDI's notes have start, end, pitch and velocity", got=str(error)
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


def _beats(midi: Any) -> BeatMap:
    seconds, tempi = midi.get_tempo_changes()
    last = np.append(np.diff(seconds) > 0, True)
    most = 1 << MOST_METER_POWER
    meters = [m for m in midi.time_signature_changes if m.denominator <= most]
    return BeatMap(
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

    whole = notes.beats or BeatMap()
    # At the coarsest resolution, later changes make a file that pretty_midi refuses to read.
    beats = whole.until(max(notes.seconds, float(whole.seconds_at(LAST_TICK / 480))))
    late = whole.tempi.size + whole.meter_beats.size - beats.tempi.size - beats.meter_beats.size
    if late:
        _log.warning("%d tempo or time signature changes after the end left out", late)
    end = beats.beats_at(max(notes.seconds, beats.seconds[-1]))
    resolution = fine_resolution(max(float(end), beats.meter_beats.max(initial=0.0)))
    ticks = TickMap.from_beats(resolution, beats)
    midi = PrettyMIDI(resolution=resolution)
    midi._tick_scales = list(zip(ticks.ticks.tolist(), ticks.scales.tolist(), strict=True))
    midi._update_tick_to_time(int(ticks.ticks_at(notes.seconds)))
    for beat, upper, lower in zip(
        beats.meter_beats, beats.numerators, beats.denominators, strict=True
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
