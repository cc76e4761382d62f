"""Augmentation: other keys, speeds and loudnesses, on training batches alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from notelstm.batch import Batch
from notelstm.data import SequenceDataset, StatefulBatches, WindowBatches
from notelstm.data.batches import NumberedBatches
from notelstm.data.dataset import PackedRows
from notelstm.data.transforms import (
    Augmented,
    TimeStretch,
    Transform,
    Transpose,
    VelocityShift,
    with_drums,
)
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import ConfigError, FieldError
from notelstm.fields import Field
from notelstm.notes import Notes
from notelstm.plugins import build, describe, installed
from notelstm.protocols import Batches, NoteEncoder
from notelstm.testing import strategies

ENCODERS: list[NoteEncoder] = [StepDurationEncoder(), LogTimeEncoder()]
ALL: tuple[Transform, ...] = (Transpose(low=-5, high=5), TimeStretch(), VelocityShift())


def tune(seed: int, n: int = 60, low: int = 40, high: int = 90) -> Notes:
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.uniform(0, 0.5, n))
    return Notes(
        start=start,
        end=start + rng.uniform(0.05, 1.0, n),
        pitch=rng.integers(low, high + 1, n),
        velocity=rng.integers(20, 110, n),
    )


def streams(rows: Sequence[Any], **options: Any) -> NumberedBatches:
    data = SequenceDataset(rows, sequence_length=8, targets="every")
    return StatefulBatches(dataset=data, batch_size=4, **options)


def windows(rows: list[Any], **options: Any) -> NumberedBatches:
    return WindowBatches(dataset=SequenceDataset(rows, sequence_length=8), batch_size=16, **options)


KINDS = pytest.mark.parametrize("make", [windows, streams])
Make = Callable[..., NumberedBatches]


def augmented(
    make: Make, encoder: NoteEncoder, *transforms: Transform, **options: Any
) -> Augmented:
    batches = make([encoder.encode(tune(k)) for k in range(12)])
    return Augmented(batches=batches, fields=encoder.fields, transforms=transforms, **options)


def apply(transform: Transform, encoder: NoteEncoder, notes: Notes, choice: int) -> Notes:
    rows = torch.from_numpy(encoder.encode(notes))[None]
    return encoder.decode(transform.apply(encoder.fields, rows, torch.tensor([choice]))[0].numpy())


def extremes(encoder: NoteEncoder, notes: Notes) -> tuple[Any, Any]:
    rows = encoder.encode(notes)
    return rows.min(axis=0)[None], rows.max(axis=0)[None]


@pytest.mark.parametrize("encoder", ENCODERS)
@given(notes=strategies.notes(min_notes=1), seed=st.integers(0, 99), reach=st.integers(0, 30))
def test_transposing_moves_all_pitches_equally_within_range(
    encoder: NoteEncoder, notes: Notes, seed: int, reach: int
) -> None:
    transform = Transpose(low=-reach, high=reach)
    low, high = extremes(encoder, notes)
    rng = np.random.default_rng(seed)
    (choice,) = transform.sample_params(encoder.fields, low, high, rng).tolist()
    moved = apply(transform, encoder, notes, choice)
    plain = encoder.decode(encoder.encode(notes))
    assert moved.pitch.tolist() == (plain.pitch + choice - reach).tolist()
    np.testing.assert_array_equal(moved.start, plain.start)
    np.testing.assert_array_equal(moved.velocity, plain.velocity)


def test_transposing_uses_the_whole_range_and_no_more() -> None:
    fields = StepDurationEncoder().fields
    low, high = np.array([[30.0, 0, 0], [0, 0, 0], [23, 0, 0]]), np.array([[122.0, 0, 0]] * 3)
    low, high = low.repeat(500, axis=0).astype(np.float32), high.repeat(500, axis=0)
    high = high.astype(np.float32)
    rng = np.random.default_rng(1)
    shifts = Transpose(low=-12, high=12).sample_params(fields, low, high, rng).reshape(3, 500) - 12
    assert set(shifts[0]) == set(range(-12, 6))
    assert set(shifts[1]) == set(range(6))
    piano = Transpose(low=-12, high=12, lowest=21, highest=108)
    shifts = piano.sample_params(fields, low, high, rng).reshape(3, 500) - 12
    assert set(shifts[0]) == set(range(-9, 1)), "a piece that is off the keyboard moves towards it"
    assert set(shifts[2]) == {-2, -1, 0}


@pytest.mark.parametrize("choice", range(3))
def test_stretching_multiplies_seconds(choice: int) -> None:
    transform, notes = TimeStretch(factors=(0.8, 1, 1.25)), tune(0)
    slow = apply(transform, StepDurationEncoder(), notes, choice)
    np.testing.assert_allclose(slow.step[1:], notes.step[1:] * transform.factors[choice], rtol=1e-5)
    np.testing.assert_allclose(slow.duration, notes.duration * transform.factors[choice], rtol=1e-5)
    assert slow.pitch.tolist() == notes.pitch.tolist()


@pytest.mark.parametrize("choice", range(3))
def test_stretched_classes_contain_the_stretched_time(choice: int) -> None:
    transform, encoder = TimeStretch(factors=(0.8, 1, 1.25)), LogTimeEncoder()
    rows = encoder.encode(tune(0, 500))
    changed = transform.apply(encoder.fields, torch.from_numpy(rows)[None], torch.tensor([choice]))[
        0
    ].numpy()
    assert np.array_equal(changed[:, [0, 3]], rows[:, [0, 3]])
    if choice == 1:
        assert np.array_equal(changed, rows)
    for column in (1, 2):
        field = encoder.fields[column]
        for before, after in zip(rows[:, column], changed[:, column], strict=True):
            wanted = field.value_of(before) * transform.factors[choice]
            low, high = field.edges[int(after)], field.edges[int(after) + 1]
            first, last = after == 0, after == len(field.values) - 1
            assert first or low - 1e-9 <= wanted
            assert last or wanted < high + 1e-9


def test_velocities_stay_in_their_range() -> None:
    transform, encoder = VelocityShift(amounts=(-40, 0, 40)), LogTimeEncoder()
    notes = tune(0)
    plain = encoder.decode(encoder.encode(notes))
    louder = apply(transform, encoder, notes, 2)
    assert louder.velocity.tolist() == np.minimum(plain.velocity + 40, 126).tolist()
    assert apply(transform, encoder, notes, 1) == plain
    assert apply(transform, encoder, notes, 0).velocity.min() >= 1


def test_classes_without_edges_become_the_nearest_value() -> None:
    field = Field.categorical("duration", "duration", values=[4.0, 1.0, 2.0], unit="s")
    step = Field.continuous("step", "step", unit="s", low=0.0, high=3.0)
    rows = torch.tensor([[[0.0, 1.0], [1, 2], [2, 3]]])
    out = TimeStretch(factors=(1.8,)).apply((field, step), rows, torch.tensor([0]))
    assert out[0, :, 0].tolist() == [0, 2, 0]
    assert out[0, :, 1].tolist() == pytest.approx([1.8, 3, 3]), "bounds of the field are kept"
    assert rows[0, :, 0].tolist() == [0, 1, 2], "the rows given stay as they are"


@KINDS
def test_a_piece_is_changed_in_one_way_per_epoch(make: Make) -> None:
    encoder = StepDurationEncoder()
    made = augmented(make, encoder, Transpose(low=-5, high=5))
    epochs = []
    for number in range(3):
        shifts: dict[int, set[int]] = {}
        for (plain, pieces), batch in zip(
            made.batches.numbered_epoch(number), made.epoch(number), strict=True
        ):
            assert torch.equal(batch.target_mask, plain.target_mask)
            assert torch.equal(batch.rows[..., 1:], plain.rows[..., 1:])
            moved = (batch.rows - plain.rows)[..., 0]
            for sequence, piece in enumerate(pieces.tolist()):
                there = plain.rows[sequence, :, 2] > 0  # not the padding of a stream
                shifts.setdefault(piece, set()).update(moved[sequence, there].int().tolist())
        assert all(len(found) == 1 for found in shifts.values())
        assert len(set.union(*shifts.values())) > 3
        assert sorted(shifts) == list(range(12))
        epochs.append([shifts[piece] for piece in range(12)])
    assert epochs[0] != epochs[1] != epochs[2]


def band(seed: int) -> Notes:
    """A tune within an octave, and a kick drum far below it."""
    tunes = tune(seed, low=60, high=72), tune(seed + 100, low=1, high=1)
    return Notes.merge([replace(t, drum=np.full(len(t), k == 1)) for k, t in enumerate(tunes)])


@KINDS
@pytest.mark.parametrize("packed", [False, True])
def test_percussion_is_not_transposed(make: Make, packed: bool) -> None:
    encoder = LogTimeEncoder()
    pieces = [*(band(k) for k in range(6)), tune(8), band(9)[:0], tune(7, low=1, high=1)]
    pieces[-1] = replace(pieces[-1], drum=np.ones(60, dtype=np.bool_))
    rows = [encoder.encode(piece) for piece in pieces]
    marked = with_drums(PackedRows.join(rows) if packed else rows, pieces)
    assert isinstance(marked, PackedRows) == packed
    made = Augmented(
        batches=make(marked),
        fields=encoder.fields,
        transforms=(Transpose(low=-40, high=40), VelocityShift(amounts=(4,))),
        drums=True,
    )
    shifts: dict[int, set[int]] = {}
    for number in range(4):
        for (plain, which), batch in zip(
            made.batches.numbered_epoch(number), made.epoch(number), strict=True
        ):
            assert batch.rows.shape == (*plain.rows.shape[:2], 4)
            drum = plain.rows[..., -1] > 0
            moved = (batch.rows - plain.rows[..., :-1])[..., 0]
            assert not moved[drum].any()
            for sequence, piece in enumerate(which.tolist()):
                there = (plain.rows[sequence, :, 3] > 0) & ~drum[sequence]
                shifts.setdefault(piece, set()).update(moved[sequence, there].int().tolist())
            louder = (batch.rows - plain.rows[..., :-1])[..., 3]
            assert (louder[drum] == 1).all(), "percussion is shifted in velocity as all notes are"
    found = set.union(*(shifts[piece] for piece in range(6)))
    assert min(found) < -20, "the drum at the lower end leaves the tune its room"
    assert max(found) > 20
    assert all(len(shifts[piece]) > 1 for piece in range(6))


@given(
    seed=st.integers(0, 10_000),
    lowest=st.integers(0, 40),
    highest=st.integers(90, 127),
    packed=st.booleans(),
)
def test_percussion_is_transposed_if_asked(
    seed: int, lowest: int, highest: int, packed: bool
) -> None:
    """All notes of a piece are moved alike, and those of percussion stay in the range as well."""
    encoder = LogTimeEncoder()
    pieces = [band(seed + k) for k in range(4)]
    rows: Any = [encoder.encode(piece) for piece in pieces]
    asked, default = (
        Augmented(
            batches=streams(with_drums(PackedRows.join(rows) if packed else rows, pieces)),
            fields=encoder.fields,
            transforms=(VelocityShift(), Transpose(lowest=lowest, highest=highest, drums=drums)),
            seed=seed,
            drums=True,
        )
        for drums in (True, False)
    )
    every: list[float] = []
    for (plain, which), batch, other in (
        both
        for number in range(6)
        for both in zip(
            asked.batches.numbered_epoch(number),
            asked.epoch(number),
            default.epoch(number),
            strict=True,
        )
    ):
        there = plain.rows[..., 3] > 0
        drum = there & (plain.rows[..., -1] > 0)
        moved, kept = ((b.rows[..., 0] - plain.rows[..., 0]) for b in (batch, other))
        assert not kept[drum].any()
        for sequence in range(len(which)):
            assert len(set(moved[sequence, there[sequence]].tolist())) <= 1
        every += moved[drum].tolist()
    # The kick drum is at pitch 1: it leaves no room below.
    assert max(every) > 0
    assert min(every) >= (-1 if lowest == 0 else 0)


def test_without_one_row_per_note_all_rows_count_as_percussion() -> None:
    rows = [np.zeros((5, 2), np.float32)] * 3
    pieces = [tune(0, n=3), replace(tune(0, n=3), drum=np.array([False, True, False])), tune(1, 5)]
    columns = [table[:, -1].tolist() for table in with_drums(rows, pieces)]
    assert columns == [[0] * 5, [1] * 5, [0] * 5]
    with pytest.raises(ValueError, match="zip"):
        with_drums(rows, pieces[:2])


@KINDS
def test_epochs_differ_are_repeatable_and_can_be_resumed(make: Make) -> None:
    made = augmented(make, LogTimeEncoder(), *ALL)

    def rows(batches: Batches, number: int, first: int = 0) -> list[Batch]:
        return list(batches.epoch(number, first))

    def same(a: list[Batch], b: list[Batch]) -> bool:
        return all(torch.equal(x.rows, y.rows) for x, y in zip(a, b, strict=True))

    assert same(rows(made, 1), rows(made, 1))
    assert same(rows(made, 1, 3), rows(made, 1)[3:])
    assert not same(rows(made, 0), rows(made, 1))
    other = augmented(make, LogTimeEncoder(), *ALL, seed=1)
    assert not same(rows(made, 1), rows(other, 1))
    assert (made.num_batches, made.stateful) == (made.batches.num_batches, made.batches.stateful)


@KINDS
def test_unwrapped_batches_are_not_changed(make: Make) -> None:
    encoder = LogTimeEncoder()
    rows = [encoder.encode(tune(k)) for k in range(12)]
    plain = make(rows)
    before = [batch.rows.clone() for batch, _ in plain.numbered_epoch(0)]
    made = Augmented(batches=plain, fields=encoder.fields, transforms=ALL)
    list(made.epoch(0))
    assert all(
        torch.equal(a, b.rows) for a, (b, _) in zip(before, plain.numbered_epoch(0), strict=True)
    )
    assert all(
        np.array_equal(a, encoder.encode(tune(k))) for k, a in enumerate(plain.dataset.packed)
    )


@KINDS
def test_augmented_rows_can_be_decoded(make: Make) -> None:
    for encoder in ENCODERS:
        usable = [t for t in ALL if not (isinstance(t, VelocityShift) and len(encoder.fields) < 4)]
        for batch in augmented(make, encoder, *usable).epoch(0):
            for sequence in batch.rows:
                encoder.decode(sequence.numpy())


def test_fields_that_cannot_be_changed_are_named() -> None:
    events = PerformanceEventEncoder()
    rows = [events.encode(tune(0, 90))]
    for transform in ALL:
        batches = windows(rows)
        with pytest.raises(FieldError, match="event"):
            Augmented(batches=batches, fields=events.fields, transforms=(transform,))
    with pytest.raises(FieldError, match="velocity"):
        augmented(windows, StepDurationEncoder(), VelocityShift())
    beat = Field.continuous("step", "step", unit="beat", low=0.0)
    with pytest.raises(FieldError, match=r"rows of step \(step, beat\).*in seconds"):
        Augmented(
            batches=windows([np.zeros((30, 1), np.float32)]),
            fields=(beat,),
            transforms=(TimeStretch(),),
        )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Transpose(low=1),
        lambda: Transpose(high=-1),
        lambda: Transpose(lowest=100, highest=99),
        lambda: TimeStretch(factors=()),
        lambda: TimeStretch(factors=(1.0, 0.0)),
        lambda: TimeStretch(factors=(float("nan"),)),
        lambda: VelocityShift(amounts=()),
        lambda: Transpose(drums=1),  # type: ignore[arg-type]
        lambda: VelocityShift(amounts=(127,)),
        lambda: augmented(windows, StepDurationEncoder(), Transpose(), Transpose(low=-1)),
        lambda: augmented(windows, StepDurationEncoder(), seed=-1),
    ],
)
def test_settings_are_checked(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        wrong()


def test_transforms_are_parts() -> None:
    names = {plugin.name for plugin in installed("transforms")}
    assert {"transpose", "time-stretch", "velocity-shift"} <= names
    for transform in ALL:
        assert build(describe(transform)) == transform


@KINDS
def test_a_batch_costs_little(make: Make) -> None:
    """Far less than a training step, which takes milliseconds at these sizes."""
    encoder = LogTimeEncoder()
    rows = [encoder.encode(tune(k, 2000)) for k in range(20)]
    data = SequenceDataset(rows, sequence_length=25, targets="every")
    plain: Any = WindowBatches if make is windows else StatefulBatches
    batches = plain(dataset=data, batch_size=64)
    made = Augmented(batches=batches, fields=encoder.fields, transforms=ALL)

    def seconds(epochs: Batches) -> float:
        began = time.process_time()
        for _ in epochs.epoch(0):
            pass
        return (time.process_time() - began) / epochs.num_batches

    extra = min(seconds(made) for _ in range(5)) - min(seconds(batches) for _ in range(5))
    assert extra < 1e-3
