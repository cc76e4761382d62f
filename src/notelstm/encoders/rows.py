"""Rows with one row per note: common fields, checks, warnings, and the default tracker."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final, Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from notelstm.errors import EncodingError, FieldError, counted
from notelstm.fields import Field, Mask, Role, Row, Rows, no_row
from notelstm.labels import LabelMap
from notelstm.notes import DEFAULT_VELOCITY, Note, Notes
from notelstm.parts import ONE_PART, PartMap
from notelstm.protocols import ConstrainingEncoder, NoteEncoder, SnappingEncoder
from notelstm.tracker import MAX_HISTORY, Tone, Tracker

__all__ = [
    "END",
    "PITCH",
    "VELOCITY",
    "AscendingRows",
    "ReportingEncoder",
    "RowConstraints",
    "RowTracker",
    "TrackingEncoder",
    "as_rows",
    "ascending",
    "class_ids",
    "describe_changes",
    "ends_of",
    "is_truncated",
    "label_map_of",
    "part_map_of",
    "rows_after",
    "snapped",
    "tracker_of",
    "watch_changes",
]

PITCH: Final = Field.categorical(
    "pitch",
    "pitch",
    values=range(128),
    edges=[k - 0.5 for k in range(129)],
    unit="MIDI note",
)
"""128 classes, one for each MIDI note number."""

VELOCITY: Final = Field.categorical(
    "velocity",
    "velocity",
    values=[4 * k + 2 for k in range(32)],
    edges=[4 * k for k in range(33)],
    unit="MIDI velocity",
)
"""32 classes of four MIDI velocities each."""

END: Final = Field.categorical("end", "end", values=(0, 1))
"""2 classes: whether a note is the last of its piece."""


def ends_of(notes: Notes) -> NDArray[np.bool_]:
    """(N,) the entries of :data:`END`: the last note of a piece, none of a truncated one."""
    ends = np.zeros(len(notes), dtype=np.bool_)
    ends[-1:] = not notes.truncated
    return ends


def is_truncated(rows: Rows, fields: Sequence[Field]) -> bool:
    """Whether rows (N, F) with an end do not reach it; false if they have no such field."""
    column = next((k for k, field in enumerate(fields) if field.role == "end"), None)
    return column is not None and not (len(rows) and rows[-1, column] == 1)


def as_rows(rows: ArrayLike, fields: Sequence[Field]) -> Rows:
    """(N, F) float32 rows from numbers, which are checked to be entries of the F fields.

    Raises:
        EncodingError: If the shape differs, a number is not finite, a class does not exist, or a
            value is out of bounds; it names the row and the reason.
    """
    array = np.asarray(rows, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != len(fields):
        names = ", ".join(field.name for field in fields)
        raise EncodingError(
            f"rows of shape {array.shape} are not (N, {len(fields)}): {names}",
            hint="give one column for each field",
        )
    for column, field in zip(array.T.copy(), fields, strict=True):
        if field.classes is not None:
            valid = (column >= 0) & (column < field.classes) & (column == np.floor(column))
            kind = f"a whole number from 0 to {field.classes - 1}"
        else:
            low, high = field.interval
            valid = np.isfinite(column) & (column >= low) & (column <= high)
            kind = f"a finite number from {low:g} to {high:g} {field.unit}"
        if not valid.all():
            row = int(np.argmin(valid))
            raise EncodingError(
                f"{field.name} {column[row]:g} is not {kind}",
                where=f"row {row}",
                hint="sample only allowed entries, or repair the row",
            )
    return array


_log = logging.getLogger(__name__)


def part_map_of(encoder: NoteEncoder) -> PartMap | None:
    """The part map of an encoder, its attribute ``parts``; None if it has no instruments."""
    found = getattr(encoder, "parts", None)
    return found if isinstance(found, PartMap) else None


def label_map_of(encoder: NoteEncoder) -> LabelMap | None:
    """The label map of an encoder, its attribute ``conditions``; None if it has no labels."""
    found = getattr(encoder, "conditions", None)
    return found if isinstance(found, LabelMap) else None


def snapped(encoder: NoteEncoder, notes: Notes) -> Notes:
    """The notes that the rows of an encoder encode: `notes`, or those that it snaps them to.

    See :class:`~notelstm.protocols.SnappingEncoder`.
    """
    found = encoder.snapped(notes) if isinstance(encoder, SnappingEncoder) else None
    return notes if found is None else found


@final
class RowConstraints:
    """The entries that an encoder allows in the next row of one sequence.

    Args:
        encoder: The encoder; of one that does not limit the rows, all entries are allowed.
    """

    def __init__(self, encoder: NoteEncoder) -> None:
        # A check of a protocol takes longer than all the rest.
        self._encoder: Final = encoder if isinstance(encoder, ConstrainingEncoder) else None
        self._limited: Final = () if self._encoder is None else self._encoder.limited_fields
        self._names: Final = tuple(field.name for field in encoder.fields)

    def allowed(self, field: Field, known: Mapping[str, float], previous: Row) -> Mask | None:
        """The allowed entries of a field; None if all classes are allowed.

        Args:
            field: The field.
            known: The entries of the same row that are known, by field name.
            previous: (F,) the row before; :func:`~notelstm.fields.no_row` if there is none.
        """
        if self._encoder is None or field.name not in self._limited:
            return None if field.is_categorical else field.interval
        before = dict(zip(self._names, previous, strict=True))
        entries = {name: np.float32(entry) for name, entry in known.items()}
        mask: NDArray[np.bool_] | None = self._encoder.allowed_classes(field.name, entries, before)
        return mask


_KEYS: Final[tuple[Role, ...]] = ("instrument", "pitch")
"""The roles by which notes that begin together are sorted, the most significant first."""


def ascending(notes: Notes, parts: PartMap | None) -> Notes:
    """The notes by onset, class of the part and pitch, without repetitions.

    Args:
        notes: The notes; those that begin together have exactly equal onsets.
        parts: The classes of instruments, None for one class.

    Returns:
        Of notes with equal onset, class and pitch, the first with the greatest end and velocity.

    Raises:
        EncodingError: If the part map refuses a note.
    """
    part = np.zeros(len(notes)) if parts is None else parts.classes_of(notes)
    order = np.lexsort((notes.pitch, part, notes.start))
    notes, part = notes[order], part[order]
    keys = (notes.start, part, notes.pitch)
    repeated = np.all([np.diff(key) == 0 for key in keys], axis=0)
    if not repeated.any():
        return notes
    first = np.flatnonzero(np.append(True, ~repeated))
    end, velocity = (np.maximum.reduceat(c, first) for c in (notes.end, notes.velocity))
    return replace(notes[first], end=end, velocity=velocity)


@final
class AscendingRows:
    """The classes with which a row can follow another if rows ascend.

    A row of step class 0 begins with the row before; its keys, compared in the order of their
    significance, are then greater than those of that row. A class of a field is allowed if the row
    can be completed with it, and fields that are not known yet can still take their last class. So
    some class is always allowed: a step of 0 is excluded after a row with the last class of every
    key, and any longer step can be followed by any keys. This holds for any order of prediction.

    Args:
        fields: Fields of classes: one of the role step, and at least one of the keys, which are
            instrument and pitch.

    Attributes:
        fields: The names of the fields that are limited: the keys and the step.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        (step,) = (field for field in fields if field.role == "step")
        self._step: Final = step.name
        self._keys: Final = {
            field.name: field.classes or 0
            for role in _KEYS
            for field in fields
            if field.role == role
        }
        self._classes: Final = {**self._keys, step.name: step.classes or 0}
        self.fields: Final = tuple(self._classes)

    def allowed(self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]) -> Any:
        """The allowed classes of one of `fields`, as a method of a ConstrainingEncoder.

        See :meth:`notelstm.protocols.ConstrainingEncoder.allowed_classes`.
        """
        is_step = field == self._step
        step = None if is_step else known.get(self._step)
        if not is_step and (step is None or (isinstance(step, np.number) and int(step) > 0)):
            return None
        before = {key: previous[key][..., None] for key in self._keys}
        candidates = class_ids(self._classes[field], next(iter(before.values())))
        greater: Any = False
        equal: Any = True
        for key, size in self._keys.items():
            value = known[key][..., None] if key in known else size - 1
            value = candidates if key == field else value
            greater = greater | (equal & (value > before[key]))
            equal = equal & (value == before[key])
        if is_step and isinstance(greater, np.ndarray) and greater.all():
            return None
        later = candidates > 0 if step is None else step[..., None] > 0
        return later | greater


