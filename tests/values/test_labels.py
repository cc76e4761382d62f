"""Labels of pieces, and their classes."""

from __future__ import annotations

import copy
import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm import Notes, plugins
from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError, NotesError
from notelstm.labels import Label, LabelMap
from notelstm.notes import TempoMap

PIECE = Notes(start=[0, 1, 2], end=3, pitch=[60, 62, 64], labels={"composer": "Bach", "key": "C"})
TEXTS = st.text(min_size=1, max_size=8)
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=3)


def labelled(*values: str, name: str = "x") -> list[Notes]:
    return [replace(PIECE, labels={name: value}) for value in values]


def test_operations_on_one_piece_keep_its_labels() -> None:
    for one in (
        PIECE[1:],
        PIECE[PIECE.pitch > 60],
        PIECE.first(notes=2),
        PIECE.shifted(1.0),
        PIECE.by_pitch(),
        replace(PIECE, tempo_map=TempoMap()),
        copy.copy(PIECE),
        copy.deepcopy(PIECE),
        pickle.loads(pickle.dumps(PIECE)),
        PIECE.continued(Notes(start=[0], end=1, pitch=60, labels={"key": "D"})),
    ):
        assert one.labels == {"composer": "Bach", "key": "C"}
        with pytest.raises(TypeError):
            one.labels["key"] = "D"  # type: ignore[index]


def test_several_pieces_keep_the_labels_that_they_share() -> None:
    other = replace(PIECE, labels={"composer": "Bach", "key": "D", "year": "1722"})
    assert Notes.merge([PIECE, other]).labels == {"composer": "Bach"}
    assert Notes.concatenate([PIECE, other]).labels == {"composer": "Bach"}
    assert Notes.concatenate([PIECE, Notes.empty()]).labels == {}
    assert Notes.merge([PIECE]).labels == PIECE.labels
    # Also in their order, by which caches of pieces differ.
    many = replace(PIECE, labels={name: name for name in "zyxwvutabcde"})
    assert list(Notes.merge([many, many]).labels) == list(many.labels)


def test_labels_are_texts_and_not_compared() -> None:
    plain = replace(PIECE, labels={})
    assert plain == PIECE
    assert hash(plain) == hash(PIECE)
    given = {"a": "b"}
    piece = replace(PIECE, labels=given)
    given["a"] = "c"
    assert piece.labels == {"a": "b"}
    for bad in ({"a": 1}, {1: "a"}, {"": "a"}, ["a"]):
        with pytest.raises(NotesError, match="labels"):
            replace(PIECE, labels=bad)  # type: ignore[arg-type]
    old = {name: value for name, value in vars(PIECE).items() if name != "labels"}
    again = Notes.__new__(Notes)
    again.__setstate__(old)
    assert again.labels == {}


@given(st.lists(LABELS, min_size=1, max_size=12), st.integers(1, 3))
def test_classes_round_trip(found: list[dict[str, str]], least: int) -> None:
    """What a class is decoded to is of that class; rare and missing texts are none."""
    pieces = [replace(PIECE, labels=labels) for labels in found]
    names = sorted({name for labels in found for name in labels})
    for name in names:
        try:
            label_map = LabelMap.from_pieces(pieces, [name], least=least)
        except ConfigError:
            continue
        assert label_map == LabelMap.from_pieces(pieces[::-1], [name], least=least)
        assert LabelMap.from_json(label_map.to_json()) == label_map
        for piece in pieces:
            classes = label_map.classes_of(piece)
            decoded = replace(PIECE, labels=label_map.texts_of(classes))
            assert label_map.classes_of(decoded) == classes
            assert (name in piece.labels) or classes == (0,)


