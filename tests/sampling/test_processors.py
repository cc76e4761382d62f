"""Each processor by examples and properties."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.encoders.rows import PITCH, VELOCITY, RowTracker
from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field, Row
from notelstm.notes import Note, Notes
from notelstm.predictions import Categorical, Normal, PointEstimate
from notelstm.protocols import Prediction, Processor, SamplingContext
from notelstm.sampling import (
    ForbidValues,
    GridSnap,
    MaxChordSize,
    MaxPolyphony,
    MinP,
    NoRepeatNGram,
    NoteDensity,
    PitchRange,
    RepetitionPenalty,
    Scale,
    Temperature,
    TempoRange,
    TopK,
    TopP,
)
from notelstm.sampling.pitches import MODES, note_number, pitch_classes
from notelstm.testing import strategies
from notelstm.tracker import Tone, Tracker

STEP = LogTimeEncoder().fields[1]
SECONDS = StepDurationEncoder().fields[1]
EVENT = PerformanceEventEncoder().fields[0]


def kept(
    processor: Processor, field: Field, prediction: Prediction, *contexts: SamplingContext
) -> Tensor:
    """(B, C) the classes that can still be sampled."""
    got = processor(field, prediction, contexts)
    assert isinstance(got, Categorical)
    return got.logits > -torch.inf


def even(field: Field) -> Categorical:
    return Categorical(torch.zeros(1, field.classes or 0))


def left(processor: Processor, field: Field, *contexts: SamplingContext) -> list[int]:
    """The classes that one sequence can still sample, from equal weights."""
    return [int(c) for c in kept(processor, field, even(field), *contexts)[0].nonzero()]


def sequence(*rows: tuple[float, float, float], **known: float) -> SamplingContext:
    """A sequence with the pitch, step and duration of each row."""
    tracker = RowTracker(StepDurationEncoder())
    for row in rows:
        tracker.push(np.array(row, dtype=np.float32))
    return SamplingContext(known, tracker)


# Truncation


@given(strategies.logits(12, 3), strategies.masks(12, 3))
@example(torch.arange(36.0).reshape(3, 12) * 2e-38, torch.ones(3, 12, dtype=torch.bool))
def test_top_p_of_1_removes_nothing_and_a_tiny_one_keeps_the_mode(
    logits: Tensor, allowed: Tensor
) -> None:
    prediction = Categorical(logits).constrained(allowed)
    assert TopP(p=1.0)(PITCH, prediction, ()) is prediction
    for tiny in (5e-324, 1e-9):
        alone = kept(TopP(p=tiny), PITCH, prediction)
        assert alone.sum(-1).tolist() == [1, 1, 1]
        assert alone.int().argmax(-1).tolist() == prediction.mode().tolist()


@given(strategies.logits(12, 3), strategies.masks(12, 3), st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_classes_with_the_probability(
    logits: Tensor, allowed: Tensor, p: float
) -> None:
    prediction = Categorical(logits).constrained(allowed)
    probs = prediction.logits.double().softmax(-1)
    for here, some in zip(kept(TopP(p=p), PITCH, prediction), probs, strict=True):
        assert float(some[here].sum()) >= p - 1e-9
        fewer = float(some[here].sum() - some[here].min())
        assert fewer < p + 1e-9
        assert float(some[here].min()) >= float(some[~here].max() if (~here).any() else 0)


@given(strategies.logits(12, 3), strategies.masks(12, 3), st.integers(1, 20))
def test_top_k_keeps_k_classes_or_ties(logits: Tensor, allowed: Tensor, k: int) -> None:
    prediction = Categorical(logits).constrained(allowed)
    for here, some in zip(kept(TopK(k=k), PITCH, prediction), prediction.logits, strict=True):
        possible = int((some > -torch.inf).sum())
        assert here.sum() >= min(k, possible)
        # What is beyond k is as likely as the last of them.
        assert int((some > some[here].min()).sum()) < k


@given(strategies.logits(12, 3), strategies.masks(12, 3), st.floats(0.0, 1.0))
def test_min_p_keeps_classes_above_the_ratio(logits: Tensor, allowed: Tensor, ratio: float) -> None:
    prediction = Categorical(logits).constrained(allowed)
    p = prediction.logits.double().softmax(-1)
    relative = p / p.amax(-1, keepdim=True)
    here = kept(MinP(ratio=ratio), PITCH, prediction)
    assert here.gather(-1, prediction.mode()[:, None]).all()
    assert (relative[here] >= ratio * (1 - 1e-5)).all()
    possible = prediction.logits > -torch.inf
    assert (relative[possible & ~here] <= ratio * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (TopK, {"k": 1}),
        (TopP, {"p": 0.1}),
        (MinP, {"ratio": 1}),
        (Temperature, {"temperature": 2}),
    ],
)
def test_roles_select_fields(make: Any, settings: dict[str, Any]) -> None:
    processor = make(**settings, roles=["velocity"])
    pitch, velocity = Categorical(torch.randn(2, 128)), Categorical(torch.randn(2, 32))
    assert processor(PITCH, pitch, ()) is pitch
    assert processor(VELOCITY, velocity, ()) is not velocity
    point = PointEstimate(torch.ones(2))
    assert processor(SECONDS, point, ()) is point
    with pytest.raises(ConfigError, match=r"unknown role 'loudness'.*pitch,"):
        make(roles=("loudness",))


# Pitches


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("D dorian", "C major"),
        ("e phrygian", "C"),
        ("F Lydian", "C ionian"),
        ("G mixolydian", "c major"),
        ("A aeolian", "A minor"),
        ("B locrian", "Am"),
        ("F# minor", "A major"),
        ("F#m", "Gb natural minor"),
        ("Bb", "G minor"),
        ("B♭ major", "A# major"),
        ("C## major", "D major"),
        ("A minor-pentatonic", "C pentatonic"),
        ("E_major_blues", "C# blues"),
        ("chromatic", "111111111111"),
        ("F chromatic", "C chromatic"),
        ("C octatonic", "101101101101"),
        ("D whole tone", "101010101010"),
        ("E harmonic minor", "100110110101"),
    ],
)
def test_relative_scales_have_equal_pitch_classes(name: str, same: str) -> None:
    assert pitch_classes(name) == pitch_classes(same)


def test_pitch_classes_of_scales() -> None:
    assert sorted(pitch_classes("C major")) == [0, 2, 4, 5, 7, 9, 11]
    assert sorted(pitch_classes("A harmonic minor")) == [0, 2, 4, 5, 8, 9, 11]
    assert sorted(pitch_classes("A melodic minor")) == [0, 2, 4, 6, 8, 9, 11]
    assert sorted(pitch_classes("A blues")) == [0, 2, 3, 4, 7, 9]
    assert sorted(pitch_classes("Eb major pentatonic")) == [0, 3, 5, 7, 10]
    for mode, steps in MODES.items():
        assert steps[0] == 0
        assert list(steps) == sorted(set(steps) & set(range(12))), mode
        for tonic, letter in ((1, "C#"), (9, "A")):
            wanted = {(tonic + step) % 12 for step in steps}
            assert pitch_classes(f"{letter} {mode}") == wanted


@pytest.mark.parametrize(
    "name", ["", "H minor", "C lower", "C###", "Cm dorian", "000000000000", "10101", "dorian"]
)
def test_invalid_scale_is_rejected(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"no such scale: .* tonic and a mode or twelve digits.*F# minor"
    ):
        Scale(name=name)


@pytest.mark.parametrize(
    ("name", "number"), [("C4", 60), ("c-1", 0), ("G9", 127), ("Bb3", 58), ("61", 61), (62, 62)]
)
def test_note_number(name: str | int, number: int) -> None:
    assert note_number(name) == number


@pytest.mark.parametrize("name", ["H4", "C", "G#9", "Cb-1", "128", 128, -1])
def test_invalid_pitch_is_rejected(name: str | int) -> None:
    with pytest.raises(ConfigError, match="MIDI note number from 0 to 127"):
        PitchRange(low=name)


def test_scale_range_and_forbidden_values() -> None:
    assert left(Scale(name="D dorian"), PITCH)[:5] == [0, 2, 4, 5, 7]
    assert left(PitchRange(low="C4", high=62), PITCH) == [60, 61, 62]
    assert left(ForbidValues(role="pitch", values=range(1, 128)), PITCH) == [0]  # type: ignore[arg-type]
    # A class of four velocities goes as a whole.
    assert set(range(32)) - set(left(ForbidValues(role="velocity", values=(5, 127)), VELOCITY)) == {
        1,
        31,
    }
    two = Field.categorical("v", "velocity", values=(40, 80))
    assert left(ForbidValues(role="velocity", values=(40,)), two) == [1]
    tempo = Field.categorical("tempo", "tempo", values=(60, 90, 120))
    assert left(TempoRange(slowest=80, fastest=100), tempo) == [1]
    assert left(TempoRange(slowest=110, fastest=111), tempo) == [2]


def test_pitch_limits_of_events_change_note_ons_only() -> None:
    on = {k for k, event in enumerate(EVENT.events) if event.type == "note-on"}
    others = set(range(388)) - on
    for processor, stay in (
        (Scale(name="C major"), {k for k in on if k % 12 in (0, 2, 4, 5, 7, 9, 11)}),
        (PitchRange(low=60, high=61), {60, 61}),
        (ForbidValues(role="pitch", values=(60,)), on - {60}),
    ):
        assert set(left(processor, EVENT)) == others | stay
    shifts = [k for k, event in enumerate(EVENT.events) if event.type == "shift"]
    assert set(range(388)) - set(left(ForbidValues(role="step", values=(0.02,)), EVENT)) == {
        shifts[1]
    }


def test_ranges_of_continuous_fields() -> None:
    tempo = Field.continuous("tempo", "tempo", unit="quarter notes a minute", low=10, high=400)
    value = torch.tensor([50.0, 100.0, 300.0])
    ranged = TempoRange(slowest=90, fastest=120)(tempo, PointEstimate(value), ())
    assert ranged.mode().tolist() == [90, 100, 120]
    normal = Normal(value, torch.ones(3)).constrained((value - 5, value + 5))
    assert TempoRange(slowest=90, fastest=120)(tempo, normal, ()).mode().tolist() == [55, 100, 295]
    pitch = Field.continuous("pitch", "pitch", unit="MIDI note", low=0, high=127)
    assert PitchRange(low=60, high=70)(pitch, PointEstimate(value), ()).mode().tolist() == [
        60,
        70,
        70,
    ]
    assert Scale()(pitch, PointEstimate(value), ()).mode().tolist() == value.tolist()


# Composition


@given(
    st.permutations(
        [Scale(name="G major"), PitchRange(low=40, high=80), ForbidValues(values=(67.0,))]
    ),
    strategies.masks(128, 2),
)
def test_masks_with_common_classes_commute(chain: list[Processor], allowed: Tensor) -> None:
    common = allowed & (torch.arange(128) == 62)
    allowed = allowed | ~common.any(-1, keepdim=True) & (torch.arange(128) == 62)
    prediction: Prediction = Categorical(torch.zeros(2, 128)).constrained(allowed)
    for processor in chain:
        prediction = processor(PITCH, prediction, ())
    assert isinstance(prediction, Categorical)
    pitches = [p in pitch_classes("G major") for p in np.arange(128) % 12]
    wanted = allowed & torch.tensor(pitches) & (torch.arange(128) >= 40) & (torch.arange(128) <= 80)
    wanted &= torch.arange(128) != 67
    assert torch.equal(prediction.logits > -torch.inf, wanted)


def test_first_of_two_masks_without_common_classes_wins() -> None:
    black, white = PitchRange(low=61, high=61), Scale(name="C major")

    def chain(*processors: Processor) -> set[int]:
        prediction: Prediction = even(PITCH)
        for processor in processors:
            prediction = processor(PITCH, prediction, ())
        assert isinstance(prediction, Categorical)
        return set((prediction.logits[0] > -torch.inf).nonzero()[:, 0].tolist())

    assert chain(black, white) == {61}
    assert chain(white, black) == set(left(white, PITCH))
    # What cuts off the unlikely comes last, or it leaves nothing of the scale.
    sharp = Categorical(torch.where(torch.arange(128) == 61, 5.0, 0.0)[None])
    assert kept(white, PITCH, TopK(k=1)(PITCH, sharp, ())).nonzero().tolist() == [[0, 61]]


# Repetition


def test_no_repeat_ngram() -> None:
    played = [60, 62, 64, 60, 62]
    context = sequence(*((pitch, 0.5, 0.4) for pitch in played))
    every = set(range(128))
    assert every - set(left(NoRepeatNGram(ngram_size=3, history=9), PITCH, context)) == {64}
    assert every - set(left(NoRepeatNGram(ngram_size=2, history=9), PITCH, context)) == {64}
    assert every - set(left(NoRepeatNGram(ngram_size=1, history=9), PITCH, context)) == {60, 62, 64}
    assert every - set(left(NoRepeatNGram(ngram_size=4, history=9), PITCH, context)) == set()
    assert every - set(left(NoRepeatNGram(ngram_size=3, history=4), PITCH, context)) == set()
    assert every - set(left(NoRepeatNGram(ngram_size=6, history=9), PITCH, context)) == set()
    assert left(NoRepeatNGram(ngram_size=1), PITCH, sequence()) == list(range(128))


def test_repetition_penalty() -> None:
    context = sequence(*((pitch, 0.5, 0.4) for pitch in (60, 60, 62, 64)))
    logits = torch.randn(1, 128)
    weights = torch.rand(1, 128)
    got = RepetitionPenalty(penalty=4.0, history=3)(PITCH, Categorical(logits, weights), [context])
    assert isinstance(got, Categorical)
    assert got.weights is not None
    odds = (got.logits - logits).exp()[0]
    for pitch in range(128):
        wanted = 0.25 if pitch in (60, 62, 64) else 1.0
        assert float(odds[pitch]) == pytest.approx(wanted, rel=1e-5)
        assert float(got.weights[0, pitch] / weights[0, pitch]) == pytest.approx(wanted, rel=1e-5)
    alone = RepetitionPenalty(penalty=4.0, history=1)(PITCH, Categorical(logits), [context])
    assert isinstance(alone, Categorical)
    assert int((alone.logits != logits).sum()) == 1


class Plain(Tracker):
    """A tracker with the abstract methods alone."""

    def __init__(self, good: Tracker) -> None:
        super().__init__(good.fields)
        self.good = good

    @property
    def num_notes(self) -> int:
        return self.good.num_notes

    @property
    def time(self) -> float:
        return self.good.time

    def push(self, row: Row) -> None:
        self.good.push(row)

    def sounding(self, at: float) -> Set[Tone]:
        return self.good.sounding(at)

    def notes(self) -> Notes:
        return self.good.notes()

    def pop_finished(self, *, include_sounding: bool = False) -> Sequence[tuple[int, Note]]:
        return self.good.pop_finished(include_sounding=include_sounding)


def test_processors_with_the_defaults_of_a_tracker() -> None:
    good = sequence((60, 0, 1), (62, 0.5, 1), (64, 0.0, 1))
    plain = SamplingContext({}, Plain(good.tracker))
    for processor in (NoRepeatNGram(ngram_size=1), MaxChordSize(notes=2)):
        field = PITCH if isinstance(processor, NoRepeatNGram) else EVENT
        assert left(processor, field, plain) == left(processor, field, good)
    with pytest.raises(FieldError, match=r"Plain has no method remaining\(\).*Implement remaining"):
        left(MaxPolyphony(), STEP, plain)


RECENT = [(0.5, Tone(62)), (0.75, Tone(64)), (0.75, Tone(65))]


def test_defaults_of_a_tracker_equal_the_row_tracker() -> None:
    good = sequence((60, 0, 1), (62, 0.5, 1)).tracker
    plain, rows = Plain(good.copy()), np.array([[64, 0.25, 1], [65, 0, 0.5]], dtype=np.float32)
    assert plain.position == good.position == 0.5
    assert plain.seconds_per_unit == good.seconds_per_unit
    assert plain.closing_rows().shape == good.closing_rows().shape == (0, 3)
    assert all(plain.allowed(field, {}) is None for field in plain.fields)
    before = plain.copy()
    plain.extend(rows)
    good.extend(rows)
    assert plain.notes() == good.notes()
    assert list(plain.latest(3)) == list(good.latest(3)) == RECENT
    assert before.num_notes == 2  # copies are independent
    with pytest.raises(FieldError, match=r"overlapping\(\)"):
        plain.overlapping({})


# Polyphony and time


def test_max_polyphony() -> None:
    context = sequence((60, 0, 1.0), (64, 0.5, 0.1), (67, 0.0, 0.3))  # left: 0.5, 0.1 and 0.3 s
    values = np.array(STEP.values)
    for voices, least in ((1, 0.5), (2, 0.3), (3, 0.1), (4, 0.0)):
        steps = values[left(MaxPolyphony(notes=voices), STEP, context)]
        assert steps.min() == pytest.approx(least)
        assert len(steps) == np.count_nonzero(values >= least - 1e-9)
        point = MaxPolyphony(notes=voices)(SECONDS, PointEstimate(torch.zeros(1)), [context])
        assert float(point.mode()) == pytest.approx(least, abs=1e-6)
    # With a step that is fixed too short, only what sounds can be struck.
    short, long = (SamplingContext({"step": step}, context.tracker) for step in (0.2, 0.4))
    assert left(MaxPolyphony(notes=2), PITCH, short) == [60, 67]
    assert left(MaxPolyphony(notes=2), PITCH, long) == list(range(128))
    assert left(MaxPolyphony(notes=1), PITCH, context) == list(range(128))
    # Of a pitch that was struck twice, the later end counts, once.
    twice = sequence((60, 0, 1.0), (60, 0.5, 0.2), (67, 0.0, 0.1))
    assert values[left(MaxPolyphony(notes=2), STEP, twice)].min() == pytest.approx(0.1)
    assert values[left(MaxPolyphony(notes=1), STEP, twice)].min() == pytest.approx(0.5)


def test_max_chord_size() -> None:
    chord, other = (
        sequence((60, 0, 1), (64, 0.5, 1), (67, 0, 1)),
        sequence((60, 0, 1), (64, 0.5, 1)),
    )
    assert left(MaxChordSize(notes=2), STEP, chord)[0] == 1
    assert left(MaxChordSize(notes=3), STEP, chord)[0] == 0
    assert left(MaxChordSize(notes=2), STEP, other)[0] == 0
    point = MaxChordSize(notes=2)(SECONDS, PointEstimate(torch.zeros(1)), [chord])
    assert float(point.mode()) == pytest.approx(0.001)


def test_grid_snap() -> None:
    steps = np.array(STEP.values)[
        left(GridSnap(grid=0.1), STEP, sequence((60, 0, 1), (60, 0.13, 1)))
    ]
    assert steps[:5].tolist() == pytest.approx([0, 0.07, 0.17, 0.27, 0.37])
    point = GridSnap(grid=0.25)(
        SECONDS, PointEstimate(torch.tensor([0.3])), [sequence((60, 0.1, 1))]
    )
    assert float(point.mode()) == pytest.approx(0.4)
    still = GridSnap(grid=0.25)(
        SECONDS, PointEstimate(torch.tensor([0.0])), [sequence((60, 0.5, 1))]
    )
    assert float(still.mode()) == 0
    # 0.1 and 0.2 are a little more than 0.3, and on its line all the same.
    near = GridSnap(grid=0.1)(
        SECONDS, PointEstimate(torch.zeros(1)), [sequence((60, 0.1, 1), (60, 0.2, 1))]
    )
    assert abs(float(near.mode())) < 1e-6
    beats = Field.categorical("step", "step", values=(0.0, 0.5, 1.0), unit="beat")
    assert left(GridSnap(), beats, sequence()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("fast", "share"),
    [(sequence(*[(60, 0.01, 0.1)] * 30), 0.4), (sequence(*[(60, 2.0, 0.1)] * 30), 2.0)],
)
def test_note_density_steers_towards_the_compensating_step(
    fast: SamplingContext, share: float
) -> None:
    got = NoteDensity(notes_per_second=4.0)(STEP, even(STEP), [fast])
    wanted = STEP.values[int(got.mode())]
    assert wanted == pytest.approx(1.25, abs=0.05) if share < 1 else wanted == 0
    steady = sequence(*[(60, 0.25, 0.1)] * 30)
    level = NoteDensity(notes_per_second=4.0)(STEP, even(STEP), [steady])
    assert isinstance(level, Categorical)
    assert float(level.logits.std()) < 1e-3
    normal = Normal(torch.tensor([0.5]), torch.tensor([0.1]), torch.zeros(1))
    moved = NoteDensity(notes_per_second=4.0)(SECONDS, normal, [fast])
    assert (float(moved.mode()) > 0.5) == (share < 1)


SETTINGS: list[tuple[Any, dict[str, Any], str]] = [
    (TopK, {"k": 0}, "whole number from 1"),
    (TopP, {"p": 0.0}, "not above 0 and up to 1"),
    (TopP, {"p": 1.1}, "not above 0 and up to 1"),
    (TopP, {"p": math.nan}, "not above 0 and up to 1"),
    (MinP, {"ratio": -0.1}, "from 0 to 1"),
    (MinP, {"ratio": 1.1}, "from 0 to 1"),
    (PitchRange, {"low": 61, "high": 60}, "is empty"),
    (TempoRange, {"slowest": 0}, "tempo range from .* empty"),
    (TempoRange, {"slowest": 100, "fastest": 90}, "tempo range from .* empty"),
    (ForbidValues, {"role": "loudness"}, "unknown role"),
    (ForbidValues, {"values": (math.nan,)}, "finite"),
    (ForbidValues, {"values": 60}, "60 are not a sequence of numbers"),
    (ForbidValues, {"values": ("C4",)}, "C4.* are not a sequence of numbers"),
    (NoRepeatNGram, {"ngram_size": 0}, "from 1 to 1024"),
    (NoRepeatNGram, {"ngram_size": 2.5}, "whole number"),
    (NoRepeatNGram, {"history": 1025}, "from 1 to 1024"),
    (RepetitionPenalty, {"penalty": 0}, "from 1e-06 to 1e.06"),
    (RepetitionPenalty, {"penalty": math.inf}, "from 1e-06"),
    (RepetitionPenalty, {"history": 0}, "from 1 to 1024"),
    (MaxPolyphony, {"notes": 0}, "from 1 to 128"),
    (MaxChordSize, {"notes": 0}, "from 1 to 1024"),
    (GridSnap, {"grid": 0.0001}, "from 0.001"),
    (GridSnap, {"grid": math.nan}, "from 0.001"),
    (GridSnap, {"unit": "bar"}, "s or beat"),
    (NoteDensity, {"notes_per_second": 0}, "from 0.001 to 1000"),
    (NoteDensity, {"strength": -1}, "from 0 to 1000"),
    (NoteDensity, {"history": 1025}, "from 1 to 1024"),
]


@pytest.mark.parametrize(("make", "settings", "words"), SETTINGS, ids=str)
def test_invalid_settings_are_rejected(make: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**settings)


def test_processors_without_effect_return_the_prediction_unchanged() -> None:
    prediction = even(PITCH)
    idle: tuple[Processor, ...] = (
        Temperature(temperature=1.0),
        TopP(p=1.0),
        MinP(ratio=0.0),
        RepetitionPenalty(penalty=1.0),
        NoteDensity(strength=0.0),
    )
    for processor in idle:
        for field in (PITCH, STEP):
            given = even(field)
            assert processor(field, given, [sequence()]) is given
    others: tuple[Processor, ...] = (MaxPolyphony(), MaxChordSize(), GridSnap())
    for processor in others:
        assert processor(VELOCITY, prediction, [sequence()]) is prediction
