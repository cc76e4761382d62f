"""Splits by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data import content_key, split_by_content
from notelstm.errors import ConfigError
from notelstm.notes import Notes
from notelstm.testing.strategies import notes


@given(notes(min_notes=1, pitches=(20, 100)), st.integers(-20, 20), st.floats(0.5, 2.0))
def test_copies_transpositions_and_other_tempos_share_a_key(
    piece: Notes, up: int, slower: float
) -> None:
    other = Notes(
        start=piece.start * slower,
        end=piece.end * slower,
        pitch=piece.pitch + up,
        velocity=1,
    )
    assert content_key(other) == content_key(piece)


def test_the_order_in_chords_does_not_matter_but_melodies_do() -> None:
    def key(*pitches: int, step: float = 0.0) -> str:
        start = np.arange(len(pitches)) * step
        return content_key(Notes(start=start, end=start + 1, pitch=pitches))

    assert key(60, 64, 67) == key(67, 60, 64)
    assert key(60, 64, 67, step=1) != key(67, 60, 64, step=1)
    assert key(60, 64, step=1) != key(60, 65, step=1)


def melodies(count: int) -> list[tuple[int, Notes]]:
    rng = np.random.default_rng(0)
    start = np.arange(20.0)
    return [
        (i, Notes(start=start, end=start + 1, pitch=rng.integers(20, 100, size=20)))
        for i in range(count)
    ]


def test_about_the_given_fraction_is_held_out() -> None:
    stay, aside = split_by_content(melodies(1000), 0.2)
    assert sorted(stay + aside) == list(range(1000))
    assert stay == sorted(stay)
    # Three standard deviations of a binomial.
    assert abs(len(aside) - 200) < 3 * (1000 * 0.2 * 0.8) ** 0.5


def test_the_side_of_a_piece_does_not_depend_on_others() -> None:
    pieces = melodies(100)
    aside = split_by_content(pieces, 0.5)[1]
    assert split_by_content(pieces[::-2], 0.5)[1] == [i for i, _ in pieces[::-2] if i in aside]
    assert split_by_content(pieces, 0.5, seed=1)[1] != aside
    more = split_by_content(pieces, 0.7)[1]
    assert set(aside) < set(more)


def test_fractions_are_checked() -> None:
    assert split_by_content(melodies(5), 0.0) == (list(range(5)), [])
    assert split_by_content([], 0.5) == ([], [])
    for fraction in (1.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="0 to 1"):
            split_by_content(melodies(1), fraction)
