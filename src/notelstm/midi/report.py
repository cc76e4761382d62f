"""The notes of a file that a policy reads, and ``ReadReport``: its tracks, repairs and losses."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from notelstm.errors import MidiError, NoNotesError, counted
from notelstm.midi.policy import OnError, ReadPolicy, SimultaneousOrder
from notelstm.notes import Notes, TempoMap

__all__ = [
    "MAX_REPAIRS",
    "RawNotes",
    "ReadReport",
    "Repair",
    "RepairLog",
    "TrackInfo",
    "refuse",
    "select",
]

_LOG: Final = logging.getLogger(__name__)

MAX_REPAIRS: Final = 1000
"""The repairs that a report lists; all are counted."""


@final
@dataclass(frozen=True, kw_only=True)
class Repair:
    """One repaired fault.

    Attributes:
        rule: The kind of fault, for example ``"truncated-track"``.
        message: The fault and its repair.
        byte: The position in the file, from 0, or None where it is not known.
        chunk: The track chunk of the file, from 0, or None outside of them.
    """

    rule: str
    message: str
    byte: int | None = None
    chunk: int | None = None

    @override
    def __str__(self) -> str:
        """The fault, its repair, and the position where it is known."""
        place = [] if self.chunk is None else [f"track chunk {self.chunk}"]
        place += [] if self.byte is None else [f"byte {self.byte}"]
        return f"{self.message} ({', '.join(place)})" if place else self.message


@final
@dataclass(frozen=True, kw_only=True)
class TrackInfo:
    """One track of a file, read or not.

    Attributes:
        number: Its number among the file's tracks, from 0, as in ``Notes.track``.
        name: Its name, or "".
        program: Its General MIDI program, 0 to 127.
        drum: Whether it is percussion.
        notes: Its number of notes.
        chunk: Its track chunk, from 0, or None if the reader does not give it.
        channel: Its MIDI channel, 0 to 15, or None if the reader does not give it.
    """

    number: int
    name: str = ""
    program: int = 0
    drum: bool = False
    notes: int = 0
    chunk: int | None = None
    channel: int | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ReadReport:
    """The outcome of reading one file.

    Attributes:
        source: The file's path, or another description of the source.
        reader: The name of the reader.
        tracks: All tracks that have notes, read or not.
        notes: The number of notes that were read.
        seconds: The end of the piece, seconds from its start: the last release, or the end of a
            silence that the policy keeps.
        left_out: The number of notes that the policy left out, by setting.
        repairs: The first :data:`MAX_REPAIRS` repairs.
        repairs_total: The number of repairs.
        saved: Notes read from damaged chunks, or all where the damage is outside of them.
        lost: Notes known to be lost to damage.
        warnings: Oddities that are no damage.
    """

    source: str
    reader: str
    tracks: tuple[TrackInfo, ...] = ()
    notes: int = 0
    seconds: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)
    repairs: tuple[Repair, ...] = ()
    repairs_total: int = 0
    saved: int = 0
    lost: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing had to be repaired."""
        return self.repairs_total == 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dataclasses.asdict(self)


@final
class RepairLog:
    """Collects the repairs of a file; under ``on_error="raise"`` the first one is an error.

    Args:
        on_error: The policy's setting.
        where: The file, for messages.
    """

    def __init__(self, on_error: OnError, where: str) -> None:
        self.on_error = on_error
        self.where = where
        self.total: int = 0
        self.lost: int = 0
        self.repairs: list[Repair] = []
        self.chunks: set[int | None] = set()
        self.warnings: list[str] = []

    def warn(self, message: str, *, logged: bool = False) -> None:
        """Add a warning, of which the first :data:`MAX_REPAIRS` are kept; log it if `logged`."""
        if len(self.warnings) < MAX_REPAIRS:
            self.warnings.append(message)
        if logged:
            _LOG.warning("%s: %s", self.where, message)

    def add(
        self,
        rule: str,
        message: str,
        *,
        byte: int | None = None,
        chunk: int | None = None,
        lost: int = 0,
    ) -> None:
        """Add a :class:`Repair`, and the number of notes lost.

        Raises:
            MidiError: Under ``on_error="raise"``.
        """
        if self.on_error == "raise":
            place = [self.where]
            place += [] if chunk is None else [f"chunk {chunk}"]
            place += [] if byte is None else [f"byte {byte}"]
            raise MidiError(
                f"{rule}: {message}",
                where=", ".join(place),
                hint='read it with on_error="repair", which repairs and reports it',
            )
        self.total += 1
        self.lost += lost
        self.chunks.add(chunk)
        if len(self.repairs) < MAX_REPAIRS:
            self.repairs.append(Repair(rule=rule, message=message, byte=byte, chunk=chunk))


