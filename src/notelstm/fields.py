"""``Field``: what one column of an encoder's rows means.

From its fields a model builds inputs and heads, a loss its terms, a mask knows which class is which
pitch, and the scorer knows how wide a class is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import FieldError

__all__ = ["Event", "EventType", "Field", "Interval", "Mask", "Role", "Row", "Rows"]

Role: TypeAlias = Literal[
    "pitch", "step", "duration", "velocity", "position", "tempo", "event", "other"
]
"""What a column says of a note; ``event`` columns say it in several rows a note, ``other`` columns
say what no role names (an interval, say), so that only their encoder can make notes of it."""

EventType: TypeAlias = Literal["note-on", "note-off", "shift", "velocity"]
"""What a class of an event field does."""

Rows: TypeAlias = NDArray[np.float32]
"""(N, F) an encoder's numbers: class ids (exact in float32) and continuous values, unscaled."""

Row: TypeAlias = NDArray[np.float32]
"""(F,) one row of :data:`Rows`."""


class Interval(NamedTuple):
    """The values that a continuous field may take next, both ends included.

    Attributes:
        low: The least, or negative infinity.
        high: The greatest, or infinity.
    """

    low: float
    high: float


Mask: TypeAlias = NDArray[np.bool_] | Interval
"""What may come next: (C,) True for each legal class, or an interval of a continuous field."""


class Event(NamedTuple):
    """What one class of an event field does.

    Attributes:
        type: The kind of event.
        value: MIDI note number, seconds of a shift, or MIDI velocity.
    """

    type: EventType
    value: float


@final
@dataclass(frozen=True, kw_only=True)
class Field:
    """What one column of an encoder's rows means.

    Build one with :meth:`categorical`, :meth:`continuous` or :meth:`of_events`.

    Attributes:
        name: The column's name, unique within an encoder.
        role: What the column says of a note.
        unit: Unit of `values`, of `edges` and of a continuous column: ``"s"``, ``"beat"``,
            ``"MIDI note"`` ...
        classes: Number of classes of a categorical column, None for a continuous one.
        values: What each class decodes to, in `unit`; the very numbers that ``decode`` uses.
        edges: ``classes + 1`` ascending borders of the classes in `unit`, for ordered classes. The
            first and last class take the tails beyond the outer borders when they are scored.
        events: What each class of an event column does.
        low: The least value a continuous column may take, None where there is no bound.
        high: The greatest value a continuous column may take, None where there is no bound.
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

    def __post_init__(self) -> None:
        """Check that the parts agree with each other.

        Raises:
            FieldError: If sizes differ, or edges do not ascend.
        """
        # JSON gives lists back; a Field read from a file must equal the one written.
        object.__setattr__(self, "values", tuple(map(float, self.values)))
        object.__setattr__(self, "edges", tuple(map(float, self.edges)))
        events = tuple(Event(kind, float(value)) for kind, value in self.events)
        object.__setattr__(self, "events", events)
        if not self.name:
            raise FieldError("a field has a name", got="an empty one")
        where = f"field {self.name!r}"
        if self.classes is None:
            if self.values or self.edges or self.events:
                raise FieldError("a continuous field has no classes", where=where)
            return
        if self.classes < 1:
            raise FieldError("a field has a class", got=f"{self.classes}", where=where)
        for name, column, n in (
            ("values", self.values, self.classes),
            ("edges", self.edges, self.classes + 1),
            ("events", self.events, self.classes),
        ):
            if column and len(column) != n:
                raise FieldError(f"{name} has {n} entries", got=f"{len(column)}", where=where)
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise FieldError("edges ascend", where=where)

    @classmethod
    def categorical(
        cls,
        name: str,
        role: Role,
        *,
        values: Sequence[float],
        edges: Sequence[float] = (),
        unit: str = "",
    ) -> Field:
        """A column of class ids, one class for each of `values`.

        Example:
            >>> Field.categorical("pitch", "pitch", values=range(128)).classes
            128
        """
        return cls(
            name=name,
            role=role,
            unit=unit,
            classes=len(values),
            values=tuple(values),
            edges=tuple(edges),
        )

    @classmethod
    def continuous(
        cls, name: str, role: Role, *, unit: str, low: float | None, high: float | None = None
    ) -> Field:
        """A column of numbers between `low` and `high`, both included, in `unit`."""
        return cls(name=name, role=role, unit=unit, low=low, high=high)

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
        """What a continuous column may hold at any time, whatever came before."""
        return Interval(
            float("-inf") if self.low is None else self.low,
            float("inf") if self.high is None else self.high,
        )

    def value_of(self, entry: float) -> float:
        """What one entry of the column stands for, in `unit`: its class's value, or itself."""
        return self.values[int(entry)] if self.is_categorical else float(entry)
