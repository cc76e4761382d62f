"""BeatEncoder: examples, its allowed entries by brute force, and its settings."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from notelstm.encoders import BeatEncoder
from notelstm.encoders.beat_tracker import BeatTracker
from notelstm.encoders.rows import as_rows, snapped
from notelstm.encoders.time_signatures import SignatureClasses
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Field, Row
from notelstm.notes import Notes, TempoMap
from notelstm.parts import Part, PartMap
from notelstm.plugins import build, describe
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


def test_rows_with_a_pickup_a_tempo_change_and_a_time_signature_change() -> None:
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
def test_long_rests_lose_whole_bars(piece: Notes) -> None:
    encoder = BeatEncoder()
    rows = encoder.encode(piece)
    assert piece.tempo_map is not None
    at = np.rint(piece.tempo_map.beats_at(piece.start) * 12)
    short = np.diff(at, prepend=at[0]) - rows[:, 1]
    bars = encoder.bars[rows[:, 0].astype(int)]
    assert np.all((short == 0) | (np.diff(at, prepend=at[0]) > 16 * 12))
    assert np.all(short % bars == 0)
    lost = encoder.changes(piece).get("after a rest that loses whole bars", 0)
    assert lost == np.count_nonzero(short)
    assert np.all((short == 0) | (rows[:, 1] + bars > 16 * 12))
    encoder.decode(rows)


@given(
    strategies.notes(min_notes=1, longest_rest=4.0, beats=strategies.beat_maps(tempos=(20, 240))),
    st.floats(0, 20),
)
def test_bars_and_tempos_match_the_tempo_map(piece: Notes, later: float) -> None:
    encoder = BeatEncoder()
    beats, rows = piece.tempo_map, encoder.encode(piece)
    assert beats is not None
    at = np.rint(beats.beats_at(piece.start) * 12)
    starts = np.rint(beats.time_signature_beats * 12)
    for i, row in enumerate(rows):
        tempo, there = encoder.fields[3].value_of(row[3]), at[i] / 12
        true = 60 * 1e7 * (beats.beats_at(beats.seconds_at(there) + 1e-7) - there)
        assert abs(tempo / true - 1) < 0.0147
        k = max(int(np.searchsorted(starts, at[i], side="right")) - 1, 0)
        signature = f"{beats.numerators[k]}/{beats.denominators[k]}" if starts.size else "4/4"
        assert encoder.time_signatures[int(row[0])] == signature
        if np.unique(beats.numerators).size == beats.numerators.size:
            start = starts[k] if starts.size else 0.0
            assert row[2] == (at[i] - start) % encoder.bars[int(row[0])]
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


def test_positions_that_do_not_follow_from_the_step_are_rejected() -> None:
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


@pytest.mark.parametrize("last", [8, 2])
def test_finished_notes_come_in_the_order_of_their_ends(last: float) -> None:
    beats = TempoMap(tempos=[60])
    notes = Notes(start=[0, 0, 1, last], end=[6, 4, 2, 9], pitch=[60, 64, 67, 72], tempo_map=beats)
    tracker = pushed(list(SMALL.encode(notes)))
    popped = tracker.pop_finished(include_sounding=True)
    assert [(number, round(note.end)) for number, note in popped] == [
        (2, 2),
        (1, 4),
        (0, 6),
        (3, 9),
    ]


def test_last_of_several_tempos_at_one_onset_is_encoded() -> None:
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


def test_errors_for_pieces_outside_the_domain() -> None:
    no_map = Notes(start=[0], end=[1], pitch=60)
    with pytest.raises(EncodingError, match=r"no tempo map.*encoder in seconds"):
        BeatEncoder().encode(no_map)
    assert BeatEncoder().encode(Notes.empty()).shape == (0, 7)
    with pytest.raises(EncodingError, match="no tempo map"):
        BeatEncoder().changes(no_map)
    assert BeatEncoder().changes(Notes.empty()) == {}


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
        ({"time_signatures": ("4/4", "9/4")}, "less than two bars"),
    ],
    ids=str,
)
def test_settings_without_classes_are_rejected(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BeatEncoder(**settings)


def test_tempo_classes_include_usual_tempos() -> None:
    tempo: Field = BeatEncoder().fields[3]
    assert {30.0, 60.0, 120.0, 240.0} <= set(tempo.values)
    assert tempo.values[0] == 15
    assert tempo.values[-1] == 480
    assert np.allclose(np.diff(np.log2(tempo.edges)), 1 / 24)


def in_signatures(names: Sequence[str], beats: Sequence[float], at: ArrayLike) -> Notes:
    """Notes of half a beat at some beats, in time signatures from other beats on, 120 a minute."""
    upper, lower = zip(*(map(int, name.split("/")) for name in names), strict=True)
    tempo_map = TempoMap(time_signature_beats=beats, numerators=upper, denominators=lower)
    start = tempo_map.seconds_at(at)
    return Notes(start=start, end=start + 0.25, pitch=60, tempo_map=tempo_map)


FEW = BeatEncoder(time_signatures=("4/4", "3/4", "6/8"))


@pytest.mark.parametrize(
    ("encoder", "given", "becomes"),
    [
        (BeatEncoder(), "1/4", "1/4"),
        (BeatEncoder(), "11/8", "11/8"),
        (BeatEncoder(), "7/32", "7/16"),  # two bars in one
        (BeatEncoder(), "5/64", "5/16"),  # four bars in one
        (BeatEncoder(), "13/4", "13/8"),  # half a bar
        (BeatEncoder(), "17/8", "17/16"),
        (BeatEncoder(), "33/32", "11/16"),  # two bars in three
        (BeatEncoder(), "251/4", "1/4"),  # a prime number of beats
        (BeatEncoder(), "1/1024", "1/16"),
        (FEW, "8/8", "4/4"),  # an equal bar
        (FEW, "12/16", "6/8"),  # two equal bars: that of the nearer denominator
        (FEW, "3/2", "3/4"),  # halves, not the 4/4 of the nearer length
        (FEW, "1/4", "3/4"),
        (FEW, "11/8", "4/4"),  # none fits: the nearest
        (FEW, "5/8", "6/8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_time_signatures_become_the_nearest_that_fits(
    encoder: BeatEncoder, given: str, becomes: str
) -> None:
    notes = in_signatures([given], [0.5], np.arange(24) / 4)
    rows, k = encoder.encode(notes), encoder.time_signatures.index(becomes)
    assert rows[:, 0].tolist() == [k] * 24
    assert rows[:, 2].tolist() == ((np.arange(24) * 3 - 6) % encoder.bars[k]).tolist()
    reasons = {} if given == becomes else {f"in {given}, encoded as {becomes}": 24}
    assert encoder.changes(notes) == reasons
    back = encoder.decode(rows).tempo_map
    assert back is not None
    assert f"{back.numerators[0]}/{back.denominators[0]}" == becomes


def test_default_settings_keep_bar_lines_of_every_midi_time_signature() -> None:
    classes = SignatureClasses(BeatEncoder().time_signatures, 12)
    for upper, power in itertools.product(range(1, 256), range(63)):
        bar = Fraction(48 * upper, 2**power)
        length = bar * bar.denominator  # the shortest run of bars with whole cells
        ratio = Fraction(int(classes.bars[classes.class_of(f"{upper}/{2**power}")])) / length
        assert 1 in (ratio.numerator, ratio.denominator), (upper, power)
        if power <= 4 and upper <= 2 * 2**power:
            assert ratio == 1, (upper, power)


SIGNATURES = st.tuples(st.integers(1, 255), st.integers(0, 10).map(lambda power: 2**power))
ANY_BEATS = st.lists(SIGNATURES, min_size=1, max_size=4).flatmap(
    lambda pairs: strategies.beat_maps(tempos=(1.0, 5000.0), time_signatures=pairs)
)
"""Any tempos and time signatures; they change on bar lines, in bars, and at one cell."""


@given(strategies.notes(min_notes=1, durations=(0, 60), beats=ANY_BEATS), st.sampled_from([3, 12]))
def test_errors_of_onsets_and_durations_are_within_the_documented_bounds(
    piece: Notes, per_beat: int
) -> None:
    signatures = BeatEncoder().time_signatures if per_beat == 12 else ("4/4", "3/4", "1/4", "6/8")
    encoder = BeatEncoder(per_beat=per_beat, time_signatures=signatures)
    beats, rows = piece.tempo_map, as_rows(encoder.encode(piece), encoder.fields)
    assert beats is not None
    back = encoder.decode(rows)
    assert back.tempo_map is not None
    begin, end = (beats.beats_at(at) * per_beat for at in (piece.start, piece.end))
    at = np.rint(begin)
    # Onsets and durations are within half a cell, but for what the limits take away.
    longest, bars = 16 * per_beat, encoder.bars[rows[:, 0].astype(int)]
    lost = np.diff(at, prepend=at[0]) - rows[:, 1]
    assert np.all((lost % bars == 0) & ((lost == 0) | (rows[:, 1] > longest - bars)))
    onset, close = (back.tempo_map.beats_at(x) * per_beat for x in (back.start, back.end))
    assert np.all(np.abs(onset + np.cumsum(lost) - (begin - at[0])) <= 0.5 + 1e-6)
    error = np.abs((close - onset) - (end - begin).clip(0, longest))
    assert np.all(error <= np.where(end - begin < 0.5, 1, 0.5) + 1e-6)
    tempo = np.array(encoder.fields[3].values)[rows[:, 3].astype(int)]
    knots = beats.beats_at(beats.seconds) * per_beat
    true = beats.tempos[[np.flatnonzero(knots <= max(x, 0) + 1e-6)[-1] for x in at]]
    assert np.all(np.abs(tempo / true.clip(15, 480) - 1) < 0.0147)
    assert back.pitch.tolist() == piece.pitch.tolist()
    # A second time, nothing changes but velocities of equal classes.
    assert np.array_equal(encoder.encode(back)[:, 3:], rows[:, 3:])


@given(strategies.notes(min_notes=1, longest_rest=4.0, beats=ANY_BEATS))
def test_bar_lines_match_the_tempo_map_or_are_counted_as_changes(piece: Notes) -> None:
    encoder, beats = BeatEncoder(), piece.tempo_map
    assert beats is not None
    rows, counts, other = encoder.encode(piece), Counter[str](), 0
    starts = np.rint(beats.time_signature_beats * 12).astype(int).tolist() or [0]
    pairs = [*zip(beats.numerators.tolist(), beats.denominators.tolist(), strict=True)] or [(4, 4)]
    for at, row in zip(np.rint(beats.beats_at(piece.start) * 12), rows, strict=True):
        k = max((k for k, start in enumerate(starts) if start <= at), default=0)
        upper, lower = pairs[k]
        name, given = encoder.time_signatures[int(row[0])], f"{upper}/{lower}"
        if name != given:
            counts[f"in {given}, encoded as {name}"] += 1
        # The shorter of both bars counts the lines of the longer.
        unit = min(Fraction(48 * upper, lower).numerator, encoder.bars[int(row[0])])
        off = (at - row[2] - starts[k]) % unit
        other += off != 0
    found = dict(encoder.changes(piece))
    moved = found.pop("in bars counted from an earlier bar line", 0)
    assert {why: n for why, n in found.items() if why.startswith("in ")} == counts
    # A line of joined bars may be another one of the map's.
    assert moved >= other
    if np.unique(beats.numerators).size == beats.numerators.size <= 1:
        assert moved == 0


def test_time_signature_repeated_within_a_bar_is_counted_as_a_change() -> None:
    notes = in_signatures(["4/4", "4/4"], [0, 6], [0, 4, 6, 7, 10])
    rows = BeatEncoder().encode(notes)
    assert rows[:, 2].tolist() == [0, 0, 24, 36, 24]
    assert BeatEncoder().changes(notes) == {"in bars counted from an earlier bar line": 3}
    # A time signature that no note is in has no effect on the next.
    empty = in_signatures(["4/4", "3/4", "4/4"], [0, 4, 7], [0, 1, 7, 8])
    assert BeatEncoder().changes(empty) == {"in bars counted from an earlier bar line": 2}
    on_a_line = in_signatures(["4/4", "4/4"], [0, 8], [0, 4, 8, 9])
    assert BeatEncoder().changes(on_a_line) == {}


def test_last_of_several_time_signatures_at_one_beat_is_encoded() -> None:
    notes = in_signatures(["4/4", "5/4", "11/16", "3/8"], [0, 3, 3, 3], [0, 3, 4, 4.5])
    rows = BeatEncoder().encode(notes)
    names = [BeatEncoder().time_signatures[int(k)] for k in rows[:, 0]]
    assert names == ["4/4", "3/8", "3/8", "3/8"]
    assert rows[:, 2].tolist() == [0, 0, 12, 0]
    assert BeatEncoder().changes(notes) == {}


def test_changes_count_the_notes_beyond_each_limit() -> None:
    """Cells of a third of a beat, one second each."""
    encoder = BeatEncoder(per_beat=3, longest=8, time_signatures=("4/4",))
    beats = TempoMap(seconds=[0, 50, 52, 53], tempos=[20, 10, 500, 20])
    start = np.array([0, 1.2, 1.4, 1.4, 40, 50, 54])
    end = start + np.array([1, 1, 1, 0.3, 24.8, 2, 1])
    # From 50 to 53 s the beats pass: 2 s at 10, and 1 s at 500 a minute, which is 8 1/3 beats.
    at = [0, 1, 1, 1, 40, 50, 77]
    notes = Notes(start=start, end=end, pitch=60, tempo_map=beats)
    assert np.rint(beats.beats_at(start) * 3).tolist() == at
    rows = encoder.encode(notes)
    assert rows[:, 1].tolist() == [0, 1, 0, 0, 15, 10, 15]
    assert encoder.fields[3].values[int(rows[5, 3])] == 15
    assert encoder.changes(notes) == {
        "at a tempo outside 15 to 480, encoded as the nearest": 1,
        "after a tempo change between two onsets": 1,
        "after a rest that loses whole bars": 2,
        "longer than 8 beats, shortened": 1,
        "shorter than half a cell, lengthened to one": 1,
        "with times rounded to 1/3 beat": 4,
        "that begin with an earlier one after rounding": 1,
    }


def test_changes_are_not_counted_at_the_limits() -> None:
    """Cells of a tenth of a second, at 120 a minute and 5 cells per beat."""
    encoder = BeatEncoder(per_beat=5, longest=8, time_signatures=("4/4",))

    def changes(start: float, length: float, after: float = 8.0) -> Mapping[str, int]:
        begin = np.array([0, start, start + after / 2])
        end = begin + np.array([0.1, length, 0.1])
        return encoder.changes(Notes(start=begin, end=end, pitch=60, tempo_map=TempoMap()))

    assert changes(1, 4) == {}
    assert changes(1, 4.1) == {"longer than 8 beats, shortened": 1}
    assert changes(1, 0.1) == {}
    assert changes(1, 0.051) == {"with times rounded to 1/5 beat": 1}
    assert changes(1, 0) == {"shorter than half a cell, lengthened to one": 1}
    assert changes(1.001, 0.1, 7.998) == {"with times rounded to 1/5 beat": 1}
    assert changes(1, 0.1, 8.2) == {"after a rest that loses whole bars": 1}
    for tempo, count in ((14.79, 0), (14.78, 3), (486.9, 0), (487.0, 3)):
        notes = Notes(start=[0, 1, 2], end=3, pitch=60, tempo_map=TempoMap(tempos=[tempo]))
        found = encoder.changes(notes)
        assert found.get("at a tempo outside 15 to 480, encoded as the nearest", 0) == count


def test_settings_in_older_model_files_give_the_same_classes() -> None:
    """Model files hold all settings; the default had 15 time signatures."""
    names = ["2/4", "3/4", "4/4", "5/4", "6/4", "2/2", "3/2", "4/2"]
    names += ["3/8", "4/8", "5/8", "6/8", "7/8", "9/8", "12/8"]
    config = {"per_beat": 12, "longest": 16.0, "time_signatures": names}
    encoder = build({"kind": "encoders", "name": "beat", "config": config})
    assert isinstance(encoder, BeatEncoder)
    assert [field.classes for field in encoder.fields] == [15, 193, 96, 121, 128, 192, 32]
    notes = in_signatures(["6/8", "4/2", "1/4"], [1.5, 4.5, 12.5], [0, 1, 1.5, 3, 4.5, 12, 13])
    assert encoder.encode(notes)[:, :3].tolist() == [
        [11, 0, 18],
        [11, 12, 30],
        [11, 6, 0],
        [11, 18, 18],
        [7, 18, 0],
        [7, 90, 90],
        [0, 12, 6],
    ]
    assert encoder.changes(notes) == {"in 1/4, encoded as 2/4": 1}


PARTS = PartMap(
    by="program", parts=(Part(name="Piano"), Part(name="Violin", program=40)), unknown="other"
)
BAND = BeatEncoder(parts=PARTS)
BANDS = strategies.notes(
    longest_rest=0.5,
    pitches=(58, 62),
    instruments=True,
    beats=strategies.beat_maps(tempos=(20.0, 240.0)),
)


@given(BANDS)
def test_notes_of_a_cell_ascend_by_part_and_pitch_without_duplicates(piece: Notes) -> None:
    rows, notes = BAND.encode(piece), snapped(BAND, piece)
    whole: dict[tuple[int, int, int], tuple[int, int]] = {}
    if len(piece):
        assert piece.tempo_map is not None
        begin, end = (piece.tempo_map.beats_at(at) * 12 for at in (piece.start, piece.end))
        at, length = np.rint(begin), np.maximum(1, np.rint(end - begin))
        columns = (at, PARTS.classes_of(piece), piece.pitch, length, piece.velocity)
        for *key, cells, velocity in zip(*(c.astype(int).tolist() for c in columns), strict=True):
            longest, loudest = whole.get(tuple(key), (0, 0))
            whole[tuple(key)] = (max(longest, cells), max(loudest, velocity))
        times = (piece.tempo_map.beats_at(at) * 12 for at in (notes.start, notes.end))
        onset, until = (np.rint(at) for at in times)
        assert (until - onset).tolist() == [whole[key][0] for key in sorted(whole)]
        assert np.allclose(piece.tempo_map.seconds_at(onset / 12), notes.start, rtol=0, atol=1e-9)
        found = zip(onset.tolist(), PARTS.classes_of(notes).tolist(), notes.pitch, strict=True)
        assert list(found) == sorted(whole)
    assert rows[:, 7].tolist() == [part for _, part, _ in sorted(whole)]
    assert rows[:, 4].tolist() == [pitch for *_, pitch in sorted(whole)]
    held = [whole[key] for key in sorted(whole)]
    assert rows[:, 5].tolist() == [min(cells, 16 * 12) - 1 for cells, _ in held]
    assert rows[:, 6].tolist() == [velocity // 4 for _, velocity in held]
    merged = BAND.changes(piece).get("that repeat a pitch within a cell, merged", 0)
    assert merged == len(piece) - len(whole)


@given(BANDS)
def test_rows_of_a_single_instrument_equal_those_without_parts(piece: Notes) -> None:
    plain = replace(piece, program=None, drum=None, track=None, track_names=None)
    rows = BAND.encode(plain)
    assert set(rows[:, 7].tolist()) <= {0}
    np.testing.assert_array_equal(rows[:, :7], BeatEncoder().encode(snapped(BAND, plain)))
    # Without parts, instruments change nothing.
    assert BeatEncoder().encode(piece).tobytes() == BeatEncoder().encode(plain).tobytes()
    assert BeatEncoder().snapped(piece) is None
    back = BeatEncoder().decode(BeatEncoder().encode(piece))
    assert (back.program, back.drum, back.track, back.track_names) == (None,) * 4


SMALL_BAND = BeatEncoder(
    per_beat=1, longest=8.0, time_signatures=SMALL.time_signatures, parts=PARTS
)


@given(st.permutations(SMALL_BAND.fields), st.integers(0, 2**32 - 1))
def test_allowed_rows_of_parts_ascend_in_every_order(order: list[Field], seed: int) -> None:
    """Whatever allowed entries are chosen, some class is left, and the row can be decoded."""
    rng, tracker, rows = np.random.default_rng(seed), SMALL_BAND.tracker(), []
    for _ in range(12):
        known: dict[str, float] = {}
        for field in order:
            mask = tracker.allowed(field, known)
            classes = np.arange(field.classes or 0) if mask is None else np.flatnonzero(mask)
            assert len(classes), (field.name, known)
            # Dead ends are at the extremes.
            some = int(rng.integers(len(classes)))
            known[field.name] = float(classes[(0, -1, some)[int(rng.integers(3))]])
        rows.append(np.array([known[f.name] for f in SMALL_BAND.fields], dtype=np.float32))
        tracker.push(rows[-1])
    table = np.stack(rows)
    key = table[:, 7] * 128 + table[:, 4]
    assert np.all(np.diff(key)[table[1:, 1] == 0] > 0)
    assert SMALL_BAND.decode(table) == tracker.notes()
    # A step of 0 is allowed exactly if a greater part or pitch is.
    can_repeat = bool(key[-1] < 3 * 128 - 1)
    step = tracker.allowed(SMALL_BAND.fields[1], {})
    assert isinstance(step, np.ndarray)
    assert bool(step[0]) == can_repeat


def test_description_without_parts_can_be_built() -> None:
    described = describe(BeatEncoder())
    settings = {name: value for name, value in described["config"].items() if name != "parts"}
    assert build({**described, "config": settings}) == BeatEncoder()
    assert build(describe(BAND)) == BAND
