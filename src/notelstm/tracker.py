"""``Tracker``: row-by-row decoding of one sequence, with its grammar, time and note count."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, Self

import numpy as np

from notelstm.errors import EncodingError, FieldError
from notelstm.fields import Field, Mask, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.parts import ONE_PART, Part

__all__ = ["MAX_HISTORY", "Tone", "Tracker"]

MAX_HISTORY: Final = 1024
"""Number of the latest notes that a tracker still lists after it has returned them."""


class Tone(NamedTuple):
    """A pitch of an instrument, of which one note sounds at a time.

    Attributes:
        pitch: MIDI note number.
        instrument: The class of its part; 0 if the encoder has no instruments.
    """

    pitch: int
    instrument: int = 0


class Tracker(abc.ABC):
    """Decodes the rows of one sequence one by one.

    The abstract methods are required. The defaults of the others are for an encoder with one row
    per note and steps in seconds, whose rows may come in any order. ``remaining`` and
    ``overlapping`` have no default; processors of polyphony need them. Neither has
    ``previous``, which a :class:`~notelstm.protocols.ConstrainingEncoder` needs, and an encoder
    with a field of the role end.

    Args:
        fields: The encoder's F fields.
        parts: The part of each class of instruments; a single part, which is not percussion, if
            the encoder has no instruments.

    Attributes:
        fields: The same.
        parts: The same.
        memo: Values that processors derive from the notes so far, by a name of their own. Copies
            of the tracker share them, so that a new value replaces the mapping, and nothing in it
            is changed in place.
    """

    def __init__(self, fields: Sequence[Field], parts: Sequence[Part] = ONE_PART) -> None:
        self.fields: Final = tuple(fields)
        self.parts: Final = tuple(parts)
        self.memo: Mapping[str, Any] = {}
        ends = [k for k, field in enumerate(self.fields) if field.role == "end"]
        self._end: Final = ends[0] if ends else None

    @property
    @abc.abstractmethod
    def num_notes(self) -> int:
        """The number of notes that have begun."""

    @property
    @abc.abstractmethod
    def time(self) -> float:
        """Seconds from the start of the piece to the latest row."""

    @abc.abstractmethod
    def push(self, row: Row) -> None:
        """Add the next row, (F,).

        Raises:
            EncodingError: If the row cannot follow those before it.
        """

    @abc.abstractmethod
    def sounding(self, at: float) -> Set[Tone]:
        """The pitch and instrument of each note that sounds `at` seconds after the start."""

    @abc.abstractmethod
    def notes(self) -> Notes:
        """The decoded notes that :meth:`pop_finished` has not returned."""

    @abc.abstractmethod
    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return the notes whose end is known, and drop them.

        This keeps the memory of an endless stream constant. Count, time, sounding notes and
        allowed entries do not change.

        Args:
            include_sounding: Also return the notes that still sound, with their ends as in
                :meth:`notes`; no rows may follow.

        Returns:
            Each note with its number, from 0 in the order of onset; in the order in which their
            ends became known. With one row per note in seconds, that is the order of onset;
            otherwise, it is that of their ends.
        """

    def extend(self, rows: Rows) -> None:
        """Add the next rows, (N, F), with the same result as one :meth:`push` after another."""
        for row in rows:
            self.push(row)

    def rows_of(self, notes: Notes, time: float) -> Rows:
        """The rows of notes that go on from a time, such as those of a player.

        Args:
            notes: Notes that begin at `time` or later, in the order of their onsets.
            time: Seconds. It differs from :attr:`time` by what the encoder rounded.

        Raises:
            EncodingError: By default.
        """
        raise EncodingError(
            "single notes cannot be fed to this encoder",
            where=type(self).__name__,
            hint="feed rows, or implement rows_of() of its tracker",
        )

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """The entries of `field` with which the next row can be decoded.

        Args:
            field: The field about to be sampled.
            known: The entries of the same row that are already fixed, by field name.

        Returns:
            None, the default, if all entries of the field are allowed.
        """
        return None

    def given(self) -> Mapping[str, float]:
        """The entries of given fields of the next row that follow from the rows so far.

        Returns:
            By field name; none by default. The other entries are settings of the session.
        """
        return {}

    @property
    def previous(self) -> Row:
        """(F,) the latest row, :func:`~notelstm.fields.no_row` before the first.

        Raises:
            FieldError: If the class does not implement it.
        """
        raise self._lacks("attribute", "previous", "an encoder's allowed_classes() needs")

    @property
    def ended(self) -> bool:
        """Whether the latest row is the last of its piece; never without a field of the role end.

        Raises:
            FieldError: If there is such a field and the class does not implement `previous`.
        """
        return self._end is not None and bool(self.previous[self._end] == 1)

    def closing_rows(self) -> Rows:
        """The rows that end the sounding notes, (M, F); none by default."""
        return np.zeros((0, len(self.fields)), dtype=np.float32)

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) of the latest notes, with pitch and instrument, in order.

        The last one begins at :attr:`time`.

        Args:
            count: Maximum number, at least 1. Implementations should still list the latest
                :data:`MAX_HISTORY` of the notes that :meth:`pop_finished` has returned; the
                default lists none of them.
        """
        notes = self.notes()[-count:]
        # Decoded notes have the class as their track.
        track = np.zeros(len(notes), np.int64) if len(self.parts) == 1 else notes.track
        tones = map(Tone, notes.pitch.tolist(), [] if track is None else track.tolist())
        return list(zip(notes.start.tolist(), tones, strict=True))

    def latest_written(self, count: int) -> Sequence[tuple[float, Tone]]:
        """The same of the notes that :attr:`num_notes` counts, without those that are given.

        The default is for an encoder without given notes, all of whose notes count.
        """
        return self.latest(count)

    @property
    def position(self) -> float:
        """The origin of the next step in its unit: since the start of the piece or the bar line."""
        return self.time

    @property
    def instrument(self) -> int | None:
        """The class of the next note's instrument, if an earlier row has chosen it, as events do.

        None, the default, if the row of the note has a field of its own for it.
        """
        return None

    @property
    def seconds_per_unit(self) -> float:
        """Seconds of a step of 1."""
        return 1.0

    def remaining(self) -> Sequence[tuple[float, Tone]]:
        """The time left, in the step's unit, of each note that sounds beyond the latest onset.

        It is infinite for a note whose end is an event to come.

        Raises:
            FieldError: If the class does not implement it.
        """
        raise self._lacks("method", "remaining()", "a processor calls")

    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        """The pitch and instrument of each note that still sounds where the next one begins.

        Args:
            known: The entries of its row that are already fixed, by field name.

        Returns:
            None if the step is not fixed.

        Raises:
            FieldError: If the class does not implement it.
        """
        raise self._lacks("method", "overlapping()", "a processor calls")

    def copy(self) -> Self:
        """An independent tracker in the same state; the default copies deeply."""
        return copy.deepcopy(self)

    def _lacks(self, kind: str, member: str, user: str) -> FieldError:
        return FieldError(
            f"a {type(self).__name__} has no {kind} {member}, which {user}",
            hint=f"implement {member} of notelstm.tracker.Tracker",
        )
