"""Frames: rows and back, the legal classes, the copied frame, and exact probabilities."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from notelstm_frames import FrameEncoder, FrameLSTM, MatRolls, Repeats, frames, read_rolls
from notelstm_frames.model import _convolved, _following
from torch import Tensor, nn

import notelstm
from notelstm import Notes, Session
from notelstm.adaptation import Adaptation
from notelstm.batch import Batch
from notelstm.data import Transpose
from notelstm.encoders.rows import tracker_of
from notelstm.errors import ConfigError, DataError, EncodingError, FieldError
from notelstm.evaluation import averaged, nats_per_row
from notelstm.fields import Field, Rows
from notelstm.generation import generate
from notelstm.losses import CompositeLoss
from notelstm.models import NoteLSTM
from notelstm.recipes import with_settings
from notelstm.sampling import Ancestral, Greedy
from notelstm.testing import check_model
from notelstm.testing.constraint_checks import CONSTRAINT_CLAUSES, allowed_rows_can_be_completed
from notelstm.testing.round_trips import Promise, Trip
from notelstm.testing.tracker_checks import TRACKER_CLAUSES, allowed_rows_can_be_decoded
from notelstm.training.step import TrainStep

SMALL = FrameEncoder(voices=3, lowest=60, highest=65, frame=0.25)
PLAIN = replace(SMALL, copied=False)
DOWN = replace(SMALL, descending=True)
quick = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def rolls(draw: st.DrawFn, encoder: FrameEncoder = SMALL, min_frames: int = 0) -> np.ndarray:
    """Piano rolls within the voices, with repeats and silence."""
    count = draw(st.integers(min_frames, 24))
    sets = st.sets(st.integers(0, encoder.none - 1), max_size=encoder.voices)
    vocabulary = draw(st.lists(sets, min_size=1, max_size=3))
    chosen = draw(st.lists(st.sampled_from(vocabulary), min_size=count, max_size=count))
    roll = np.zeros((count, encoder.none), dtype=np.bool_)
    for row, pitches in zip(roll, chosen, strict=True):
        row[list(pitches)] = True
    return roll


def small_model(encoder: FrameEncoder = SMALL, seed: int = 0, kind: Any = FrameLSTM) -> Any:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 12, "head_size": 10}
    more = {"reach": 3} if kind is FrameLSTM else {"embedding_dim": 6}
    model = kind(fields=encoder.fields, **sizes, **more)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model.eval()


def random_roll(seed: int, count: int = 40, encoder: FrameEncoder = SMALL) -> np.ndarray:
    rng = np.random.default_rng(seed)
    roll = np.zeros((count, encoder.none), dtype=np.bool_)
    for row in roll:
        row[rng.choice(encoder.none, size=rng.integers(0, encoder.voices + 1), replace=False)] = (
            True
        )
    roll[count // 2 :] = roll[: count - count // 2]
    return roll


@pytest.mark.parametrize("encoder", [SMALL, PLAIN, DOWN])
@quick
@given(data=st.data())
def test_rows_notes_and_rolls_are_the_same(encoder: FrameEncoder, data: st.DataObject) -> None:
    roll = data.draw(rolls(encoder))
    rows = encoder.rows_of(roll)
    notes = encoder.decode(rows)
    assert notes.end_time == len(roll) * encoder.frame
    assert np.array_equal(encoder.encode(notes), rows)
    again = np.zeros_like(roll)
    for start, end, pitch in zip(notes.start, notes.end, notes.pitch, strict=True):
        again[round(start / encoder.frame) : round(end / encoder.frame), pitch - 60] = True
    assert np.array_equal(again, roll)
    # One note for each run of frames of a pitch.
    assert len(notes) == int((np.diff(roll.astype(int), axis=0, prepend=0) == 1).sum())


@pytest.mark.parametrize("encoder", [SMALL, PLAIN, DOWN])
@quick
@given(data=st.data())
def test_the_encoder_keeps_its_contract(encoder: FrameEncoder, data: st.DataObject) -> None:
    piece = encoder.decode(encoder.rows_of(data.draw(rolls(encoder))))
    trip = Trip(encoder, Promise(onset=0, duration=0, velocity=127, keeps_order=True), piece)
    for clause in (*CONSTRAINT_CLAUSES, *TRACKER_CLAUSES):
        clause(trip)


def test_random_allowed_rows_can_be_completed_and_decoded() -> None:
    piece = SMALL.decode(SMALL.rows_of(random_roll(0)))
    trip = Trip(SMALL, Promise(onset=0, duration=0, velocity=127, keeps_order=True), piece)
    allowed_rows_can_be_completed(trip)
    allowed_rows_can_be_decoded(trip)


@pytest.mark.parametrize("encoder", [SMALL, DOWN])
@quick
@given(data=st.data())
def test_exactly_the_classes_that_can_be_completed_are_allowed(
    encoder: FrameEncoder, data: st.DataObject
) -> None:
    """By brute force over all rows of a frame."""
    legal = [
        tuple(row.astype(int))
        for size in range(4)
        for chosen in itertools.combinations(range(6), size)
        for row in [np.array([*chosen, *[6] * (3 - size)])]
    ]
    row = data.draw(st.sampled_from(legal))
    places = data.draw(st.sets(st.sampled_from([0, 1, 2])))
    names = encoder.limited_fields
    for k in set(range(3)) - places:
        known = {names[j]: np.float32(row[j]) for j in places}
        previous = {field.name: np.float32(-1) for field in encoder.fields}
        mask = encoder.allowed_classes(names[k], known, previous)
        fits = [other for other in legal if all(other[j] == row[j] for j in places)]
        assert set(np.flatnonzero(mask)) == {other[k] for other in fits}


def test_in_descending_order_the_highest_pitch_comes_first() -> None:
    roll = np.zeros((2, 6), dtype=np.bool_)
    roll[0, [0, 2, 5]] = True  # pitches 60, 62, 65
    rows = DOWN.rows_of(roll)
    assert [DOWN.pitches[int(entry)] for entry in rows[0, :3]] == [65, 62, 60]
    assert rows[1, :3].tolist() == [DOWN.none] * 3
    assert DOWN.limited_fields == ("top1", "top2", "top3")
    # Onsets at one time are in the order of pitch, as in all notes.
    assert DOWN.decode(rows).pitch.tolist() == [60, 62, 65]
    tracker = tracker_of(DOWN)
    tracker.extend(rows)
    assert tracker.notes().pitch.tolist() == [60, 62, 65]


@quick
@given(roll=rolls())
def test_both_orders_are_of_the_same_frames(roll: np.ndarray) -> None:
    up, down = SMALL.rows_of(roll), DOWN.rows_of(roll)
    for low, high in zip(up, down, strict=True):
        for part in (slice(0, 3), slice(3, 6)):  # the frame, and the copied one
            pitches = [
                sorted(encoder.pitches[int(c)] for c in row[part] if c < encoder.none)
                for encoder, row in ((SMALL, low), (DOWN, high))
            ]
            assert pitches[0] == pitches[1]
        assert low[-1] == high[-1]


def test_transposed_rows_of_both_orders_are_of_the_same_frames() -> None:
    transpose = Transpose(low=-1, high=1, lowest=60, highest=65)
    roll = np.zeros((3, 6), dtype=np.bool_)
    roll[:, [1, 3]] = True
    choices = torch.tensor([2])  # up
    for encoder in (SMALL, DOWN):
        rows = torch.from_numpy(encoder.rows_of(roll))[None]
        moved = transpose.apply(encoder.fields, rows, choices)[0].numpy()
        assert np.unique(encoder.decode(moved).pitch).tolist() == [62, 64]


def likeness(sets: list[frozenset[float]], i: int, j: int) -> float:
    """How like the frames up to j are to those up to i, by definition."""
    if j < 0:
        return 0.0
    either = sets[i] | sets[j]
    share = len(sets[i] & sets[j]) / len(either) if either else 1.0
    return max(0.8 * likeness(sets, i - 1, j - 1) + (1.3 * share - 0.3), 0.0)


@quick
@given(roll=rolls(min_frames=1))
def test_the_copied_frame_follows_the_passage_that_is_most_alike(roll: np.ndarray) -> None:
    rows, voices = SMALL.rows_of(roll), SMALL.voices
    table = rows[:, :voices].tolist()
    sets = [frozenset(row) - {SMALL.none} for row in table]
    for t, row in enumerate(rows):
        found = [likeness(sets, t - 1, j) for j in range(t - 1)]
        best = max(found, default=0.0)
        level = best * 0.2 * 16
        if level <= 4:
            assert row[voices:].tolist() == [SMALL.none] * voices + [0]
            continue
        assert row[-1] == round(level)
        # The latest of those that are equal but for rounding.
        near = [j for j, other in enumerate(found) if other > best - 1e-9]
        assert row[voices:-1].tolist() in [table[j + 1] for j in near]
        if max(found) == found[near[-1]]:
            assert row[voices:-1].tolist() == table[near[-1] + 1]


def test_a_repeat_with_differences_is_found() -> None:
    theme = np.zeros((8, 6), dtype=np.bool_)
    for frame, pitches in zip(
        theme, ([0, 2], [1, 3], [2, 4], [3, 5], [0], [5], [1, 2], []), strict=True
    ):
        frame[pitches] = True
    again = theme.copy()
    again[3] = [False, False, True, True, False, False]  # a pitch is another one
    rows = SMALL.rows_of(np.concatenate([theme, again]))
    for t in range(10, 16):
        assert rows[t, 3:6].tolist() == rows[t - 8, :3].tolist()
    assert rows[9, -1] == 0  # one frame alone is no passage
    assert 4 < rows[12, -1] < rows[11, -1] < rows[15, -1]


def test_repeats_can_be_copied() -> None:
    one, frame = Repeats(88), np.array([1, 2], dtype=np.float32)
    for _ in range(100):
        one.push(frame)
    two = one.copy()
    two.push(frame + 10)
    found, level = one.next()
    assert found is not None
    assert found.tolist() == [1, 2]
    assert level == 16
    assert one.next()[1] == 16
    for k in range(2, 7):
        two.push(frame + 10 * k)
    assert two.next() == (None, 0)


@pytest.mark.parametrize("kind", [FrameLSTM, NoteLSTM])
@pytest.mark.parametrize("copied", [True, False])
def test_the_probabilities_of_frames_sum_to_one(kind: Any, copied: bool) -> None:
    """All frames of at most two pitches, and what is left for larger ones."""
    encoder = replace(SMALL, copied=copied)
    model = small_model(encoder, kind=kind)
    past = random_roll(1, 10, encoder)
    sets = [c for size in (0, 1, 2) for c in itertools.combinations(range(6), size)]
    pieces = np.repeat(past[None], len(sets), axis=0)
    next_frame = np.zeros((len(sets), 1, 6), dtype=np.bool_)
    for frame, chosen in zip(next_frame, sets, strict=True):
        frame[0, list(chosen)] = True
    rows = [encoder.rows_of(roll) for roll in np.concatenate([pieces, next_frame], axis=1)]
    scores = nats_per_row(model, encoder, rows)
    nats = np.stack([scores.nats[str(i)][-1] for i in range(len(sets))])  # (S, 3)
    whole = np.exp(-nats.sum(axis=1)).sum()
    # The larger ones: a pair, then not `none`.
    pairs = np.array([len(chosen) == 2 for chosen in sets])
    larger = np.exp(-nats[pairs, :2].sum(axis=1)) * (1 - np.exp(-nats[pairs, 2]))
    assert whole + larger.sum() == pytest.approx(1, abs=1e-5)
    assert larger.sum() > 0.01
    assert 0 < whole < 1


@pytest.mark.parametrize("kind", [FrameLSTM, NoteLSTM])
def test_nothing_falls_on_illegal_frames(kind: Any) -> None:
    model = small_model(kind=kind)
    for row, column in (([3, 3, 6], 2), ([3, 2, 6], 2), ([3, 6, 4], 3), ([6, 0, 6], 2)):
        rows = SMALL.rows_of(random_roll(2, 5))
        rows[3, :3] = row
        with pytest.raises(DataError, match=f"pitch{column} .* has inf nats .*row 3"):
            nats_per_row(model, SMALL, [rows])
    # Sampled frames ascend, from logits that prefer illegal ones.
    for seed in range(3):
        session = Session(model, SMALL, Ancestral(), batch_size=4, seed=seed)
        for _ in range(30):
            for sampled in session.next():
                SMALL.decode(sampled[None])


@pytest.mark.parametrize("kind", [FrameLSTM, NoteLSTM])
def test_illegal_classes_are_masked_in_training_as_in_scoring(kind: Any) -> None:
    model, rows = small_model(kind=kind), SMALL.rows_of(random_roll(5))
    batch = Batch(
        torch.from_numpy(rows)[None],
        torch.ones(1, len(rows), dtype=torch.bool),
        torch.ones(1, dtype=torch.bool),
    )
    loss = CompositeLoss.for_fields(SMALL.fields)
    assert set(loss.terms) == {"pitch1", "pitch2", "pitch3"}
    with torch.no_grad():
        masked, unmasked = (
            float(TrainStep(model, loss, encoder)(batch, None)[0].total)
            for encoder in (SMALL, None)
        )
    assert masked == pytest.approx(nats_per_row(model, SMALL, [rows]).per_row(), abs=1e-5)
    assert masked < unmasked - 0.1


@pytest.mark.parametrize("kind", [FrameLSTM, NoteLSTM])
@pytest.mark.parametrize("adapt", [None, Adaptation(segment=4, learning_rate=1e-2)])
def test_later_frames_change_nothing_before(kind: Any, adapt: Adaptation | None) -> None:
    model, roll = small_model(kind=kind), random_roll(3)
    whole = nats_per_row(model, SMALL, [SMALL.rows_of(roll)], adapt=adapt).nats["0"]
    for t in (1, 17, 39):
        changed = roll.copy()
        changed[t:] = random_roll(4)[t:]
        changed[t] = False
        changed[t, int(roll[t, 0])] = True  # another frame than before
        rows = SMALL.rows_of(changed)
        got = nats_per_row(model, SMALL, [rows], adapt=adapt).nats["0"]
        assert np.allclose(got[:t], whole[:t], atol=1e-6)
        assert not np.allclose(got[t], whole[t], atol=1e-6)


def test_an_average_is_a_distribution() -> None:
    sets = [c for size in range(4) for c in itertools.combinations(range(6), size)]
    rolls_ = np.zeros((len(sets), 1, 6), dtype=np.bool_)
    for roll, chosen in zip(rolls_, sets, strict=True):
        roll[0, list(chosen)] = True
    of_order = []
    for encoder in (SMALL, DOWN):
        rows = [encoder.rows_of(roll) for roll in rolls_]
        models = [small_model(encoder, seed) for seed in range(3)]
        of_order.append(averaged([nats_per_row(model, encoder, rows) for model in models]))
    # Scores of both orders are averaged by whole rows only.
    with pytest.raises(DataError, match="whole_rows"):
        averaged(of_order)
    for mean in (*of_order, averaged([scores.whole_rows() for scores in of_order])):
        total = sum(np.exp(-nats.sum()) for nats in mean.nats.values())
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("encoder", [SMALL, PLAIN, DOWN, replace(SMALL, voices=1)])
def test_the_model_keeps_its_contract(encoder: FrameEncoder) -> None:
    torch.manual_seed(0)
    model = FrameLSTM(fields=encoder.fields, hidden_size=12, head_size=10, reach=4, dropout=0.1)
    # Rows that are legal, so that frames go on.
    rows = np.stack([encoder.rows_of(random_roll(seed, 12, encoder)) for seed in range(3)])
    check_model(model, rows=torch.from_numpy(rows), entry_point=False)
    other = FrameLSTM(fields=encoder.fields, reach=0, hidden_size=8, weight_dropout=0.3)
    check_model(other, entry_point=False)


def test_weights_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 12, "head_size": 10, "dropout": 0.0}
    dropped = FrameLSTM(fields=PLAIN.fields, weight_dropout=0.5, **sizes)
    whole = FrameLSTM(fields=PLAIN.fields, **sizes)
    whole.load_state_dict(dropped.state_dict())
    rows = torch.from_numpy(PLAIN.rows_of(random_roll(0, 12, PLAIN)))[None]

    def output(model: FrameLSTM) -> Tensor:
        context, state = model(rows, model.initial_state(1)[1])
        # The state goes on as it does without dropped weights.
        assert [part.shape for part in state] == [(1, 1, 12)] * 2
        inner: Tensor = context.inner
        return inner

    torch.testing.assert_close(output(dropped.eval()), output(whole))
    dropped.train()
    one, two = output(dropped), output(dropped)
    # The first frame has no output before it; later ones do, each batch through other weights.
    torch.testing.assert_close(one[:, 0], output(whole)[:, 0])
    assert not torch.allclose(one[:, 1:], output(whole)[:, 1:])
    assert not torch.allclose(one[:, 1:], two[:, 1:])
    (gradient,) = torch.autograd.grad(one.sum(), [dropped.lstm.get_parameter("weight_hh_l0")])
    # A dropped weight has no gradient.
    assert 0.3 < (gradient == 0).double().mean().item() < 0.7


def test_pitches_that_are_not_read_are_dropped_from_all_frames_of_a_sequence() -> None:
    torch.manual_seed(0)
    model = FrameLSTM(fields=PLAIN.fields, hidden_size=12, dropout=0.0, input_dropout=0.5)
    read: list[Tensor] = []
    model.lstm.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    rows = torch.from_numpy(PLAIN.rows_of(random_roll(0, 12, PLAIN))).repeat(4, 1, 1)
    state = model.initial_state(4)[1]
    model(rows, state)
    model.eval()(rows, state)
    dropped, whole = read
    kept = dropped / whole  # NaN where nothing sounds
    for sequence in kept:
        for key in sequence.T:
            assert len(set(key[~key.isnan()].tolist())) <= 1
    assert set(kept[~kept.isnan()].tolist()) == {0.0, 2.0}
    assert not torch.equal(kept[0].nan_to_num(), kept[1].nan_to_num())


def test_weights_of_intervals_are_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    frames_, weights = torch.rand(2, 3, 8, generator=generator), torch.randn(2, 3, 5)
    want = torch.zeros(2, 8)
    for s, m, c, p in itertools.product(range(2), range(3), range(8), range(8)):
        if abs(c - p) <= 2:
            want[s, c] += frames_[s, m, p] * weights[s, m, c - p + 2]
    torch.testing.assert_close(_convolved(frames_, weights, 2), want)


def test_the_following_pitch_is_the_next_one_of_a_whole_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    whole = (torch.rand(40, 2, 6, generator=generator) < 0.4).float()
    now = (torch.rand(40, 6, generator=generator) < 0.3).float()
    now[:10] = whole[:10, 0]  # some agree
    now[::7] = 0
    last = torch.tensor([int(row.nonzero().max()) if row.any() else 6 for row in now])
    following, agreed = _following(whole, now, last)
    assert following.sum(-1).eq(1).all()
    for s, m in itertools.product(range(40), range(2)):
        so_far = now[s].nonzero().flatten().tolist()
        pitches = whole[s, m].nonzero().flatten().tolist()
        latest = so_far[-1] if so_far else -1
        above = [pitch for pitch in pitches if pitch > latest]
        assert int(following[s, m].argmax()) == (above[0] if above else 6)
        assert bool(agreed[s, m]) == ([p for p in pitches if p <= latest] == so_far)
    assert 0 < int(agreed.sum()) < agreed.numel()


def test_other_fields_are_refused() -> None:
    with pytest.raises(FieldError, match="FrameLSTM has pitches"):
        FrameLSTM(fields=(Field.categorical("pitch", "pitch", values=range(5)),))
    with pytest.raises(FieldError, match="FrameLSTM has pitches"):
        FrameLSTM(fields=(*PLAIN.fields, Field.categorical("x", "other", values=range(5))))
    with pytest.raises(ConfigError):
        FrameLSTM(fields=PLAIN.fields, dropout=1.0)
    with pytest.raises(ConfigError, match="dropout"):
        FrameLSTM(fields=PLAIN.fields, weight_dropout=-0.1)


def test_settings_and_pieces_out_of_range_are_refused() -> None:
    for wrong in ({"voices": 0}, {"voices": 89}, {"lowest": 80, "highest": 70}, {"frame": 0.0}):
        with pytest.raises(ConfigError):
            FrameEncoder(**wrong)
    with pytest.raises(EncodingError, match=r"pitch 59 .*note 0"):
        SMALL.encode(Notes(start=[0], end=[1], pitch=[59]))
    chord = Notes(start=[0] * 4, end=1, pitch=[60, 61, 62, 63])
    with pytest.raises(EncodingError, match=r"4 pitches sound at 0 s.*note 0"):
        SMALL.encode(chord)
    with pytest.raises(EncodingError, match=r"do not ascend \(row 0\)"):
        PLAIN.decode(np.array([[3, 3, 6]], dtype=np.float32))


def test_the_corpus_reads_mat_files(tmp_path: Path) -> None:
    path = tmp_path / "some.mat"
    rng = np.random.default_rng(0)
    made = [(rng.random((n, 88)) < 0.03).astype(np.uint8) for n in (5, 9)]
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = made
    scipy.io.savemat(path, {"traindata": cells, "validdata": cells[:, :1]})
    assert all(map(np.array_equal, read_rolls(path, "traindata"), made))
    corpus = MatRolls(path=str(path), frame=0.25)
    pieces = dict(corpus.pieces())
    assert list(pieces) == ["traindata/0000", "traindata/0001"]
    assert pieces["traindata/0001"].end_time == 9 * 0.25
    encoder = FrameEncoder(voices=20, frame=0.25)
    assert np.array_equal(encoder.encode(pieces["traindata/0001"]), encoder.rows_of(made[1]))
    assert len(dict(MatRolls(path=str(path), split="validdata").pieces())) == 1
    assert len(list(corpus.pieces(1))) == 1
    assert corpus.name == "some"
    with pytest.raises(DataError, match="cannot read testdata"):
        read_rolls(path, "testdata")
    with pytest.raises(DataError, match="cannot read traindata"):
        read_rolls(tmp_path / "none.mat", "traindata")
    with pytest.raises(ConfigError, match="unknown split"):
        read_rolls(path, "test")
    scipy.io.savemat(path, {"traindata": np.zeros((3, 5))})
    with pytest.raises(DataError, match="not a list of piano rolls"):
        read_rolls(path, "traindata")


def music(count: int = 64) -> Notes:
    """A passage of four chords, again and again."""
    encoder = FrameEncoder(voices=3)
    roll = np.zeros((count, 88), dtype=np.bool_)
    for i, row in enumerate(roll):
        row[[30 + 2 * (i % 4), 34 + 2 * (i % 4), 37 + 2 * (i % 4)]] = True
    rows: Rows = encoder.rows_of(roll)
    return encoder.decode(rows)


def test_trained_and_generated(tmp_path: Path) -> None:
    recipe = with_settings(
        frames(voices=3, hidden_size=24),
        {"batch_size": 4, "training": {"epochs": 25, "learning_rate": 0.01, "warmup_steps": 5}},
    )
    bundle = recipe.train([music(64), music(48)] * 4)
    encoder = bundle.encoder
    score = nats_per_row(bundle.model, encoder, [encoder.encode(music(40))])
    assert score.per_row(skip=8) < 1.0 < 3 * math.log(88)
    prompt = music(12)
    new = generate(bundle, seconds=4.0, prompt=prompt, sampler=Greedy())
    whole = Notes.merge([prompt, new.shifted(float(prompt.start[-1]))])
    assert np.array_equal(encoder.encode(whole), encoder.encode(music(19)))
    tracker = tracker_of(encoder)
    tracker.extend(encoder.encode(prompt))
    assert tracker.given()["likeness"] == 13  # 16 * (1 - 0.8 ** 8), rounded
    path = tmp_path / "out.mid"
    notelstm.write_midi(new, path)
    assert len(notelstm.read_midi(path)) == len(new)
