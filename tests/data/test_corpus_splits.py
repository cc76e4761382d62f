"""Splits of a corpus: by its own table, at random, and by content."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data.splits import (
    Split,
    content_key,
    split_at_random,
    split_by_content,
    split_by_keys,
    split_by_table,
)
from notelstm.errors import ConfigError, DataError
from notelstm.notes import Notes

SHARES = st.floats(0, 0.49)


def everything(split: Split) -> list[int]:
    return sorted([*split.train, *split.validation, *split.test])


@given(st.integers(0, 200), SHARES, SHARES, st.integers(0, 9))
def test_at_random_each_piece_is_on_one_side_of_the_given_size(
    pieces: int, validation: float, test: float, seed: int
) -> None:
    split = split_at_random(pieces, validation=validation, test=test, seed=seed)
    assert everything(split) == list(range(pieces))
    assert abs(len(split.validation) - pieces * validation) <= 0.5
    assert abs(len(split.test) - pieces * test) <= 1
    assert split == split_at_random(pieces, validation=validation, test=test, seed=seed)


def test_another_seed_is_another_split() -> None:
    assert split_at_random(100, seed=0) != split_at_random(100, seed=1)
    keys = [str(k) for k in range(100)]
    assert split_by_keys(keys, seed=0) != split_by_keys(keys, seed=1)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), SHARES, SHARES)
def test_pieces_of_one_key_are_on_one_side(keys: list[str], validation: float, test: float) -> None:
    split = split_by_keys(keys, validation=validation, test=test)
    assert everything(split) == list(range(len(keys)))
    sides = [{keys[k] for k in side} for side in (split.train, split.validation, split.test)]
    assert Counter(key for side in sides for key in side) == Counter(set(keys))


def test_shares_of_keys_are_approximate_and_stable() -> None:
    keys = [str(k) for k in range(4000)]
    split = split_by_keys(keys, validation=0.1, test=0.2)
    assert abs(len(split.validation) / 4000 - 0.1) < 0.02
    assert abs(len(split.test) / 4000 - 0.2) < 0.02
    fewer = split_by_keys(keys[:2000], validation=0.1, test=0.2)
    assert set(fewer.train) == {k for k in split.train if k < 2000}


def test_the_split_in_two_agrees_with_the_split_in_three() -> None:
    pieces = [
        (k, Notes(start=range(9), end=range(1, 10), pitch=[50 + (k * j) % 37 for j in range(9)]))
        for k in range(60)
    ]
    stay, aside = split_by_content(pieces, 0.3)
    split = split_by_keys([content_key(n) for _, n in pieces], validation=0.3, test=0)
    assert (tuple(stay), tuple(aside)) == (split.train, split.validation)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0), (0, -0.1), (0.5, 0.5), (1, 0)])
def test_shares_are_checked(validation: float, test: float) -> None:
    with pytest.raises(ConfigError):
        split_at_random(9, validation=validation, test=test)
    with pytest.raises(ConfigError):
        split_by_keys(["a"], validation=validation, test=test)


TABLE = """canonical_composer,split,year,midi_filename
Bach,train,2004,2004/a.midi
"Liszt, Franz",validation,2006,2006/ünï.midi
Haydn,test,2008,2008/c.midi
"""


def test_a_table_determines_the_sides(tmp_path: Path) -> None:
    path = tmp_path / "maestro-v9.csv"
    path.write_text(TABLE, encoding="utf-8")
    names = ("2008/c.midi", "2006/ünï.midi", "2004/a.midi")
    assert split_by_table(names, path) == Split(train=(2,), validation=(1,), test=(0,))
    assert split_by_table(names[:1], path) == Split(train=(), test=(0,))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABLE.replace("2004/a", "2004/b"), "is not in the table"),
        (TABLE.replace("train", "exercise"), "'exercise'"),
        (TABLE.replace("split", "side"), "no column 'split'"),
        ("", "is not in the table"),
        (None, "no such table"),
        (b"midi_filename,split\n\xff,train\n", "decode"),
    ],
)
def test_invalid_tables_are_rejected(tmp_path: Path, text: str | bytes | None, said: str) -> None:
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        split_by_table(["2004/a.midi"], path)
