"""PartMap: which class an instrument is, in every corpus and for instruments that are in none."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm import plugins
from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError, EncodingError
from notelstm.notes import Notes
from notelstm.parts import By, Part, PartMap, Unknown
from notelstm.testing import strategies

SONG = Notes(
    start=[0, 1, 2, 3, 4],
    end=5,
    pitch=[60, 62, 36, 64, 65],
    program=[40, 41, 8, 0, 41],
    drum=[False, False, True, False, False],
    track=[0, 0, 1, 2, 0],
    track_names=("Lead", "", "Keys"),
)
PIECES = st.lists(strategies.notes(min_notes=1, max_notes=8, instruments=True), min_size=1)


def names(part_map: PartMap) -> list[str]:
    return [part.name for part in part_map.classes]


@pytest.mark.parametrize(
    ("by", "parts", "classes"),
    [
        ("program", ["Acoustic Grand Piano", "Violin", "Viola", "Drums"], [1, 2, 3, 0, 2]),
        ("family", ["Piano", "Strings", "Drums"], [1, 1, 2, 0, 1]),
        ("name", ["Keys", "Lead", "Drums"], [1, 1, 2, 0, 1]),
        ("track", ["Lead", "Track 1", "Keys"], [0, 0, 1, 2, 0]),
    ],
)
def test_the_parts_of_a_song_by_hand(by: By, parts: list[str], classes: list[int]) -> None:
    part_map = PartMap.from_pieces([SONG], by=by)
    assert names(part_map) == parts
    assert part_map.classes_of(SONG).tolist() == classes
    lead = part_map.classes[classes[0]]
    # Most notes of the part have program 41, but by program both are parts.
    assert lead.program == (40 if by == "program" else 41)
    drums = part_map.classes[classes[2]]
    assert (drums.program, drums.drum) == (8, True)
    assert part_map.drums.tolist() == [part.drum for part in part_map.classes]


def named(*names: str) -> Notes:
    """One note in a track of each name."""
    count = len(names)
    return Notes(
        start=[0] * count, end=1, pitch=60 + np.arange(count), track=range(count), track_names=names
    )


@pytest.mark.parametrize(
    ("pieces", "by"),
    [
        ([named("MELODY", "PIANO"), named("Melody ", "PIANO")], "name"),
        ([named("A", "B", "C", "D")], "name"),
        # One odd name among many.
        ([named(*"abcdefghijklmnopqrs")] * 2 + [named(*"abcdefghijklmnopqrs", "odd")], "name"),
        ([named("A"), named("B"), named("C")], "family"),
        ([named("A", ""), named("A", "")], "family"),
        ([named("", "")], "family"),
        ([Notes(start=[0], end=[1], pitch=[60])], "family"),
        ([Notes.empty(), Notes.empty(), Notes.empty(), named("A"), named("A")], "name"),
    ],
)
def test_parts_are_found_by_name_where_pieces_share_names(pieces: list[Notes], by: By) -> None:
    assert PartMap.from_pieces(pieces, by="auto") == PartMap.from_pieces(pieces, by=by)
    assert PartMap.from_pieces(pieces[::-1], by="auto").by == by


@given(PIECES, st.sampled_from(get_args(By)), st.sampled_from(get_args(Unknown)))
def test_a_corpus_knows_its_notes(pieces: Sequence[Notes], by: By, unknown: Unknown) -> None:
    part_map = PartMap.from_pieces(pieces, by=by, unknown=unknown)
    assert PartMap.from_pieces(pieces[::-1], by=by, unknown=unknown) == part_map
    for piece in pieces:
        lost = part_map.count_unknown(piece)
        # A track that is percussion in one piece only is not what it is in most of them.
        assert lost == 0 or by == "track"
        if lost and unknown != "other":
            continue
        classes = part_map.classes_of(piece)
        drum = np.zeros(len(piece), np.bool_) if piece.drum is None else piece.drum
        if not lost:
            np.testing.assert_array_equal(part_map.drums[classes], drum)
        columns = part_map.columns_of(classes)
        decoded = replace(piece, **columns)
        np.testing.assert_array_equal(part_map.classes_of(decoded), classes)


@given(PIECES, st.sampled_from(get_args(By)), st.sampled_from(get_args(Unknown)))
def test_settings_round_trip(pieces: Sequence[Notes], by: By, unknown: Unknown) -> None:
    part_map = PartMap.from_pieces(pieces, by=by, unknown=unknown)
    assert PartMap.from_json(json.loads(json.dumps(part_map.to_json()))) == part_map
    assert pickle.loads(pickle.dumps(part_map)) == copy.deepcopy(part_map) == part_map
    encoder = LogTimeEncoder(exact=True, parts=part_map)
    rebuilt = plugins.build(json.loads(json.dumps(plugins.describe(encoder))))
    assert rebuilt == encoder
    assert rebuilt.fields[-1].classes == len(part_map.classes)


def other(**columns: Any) -> Notes:
    return Notes(start=[0], end=[1], pitch=[60], **columns)


BAND = (Part(name="Keys", program=4), Part(name="Bass", program=33), Part(name="Kit", drum=True))


@pytest.mark.parametrize("by", get_args(By))
def test_the_nearest_part_by_hand(by: By) -> None:
    part_map = PartMap(by=by, parts=BAND)
    # Program 39 is a bass, nearer than 31 in number only; 20 is of no family and nearest to 33.
    for program, wanted in ((39, 1), (31, 1), (20, 1), (17, 0), (4, 0), (127, 1)):
        piece = other(program=[program], track=[9], track_names=["x"] * 10)
        assert part_map.classes_of(piece).tolist() == [wanted], program
    assert part_map.classes_of(other(program=[33], drum=[True], track=[9])).tolist() == [2]
    if by in ("name", "track"):
        assert part_map.count_unknown(other(program=[33], track=[9])) == 1


def test_other_rules_for_unknown_instruments() -> None:
    others = PartMap(parts=BAND[:2], unknown="other")
    assert names(others) == ["Keys", "Bass", "other"]
    violin, drums = other(program=[40]), other(drum=[True])
    for piece in (violin, drums):
        assert others.classes_of(piece).tolist() == [2]
        assert others.count_unknown(piece) == 1
    assert not others.drums.any()
    refusing = PartMap(parts=BAND, unknown="refuse")
    with pytest.raises(EncodingError, match=r"program 40 \(Violin\) is not one of.*\(note 0\)"):
        refusing.classes_of(violin)
    assert refusing.count_unknown(violin) == 1
    with pytest.raises(EncodingError, match=r"percussion is not one .* no part is percussion"):
        PartMap(parts=BAND[:2]).classes_of(drums)
    with pytest.raises(EncodingError, match="every part is percussion"):
        PartMap(parts=BAND[2:]).classes_of(violin)
    named = PartMap(by="name", parts=BAND, unknown="refuse")
    with pytest.raises(EncodingError, match="the track 'Oboe' is not"):
        named.classes_of(other(track=[0], track_names=["Oboe"]))
    assert named.classes_of(other(track=[0], track_names=[" KEYS "])).tolist() == [0]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"parts": ()}, "a part map of 0 parts"),
        ({"by": "colour", "parts": BAND}, "by of a part map cannot be 'colour'"),
        ({"unknown": "near", "parts": BAND}, "unknown of a part map cannot be 'near'"),
        ({"parts": (*BAND, Part(name="More", program=33))}, "'Bass' and 'More' are the same"),
        (
            {"by": "family", "parts": (BAND[0], Part(name="Honky-tonk", program=3))},
            "'Keys' and 'Honky-tonk' are the same by family",
        ),
        ({"by": "name", "parts": (BAND[0], Part(name="keys"))}, "'Keys' and 'keys' are the same"),
        ({"parts": ({"name": "x", "program": 128},)}, "'x' has the program 128"),
        ({"parts": ({"nme": "x"},)}, "is not a part"),
        ({"parts": ({"name": "x", "drum": 1},)}, "drum=1"),
    ],
    ids=str,
)
def test_settings_that_make_no_map(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        PartMap(**settings)


def test_a_corpus_without_notes_has_no_parts() -> None:
    with pytest.raises(ConfigError, match="a part map of 0 parts"):
        PartMap.from_pieces([Notes.empty()])
    with pytest.raises(ConfigError, match="not the settings of a part map"):
        PartMap.from_json({"colour": 3})


def test_a_note_without_columns_is_a_piano() -> None:
    part_map = PartMap.from_pieces([other()])
    assert part_map.classes == (Part(name="Acoustic Grand Piano"),)
    assert PartMap.from_pieces([other()], by="track").classes == (Part(name="Track 0"),)
