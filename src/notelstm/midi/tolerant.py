"""The tolerant reader: whatever notes a file has, with a report of all that was broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.channels import Stream, merge, pedals_of
from notelstm.midi.chunks import Chunk, Layout, find_chunks, undo_text_mode
from notelstm.midi.pairing import Paired, Voice, match_note_offs
from notelstm.midi.parsing import Events, parse
from notelstm.midi.pedal import extend
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import ReadReport, RepairLog, TrackInfo
from notelstm.midi.salvage import Budget
from notelstm.midi.selection import RawNotes, select
from notelstm.midi.tempos import Marks, tempo_maps
from notelstm.midi.ticks import TickMap
from notelstm.notes import TempoMap, Notes

__all__ = ["TolerantReader", "Track", "parse_file", "times_of", "tracks_of"]

_NAME: Final = "tolerant"
_DAY: Final = 86400.0


class Track(NamedTuple):
    """One track chunk and its notes.

    Attributes:
        chunk: Where it is in the file.
        events: What it holds.
        stream: Its events among what other chunks say of its channels.
        paired: Its notes, in ticks.
    """

    chunk: Chunk
    events: Events
    stream: Stream
    paired: Paired


@final
@dataclass(frozen=True, kw_only=True)
class TolerantReader:
    """Reads damaged files too, serves every policy and reports every repair."""

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
            MidiError: If this is no MIDI file, or it is broken and the policy says to raise.
        """
        log = RepairLog(policy.on_error, where)
        layout, chunks = parse_file(data, policy, log)
        ticks, beats = times_of(layout, chunks, policy, log)
        raw = _gather(tuple(tracks_of(layout, chunks, policy)), ticks, beats, policy, log)
        return select(raw, policy, log, _NAME)


def parse_file(
    data: bytes, policy: ReadPolicy, log: RepairLog
) -> tuple[Layout, tuple[Events, ...]]:
    """Read the events of a file, however damaged.

    Args:
        data: A whole MIDI file.
        policy: How to read it.
        log: Where faults are noted.

    Returns:
        The plan of the file, and what each of its track chunks holds.

    Raises:
        MidiError: If this is no MIDI file, or it is broken and the policy says to raise.
    """
    data = undo_text_mode(data, log)
    layout = find_chunks(data, log)
    longest = max(policy.max_seconds, _DAY)
    budget = Budget(longest * 2 * _resolution(layout))
    chunks = tuple(parse(data, chunk, log, budget) for chunk in layout.chunks)
    _pass_over_waits(layout, chunks, longest, log)
    return layout, chunks


def tracks_of(layout: Layout, chunks: Sequence[Events], policy: ReadPolicy) -> Iterator[Track]:
    """Find the notes of each chunk.

    Args:
        layout: The plan of the file.
        chunks: What its chunks hold.
        policy: How to read it.
    """
    for chunk, events, stream in zip(layout.chunks, chunks, merge(chunks), strict=True):
        yield Track(chunk, events, stream, match_note_offs(events, stream, policy))


def _resolution(layout: Layout) -> float:
    """Ticks to a beat; by time code, where a tick is a fixed time, at 120 beats a minute."""
    if layout.ticks_per_second is not None:
        return layout.ticks_per_second / 2
    return float(layout.ticks_per_beat or 0)


def _marks(layout: Layout, chunks: Sequence[Events]) -> list[Marks]:
    """The tempos and metres of each chunk; by time code the tempos say nothing of the ticks."""
    timed = layout.ticks_per_second is not None
    return [Marks(() if timed else events.tempos, events.meters) for events in chunks]


def times_of(
    layout: Layout, chunks: Sequence[Events], policy: ReadPolicy, log: RepairLog
) -> tuple[TickMap, TempoMap]:
    """Find the tick map and the beat map of a file.

    Args:
        layout: The plan of the file.
        chunks: What its chunks hold.
        policy: How to read it.
        log: Where tempos that do not count are noted.
    """
    return tempo_maps(_resolution(layout), _marks(layout, chunks), policy, log)


def _pass_over_waits(
    layout: Layout, chunks: Sequence[Events], longest: float, log: RepairLog
) -> None:
    """Take out waits of more than `longest` seconds, so that what follows is not lost."""
    if not any(events.waits for events in chunks):
        return
    counted = ReadPolicy(tempos="all")
    ticks, _ = tempo_maps(_resolution(layout), _marks(layout, chunks), counted, log)
    for chunk, events in zip(layout.chunks, chunks, strict=True):
        if not events.waits:
            continue
        begin, length, _ = np.array(events.waits, dtype=np.int64).T
        seconds = ticks.seconds_at(begin + length) - ticks.seconds_at(begin)
        absurd = np.flatnonzero(seconds > longest).tolist()
        for index in absurd:
            message = f"a wait of {seconds[index]:.0f} s is passed over"
            byte = events.waits[index].byte
            log.add("absurd-delta", message, byte=byte, chunk=chunk.number)
        if absurd:
            events.shorten([events.waits[index] for index in absurd])


def _gather(
    chunks: Sequence[Track],
    ticks: TickMap,
    beats: TempoMap,
    policy: ReadPolicy,
    log: RepairLog,
) -> RawNotes:
    """The notes of all chunks in seconds, track after track."""
    tracks: list[TrackInfo] = []
    columns: list[tuple[NDArray[np.int64], ...]] = [(np.zeros(0, dtype=np.int64),) * 7]
    left_out = {"zero_length": 0, "hanging": 0, "on_error": 0}
    for chunk, events, _, paired in chunks:
        if policy.on_error == "skip" and chunk.number in log.chunks:
            left_out["on_error"] += len(paired.start)
            continue
        left_out["zero_length"] += paired.zero_length
        left_out["hanging"] += paired.hanging
        for channel in sorted(paired.shared):
            log.warn(
                f"channel {channel + 1} has several programs on one tick; "
                f"track chunk {chunk.number} keeps its own"
            )
        channels = np.array([voice.channel for voice in paired.voices], dtype=np.int64)
        pedal = events.port << 4 | channels[paired.voice]
        order = np.argsort(paired.voice, kind="stable")
        by_voice = (
            *(paired.start, paired.end, paired.pitch, paired.velocity),
            *(paired.voice + len(tracks), paired.order, pedal),
        )
        columns.append(tuple(column[order] for column in by_voice))
        counts = np.bincount(paired.voice, minlength=len(paired.voices)).tolist()
        for voice, count in zip(paired.voices, counts, strict=True):
            tracks.append(_track(len(tracks), voice, count, chunk.number))
    start, end, pitch, velocity, track, order, pedal = (
        np.concatenate(c) for c in zip(*columns, strict=True)
    )
    if policy.pedal == "extend":
        pedals = pedals_of([track.events for track in chunks])
        end = extend(start, end, pitch, pedal, pedals, order)
    return RawNotes(
        start=ticks.seconds_at(start),
        end=ticks.seconds_at(end),
        pitch=pitch,
        velocity=velocity,
        track=track,
        tracks=tuple(tracks),
        beats=beats,
        left_out={setting: count for setting, count in left_out.items() if count},
    )


def _track(number: int, voice: Voice, notes: int, chunk: int) -> TrackInfo:
    return TrackInfo(
        number=number,
        name=voice.name,
        program=voice.program,
        drum=voice.drum,
        notes=notes,
        chunk=chunk,
        channel=voice.channel,
    )