def class_ids(classes: int, like: Any) -> Any:
    """(C,) the class ids, as an array of the kind and on the device of `like`."""
    if isinstance(like, np.ndarray | np.generic):
        return np.arange(classes)
    import torch  # not at the top: reading and encoding do without torch

    return torch.arange(classes, device=like.device)


@runtime_checkable
class ReportingEncoder(NoteEncoder, Protocol):
    """An encoder that counts the notes that it changes."""

    def changes(self, notes: Notes) -> Mapping[str, int]:
        """The number of notes that rows do not hold exactly, by reason.

        A reason is a phrase after the noun: "notes longer than 16 beats, shortened".

        Raises:
            EncodingError: If the piece is outside the encoder's domain.
        """
        ...


def describe_changes(changes: Mapping[str, int]) -> str:
    """The counts of :meth:`ReportingEncoder.changes` in one line.

    Example:
        >>> describe_changes({"in 11/8, encoded as 4/4": 3, "longer than 16 beats, shortened": 1})
        '3 notes in 11/8, encoded as 4/4; 1 note longer than 16 beats, shortened'
    """
    return "; ".join(f"{counted(count, 'note')} {why}" for why, count in changes.items())


def watch_changes(pieces: Iterable[Notes], encoder: NoteEncoder) -> Iterator[Notes]:
    """Yield the pieces, and warn after the last of the notes that the encoder changes.

    An encoder with a part map changes notes of no part. One without instruments changes pieces with
    percussion or several programs. A :class:`ReportingEncoder` counts the notes that it changes
    otherwise; there are no counts of pieces that it rejects.
    """
    part_map, name = part_map_of(encoder), type(encoder).__name__
    changes = Counter[str]()
    count = changed = without = notes = unknown = 0
    rule = "" if part_map is None else _RULES[part_map.unknown]
    for piece in pieces:
        count += 1
        if part_map is None:
            without += _has_instruments(piece) and not _keeps_instruments(encoder, piece)
        else:
            notes += len(piece)
            unknown += part_map.count_unknown(piece)
            if part_map.unknown == "nearest" and _lacks_percussion(part_map, piece):
                rule = f"{_RULES['nearest']}, percussion is refused with its pieces"
        if isinstance(encoder, ReportingEncoder):
            with contextlib.suppress(EncodingError):
                found = encoder.changes(piece)
                changes.update(found)
                changed += bool(found)
        yield piece
    if part_map is not None and unknown:
        _log.warning(
            "%d of %d notes are of instruments that are no part of the model (%s); such notes are "
            "%s",
            unknown,
            notes,
            ", ".join(part.name for part in part_map.parts),
            rule,
        )
    if without:
        _log.warning(
            "%s does not encode instruments: in %d of %d pieces, notes of several programs or "
            "percussion are encoded as notes of one instrument",
            name,
            without,
            count,
        )
    if changed:
        _log.warning(
            "%s changes notes of %d of %s: %s",
            name,
            changed,
            counted(count, "piece"),
            describe_changes(changes),
        )


