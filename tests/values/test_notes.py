"""Notes: columns that are checked, sorted, sliced and joined."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import NotesError
from notelstm.notes import DEFAULT_VELOCITY, Note, Notes, TempoMap
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
    # `track` numbers the given notes: of notes that start together, the first given is first.
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
    piece = Notes(start=[0], end=[1], pitch=[60], tempo_map=TempoMap())
    again = copied(piece)
    assert again == piece
    assert hash(again) == hash(piece)
    for column in (again.start, again.pitch, again.tempo_map.seconds):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_equal_notes_have_equal_hashes() -> None:
    plus, minus = (Notes(start=[x], end=[1], pitch=[60]) for x in (0.0, -0.0))
    assert plus == minus
    assert hash(plus) == hash(minus)
    assert TempoMap(seconds=[-0.0]) == TempoMap()
    assert hash(TempoMap(seconds=[-0.0])) == hash(TempoMap())


def test_columns_are_copies_of_the_arguments() -> None:
    start = np.zeros(2)
    piece = Notes(start=start, end=[1, 1], pitch=[60, 61])
    start[:] = 5
    assert piece.start.tolist() == [0, 0]


@given(strategies.notes())
def test_steps_and_durations_sum_to_the_times(piece: Notes) -> None:
    assert piece.step.shape == piece.duration.shape == (len(piece),)
    assert np.allclose(np.cumsum(piece.step), piece.start - piece.start[:1])
    assert np.allclose(piece.start + piece.duration, piece.end)
    if len(piece):
        assert piece.step[0] == 0
        assert piece.end_time == piece.end.max()
    else:
        assert piece.end_time == 0


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"start": [0, -1]}, "start -1 is not at least 0"),
        ({"start": [0, np.nan]}, "infinite"),
        ({"end": [1, np.inf]}, "infinite"),
        ({"end": [1, 0.5], "start": [0, 1]}, "note 1"),
        ({"pitch": [60, 128]}, r"pitch 128 is not 0 to 127 \(note 1\)"),
        ({"pitch": [-1, 60]}, r"pitch -1 is not .* \(note 0\)"),
        ({"pitch": [60.5, 60]}, "is not a whole number"),
        ({"pitch": [np.nan, 60]}, "is not a whole number"),
        ({"pitch": [np.inf, 60]}, "is not a whole number"),
        ({"pitch": [60]}, r"pitch has the shape \(1,\), not one value for each note"),
        ({"pitch": [[60], [60]]}, "shape"),
        ({"pitch": ["a", "b"]}, "pitch is not an array of numbers"),
        ({"pitch": ["60", "64"]}, "pitch is not an array of numbers"),
        ({"pitch": np.array([60.5, 64], dtype=object)}, "pitch is not an array of numbers"),
        ({"pitch": [60, 2**70]}, "pitch is not an array of numbers"),
        ({"pitch": [60, 1e300]}, "is not a whole number"),
        ({"pitch": None}, "pitch is not an array of numbers"),
        ({"end": None}, "end is not an array of numbers"),
        ({"start": None}, "start is not an array of numbers"),
        ({"start": [0, 1j]}, "start is not an array of numbers"),
        ({"start": [[0], [0, 1]]}, "start is not an array of numbers"),
        ({"end": torch.ones(2, requires_grad=True)}, "end is not an array of numbers"),
        ({"drum": [0, 2]}, "drum 2 is neither true nor false"),
        ({"velocity": [0, 100]}, "velocity 0 is not 1 to 127"),
        ({"velocity": 128}, "velocity 128 is not 1 to 127"),
        ({"program": [0, 200]}, "program 200 is not 0 to 127"),
        ({"track": [0, 1, 2]}, r"track has the shape \(3,\)"),
    ],
)
def test_invalid_pieces_are_rejected(columns: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {"start": [0, 0.5], "end": [1, 1], "pitch": [60, 64]}
    Notes(**good)
    with pytest.raises(NotesError, match=words):
        Notes(**{**good, **columns})


def test_defaults() -> None:
    piece = Notes(start=[0], end=[1], pitch=[60.0])
    assert piece.velocity.tolist() == [DEFAULT_VELOCITY]
    assert piece.pitch.dtype == np.int64
    unread = (piece.program, piece.drum, piece.track, piece.tempo_map)
    assert all(column is None for column in unread)
    assert len(Notes.empty()) == 0
    assert repr(Notes.empty()) == "Notes(0 notes)"
    assert repr(piece) == "Notes(1 note, 1.00 s, pitch 60 to 60)"


@given(strategies.notes(), st.slices(24))
def test_slicing_keeps_times_and_columns(piece: Notes, at: slice) -> None:
    piece = Notes(start=piece.start, end=piece.end, pitch=piece.pitch, track=range(len(piece)))
    part = piece[at] if (at.step or 1) > 0 else piece[::2]
    chosen = range(len(piece))[at] if (at.step or 1) > 0 else range(len(piece))[::2]
    assert part.start.tolist() == [piece.start[i] for i in chosen]
    assert part.track is not None
    assert part.track.tolist() == list(chosen)


def test_indexing_by_mask_and_numbers() -> None:
    beats = TempoMap()
    piece = Notes(start=[0, 1, 2], end=[3, 3, 3], pitch=[60, 61, 62], tempo_map=beats)
    assert piece[np.array([True, False, True])].pitch.tolist() == [60, 62]
    assert piece[np.array([1, 0])].pitch.tolist() == [60, 61]
    assert piece[1:].tempo_map is beats


@given(strategies.notes(max_notes=6), strategies.notes(max_notes=6))
def test_merging_keeps_every_note(a: Notes, b: Notes) -> None:
    both = Notes.merge([a, b])
    assert len(both) == len(a) + len(b)
    assert sorted(both.pitch.tolist()) == sorted([*a.pitch.tolist(), *b.pitch.tolist()])
    assert Notes.merge([a]) == a
    assert Notes.merge([]) == Notes.empty()


@given(strategies.notes(max_notes=6), strategies.notes(max_notes=6), st.floats(0, 5))
def test_concatenation_is_sequential(a: Notes, b: Notes, gap: float) -> None:
    both = Notes.concatenate([a, b], gap=gap)
    assert len(both) == len(a) + len(b)
    assert np.array_equal(both.pitch[: len(a)], a.pitch)
    assert np.allclose(both.start[len(a) :], b.start + a.end_time + gap)
    assert np.allclose(both.duration[len(a) :], b.duration)


def test_concatenated_tempo_maps_follow_one_another() -> None:
    slow = Notes(start=[0], end=[4], pitch=[60], tempo_map=TempoMap(tempos=[60]))
    fast = Notes(
        start=[0], end=[1], pitch=[62], tempo_map=TempoMap(seconds=[0, 1], tempos=[90, 120])
    )
    plain = Notes(start=[0], end=[2], pitch=[64])
    joined = Notes.concatenate([slow, fast, plain, slow], gap=1.0)
    assert joined.tempo_map == TempoMap(seconds=[0, 5, 6, 10], tempos=[60, 90, 120, 60])
    assert Notes.concatenate([plain, plain]).tempo_map is None


@given(st.lists(strategies.notes(max_notes=6, instruments=True), min_size=1, max_size=3))
def test_instruments_and_tempo_are_merged_too(parts: list[Notes]) -> None:
    """A column that a piece does not have is filled up: piano, no percussion, track 0."""
    both = Notes.merge(
        [*parts, Notes(start=[0], end=[1], pitch=[60], tempo_map=TempoMap(tempos=[90]))]
    )
    assert both.tempo_map == TempoMap(tempos=[90])
    for name in ("program", "drum", "track"):
        columns = [getattr(p, name) for p in parts if getattr(p, name) is not None]
        if not columns:
            assert getattr(both, name) is None
            continue
        given = [value for column in columns for value in column.tolist()]
        assert sorted(getattr(both, name).tolist()) == sorted([*given, 0])


@given(
    strategies.notes(min_notes=1, instruments=True, beats=strategies.beat_maps()),
    st.integers(1, 30),
    st.floats(0.01, 100),
    st.integers(1, 20),
)
def test_first_keeps_the_beginning_of_a_piece(
    piece: Notes, notes: int, seconds: float, bars: int
) -> None:
    assert piece.first() is piece
    assert piece.tempo_map is not None
    cut = piece.tempo_map.seconds_of_bars(bars)
    few, short = piece.first(notes=notes), piece.first(seconds=seconds)
    some = piece.first(bars=bars)
    assert few.start.tolist() == piece.start[:notes].tolist()
    for part, end in ((short, seconds), (some, cut)):
        assert (part.start < end).all()
        assert (piece.start[len(part) :] >= end - 2e-6).all()
        for name in ("end", "pitch", "program", "drum", "track"):
            column = getattr(piece, name)
            wanted = None if column is None else column[: len(part)].tolist()
            got = getattr(part, name)
            assert (got if got is None else got.tolist()) == wanted
    shortest = min(len(few), len(short), len(some))
    assert len(piece.first(notes=notes, seconds=seconds, bars=bars)) == shortest
    for part in (few, short, some):
        assert part.tempo_map is not None
        if len(part) < len(piece):
            assert (part.tempo_map.seconds[1:] < piece.start[len(part)]).all()
        at = np.linspace(0, part.start.max(initial=0.0), 20)
        np.testing.assert_allclose(
            part.tempo_map.beats_at(at), piece.tempo_map.beats_at(at), atol=1e-4
        )


def test_a_beginning_within_a_chord_is_truncated() -> None:
    piece = Notes(start=[0, 1, 1], end=2, pitch=[60, 62, 65])
    assert piece.first(notes=2).truncated
    assert not piece.first(notes=3).truncated


@pytest.mark.parametrize(
    "wrong", [{"notes": 0}, {"notes": 1.5}, {"seconds": 0.0}, {"seconds": np.nan}, {"bars": -1}]
)
def test_a_beginning_without_length_is_rejected(wrong: dict[str, Any]) -> None:
    piece = Notes(start=[0], end=[1], pitch=[60], tempo_map=TempoMap())
    with pytest.raises(NotesError, match="cannot be taken from"):
        piece.first(**wrong)


def test_bars_need_a_tempo_map() -> None:
    with pytest.raises(NotesError, match="without a tempo map"):
        Notes(start=[0], end=[1], pitch=[60]).first(bars=1)


@given(
    strategies.notes(min_notes=1, instruments=True, beats=strategies.beat_maps()),
    strategies.notes(max_notes=6),
)
def test_a_continuation_keeps_tempo_and_instruments(prompt: Notes, new: Notes) -> None:
    whole = prompt.continued(new)
    assert whole.tempo_map == prompt.tempo_map
    assert whole[: len(prompt)] == prompt
    np.testing.assert_array_equal(whole.start[len(prompt) :], new.start + prompt.start[-1])
    instruments = [
        tuple(row)
        for row in zip(
            *(getattr(whole, name).tolist() for name in ("program", "drum", "track")), strict=True
        )
    ]
    before = instruments[: len(prompt)]
    most = max(before.count(instrument) for instrument in before)
    after = set(instruments[len(prompt) :])
    assert len(after) == bool(len(new))
    assert all(before.count(instrument) == most for instrument in after)


def test_a_continuation_keeps_its_own_columns() -> None:
    prompt = Notes(start=[0, 1], end=[1, 2], pitch=[60, 62], program=[3, 3], track=[5, 5])
    new = Notes(start=[0.5], end=[1], pitch=[64], program=[9], drum=[True])
    whole = prompt.continued(new)
    columns = (whole.program, whole.track, whole.drum)
    assert [None if c is None else c.tolist() for c in columns] == [
        [3, 3, 9],
        [5, 5, 5],
        [False, False, True],
    ]
    plain = Notes(start=[0, 1], end=[1, 2], pitch=[60, 62]).continued(new[:0])
    assert plain.program is not None, "an empty continuation that has programs"
    assert Notes.empty().continued(new) == new
    faster = Notes(start=[0.5], end=[1], pitch=[64], tempo_map=TempoMap(tempos=[90]))
    assert prompt.continued(faster).tempo_map == TempoMap(seconds=[0, 1], tempos=[120, 90])


NAMED = Notes(
    start=[0, 1, 2],
    end=3,
    pitch=[60, 62, 36],
    program=[40, 33, 0],
    drum=[False, False, True],
    track=[0, 1, 2],
    track_names=["Lead", "Bass", ""],
)


def test_names_of_tracks_are_kept() -> None:
    names = ("Lead", "Bass", "")
    assert NAMED.track_names == names
    for same in (
        NAMED[1:],
        NAMED[NAMED.pitch > 99],
        NAMED.first(notes=2),
        NAMED.shifted(1),
        NAMED.by_pitch(),
        Notes.merge([Notes.empty(), NAMED]),
        NAMED.continued(Notes(start=[1], end=[2], pitch=[60])),
        pickle.loads(pickle.dumps(NAMED)),
        copy.deepcopy(NAMED),
    ):
        assert same.track_names == names
    assert replace(NAMED, track_names=None) != NAMED
    with pytest.raises(NotesError, match="track_names 'abc' is not a sequence of texts"):
        replace(NAMED, track_names="abc")  # type: ignore[arg-type]
    more = replace(NAMED, track_names=("Other", "", "Kit", "Flute"))
    assert Notes.merge([NAMED, more]).track_names == ("Lead", "Bass", "Kit", "Flute")
    assert Notes.concatenate([more, NAMED]).track_names == ("Other", "Bass", "Kit", "Flute")


def test_a_piece_of_another_version_has_no_names() -> None:
    old = Notes.__new__(Notes)
    state = {name: getattr(NAMED, name) for name in Notes.__dataclass_fields__}
    del state["track_names"]
    old.__setstate__(state)
    assert old == replace(NAMED, track_names=None)


def test_a_continuation_with_names_finds_its_tracks() -> None:
    new = Notes(
        start=[0, 1, 2, 3],
        end=4,
        pitch=[36, 60, 62, 64],
        program=[8, 33, 5, 40],
        drum=[True, False, False, False],
        track=[0, 1, 2, 3],
        track_names=["Drums", "BASS", "Keys", "Strings"],
    )
    whole = NAMED.continued(new)
    assert whole.track is not None
    # Bass by name, strings by program; drums of another kit and keys are new.
    assert whole.track.tolist() == [0, 1, 2, 3, 1, 4, 0]
    assert whole.track_names == ("Lead", "Bass", "", "Drums", "Keys")
    # Tracks without a name are told apart by program.
    some = new[1:]._with(track_names=["", "", "", ""]).in_tracks_of(NAMED)
    assert some.track is not None
    assert some.track.tolist() == [1, 3, 0]
    two = new[1:]._with(program=[7, 5, 40], track_names=[""]).in_tracks_of(NAMED)
    assert two.track is not None
    assert two.track.tolist() == [3, 4, 0]
    unnamed = replace(NAMED, track_names=None).continued(replace(new, track_names=None))
    assert unnamed.track is not None
    assert unnamed.track.tolist() == [0, 1, 2, 0, 1, 2, 3]


@given(strategies.notes(instruments=True))
def test_a_piece_of_its_notes(piece: Notes) -> None:
    names = [name for name in Note._fields if getattr(piece, name) is not None]
    columns = (getattr(piece, name).tolist() for name in names)
    notes = [Note(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    assert all(type(value) in (int, float, bool) for note in notes for value in note)
    built = Notes.of(notes, track_names=piece.track_names)
    assert built == piece or not len(piece)


@given(strategies.notes(), st.floats(0, 100))
def test_shifting(piece: Notes, seconds: float) -> None:
    later = piece.shifted(seconds)
    assert np.array_equal(later.start, piece.start + seconds)
    assert np.array_equal(later.pitch, piece.pitch)


def test_shifting_moves_the_tempo_map() -> None:
    piece = Notes(
        start=[1], end=[2], pitch=[60], tempo_map=TempoMap(seconds=[0, 1], tempos=[60, 120])
    )
    assert piece.shifted(1).tempo_map == TempoMap(seconds=[0, 2], tempos=[60, 120])
    assert piece.shifted(-1).tempo_map == TempoMap(tempos=[120])


def test_shifting_before_the_start_is_rejected() -> None:
    piece = Notes(start=[1], end=[2], pitch=[60], tempo_map=TempoMap())
    with pytest.raises(NotesError, match="start -1 is not at least 0"):
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


def test_equality_compares_every_column() -> None:
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
        {"tempo_map": TempoMap()},
    ):
        assert Notes(**{**given, **change}) != base, change


def test_unchecked_columns_are_kept_and_cannot_be_changed() -> None:
    start, end = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    pitch, velocity = np.array([60, 62]), np.array([80, 90])
    notes = Notes.unchecked(start=start, end=end, pitch=pitch, velocity=velocity)
    assert notes == Notes(start=start, end=end, pitch=pitch, velocity=velocity)
    assert notes.start is start
    assert notes.track is None
    assert notes.tempo_map is None
    with pytest.raises(ValueError, match="read-only"):
        pitch[0] = 61
