"""Recall: earlier passages return, those that fit, and loops end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from notelstm.encoders import (
    AnticipatingEncoder,
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
)
from notelstm.encoders.rows import PITCH, TrackingEncoder, tracker_of
from notelstm.errors import ConfigError
from notelstm.evaluation.repetition import repetition_of
from notelstm.fields import Field
from notelstm.generation import Session
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.parts import ONE_PART, PartMap
from notelstm.predictions import Categorical
from notelstm.protocols import NoteEncoder, SamplingContext
from notelstm.sampling import Ancestral, PitchRange, Recall
from notelstm.sampling.recall import _Runs, _runs_of
from notelstm.testing import check_processor
from notelstm.testing.sampling_checks import BAND
from notelstm.tracker import Tone, Tracker

ENCODER = LogTimeEncoder(exact=True)
STEP = ENCODER.fields[1]
RNG = np.random.default_rng(7)
THEME = list(zip(RNG.integers(40, 90, 80).tolist(), RNG.integers(8, 60, 80).tolist(), strict=True))
"""80 notes: a pitch and a step in hundredths of a second."""
EAGER = Recall(first_odds=1e9, odds=1e9)


def notes_of(line: Sequence[tuple[int, int]]) -> Notes:
    start = np.cumsum([step for _, step in line]) / 100
    return Notes(start=start, end=start + 0.05, pitch=[pitch for pitch, _ in line])


def tracked(line: Sequence[tuple[int, int]], encoder: NoteEncoder = ENCODER) -> Tracker:
    tracker = tracker_of(encoder)
    tracker.extend(encoder.encode(notes_of(line)))
    return tracker


def probabilities(
    recall: Recall,
    field: Field,
    tracker: Tracker,
    logits: torch.Tensor | None = None,
    **known: float,
) -> torch.Tensor:
    """(C,) after the processor, of equal ones if no logits are given."""
    given = Categorical(torch.zeros(1, field.classes or 0) if logits is None else logits)
    got = recall(field, given, [SamplingContext(known, tracker)])
    assert isinstance(got, Categorical)
    return got.logits.double().softmax(-1)[0]


def is_unchanged(recall: Recall, field: Field, tracker: Tracker, **known: float) -> bool:
    given = Categorical(torch.randn(1, field.classes or 0))
    return recall(field, given, [SamplingContext(known, tracker)]) is given


def step_class(cells: int) -> float:
    return float(STEP.values.index(min(STEP.values, key=lambda v: abs(v - cells / 100))))


# Which passage


@pytest.mark.parametrize("shift", [0, 3, -12])
def test_the_next_note_of_a_passage_becomes_more_likely_in_any_key(shift: int) -> None:
    begun = [(pitch + shift, step) for pitch, step in THEME[:3]]
    tracker = tracked([*THEME, *begun])
    pitch, step = THEME[3]
    steps = probabilities(EAGER, STEP, tracker)
    near = torch.tensor([abs(v - step / 100) <= 0.01 + step / 1000 + 1e-6 for v in STEP.values])
    assert float(steps[near].sum()) == pytest.approx(0.99)
    assert torch.allclose(steps[~near], steps[~near][0])
    pitches = probabilities(EAGER, PITCH, tracker, step=step_class(step))
    assert int(pitches.argmax()) == pitch + shift
    assert float(pitches.max()) == pytest.approx(0.99)


def test_a_note_that_is_likely_enough_is_not_made_less_likely() -> None:
    tracker = tracked([*THEME, *THEME[:3]])
    logits = torch.zeros(1, 128)
    logits[0, THEME[3][0]] = 30.0
    got = probabilities(EAGER, PITCH, tracker, logits, step=step_class(THEME[3][1]))
    assert torch.equal(got, logits.double().softmax(-1)[0])


@pytest.mark.parametrize(
    ("run", "shift", "factor"),
    [(2, 0, 8), (3, 0, 8 * 125 ** (1 / 3)), (5, 0, 1000), (9, 0, 1000), (2, 5, 4), (5, 5, 1000)],
)
def test_the_odds_are_limited_at_first_more(run: int, shift: int, factor: float) -> None:
    recall = Recall(first_odds=8, odds=1000)
    begun = [(pitch + shift, step) for pitch, step in THEME[:run]]
    tracker = tracked([*THEME, *begun])
    pitch, step = THEME[run]
    logits = torch.zeros(1, 128)
    logits[0, pitch + shift] = -9.0
    before = logits.double().softmax(-1)[0, pitch + shift]
    after = probabilities(recall, PITCH, tracker, logits, step=step_class(step))[pitch + shift]
    assert float(torch.logit(after) - torch.logit(before)) == pytest.approx(
        math.log(factor), rel=1e-4
    )


def test_a_passage_ends_with_another_step_or_pitch() -> None:
    pitch, step = THEME[3]
    tracker = tracked([*THEME, *THEME[:3]])
    assert is_unchanged(EAGER, PITCH, tracker, step=step_class(step + 40))
    left = tracked([*THEME, *THEME[:3], (pitch + 1, step)])
    assert is_unchanged(EAGER, STEP, left)


def test_too_few_notes_or_a_passage_that_began_too_late_do_not_count() -> None:
    assert is_unchanged(EAGER, STEP, tracked([*THEME, THEME[0]]))
    assert is_unchanged(Recall(notes=4), STEP, tracked([*THEME, *THEME[:3]]))
    assert not is_unchanged(Recall(notes=3), STEP, tracked([*THEME, *THEME[:3]]))
    assert is_unchanged(Recall(apart=81), STEP, tracked([*THEME, *THEME[:3]]))
    assert not is_unchanged(Recall(apart=80), STEP, tracked([*THEME, *THEME[:3]]))


def test_the_notes_of_one_chord_do_not_count() -> None:
    chord = [(50, 30), (57, 0), (70, 0)]
    assert is_unchanged(EAGER, STEP, tracked([*chord, *THEME, *chord]))
    before = [(45, 30), *chord]
    assert not is_unchanged(EAGER, STEP, tracked([*before, *THEME, *before]))


def test_the_same_pitches_come_before_transposed_ones() -> None:
    higher = [(pitch + 1, step) for pitch, step in THEME[:3]]
    line = [*THEME[:3], (30, 20), *THEME[10:40], *higher, (50, 20), *THEME[40:], *THEME[:3]]
    assert int(probabilities(EAGER, PITCH, tracked(line), step=step_class(20)).argmax()) == 30


def test_a_passage_that_has_returned_as_a_whole_is_not_continued() -> None:
    assert not is_unchanged(EAGER, STEP, tracked([*THEME, *THEME[:79]]))
    higher = [(pitch + 2, step) for pitch, step in THEME]
    assert not is_unchanged(EAGER, STEP, tracked([*THEME, *higher[:79]]))
    assert is_unchanged(EAGER, STEP, tracked([*THEME, *higher]))


def test_a_figure_is_not_interrupted_and_a_loop_is_left() -> None:
    figure = [(60, 20), (64, 20), (67, 20), (64, 20)]
    # It is the passage before the theme as well, and agrees with it from its second note on.
    assert not is_unchanged(EAGER, STEP, tracked([*figure * 3, *THEME, *figure]))
    assert is_unchanged(EAGER, STEP, tracked([*figure * 3, *THEME, *figure * 3]))
    slower = [(pitch, 40) for pitch, _ in figure]
    assert is_unchanged(EAGER, STEP, tracked([*figure * 3, *THEME, *slower * 2, *figure]))
    loop = tracked([*THEME, *figure * 5])
    assert is_unchanged(EAGER, STEP, loop)
    pitches = probabilities(EAGER, PITCH, loop, step=step_class(50))
    assert int(pitches.argmin()) == 60
    assert float(pitches[60] / pitches[61]) == pytest.approx(1 / 20)


def test_transposition_stays_in_the_register_of_the_piece_and_in_an_octave() -> None:
    first, second, third = THEME[:3]
    low = min(pitch for pitch, _ in THEME)
    line = [first, second, (low, third[1]), *THEME[3:]]

    def begun(shift: int) -> Tracker:
        return tracked([*line, *((pitch + shift, step) for pitch, step in line[:2])])

    assert not is_unchanged(EAGER, STEP, begun(2))
    assert is_unchanged(EAGER, STEP, begun(-2))
    assert is_unchanged(EAGER, STEP, begun(13))


def test_no_passage_begins_at_the_same_pitches_where_many_notes_repeat() -> None:
    new = [(pitch - 1 + k % 3, step + 7) for k, (pitch, step) in enumerate(THEME)]
    few = [*THEME, *new, *THEME[:60], (20, 90)]
    many = [*THEME, *new, *THEME[:60], (20, 90), *THEME[20:60], (21, 95)]

    def begun(line: Sequence[tuple[int, int]], count: int, shift: int = 0) -> Tracker:
        return tracked([*line, *((pitch + shift, step) for pitch, step in THEME[:count])])

    assert not is_unchanged(EAGER, STEP, begun(few, 3))
    assert is_unchanged(EAGER, STEP, begun(many, 3))
    # One that has begun goes on, and others begin at other pitches.
    assert not is_unchanged(EAGER, STEP, begun(many, 5))
    assert not is_unchanged(EAGER, STEP, begun(many, 3, shift=1))


# Exactness

LINES = st.lists(st.tuples(st.integers(60, 62), st.sampled_from([0, 10, 12, 30])), max_size=60)


def repeating(line: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each note belongs to a repetition of eight notes at the same pitches."""
    found = [False] * len(line)
    for last in range(len(line)):
        for lag in range(8, last + 1):
            run, _, shift, _ = longest(line[: last + 1], lag)
            if run >= 8 and shift == 0:
                found[last - 7 : last + 1] = [True] * 8
    return found