_RULES: Final[Mapping[str, str]] = {
    "nearest": "encoded as notes of the nearest part",
    "other": "encoded as the class 'other'",
    "refuse": "refused with their pieces",
}


def _lacks_percussion(part_map: PartMap, piece: Notes) -> bool:
    """Whether a piece has percussion, which is never nearest to a part that is not."""
    return piece.drum is not None and bool(piece.drum.any()) and not part_map.drums.any()


def _has_instruments(piece: Notes) -> bool:
    """Whether a piece has percussion, or several programs."""
    several = piece.program is not None and len(np.unique(piece.program)) > 1
    return several or (piece.drum is not None and bool(piece.drum.any()))


def _keeps_instruments(encoder: NoteEncoder, piece: Notes) -> bool:
    """Whether the first note is decoded with its program or as percussion."""
    try:
        decoded = encoder.decode(encoder.encode(piece[:1]))
    except EncodingError:
        # Encoding the piece raises as well.
        return True
    return decoded.program is not None or decoded.drum is not None


_ROUNDING: Final = 1e-6
"""Tolerance in seconds for notes that end at an onset, for rounding."""


def rows_after(time: float, notes: Notes, encoder: NoteEncoder) -> Rows:
    """Rows (N, F) of notes that continue music whose time is `time`, in seconds."""
    # The encoder measures the first step from an anchor note at `time`. Notes that were rounded to
    # a later time may end after the next one begins, so onsets are at least `time`.
    start = np.maximum(notes.start, time)
    end = np.maximum(notes.end, start)
    moved = replace(notes, start=start, end=end, truncated=True)
    if not len(moved):
        return encoder.encode(moved)
    # The anchor is the lowest, shortest and softest note of the first part, so that it has the
    # first row, and an encoder that merges it with a note leaves that note as it is.
    part_map = part_map_of(encoder)
    first = 0 if part_map is None else int(part_map.classes_of(moved).argmin())
    at, lowest = np.array([time]), np.zeros(1, dtype=np.int64)
    anchor = replace(moved[first : first + 1], start=at, end=at, pitch=lowest, velocity=lowest + 1)
    whole = Notes.merge([anchor, moved])
    # The row of the anchor, unless it was merged with a note.
    first = len(snapped(encoder, whole)) - len(snapped(encoder, moved))
    return encoder.encode(whole)[first:]