@given(st.lists(st.integers(0, 500), min_size=20, max_size=200))
def test_many_numbers_are_divided_into_classes(numbers: list[int]) -> None:
    pieces = labelled(*map(str, numbers), name="bpm")
    label = LabelMap.from_pieces(pieces, ["bpm"], least=1).labels[0]
    if len(set(numbers)) <= 12:
        assert label.edges == ()
        assert set(label.values) == set(map(str, numbers))
        return
    assert 2 <= len(label.values) <= 8
    classes = [label.class_of(str(number)) for number in sorted(numbers)]
    assert classes == sorted(classes)
    assert set(classes) == set(range(1, len(label.values) + 1))
    assert [label.class_of(value) for value in label.values] == [*range(1, len(label.values) + 1)]
    assert label.class_of("fast") == label.class_of("nan") == label.class_of(None) == 0
    assert label.class_of("-1e9") == 1


def test_numbers_of_many_digits_stay_apart() -> None:
    pieces = labelled(*(str(20040100 + day) for day in range(1, 31)), name="date")
    label = LabelMap.from_pieces(pieces, ["date"]).labels[0]
    assert len(label.values) == 8
    assert [label.class_of(value) for value in label.values] == [*range(1, 9)]


def test_texts_are_found_by_their_words(caplog: pytest.LogCaptureFixture) -> None:
    composers = ("Carl Philipp Emanuel Bach", "Frédéric Chopin", "Johann Sebastian Bach")
    label = Label(name="composer", values=(*composers, "Johann Sebastian Bach / Ferruccio Busoni"))
    assert label.find("CHOPIN") == label.find("frederic  chopin") == 2
    assert label.find("Sebastian Bach") == 3
    assert label.find("Busoni") == 4
    with pytest.raises(ConfigError, match="2 values of the label 'composer' match 'bach'"):
        label.find("bach")
    with caplog.at_level(logging.WARNING):
        assert label.find("Bachmann") == 0
    assert "not trained with the composer 'Bachmann'" in caplog.text
    assert label.class_of("Chopin") == 0  # a piece has the whole text
    numbers = Label(name="bpm", values=("80", "120"), edges=(100.0,))
    assert numbers.find("99.5") == 1
    assert numbers.find("slow") == 0


def test_rare_texts_and_other_spellings() -> None:
    pieces = labelled("Jazz", "jazz ", "Jazz", "rock", "rock", "polka")
    label = LabelMap.from_pieces(pieces, ["x"]).labels[0]
    assert label.values == ("Jazz", "rock")
    assert [label.class_of(value) for value in ("JAZZ", "rock", "polka")] == [1, 2, 0]


def test_errors() -> None:
    with pytest.raises(ConfigError, match="no training piece has the label 'y'"):
        LabelMap.from_pieces(labelled("a"), ["y"])
    with pytest.raises(ConfigError, match="Put a table"):
        LabelMap.from_pieces([Notes.empty()], ["y"])
    one = Label(name="a", values=("b",))
    for settings in ({"labels": ()}, {"labels": (one, one)}, {"labels": (3,)}, {"lables": ()}):
        with pytest.raises(ConfigError):
            LabelMap.from_json(settings)
    for bad in (
        {"values": ()},
        {"values": ("a", "A")},
        {"values": ("1", "2"), "edges": (1.0, 2.0)},
        {"values": ("1", "2", "3"), "edges": (2.0, 1.0)},
    ):
        with pytest.raises(ConfigError):
            Label(name="x", **bad)
    with pytest.raises(ConfigError, match="name of a field of notes"):
        LogTimeEncoder(conditions=LabelMap(labels=(Label(name="pitch", values=("a",)),)))


def test_rows_hold_the_labels_of_their_piece() -> None:
    label_map = LabelMap.from_pieces(labelled("Bach", "Bach", name="composer"), ["composer"])
    encoder = LogTimeEncoder(exact=True, ends=True, conditions=label_map)
    assert [field.name for field in encoder.fields][4:] == ["composer", "end"]
    assert encoder.fields[4].given
    rows = encoder.encode(PIECE)
    assert rows[:, 4].tolist() == [1, 1, 1]
    assert encoder.decode(rows).labels == {"composer": "Bach"}
    assert not encoder.encode(replace(PIECE, labels={"composer": "Liszt"}))[:, 4].any()
    assert encoder.decode(rows[:0]).labels == {}
    assert np.array_equal(rows[:, :4], LogTimeEncoder(exact=True).encode(PIECE))
    assert plugins.build(plugins.describe(encoder)) == encoder
