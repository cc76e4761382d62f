"""BeatEncoder: examples, its allowed entries by brute force, and its settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.encoders import BeatEncoder
from notelstm.encoders.beat import BeatTracker
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Field, Row
from notelstm.notes import Notes, TempoMap
from notelstm.testing import strategies

SMALL = BeatEncoder(per_beat=1, longest=8.0, time_signatures=("3/4", "4/4", "2/2", "2/4"))
NAMES = ("time_signature", "step", "position")


def values_of(encoder: BeatEncoder, notes: Notes) -> list[list[object]]:
    """The values of each row in the fields' units, with the name of the time signature."""
    decoded: list[list[object]] = []
    for row in encoder.encode(notes).tolist():
        time_signature, *values = (f.value_of(x) for f, x in zip(encoder.fields, row, strict=True))
        decoded.append([encoder.time_signatures[int(time_signature)], *values])
    return decoded


def test_a_pick_up_a_tempo_change_and_a_time_signature_change_by_hand() -> None:
    beats = TempoMap(
        seconds=[0.0, 2.0],
        tempos=[60.0, 120.0],
        time_signature_beats=[1.0, 4.0],
        numerators=[3, 2],
        denominators=[4, 2],
    )
    start = beats.seconds_at([0.5, 1.0, 1.0, 2.25, 4.0, 7.5, 8.0])
    end = beats.seconds_at([1.0, 2.0, 1.5, 4.25, 7.0, 8.0, 8.01])
    notes = Notes(start=start, end=end, pitch=np.arange(60, 67), velocity=66, tempo_map=beats)
    values = values_of(BeatEncoder(), notes)
    assert [row[:4] for row in values] == [
        ["3/4", 0.0, 2.5, 60.0],
        ["3/4", 0.5, 0.0, 60.0],
        ["3/4", 0.0, 0.0, 60.0],
        ["3/4", 1.25, 1.25, 120.0],
        ["2/2", 1.75, 0.0, 120.0],
        ["2/2", 3.5, 3.5, 120.0],
        ["2/2", 0.5, 0.0, 120.0],
    ]
    assert [row[5] for row in values] == [0.5, 1.0, 0.5, 2.0, 3.0, 0.5, 1 / 12]
    back = BeatEncoder().decode(BeatEncoder().encode(notes))
    assert back.pitch.tolist() == notes.pitch.tolist()
    assert set(back.velocity.tolist()) == {66}
    # The tempo of beat 2 counts from the onset at 2.25 on; all counts from the first note.
    late = 0.125
    wanted = start - start[0] + np.where(start > 2, late, 0)
    assert np.allclose(back.start, wanted)
    assert back.tempo_map == TempoMap(
        seconds=[0.0, 1.75],
        tempos=[60.0, 120.0],
        time_signature_beats=[0.5, 3.5],
        numerators=[3, 2],
        denominators=[4, 2],
    )


def test_pieces_on_the_grid_round_trip_at_any_tempo() -> None:
    """Beats never drift: after an hour every onset is still in its own cell."""
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.integers(0, 20, size=5000)) / 12
    beats = TempoMap(tempos=[97.3], time_signature_beats=[0], numerators=[5], denominators=[8])
    notes = Notes(
        start=beats.seconds_at(at), end=beats.seconds_at(at + 0.5), pitch=60, tempo_map=beats
    )
    encoder = BeatEncoder()
    rows = encoder.encode(notes)
    back = encoder.decode(rows)
    assert back.tempo_map is not None
    assert np.allclose(back.tempo_map.beats_at(back.start), at - at[0], atol=1e-6)
    places = [encoder.fields[2].value_of(row[2]) for row in rows]
    assert np.allclose(places, at % 2.5)
    assert np.array_equal(encoder.encode(back), rows)


@given(
    strategies.notes(
        min_notes=1, longest_rest=60.0, beats=strategies.beat_maps(tempos=(20.0, 240.0))
    )
)
def test_of_long_rests_whole_bars_are_left_out(piece: Notes) -> None:
    encoder = BeatEncoder()
    rows = encoder.encode(piece)
    assert piece.tempo_map is not None
    at = np.rint(piece.tempo_map.beats_at(piece.start) * 12)
    short = np.diff(at, prepend=at[0]) - rows[:, 1]
    bars = encoder.bars[rows[:, 0].astype(int)]
    assert np.all((short == 0) | (np.diff(at, prepend=at[0]) > 16 * 12))
    assert np.all(short % bars == 0)
    assert np.all((short == 0) | (rows[:, 1] + bars > 16 * 12))
    encoder.decode(rows)


