"""Shared passages: planted copies are found in place, others are not, and none is overlooked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from notelstm.errors import DataError
from notelstm.evaluation import Passage, evaluate_samples, find_copies, longest_shared
from notelstm.evaluation.memorisation import SHORTEST
from notelstm.notes import Notes


def line(seed: int, count: int = 300) -> Notes:
    """A melody with two-note chords, whose notes lie at least 80 ms apart otherwise."""
    rng = np.random.default_rng(seed)
    step = rng.integers(8, 60, count) / 100
    step[1::5] = 0
    start = np.cumsum(step)
    pitch = rng.integers(30, 100, count)
    # In a chord the first is the lower one, so that notes are in the order of pitches.
    pitch[1::5] = pitch[::5] + 7
    return Notes(start=start, end=start + 0.1, pitch=pitch, velocity=rng.integers(1, 128, count))


TRAINING = [(f"piece {k}", line(k, 200 + 100 * k)) for k in range(5)]


def spliced(
    at: int, source: Notes, place: int, notes: int, *, semitones: int = 0, stretch: float = 1.0
) -> Notes:
    """A line into which a passage of another was put."""
    own, pitch = line(777), line(777).pitch.copy()
    part = source[place : place + notes]
    # Where it begins and ends, nothing goes on as in the source by chance.
    pitch[at - 1] = source.pitch[place - 1] + semitones + 1
    if place + notes < len(source):
        pitch[at] = source.pitch[place + notes] + semitones + 1
    begin = own.start[at - 1] + 0.5
    moved = begin + (part.start - part.start[0]) * stretch
    after = own[at:].shifted(moved[-1] + 0.7 - own.start[at])
    return Notes(
        start=np.concatenate([own.start[:at], moved, after.start]),
        end=np.concatenate([own.start[:at], moved, after.start]) + 0.1,
        pitch=np.concatenate([pitch[:at], part.pitch + semitones, pitch[at:]]),
    )


@pytest.mark.parametrize("semitones", [0, 5, -7])
@pytest.mark.parametrize("stretch", [1.0, 1.37, 0.8, 2.2])
@pytest.mark.parametrize("notes", [13, 40, 150])
def test_a_planted_copy_is_found_in_place(semitones: int, stretch: float, notes: int) -> None:
    name, source = TRAINING[3]
    # A chord of the source begins at each fifth note: the passage begins and ends between two.
    place = 62
    sample = spliced(82, source, place, notes, semitones=semitones, stretch=stretch)
    own = line(777)
    (found, nothing) = longest_shared([sample, own], TRAINING)
    assert nothing is None
    assert found is not None
    assert (found.sample, found.at, found.piece, found.place) == (0, 82, name, place)
    assert (found.notes, found.semitones) == (notes, semitones)
    assert found.stretch == pytest.approx(stretch, rel=0.03)
    assert found.at_seconds == pytest.approx(sample.start[82], abs=0.006)
    assert found.place_seconds == pytest.approx(source.start[place], abs=0.006)


def test_rolled_chords_and_their_order_do_not_hide_copies() -> None:
    name, source = TRAINING[4]
    rng = np.random.default_rng(0)
    start = source.start.copy()
    pairs = np.arange(1, len(source), 5)
    start[pairs] += rng.uniform(0, 0.03, len(pairs))
    start[pairs - 1] += rng.uniform(0, 0.03, len(pairs))
    rolled = Notes(start=start, end=start + 0.1, pitch=source.pitch)
    (found,) = longest_shared([rolled], TRAINING)
    assert found is not None
    assert (found.piece, found.at, found.place, found.notes) == (name, 0, 0, len(source))


def test_other_rhythm_is_another_passage() -> None:
    """The same pitches with other steps are not a copy; where the rhythm agrees, they are."""
    _, source = TRAINING[2]
    rng = np.random.default_rng(1)
    scrambled = np.cumsum(rng.permutation(np.diff(source.start, prepend=0)) + 0.06)
    (found,) = longest_shared(
        [Notes(start=scrambled, end=scrambled + 0.1, pitch=source.pitch)], TRAINING
    )
    assert found is None
    # The first half twice as fast as the second: two passages, neither of them the whole.
    n = len(source)
    step = np.diff(source.start, prepend=0)
    step[n // 2 + 1 :] *= 2
    bent = np.cumsum(step)
    (found,) = longest_shared([Notes(start=bent, end=bent + 0.1, pitch=source.pitch)], TRAINING)
    assert found is not None
    assert n // 2 - 3 <= found.notes <= n // 2 + 3


def test_too_slow_and_too_fast_are_no_copies() -> None:
    _, source = TRAINING[0]
    for stretch, there in ((2.4, True), (3.0, False), (0.45, True), (0.3, False)):
        # Steps of at least 0.3 s: even the fastest are no chords.
        wide = Notes(start=source.start * 4, end=source.start * 4 + 0.1, pitch=source.pitch)
        played = Notes(
            start=wide.start * stretch, end=wide.start * stretch + 0.1, pitch=source.pitch
        )
        (found,) = longest_shared([played], [("wide", wide)])
        assert (found is not None and found.notes == len(source)) == there


def slow_longest(mine: Notes, other: Notes) -> int:
    """By trying every pair of notes; times are whole cells and no two notes are a chord."""

    def steps(piece: Notes) -> NDArray[np.float64]:
        return np.diff(np.rint(piece.start * 100))

    best, a, b = 0, steps(mine), steps(other)
    for i in range(len(mine)):
        for j in range(len(other)):
            low, high, k = 0.4, 2.5, 0
            while i + k + 1 < len(mine) and j + k + 1 < len(other):
                same = mine.pitch[i + k + 1] - mine.pitch[i + k]
                if same != other.pitch[j + k + 1] - other.pitch[j + k]:
                    break
                low = max(low, (0.9 * a[i + k] - 3) / (b[j + k] + 3))
                high = min(high, (1.1 * a[i + k] + 3) / (b[j + k] - 3))
                if low > high:
                    break
                k += 1
            best = max(best, k + 1)
    return best if best >= SHORTEST else 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([(6, 7), (6, 30), (10, 11)]))
def test_matches_agree_with_a_slow_search(seed: int, steps: tuple[int, int]) -> None:
    """Two pitches and few rhythms: long passages are shared by chance, in many places."""
    rng = np.random.default_rng(seed)

    def dull(count: int) -> Notes:
        start = np.cumsum(rng.choice(steps, count, p=[0.8, 0.2])) / 100
        pitch = 60 + (rng.random(count) < 0.3).astype(np.int64)
        return Notes(start=start, end=start + 0.05, pitch=pitch)

    samples = [dull(n) for n in (60, 12, 40)]
    training = [(str(k), dull(n)) for k, n in enumerate((50, 13, 80))]
    found = longest_shared(samples, training)
    for k, (passage, sample) in enumerate(zip(found, samples, strict=True)):
        wanted = max(slow_longest(sample, piece) for _, piece in training)
        assert (0 if passage is None else passage.notes) == wanted
        if passage is not None:
            assert passage.sample == k
            piece = training[int(passage.piece)][1]
            n = passage.notes
            mine = sample.pitch[passage.at : passage.at + n]
            theirs = piece.pitch[passage.place : passage.place + n]
            assert np.array_equal(mine, theirs + passage.semitones)
            assert (
                slow_longest(
                    sample[passage.at : passage.at + n], piece[passage.place : passage.place + n]
                )
                == n
            )


def test_the_first_of_equally_long_passages_is_reported() -> None:
    twice = [("a", TRAINING[0][1]), ("b", TRAINING[0][1])]
    (found,) = longest_shared([TRAINING[0][1]], twice)
    assert found is not None
    assert found.piece == "a"


def test_pieces_that_are_too_short_share_nothing() -> None:
    some = TRAINING[1][1]
    samples = [Notes.empty(), some[:1], some[:12], some[:13]]
    training = [("empty", Notes.empty()), ("one", some[:1]), *TRAINING]
    assert [p and p.notes for p in longest_shared(samples, training)] == [None, None, None, 13]
    assert longest_shared(samples[:3], training) == (None, None, None)
    assert longest_shared([], TRAINING) == ()


def test_a_piece_of_one_repeated_note() -> None:
    start = np.arange(400) * 0.1
    dull = Notes(start=start, end=start + 0.05, pitch=60)
    higher = Notes(start=start[:150] * 2, end=start[:150] * 2 + 0.05, pitch=72)
    (found,) = longest_shared([dull], [("higher", higher)])
    assert found is not None
    assert (found.notes, found.semitones) == (150, -12)
    assert found.stretch == pytest.approx(0.5, rel=0.1)


def test_the_copy_threshold_depends_on_real_music() -> None:
    samples = [spliced(50, TRAINING[1][1], 10, 30), spliced(50, TRAINING[2][1], 10, 60), line(9)]
    real = [spliced(50, TRAINING[1][1], 10, 40), line(10, 2000)]
    found = find_copies(samples, iter(TRAINING), real)
    assert [p and p.notes for p in found.samples] == [30, 60, None]
    assert found.usual == 40
    assert len(found.real) == 1 + 2000 // 330
    assert found.longest == found.samples[1]
    assert found.copied == (found.samples[1],)
    assert found.sentence.startswith("1 of 3 samples copy: 60 notes from note 50 of sample 1 on")
    assert "from note 10 of piece 2 on" in found.sentence
    assert "real music shares up to 40. To fix: stop training earlier" in found.sentence
    made = json.loads(json.dumps(found.to_json()))
    assert (made["copied"], made["usual"], made["longest"]["notes"]) == ([1], 40, 60)
    assert made["samples"][2] is None
    # What real music shares, too, is no copy.
    assert find_copies(real[:1], TRAINING, real).copied == ()


def test_without_real_music_there_is_no_verdict() -> None:
    samples = [spliced(50, TRAINING[1][1], 10, 30)]
    found = find_copies(samples, TRAINING)
    assert (found.copied, found.real) == ((), ())
    assert "To fix" not in found.sentence
    assert "30 notes" in found.sentence
    clean = find_copies([line(9)], TRAINING)
    assert clean.longest is None
    assert "no passage of 13 notes" in clean.sentence
    assert clean.to_json()["longest"] is None


def test_samples_get_every_measure() -> None:
    real = [line(100 + k) for k in range(6)]
    samples = [spliced(50, TRAINING[1][1], 10, 100), line(200), line(201)]
    report = evaluate_samples(samples, real, iter(TRAINING))
    made = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert made.keys() == {"similarity", "health", "repetition", "memorisation"}
    assert made["memorisation"]["copied"] == [0]
    assert made["similarity"]["generated"] == 3
    assert isinstance(report.memorisation and report.memorisation.samples[0], Passage)
    assert evaluate_samples(samples, real).to_json()["memorisation"] is None
    with pytest.raises(DataError, match="sample 1 has 0 notes, fewer than 2"):
        evaluate_samples([line(1), Notes.empty()], real)
    with pytest.raises(DataError, match="real piece 0 has 1 note, fewer than 2"):
        evaluate_samples(samples, [line(1)[:1], *real])
