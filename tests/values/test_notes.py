"""Notes: columns that are checked, sorted, sliced and joined."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import NotesError
from notelstm.notes import DEFAULT_VELOCITY, BeatMap, Notes
from notelstm.testing import strategies


@given(strategies.notes(), st.randoms(use_true_random=False))
def test_notes_are_sorted_by_start_and_ties_keep_their_order(piece: Notes, random: Any) -> None:
    order = list(range(len(piece)))
    random.shuffle(order)
    shuffled = Notes(
        start=piece.start[order],
        end=piece.end[order],
        pitch=piece.pitch[order],
        velocity=piece.velocity[order],
        track=order,
    )
    assert np.all(np.diff(shuffled.start) >= 0)
    # `track` says which note went where: of notes that start together, the first given is first.
    assert shuffled.track is not None
    place = {note: at for at, note in enumerate(order)}
    for i in np.flatnonzero(np.diff(shuffled.start) == 0):
        assert place[int(shuffled.track[i])] < place[int(shuffled.track[i + 1])]
    back = np.argsort(shuffled.track)
    for name in ("start", "end", "pitch", "velocity"):
        assert np.array_equal(getattr(shuffled, name)[back], getattr(piece, name))


@given(strategies.notes(min_notes=1))
def test_columns_are_read_only(piece: Notes) -> None:
    for name in ("start", "end", "pitch", "velocity"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(piece, name)[0] = 1
    with pytest.raises(AttributeError):
        piece.start = np.zeros(1)  # type: ignore[misc]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_are_read_only_too(copied: Callable[[Any], Any]) -> None:
    piece = Notes(start=[0], end=[1], pitch=[60], beats=BeatMap())
    again = copied(piece)
    assert again == piece
    assert hash(again) == hash(piece)
    for column in (again.start, again.pitch, again.beats.seconds):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_what_is_equal_hashes_alike() -> None:
    plus, minus = (Notes(start=[x], end=[1], pitch=[60]) for x in (0.0, -0.0))
    assert plus == minus
    assert hash(plus) == hash(minus)
    assert BeatMap(seconds=[-0.0]) == BeatMap()
    assert hash(BeatMap(seconds=[-0.0])) == hash(BeatMap())


def test_a_column_is_a_copy_of_what_was_given() -> None:
    start = np.zeros(2)
    piece = Notes(start=start, end=[1, 1], pitch=[60, 61])
    start[:] = 5
    assert piece.start.tolist() == [0, 0]


@given(strategies.notes())
def test_steps_and_durations_add_up(piece: Notes) -> None:
    assert piece.step.shape == piece.duration.shape == (len(piece),)
    assert np.allclose(np.cumsum(piece.step), piece.start - piece.start[:1])
    assert np.allclose(piece.start + piece.duration, piece.end)
    if len(piece):
        assert piece.step[0] == 0
        assert piece.seconds == piece.end.max()
    else:
        assert piece.seconds == 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"start": [0, -1]}, "start is 0 to inf"),
        ({"start": [0, np.nan]}, "finite"),
        ({"end": [1, np.inf]}, "finite"),
        ({"end": [1, 0.5], "start": [0, 1]}, "note 1"),
        ({"pitch": [60, 128]}, r"pitch is 0 to 127; got 128 \(note 1\)"),
        ({"pitch": [-1, 60]}, r"got -1 \(note 0\)"),
        ({"pitch": [60.5, 60]}, "pitch holds whole numbers"),
        ({"pitch": [np.nan, 60]}, "pitch holds whole numbers"),
        ({"pitch": [np.inf, 60]}, "pitch holds whole numbers"),
        ({"pitch": [60]}, "pitch has one value a note, 2"),
        ({"pitch": [[60], [60]]}, "shape"),
        ({"pitch": ["a", "b"]}, "pitch is an array of numbers"),
        ({"pitch": ["60", "64"]}, "pitch is an array of numbers"),
        ({"pitch": np.array([60.5, 64], dtype=object)}, "pitch is an array of numbers"),
        ({"pitch": [60, 2**70]}, "pitch is an array of numbers"),
        ({"pitch": [60, 1e300]}, "pitch holds whole numbers"),
        ({"pitch": None}, "pitch is an array of numbers"),
        ({"end": None}, "end is an array of numbers"),
        ({"start": None}, "start is an array of numbers"),
        ({"start": [0, 1j]}, "start is an array of numbers"),
        ({"start": [[0], [0, 1]]}, "start is an array of numbers"),
        ({"end": torch.ones(2, requires_grad=True)}, "end is an array of numbers"),
        ({"drum": [0, 2]}, "drum is true or false; got 2"),
        ({"velocity": [0, 100]}, "velocity is 1 to 127"),
        ({"velocity": 128}, "velocity is 1 to 127"),
        ({"program": [0, 200]}, "program is 0 to 127"),
        ({"track": [0, 1, 2]}, "track has one value a note"),
    ],
)
def test_what_is_no_piece_is_refused(columns: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {"start": [0, 0.5], "end": [1, 1], "pitch": [60, 64]}
    Notes(**good)
    with pytest.raises(NotesError, match=words):
        Notes(**{**good, **columns})


def test_defaults() -> None:
    piece = Notes(start=[0], end=[1], pitch=[60.0])
    assert piece.velocity.tolist() == [DEFAULT_VELOCITY]
    assert piece.pitch.dtype == np.int64
    unread = (piece.program, piece.drum, piece.track, piece.beats)
    assert all(column is None for column in unread)
    assert len(Notes.empty()) == 0
    assert repr(Notes.empty()) == "Notes(0 notes)"
    assert repr(piece) == "Notes(1 notes, 1.00 s, pitch 60 to 60)"


@given(strategies.notes(), st.slices(24))
def test_slicing_keeps_times_and_columns(piece: Notes, at: slice) -> None:
    piece = Notes(start=piece.start, end=piece.end, pitch=piece.pitch, track=range(len(piece)))
    part = piece[at] if (at.step or 1) > 0 else piece[::2]
    chosen = range(len(piece))[at] if (at.step or 1) > 0 else range(len(piece))[::2]
    assert part.start.tolist() == [piece.start[i] for i in chosen]
    assert part.track is not None
    assert part.track.tolist() == list(chosen)


def test_indexing_by_mask_and_numbers() -> None:
    beats = BeatMap()
    piece = Notes(start=[0, 1, 2], end=[3, 3, 3], pitch=[60, 61, 62], beats=beats)
    assert piece[np.array([True, False, True])].pitch.tolist() == [60, 62]
    assert piece[np.array([1, 0])].pitch.tolist() == [60, 61]
    assert piece[1:].beats is beats


@given(strategies.notes(max_notes=6), strategies.notes(max_notes=6))
def test_merging_keeps_every_note(a: Notes, b: Notes) -> None:
    both = Notes.merge([a, b])
    assert len(both) == len(a) + len(b)
    assert sorted(both.pitch.tolist()) == sorted([*a.pitch.tolist(), *b.pitch.tolist()])
    assert Notes.merge([a]) == a
    assert Notes.merge([]) == Notes.empty()


@given(strategies.notes(max_notes=6), strategies.notes(max_notes=6), st.floats(0, 5))
def test_joining_plays_one_after_the_other(a: Notes, b: Notes, gap: float) -> None:
    both = Notes.join([a, b], gap=gap)
    assert len(both) == len(a) + len(b)
    assert np.array_equal(both.pitch[: len(a)], a.pitch)
    assert np.allclose(both.start[len(a) :], b.start + a.seconds + gap)
    assert np.allclose(both.duration[len(a) :], b.duration)


def test_optional_columns_survive_only_where_all_have_them() -> None:
    with_track = Notes(start=[0], end=[1], pitch=[60], track=[3], program=[5], drum=[True])
    without = Notes(start=[0], end=[1], pitch=[62])
    both = Notes.merge([with_track, with_track])
    assert both.track is not None
    assert both.track.tolist() == [3, 3]
    assert Notes.merge([with_track, without]).track is None


@given(strategies.notes(), st.floats(0, 100))
def test_shifting(piece: Notes, seconds: float) -> None:
    later = piece.shifted(seconds)
    assert np.array_equal(later.start, piece.start + seconds)
    assert np.array_equal(later.pitch, piece.pitch)


def test_shifting_takes_the_beats_along() -> None:
    piece = Notes(start=[1], end=[2], pitch=[60], beats=BeatMap(seconds=[0, 1], tempi=[60, 120]))
    assert piece.shifted(1).beats == BeatMap(seconds=[0, 2], tempi=[60, 120])
    assert piece.shifted(-1).beats == BeatMap(tempi=[120])


def test_shifting_before_the_start_is_refused() -> None:
    piece = Notes(start=[1], end=[2], pitch=[60], beats=BeatMap())
    with pytest.raises(NotesError, match="start is 0"):
        piece.shifted(-2)


@given(strategies.notes())
def test_by_pitch_orders_ties(piece: Notes) -> None:
    ordered = piece.by_pitch()
    ties = np.diff(ordered.start) == 0
    assert np.all(np.diff(ordered.pitch)[ties] >= 0)
    assert np.array_equal(ordered.start, piece.start)


@given(strategies.notes(max_notes=4), strategies.notes(max_notes=4))
def test_equality_and_hash_agree(a: Notes, b: Notes) -> None:
    copy = Notes(start=a.start, end=a.end, pitch=a.pitch, velocity=a.velocity)
    assert copy == a
    assert hash(copy) == hash(a)
    if a == b:
        assert hash(a) == hash(b)
        assert np.array_equal(a.velocity, b.velocity)
    assert a != "a piece"


def test_equality_looks_at_every_column() -> None:
    given: dict[str, Any] = {"start": [0], "end": [1], "pitch": [60]}
    base = Notes(**given)
    for change in (
        {"start": [0.5]},
        {"end": [2]},
        {"pitch": [61]},
        {"velocity": [1]},
        {"track": [0]},
        {"drum": [False]},
        {"program": [0]},
        {"beats": BeatMap()},
    ):
        assert Notes(**{**given, **change}) != base, change


def test_unchecked_columns_are_kept_and_cannot_be_changed() -> None:
    start, end = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    pitch, velocity = np.array([60, 62]), np.array([80, 90])
    notes = Notes.unchecked(start=start, end=end, pitch=pitch, velocity=velocity)
    assert notes == Notes(start=start, end=end, pitch=pitch, velocity=velocity)
    assert notes.start is start
    assert notes.track is None
    assert notes.beats is None
    with pytest.raises(ValueError, match="read-only"):
        pitch[0] = 61
