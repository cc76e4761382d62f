"""``generate`` and ``generate_batch``."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, DataError, FieldError
from notelstm.fields import Field
from notelstm.generation import NoiseStream, Session, generate, generate_batch, stream
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.notes import Notes
from notelstm.predictions import Categorical, PointEstimate
from notelstm.protocols import NoteEncoder, NoteModel, Prediction, SamplingContext
from notelstm.sampling import Ancestral, Greedy, MinDuration, RawPitch, Temperature, Weighted
from notelstm.testing.makers import long_piece
from notelstm.tracker import Tone
from notelstm.tree import index

PROMPT = long_piece(np.random.default_rng(0), count=40, seconds=10)


def reference(**options: Any) -> Bundle:
    encoder = StepDurationEncoder()
    torch.manual_seed(0)
    model = ThreeHeadLSTM(fields=encoder.fields, hidden_size=8)
    with torch.no_grad():
        for name in ("step", "duration"):
            cast(nn.Linear, model.get_submodule(f"{name}_linear")).bias.fill_(0.1)
    settings = {"sampler": Weighted(processors=(MinDuration(),)), "context_length": 25, **options}
    return Bundle(model=model, encoder=encoder, **settings)


def chained(encoder: NoteEncoder | None = None, **options: Any) -> Bundle:
    encoder = LogTimeEncoder() if encoder is None else encoder
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, dropout=0.2)
    return Bundle(model=model, encoder=encoder, **{"sampler": Ancestral(), **options})


def events() -> Bundle:
    return chained(PerformanceEventEncoder())


def with_sounding() -> Bundle:
    encoder = StepDurationEncoder()
    torch.manual_seed(0)
    model = NoteLSTM(
        fields=encoder.fields,
        field_order=("step", "pitch", "duration"),
        hidden_size=8,
        embedding_dim=4,
        sounding_features=True,
        time_distribution="mixture",
    )
    return Bundle(model=model, encoder=encoder, sampler=Ancestral(processors=(MinDuration(),)))


def ahead_of(make: Make, prompt: Notes | None) -> float:
    """The seconds from the last onset to the end of the rows of a prompt.

    Rows of events end with the last note, rows of notes with its onset.
    """
    if prompt is None or make is not events:
        return 0.0
    return float(round(prompt.end_time, 2) - round(prompt.start[-1], 2))


BUNDLES = pytest.mark.parametrize("make", [reference, chained, events, with_sounding])
Make = Callable[[], Bundle]


@BUNDLES
@pytest.mark.parametrize("prompt", [None, PROMPT], ids=["unconditional", "prompt"])
def test_sequences_are_the_same_alone_and_in_a_batch(make: Make, prompt: Notes | None) -> None:
    bundle = make()
    alone = generate(bundle, 80, prompt=prompt, seed=7)
    for size in (1, 3):
        batch_size = generate_batch(bundle, 80, batch_size=size, prompt=prompt, seed=7)
        assert len(batch_size) == size
        np.testing.assert_array_equal(batch_size[0].pitch, alone.pitch)
        np.testing.assert_allclose(batch_size[0].start, alone.start, atol=1e-4)
        np.testing.assert_allclose(batch_size[0].end, alone.end, atol=1e-4)
    assert batch_size[1] != batch_size[0]
    # Sequence 1 of a batch of 3 is sequence 1 of a batch of 2.
    two = generate_batch(bundle, 80, batch_size=2, prompt=prompt, seed=7)
    np.testing.assert_array_equal(two[1].pitch, batch_size[1].pitch)


@BUNDLES
def test_equal_seeds_give_equal_pieces(make: Make) -> None:
    bundle = make()
    state = torch.get_rng_state()
    assert generate(bundle, 20, seed=1) == generate(bundle, 20, seed=1)
    torch.rand(3)
    np.random.default_rng().random()
    assert generate(bundle, 20, seed=1) == generate(bundle, 20, seed=1)
    assert generate(bundle, 20, seed=1) != generate(bundle, 20, seed=2)
    torch.set_rng_state(state)
    generate(bundle, 3)
    assert torch.equal(torch.get_rng_state(), state)


def uniforms(count: int, fields: int, seed: int) -> np.ndarray[Any, Any]:
    """The noise of a sequence alone, (count, F, 2)."""
    stream = NoiseStream(seed, 0, fields)
    blocks = [stream.block(i) for i in range(count // 64 + 1)]
    return np.concatenate(blocks)[:count]


@pytest.mark.parametrize("raw", [False, True], ids=["scaled", "raw input_transform"])
@torch.no_grad()
def test_the_windowed_loop_of_the_original_is_reproduced(raw: bool) -> None:
    """A window of 25 re-run for each note; the new note appended, the oldest dropped."""
    bundle = reference(input_transform=RawPitch() if raw else None)
    played = generate(bundle, 50, prompt=PROMPT, seed=11)
    model = cast(ThreeHeadLSTM, bundle.model)
    heads = {
        name: cast(nn.Linear, model.get_submodule(f"{name}_linear"))
        for name in ("pitch", "step", "duration")
    }
    noise = uniforms(50, 3, seed=11)
    window = [
        [pitch / 128, step, duration]
        for pitch, step, duration in zip(PROMPT.pitch, PROMPT.step, PROMPT.duration, strict=True)
    ][-25:]
    pitches, starts, ends, clock = [], [], [], 0.0
    for i in range(50):
        last = model.lstm(torch.tensor([window], dtype=torch.float32))[0][0, -1]
        weights = torch.sigmoid(heads["pitch"](last)).double().numpy()
        border = np.cumsum(weights / weights.sum())
        pitch = int(np.searchsorted(border, noise[i, 0, 0], side="right"))
        step = max(float(heads["step"](last)), 0.0)
        duration = max(float(heads["duration"](last)), 0.01)
        clock += step
        pitches.append(pitch)
        starts.append(clock)
        ends.append(clock + duration)
        window = [*window[1:], [pitch if raw else pitch / 128, step, duration]]
    np.testing.assert_array_equal(played.pitch, pitches)
    np.testing.assert_allclose(played.start, starts, atol=1e-4)
    np.testing.assert_allclose(played.end, ends, atol=1e-4)


def test_the_input_transform_changes_the_music() -> None:
    plain = generate(reference(), 50, prompt=PROMPT, seed=11)
    raw = generate(reference(input_transform=RawPitch()), 50, prompt=PROMPT, seed=11)
    assert plain.pitch[0] == raw.pitch[0]
    assert np.any(plain.pitch != raw.pitch)


@BUNDLES
@pytest.mark.parametrize("context_length", [None, 4])
@torch.no_grad()
def test_carried_state_equals_reading_all_rows_again(
    make: Make, context_length: int | None
) -> None:
    bundle = make()
    model = bundle.model
    if context_length is not None:
        model = Windowed(bundle.model, context_length)
    cast(nn.Module, model).eval()
    session = Session(model, bundle.encoder, Greedy(), seed=3)
    rows = bundle.encoder.encode(PROMPT)[:30]
    session.feed(rows)
    sampled = np.concatenate([session.next() for _ in range(30)])
    everything = np.concatenate([rows, sampled])
    # Each row again from all rows before it, or the last few of them, in one go.
    for at in range(len(rows), len(everything)):
        past = everything[at - (context_length or at) : at]
        state = bundle.model.initial_state(1)[1]
        after, _ = bundle.model.forward(torch.from_numpy(past)[None], state)
        last = index(after, (slice(None), -1))
        known: dict[str, Tensor] = {}
        columns = [field.name for field in bundle.encoder.fields]
        for name in bundle.model.field_order:
            prediction = bundle.model.predict(name, last, known)
            got = everything[at, columns.index(name)]
            known[name] = torch.tensor([got])
            if make is events:
                continue
            low = bundle.encoder.fields[columns.index(name)].interval.low
            assert got == pytest.approx(max(float(prediction.mode()), low), abs=1e-4)


@BUNDLES
def test_num_notes_is_exact(make: Make) -> None:
    bundle = make()
    for prompt in (None, PROMPT):
        for count in (0, 1, 33):
            notes = generate(bundle, count, prompt=prompt, seed=2)
            assert len(notes) == count
            assert np.all(notes.start >= 0)
            assert np.all(notes.duration > 0)
    assert len(generate(bundle)) == 128


@BUNDLES
def test_longer_pieces_begin_with_shorter_ones(make: Make) -> None:
    bundle = make()
    short, long = (generate(bundle, n, prompt=PROMPT, seed=4) for n in (5, 30))
    np.testing.assert_array_equal(long.start[:5], short.start)
    np.testing.assert_array_equal(long.pitch[:5], short.pitch)


@BUNDLES
def test_seconds_limit_the_onsets(make: Make) -> None:
    bundle = make()
    for prompt in (None, PROMPT):
        notes = generate(bundle, seconds=4.0, prompt=prompt, seed=2)
        more = generate(bundle, len(notes) + 5, prompt=prompt, seed=2)
        last = 4 + ahead_of(make, prompt)
        assert np.all(notes.start < last)
        assert np.all(more.start[len(notes) :] >= last)
        np.testing.assert_array_equal(more.pitch[: len(notes)], notes.pitch)
    assert len(generate(bundle, seconds=0.0)) == 0
    # Whichever comes first.
    assert len(generate(bundle, 3, seconds=1e6, seed=2)) == 3
    assert generate(bundle, 10**6, seconds=4.0, seed=2) == generate(bundle, seconds=4.0, seed=2)


@BUNDLES
def test_seconds_count_from_the_end_of_the_prompt(make: Make) -> None:
    """Also where its last note is held for long."""
    bundle = make()
    end = PROMPT.end.copy()
    end[-1] = PROMPT.start[-1] + 8
    held = Notes(start=PROMPT.start, end=end, pitch=PROMPT.pitch, velocity=PROMPT.velocity)
    last = 4 + ahead_of(make, held)
    notes = generate(bundle, seconds=4.0, prompt=held, seed=2)
    more = generate(bundle, len(notes) + 5, prompt=held, seed=2)
    assert len(notes) > 0
    assert np.all(notes.start < last)
    assert np.all(more.start[len(notes) :] >= last)
    streamed = list(stream(bundle, seconds=4.0, prompt=held, seed=2))
    # A stream has the notes in the order of their ends.
    assert sorted(note.start for note in streamed) == pytest.approx(notes.start)


@BUNDLES
def test_a_prompt_is_continued(make: Make) -> None:
    bundle = make()
    first = generate(bundle, 20, prompt=PROMPT, seed=1)
    other = generate(bundle, 20, prompt=PROMPT[:-1], seed=1)
    assert first != other
    # The prompt may start at any time.
    later = generate(bundle, 20, prompt=PROMPT.shifted(5.0), seed=1)
    np.testing.assert_array_equal(later.pitch, first.pitch)
    np.testing.assert_allclose(later.start, first.start, atol=1e-3)


def test_a_windowed_model_ignores_rows_before_its_context() -> None:
    bundle = reference()
    assert generate(bundle, 10, prompt=PROMPT) == generate(bundle, 10, prompt=PROMPT[-26:])
    carried = reference(context_length=None)
    assert generate(carried, 10, prompt=PROMPT) != generate(carried, 10, prompt=PROMPT[-26:])
    with pytest.raises(DataError, match="24 rows, fewer than the model's context of 25"):
        generate(bundle, 10, prompt=PROMPT[:24])
    assert len(generate(carried, 10, prompt=PROMPT[:1])) == 10
    assert len(generate(carried, 10, prompt=Notes.empty())) == 10


def test_notes_of_events_end_and_do_not_overlap() -> None:
    for seed in range(3):
        for notes in generate_batch(events(), 60, batch_size=2, seed=seed):
            assert len(notes) == 60
            for pitch in set(notes.pitch.tolist()):
                mine = notes[notes.pitch == pitch]
                assert np.all(mine.start[1:] >= mine.end[:-1])
            assert np.all(notes.duration >= 0.009)


def test_events_end_the_notes_that_the_prompt_holds() -> None:
    bundle = events()
    session = Session(bundle.model, bundle.encoder, bundle.sampler, seed=0)
    on = bundle.encoder.encode(Notes(start=[0.0], end=[9.0], pitch=[60]))
    session.feed(on[:2])
    assert session.trackers[0].sounding(0.0) == {Tone(60)}
    (notes,) = session.run(num_notes=10, seconds=None)
    assert len(notes) == 10
    assert session.trackers[0].num_notes >= 11


class EndedOnly:
    """A tracker whose notes do not include those that have not ended."""

    def __init__(self) -> None:
        self.inner = PerformanceEventEncoder().tracker()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def notes(self) -> Notes:
        notes = self.inner.notes()
        sounding = self.inner.sounding(self.inner.time)
        last = {pitch: i for i, pitch in enumerate(notes.pitch.tolist())}
        open_notes = [last[tone.pitch] for tone in sounding]
        return notes[np.delete(np.arange(len(notes)), open_notes)]


class EndedOnlyEncoder:
    """Events whose tracker needs every note-off."""

    fields = PerformanceEventEncoder().fields
    encode = PerformanceEventEncoder().encode
    decode = PerformanceEventEncoder().decode

    def tracker(self) -> EndedOnly:
        return EndedOnly()


def test_closing_rows_end_all_notes() -> None:
    bundle = replace(events(), encoder=cast(NoteEncoder, EndedOnlyEncoder()))
    for seed in range(3):
        assert generate(bundle, 20, seed=seed) == generate(events(), 20, seed=seed)


def test_fixed_fields_keep_the_noise_of_the_others() -> None:
    bundle = chained()
    free, fixed = (
        Session(bundle.model, bundle.encoder, Ancestral(), batch_size=2) for _ in range(2)
    )
    a = free.next()
    b = fixed.next(velocity=float(a[0, 3]), pitch=float(a[0, 0]))
    assert np.all(b[:, 3] == a[0, 3])
    assert np.all(b[:, 0] == a[0, 0])
    # Sequence 0 has the entries that it would have sampled: nothing else changes, then or later.
    np.testing.assert_array_equal(a[0], b[0])
    for _ in range(70):
        np.testing.assert_array_equal(free.next()[0], fixed.next()[0])


def test_later_fields_depend_on_fixed_ones() -> None:
    bundle = chained()
    sessions = [Session(bundle.model, bundle.encoder, Ancestral()) for _ in range(2)]
    low, high = (
        session.next(pitch=pitch) for session, pitch in zip(sessions, (0, 127), strict=True)
    )
    assert (low[0, 0], high[0, 0]) == (0, 127)
    assert not np.array_equal(low[0, 1:], high[0, 1:])


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"pitch": 128}, "pitch 128 is not a class id from 0 to 127"),
        ({"pitch": -1}, "is not a class id"),
        ({"pitch": 60.5}, "is not a class id"),
        ({"pitch": math.nan}, "is not a class id"),
        ({"step": -0.1}, "step -0.1 is not a finite number from 0 to inf"),
        ({"loudness": 1}, "no field 'loudness'.*pitch, step, duration"),
    ],
)
def test_fixed_entries_are_checked(fixed: dict[str, float], message: str) -> None:
    bundle = reference()
    session = Session(bundle.model, bundle.encoder, bundle.sampler)
    with pytest.raises(FieldError, match=message):
        session.next(**fixed)


def test_min_duration_keeps_notes_in_the_midi_file() -> None:
    bundle = reference()
    with torch.no_grad():
        linear = cast(nn.Linear, cast(nn.Module, bundle.model).get_submodule("duration_linear"))
        linear.bias.fill_(-5.0)
    assert np.all(generate(bundle, 30).duration >= 0.0099)
    printed = generate(bundle, 30, sampler=Weighted())
    assert np.all(printed.duration == 0)
    coarse = chained(sampler=Ancestral(processors=(MinDuration(seconds=1.0),)))
    assert np.all(generate(coarse, 50).duration >= 1.0)


def test_the_sampler_of_a_call_replaces_that_of_the_bundle() -> None:
    bundle = chained()
    greedy = generate(bundle, 20, sampler=Greedy(), seed=1)
    assert greedy == generate(bundle, 20, sampler=Greedy(), seed=2)
    assert greedy != generate(bundle, 20, seed=1)
    cold = Ancestral(processors=(Temperature(temperature=1e-6),))
    assert generate(bundle, 20, sampler=cold, seed=3) == greedy


@BUNDLES
@pytest.mark.parametrize("training", [True, False])
def test_generation_does_not_change_the_model(make: Make, training: bool) -> None:
    bundle = make()
    module = cast(nn.Module, bundle.model)
    module.train(training)
    modes = [part.training for part in module.modules()]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first = generate(bundle, 20, prompt=PROMPT)
    assert first == generate(bundle, 20, prompt=PROMPT)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert torch.is_grad_enabled()


def test_a_function_can_be_a_sampler() -> None:
    looked: list[tuple[str, int, tuple[str, ...]]] = []

    def sampler(
        field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
    ) -> Tensor:
        assert noise.shape == (2, 2)
        assert [len(contexts), len(contexts[0:2])] == [2, 2]
        looked.append((field.name, contexts[1].tracker.num_notes, tuple(contexts[1].known)))
        return prediction.sample(noise)

    bundle = chained()
    (first, second) = generate_batch(bundle, 2, batch_size=2, sampler=sampler)
    names = [field.name for field in bundle.encoder.fields]
    assert looked == [(name, n, tuple(names[:i])) for n in (0, 1) for i, name in enumerate(names)]
    assert generate(bundle, 2) == first != second


class Stubborn(nn.Module):
    """Predicts the same distribution for each row, and has no parameters."""

    def __init__(self, encoder: NoteEncoder, entry: int) -> None:
        super().__init__()
        self.fields = encoder.fields
        self.field_order = tuple(field.name for field in encoder.fields)
        self.entry = entry

    def initial_state(self, batch_size: int) -> Any:
        from notelstm.models.lstm import Hidden, LSTMState

        return Hidden(torch.zeros(batch_size, 1, 1)), LSTMState(
            torch.zeros(batch_size), torch.zeros(batch_size)
        )

    def forward(self, rows: Tensor, state: Any) -> Any:
        context, _ = self.initial_state(rows.shape[0])
        return type(context)(torch.zeros(*rows.shape[:2], 1)), state

    def predict(self, field: str, context: Any, known: Any) -> Prediction:
        classes = dict(zip(self.field_order, self.fields, strict=True))[field].classes
        shape = context[0].shape[:-1]
        if classes is None:
            return PointEstimate(torch.zeros(shape))
        logits = torch.zeros(*shape, classes)
        logits[..., self.entry] = 50.0
        return Categorical(logits)


@pytest.mark.parametrize("encoder", [StepDurationEncoder(), PerformanceEventEncoder()], ids=str)
def test_a_stalled_model_is_stopped(encoder: NoteEncoder, caplog: pytest.LogCaptureFixture) -> None:
    # Chords for ever: time stands still. The longest shift for ever: no note comes.
    events = len(encoder.fields) == 1
    stuck = Stubborn(encoder, entry=355 if events else 60)
    session = Session(cast(NoteModel, stuck), encoder, Ancestral())
    with caplog.at_level(logging.WARNING):
        (notes,) = session.run(num_notes=1 if events else None, seconds=None if events else 1.0)
    assert "stops short" in caplog.text
    assert len(notes) == (0 if events else 512)


def test_settings_are_checked() -> None:
    bundle = reference()
    with pytest.raises(ConfigError, match="batch_size 0 is not"):
        generate_batch(bundle, 1, batch_size=0)
    with pytest.raises(ConfigError, match="seed -1 is not a whole number, at least 0"):
        generate(bundle, 1, seed=-1)
    for options in ({"num_notes": -1}, {"seconds": -1.0}):
        with pytest.raises(ConfigError, match="at least 0"):
            generate(bundle, **options)
    session = Session(bundle.model, bundle.encoder, bundle.sampler)
    with pytest.raises(ConfigError, match="no limit is given"):
        session.run(num_notes=None, seconds=None)
    with pytest.raises(FieldError, match=r"fields .* are not the encoder's"):
        Session(bundle.model, LogTimeEncoder(), bundle.sampler)