_LISTED_TRACKS: Final = 8
_LISTED_RULES: Final = 3
"""The tracks and kinds of repairs that an error message lists."""

_READ_BY: Final = {
    "zero_length": ("without length", 'zero_length="keep"'),
    "hanging": ("without an end", 'hanging="end"'),
    "on_error": ("in damaged chunks", 'on_error="repair"'),
}
"""The notes that a reader leaves out, and the setting that reads them."""


_COLUMNS: Final = ("start", "end", "pitch", "velocity", "track")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RawNotes:
    """All notes of a file, in the order in which its tracks end them, checked by the reader.

    The columns, (N,) each, have the ranges of :class:`~notelstm.notes.Notes`.

    Attributes:
        tracks: The tracks, each with notes.
        left_out: The number of notes that the reader left out, by setting.
        length: Seconds to the end of the last chunk, under ``silence="keep"``.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    pitch: NDArray[np.integer]
    velocity: NDArray[np.integer]
    track: NDArray[np.int64]
    tracks: tuple[TrackInfo, ...]
    tempo_map: TempoMap | None
    left_out: Mapping[str, int] = field(default_factory=dict)
    length: float | None = None

    def at(self, index: NDArray[Any]) -> RawNotes:
        """Some of the notes, by mask or numbers, and the same tracks."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return dataclasses.replace(self, **columns)


def refuse(reader: str, policy: ReadPolicy, unsupported: Iterable[tuple[str, object]]) -> None:
    """Refuse a policy with one of the settings that a reader does not support.

    Raises:
        MidiError: If the policy has one of these names and values.
    """
    for name, value in unsupported:
        if getattr(policy, name) == value:
            raise MidiError(
                f"the reader {reader!r} does not support {name}={value!r}",
                hint='use reader="auto", which supports every policy',
            )


def select(
    raw: RawNotes, policy: ReadPolicy, log: RepairLog, reader: str
) -> tuple[Notes, ReadReport]:
    """Select, order and check the notes of a file.

    Raises:
        NoNotesError: If no notes are left; it lists the tracks and the settings to read them.
        MidiError: If a time is absurd, under ``on_error="raise"``.
    """
    chosen, left_out = _choose(raw.tracks, policy)
    picked = raw
    if len(chosen) < len(raw.tracks):
        picked = raw.at(np.isin(raw.track, [track.number for track in chosen]))
    size = picked.start.size
    picked = _within(picked, policy.max_seconds, log)
    if not picked.start.size:
        raise _no_notes(raw, policy, log, late=int(size))
    cut = any(repair.rule == "truncated-track" for repair in log.repairs)
    truncated = cut or picked.start.size < size
    notes = _notes(picked, policy.simultaneous_order, truncated=truncated)
    everywhere = None in log.chunks
    damaged = [t.number for t in chosen if everywhere or t.chunk in log.chunks]
    report = ReadReport(
        source=log.where,
        reader=reader,
        tracks=raw.tracks,
        notes=len(notes),
        seconds=notes.end_time,
        left_out={**raw.left_out, **left_out},
        repairs=tuple(log.repairs),
        repairs_total=log.total,
        saved=int(np.isin(picked.track, damaged).sum()) if damaged else 0,
        lost=log.lost,
        warnings=tuple(log.warnings),
    )
    return notes, report


def _choose(
    tracks: Sequence[TrackInfo], policy: ReadPolicy
) -> tuple[Sequence[TrackInfo], dict[str, int]]:
    """The tracks that the policy reads, and the number of notes that each setting leaves out."""
    left = list(tracks)
    left_out: dict[str, int] = {}

    def keep(setting: str, kept: list[TrackInfo]) -> None:
        if len(kept) < len(left):
            left_out[setting] = sum(t.notes for t in left) - sum(t.notes for t in kept)
            left[:] = kept

    if policy.tracks != "first-instrument":
        keep("drums", [t for t in left if policy.drums or not t.drum])
        keep("names", [t for t in left if not policy.names or _named(t.name, policy.names)])
        keep("programs", [t for t in left if not policy.programs or t.program in policy.programs])
    if policy.tracks != "all":
        keep("tracks", left[:1])
    return left, left_out


def _named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


