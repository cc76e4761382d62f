"""Batches of unlike tasks: each sequence is what it is alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, DataError, EncodingError, FieldError
from notelstm.fields import Field, Row, Rows
from notelstm.generation import Session, generate, generate_batch
from notelstm.models import NoteLSTM, Windowed
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder, Prediction, SamplingContext
from notelstm.sampling import Ancestral, MaxPolyphony, Scale
from notelstm.testing.makers import long_piece

EXACT = LogTimeEncoder(exact=True)
LONG = long_piece(np.random.default_rng(0), count=40, seconds=10)
SHORT = long_piece(np.random.default_rng(1), count=3, seconds=2)


class HighOrLow:
    """Rows of notes, and a given field."""

    fields = (
        Field.categorical("high", "other", values=(0, 1), given=True),
        *StepDurationEncoder().fields,
    )

    def encode(self, notes: Notes) -> Rows:
        rows = StepDurationEncoder().encode(notes)
        return np.column_stack([np.zeros(len(rows)), rows]).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        return StepDurationEncoder().decode(rows[:, 1:])


def bundle(encoder: NoteEncoder = EXACT, **options: Any) -> Bundle:
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return Bundle(model=model, encoder=encoder, **{"sampler": Ancestral(), **options})


BUNDLES = {"exact": bundle(), "events": bundle(PerformanceEventEncoder())}


def lowest(field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]) -> Prediction:
    """A processor of a plugin: pitches that are not below the first one of the sequence."""
    log_weights = prediction.log_weights()
    if field.role != "pitch" or log_weights is None:
        return prediction
    rows = []
    for context in contexts:
        latest = context.tracker.latest(1)
        mask = torch.zeros(log_weights.shape[-1], dtype=torch.bool)
        mask[(latest[0][1].pitch if latest else 60) // 2 :] = True
        rows.append(mask)
    return prediction.constrained(torch.stack(rows))


class Every:
    """A sampler of a plugin, without processors: it counts the sequences that it is given."""

    sizes: list[int]

    def __init__(self) -> None:
        self.sizes = []

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, contexts: Any
    ) -> Tensor:
        self.sizes.append(len(contexts))
        return prediction.sample(noise)


TASKS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "num_notes": st.integers(0, 12),
        "prompt": st.sampled_from([None, LONG, SHORT, Notes.empty()]),
        "temperature": st.sampled_from([None, 0.7, 1.4]),
        "top_p": st.sampled_from([None, 0.8]),
        "seed": st.integers(0, 5),
    }
)


@pytest.mark.parametrize("kind", BUNDLES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_each_piece_of_a_mixed_batch_is_the_one_alone(kind: str, data: st.DataObject) -> None:
    tasks = data.draw(st.lists(TASKS, min_size=1, max_size=4))
    own = [(), (Scale(name="D dorian"),), (MaxPolyphony(notes=2),)]
    processors = data.draw(st.sampled_from(own + ([(lowest,)] if kind == "exact" else [])))
    best_of = data.draw(st.integers(1, 2))
    lists: Any = {name: [task[name] for task in tasks] for name in tasks[0]}
    shared: Any = {"processors": processors, "best_of": best_of}
    made = generate_batch(BUNDLES[kind], **lists, **shared)
    assert made == [generate(BUNDLES[kind], **task, **shared) for task in tasks]


@pytest.mark.parametrize("kind", BUNDLES)
def test_limits_in_seconds_and_criteria_are_those_of_each_piece(kind: str) -> None:
    model = BUNDLES[kind]
    limits: list[dict[str, Any]] = [
        {"seconds": 3.0},
        {"num_notes": 7},
        {"stopping_criterion": lambda tracker: tracker.num_notes >= 4},
        {},
    ]
    names = ("seconds", "num_notes", "stopping_criterion")
    lists: Any = {name: [limit.get(name) for limit in limits] for name in names}
    made = generate_batch(model, **lists, seed=[1, 2, 3, 4])
    assert made == [generate(model, **one, seed=i) for i, one in enumerate(limits, 1)]
    assert [len(piece) for piece in made[1:]] == [7, 4, 128]


def test_given_entries_are_those_of_each_piece() -> None:
    model = bundle(HighOrLow())
    entries = [{"high": 0}, {"high": 1}, {"high": 1}]
    made = generate_batch(model, 20, seed=[3, 3, 4], given=entries, prompt=[LONG, LONG, None])
    for i, piece in enumerate(made):
        alone = generate(
            model, 20, seed=(3, 3, 4)[i], given=entries[i], prompt=(LONG, LONG, None)[i]
        )
        np.testing.assert_array_equal(piece.pitch, alone.pitch)
        np.testing.assert_allclose(piece.start, alone.start, atol=1e-4)
    assert made[0] != made[1]
    with pytest.raises(FieldError, match=r"'high' has no entry \(sequence 1\)"):
        generate_batch(model, 1, given=[{"high": 0}, None])
    with pytest.raises(FieldError, match="the entries of 1 sequences, not of 2"):
        Session(model.model, model.encoder, Ancestral(), batch_size=2, given=[{"high": 0}])


def test_the_module_reads_unlike_prompts_like_the_numpy_step() -> None:
    model = bundle()
    prompts = [LONG, SHORT, None]
    for module in (Windowed(model.model, 6), cast(Any, bundle().model).double()):
        other = Bundle(model=module, encoder=EXACT, sampler=Ancestral())
        made = generate_batch(other, 10, prompt=prompts, seed=[1, 2, 3])
        for i, prompt in enumerate(prompts):
            alone = generate(other, 10, prompt=prompt, seed=i + 1)
            np.testing.assert_array_equal(made[i].pitch, alone.pitch)


def test_equal_settings_share_a_sampler() -> None:
    counting = Every()
    generate_batch(bundle(), 5, prompt=[LONG, None, SHORT], sampler=counting, seed=[1, 2, 3])
    assert set(counting.sizes) == {3}


def test_one_seed_is_that_of_the_whole_batch() -> None:
    model = bundle()
    made = generate_batch(model, 20, batch_size=3, seed=5)
    assert made[0] == generate(model, 20, seed=5)
    assert len({piece.pitch.tobytes() for piece in made}) == 3
    same = generate_batch(model, 20, seed=[5, 5])
    assert same == [made[0]] * 2
    assert generate_batch(model, 20, seed=np.array([5, 6])) == generate_batch(  # type: ignore[arg-type]
        model, 20, seed=[5, 6]
    )


def test_mistakes_name_the_sequence() -> None:
    model = bundle()
    windowed = bundle(context_length=5)
    cases: list[tuple[Bundle, dict[str, Any], type[Exception], str]] = [
        (model, {"seed": [1, 2], "top_p": [0.5]}, ConfigError, "top_p has 1 entries, but seed"),
        (model, {"seed": [1], "batch_size": 2}, ConfigError, "batch_size is 2, but seed has 1"),
        (model, {}, ConfigError, "number of sequences is not given. Give batch_size"),
        (model, {"seed": []}, ConfigError, "number of sequences is not given"),
        (model, {"seed": [1, -1]}, ConfigError, r"seed -1 is not a whole .*\(sequence 1\)"),
        (model, {"num_notes": [1, -1]}, ConfigError, r"num_notes -1 .*\(sequence 1\)"),
        (model, {"temperature": [1, 0]}, ConfigError, r"temperature 0 .*\(sequence 1\)"),
        (model, {"prompt": [LONG, "a"]}, ConfigError, r"'a' is not Notes \(sequence 1\)"),
        (model, {"given": [{}, {"key": 1}]}, FieldError, "has no field 'key'"),
        (windowed, {"prompt": [LONG, SHORT]}, DataError, r"3 rows.* of 5 \(sequence 1\)"),
        (
            windowed,
            {"prompt": [LONG, Notes.empty()]},
            DataError,
            r"0 rows.* of 5 \(sequence 1\)",
        ),
        (
            model,
            {"temperature": [None, 1.2], "sampler": Ancestral()},
            ConfigError,
            "sampler is given together",
        ),
    ]
    for one, arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            generate_batch(one, **{"num_notes": 3, **arguments})
    generate_batch(windowed, 3, prompt=[LONG, None])


def forced_row(pitch: int) -> Row:
    return np.array([pitch, 3, 4, 5], dtype=np.float32)


@settings(max_examples=20, deadline=None)
@given(plan=st.lists(st.sets(st.integers(0, 2)), max_size=25), seed=st.integers(0, 3))
def test_a_forced_row_is_read_and_takes_no_noise(plan: list[set[int]], seed: int) -> None:
    """Each sequence is that of a session of its own, which is fed its forced rows."""
    model = bundle().model
    together = Session(model, EXACT, Ancestral(), batch_size=3, seed=seed)
    rows = [together.advance({i: forced_row(40 + i) for i in forced}) for forced in plan]
    noise = together._noise.at
    following = together.next()
    for i in range(3):
        alone = Session(
            model, EXACT, Ancestral(), seed=[together._noise.seeds[i]], max_undo=len(plan) + 1
        )
        for forced, row in zip(plan, rows, strict=True):
            if i in forced:
                alone.feed(forced_row(40 + i)[None])
            else:
                alone.next()
            np.testing.assert_array_equal(alone.trackers[0].previous, row[i])
        assert alone._noise.at[0] == noise[i] == sum(i not in forced for forced in plan)
        # A forced row is undone like any other.
        after = alone.snapshot()
        if plan:
            alone.undo(len(plan))
            assert alone.trackers[0].num_notes == 0
            alone.restore(after)
        np.testing.assert_array_equal(alone.next()[0], following[i])


def test_a_forced_row_that_does_not_fit_changes_nothing() -> None:
    one, same = (
        Session(bundle().model, EXACT, Ancestral(), batch_size=2, seed=1) for _ in range(2)
    )
    with pytest.raises(EncodingError, match="pitch 300"):
        one.advance({0: forced_row(300)})
    np.testing.assert_array_equal(one.next(), same.next())


def test_snapshots_hold_the_noise_of_each_sequence() -> None:
    one = Session(bundle().model, EXACT, Ancestral(), batch_size=2, seed=1)
    one.advance({0: forced_row(50)})
    snapshot = one.snapshot()
    want = [one.next() for _ in range(4)]
    one.restore(snapshot)
    np.testing.assert_array_equal([one.next() for _ in range(4)], want)
