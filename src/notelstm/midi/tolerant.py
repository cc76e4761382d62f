"""The tolerant reader: it reads every note of a damaged file that can be saved, with a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.chunks import Chunk, find_chunks, undo_text_mode
from notelstm.midi.pairing import MergedEvents, Paired, match_note_offs, merge_chunks
from notelstm.midi.parsing import Events, parse
from notelstm.midi.pedal import extend, pedals_of
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import RawNotes, ReadReport, RepairLog, TrackInfo, select
from notelstm.midi.salvage import Budget
from notelstm.midi.ticks import Marks, TickMap, merge_marks
from notelstm.notes import Notes, TempoMap

__all__ = ["PairedChunk", "ParsedFile", "TolerantReader", "parse_file"]

_NAME: Final = "tolerant"
_DAY: Final = 86400.0


@final
@dataclass(frozen=True, kw_only=True)
class TolerantReader:
    """Reads damaged files too, supports every policy and reports every repair."""

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        """Read a file, as :meth:`notelstm.midi.Reader.read` describes.

        Raises:
            NoNotesError: If no notes are left under the policy.
            MidiError: If this is no MIDI file, or has a fault, under ``on_error="raise"``.
        """
        log = RepairLog(policy.on_error, where)
        file = parse_file(data, policy, log)
        return select(_raw_notes(file, policy, log), policy, log, _NAME)


class PairedChunk(NamedTuple):
    """One track chunk, its events, alone and merged with those of others, and its notes."""

    chunk: Chunk
    events: Events
    merged: MergedEvents
    paired: Paired


class ParsedFile(NamedTuple):
    """The events of a file.

    Attributes:
        resolution: Ticks per beat; with time code, where a tick is a fixed time, at 120 beats per
            minute.
        time_code: Whether its times are time code.
        chunks: Its track chunks.
        events: The events of each.
    """

    resolution: float
    time_code: bool
    chunks: tuple[Chunk, ...]
    events: tuple[Events, ...]

    def times(self, policy: ReadPolicy, log: RepairLog) -> tuple[TickMap, TempoMap]:
        """The tick map, without tempos in the case of time code, and the tempo map."""
        marks = [Marks(() if self.time_code else e.tempos, e.time_signatures) for e in self.events]
        return merge_marks(self.resolution, marks, policy, log)

    def paired(self, policy: ReadPolicy) -> tuple[PairedChunk, ...]:
        """The notes of each chunk."""
        return tuple(
            PairedChunk(chunk, events, merged, match_note_offs(events, merged, policy))
            for chunk, events, merged in zip(
                self.chunks, self.events, merge_chunks(self.events), strict=True
            )
        )


def parse_file(data: bytes, policy: ReadPolicy, log: RepairLog) -> ParsedFile:
    """Parse the events of a file, however damaged; `log` receives the faults.

    Raises:
        MidiError: If this is no MIDI file, or has a fault, under ``on_error="raise"``.
    """
    data = undo_text_mode(data, log)
    layout = find_chunks(data, log)
    per_second = layout.ticks_per_second
    resolution = float(layout.ticks_per_beat or 0) if per_second is None else per_second / 2
    longest = max(policy.max_seconds, _DAY)
    budget = Budget(longest * 2 * resolution)
    events = tuple(parse(data, chunk, log, budget) for chunk in layout.chunks)
    file = ParsedFile(resolution, per_second is not None, layout.chunks, events)
    if any(chunk.waits for chunk in events):
        _remove_waits(file, longest, log)
    return file


def _remove_waits(file: ParsedFile, longest: float, log: RepairLog) -> None:
    """Remove waits of more than `longest` seconds, so that later notes are not lost."""
    ticks, _ = file.times(ReadPolicy(tempos="all"), log)
    for chunk, events in zip(file.chunks, file.events, strict=True):
        if not events.waits:
            continue
        begin, length, _ = np.array(events.waits, dtype=np.int64).T
        seconds = ticks.seconds_at(begin + length) - ticks.seconds_at(begin)
        absurd = np.flatnonzero(seconds > longest).tolist()
        for index in absurd:
            message = f"a wait of {seconds[index]:.0f} s is removed"
            byte = events.waits[index].byte
            log.add("absurd-delta", message, byte=byte, chunk=chunk.number)
        if absurd:
            events.shorten([events.waits[index] for index in absurd])


def _raw_notes(file: ParsedFile, policy: ReadPolicy, log: RepairLog) -> RawNotes:
    """The notes of all chunks in seconds, track after track."""
    ticks, tempo_map = file.times(policy, log)
    last = 0
    tracks: list[TrackInfo] = []
    columns: list[tuple[NDArray[np.int64], ...]] = [(np.zeros(0, dtype=np.int64),) * 7]
    left_out = {"zero_length": 0, "hanging": 0, "on_error": 0}
    for chunk, events, _, paired in file.paired(policy):
        if policy.on_error == "skip" and chunk.number in log.chunks:
            left_out["on_error"] += len(paired.start)
            continue
        last = max(last, events.tick)
        left_out["zero_length"] += paired.zero_length
        left_out["hanging"] += paired.hanging
        for channel in sorted(paired.conflicts):
            log.warn(
                f"channel {channel + 1} has several programs on one tick; "
                f"track chunk {chunk.number} uses its own"
            )
        channels = np.array([voice.channel for voice in paired.voices], dtype=np.int64)
        pedal = events.port << 4 | channels[paired.voice]
        order = np.argsort(paired.voice, kind="stable")
        by_voice = (*paired[:4], paired.voice + len(tracks), paired.order, pedal)
        columns.append(tuple(column[order] for column in by_voice))
        counts = np.bincount(paired.voice, minlength=len(paired.voices)).tolist()
        for voice, count in zip(paired.voices, counts, strict=True):
            number, place = len(tracks), chunk.number
            tracks.append(TrackInfo(number=number, notes=count, chunk=place, **voice._asdict()))
    start, end, pitch, velocity, track, order, pedal = (
        np.concatenate(c) for c in zip(*columns, strict=True)
    )
    if policy.pedal == "extend":
        end = extend(start, end, pitch, pedal, pedals_of(file.events), order)
    return RawNotes(
        start=ticks.seconds_at(start),
        end=ticks.seconds_at(end),
        pitch=pitch,
        velocity=velocity,
        track=track,
        tracks=tuple(tracks),
        tempo_map=tempo_map,
        left_out={setting: count for setting, count in left_out.items() if count},
        length=float(ticks.seconds_at(last)) if policy.silence == "keep" else None,
    )