def longest(line: Sequence[tuple[int, int]], lag: int) -> tuple[int, int, int, int]:
    """The run of a lag, its steps between chords, its transposition and the run of pitches."""

    def shift(i: int) -> int:
        return line[i][0] - line[i - lag][0]

    last = len(line) - 1
    run, chords, same = 1, 0, 0
    for i in range(last, lag, -1):
        step, earlier = line[i][1], line[i - lag][1]
        if shift(i - 1) != shift(last) or abs(step - earlier) > 1 + earlier / 10 + 1e-3:
            break
        run, chords = run + 1, chords + (step > 4)
    while last - same >= lag and shift(last - same) == 0:
        same += 1
    return run, chords, shift(last), same


@given(LINES)
@example([*THEME[:12], *THEME[:10]])
def test_runs_are_those_of_a_comparison_note_by_note(line: list[tuple[int, int]]) -> None:
    time = 0.0
    tones: list[tuple[float, Tone]] = []

    class Listed:
        """The members of a tracker that are read, of notes that no encoder has sorted."""

        parts = ONE_PART
        memo: Mapping[str, Any] = {}

        @property
        def num_notes(self) -> int:
            return len(tones)

        def latest_written(self, count: int) -> Sequence[tuple[float, Tone]]:
            return tones[-count:]

    tracker = cast(Tracker, Listed())
    for pitch, step in line:
        time += step / 100
        tones.append((time, Tone(pitch)))
        _runs_of(tracker)
    runs = _runs_of(tracker)
    for lag in range(1, len(line)):
        run, chords, shift, same = longest(line, lag)
        assert runs._run[lag] == run
        assert runs._chords[lag] == chords
        assert runs._shift[lag] == shift
        assert runs._same[lag] == same
    assert runs._repeats[: len(line)].tolist() == repeating(line)[::-1]


