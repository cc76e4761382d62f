"""The tolerant reader: whatever notes a file has, with a report of all that was broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.midi.chunks import Chunk, Layout, lay_out
from notelstm.midi.pairing import DRUM_CHANNEL, Paired, Voice, pair
from notelstm.midi.parsing import Events, parse
from notelstm.midi.pedal import SUSTAIN, extend
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.report import ReadReport, RepairLog, TrackInfo
from notelstm.midi.salvage import Budget
from notelstm.midi.selection import RawNotes, select
from notelstm.midi.ticks import TickMap
from notelstm.notes import BeatMap, Notes

__all__ = ["TolerantReader"]

_NAME: Final = "tolerant"


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
        layout = lay_out(data, log)
        budget = Budget()
        chunks = [(chunk, parse(data, chunk, log, budget)) for chunk in layout.chunks]
        ticks, beats = _times(layout, [events for _, events in chunks], policy)
        raw = _gather(chunks, ticks, beats, policy, log)
        return select(raw, policy, log, _NAME)


def _times(layout: Layout, chunks: Sequence[Events], policy: ReadPolicy) -> tuple[TickMap, BeatMap]:
    """The file's tick map and beat map."""
    speaking = chunks if policy.tempos == "all" else chunks[:1]
    tempos = sorted((tempo for events in speaking for tempo in events.tempos), key=lambda t: t[0])
    meters = sorted((meter for events in speaking for meter in events.meters), key=lambda m: m[0])
    if layout.ticks_per_second is not None:
        # By time code a tick is a fixed time, whatever the tempo: 120 beats a minute will do.
        ticks = TickMap.from_tempos(layout.ticks_per_second / 2)
    else:
        ticks = TickMap.from_tempos(
            float(layout.ticks_per_beat or 0), [t for t, _ in tempos], [m for _, m in tempos]
        )
    columns = list(zip(*meters, strict=True)) or [(), (), ()]
    return ticks, ticks.beat_map(*columns)


def _gather(
    chunks: Sequence[tuple[Chunk, Events]],
    ticks: TickMap,
    beats: BeatMap,
    policy: ReadPolicy,
    log: RepairLog,
) -> RawNotes:
    """The notes of all chunks in seconds, track after track."""
    tracks: list[TrackInfo] = []
    columns: list[tuple[NDArray[np.int64], ...]] = [(np.zeros(0, dtype=np.int64),) * 5]
    left_out = {"zero_length": 0, "hanging": 0, "on_error": 0}
    for chunk, events in chunks:
        paired = pair(events, policy)
        if policy.on_error == "skip" and chunk.number in log.chunks:
            left_out["on_error"] += len(paired.start)
            continue
        left_out["zero_length"] += paired.zero_length
        left_out["hanging"] += paired.hanging
        end = _held(paired, events) if policy.pedal == "extend" else paired.end
        order = np.argsort(paired.voice, kind="stable")
        by_voice = (paired.start, end, paired.pitch, paired.velocity, paired.voice + len(tracks))
        columns.append(tuple(column[order] for column in by_voice))
        counts = np.bincount(paired.voice, minlength=len(paired.voices)).tolist()
        for voice, count in zip(paired.voices, counts, strict=True):
            tracks.append(_track(len(tracks), voice, count, chunk.number))
    start, end, pitch, velocity, track = (np.concatenate(c) for c in zip(*columns, strict=True))
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
        drum=voice.channel == DRUM_CHANNEL,
        notes=notes,
        chunk=chunk,
        channel=voice.channel,
    )


def _held(paired: Paired, events: Events) -> NDArray[np.int64]:
    """The ends of a chunk's notes under the sustain pedals of its channels."""
    codes = np.array(events.codes, dtype=np.int64)
    at = np.array(events.ticks, dtype=np.int64)
    pedals = {}
    for channel in range(16):
        moved = np.flatnonzero(codes >> 8 == (0xB0 | channel) << 8 | SUSTAIN)
        if moved.size:
            pedals[channel] = at[moved], codes[moved] & 0x7F
    channels = np.array([voice.channel for voice in paired.voices], dtype=np.int64)
    return extend(paired.start, paired.end, paired.pitch, channels[paired.voice], pedals)
