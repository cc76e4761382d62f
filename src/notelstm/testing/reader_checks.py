"""``check_reader``: the contract of :class:`notelstm.midi.Reader`, clause by clause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm import plugins
from notelstm.errors import MidiError, NoNotesError
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.reading import Reader
from notelstm.midi.report import ReadReport
from notelstm.notes import Notes, TempoMap
from notelstm.testing.clauses import require, run
from notelstm.testing.midi_files import FILES, KnownFile, midi_bytes

__all__ = ["ReaderCase", "check_reader"]

_SAME: Final = 1e-6
_TIMES: Final = (0.0, 0.5, 1.0, 2.0)
"""Seconds whose beats are compared; tempos change between them."""
_WHERE: Final = "a file.mid"


@final
@dataclass(frozen=True)
class ReaderCase:
    """The arguments of :func:`check_reader`."""

    reader: Reader
    files: Mapping[str, bytes]
    entry_point: bool

    def read(self, data: bytes, policy: ReadPolicy | None = None) -> tuple[Notes, ReadReport]:
        """The notes and the report, with the default policy or another."""
        return self.reader.read(data, policy or ReadPolicy(), _WHERE)

    @property
    def healthy(self) -> dict[str, bytes]:
        """Every file that can be read with the default policy."""
        own = {known.name: known.data for known in FILES if not known.policy}
        return {**own, **self.files}


def check_reader(
    reader: Reader, *, files: Mapping[str, bytes] | None = None, entry_point: bool = True
) -> None:
    """Check that a reader keeps the contract.

    Args:
        reader: The reader.
        files: More files that it can read with the default policy, by name.
        entry_point: Whether it has an entry point, so that it can be found by name.

    Raises:
        AssertionError: At the first broken clause, with its name.

    Example:
        >>> from notelstm.midi.pretty_midi_reader import PrettyMidiReader
        >>> check_reader(PrettyMidiReader())
    """
    run("check_reader", READER_CLAUSES, ReaderCase(reader, files or {}, entry_point))


def _require_notes(got: Notes, known: KnownFile) -> None:
    what, want = f"{known.name}, {known.policy or 'default policy'}", known.notes
    require(len(got) == len(want), f"{what}: {len(got)} notes, not {len(want)}.")
    for name, tolerance in (("pitch", 0.0), ("velocity", 0.0), ("start", _SAME), ("end", _SAME)):
        a, b = getattr(got, name), getattr(want, name)
        near = np.allclose(a, b, rtol=0, atol=tolerance)
        require(near, f"{what}: {name} is {a.tolist()}, not {b.tolist()}.")
    off = abs(got.end_time - want.end_time)
    require(off <= _SAME, f"{what}: the piece ends at {got.end_time} s, not {want.end_time} s.")
    for name in ("program", "drum", "track"):
        require(getattr(got, name) is not None, f"{what}: the notes have no column {name}.")
    for name in ("program", "drum"):
        a, b = getattr(got, name), getattr(want, name)
        require(np.array_equal(a, b), f"{what}: {name} is {a.tolist()}, not {b.tolist()}.")
    names, wanted = _names_of_tracks(got), _names_of_tracks(want)
    require(names == wanted, f"{what}: the notes are of the tracks {names}, not {wanted}.")
    require(got.tempo_map is not None, f"{what}: there is no tempo map.")
    a, b = _beats(got), _beats(want)
    near = np.allclose(a, b, rtol=0, atol=_SAME)
    require(near, f"{what}: the beats at {_TIMES} s are {a.tolist()}, not {b.tolist()}.")


def _names_of_tracks(notes: Notes) -> list[str]:
    """The name of the track of each note; none of a track without a name."""
    names = notes.track_names or ()
    tracks = [] if notes.track is None else notes.track.tolist()
    return [names[track] if track < len(names) else "" for track in tracks]


def _beats(notes: Notes) -> NDArray[np.float64]:
    """The beats at some times."""
    beats = notes.tempo_map or TempoMap()
    return np.asarray(beats.beats_at(_TIMES))


def _the_default_policy_is_served(case: ReaderCase) -> None:
    """With the default policy the notes, their instruments and the tempos are those of the file."""
    for known in FILES:
        if not known.policy:
            _require_notes(case.read(known.data)[0], known)


def _a_policy_is_served_or_refused(case: ReaderCase) -> None:
    """With any other policy the notes are the documented ones, or a MidiError has the reason."""
    for known in FILES:
        try:
            notes, _ = case.read(known.data, ReadPolicy(**known.policy))
        except NoNotesError:
            raise
        except MidiError as error:
            require(error.problem, f"{known.policy}: the error has no reason.")
        else:
            _require_notes(notes, known)


def _the_report_agrees(case: ReaderCase) -> None:
    """The report has the file, the reader and the notes, and no repairs of a valid file."""
    for name, data in case.healthy.items():
        notes, report = case.read(data)
        require(len(notes) > 0, f"{name}: no notes, and no NoNotesError.")
        require(report.source == _WHERE, f"{name}: source {report.source!r}.")
        require(report.reader, f"{name}: no reader.")
        require(report.notes == len(notes), f"{name}: {report.notes} of {len(notes)} notes.")
        off = abs(report.seconds - notes.end_time)
        require(off <= _SAME, f"{name}: {report.seconds} s instead of {notes.end_time}.")
        require(report.healthy, f"{name}: {report.repairs[:1]}.")
        total = sum(track.notes for track in report.tracks)
        require(total >= len(notes), f"{name}: the tracks have {total} of {len(notes)} notes.")


def _reading_is_repeatable(case: ReaderCase) -> None:
    """The same bytes have the same notes."""
    for name, data in case.healthy.items():
        same = case.read(data)[0] == case.read(data)[0]
        require(same, f"{name}: the second notes differ.")


def _no_notes_is_an_error(case: ReaderCase) -> None:
    """A file without notes under the policy raises a NoNotesError with its name."""
    drums = midi_bytes([(0, bytes((0x99, 36, 100))), (480, bytes((0x89, 36, 0)))])
    for name, data in (("a file without notes", midi_bytes([])), ("only drums", drums)):
        try:
            case.read(data)
        except NoNotesError as error:
            require(_WHERE in error.where, f"{name}: the place of the error is {error.where!r}.")
        else:
            raise AssertionError(f"{name} was read.")


def _what_is_broken_is_a_midi_error(case: ReaderCase) -> None:
    """Damaged files are read, or raise a MidiError."""
    broken = {"nothing": b"", "text": b"not music", "a header": b"MThd", "zeros": bytes(64)}
    rng = np.random.default_rng(0)
    for name, data in case.healthy.items():
        for at in rng.integers(0, len(data), size=20).tolist():
            damaged = bytearray(data)
            damaged[at] = int(rng.integers(256))
            broken[f"{name}, cut at byte {at}"] = data[:at]
            broken[f"{name}, byte {at} changed"] = bytes(damaged)
    for name, data in broken.items():
        try:
            case.read(data)
        except MidiError as error:
            require(_WHERE in error.where, f"{name}: the place of the error is {error.where!r}.")
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error


def _it_is_found_by_name(case: ReaderCase) -> None:
    """Its entry point builds it without settings."""
    if case.entry_point:
        saved = plugins.describe(case.reader)
        rebuilt = plugins.find("readers", saved["name"]).load()()
        require(type(rebuilt) is type(case.reader), f"{saved['name']!r} is another reader.")


READER_CLAUSES = (
    _the_default_policy_is_served,
    _a_policy_is_served_or_refused,
    _the_report_agrees,
    _reading_is_repeatable,
    _no_notes_is_an_error,
    _what_is_broken_is_a_midi_error,
    _it_is_found_by_name,
)
