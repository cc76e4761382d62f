"""One broken reader for each clause of check_reader: the clause catches it, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from notelstm.errors import MidiError, NoNotesError
from notelstm.midi.policy import ReadPolicy
from notelstm.midi.pretty_midi_reader import PrettyMidiReader
from notelstm.midi.reading import Reader
from notelstm.midi.report import ReadReport
from notelstm.notes import Notes, TempoMap
from notelstm.testing import check_reader
from notelstm.testing.reader_checks import READER_CLAUSES


class Good:
    """A good reader, to be broken in one place."""

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        return PrettyMidiReader().read(data, policy, where)


class AnOctaveHigh(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return Notes(start=notes.start, end=notes.end, pitch=notes.pitch + 12), report


class DropsInstruments(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return replace(notes, program=None, drum=None), report


class AnotherProgram(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return replace(notes, program=np.zeros(len(notes), dtype=np.int64)), report


class DropsTracks(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return replace(notes, track_names=None), report


class DropsTempos(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return replace(notes, tempo_map=None), report


class OneTempo(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return replace(notes, tempo_map=TempoMap()), report


class IgnoresThePolicy(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        return super().read(data, ReadPolicy(), where)


class MiscountsNotes(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return notes, replace(report, notes=report.notes + 1)


class ForgetsTheFile(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return notes, replace(report, source="")


class MendsWhatIsWhole(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        notes, report = super().read(data, policy, where)
        return notes, replace(report, repairs_total=1)


class ALittleLater(Good):
    def __init__(self) -> None:
        self.times = 0

    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        self.times += 1
        notes, report = super().read(data, policy, where)
        return notes.shifted(1e-9 * self.times), report


class GivesNoNotes(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        try:
            return super().read(data, policy, where)
        except NoNotesError:
            return Notes.empty(), ReadReport(source=where, reader="good")


class NoNotesAnywhere(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        try:
            return super().read(data, policy, where)
        except NoNotesError as error:
            raise NoNotesError(error.problem) from error


class ForeignErrors(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        try:
            return super().read(data, policy, where)
        except MidiError as error:
            raise error.__cause__ or error from None


class NoPlace(Good):
    def read(self, data: bytes, policy: ReadPolicy, where: str) -> tuple[Notes, ReadReport]:
        try:
            return super().read(data, policy, where)
        except NoNotesError:
            raise
        except MidiError as error:
            raise MidiError(error.problem) from error


BROKEN: list[tuple[str, Callable[[], Reader], bool]] = [
    ("the_default_policy_is_served", AnOctaveHigh, False),
    *(
        ("the_default_policy_is_served", broken, False)
        for broken in (DropsInstruments, AnotherProgram, DropsTracks, DropsTempos, OneTempo)
    ),
    ("a_policy_is_served_or_refused", IgnoresThePolicy, False),
    ("the_report_agrees", MiscountsNotes, False),
    ("the_report_agrees", ForgetsTheFile, False),
    ("the_report_agrees", MendsWhatIsWhole, False),
    ("reading_is_repeatable", ALittleLater, False),
    ("no_notes_is_an_error", GivesNoNotes, False),
    ("no_notes_is_an_error", NoNotesAnywhere, False),
    ("what_is_broken_is_a_midi_error", ForeignErrors, False),
    ("what_is_broken_is_a_midi_error", NoPlace, False),
    ("it_is_found_by_name", Good, True),
]


@pytest.mark.parametrize(("clause", "broken", "entry_point"), BROKEN)
def test_the_clause_bites(clause: str, broken: Callable[[], Reader], entry_point: bool) -> None:
    with pytest.raises(AssertionError, match=f"^check_reader, {clause}: "):
        check_reader(broken(), entry_point=entry_point)


def test_the_unbroken_one_passes() -> None:
    check_reader(Good(), entry_point=False)


def test_every_clause_has_a_broken_reader() -> None:
    names = {clause.__name__.lstrip("_") for clause in READER_CLAUSES}
    assert names == {clause for clause, _, _ in BROKEN}
