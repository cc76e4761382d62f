"""Symptoms of collapse: each on a piece made to have it, none on pieces like the real ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import DataError
from notelstm.evaluation import diagnose, quantize
from notelstm.evaluation.health import SYMPTOMS
from notelstm.notes import Notes

COUNT = 200
MEASURES = {symptom.name: symptom.measure for symptom in SYMPTOMS}


def music(seed: int, count: int = COUNT) -> Notes:
    """Something like real: a walk over some octaves, chords, repeated notes, rests."""
    rng = np.random.default_rng(seed)
    pitch = 64 + (np.cumsum(rng.integers(-5, 6, count)) % 40) - 20
    pitch[1:][rng.random(count - 1) < 0.1] = pitch[:-1][rng.random(count - 1) < 0.1][:1]
    step = rng.choice([0.0, 0.1, 0.2, 0.4, 2.0], count, p=[0.25, 0.3, 0.3, 0.13, 0.02])
    start = np.cumsum(step)
    end = start + rng.choice([0.1, 0.3, 0.6, 1.5], count)
    return Notes(start=start, end=end, pitch=pitch, velocity=rng.integers(40, 90, count))


REAL = [music(seed, 3 * COUNT + 50) for seed in range(25)]


def changed(**columns: object) -> Notes:
    whole = music(99)
    given_ = {"start": whole.start, "end": whole.end, "pitch": whole.pitch, **columns}
    return Notes(**given_)  # type: ignore[arg-type]


def collapsed() -> dict[str, Notes]:
    whole = music(99)
    rng = np.random.default_rng(5)
    some = rng.permutation(COUNT)
    loop = np.concatenate([whole.pitch[:50], np.resize(whole.pitch[50:62], COUNT - 50)])
    one = whole.pitch.copy()
    one[60:110] = 60
    late = whole.start + np.where(np.arange(COUNT) < 100, 0, 60.0)
    cluster = whole.start.copy()
    cluster[80:140] = cluster[80]
    return {
        "few pitches": changed(pitch=np.resize([60, 62, 62, 60, 60, 60, 60, 60, 62], COUNT)[some]),
        "any pitch": changed(pitch=rng.permutation(128).repeat(2)[:COUNT]),
        "loop": changed(pitch=loop),
        "one note": changed(pitch=one),
        "silence": changed(end=whole.start + 0.01),
        "rest": changed(start=late, end=late + whole.duration),
        "cluster": changed(start=np.sort(cluster), end=np.sort(cluster) + whole.duration),
    }


def test_music_like_the_real_music_is_not_flagged() -> None:
    healthy = diagnose([music(1000 + seed) for seed in range(20)], REAL)
    assert (healthy.notes, healthy.excerpts) == (COUNT, 75)
    # One in 75 is beyond all excerpts by chance, for each of seven symptoms.
    assert len(healthy.flagged) <= 4
    assert diagnose(REAL, REAL).flagged == ()


@pytest.mark.parametrize("name", MEASURES)
def test_each_collapse_has_its_symptom(name: str) -> None:
    samples = [REAL[3][:COUNT], collapsed()[name], REAL[4][COUNT : 2 * COUNT]]
    found = diagnose(samples, REAL)
    named = {made.symptom.name: made for made in found.diagnoses}
    assert named[name].flagged == (1,)
    assert 1 in found.flagged
    said = named[name].sentence
    assert said.startswith("the music ")
    assert f"in 1 of 3 samples: {named[name].values[1]:.4g} " in said
    assert f"real music {named[name].limit:.4g}. To fix: {named[name].symptom.advice}" in said
    made = json.loads(json.dumps(found.to_json()))["symptoms"][name]
    assert (made["flagged"], made["sentence"], made["limit"]) == ([1], said, named[name].limit)


def test_the_threshold_is_the_extreme_of_real_excerpts() -> None:
    found = diagnose([music(1000)], REAL)
    parts = [quantize(piece[k * COUNT : (k + 1) * COUNT]) for piece in REAL for k in range(3)]
    for made in found.diagnoses:
        values = [made.symptom.measure(part) for part in parts]
        assert made.limit == (max if made.symptom.side == "most" else min)(values)
        assert made.values == (made.symptom.measure(quantize(music(1000))),)
        if not made.flagged:
            assert "To fix" not in made.sentence


def test_measures_by_hand() -> None:
    notes = quantize(
        Notes(
            start=[1.0, 1.0, 1.05, 1.5, 6.0, 6.2],
            end=[2.0, 1.01, 1.1, 1.6, 6.1, 7.0],
            pitch=[60, 64, 64, 64, 60, 64],
        )
    )
    # Silence from 2 to 6 and from 6.1 to 6.2, of 6 seconds.
    assert MEASURES["silence"](notes) == pytest.approx(4.1 / 6)
    assert MEASURES["rest"](notes) == pytest.approx(4)
    assert MEASURES["cluster"](notes) == 3
    assert MEASURES["one note"](notes) == 3
    entropy = -(1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3))
    assert MEASURES["few pitches"](notes) == pytest.approx(entropy)
    # 64 64 64 repeats for two notes; 60 64 .. .. 60 64 is half of a loop of four.
    assert MEASURES["loop"](notes) == 2


def slow_loop(pitch: list[int]) -> int:
    best = 0
    for period in range(1, min(64, len(pitch) - 1) + 1):
        for begin in range(period, len(pitch)):
            length = 0
            while begin + length < len(pitch) and (
                pitch[begin + length] == pitch[begin + length - period]
            ):
                length += 1
            if length >= period:
                best = max(best, length)
    return best


@given(st.lists(st.integers(60, 62), min_size=2, max_size=40))
def test_loops_match_a_slow_search(pitch: list[int]) -> None:
    start = np.arange(len(pitch)) * 0.1
    notes = quantize(Notes(start=start, end=start + 0.05, pitch=pitch))
    assert MEASURES["loop"](notes) == slow_loop(pitch)
    runs = "".join(map(chr, pitch))
    longest = max(k for k in range(1, len(pitch) + 1) for p in (60, 61, 62) if chr(p) * k in runs)
    assert MEASURES["one note"](notes) == longest


def test_empty_and_too_short_samples_are_rejected() -> None:
    with pytest.raises(DataError, match="no real pieces"):
        diagnose([music(0)], [])
    with pytest.raises(DataError, match="fewer than 2 notes"):
        diagnose([], REAL)
    for samples, real in (([music(0), music(0)[:1]], REAL), ([music(0)], [music(1)[:1]])):
        with pytest.raises(DataError, match="1 note, fewer than 2"):
            diagnose(samples, real)


@pytest.mark.maestro
@pytest.mark.skipif("NOTELSTM_MAESTRO" not in os.environ, reason="NOTELSTM_MAESTRO is not set")
def test_performances_are_healthy_beside_performances() -> None:
    from notelstm.midi import read_midi

    files = sorted(Path(os.environ["NOTELSTM_MAESTRO"]).glob("2018/*.midi"))[:40]
    pieces = [read_midi(file) for file in files]
    found = diagnose([piece[:500] for piece in pieces[:10]], pieces[10:])
    assert found.excerpts > 200
    assert len(found.flagged) <= 2
