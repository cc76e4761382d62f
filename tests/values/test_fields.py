"""Field: what a column means, checked when it is made."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import FieldError
from notelstm.fields import Event, Field, by_name, known_before, predicted
from notelstm.testing import strategies


@given(strategies.fields())
def test_fields_round_trip_through_json(columns: tuple[Field, ...]) -> None:
    for field in columns:
        assert Field(**json.loads(json.dumps(asdict(field)))) == field
        assert hash(Field(**asdict(field))) == hash(field)


@pytest.mark.parametrize("given", [False, True])
def test_given_fields_and_classes_without_a_value_round_trip_through_json(given: bool) -> None:
    for field in (
        Field.categorical("pitch", "pitch", values=range(3), none=True, given=given),
        Field.continuous("step", "step", unit="s", low=0.0, given=given),
    ):
        again = Field(**json.loads(json.dumps(asdict(field))))
        assert again == field
        assert again.given == given


def test_fields_are_known_before_those_that_follow() -> None:
    key = Field.categorical("key", "other", values=range(12), given=True)
    one, two = (Field.continuous(name, "other", unit="", low=None) for name in ("one", "two"))
    fields = (one, key, two)
    assert predicted(fields) == (one, two)
    assert known_before(fields, ("two", "one")) == {"two": ("key",), "one": ("key", "two")}


@given(st.data())
def test_entries_map_to_values(data: st.DataObject) -> None:
    columns = data.draw(strategies.fields())
    rows = data.draw(strategies.rows_for(columns))
    for field, column in zip(columns, rows.T, strict=True):
        for entry in column.tolist():
            if field.values:
                assert field.value_of(entry) == field.values[int(entry)]
            elif not field.is_categorical:
                assert field.value_of(entry) == entry


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": ""}, "empty or has a dot"),
        ({"classes": 0}, "0 classes"),
        ({"classes": None, "values": (1,)}, "has values, edges or events"),
        ({"classes": None, "edges": (1, 2)}, "has values, edges or events"),
        ({"classes": None, "events": (("shift", 1),)}, "has values, edges or events"),
        ({"values": (1.0,)}, "values has 1 entries instead of 2"),
        ({"edges": (0.0, 1.0)}, "edges has 2 entries instead of 3"),
        ({"events": (("shift", 1),)}, "events has 1 entries instead of 2"),
        ({"edges": (0.0, 1.0, 1.0)}, "do not ascend"),
        ({"edges": (0.0, 2.0, 1.0)}, "do not ascend"),
        ({"edges": (0.0, float("nan"), 1.0)}, "finite"),
        ({"edges": (0.0, 1.0, float("inf"))}, "finite"),
        ({"values": (0.0, float("nan"))}, "finite"),
        ({"classes": None, "low": float("-inf")}, "finite.*Leave out"),
        ({"classes": None, "low": 1.0, "high": 0.0}, "low 1.0 is above high 0.0"),
        ({"role": "pich"}, r"unknown role 'pich' \(field 'x'\).*pitch"),
        ({"name": "a.b"}, "has a dot"),
    ],
)
def test_inconsistent_fields_are_rejected(settings: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {"name": "x", "role": "pitch", "classes": 2}
    Field(**good)
    with pytest.raises(FieldError, match=words):
        Field(**{**good, **settings})


def test_numpy_numbers_become_plain_ones() -> None:
    field = Field(name="x", role="pitch", classes=np.int64(2), values=np.arange(2))  # type: ignore[arg-type]
    assert Field(**json.loads(json.dumps(asdict(field)))) == field
    bounded = Field.continuous("x", "step", unit="s", low=np.float32(0), high=np.float64(1))  # type: ignore[arg-type]
    assert Field(**json.loads(json.dumps(asdict(bounded)))) == bounded


def test_names_are_not_shared() -> None:
    step = Field.continuous("step", "step", unit="s", low=0.0)
    other = Field.continuous("rest", "step", unit="s", low=0.0)
    assert by_name([step, other]) == {"step": step, "rest": other}
    with pytest.raises(FieldError, match="step, step repeat"):
        by_name([step, step])
    with pytest.raises(FieldError, match="no fields"):
        by_name([])


def test_the_three_constructors() -> None:
    classes = Field.categorical("a", "pitch", values=(60, 62), edges=(59, 61, 63), unit="note")
    assert (classes.classes, classes.is_categorical) == (2, True)
    times = Field.continuous("b", "step", unit="s", low=0.0)
    assert (times.classes, times.is_categorical) == (None, False)
    assert times.interval == (0.0, float("inf"))
    assert Field.continuous("b", "step", unit="s", low=None).interval.low == float("-inf")
    events = Field.of_events("c", [Event("note-on", 60), Event("shift", 0.5)])
    assert (events.classes, events.role) == (2, "event")
    assert events.events[1] == ("shift", 0.5)
