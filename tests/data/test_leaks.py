"""Music in two places is found and named, and what is alike by chance is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data.leaks import COMMON, Leak, find_duplicates, find_leaks, find_shared
from notelstm.data.splits import Split, split_by_keys
from notelstm.notes import Notes


def tune(seed: int, n: int = 300) -> Notes:
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.choice([0.0, 0.125, 0.25, 0.5], n))
    pitch = rng.integers(40, 85, n)
    return Notes(start=start, end=start + 0.3, pitch=pitch, velocity=rng.integers(1, 128, n))


def changed(notes: Notes, *, up: int = 0, slower: float = 1.0, velocity: int = 64) -> Notes:
    return Notes(
        start=notes.start * slower,
        end=notes.end * slower,
        pitch=notes.pitch + up,
        velocity=velocity,
    )


@given(st.integers(0, 50), st.integers(-20, 20), st.floats(0.5, 2))
def test_copies_and_transpositions(seed: int, up: int, slower: float) -> None:
    left = [("a", tune(seed)), ("b", tune(seed + 100))]
    (leak,) = find_shared(left, [("x", tune(77)), ("y", changed(tune(seed), up=up, slower=slower))])
    assert (leak.left, leak.right, leak.semitones, leak.share) == ("a", "y", up, 1.0)
    assert leak.kind == ("transposition" if up else "copy")


def test_few_notes_beside_percussion_are_compared_by_interval() -> None:
    start = np.arange(20.0)
    beat = Notes(start=start, end=start + 1, pitch=36 + np.arange(20) % 5, drum=True)
    low, high = (
        Notes.merge([beat, Notes(start=[0, 1, 2], end=4, pitch=pitches, drum=False)])
        for pitches in ([60, 62, 64], [63, 65, 67])
    )
    (leak,) = find_duplicates([("low", low), ("high", high)])
    assert (leak.kind, leak.semitones) == ("transposition", 3)


def test_the_order_of_a_chord_in_the_file_does_not_matter() -> None:
    notes = tune(1)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(notes))
    mixed = Notes(start=notes.start[order], end=notes.end[order], pitch=notes.pitch[order])
    (leak,) = find_shared([("a", notes)], [("b", mixed)])
    assert leak.kind == "copy"


@pytest.mark.parametrize("seed", range(5))
def test_long_passages_are_found(seed: int) -> None:
    whole = tune(seed, 600)
    excerpt = changed(whole[200:400], up=3, slower=0.9)
    (leak,) = find_shared([("whole", whole)], [("excerpt", excerpt), ("other", tune(99, 600))])
    assert (leak.left, leak.right, leak.kind, leak.semitones) == (
        "whole",
        "excerpt",
        "passages",
        None,
    )
    assert leak.share > 0.9
    edited = Notes.concatenate([tune(seed + 50, 150), whole[:150], tune(seed + 60, 100)])
    (leak,) = find_shared([("whole", whole)], [("edited", edited)])
    assert 0.2 <= leak.share < 0.7


def test_unrelated_pieces_share_nothing() -> None:
    assert find_duplicates([(str(k), tune(k)) for k in range(40)]) == []


def test_scales_and_trills_are_ignored() -> None:
    def exercise(k: int) -> Notes:
        scale = np.tile([60, 62, 64, 65, 67, 69, 71, 72], 12)
        start = np.arange(96 + 60) * 0.25
        return Notes(start=start, end=start + 0.2, pitch=[*scale, *tune(k, 60).pitch])

    assert find_duplicates([(str(k), exercise(k)) for k in range(COMMON + 2)]) == []


def test_tiny_pieces_are_not_compared() -> None:
    tiny = Notes(start=[0, 1, 2], end=[1, 2, 3], pitch=[60, 62, 64])
    pieces = [("a", tiny), ("b", tiny), ("c", Notes.empty()), ("d", Notes.empty())]
    assert find_duplicates(pieces) == []


def test_leaks_across_a_split_and_none_within_a_side() -> None:
    pieces = [
        ("t", tune(0)),
        ("t2", tune(0)),
        ("v", changed(tune(0), up=-2)),
        ("x", tune(5)),
        ("y", changed(tune(5), up=12)),
        ("z", tune(9)),
    ]
    split = Split(train=(0, 1, 5), validation=(2, 3), test=(4,))
    assert find_leaks(pieces, split) == [
        Leak(left="t", right="v", kind="transposition", semitones=-2, share=1.0),
        Leak(left="t2", right="v", kind="transposition", semitones=-2, share=1.0),
        Leak(left="x", right="y", kind="transposition", semitones=12, share=1.0),
    ]
    assert [(leak.left, leak.right) for leak in find_duplicates(pieces)] == [
        ("t", "t2"),
        ("t", "v"),
        ("t2", "v"),
        ("x", "y"),
    ]


def test_a_split_by_content_has_no_copies_on_two_sides() -> None:
    from notelstm.data.splits import content_key

    pieces = [(f"{k} {up}", changed(tune(k), up=up)) for k in range(20) for up in (0, 3)]
    split = split_by_keys([content_key(n) for _, n in pieces], validation=0.3, test=0.3)
    assert split.train
    assert split.validation
    assert split.test
    assert find_leaks(pieces, split) == []
    assert find_leaks(pieces, Split(train=tuple(range(39)), test=(39,)))


def test_without_passages_only_whole_pieces_are_compared() -> None:
    parts = Notes.merge([tune(0), tune(1).shifted(tune(0).end_time)])
    pieces = [("a", tune(0)), ("b", changed(tune(0), up=3)), ("c", parts)]
    named = {(leak.left, leak.right) for leak in find_duplicates(pieces)}
    assert named == {("a", "b"), ("a", "c"), ("b", "c")}
    (leak,) = find_duplicates(pieces, passages=False)
    assert (leak.left, leak.right, leak.kind, leak.semitones) == ("a", "b", "transposition", 3)


def test_a_leak_is_json() -> None:
    (leak,) = find_duplicates([("a", tune(0)), ("b", tune(0))])
    assert Leak(**json.loads(json.dumps(leak.to_json()))) == leak
