"""``AnticipatingEncoder``: notes that are given stand in the rows before they sound.

A model that reads its rows in order can fill a gap, or write an alto under a soprano, if the notes
that it is given enter the sequence some seconds before their onset. The idea is that of the
Anticipatory Music Transformer.

Source:
    John Thickstun, David Hall, Chris Donahue and Percy Liang, "Anticipatory Music Transformer",
    Transactions on Machine Learning Research, 2024.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol, cast, final, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notelstm.encoders.rows import as_rows, class_ids, label_map_of, part_map_of, rows_after
from notelstm.encoders.rows import snapped as snapped_by
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Bounds, Field, Mask, Role, Row, Rows, no_row, note_rows, predicted
from notelstm.labels import LabelMap
from notelstm.notes import DEFAULT_VELOCITY, Note, Notes
from notelstm.parts import ONE_PART, PartMap
from notelstm.protocols import ConstrainingEncoder, NoteEncoder, SnappingEncoder
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = ["OFFSET", "ORIGIN", "AnticipatingEncoder", "AnticipatingTracker"]

ORIGIN: Final = Field.categorical("origin", "origin", values=(0, 1), given=True)
"""0 for a row that the model writes, 1 for a note that is given to it."""

OFFSET: Final = Field.continuous("offset", "step", unit="s", low=0.0, given=True)
"""The seconds from the time of the sequence to the onset of a given note; 0 in other rows."""

_SLACK: Final = 1e-6
"""The greatest distance of a time in cells from a whole number, for rounding."""


@runtime_checkable
class _Inner(ConstrainingEncoder, SnappingEncoder, Protocol):
    """An encoder that can be wrapped."""


@final
@dataclass(frozen=True, kw_only=True)
class AnticipatingEncoder:
    """The rows of another encoder, with given notes some seconds before they sound.

    Rows have the columns of the inner encoder and two more, which are given: ``origin``, 1 for a
    note that is given to the model, and ``offset``. Rows of origin 1 are neither trained, nor
    scored, nor sampled.

    **Order.** The clock is the onset of the latest written note, in whole cells, and 0 at the
    start, which is the onset of the first note of all. A given note that begins at g stands after
    the first written row whose clock is at least g - `seconds`, and before all written rows if g is
    at most `seconds`. Its step is 0, so that it does not move the clock, and its offset is g less
    the clock, from 0 to `seconds`. It never ends the piece, which is for the model to predict. The
    place depends only on the rows before, so that the order is known while music is generated.
    Given notes that stand together are in the order of their onset, then in that of the inner
    encoder.

    **Rests.** A written part can be silent for longer than `seconds`; a single step would then pass
    given notes that are not in the sequence yet. So the last class of the step becomes a rest: a
    written row that moves the clock by :attr:`rest` seconds and has no note. Longer steps begin
    with as many rests as they need, and after the last written note there are as many as the given
    notes need. All other fields of a rest have class 0. Classes of steps longer than a rest are
    excluded, by :meth:`allowed_classes`.

    Without given notes and steps longer than a rest, rows equal those of the inner encoder. Rests
    longer than its longest step are kept.

    A note to be written on the tone of a given note, in the same cell, is left out. The error of an
    onset is that of the inner encoder; if its steps are exact up to `seconds`, as those of
    ``LogTimeEncoder(exact=True, linear=5.0)`` are, then all onsets are decoded exactly to the cell.
    Otherwise offsets are still exact, counted from the clock.

    Attributes:
        inner: An encoder with one row per note, whose fields are classes of pitch, step and
            duration in whole cells: a :class:`~notelstm.encoders.LogTimeEncoder` with `exact`.
        seconds: The time by which given notes precede their onset.

    Raises:
        ConfigError: If the inner encoder has other rows, or `seconds` is less than one of its cells
            or not less than its longest step.

    Example:
        >>> from notelstm.encoders import LogTimeEncoder
        >>> inner = LogTimeEncoder(exact=True, linear=2.0)
        >>> encoder = AnticipatingEncoder(inner=inner, seconds=2.0)
        >>> notes = Notes(start=[0, 3, 6], end=[1, 4, 7], pitch=[60, 62, 64])
        >>> rows = encoder.encode_given(notes, [False, True, False])
        >>> rows[:, 4:].tolist()  # a note, a rest, the given note, a rest, and a note
        [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """

    inner: NoteEncoder
    seconds: float = 5.0

    def __post_init__(self) -> None:
        """Check that the inner encoder can be wrapped."""
        where = type(self.inner).__name__
        if any(field.role == "origin" for field in self.inner.fields):
            raise ConfigError(
                "the encoder has given notes in its rows already",
                where=where,
                hint="use it as it is, or wrap its inner encoder",
            )
        if not isinstance(self.inner, _Inner) or self.inner.snapped(Notes.empty()) is None:
            raise ConfigError(
                "an encoder that does not round notes to whole cells cannot be wrapped",
                where=where,
                hint="give LogTimeEncoder(exact=True)",
            )
        fields = predicted(self.inner.fields)
        roles = [field.role for field in fields]
        timed = [f for f in fields if f.role in ("step", "duration")]
        fits = all(roles.count(role) == 1 for role in ("pitch", "step", "duration"))
        fits = fits and all(f.is_categorical for f in fields)
        fits = fits and all(f.unit == "s" and f.values and f.edges for f in timed)
        if not fits or not self._is_whole():
            raise ConfigError(
                "the fields of the inner encoder are not classes of pitch, step and duration, with "
                "steps of whole cells from 0 s",
                where=where,
                hint="give LogTimeEncoder(exact=True)",
            )
        longest = len(self._last_cells) - 2
        if not (0 < self._longest_class <= longest and self.seconds >= self.cell):
            raise ConfigError(
                f"seconds is {self.seconds:g}",
                where=where,
                hint=f"choose at least {self.cell:g}, and less than the longest step",
            )

    def _is_whole(self) -> bool:
        values = np.array(self._inner_step.values)
        if len(values) < 2 or values[0] != 0 or values[1] <= 0:
            return False
        cells = values / values[1]
        return bool(np.abs(cells - np.rint(cells)).max() < _SLACK)

    # The step of the inner encoder.

    @functools.cached_property
    def _inner_step(self) -> Field:
        return self.inner.fields[self._column("step")]

    def _column(self, role: Role) -> int:
        """The column of the field of the inner encoder with a role."""
        return next(k for k, f in enumerate(self.inner.fields) if f.role == role and not f.given)

    @functools.cached_property
    def _silent(self) -> list[int]:
        """The columns that say nothing of given notes: the step, and the end of the piece."""
        return [k for k, f in enumerate(self.inner.fields) if f.role in ("step", "end")]

    @functools.cached_property
    def cell(self) -> float:
        """The width of a cell, seconds."""
        return self._inner_step.values[1]

    @functools.cached_property
    def _last_cells(self) -> NDArray[np.int64]:
        """(C,) the last cell of each class of a step."""
        borders = np.array(self._inner_step.edges[1:]) / self.cell + 0.5
        return np.rint(borders).astype(np.int64) - 1

    @functools.cached_property
    def _ahead(self) -> int:
        """The cells by which a given note precedes its onset."""
        return int(np.floor(self.seconds / self.cell + _SLACK))

    @functools.cached_property
    def _longest_class(self) -> int:
        """The class of the longest step of a note: all its cells are within `seconds`."""
        return int(np.searchsorted(self._last_cells, self._ahead, side="right")) - 1

    @functools.cached_property
    def _rest_cells(self) -> int:
        return int(self._last_cells[self._longest_class])

    @property
    def rest(self) -> float:
        """The seconds of a rest: the longest step within `seconds` that ends a class."""
        return self._rest_cells * self.cell

    @functools.cached_property
    def _cells(self) -> NDArray[np.int64]:
        """(C,) the cells by which each class of a step moves the clock."""
        return np.rint(np.array(self._step.values) / self.cell).astype(np.int64)

    def cells_of(self, step: float) -> int:
        """The cells by which a class of the step moves the clock."""
        return int(self._cells[int(step)])

    @functools.cached_property
    def _step(self) -> Field:
        values = (*self._inner_step.values[:-1], self._rest_cells * self.cell)
        return replace(self._inner_step, values=values, rest=len(values) - 1)

    # The methods of an encoder.

    @functools.cached_property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the inner encoder, whose step can be a rest, then origin and offset."""
        fields = [*self.inner.fields]
        fields[self._column("step")] = self._step
        return (*fields, ORIGIN, OFFSET)

    @property
    def parts(self) -> PartMap | None:
        """The part map of the inner encoder."""
        return part_map_of(self.inner)

    @property
    def conditions(self) -> LabelMap | None:
        """The label map of the inner encoder."""
        return label_map_of(self.inner)

    def snapped(self, notes: Notes) -> Notes:
        """The notes as the inner encoder rounds, sorts and merges them."""
        return snapped_by(self.inner, notes)

    def changes(self, notes: Notes) -> Mapping[str, int]:
        """The number of notes that the inner encoder changes, by reason."""
        counts = getattr(self.inner, "changes", None)
        return {} if counts is None else cast(Mapping[str, int], counts(notes))

    def encode(self, notes: Notes) -> Rows:
        """(M, F) rows without given notes: one for each of the :meth:`snapped` notes, and rests.

        Raises:
            EncodingError: If a note is outside the domain of the inner encoder.
        """
        return self.encode_given(notes, np.zeros(len(notes), dtype=np.bool_))

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        """Rows of a piece of which some notes are given.

        Args:
            notes: N notes.
            given: (N,) bool, whether each of them is given.

        Returns:
            (M, F) rows.

        Raises:
            EncodingError: If a note is outside the domain of the inner encoder, or `given` has
                another shape.
        """
        mask = np.asarray(given, dtype=np.bool_)
        if mask.shape != (len(notes),):
            raise EncodingError(
                f"given has the shape {mask.shape}, not that of {len(notes)} notes",
                hint="give one boolean for each note",
            )
        notes, mask = self._merged(notes, mask)
        if not len(notes):
            return np.zeros((0, len(self.fields)), dtype=np.float32)
        encoded = self.inner.encode(notes)
        onset = np.rint(notes.start / self.cell).astype(np.int64)
        onset -= onset[0]
        until = int(onset[mask][-1]) if mask.any() else 0
        written, clock = self._written(encoded, onset, mask, until)
        # The first written row whose clock is at least the onset less `ahead` is in front of the
        # note. The last one is far enough, by the rests at the end.
        after = np.searchsorted(clock, onset[mask] - self._ahead, side="left")
        place = np.where(onset[mask] <= self._ahead, 0, after + 1)
        rows = np.zeros((len(place), len(self.fields)), dtype=np.float32)
        rows[:, : encoded.shape[1]] = encoded[mask]
        rows[:, self._silent] = 0
        rows[:, -2] = 1
        rows[:, -1] = (onset[mask] - np.append(0, clock)[place]) * self.cell
        # Written row i has the odd number 2 i + 1, and the notes behind it have 2 i + 2.
        numbers = np.concatenate([2 * np.arange(len(written)) + 1, 2 * place])
        order = np.argsort(numbers, kind="stable")
        joined: Rows = np.concatenate([written, rows])[order]
        return joined

    def _merged(self, notes: Notes, given: NDArray[np.bool_]) -> tuple[Notes, NDArray[np.bool_]]:
        """The snapped notes, and which of them are given.

        Notes to be written on the tone of a given one in its cell are left out first, so that given
        notes are not merged with them.
        """
        if given.any() and not given.all():
            same = np.isin(self._tones(notes), self._tones(notes[given]))
            notes, given = notes[given | ~same], given[given | ~same]
        found = self.snapped(notes)
        if not given.any():
            return found, np.zeros(len(found), dtype=np.bool_)
        return found, np.isin(self._tones(found), self._tones(notes[given]))

    def _tones(self, notes: Notes) -> NDArray[np.int64]:
        """(N,) a number for the cell of the onset, the instrument and the pitch of each note."""
        onset = np.rint(notes.start / self.cell).astype(np.int64)
        count, part = 1, np.zeros(len(notes), dtype=np.int64)
        if self.parts is not None:
            count, part = len(self.parts.classes), self.parts.classes_of(notes)
        return (onset * count + part) * 128 + notes.pitch

    def _written(
        self, encoded: Rows, onset: NDArray[np.int64], given: NDArray[np.bool_], until: int
    ) -> tuple[Rows, NDArray[np.int64]]:
        """The written rows (M, F), with rests, and (M,) the clock after each, in cells.

        Args:
            encoded: (N, F - 2) the rows of the inner encoder.
            onset: (N,) the onset of each note, in cells from that of the first.
            given: (N,) which of them are given.
            until: The onset of the last given note, 0 without one.
        """
        longest, column = self._rest_cells, self._column("step")
        steps = np.diff(onset[~given], prepend=0)
        # A step of 1 to `longest` cells has no rest, one of up to twice as many has one, and so on.
        rests = np.maximum(steps - 1, 0) // longest
        last = int(onset[~given][-1]) if len(steps) else 0
        trailing = max(0, -(-(until - self._ahead - last) // longest))
        notes = np.cumsum(rests + 1) - 1  # the row of each note
        count = len(steps) + int(rests.sum()) + trailing
        rows = np.zeros((count, len(self.fields)), dtype=np.float32)
        for k, field in enumerate(self.inner.fields):
            if field.given:
                rows[:, k] = encoded[0, k]
        rows[notes, : encoded.shape[1]] = encoded[~given]
        moved = np.full(count, longest)
        moved[notes] = steps - rests * longest
        rows[:, column] = self._step.rest
        rows[notes, column] = np.searchsorted(self._last_cells, moved[notes], side="left")
        return rows, np.cumsum(moved)

    def given_row(self, note: Note, clock: float) -> Row:
        """(F,) the row of a given note.

        Args:
            note: The note, in seconds since the start of the rows, which is the onset of the first
                of all notes. Where parts differ by name or track, its track is the class of its
                part.
            clock: The time of the sequence, seconds, at most the onset of the note.

        Raises:
            EncodingError: If the note begins before the clock, or the inner encoder refuses it.
        """
        names = None if self.parts is None else [part.name for part in self.parts.classes]
        one = replace(Notes.of([note], track_names=names), truncated=True)
        notes = self.snapped(one)
        offset = np.rint(notes.start[0] / self.cell) - np.rint(clock / self.cell)
        if offset < 0:
            raise EncodingError(
                f"the given note at {note.start:.6g} s begins before the clock, {clock:.6g} s",
                hint="give notes before the music reaches their onset",
            )
        row = np.zeros(len(self.fields), dtype=np.float32)
        row[:-2] = self.inner.encode(notes)[0]
        row[self._silent] = 0
        row[-2:] = 1, offset * self.cell
        return row

    def _arranged(self, rows: ArrayLike) -> tuple[Rows, NDArray[np.int64], NDArray[np.bool_]]:
        """The rows (N, F) of the notes in the order of onset, their onsets in cells, and origins.

        Raises:
            EncodingError: If a row does not fit the fields, a rest has a note, or a given note has
                a step.
        """
        checked = as_rows(rows, self.fields)
        self.check_rows(checked)
        steps = checked[:, self._column("step")].astype(np.int64)
        given = checked[:, -2] == 1
        clock = np.cumsum(np.where(given, 0, self._cells[steps]))
        onset = clock + np.rint(checked[:, -1] / self.cell).astype(np.int64)
        note = given | (steps != self._step.rest)
        checked, onset, given = checked[note], onset[note], given[note]
        keys = [checked[:, self._column("pitch")], onset]
        if self.parts is not None:
            keys.insert(1, checked[:, self._column("instrument")])
        order = np.lexsort(keys)
        return checked[order], onset[order], given[order]

    def check_rows(self, rows: Rows) -> None:
        """Check that rests have no note, given notes no step, and other rows no offset.

        Args:
            rows: (M, F) rows that fit the fields.

        Raises:
            EncodingError: If one of them differs; it names the row and the reason.
        """
        step, given = rows[:, self._column("step")], rows[:, -2] == 1
        names = {*self.limited_fields} - {self._step.name}
        others = [k for k, field in enumerate(self.fields) if field.name in names]
        rest = ~given & (step == self._step.rest)
        for wrong, problem in (
            (rest & rows[:, others].any(axis=1), "a rest has a note"),
            (given & (step != 0), "a given note has a step"),
            (~given & (rows[:, -1] != 0), "a written row has an offset"),
        ):
            if wrong.any():
                raise EncodingError(
                    problem,
                    where=f"row {int(np.argmax(wrong))}",
                    hint="sample only allowed entries, or repair the row",
                )

    def decode(self, rows: Rows) -> Notes:
        """All notes, given or written, in the order of their onset; the start of the rows is 0 s.

        Raises:
            EncodingError: If a row cannot be decoded; it names the row and the reason.
        """
        found, onset, _ = self._arranged(rows)
        notes = self.inner.decode(found[:, :-2])
        start: NDArray[np.float64] = onset * np.float64(self.cell)
        return replace(notes, start=start, end=start + notes.duration)

    def given_notes(self, rows: Rows) -> NDArray[np.bool_]:
        """(N,) which of the notes that :meth:`decode` returns are given.

        Raises:
            EncodingError: As :meth:`decode`.
        """
        return self._arranged(rows)[2]

    # Limits, tracking and scoring.

    @functools.cached_property
    def limited_fields(self) -> tuple[str, ...]:
        """All predicted fields, each of which has class 0 in a rest."""
        return tuple(field.name for field in predicted(self.fields))

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        """The classes of written notes and rests, as in a ConstrainingEncoder.

        The rule of the inner encoder holds after a written note. After a given note or a rest, all
        its classes are allowed; the tracker allows only those that follow the latest written note.
        So are those of a given note, which are known.
        """
        step, name = self._step, field
        inner = cast(_Inner, self.inner)
        mask = None
        if field in inner.limited_fields:
            mask = inner.allowed_classes(field, known, previous)
        if mask is not None:
            free = (previous[ORIGIN.name] == 1) | (previous[step.name] == step.rest)
            if ORIGIN.name in known:
                free = free | (known[ORIGIN.name] == 1)
            mask = mask | free[..., None]
        like = previous[step.name][..., None]  # (..., 1), entries of at least -1
        if name == step.name:
            candidates = class_ids(len(self._cells), like)
            possible = (candidates <= self._longest_class) | (candidates == step.rest)
            for other in self.limited_fields:
                if other != step.name and other in known:
                    # A rest has no note.
                    possible = possible & (
                        (candidates != step.rest) | (known[other][..., None] == 0)
                    )
            return possible & (like >= -1) if mask is None else mask & possible
        if step.name not in known:
            return mask
        is_rest = known[step.name][..., None] == step.rest
        if isinstance(is_rest, np.ndarray) and not is_rest.any():
            return mask
        count = next(f.classes or 0 for f in self.inner.fields if f.name == field)
        silent = class_ids(count, like) == 0
        return silent | ~is_rest if mask is None else (mask & ~is_rest) | (silent & is_rest)

    def tracker(self) -> AnticipatingTracker:
        """A tracker at the start of a piece."""
        return AnticipatingTracker(self)

    def bounds(
        self, notes: Notes, rows: Rows, cells: Mapping[Role, Bounds]
    ) -> Mapping[str, Bounds]:
        """The interval of each field for the cell of the note of each row, (M,) each.

        The probability of a step is the product of those of its rests and of the rest of the step.
        A rest has the interval of its class, and any value of the other fields. Fields without
        cells have the class of the row. The notes are those of rows without given ones.
        """
        note = note_rows(rows, self.fields)
        before: NDArray[np.int64] = np.cumsum(note) - note  # the number of notes before each row
        found: dict[str, Bounds] = {}
        for column, field in enumerate(self.inner.fields):
            if field.given:
                continue
            if field.role not in cells:
                edges = np.array(field.edges or np.arange(-0.5, field.classes or 0))
                own = rows[:, column].astype(np.int64)
                found[field.name] = edges[own], edges[own + 1]
                continue
            low, high = (end[np.minimum(before, len(notes) - 1)] for end in cells[field.role])
            if field.role == "step":
                # The seconds of the rests since the note before.
                passed = np.cumsum(~note) * self.rest
                since = np.where(before > 0, passed[np.flatnonzero(note)[before - 1]], 0.0)
                low, high = (end - (passed - since) for end in (low, high))
                outside = self._inner_step.edges[-2], np.inf
            else:
                outside = -np.inf, np.inf
            found[field.name] = np.where(note, low, outside[0]), np.where(note, high, outside[1])
        return found


class _GivenNote(NamedTuple):
    """A given note that has not ended: its onset in cells, its end in seconds, and its tone."""

    onset: int
    end: float
    tone: Tone


@final
class AnticipatingTracker(Tracker):
    """Decodes the rows of an :class:`AnticipatingEncoder`.

    Its notes, which are counted and returned, are the written ones. Given notes are in the music:
    from their onset on they sound and are among the latest notes, and a tone of one that is not to
    be repeated in its first cell is excluded.

    Args:
        encoder: The encoder.
    """

    def __init__(self, encoder: AnticipatingEncoder) -> None:
        parts = encoder.parts
        super().__init__(encoder.fields, ONE_PART if parts is None else parts.classes)
        self._encoder: Final = encoder
        self._names: Final = tuple(field.name for field in self.fields)
        roles = [None if field.given else field.role for field in self.fields]
        self._columns: Final = {role: roles.index(role) for role in _ROLES if role in roles}
        self._rows: list[Row] = []
        # The latest end of each tone of the written notes, and the given ones that have not ended.
        self._open: dict[Tone, float] = {}
        self._given: list[_GivenNote] = []
        self._latest: list[tuple[float, Tone]] = []
        self._latest_written: list[tuple[float, Tone]] = []
        self._unreturned: list[Note] = []
        self._num_notes = self._cells = self._origin = 0
        self._previous = self._written = no_row(self.fields)

    @property
    def num_notes(self) -> int:
        """The number of written notes that have begun."""
        return self._num_notes

    @property
    def time(self) -> float:
        """The clock: the onset of the latest written note, or the end of the rest after it."""
        return self._cells * self._encoder.cell

    @property
    def previous(self) -> Row:
        """(F,) the latest row, :func:`~notelstm.fields.no_row` before the first."""
        return self._previous

    def given(self) -> Mapping[str, float]:
        """The entries of the next written row."""
        return {ORIGIN.name: 0.0, OFFSET.name: 0.0}

    def rows_of(self, notes: Notes, time: float) -> Rows:
        """The rows (M, F) of the notes, all of which are written, and of the rests between them."""
        return rows_after(time, notes, self._encoder)

    def push(self, row: Row) -> None:
        """Add the next row, (F,), of a given note, a written one, or a rest."""
        row = np.array(row, dtype=np.float32)
        self._encoder.check_rows(row[None])
        self._add(row)

    def extend(self, rows: Rows) -> None:
        """Add the next rows, (N, F), all of which are checked first."""
        rows = np.array(rows, dtype=np.float32)
        self._encoder.check_rows(rows)
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        """Add a row that has been checked."""
        self._previous = row
        if row[-2] == 1:
            onset = self._cells + round(float(row[-1]) / self._encoder.cell)
            note = self._note(row, onset * self._encoder.cell)
            given = _GivenNote(onset, note.end, Tone(note.pitch, note.track))
            self._given.append(given)
            if onset == self._cells:
                self._begin([given])
            return
        before, self._written = self._cells, row
        self._rows.append(row)
        step = row[self._columns["step"]]
        self._cells += self._encoder.cells_of(step)
        time = self.time
        self._begin([given for given in self._given if before < given.onset <= self._cells])
        self._given = [given for given in self._given if given.end > time]
        self._open = {tone: end for tone, end in self._open.items() if end > time}
        if step == self.fields[self._columns["step"]].rest:
            return
        note = self._note(row, time)
        tone = Tone(note.pitch, note.track)
        self._num_notes += 1
        self._unreturned.append(note)
        self._latest.append((time, tone))
        self._latest_written.append((time, tone))
        self._open[tone] = max(note.end, self._open.get(tone, note.end))

    def _note(self, row: Row, start: float) -> Note:
        def value(role: Role) -> float:
            column = self._columns[role]
            return self.fields[column].value_of(float(row[column]))

        k = int(value("instrument")) if "instrument" in self._columns else 0
        velocity = int(value("velocity")) if "velocity" in self._columns else DEFAULT_VELOCITY
        part = self.parts[k]
        end = start + value("duration")
        return Note(start, end, int(value("pitch")), velocity, part.program, part.drum, k)

    def _begin(self, given: Sequence[_GivenNote]) -> None:
        """Add given notes that have begun to the latest notes."""
        cell = self._encoder.cell
        self._latest += [(g.onset * cell, g.tone) for g in sorted(given, key=lambda g: g.onset)]
        if len(self._latest) > 2 * MAX_HISTORY:
            del self._latest[:-MAX_HISTORY]

    def sounding(self, at: float) -> Set[Tone]:
        """The tones of written and given notes that sound `at` seconds after the start."""
        begun = {
            given.tone
            for given in self._given
            if given.onset * self._encoder.cell <= at + _ROUNDING and given.end > at
        }
        return begun | {tone for tone, end in self._open.items() if end > at}

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and tone of the latest notes, written and given, that have begun."""
        return self._latest[-count:]

    def latest_written(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and tone of the latest written notes."""
        return self._latest_written[-count:]

    def remaining(self) -> Sequence[tuple[float, Tone]]:
        """The seconds left and the tone of each note that has begun and sounds at :attr:`time`."""
        begun = [(g.end, g.tone) for g in self._given if g.onset <= self._cells]
        ends = [(end, tone) for tone, end in self._open.items()] + begun
        return [(end - self.time, tone) for end, tone in ends if end > self.time]

    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        """The tones that sound after the fixed step, of given notes to come too; None without."""
        step = self.fields[self._columns["step"]]
        if step.name not in known:
            return None
        return self.sounding(self.time + step.value_of(known[step.name]) + _ROUNDING)

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """The classes after the latest written note, without the tones of given notes.

        A tone of a given note that begins in the same cell is excluded, unless no other is left.
        """
        if not field.is_categorical:
            return field.interval
        entries = {name: np.float32(entry) for name, entry in known.items()}
        before = dict(zip(self._names, self._written, strict=True))
        mask: NDArray[np.bool_] | None = self._encoder.allowed_classes(field.name, entries, before)
        taken = self._taken(field, known) if self._given else []
        if not taken:
            return mask
        left = np.ones(field.classes or 0, np.bool_) if mask is None else mask.copy()
        left[taken] = False
        return left if left.any() else mask

    def _taken(self, field: Field, known: Mapping[str, float]) -> list[int]:
        """The classes of a pitch or an instrument that would repeat a given note in its cell."""
        names = {role: self._names[column] for role, column in self._columns.items()}
        # The instrument and the pitch: one of them is the field, the other is known.
        keys = [names[role] for role in ("instrument", "pitch") if role in names]
        if field.name not in keys or any(
            k not in known for k in (*keys, names["step"]) if k != field.name
        ):
            return []
        if known[names["step"]] == self.fields[self._columns["step"]].rest:
            return []
        at = self._cells + self._encoder.cells_of(known[names["step"]])
        taken = []
        for given in self._given:
            tone = {"pitch": given.tone.pitch, "instrument": given.tone.instrument}
            named = {names[role]: k for role, k in tone.items() if role in names}
            own = named.pop(field.name)
            if given.onset == at and all(known[name] == k for name, k in named.items()):
                taken.append(own)
        return taken

    def notes(self) -> Notes:
        """The written notes that have not been returned."""
        rows = np.array(self._rows, dtype=np.float32).reshape(-1, len(self.fields))
        notes = self._encoder.decode(rows)
        return notes.shifted(self._origin * self._encoder.cell) if self._origin else notes

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return all written notes, and drop them: the end of each is known."""
        first = self._num_notes - len(self._unreturned)
        finished = list(enumerate(self._unreturned, first))
        self._rows, self._unreturned, self._origin = [], [], self._cells
        del self._latest[:-MAX_HISTORY], self._latest_written[:-MAX_HISTORY]
        return finished

    def copy(self) -> AnticipatingTracker:
        """An independent tracker in the same state."""
        other = copy.copy(self)
        for name in ("_rows", "_given", "_latest", "_latest_written", "_unreturned"):
            setattr(other, name, [*getattr(self, name)])
        other._open = {**self._open}
        return other


_ROLES: Final[tuple[Role, ...]] = ("pitch", "step", "duration", "velocity", "instrument")
_ROUNDING: Final = 1e-6
"""Tolerance in seconds for notes that begin or end at an onset, for rounding."""