@given(
    strategies.notes(min_notes=1, longest_rest=4.0, beats=strategies.beat_maps(tempos=(20, 240))),
    st.floats(0, 20),
)
def test_bars_and_tempi_are_the_map_s(piece: Notes, later: float) -> None:
    encoder = BeatEncoder()
    beats, rows = piece.tempo_map, encoder.encode(piece)
    assert beats is not None
    at = np.rint(beats.beats_at(piece.start) * 12) / 12
    starts = np.rint(beats.time_signature_beats * 12) / 12
    for i, row in enumerate(rows):
        _, _, place, tempo = (f.value_of(x) for f, x in zip(encoder.fields, row[:4], strict=False))
        true = 60 * 1e7 * (beats.beats_at(beats.seconds_at(at[i]) + 1e-7) - at[i])
        assert abs(tempo / true - 1) < 0.0147
        k = max(int(np.searchsorted(starts, at[i], side="right")) - 1, 0)
        signature = f"{beats.numerators[k]}/{beats.denominators[k]}" if starts.size else "4/4"
        assert encoder.time_signatures[int(row[0])] == signature
        if np.unique(beats.numerators).size == beats.numerators.size:
            start = starts[k] if starts.size else 0.0
            assert place == pytest.approx((at[i] - start) % (encoder.bars[int(row[0])] / 12))
    # Where the piece begins makes no difference, unless it moves between the cells.
    shift = round(later) * 60 / beats.tempos[0]
    if starts.size:
        assert np.array_equal(encoder.encode(piece.shifted(shift)), rows)


def pushed(rows: list[Row]) -> BeatTracker:
    tracker = SMALL.tracker()
    for row in rows:
        tracker.push(row)
    return tracker


def can_follow(rows: list[Row]) -> set[tuple[int, ...]]:
    """Every (time signature, step, position) that can be pushed next, tried one by one."""
    sizes = [range(field.classes or 0) for field in SMALL.fields[:3]]
    found = set()
    for triple in itertools.product(*sizes):
        tracker = pushed(rows)
        try:
            tracker.push(np.array([*triple, 0, 60, 0, 0], dtype=np.float32))
        except EncodingError:
            continue
        found.add(triple)
    return found


@pytest.mark.parametrize("before", [None, (0, 2), (1, 3), (2, 0), (3, 1)])
def test_allowed_entries_are_those_that_can_be_decoded_in_every_order(
    before: tuple[int, int] | None,
) -> None:
    """For each field, given any of the others: the entries with a completion that can be pushed."""
    rows = []
    if before is not None:
        rows = [np.array([before[0], 0, before[1], 0, 60, 0, 0], dtype=np.float32)]
    possible = can_follow(rows)
    tracker = pushed(rows)
    assert len({triple[0] for triple in possible}) == 4
    fields = dict(zip(NAMES, SMALL.fields, strict=False))
    for name, field in fields.items():
        others = [other for other in NAMES if other != name]
        for known_names in itertools.chain.from_iterable(
            itertools.combinations(others, n) for n in range(3)
        ):
            for known in {tuple(t[NAMES.index(k)] for k in known_names) for t in possible}:
                given = dict(zip(known_names, known, strict=True))
                wanted = completions(possible, name, given)
                mask = tracker.allowed(field, given)
                assert isinstance(mask, np.ndarray)
                assert mask.dtype == np.bool_
                assert set(np.flatnonzero(mask).tolist()) == wanted, (name, given)
    assert tracker.allowed(SMALL.fields[3], {}) is None


def completions(possible: set[tuple[int, ...]], name: str, known: Mapping[str, int]) -> set[int]:
    fits = (
        triple
        for triple in possible
        if all(triple[NAMES.index(other)] == entry for other, entry in known.items())
    )
    return {triple[NAMES.index(name)] for triple in fits}


