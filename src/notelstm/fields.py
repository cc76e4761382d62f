"""``Field``: the meaning of one column of an encoder's rows.

The fields determine the inputs and heads of a model, the terms of a loss, the pitch of each class
for masks, and the width of each class for the scorer.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, final, get_args

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import FieldError

__all__ = [
    "Bounds",
    "Event",
    "EventType",
    "Field",
    "Interval",
    "Mask",
    "Role",
    "Row",
    "Rows",
    "by_name",
    "known_before",
    "no_row",
    "note_rows",
    "predicted",
    "written_rows",
]

Role: TypeAlias = Literal[
    "pitch",
    "step",
    "duration",
    "velocity",
    "instrument",
    "time_signature",
    "position",
    "tempo",
    "event",
    "end",
    "label",
    "origin",
    "other",
]
"""The meaning of a column. An ``instrument`` column has the classes of a part map
(:mod:`notelstm.parts`), without edges; a ``label`` column those of a label of the piece, of which
class 0 stands for none (:mod:`notelstm.labels`). An ``end`` column is 1 in the last row of a piece,
else 0. A note takes several rows of an ``event`` column; only its encoder can decode an ``other``
column, such as an interval. An ``origin`` column is 0 in the rows that a model writes,
and 1 in those of notes that are given to it: see :func:`written_rows`."""

EventType: TypeAlias = Literal["note-on", "note-off", "shift", "velocity", "instrument", "other"]
"""The kind of event of a class."""

Rows: TypeAlias = NDArray[np.float32]
"""(N, F) the numbers of an encoder: class ids (exact in float32) and unscaled values."""

Row: TypeAlias = NDArray[np.float32]
"""(F,) one row of :data:`Rows`."""


Bounds: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(N,) the begin and (N,) the excluded end of an interval for each note; infinite if it is open."""


class Interval(NamedTuple):
    """The allowed values of a continuous field, both ends included.

    Attributes:
        low: The minimum, or negative infinity.
        high: The maximum, or infinity.
    """

    low: float
    high: float


Mask: TypeAlias = NDArray[np.bool_] | Interval
"""The allowed entries of a field: (C,) bool for classes, an interval for a continuous field."""


class Event(NamedTuple):
    """The event of one class of an event field.

    Attributes:
        type: The kind of event.
        value: MIDI note number, seconds of a shift, MIDI velocity, or class of a part map.
    """

    type: EventType
    value: float


