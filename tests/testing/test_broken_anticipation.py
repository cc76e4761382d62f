"""One broken encoder for each clause of check_anticipating_encoder: the clause catches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.encoders.rows import snapped
from notelstm.fields import Field, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.testing import check_anticipating_encoder, strategies
from notelstm.testing.anticipation_checks import ANTICIPATION_CLAUSES
from notelstm.tracker import Tracker

GOOD = AnticipatingEncoder(inner=LogTimeEncoder(exact=True, linear=2.0), seconds=2.0)
PIECES = strategies.notes(longest_rest=9.0, max_seconds=60.0, max_notes=10)
ORIGIN, OFFSET = -2, -1


@dataclass(frozen=True)
class Broken:
    """A good encoder, to be broken in one place."""

    inner: AnticipatingEncoder = GOOD

    @property
    def fields(self) -> tuple[Field, ...]:
        return self.inner.fields

    @property
    def seconds(self) -> float:
        return self.inner.seconds

    def encode(self, notes: Notes) -> Rows:
        return self.inner.encode(notes)

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        return self.inner.encode_given(notes, given)

    def given_row(self, note: Note, clock: float) -> Row:
        return self.inner.given_row(note, clock)

    def decode(self, rows: Rows) -> Notes:
        return self.inner.decode(rows)

    def snapped(self, notes: Notes) -> Notes | None:
        return snapped(self.inner, notes)

    def tracker(self) -> Tracker:
        return self.inner.tracker()


class WritesGivenNotes(Broken):
    """Given notes are rows to be written: their tones are scored."""

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        return self.inner.encode(notes)


class MarksAll(Broken):
    """Even if nothing is given, the last row is."""

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        mask = np.array(given)
        mask[-1:] = True
        return self.inner.encode_given(notes, mask)


class ShowsTheLatest(Broken):
    """Given notes are in the rows of written ones, as their offset."""

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        rows = self.inner.encode_given(notes, given)
        if (rows[:, ORIGIN] == 1).any():
            rows[rows[:, ORIGIN] == 0, OFFSET] = 0.5
        return rows

    def decode(self, rows: Rows) -> Notes:
        rows = rows.copy()
        rows[rows[:, ORIGIN] == 0, OFFSET] = 0
        return self.inner.decode(rows)


class IsLate(Broken):
    """A given note stands after the row in front of which it should be."""

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        rows = self.inner.encode_given(notes, given)
        origin = rows[:, ORIGIN]
        for i in np.flatnonzero((origin[:-1] == 1) & (origin[1:] == 0))[:1]:
            moved = round(float(rows[i + 1, 1]))
            if rows[i, OFFSET] * 100 >= moved and moved <= 200:
                rows[i, OFFSET] -= moved / 100
                rows[[i, i + 1]] = rows[[i + 1, i]]
        return rows


class WithoutVelocities(Broken):
    """Decodes all notes with one velocity, so that wrong ones are not seen in decoded notes."""

    def decode(self, rows: Rows) -> Notes:
        rows = rows.copy()
        rows[(rows[:, ORIGIN] == 1) | (rows[:, 1] != GOOD.fields[1].rest), 3] = 10
        return self.inner.decode(rows)


class LooksAhead(WithoutVelocities):
    """The velocity of the first written row is that of the last one."""

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        rows = self.inner.encode_given(notes, given)
        mask = np.array(given)
        if mask.any() and not mask.all():
            written = np.flatnonzero((rows[:, ORIGIN] == 0) & (rows[:, 1] != GOOD.fields[1].rest))
            if len(written) > 1:
                rows[written[0], 3] = rows[written[-1], 3]
        return rows


class PlaysHigher(Broken):
    """A given note is decoded an octave too high."""

    def decode(self, rows: Rows) -> Notes:
        rows = rows.copy()
        given = rows[:, ORIGIN] == 1
        rows[given, 0] = np.minimum(rows[given, 0] + 12, 127)
        return self.inner.decode(rows)


class Leaks(WithoutVelocities):
    """The velocity of a written row is that of a given note before it."""

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        rows = self.inner.encode_given(notes, given)
        for i in np.flatnonzero(rows[:-1, ORIGIN] == 1):
            if rows[i + 1, ORIGIN] == 0 and rows[i + 1, 1] != GOOD.fields[1].rest:
                rows[i + 1, 3] = rows[i, 3]
        return rows


class GivesAnotherRow(Broken):
    """The row of a given note has an offset that is one cell too long."""

    def given_row(self, note: Note, clock: float) -> Row:
        row = self.inner.given_row(note, clock)
        row[OFFSET] += 0.01
        return row


class Deaf(Broken):
    """A tracker without given notes."""

    def tracker(self) -> Any:
        tracker = self.inner.tracker()
        object.__setattr__(tracker, "sounding", lambda _at: set())
        return tracker


class CountsGivenNotes(Broken):
    """A tracker that counts one note too many."""

    def tracker(self) -> Any:
        tracker = self.inner.tracker()
        tracker._num_notes = 1
        return tracker


BROKEN: list[tuple[Broken, str]] = [
    (WritesGivenNotes(), "nothing_given_is_an_encoded_piece"),
    (MarksAll(), "nothing_given_is_an_encoded_piece"),
    (ShowsTheLatest(), "given_notes_precede_their_onset"),
    (IsLate(), "given_notes_are_due"),
    (LooksAhead(), "rows_depend_on_earlier_ones"),
    (PlaysHigher(), "given_notes_come_back"),
    (Leaks(), "given_notes_do_not_leak"),
    (GivesAnotherRow(), "given_rows_are_those_of_the_piece"),
    (Deaf(), "tracker_knows_given_notes"),
    (CountsGivenNotes(), "tracker_knows_given_notes"),
]


@pytest.mark.parametrize(("encoder", "clause"), BROKEN, ids=[type(e).__name__ for e, _ in BROKEN])
def test_the_clause_bites(encoder: Broken, clause: str) -> None:
    with pytest.raises(AssertionError, match=rf"check_anticipating_encoder, {clause}:"):
        check_anticipating_encoder(encoder, pieces=PIECES, examples=80)


def test_the_unbroken_one_passes() -> None:
    check_anticipating_encoder(Broken(), pieces=PIECES, examples=20)


def test_every_clause_has_a_broken_encoder() -> None:
    named = {clause.__name__.lstrip("_") for clause in ANTICIPATION_CLAUSES}
    assert named == {clause for _, clause in BROKEN}