def test_positions_that_contradict_the_step_are_refused() -> None:
    rows = SMALL.encode(
        Notes(start=[0, 1, 2], end=[1, 2, 3], pitch=60, tempo_map=TempoMap(tempos=[60]))
    )
    for row, column, entry in ((1, 2, 2), (2, 1, 2), (2, 0, 0), (0, 2, 4)):
        bad = rows.copy()
        bad[row, column] = entry
        if entry == 4:
            bad = np.array(bad)
            bad[0] = (0, 0, 3, *bad[0, 3:])
        with pytest.raises(EncodingError, match=r"does not follow from a step.*\(row \d\)"):
            SMALL.decode(bad)


def test_sounding_uses_the_current_tempo() -> None:
    beats = TempoMap(tempos=[60])
    notes = Notes(start=[0, 1], end=[4, 2], pitch=[60, 64], tempo_map=beats)
    tracker = pushed(list(SMALL.encode(notes)))
    assert tracker.time == pytest.approx(1)
    assert [{tone.pitch for tone in tracker.sounding(at)} for at in (1, 1.9, 2, 3.9, 4.0)] == [
        {60, 64},
        {60, 64},
        {60},
        {60},
        set(),
    ]
    assert set(SMALL.tracker().sounding(0)) == set()


def test_of_several_tempos_at_one_onset_the_last_counts() -> None:
    rows = SMALL.encode(
        Notes(start=[0, 0, 1], end=[1, 2, 3], pitch=60, tempo_map=TempoMap(tempos=[60]))
    )
    rows[1, 3] += 24
    back = SMALL.decode(rows)
    assert back.start.tolist() == [0, 0, 0.5]
    assert back.tempo_map == TempoMap(
        seconds=[0, 0.5],
        tempos=[120, 60],
        time_signature_beats=[0],
        numerators=[4],
        denominators=[4],
    )


def test_a_first_time_signature_without_a_bar_line_is_lost() -> None:
    rows = np.zeros((2, 7), dtype=np.float32)
    rows[0, :3] = (1, 0, 1)
    rows[1, :3] = (0, 2, 1)
    beats = SMALL.decode(rows).tempo_map
    assert beats is not None
    assert beats.time_signature_beats.tolist() == [1]
    assert beats.numerators.tolist() == [3]


def test_what_is_outside_the_domain_says_what_to_do() -> None:
    no_map = Notes(start=[0], end=[1], pitch=60)
    with pytest.raises(EncodingError, match=r"no tempo map.*encoder in seconds"):
        BeatEncoder().encode(no_map)
    assert BeatEncoder().encode(Notes.empty()).shape == (0, 7)
    fast = TempoMap(seconds=[0, 1], tempos=[60, 500])
    notes = Notes(start=[0, 0.5, 1], end=2, pitch=60, tempo_map=fast)
    with pytest.raises(EncodingError, match=r"tempo 500 is not 15 to 480.*\(note 2\)"):
        BeatEncoder().encode(notes)
    assert len(BeatEncoder().encode(notes[:2])) == 2
    odd = TempoMap(time_signature_beats=[0, 4], numerators=[4, 11], denominators=[4, 8])
    notes = Notes(start=[0, 2], end=3, pitch=60, tempo_map=odd)
    with pytest.raises(
        EncodingError,
        match=r"time signature 11/8 is not one of .*2/4,.*\(note 1\).*time_signatures=",
    ):
        BeatEncoder().encode(notes)
    assert len(BeatEncoder(time_signatures=("4/4", "11/8")).encode(notes)) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"per_beat": 0}, "0 cells per beat"),
        ({"longest": 16.01}, "whole"),
        ({"longest": 1e6}, "1 to 100000 whole cells"),
        ({"longest": float("nan")}, "whole"),
        ({"longest": 15.0}, "less than two bars"),
        ({"time_signatures": ("4/4", "four")}, "a fraction"),
        ({"time_signatures": ("0/4",)}, "a fraction"),
        ({"time_signatures": ("4/4", "4/4")}, "repeat one"),
        ({"time_signatures": ()}, "repeat one"),
        ({"time_signatures": ("5/32",)}, "no whole number of cells"),
    ],
    ids=str,
)
def test_settings_without_classes_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BeatEncoder(**settings)


def test_tempo_classes_hold_the_usual_ones() -> None:
    tempo: Field = BeatEncoder().fields[3]
    assert {30.0, 60.0, 120.0, 240.0} <= set(tempo.values)
    assert tempo.values[0] == 15
    assert tempo.values[-1] == 480
    assert np.allclose(np.diff(np.log2(tempo.edges)), 1 / 24)