def test_what_was_read_note_by_note_equals_what_is_read_at_once() -> None:
    rng = np.random.default_rng(1)
    line = [
        (int(p), int(s))
        for p, s in zip(rng.integers(60, 64, 1600), rng.choice([10, 20], 1600), strict=True)
    ]
    rows = ENCODER.encode(notes_of(line))
    tracker = tracker_of(ENCODER)
    found = 0
    for i, row in enumerate(rows):
        tracker.push(row)
        ours = _runs_of(tracker).passage(2, 64)
        if i % 7 == 0:
            tracker.pop_finished()
        if i % 100 == 99:
            fresh = tracker.copy()
            fresh.memo = {}
            assert _runs_of(fresh).passage(2, 64) == ours
            found += ours is not None
    assert found > 5


def test_copies_of_a_tracker_share_what_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[float] = []
    add = _Runs._add

    def count(runs: _Runs, onset: float, tone: Tone) -> None:
        added.append(onset)
        add(runs, onset, tone)

    monkeypatch.setattr(_Runs, "_add", count)
    rows = ENCODER.encode(notes_of([*THEME, *THEME[:3]]))
    tracker = tracker_of(ENCODER)
    tracker.extend(rows[:-2])
    _runs_of(tracker)
    assert len(added) == len(rows) - 2
    other, third = tracker.copy(), tracker.copy()
    other.extend(rows[-2:])
    third.push(rows[5])
    passages = [_runs_of(one).passage(2, 64) for one in (tracker, other, third)]
    assert len(added) == len(rows) + 1
    for one, passage in zip((tracker, other, third), passages, strict=True):
        one.memo = {}
        assert _runs_of(one).passage(2, 64) == passage
    assert passages[1] is not None
    assert passages[1] != passages[2]


