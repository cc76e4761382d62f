"""Given notes in the rows before they sound, rests, and their tracker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import notelstm
from notelstm.bundle import Bundle
from notelstm.encoders import (
    AnticipatingEncoder,
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.encoders.anticipating import AnticipatingTracker
from notelstm.encoders.rows import rows_after, tracker_of
from notelstm.errors import ConfigError, EncodingError
from notelstm.evaluation import nats_per_note, nats_per_row
from notelstm.fields import by_name
from notelstm.generation import Session
from notelstm.models import NoteLSTM
from notelstm.notes import Note, Notes
from notelstm.parts import Part, PartMap
from notelstm.protocols import AnticipatesNotes, SamplingContext
from notelstm.sampling import Ancestral, GridSnap, MaxPolyphony, TopP
from notelstm.testing import check_anticipating_encoder, check_encoder, long_piece, strategies

BAND = PartMap(by="track", parts=(Part(name="Melody"), Part(name="Bass", program=32)))
EXACT = AnticipatingEncoder(inner=LogTimeEncoder(exact=True, linear=2.0), seconds=2.0)
WIDE = AnticipatingEncoder(inner=LogTimeEncoder(exact=True), seconds=5.0)
PARTS = AnticipatingEncoder(inner=LogTimeEncoder(exact=True, linear=2.0, parts=BAND), seconds=2.0)
STEP, ORIGIN, OFFSET = 1, -2, -1


def half_the_whole_class(piece: Notes) -> NDArray[np.float64]:
    field = by_name(EXACT.fields)["duration"]
    k = np.searchsorted(field.edges[1:-1], piece.duration, side="right")
    cells = np.rint(np.diff(field.edges) / EXACT.cell)
    errors: NDArray[np.float64] = (cells[k] // 2) * EXACT.cell
    return errors


def with_tracks(piece: Notes) -> Notes:
    return replace(piece, track=np.arange(len(piece)) % 2)


def test_without_given_notes_it_keeps_the_contract_of_encoders() -> None:
    """Of pieces whose steps are shorter than a rest."""
    for encoder, pieces in (
        (EXACT, strategies.notes(longest_rest=2.0, durations=(0.005, 30.0))),
        (PARTS, strategies.notes(longest_rest=2.0, durations=(0.005, 30.0)).map(with_tracks)),
    ):
        check_encoder(
            encoder,
            onset_tolerance=1e-6,
            duration_tolerance=half_the_whole_class,
            velocity_tolerance=2,
            pieces=pieces,
            hour=with_tracks(long_piece(np.random.default_rng(0), count=2000, seconds=360)),
            # It is installed, but its entry point may not be yet.
            entry_point=False,
            examples=15,
        )


@pytest.mark.parametrize("name", ["exact", "parts"])
def test_it_keeps_the_contract_of_given_notes(name: str) -> None:
    pieces = strategies.notes(longest_rest=9.0, max_seconds=60.0)
    if name == "parts":
        pieces = pieces.map(with_tracks)
    check_anticipating_encoder(EXACT if name == "exact" else PARTS, pieces=pieces, examples=60)


def test_with_wide_classes_given_notes_are_exact_from_the_clock() -> None:
    """The error of an onset is that of the steps before, of up to 0.15 s each."""
    check_anticipating_encoder(
        WIDE,
        onset_tolerance=0.15 * 40,
        pieces=strategies.notes(longest_rest=9.0, max_seconds=60.0, max_notes=16),
        examples=40,
    )


PIECE = Notes(start=[1, 4, 7.5, 12.5], end=[2, 5, 8, 13], pitch=[60, 62, 64, 65])


def test_given_notes_are_due_two_seconds_before_their_onset() -> None:
    rows = EXACT.encode_given(PIECE, [False, True, False, True])
    rest = float(EXACT.fields[STEP].rest or 0)
    # Onsets are 0, 3, 6.5 and 11.5 s. After a rest, the clock is 2 s, and the first given note is
    # due. The last one is due at 9.5 s, after two rests that follow the last written note.
    assert rows[:, STEP].tolist() == [0, rest, 0, rest, rest, 50, rest, rest, 0]
    assert rows[:, ORIGIN].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert rows[:, OFFSET].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 1]
    assert not rows[1, [0, 2, 3]].any()  # a rest has class 0 of all fields
    back = EXACT.decode(rows)
    assert back.start.tolist() == pytest.approx([0, 3, 6.5, 11.5])
    assert back.pitch.tolist() == [60, 62, 64, 65]
    assert EXACT.given_notes(rows).tolist() == [False, True, False, True]


def test_notes_that_are_given_at_the_start_precede_all_rows() -> None:
    rows = EXACT.encode_given(PIECE, [True, False, True, True])
    assert rows[0, ORIGIN] == 1
    assert rows[0, OFFSET] == 0
    # A piece without notes to be written is rests, and given notes.
    rows = EXACT.encode_given(PIECE, [True] * 4)
    assert len(rows) == 4 + (rows[:, ORIGIN] == 0).sum()
    assert set(rows[rows[:, ORIGIN] == 0][:, STEP].tolist()) == {EXACT.fields[STEP].rest}


def test_plain_rows_are_those_of_the_inner_encoder() -> None:
    piece = long_piece(np.random.default_rng(1), count=500, seconds=60)
    for encoder in (EXACT, WIDE):
        rows = encoder.encode(piece)
        np.testing.assert_array_equal(rows[:, :4], encoder.inner.encode(piece))
        assert not rows[:, 4:].any()
        back, inner = encoder.decode(rows), encoder.inner.decode(rows[:, :4])
        assert np.array_equal(back.pitch, inner.pitch)
        np.testing.assert_allclose(back.start, inner.start, rtol=0, atol=1e-9)


def test_a_given_note_is_not_merged_with_one_to_be_written() -> None:
    piece = Notes(start=[0, 0.001, 1], end=[1, 3, 2], pitch=[60, 60, 60], velocity=[50, 100, 90])
    rows = EXACT.encode_given(piece, [True, False, False])
    back = EXACT.decode(rows)
    assert len(back) == 2
    assert back.duration[0] == pytest.approx(1.0)
    assert back.velocity[0] == 50
    assert EXACT.given_notes(rows).tolist() == [True, False]


def test_rests_and_given_notes_that_contradict_themselves_are_refused() -> None:
    rows = EXACT.encode_given(PIECE, [False, True, False, True])
    for row, column, entry, problem in (
        (1, 0, 60, "a rest has a note"),
        (2, STEP, 1, "a given note has a step"),
        (0, OFFSET, 1, "a written row has an offset"),
    ):
        wrong = rows.copy()
        wrong[row, column] = entry
        with pytest.raises(EncodingError, match=rf"{problem} \(row {row}\)"):
            EXACT.decode(wrong)
        tracker = EXACT.tracker()
        tracker.extend(wrong[:row])
        with pytest.raises(EncodingError, match=problem):
            tracker.push(wrong[row])
    with pytest.raises(EncodingError, match="given has the shape"):
        EXACT.encode_given(PIECE, [True])
    with pytest.raises(EncodingError, match="begins before the clock"):
        EXACT.given_row(Note(1.0, 2.0, 60), 1.5)


class InBeats:
    """The methods of an encoder of whole cells, with times in beats."""

    def __init__(self) -> None:
        self.inner = LogTimeEncoder(exact=True)
        self.fields = tuple(
            replace(f, unit="beat" if f.unit == "s" else f.unit) for f in self.inner.fields
        )
        self.limited_fields = self.inner.limited_fields
        for name in ("encode", "decode", "snapped", "allowed_classes"):
            setattr(self, name, getattr(self.inner, name))


@pytest.mark.parametrize(
    ("inner", "seconds", "problem"),
    [
        (LogTimeEncoder(), 5.0, "does not round notes to whole cells"),
        (StepDurationEncoder(), 5.0, "does not round notes to whole cells"),
        (BeatEncoder(parts=BAND), 5.0, "does not round notes to whole cells"),
        (InBeats(), 5.0, "not classes of pitch, step and duration"),
        (LogTimeEncoder(exact=True), 0.001, "seconds is 0.001"),
        (LogTimeEncoder(exact=True), 40.0, "seconds is 40"),
    ],
)
def test_other_encoders_are_refused(inner: Any, seconds: float, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        AnticipatingEncoder(inner=inner, seconds=seconds)


def test_a_rest_ends_a_class_of_steps() -> None:
    assert EXACT.rest == pytest.approx(2.0)
    assert 4.5 < WIDE.rest <= 5.0
    assert isinstance(EXACT, AnticipatesNotes)
    step = EXACT.fields[STEP]
    assert step.rest == (step.classes or 0) - 1
    assert step.value_of(float(step.rest)) == pytest.approx(2.0)


def test_after_a_rest_any_note_can_follow() -> None:
    tracker = EXACT.tracker()
    tracker.extend(EXACT.encode(Notes(start=[0], end=[1], pitch=[127])))
    pitch, step = EXACT.fields[0], EXACT.fields[STEP]
    steps = tracker.allowed(step, {})
    assert isinstance(steps, np.ndarray)
    # No second note can follow pitch 127 in its cell, and steps longer than 2 s are rests.
    assert np.flatnonzero(steps).tolist() == [*range(1, 201), step.rest]
    rest = np.zeros(len(EXACT.fields), np.float32)
    rest[STEP] = step.rest
    assert np.flatnonzero(np.asarray(tracker.allowed(pitch, {"step": rest[STEP]}))).tolist() == [0]
    tracker.push(rest)
    assert tracker.time == pytest.approx(2.0)
    assert tracker.allowed(pitch, {"step": 0.0, "origin": 0.0}) is None or np.all(
        np.asarray(tracker.allowed(pitch, {"step": 0.0, "origin": 0.0}))
    )
    assert tracker.num_notes == 1


def test_the_tone_of_a_given_note_is_not_written_in_its_cell() -> None:
    tracker = PARTS.tracker()
    assert isinstance(tracker, AnticipatingTracker)
    tracker.push(PARTS.given_row(Note(0.5, 2.0, 60, track=1), 0.0))
    pitch, instrument = PARTS.fields[0], PARTS.fields[4]
    known = {"origin": 0.0, "offset": 0.0, "step": 50.0}
    allowed = np.asarray(tracker.allowed(pitch, {**known, "instrument": 1.0}))
    assert np.flatnonzero(~allowed).tolist() == [60]
    assert tracker.allowed(pitch, {**known, "instrument": 0.0}) is None
    assert tracker.allowed(pitch, {**known, "instrument": 1.0, "step": 49.0}) is None
    allowed = np.asarray(tracker.allowed(instrument, {**known, "pitch": 60.0}))
    assert allowed.tolist() == [True, False]
    # It sounds from its onset on.
    assert not tracker.sounding(0.4)
    assert {tone.pitch for tone in tracker.sounding(0.5)} == {60}
    assert {tone.pitch for tone in tracker.overlapping({"step": 100.0}) or ()} == {60}
    assert not tracker.overlapping({"step": 20.0})
    assert tracker.latest(3) == []
    tracker.push(np.array([64, 60, 10, 10, 0, 0, 0], dtype=np.float32))
    assert [tone.pitch for _, tone in tracker.latest(3)] == [60, 64]
    assert [tone.pitch for _, tone in tracker.remaining()] == [64, 60]
    assert tracker.num_notes == 1


def untrained(encoder: AnticipatingEncoder, seed: int = 0) -> NoteLSTM:
    torch.manual_seed(seed)
    order = [f.name for f in encoder.fields if not f.given]
    order.insert(0, order.pop(order.index("step")))
    return NoteLSTM(
        fields=encoder.fields, field_order=order, hidden_size=16, embedding_dim=8
    ).eval()


SHORT = AnticipatingEncoder(
    inner=LogTimeEncoder(exact=True, cell=0.01, linear=0.5, longest=1.0, growth=1.5), seconds=0.5
)


def test_rests_are_scored_with_the_note_after_them() -> None:
    """With classes of single cells, nats per note are the exact likelihood of the rows."""
    rng = np.random.default_rng(0)
    start = np.round(np.cumsum(rng.choice([0.0, 0.1, 0.5, 0.51, 1.3], 80)), 2)
    pitch = rng.permutation(100)[:80]
    piece = Notes(start=start, end=start + 0.3, pitch=pitch).by_pitch()
    model = untrained(SHORT)
    rows = SHORT.encode(piece)
    assert len(rows) > len(piece)
    nats = nats_per_row(model, SHORT, [rows]).nats["0"].sum(axis=1)
    number = np.cumsum(rows[:, STEP] != SHORT.fields[STEP].rest)
    number -= rows[:, STEP] != SHORT.fields[STEP].rest
    found = nats_per_note(model, SHORT, [piece])
    assert found.notes == 80 - 25
    assert found.of("total") == pytest.approx(nats[number >= 25].sum() / 55, rel=1e-5)


def test_rests_count_for_the_part_of_the_note_after_them_and_for_no_pitch() -> None:
    """After 30 notes of the melody, the bass alone plays, with two rests before each note."""
    start = np.concatenate([np.arange(30) * 0.5, 14.5 + 5.0 * np.arange(1, 5)])
    track = (np.arange(34) >= 30).astype(int)
    piece = Notes(
        start=start, end=start + 0.4, pitch=60, program=32 * track, track=track,
        track_names=["Melody", "Bass"],
    )  # fmt: skip
    model = untrained(PARTS)
    (score,) = nats_per_note(model, PARTS, [piece]).pieces
    rows = PARTS.encode(piece)
    assert len(rows) == 34 + 4 * 2
    nats = nats_per_row(model, PARTS, [rows])
    assert nats.fields[0] == "step"
    step = nats.nats["0"][:, 0]
    assert score.parts["Melody"].nats["step"] == pytest.approx(step[25:30].sum(), rel=1e-4)
    assert score.parts["Bass"].nats["step"] == pytest.approx(step[30:].sum(), rel=1e-4)
    counts = {role: made.count for role, made in score.reliability.items()}
    assert counts == {"step": 9 + 8, **dict.fromkeys(("pitch", "duration", "velocity"), 9),
                      "instrument": 9}  # fmt: skip


def test_an_untrained_model_continues_music_and_rests() -> None:
    bundle = Bundle(model=untrained(SHORT), encoder=SHORT, sampler=Ancestral())
    prompt = Notes(start=[0, 3], end=[1, 4], pitch=[60, 64])
    music = notelstm.generate(bundle, num_notes=200, prompt=prompt, seed=1)
    assert len(music) == 200
    # A rest of half a second is as likely as other classes, and steps are longer with it.
    assert music.step.max() > SHORT.rest
    batch = notelstm.generate_batch(bundle, 20, batch_size=3, seed=1)
    assert batch[0] == notelstm.generate(bundle, num_notes=20, seed=1)


def test_processors_leave_rests() -> None:
    tracker = SHORT.tracker()
    tracker.extend(SHORT.encode(Notes(start=[0, 0], end=[30, 30], pitch=[60, 64])))
    context = SamplingContext({"origin": 0.0, "offset": 0.0}, tracker)
    model, step = untrained(SHORT).requires_grad_(requires_grad=False), SHORT.fields[STEP]
    assert step.rest is not None
    before, _ = model.initial_state(1)
    known = {name: torch.zeros(1, 1) for name in ("origin", "offset")}
    prediction = model.predict("step", before, known)
    prediction = type(prediction)(prediction.log_weights()[:, 0])  # type: ignore[call-arg,index]
    for processor in (GridSnap(grid=0.2), MaxPolyphony(notes=2)):
        changed = processor(step, prediction, [context])
        weights = changed.log_weights()
        assert weights is not None
        assert weights[0, step.rest] > -torch.inf
    assert weights is not None
    possible = np.flatnonzero(weights[0].numpy() > -np.inf).tolist()
    assert possible == [step.rest]  # two notes sound for longer than any step
    snapped = GridSnap(grid=0.2)(step, prediction, [context]).log_weights()
    assert snapped is not None
    assert np.flatnonzero(snapped[0].numpy() > -np.inf)[:3].tolist() == [0, 20, 40]
    sampler = Ancestral(processors=(TopP(p=0.9), GridSnap(grid=0.1), MaxPolyphony(notes=2)))
    bundle = Bundle(model=model, encoder=SHORT, sampler=sampler)
    assert len(notelstm.generate(bundle, num_notes=30)) == 30


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_rows_after_a_time_begin_with_its_rests(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = 4.0 + np.cumsum(rng.choice([0.0, 0.3, 2.5, 6.0], 6))
    piece = Notes(start=start, end=start + 1, pitch=rng.permutation(12)[:6] * 8).by_pitch()
    time = float(rng.choice([4.0 - 0.02, 2.5, 1.0, 4.0]))
    rows = rows_after(time, piece, EXACT)
    tracker = EXACT.tracker()
    tracker.extend(rows)
    back = tracker.notes()
    np.testing.assert_allclose(back.start + time, piece.start, atol=1e-6)
    assert np.array_equal(back.pitch, piece.pitch)


def test_a_tracker_of_events_makes_no_rows_of_notes() -> None:
    tracker = tracker_of(PerformanceEventEncoder())
    with pytest.raises(EncodingError, match="single notes cannot be fed to this encoder"):
        tracker.rows_of(PIECE, 0.0)


def test_a_tracker_adds_all_rows_or_none() -> None:
    rows = SHORT.encode(PIECE)
    tracker = SHORT.tracker()
    tracker.extend(rows)
    count, time = tracker.num_notes, tracker.time
    broken = np.concatenate([rows[:1], rows[:1]])
    broken[1, -1] = 0.5  # a written row with an offset
    with pytest.raises(EncodingError, match="row 1"):
        tracker.extend(broken)
    assert (tracker.num_notes, tracker.time) == (count, time)


def test_an_encoder_is_not_wrapped_twice() -> None:
    with pytest.raises(ConfigError, match="in its rows already"):
        AnticipatingEncoder(inner=SHORT)


def test_a_player_feeds_notes_one_by_one() -> None:
    """They sound in the session as they were played, over rests as well."""
    torch.manual_seed(0)
    model = NoteLSTM(fields=SHORT.fields, hidden_size=8, embedding_dim=4).eval()
    session = Session(model, SHORT, Ancestral())
    played = [Note(0.504, 0.9, 60), Note(0.504, 1.0, 64), Note(9.137, 9.2, 62), Note(9.3, 9.4, 60)]
    for note in played:
        session.feed(note)
    assert session.trackers[0].num_notes == len(played)
    assert session.trackers[0].time == pytest.approx(9.3, abs=2 * SHORT.cell)
    [heard] = session.pop_finished()
    for (_, note), known in zip(heard, played, strict=True):
        assert note.pitch == known.pitch
        assert note.start == pytest.approx(known.start, abs=2 * SHORT.cell)
    session.next()
    session.undo(2)
    assert session.trackers[0].num_notes == 3
    with pytest.raises(EncodingError, match="begins before"):
        session.feed(Note(1.0, 2.0, 60))


def test_given_notes_do_not_end_a_piece() -> None:
    encoder = AnticipatingEncoder(inner=LogTimeEncoder(exact=True, ends=True), seconds=2.0)
    column = next(k for k, field in enumerate(encoder.fields) if field.role == "end")
    assert encoder.encode(PIECE)[-1, column] == 1
    rows = encoder.encode_given(PIECE, [False, True, False, True])
    assert not rows[:, column].any()
    assert encoder.given_row(Note(1.0, 2.0, 60), 0.0)[column] == 0
    check_anticipating_encoder(
        encoder,
        onset_tolerance=2.0,
        pieces=strategies.notes(longest_rest=1.9, max_notes=8),
        examples=10,
    )


@given(strategies.notes(max_notes=12, longest_rest=4.0, pitches=(120, 127)), st.integers(0, 2**16))
@settings(deadline=None, max_examples=30)
def test_rows_with_given_notes_are_scored(piece: Notes, seed: int) -> None:
    """No class of a row that is scored is excluded, and given rows, of any order, are allowed."""
    encoder = PARTS
    mask = np.random.default_rng(seed).random(len(piece)) < 0.5
    rows = encoder.encode_given(with_tracks(piece), mask)
    scores = nats_per_row(untrained(encoder), encoder, [rows])
    assert len(scores.nats["0"]) == (rows[:, ORIGIN] == 0).sum()
    assert np.isfinite(scores.nats["0"]).all()
