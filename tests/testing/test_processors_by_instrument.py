"""Processors keep the clauses about instruments: by default not on drums, each on its own notes."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import pytest

from notelstm.errors import ConfigError
from notelstm.sampling import (
    ForbidValues,
    MaxChordSize,
    MaxPolyphony,
    NoRepeatNGram,
    PitchRange,
    RepetitionPenalty,
    Scale,
)
from notelstm.testing import check_processor

MAKERS: list[tuple[Any, dict[str, Any]]] = [
    (Scale, {"name": "C major"}),
    (PitchRange, {"low": 40, "high": 60}),
    (ForbidValues, {"values": (36.0, 38.0, 60.0)}),
    (NoRepeatNGram, {"ngram_size": 1}),
    (RepetitionPenalty, {"penalty": 3.0}),
    (MaxPolyphony, {"notes": 1}),
    (MaxChordSize, {"notes": 1}),
]


@pytest.mark.parametrize(("make", "settings"), MAKERS)
@pytest.mark.parametrize(
    ("chosen", "acts"),
    [
        ({}, {"Piano", "Bass"}),
        ({"drums": True}, {"Piano", "Bass", "Drums"}),
        ({"instruments": ("bass",)}, {"Bass"}),
        ({"instruments": ["Drums"]}, {"Drums"}),
    ],
)
def test_each_acts_on_the_instruments_that_it_is_given(
    make: Any, settings: dict[str, Any], chosen: dict[str, Any], acts: Set[str]
) -> None:
    check_processor(make(**settings, **chosen), instruments=acts)


@pytest.mark.parametrize(("make", "settings"), MAKERS)
def test_names_are_a_sequence(make: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\('Bass',\)"):
        make(**settings, instruments="Bass")
    with pytest.raises(ConfigError, match="drums 'yes' is not true or false"):
        make(**settings, drums="yes")