# In generation


def eager_session(batch_size: int = 1, max_undo: int = 64, *, recall: bool = True) -> Session:
    torch.manual_seed(0)
    order = ("step", "pitch", "velocity", "duration")
    model = NoteLSTM(fields=ENCODER.fields, field_order=order, hidden_size=8)
    register = PitchRange(low=60, high=64)
    eager = Recall(first_odds=1e9, odds=1e9, apart=16)
    processors = (register, eager) if recall else (register,)
    sampler = Ancestral(processors=processors)
    return Session(model, ENCODER, sampler, batch_size=batch_size, seed=2, max_undo=max_undo)


def test_it_makes_music_repeat_itself() -> None:
    def share(*, recall: bool) -> float:
        (music,) = eager_session(recall=recall).run(num_notes=400)
        return repetition_of(music).same_key

    assert share(recall=False) < 0.05
    assert share(recall=True) > 0.3


def test_a_sequence_plays_in_a_batch_what_it_plays_alone() -> None:
    (alone,) = eager_session().run(num_notes=150)
    music = eager_session(3).run(num_notes=150)
    assert music[0] == alone
    assert music[1] != alone


def test_undo_and_snapshots_restore_the_passages() -> None:
    session = eager_session()
    for _ in range(120):
        session.next()
    snapshot = session.snapshot()
    wanted = [session.next().tolist() for _ in range(20)]
    session.restore(snapshot)
    assert [session.next().tolist() for _ in range(20)] == wanted
    session.undo(20)
    session.restore(snapshot)
    assert [session.next().tolist() for _ in range(20)] == wanted
    after_undo = eager_session()
    for _ in range(120):
        after_undo.next()
    for _ in range(5):
        after_undo.next(pitch=60)
    after_undo.undo(5)
    after_undo._noise.at = [120]
    assert [after_undo.next().tolist() for _ in range(20)] == wanted


# Encoders and instruments


def test_of_several_instruments_passages_return_at_the_same_pitches_with_their_drums() -> None:
    encoder = LogTimeEncoder(exact=True, parts=PartMap(by="track", parts=BAND))

    def band(*shifts: int) -> Tracker:
        line = THEME + [
            (pitch + shift, step) for shift, (pitch, step) in zip(shifts, THEME, strict=False)
        ]
        notes = notes_of(line)
        track = np.arange(len(line)) % 80 % 3
        music = Notes(
            start=notes.start,
            end=notes.end,
            pitch=notes.pitch,
            program=[BAND[k].program for k in track],
            drum=[BAND[k].drum for k in track],
            track=track,
        )
        tracker = tracker_of(encoder)
        tracker.extend(encoder.encode(music))
        return tracker

    instrument = encoder.fields[4]
    assert instrument.role == "instrument"
    tracker = band(0, 0, 0, 0)
    step = step_class(THEME[4][1])
    assert int(probabilities(EAGER, instrument, tracker, step=step).argmax()) == 1
    known = {"step": step, instrument.name: 1.0}
    assert int(probabilities(EAGER, PITCH, tracker, None, **known).argmax()) == THEME[4][0]
    assert is_unchanged(EAGER, PITCH, tracker, **{**known, instrument.name: 2.0})
    assert is_unchanged(EAGER, STEP, band(2, 2, 2, 2))