@runtime_checkable
class TrackingEncoder(NoteEncoder, Protocol):
    """An encoder with its own tracker."""

    def tracker(self) -> Tracker:
        """A tracker at the start of a piece."""
        ...


def tracker_of(encoder: NoteEncoder) -> Tracker:
    """The encoder's own tracker, or a :class:`RowTracker`, at the start of a piece.

    Raises:
        FieldError: If the encoder has neither a tracker nor the fields of a RowTracker.
    """
    return encoder.tracker() if isinstance(encoder, TrackingEncoder) else RowTracker(encoder)


@final
class RowTracker(Tracker):
    """Decodes the rows of an encoder with one row per note.

    Args:
        encoder: The encoder. It has one field each for pitch, step and duration, with times in
            seconds; a field ``instrument`` has the classes of its part map.

    Raises:
        FieldError: If a field is missing; such an encoder needs its own tracker.
    """

    def __init__(self, encoder: NoteEncoder) -> None:
        part_map = part_map_of(encoder)
        super().__init__(encoder.fields, ONE_PART if part_map is None else part_map.classes)
        self._encoder: Final = encoder
        self._constraints: Final = RowConstraints(encoder)
        self._step: Final = _column(encoder, "step")
        self._pitch: Final = _column(encoder, "pitch")
        self._duration: Final = _column(encoder, "duration")
        velocity = [i for i, f in enumerate(self.fields) if f.role == "velocity" and not f.given]
        self._velocity: Final = velocity[0] if len(velocity) == 1 else None
        self._instrument: Final = None if part_map is None else _column(encoder, "instrument")
        self._rows: list[Rows] = []
        # The latest end of each tone, so that overlaps take no more memory.
        self._open: dict[Tone, float] = {}
        self._unlisted: list[tuple[NDArray[np.float64], ...]] = []
        self._latest: list[Note] = []
        self._num_returned = 0
        self._origin = 0.0
        self._num_notes = 0
        self._time = 0.0
        self._previous = no_row(self.fields)

    @property
    def num_notes(self) -> int:
        """The number of notes that have begun."""
        return self._num_notes

    @property
    def time(self) -> float:
        """The onset of the latest note, seconds."""
        return self._time

    @property
    def previous(self) -> Row:
        """(F,) the latest row, :func:`~notelstm.fields.no_row` before the first."""
        return self._previous

    def rows_of(self, notes: Notes, time: float) -> Rows:
        """The rows (N, F) of the notes."""
        return rows_after(time, notes, self._encoder)

    def push(self, row: Row) -> None:
        """Add the next note, (F,)."""
        rows = np.array(row, dtype=np.float32)[None]
        entries, fields = rows[0].tolist(), self.fields
        start = self._time + fields[self._step].value_of(entries[self._step])
        end = start + fields[self._duration].value_of(entries[self._duration])
        pitch = int(fields[self._pitch].value_of(entries[self._pitch]))
        velocity = DEFAULT_VELOCITY
        if self._velocity is not None:
            velocity = int(fields[self._velocity].value_of(entries[self._velocity]))
        k = 0 if self._instrument is None else int(entries[self._instrument])
        part = self.parts[k]
        self._listed.append(Note(start, end, pitch, velocity, part.program, part.drum, k))
        self._add(rows, start, [(Tone(pitch, k), end)])

    def extend(self, rows: Rows) -> None:
        """Add the next notes, (N, F)."""
        rows = np.array(rows, dtype=np.float32)
        if not len(rows):
            return
        # Equal to the sum of one step after another, bit for bit.
        start = np.cumsum(np.append(self._time, self._values(self._step, rows)))[1:]
        end = start + self._values(self._duration, rows)
        pitch = self._values(self._pitch, rows)
        velocity = np.full_like(start, DEFAULT_VELOCITY)
        if self._velocity is not None:
            velocity = self._values(self._velocity, rows)
        instrument = np.zeros(len(rows))
        if self._instrument is not None:
            instrument = rows[:, self._instrument].astype(np.float64)
        self._unlisted.append((start, end, pitch, velocity, instrument))
        time = float(start[-1])
        sounding = end > time
        last = np.zeros((len(self.parts), 128))
        at = instrument[sounding].astype(np.intp), pitch[sounding].astype(np.intp)
        np.maximum.at(last, at, end[sounding])
        where = np.nonzero(last)
        tones = map(Tone, where[1].tolist(), where[0].tolist())
        self._add(rows, time, zip(tones, last[where].tolist(), strict=True))

    def _values(self, column: int, rows: Rows) -> NDArray[np.float64]:
        """(N,) the values of a column."""
        field, entries = self.fields[column], rows[:, column].astype(np.float64)
        return np.array(field.values)[entries.astype(np.intp)] if field.values else entries

    def _add(self, rows: Rows, time: float, ends: Iterable[tuple[Tone, float]]) -> None:
        self._rows.append(rows)
        self._previous = rows[-1]
        self._num_notes += len(rows)
        self._time = time
        self._open = {tone: end for tone, end in self._open.items() if end > time}
        for tone, end in ends:
            self._open[tone] = max(end, self._open.get(tone, end))

    @property
    def _listed(self) -> list[Note]:
        """The latest notes one by one, created on access."""
        for start, end, *integers in self._unlisted:
            pitch, velocity, k = (column.astype(np.int64).tolist() for column in integers)
            program = [self.parts[part].program for part in k]
            drum = [self.parts[part].drum for part in k]
            times = start.tolist(), end.tolist()
            self._latest += map(Note, *times, pitch, velocity, program, drum, k)
        self._unlisted = []
        return self._latest

    def sounding(self, at: float) -> Set[Tone]:
        """The tones that sound `at` seconds after the start, at or after the latest onset."""
        return {tone for tone, end in self._open.items() if end > at}

    def latest(self, count: int) -> Sequence[tuple[float, Tone]]:
        """Onset (s) and tone of the latest `count` notes, in order."""
        return [(note.start, Tone(note.pitch, note.track)) for note in self._listed[-count:]]

    def remaining(self) -> Sequence[tuple[float, Tone]]:
        """The seconds left and the tone of each note that sounds beyond the latest onset."""
        left = ((end - self._time, tone) for tone, end in self._open.items())
        return [(seconds, tone) for seconds, tone in left if seconds > 0]

    def overlapping(self, known: Mapping[str, float]) -> Set[Tone] | None:
        """The tones that still sound after the fixed step; None if no step is fixed."""
        field = self.fields[self._step]
        if field.name not in known:
            return None
        at = self._time + field.value_of(known[field.name])
        return {tone for tone, end in self._open.items() if end > at + _ROUNDING}

    def allowed(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """All entries of the field, unless the encoder limits them."""
        return self._constraints.allowed(field, known, self._previous)

    def notes(self) -> Notes:
        """The decoded notes that have not been returned."""
        rows = np.concatenate(self._rows) if self._rows else self.closing_rows()
        notes = self._encoder.decode(rows)
        return notes.shifted(self._origin) if self._origin else notes

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        """Return all notes, and drop them: the end of each is known."""
        latest = self._listed
        first = len(latest) - (self._num_notes - self._num_returned)
        finished = list(enumerate(latest[first:], self._num_returned))
        self._rows, self._num_returned, self._origin = [], self._num_notes, self._time
        del latest[:-MAX_HISTORY]
        return finished

    def copy(self) -> RowTracker:
        """An independent tracker in the same state."""
        other = copy.copy(self)
        other._rows, other._open, other._latest = [*self._rows], {**self._open}, [*self._latest]
        other._unlisted = [*self._unlisted]
        return other


def _column(encoder: NoteEncoder, role: Role) -> int:
    found = [i for i, f in enumerate(encoder.fields) if f.role == role and not f.given]
    fits = len(found) == 1 and (
        role in ("pitch", "instrument") or encoder.fields[found[0]].unit == "s"
    )
    if not fits:
        raise FieldError(
            "the fields are not one each for pitch, step (s) and duration (s): "
            + ", ".join(f"{f.name} ({f.role}, {f.unit})" for f in encoder.fields),
            where=type(encoder).__name__,
            hint="give the encoder its own method tracker()",
        )
    return found[0]