@final
@dataclass(frozen=True, kw_only=True)
class Field:
    """The meaning of one column of an encoder's rows.

    Build one with :meth:`categorical`, :meth:`continuous` or :meth:`of_events`.

    Attributes:
        name: The column's name, unique within an encoder.
        role: The meaning of the column.
        unit: Unit of `values`, of `edges` and of a continuous column: ``"s"``, ``"beat"``,
            ``"MIDI note"`` ...
        classes: Number of classes of a categorical column, None for a continuous one.
        values: The decoded value of each class, in `unit`; ``decode`` uses the same numbers.
        edges: ``classes + 1`` ascending borders of ordered classes, in `unit`. The scorer extends
            the first and last class beyond the outer borders.
        events: The event of each class of an event column.
        low: The minimum of a continuous column, None for no bound.
        high: The maximum of a continuous column, None for no bound.
        none: The class that stands for no value, such as no further pitch; its entry of `values` is
            not used. None if every class has a value.
        given: Whether the column is context, such as a key: its entry is known before the others of
            the row, and is neither trained, nor scored, nor sampled.
        rest: The class of a step that stands for a rest: a row with this class moves the time by
            the value of the class, and has no note. None if each row is a note.
    """

    name: str
    role: Role
    unit: str = ""
    classes: int | None = None
    values: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    events: tuple[Event, ...] = ()
    low: float | None = None
    high: float | None = None
    none: int | None = None
    given: bool = False
    rest: int | None = None

    def __post_init__(self) -> None:
        """Check that the settings are consistent.

        Raises:
            FieldError: If the name or role is invalid, sizes differ, a number is not finite, edges
                do not ascend, there is no class `none` or `rest`, or one is not possible.
        """
        # JSON has lists and no numpy numbers; a Field read from it must equal the one written.
        object.__setattr__(self, "values", tuple(map(float, self.values)))
        object.__setattr__(self, "edges", tuple(map(float, self.edges)))
        events = tuple(Event(kind, float(value)) for kind, value in self.events)
        object.__setattr__(self, "events", events)
        for name in ("low", "high"):
            bound = getattr(self, name)
            object.__setattr__(self, name, None if bound is None else float(bound))
        if not self.name or "." in self.name:
            raise FieldError(
                f"the field name {self.name!r} is empty or has a dot", hint="choose another name"
            )
        where = f"field {self.name!r}"
        if self.role not in get_args(Role):
            roles = ", ".join(get_args(Role))
            raise FieldError(
                f"unknown role {self.role!r}", where=where, hint=f"choose among {roles}"
            )
        numbers = (*self.values, *self.edges, *(event.value for event in events))
        bounds = tuple(x for x in (self.low, self.high) if x is not None)
        if not all(map(math.isfinite, (*numbers, *bounds))):
            raise FieldError(
                "a value, edge or bound is NaN or infinite",
                where=where,
                hint="leave out low or high where there is no bound",
            )
        if self.classes is None:
            self._check_continuous(where)
        else:
            object.__setattr__(self, "classes", operator.index(self.classes))
            self._check_classes(where)

    def _check_continuous(self, where: str) -> None:
        if self.none is not None or self.rest is not None:
            raise FieldError(
                "a continuous field has a class without a value, or a rest", where=where
            )
        if self.values or self.edges or self.events:
            raise FieldError("a continuous field has values, edges or events", where=where)
        if self.interval.low > self.interval.high:
            raise FieldError(f"low {self.low} is above high {self.high}", where=where)

    def _check_classes(self, where: str) -> None:
        classes = self.classes or 0
        if classes < 1:
            raise FieldError(f"{classes} classes are too few", where=where, hint="give one or more")
        for name, column, n in (
            ("values", self.values, classes),
            ("edges", self.edges, classes + 1),
            ("events", self.events, classes),
        ):
            if column and len(column) != n:
                raise FieldError(f"{name} has {len(column)} entries instead of {n}", where=where)
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise FieldError("the edges do not ascend", where=where)
        for name in ("none", "rest"):
            k = getattr(self, name)
            if k is not None:
                object.__setattr__(self, name, operator.index(k))
                if not 0 <= k < classes:
                    raise FieldError(f"there is no class {k} of {classes}", where=where)
        if self.rest is not None and self.role != "step":
            raise FieldError("a field that is not a step has a rest", where=where)
        if self.none is not None and self.edges:
            raise FieldError("a field with a class without a value has edges", where=where)

    def __hash__(self) -> int:
        # Tables are cached by field, and the hash of all values would take longer than their use.
        return hash((self.name, self.role, self.classes))

    @classmethod
    def categorical(
        cls,
        name: str,
        role: Role,
        *,
        values: Sequence[float],
        edges: Sequence[float] = (),
        unit: str = "",
        none: bool = False,
        given: bool = False,
    ) -> Field:
        """A column of class ids, one class for each of `values`.

        With `none`, the last class, after those of `values`, stands for no value.

        Example:
            >>> Field.categorical("pitch", "pitch", values=range(128)).classes
            128
            >>> Field.categorical("second", "pitch", values=range(128), none=True).none
            128
        """
        if none:
            values = [*values, 0.0]
        return cls(
            name=name,
            role=role,
            unit=unit,
            classes=len(values),
            values=tuple(values),
            edges=tuple(edges),
            none=len(values) - 1 if none else None,
            given=given,
        )

    @classmethod
    def continuous(
        cls,
        name: str,
        role: Role,
        *,
        unit: str,
        low: float | None,
        high: float | None = None,
        given: bool = False,
    ) -> Field:
        """A column of numbers between `low` and `high`, both included, in `unit`."""
        return cls(name=name, role=role, unit=unit, low=low, high=high, given=given)

    @classmethod
    def of_events(cls, name: str, events: Sequence[Event]) -> Field:
        """A column of event ids, one class for each of `events`."""
        return cls(name=name, role="event", classes=len(events), events=tuple(events))

    @property
    def is_categorical(self) -> bool:
        """Whether the column holds class ids."""
        return self.classes is not None

    @property
    def interval(self) -> Interval:
        """The bounds of a continuous column, infinite where there is none."""
        return Interval(
            float("-inf") if self.low is None else self.low,
            float("inf") if self.high is None else self.high,
        )

    def value_of(self, entry: float) -> float:
        """The value of an entry in `unit`: that of its class, or the entry itself.

        It is NaN for the class `none`.
        """
        if self.none is not None and entry == self.none:
            return math.nan
        return self.values[int(entry)] if self.is_categorical else float(entry)


def by_name(fields: Sequence[Field]) -> dict[str, Field]:
    """The fields of an encoder or model by name, in order.

    Raises:
        FieldError: If there are none, or two have the same name.

    Example:
        >>> list(by_name([Field.continuous("step", "step", unit="s", low=0.0)]))
        ['step']
    """
    named = {field.name: field for field in fields}
    if not named or len(named) < len(fields):
        raise FieldError(
            f"the fields {', '.join(field.name for field in fields)} repeat a name"
            if fields
            else "there are no fields",
        )
    return named


def predicted(fields: Sequence[Field]) -> tuple[Field, ...]:
    """The fields that are not given, in order."""
    return tuple(field for field in fields if not field.given)


def written_rows(rows: Any, fields: Sequence[Field]) -> Any:
    """Which rows a model writes; the others are notes that are given to it.

    Given notes are context: their rows are neither trained, nor scored, nor sampled.

    Args:
        rows: (..., F) rows, of numpy or torch.
        fields: The F fields, or the first of the columns.

    Returns:
        (...) bool, of the same kind; None if there is no column of the role ``origin``, so that
        all rows are written.
    """
    for column, field in enumerate(fields):
        if field.role == "origin":
            return rows[..., column] == 0
    return None


def note_rows(rows: Rows, fields: Sequence[Field]) -> NDArray[np.bool_]:
    """(N,) which of rows (N, F) are notes, given or written; the others are rests.

    A row of an event column counts as a note.
    """
    found = np.ones(len(rows), dtype=np.bool_)
    for column, field in enumerate(fields):
        if field.rest is not None:
            written = written_rows(rows, fields)
            rest = rows[:, column] == field.rest
            found &= ~(rest if written is None else rest & written)
    return found


def known_before(fields: Sequence[Field], field_order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The fields of a row that are known when each field of it is predicted.

    Args:
        fields: The fields.
        field_order: The names of the predicted ones, in the order of prediction.

    Returns:
        By the name of a predicted field: the names of the given fields, and of those earlier in
        the order.
    """
    given = tuple(field.name for field in fields if field.given)
    return {name: (*given, *field_order[:i]) for i, name in enumerate(field_order)}


def no_row(fields: Sequence[Field]) -> Row:
    """(F,) stands for the row before the first one: -1 for class ids, NaN for numbers."""
    return np.array([-1 if field.is_categorical else math.nan for field in fields], np.float32)
