"""LogTimeEncoder(exact=True): whole cells, ascending pitches, and the rows that it allows."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm import plugins
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.encoders.rows import RowTracker, snapped, watch_changes
from notelstm.evaluation import quantize
from notelstm.evaluation.grid import cells_of
from notelstm.fields import Rows
from notelstm.notes import Notes
from notelstm.testing import strategies

EXACT = LogTimeEncoder(exact=True)
PLAIN = LogTimeEncoder()
DENSE = strategies.notes(min_notes=1, longest_rest=0.02, pitches=(58, 62), max_notes=40)


def test_exact_has_the_same_class_edges_and_whole_cells_as_values() -> None:
    for exact, plain in zip(EXACT.fields, PLAIN.fields, strict=True):
        assert (exact.classes, exact.edges) == (plain.classes, plain.edges)
        assert np.abs(np.array(exact.values) - plain.values).max() < 0.00501 or exact.unit != "s"
    for field in EXACT.fields[1:3]:
        cells = np.array(field.values) / EXACT.cell
        assert np.allclose(cells, np.rint(cells), rtol=0, atol=1e-9)


def test_exact_is_stored_and_its_default_is_false() -> None:
    described = plugins.describe(EXACT)
    assert plugins.build(described) == EXACT
    settings = {name: value for name, value in described["config"].items() if name != "exact"}
    old = {**described, "config": settings}
    assert plugins.build(old) == PLAIN


@given(st.one_of(DENSE, strategies.notes()))
def test_snapped_notes_are_rounded_sorted_and_merged(piece: Notes) -> None:
    found = EXACT.snapped(piece)
    assert found is not None
    onset = np.rint(found.start / 0.01)
    assert np.allclose(found.start, onset * 0.01, rtol=0, atol=1e-9)
    order = list(zip(onset.tolist(), found.pitch.tolist(), strict=True))
    assert order == sorted(set(order))
    whole: dict[tuple[float, int], tuple[float, int]] = {}
    for start, end, pitch, velocity in zip(
        piece.start, piece.end, piece.pitch, piece.velocity, strict=True
    ):
        at = (float(np.rint(start / 0.01)), int(pitch))
        assert abs(at[0] * 0.01 - start) <= 0.005 + 1e-9
        duration = max(1.0, float(np.rint((end - start) / 0.01)))
        longest, loudest = whole.get(at, (0.0, 0))
        whole[at] = (max(longest, duration), max(loudest, int(velocity)))
    assert order == sorted(whole)
    for at, duration, velocity in zip(order, found.duration, found.velocity, strict=True):
        assert duration / 0.01 == pytest.approx(whole[at][0], abs=1e-6)
        assert velocity == whole[at][1]


@given(strategies.notes(longest_rest=29.0))
def test_step_is_the_class_of_the_difference_of_rounded_onsets(piece: Notes) -> None:
    notes = snapped(EXACT, quantize(piece))
    rows = EXACT.encode(piece)
    step = cells_of(notes)["step"] * 0.01
    assert np.array_equal(rows[:, 1], np.searchsorted(EXACT.fields[1].edges[1:-1], step, "right"))
    assert np.array_equal(rows, EXACT.encode(quantize(piece)))


def test_steps_after_a_long_one_are_exact() -> None:
    start = np.array([0.0, 1.013, 1.013, 1.043, 2.2, 2.21])
    piece = Notes(start=start, end=start + 1, pitch=[60, 60, 64, 67, 50, 49])
    back = EXACT.decode(EXACT.encode(piece))
    steps = np.diff(back.start)
    assert steps[[1, 2, 4]].tolist() == pytest.approx([0.0, 0.03, 0.01], abs=1e-9)


@given(strategies.notes(longest_rest=60.0))
def test_without_exact_notes_are_not_snapped(piece: Notes) -> None:
    assert PLAIN.snapped(piece) is None
    assert snapped(PLAIN, piece) is piece
    assert PLAIN.limited_fields == ()
    assert len(PLAIN.encode(piece)) == len(piece)


def follows(previous: tuple[int, int] | None, step: int, pitch: int) -> bool:
    """Whether a note can follow another, by the definition."""
    return previous is None or step > 0 or pitch > previous[1]


@pytest.mark.parametrize("order", list(itertools.permutations(["step", "pitch"])), ids=str)
@pytest.mark.parametrize("previous", [None, (0, 0), (3, 60), (0, 126), (5, 127)], ids=str)
def test_allowed_classes_are_those_with_a_valid_completion(
    order: tuple[str, str], previous: tuple[int, int] | None
) -> None:
    """Each class is allowed exactly if some completion of the row follows; never a dead end."""
    names = [field.name for field in EXACT.fields]
    row = [-1.0] * 4 if previous is None else [float(previous[1]), float(previous[0]), 3.0, 3.0]
    sizes = {"step": EXACT.fields[1].classes or 0, "pitch": 128}
    for convert in (np.float32, lambda x: torch.tensor([x]).long()):
        before = {name: convert(x) for name, x in zip(names, row, strict=True)}

        def allowed(field: str, known: dict[str, Any], before: Any = before) -> list[bool]:
            mask = EXACT.allowed_classes(field, known, before)
            return [True] * sizes[field] if mask is None else np.asarray(mask).ravel().tolist()

        first, second = order
        got = allowed(first, {})
        for k in (0, 1, 2, 59, 60, 61, sizes[first] - 1):
            rest = [follows(previous, **{first: k, second: j}) for j in range(sizes[second])]
            assert got[k] == any(rest)
            if got[k]:
                assert allowed(second, {first: convert(k)}) == rest


@given(st.lists(st.tuples(*[st.floats(0, 1, exclude_max=True)] * 4), min_size=1, max_size=40))
def test_allowed_rows_round_trip(draws: list[tuple[float, ...]]) -> None:
    """Any allowed row comes back from a round trip, so nothing allowed is lost or moved."""
    tracker, rows = RowTracker(EXACT), []
    for numbers in draws:
        known: dict[str, float] = {}
        for field, x in zip(EXACT.fields, numbers, strict=True):
            # The power prefers step 0, the root high pitches, so that notes often share a cell.
            share = x**0.2 if field.name == "pitch" else x**6
            mask = tracker.allowed(field, known)
            classes = np.arange(field.classes or 0) if mask is None else np.flatnonzero(mask)
            known[field.name] = float(classes[min(int(share * len(classes)), len(classes) - 1)])
        rows.append(np.array(list(known.values()), dtype=np.float32))
        tracker.push(rows[-1])
    table: Rows = np.stack(rows)
    again = EXACT.encode(EXACT.decode(table))
    # The first step is a silence before the piece, which no encoder of steps keeps.
    table[0, 1] = 0
    assert np.array_equal(again, table)


def test_merged_notes_are_counted_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    twice = Notes(start=[0, 0.001, 1], end=[1, 2, 3], pitch=[60, 60, 60], velocity=[9, 50, 1])
    with caplog.at_level(logging.WARNING):
        assert list(watch_changes([twice, twice], EXACT)) == [twice, twice]
    (record,) = caplog.records
    assert record.getMessage() == (
        "LogTimeEncoder changes notes of 2 of 2 pieces: "
        "2 notes that repeat a pitch within a cell, merged"
    )
    caplog.clear()
    list(watch_changes([twice], PLAIN))
    list(watch_changes([twice], StepDurationEncoder()))
    list(watch_changes([twice[1:]], EXACT))
    assert not caplog.records
    kept = EXACT.snapped(twice)
    assert kept is not None
    assert kept.velocity.tolist() == [50, 1]
    assert kept.duration[0] == pytest.approx(2.0)


def test_snapped_notes_keep_program_and_drum() -> None:
    piece = Notes(start=[0, 0.001], end=[1, 2], pitch=[62, 60], program=[3, 4], drum=[False, True])
    found = snapped(EXACT, piece)
    assert found.program is not None
    assert found.drum is not None
    assert list(zip(found.pitch, found.program, found.drum, strict=True)) == [
        (60, 4, True),
        (62, 3, False),
    ]
