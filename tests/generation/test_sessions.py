"""Streams, snapshots, notes undone and fed; fixed fields; one sequence in plain numbers."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from notelstm.bundle import Bundle
from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.errors import ConfigError, EncodingError
from notelstm.fields import Field
from notelstm.generation import NoiseStream, Session, generate, generate_batch, stream
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.models.inference import ModuleStep
from notelstm.notes import Note, Notes, TempoMap
from notelstm.protocols import NoteEncoder, Prediction, SamplingContext
from notelstm.sampling import Ancestral, Greedy, MinDuration, RawPitch, Weighted
from notelstm.testing.makers import long_piece
from notelstm.tracker import Tracker

PROMPT = long_piece(np.random.default_rng(0), count=40, seconds=10)
IN_BEATS = Notes(
    start=PROMPT.start, end=PROMPT.end, pitch=PROMPT.pitch, tempo_map=TempoMap(tempos=[100.0])
)


def chained(encoder: NoteEncoder | None = None, **options: Any) -> Bundle:
    encoder = LogTimeEncoder() if encoder is None else encoder
    torch.manual_seed(0)
    settings = {"hidden_size": 8, "embedding_dim": 4, "sounding_features": True, **options}
    model = NoteLSTM(fields=encoder.fields, **settings)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


def reference() -> Bundle:
    encoder = StepDurationEncoder()
    torch.manual_seed(0)
    model = ThreeHeadLSTM(fields=encoder.fields, hidden_size=8)
    with torch.no_grad():
        for name in ("step", "duration"):
            cast(nn.Linear, model.get_submodule(f"{name}_linear")).bias.fill_(0.1)
    return Bundle(
        model=model,
        encoder=encoder,
        sampler=Weighted(),
        context_length=25,
        input_transform=RawPitch(),
    )


def events() -> Bundle:
    return chained(PerformanceEventEncoder())


def beats() -> Bundle:
    return chained(BeatEncoder())


def mixtures() -> Bundle:
    bundle = chained(StepDurationEncoder(), time_distribution="mixture")
    return replace(bundle, sampler=Ancestral(processors=(MinDuration(),)))


def normals() -> Bundle:
    return chained(StepDurationEncoder())


def remembering() -> Bundle:
    return chained(memory_window=16)


Make = Callable[[], Bundle]
BUNDLES = pytest.mark.parametrize(
    "make", [reference, chained, events, beats, mixtures, normals, remembering]
)


def prompt_of(bundle: Bundle) -> Notes:
    return IN_BEATS if isinstance(bundle.encoder, BeatEncoder) else PROMPT


def session_of(bundle: Bundle, **options: Any) -> Session:
    return Session(
        bundle.generation_model,
        bundle.encoder,
        bundle.sampler,
        input_transform=bundle.input_transform,
        **options,
    )


def as_notes(notes: list[Note]) -> Notes:
    if not notes:
        return Notes.empty()
    start, end, pitch, velocity, *_ = zip(*notes, strict=True)
    return Notes(start=start, end=end, pitch=pitch, velocity=velocity).by_pitch()


def columns(notes: Notes) -> list[list[Any]]:
    return [c.tolist() for c in (notes.start, notes.end, notes.pitch, notes.velocity)]


def same(streamed: list[Note], whole: Notes) -> None:
    got, want = as_notes(streamed), whole.by_pitch()
    np.testing.assert_array_equal(got.pitch, want.pitch)
    np.testing.assert_array_equal(got.velocity, want.velocity)
    np.testing.assert_allclose(got.start, want.start, rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.end, want.end, rtol=0, atol=1e-9)


@BUNDLES
@pytest.mark.parametrize("prompted", [False, True])
def test_streams_equal_generate(make: Make, prompted: bool) -> None:
    bundle = make()
    prompt = prompt_of(bundle) if prompted else None
    for limits in (
        {"num_notes": 50},
        {"seconds": 3.0},
        {"num_notes": 0},
        {"num_notes": 9, "seconds": 0.5},
    ):
        options: dict[str, Any] = {**limits, "prompt": prompt, "seed": 5}
        same(list(stream(bundle, **options)), generate(bundle, **options))


@BUNDLES
def test_streams_have_no_end(make: Make) -> None:
    bundle = make()
    endless = list(itertools.islice(stream(bundle, seed=2), 300))
    assert len(endless) == 300
    # In the order of ends; a note that is long on its way may be missing.
    whole = {note[:3] for note in stream(bundle, seed=2, num_notes=900)}
    assert {note[:3] for note in endless} <= whole


def test_streams_yield_notes_at_once_and_in_order() -> None:
    starts = [note.start for note in itertools.islice(stream(chained()), 50)]
    assert starts == sorted(starts)


@BUNDLES
def test_stopping_criteria_are_functions_of_the_tracker(make: Make) -> None:
    bundle = make()
    first = prompt_of(bundle)
    seen: list[tuple[int, float]] = []

    def until(tracker: Tracker) -> bool:
        seen.append((tracker.num_notes, tracker.time))
        return tracker.num_notes >= len(first) + 7

    notes = generate(bundle, stopping_criterion=until, prompt=first)
    before = bundle.encoder.encode(first)
    assert len(notes) == 7
    assert seen[0][0] == len(bundle.encoder.decode(before))
    played = [Note(*note) for note in zip(*columns(notes), strict=True)]
    same(played, generate(bundle, 7, prompt=first))
    same(list(stream(bundle, stopping_criterion=until, prompt=first)), notes)
    batch_size = generate_batch(bundle, batch_size=2, stopping_criterion=until, prompt=first)
    assert [len(sequence) for sequence in batch_size] == [7, 7]
    # Whichever comes first.
    assert len(generate(bundle, 3, stopping_criterion=until, prompt=first)) == 3
    assert len(generate(bundle, 3, stopping_criterion=lambda tracker: True)) == 0


@BUNDLES
def test_restored_snapshots_give_the_same_music(make: Make) -> None:
    bundle = make()
    for batch_size in (1, 2):
        session = session_of(bundle, batch_size=batch_size, seed=3)
        for _ in range(70):
            session.next()
        snapshot = session.snapshot()
        (before, *_) = [tracker.notes() for tracker in session.trackers]
        first = [session.next() for _ in range(70)]
        for _ in range(2):
            session.restore(snapshot)
            assert session.trackers[0].notes() == before
            np.testing.assert_array_equal([session.next() for _ in range(70)], first)
    with pytest.raises(ConfigError, match="has 2 sequences, the session 1"):
        session_of(bundle).restore(snapshot)


@BUNDLES
def test_snapshots_can_be_pickled_and_restored_in_another_session(make: Make) -> None:
    bundle = make()
    session, other = session_of(bundle, seed=3), session_of(bundle, seed=3)
    for _ in range(20):
        session.next()
    saved = pickle.dumps(session.snapshot())
    want = [session.next() for _ in range(70)]
    other.restore(pickle.loads(saved))
    np.testing.assert_array_equal([other.next() for _ in range(70)], want)
    assert other.trackers[0].notes() == session.trackers[0].notes()


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (16, 1), (17, 2)])
def test_few_sequences_run_on_one_thread(batch_size: int, threads: int) -> None:
    bundle = chained()
    seen = []

    def sampler(field: Field, prediction: Prediction, noise: Any, contexts: Any) -> Any:
        seen.append(torch.get_num_threads())
        if len(seen) > 7:
            raise InterruptedError
        return prediction.sample(noise)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        session = Session(bundle.generation_model, bundle.encoder, sampler, batch_size=batch_size)
        session.next()
        assert torch.get_num_threads() == 2
        with pytest.raises(InterruptedError):
            session.run(num_notes=5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [threads] * 8


@BUNDLES
@pytest.mark.parametrize("count", [1, 3, 20])
def test_undo_removes_notes(make: Make, count: int) -> None:
    bundle = make()
    rows = bundle.encoder.encode(prompt_of(bundle))
    session, plain = session_of(bundle, max_undo=20), session_of(bundle, max_undo=20)
    session.feed(rows)
    plain.feed(rows)
    sampled: list[Any] = []
    while session.trackers[0].num_notes < 120:
        sampled.append(session.next())
    # Another session plays on up to the first of the notes that are taken back.
    n = session.trackers[0].num_notes
    for row in sampled:
        after = plain.trackers[0].copy()
        after.push(row[0])
        if after.num_notes > n - count:
            break
        plain.next()
    session.undo(count)
    assert session.trackers[0].num_notes == n - count
    assert session.trackers[0].notes() == plain.trackers[0].notes()
    # Noise goes on; with the same noise both play the same.
    apart = session.snapshot()
    session.restore(plain.snapshot())
    want = [session.next() for _ in range(30)]
    session.restore(apart)
    session._noise.at = plain._noise.at
    np.testing.assert_array_equal([session.next() for _ in range(30)], want)


def test_undo_removes_fed_notes_also_in_the_middle_of_a_feed() -> None:
    bundle = chained()
    rows = bundle.encoder.encode(PROMPT)
    session, plain = session_of(bundle), session_of(bundle)
    session.feed(rows)
    session.undo(15)
    plain.feed(rows[:-15])
    assert session.trackers[0].notes() == plain.trackers[0].notes()
    np.testing.assert_array_equal(
        [session.next() for _ in range(9)], [plain.next() for _ in range(9)]
    )
    session.undo(34)
    assert session.trackers[0].num_notes == 0
    with pytest.raises(ConfigError, match="1 notes cannot be undone, only the last 0"):
        session.undo()
    with pytest.raises(ConfigError, match="num_notes 0 is not a whole number"):
        session.undo(0)


def test_max_undo_limits_the_history() -> None:
    session = session_of(chained(), max_undo=5)
    for _ in range(50):
        session.next()
    with pytest.raises(ConfigError, match="12 notes cannot be undone"):
        session.undo(12)
    session.undo(5)
    assert session.trackers[0].num_notes == 45
    batch = session_of(chained(), batch_size=2)
    batch.next()
    with pytest.raises(ConfigError, match="only the last 0"):
        batch.undo()


@BUNDLES
def test_finished_notes_are_returned_once_despite_undo(make: Make) -> None:
    session = session_of(make(), max_undo=10)
    given: list[tuple[int, Note]] = []
    for i in range(400):
        session.next()
        if i % 3 == 0:
            given += session.pop_finished()[0]
        if i % 20 == 19 and session.trackers[0].num_notes > 5:
            left = session.trackers[0].num_notes - 3
            session.undo(3)
            given = [(number, note) for number, note in given if number < left]
    numbers = [number for number, _ in given]
    assert len(set(numbers)) == len(numbers)
    given += session.pop_finished()[0]
    kept = len(session.trackers[0].notes())
    # A note that was given out may sound again when its end was taken back.
    assert session.trackers[0].num_notes <= len(given) + kept
    if make not in (events, beats):
        assert (session.trackers[0].num_notes, kept) == (len(given), 0)


def test_fed_notes_have_times_of_the_session() -> None:
    for bundle in (chained(), normals()):
        session = session_of(bundle)
        session.feed(Note(0.5, 1.5, 60))
        session.next()
        clock = session.trackers[0].time
        session.feed(Note(clock + 0.25, clock + 0.5, 67, 90))
        session.feed(Notes(start=[clock + 0.25], end=[clock + 1], pitch=[70]))
        played = session.trackers[0].notes()
        np.testing.assert_array_equal(played.pitch[[0, 2, 3]], [60, 67, 70])
        want = [0.5, clock + 0.25, clock + 0.25]
        np.testing.assert_allclose(played.start[[0, 2, 3]], want, atol=0.02)
        with pytest.raises(EncodingError, match="begins before the session's time"):
            session.feed(Note(0.0, 1.0, 60))
    two = session_of(chained(), batch_size=2)
    two.feed(Note(0.0, 1.0, 60))
    two.next()
    for session in (two, session_of(events())):
        with pytest.raises(EncodingError, match="Feed rows"):
            session.feed(Note(100.0, 101.0, 60))


def test_the_numpy_step_is_used_and_one_sequence_is_sampled_as_floats() -> None:
    for make in (reference, chained, events, beats, mixtures, normals):
        sessions = [session_of(make(), batch_size=size) for size in (1, 2)]
        in_tensors = [session._row_samplers[0]._floats is None for session in sessions]
        assert in_tensors == [False, True]
        assert not any(isinstance(session._runner.step, ModuleStep) for session in sessions)
    double = chained()
    cast(nn.Module, double.model).double()
    assert isinstance(session_of(double)._runner.step, ModuleStep)


@BUNDLES
def test_floats_and_tensors_give_the_same_samples(make: Make) -> None:
    bundle = make()
    for own in (Ancestral(), Greedy(), Weighted()):

        def sampler(
            field: Field, prediction: Prediction, noise: Any, contexts: Any, own: Any = own
        ) -> Any:
            assert isinstance(contexts[0], SamplingContext)
            return own(field, prediction, noise, contexts)

        same(
            list(stream(bundle, sampler=sampler, seed=4, num_notes=60)),
            generate(bundle, 60, sampler=own, seed=4),
        )


def test_noise_is_seekable() -> None:
    stream = NoiseStream(7, 3, 4)
    blocks = [stream.block(i) for i in range(4)]
    for i in (2, 0, 3, 1):
        np.testing.assert_array_equal(NoiseStream(7, 3, 4).block(i), blocks[i])
        np.testing.assert_array_equal(stream.block(i), blocks[i])


def chi_square(counts: Any, shares: Any) -> float:
    expected = shares * counts.sum()
    some = expected > 0
    return float((((counts - expected) ** 2)[some] / expected[some]).sum())


@pytest.mark.parametrize("batch_size", [1, 400])
def test_the_field_before_a_fixed_one_is_sampled_given_it(batch_size: int) -> None:
    """The share of each class is p(free) p(fixed | free), summed by brute force."""
    fields = (
        Field.categorical("pitch", "pitch", values=range(3)),
        Field.categorical("step", "step", values=range(4), unit="s"),
        Field.categorical("duration", "duration", values=range(5), unit="s"),
    )
    torch.manual_seed(3)
    model = NoteLSTM(fields=fields, hidden_size=6, embedding_dim=3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.8)

    class Small:
        def __init__(self) -> None:
            self.fields = fields

    model.eval()
    context, _ = model.initial_state(1)
    joint = np.zeros((3, 4, 5))
    with torch.no_grad():
        first = torch.softmax(cast(Any, model.predict("pitch", context, {})).logits.flatten(), 0)
        for a, b in itertools.product(range(3), range(4)):
            known = {"pitch": torch.tensor([[a]]), "step": torch.tensor([[b]])}
            second = torch.softmax(cast(Any, model.predict("step", context, known)).logits, -1)
            third = torch.softmax(cast(Any, model.predict("duration", context, known)).logits, -1)
            joint[a, b] = float(first[a]) * float(second.flatten()[b]) * third.flatten().numpy()
    cases: list[tuple[dict[str, float], int, Any]] = [
        ({"step": 1.0}, 0, joint[:, 1].sum(-1)),
        ({"step": 2.0, "duration": 3.0}, 0, joint[:, 2, 3]),
        ({"pitch": 1.0, "duration": 0.0}, 1, joint[1, :, 0]),
        # Only the field right before knows.
        ({"duration": 4.0}, 0, joint.sum((1, 2))),
    ]
    for fixed, column, shares in cases:
        session = Session(
            model, cast(NoteEncoder, Small()), Ancestral(), batch_size=batch_size, max_undo=0
        )
        start = session.snapshot()
        sampled = []
        for i in range(2000 // batch_size):
            session.restore(start)
            session._noise.at = [i] * batch_size
            sampled.append(session.next(**fixed)[:, column])
        counts = np.bincount(np.concatenate(sampled).astype(int), minlength=len(shares))
        # 99.9 % of chi-square with 3 degrees of freedom lie below 16.3.
        assert chi_square(counts, shares / shares.sum()) < 16.3, fixed