def _within(raw: RawNotes, max_seconds: float, log: RepairLog) -> RawNotes:
    """The notes that start by `max_seconds`; they and the piece end there at the latest."""
    if raw.length is not None:
        raw = dataclasses.replace(raw, length=min(raw.length, max_seconds))
    if not raw.end.size or raw.end.max() <= max_seconds:
        return raw
    keep = raw.start <= max_seconds
    lost = int(keep.size - np.count_nonzero(keep))
    log.add(
        "absurd-time",
        f"{lost} notes after {max_seconds:g} s are left out; earlier ones end there at the latest",
        lost=lost,
    )
    kept = raw.at(keep)
    np.minimum(kept.end, max_seconds, out=kept.end)
    return kept


def _notes(raw: RawNotes, order: SimultaneousOrder, *, truncated: bool) -> Notes:
    """The notes in order, with the programs and percussion of their tracks."""
    if order == "file":
        raw = raw.at(np.argsort(raw.start, kind="stable"))
    elif not _in_order(raw):
        # Velocity, end and track make the order the same for all readers.
        raw = raw.at(np.lexsort((raw.track, raw.velocity, raw.end, raw.pitch, raw.start)))
    programs = np.array([track.program for track in raw.tracks], dtype=np.int64)
    drums = np.array([track.drum for track in raw.tracks], dtype=np.bool_)
    return Notes.unchecked(
        start=raw.start,
        end=raw.end,
        pitch=raw.pitch.astype(np.int64),
        velocity=raw.velocity.astype(np.int64),
        program=programs[raw.track],
        drum=drums[raw.track],
        track=raw.track,
        tempo_map=raw.tempo_map,
        track_names=tuple(track.name for track in raw.tracks),
        truncated=truncated,
        length=raw.length if raw.length and raw.length > raw.end.max() else None,
    )


def _in_order(raw: RawNotes) -> bool:
    """Whether the notes are sorted by start and pitch, with no two equal in both."""
    start, pitch = raw.start, raw.pitch
    same = (start[1:] <= start[:-1]).nonzero()[0]
    after = same + 1
    return bool(((start[same] == start[after]) & (pitch[same] < pitch[after])).all())


def _no_notes(raw: RawNotes, policy: ReadPolicy, log: RepairLog, late: int) -> NoNotesError:
    """The error for a file without notes to read, of which `late` start after `max_seconds`."""
    tracks = raw.tracks
    found = [
        f"track {t.number} ({t.name or 'no name'}, "
        + ("drums" if t.drum else f"program {t.program}")
        + f"): {counted(t.notes, 'note')}"
        for t in tracks[:_LISTED_TRACKS]
    ]
    if len(tracks) > _LISTED_TRACKS:
        found.append(f"{counted(len(tracks) - _LISTED_TRACKS, 'more track')}")
    found += [f"{counted(n, 'note')} {_READ_BY[name][0]}" for name, n in raw.left_out.items()]
    if late:
        found.append(f"{counted(late, 'note')} after max_seconds")
    if log.total:
        rules = dict.fromkeys(repair.rule for repair in log.repairs)
        more = ", ..." if len(rules) > _LISTED_RULES else ""
        kinds = ", ".join(list(rules)[:_LISTED_RULES]) + more
        found.append(f"{counted(log.total, 'repair')} ({kinds})")
    if log.lost > late:
        found.append(f"{counted(log.lost - late, 'note')} lost to damage")
    has_notes = bool(tracks or raw.left_out)
    problem = "no notes that the policy reads" if has_notes else "no notes in the file"
    fixes = _fixes(raw, policy, late)
    return NoNotesError(
        f"{problem}; it has {'; '.join(found)}" if found else problem,
        where=log.where,
        hint=f"read it with {fixes}" if fixes else "leave this file out",
    )


def _fixes(raw: RawNotes, policy: ReadPolicy, late: int) -> str:
    """The settings that would read notes, in words; "" for none."""
    fixes = [_READ_BY[name][1] for name in raw.left_out]
    if late:
        return f"max_seconds={math.ceil(raw.start.max())}"
    looser: dict[str, Any] = {n: () for n in ("programs", "names") if getattr(policy, n)}
    if not policy.drums:
        looser["drums"] = True
    alone = {
        name: value
        for name, value in looser.items()
        if _choose(raw.tracks, dataclasses.replace(policy, **{name: value}))[0]
    }
    together = [f"{name}={value!r}" for name, value in (alone or looser).items()]
    if alone:
        return " or ".join(together + fixes)
    if raw.tracks and _choose(raw.tracks, dataclasses.replace(policy, **looser))[0]:
        fixes.insert(0, " and ".join(together))
    return " or ".join(fixes)