def in_beats(encoder: TrackingEncoder) -> Tracker:
    line = [(pitch, 30 * (1 + k % 4)) for k, (pitch, _) in enumerate(THEME)]
    start = np.cumsum([0, *(step for _, step in line)]) / 100
    pitch = [*(pitch for pitch, _ in line), THEME[0][0]]
    notes = Notes(
        start=[*start, start[-1] + 0.3, start[-1] + 0.9],
        end=[*(start + 0.1), start[-1] + 0.4, start[-1] + 1.0],
        pitch=[*pitch, THEME[1][0], THEME[2][0]],
        tempo_map=TempoMap(tempos=[100]),
    )
    tracker = encoder.tracker()
    tracker.extend(encoder.encode(notes))
    return tracker


def test_it_works_in_beats() -> None:
    encoder = BeatEncoder()
    tracker = in_beats(encoder)
    step = next(field for field in encoder.fields if field.role == "step")
    probable = probabilities(EAGER, step, tracker)
    assert step.values[int(probable.argmax())] == pytest.approx(1.5, abs=0.2)  # 0.9 s at 100


def test_given_notes_are_not_compared_whenever_it_is_asked() -> None:
    """Undo and prompts add many rows at a time, sampling one."""
    band = PartMap(parts=BAND[:2])
    inner = LogTimeEncoder(exact=True, linear=2.0, parts=band)
    encoder = AnticipatingEncoder(inner=inner, seconds=2.0)
    bass = notes_of([*THEME, *THEME[:10]])
    piano = replace(bass, pitch=127 - bass.pitch)
    song = Notes.merge(
        [
            replace(bass, program=np.full(90, 33)),
            replace(piano, program=np.zeros(90, dtype=np.int64)),
        ]
    )
    rows = encoder.encode_given(song, song.program == 0)
    one, several = encoder.tracker(), encoder.tracker()
    pitch = encoder.fields[0]
    for row in rows:
        one.push(row)
        probabilities(EAGER, pitch, one, instrument=1.0)
    several.extend(rows)
    assert int((rows[:, -2] == 1).sum()) == len(several.latest(1000)) - several.num_notes == 90
    found = [probabilities(EAGER, pitch, tracker, instrument=1.0) for tracker in (one, several)]
    assert torch.equal(*found)
    assert int(found[0].argmax()) == THEME[10][0]
    several.pop_finished()
    assert len(several.copy().latest_written(1000)) == 90


def test_encoders_of_events_are_left_alone() -> None:
    encoder = PerformanceEventEncoder()
    tracker = tracked([*THEME, *THEME[:3]], encoder)
    assert is_unchanged(EAGER, encoder.fields[0], tracker)


def test_it_keeps_the_contract_where_a_passage_returns() -> None:
    contexts = [
        SamplingContext({}, tracked([*THEME, *((p + k, s) for p, s in THEME[: 3 + k])]))
        for k in range(6)
    ]
    fields = ENCODER.fields
    assert all(not is_unchanged(EAGER, STEP, context.tracker) for context in contexts)
    check_processor(EAGER, roles={"step", "pitch"}, fields=fields, contexts=contexts)
    check_processor(Recall(), roles={"step", "pitch"}, fields=fields, contexts=contexts)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"notes": 0}, "from 1 to 64"),
        ({"probability": 0.0}, "above 0 and below 1"),
        ({"probability": 1.0}, "above 0 and below 1"),
        ({"probability": math.nan}, "above 0 and below 1"),
        ({"odds": 0.5, "first_odds": 1.0}, "from 1 to 1e"),
        ({"odds": 10.0, "first_odds": 11.0}, "from 1 to 10"),
        ({"apart": 1}, "from 2 to 1000"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Recall(**settings)  # type: ignore[arg-type]
