"""Nats per note: by hand, by brute force, and from every side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import DataError, FieldError, counted
from notelstm.evaluation import (
    PieceScore,
    Scores,
    nats_per_note,
    quantize,
    score_piece,
)
from notelstm.evaluation.grid import CELL, GRIDS, cells_of
from notelstm.evaluation.nats import contexts
from notelstm.fields import Field, Rows
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.models.lstm import Hidden, LSTMState
from notelstm.notes import Notes
from notelstm.predictions import Categorical, Normal, PointEstimate, PointToNormal
from notelstm.protocols import Allowed, HasLikelihood, NoteEncoder, NoteModel, Prediction
from notelstm.testing.makers import long_piece
from notelstm.tree import index

SIGMAS = {"step": 0.1, "duration": 0.4}
COARSE = LogTimeEncoder(cell=0.03, linear=0.09, growth=1.5, longest=5.0)


def piece(count: int, seed: int = 0) -> Notes:
    return long_piece(np.random.default_rng(seed), count=count, seconds=count / 5)


def louder(model: NoteModel, by: float) -> NoteModel:
    """A model with distinct predictions: heads of an untrained one are nearly uniform."""
    with torch.no_grad():
        for name, parameter in cast(nn.Module, model).named_parameters():
            if "linear.weight" in name or "heads" in name:
                parameter.mul_(by)
    return model


def three_heads(**options: bool) -> tuple[NoteModel, NoteEncoder]:
    torch.manual_seed(0)
    encoder = StepDurationEncoder()
    return louder(ThreeHeadLSTM(fields=encoder.fields, hidden_size=8, **options), 3), encoder


def chained(encoder: NoteEncoder, **options: Any) -> tuple[NoteModel, NoteEncoder]:
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, **options)
    return louder(model, 3), encoder


MODELS: dict[str, Callable[[], tuple[NoteModel, NoteEncoder]]] = {
    "points": three_heads,
    "softmax, points": lambda: three_heads(sigmoid=False),
    "normals": lambda: three_heads(sigmoid=False, point_estimates=False),
    "chained normals": lambda: chained(StepDurationEncoder()),
    "chained mixtures": lambda: chained(
        StepDurationEncoder(), time_distribution="mixture", sounding_features=True
    ),
    "chained classes": lambda: chained(LogTimeEncoder()),
    "another order": lambda: chained(
        LogTimeEncoder(),
        field_order=("velocity", "duration", "step", "pitch"),
        sounding_features=True,
    ),
    "coarse classes": lambda: chained(COARSE),
}
EVERY_MODEL = pytest.mark.parametrize("name", MODELS)


def all_cells(
    model: NoteModel, encoder: NoteEncoder, notes: Notes, at: int
) -> Iterator[tuple[Field, Tensor]]:
    """Each field's P of every cell, for note `at` after the notes before it."""
    rows = torch.from_numpy(encoder.encode(notes))
    ((_, everything),) = contexts(model, rows)
    decoded = encoder.decode(rows.numpy())
    astray = decoded.start[at - 1] - (notes.start[at - 1] - notes.start[0])
    spread = PointToNormal(sigmas=SIGMAS)
    for field in encoder.fields:
        grid = GRIDS[field.role]
        n = grid.size
        low, high = (torch.from_numpy(b) for b in grid.bounds(np.arange(grid.first, grid.last + 1)))
        if field.role == "step":
            low, high = low - astray, high - astray
        context = index(everything, torch.full((n,), at))
        known = {f.name: rows[at, i].expand(n) for i, f in enumerate(encoder.fields)}
        prediction = spread(field.name, model.predict(field.name, context, known))
        assert isinstance(prediction, HasLikelihood)
        yield field, (1 - 1e-9) * prediction.interval_prob(field, low, high) + 1e-9 / n


@EVERY_MODEL
@torch.no_grad()
def test_probabilities_of_all_cells_sum_to_one_after_random_histories(name: str) -> None:
    model, encoder = MODELS[name]()
    cast(nn.Module, model).eval()
    for seed in range(3):
        notes = quantize(piece(40, seed))
        for at in (26, 39):
            for field, p in all_cells(model, encoder, notes, at):
                assert torch.all(p >= 0), field.name
                assert float(p.sum()) == pytest.approx(1, abs=1e-6), field.name


@EVERY_MODEL
@torch.no_grad()
def test_the_scorer_gives_the_same_probabilities_cell_by_cell(name: str) -> None:
    """One note is scored; it is put in other cells, by hand, through the front door."""
    model, encoder = MODELS[name]()
    notes = quantize(piece(26, seed=5))[:26]
    cells = cells_of(notes)
    wanted = {field.role: p for field, p in all_cells(model, encoder, notes, 25)}

    def scored(**changes: Any) -> PieceScore:
        columns = {n: getattr(notes, n).copy() for n in ("start", "end", "pitch", "velocity")}
        for column, value in changes.items():
            columns[column][25] = value
        return score_piece(model, encoder, Notes(**columns), sigmas=SIGMAS)

    def expect(role: str, cell: int, got: PieceScore) -> None:
        p = float(wanted[role][cell - GRIDS[role].first])  # type: ignore[index]
        assert got.nats[role] == pytest.approx(-math.log(p), abs=1e-4), (role, cell)

    # In a chord the order, and so the history, would change with the pitch.
    assert cells["step"][25] > 0
    for pitch in range(0, 128, 9):
        expect("pitch", pitch, scored(pitch=pitch))
    start, length, before = notes.start[25], notes.duration[25], notes.start[24]
    for cell in (1, 2, 3, 7, 50, 333, 2999, 3000, 4000):
        expect("duration", min(cell, 3000), scored(end=start + cell * CELL))
        onset = before + cell * CELL
        expect("step", min(cell, 3000), scored(start=onset, end=onset + length))
    if "velocity" in wanted:
        for velocity in range(1, 128, 7):
            expect("velocity", velocity // 4, scored(velocity=velocity))


class Table(nn.Module):
    """Predicts the same for every row: for each field, the given logits or value."""

    def __init__(self, encoder: NoteEncoder, says: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.fields = encoder.fields
        self.field_order = tuple(field.name for field in encoder.fields)
        self.says = says or {}

    def initial_state(self, batch_size: int) -> tuple[Hidden, LSTMState]:
        nothing = torch.zeros(batch_size, 1)
        return Hidden(torch.zeros(batch_size, 1, 1)), LSTMState(nothing, nothing)

    def forward(self, rows: Tensor, state: LSTMState) -> tuple[Hidden, LSTMState]:
        return Hidden(rows[..., :1]), state

    def predict(self, field: str, context: Hidden, known: Any) -> Prediction:
        shape = context.hidden.shape[:-1]
        said = self.says.get(field)
        if isinstance(said, tuple):
            mean, sigma = (torch.tensor(float(x)).expand(shape) for x in said)
            return Normal(mean, sigma, torch.zeros(()))
        if isinstance(said, float):
            return PointEstimate(torch.tensor(said).expand(shape))
        classes = {f.name: f.classes for f in self.fields}[field]
        assert classes is not None
        logits = torch.zeros(classes) if said is None else torch.tensor(said)
        return Categorical(logits.expand(*shape, classes))


def table(encoder: NoteEncoder, says: dict[str, Any] | None = None) -> NoteModel:
    return cast(NoteModel, Table(encoder, says))


def phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_a_uniform_model_costs_the_logarithm_of_its_classes() -> None:
    scores = nats_per_note(table(LogTimeEncoder()), LogTimeEncoder(), [piece(60), piece(30)])
    assert scores.notes == 35 + 5
    assert scores.of("pitch") == pytest.approx(math.log(128))
    assert scores.of("velocity") == pytest.approx(math.log(32))
    # One class for each cell: as many nats as there are cells.
    fine = LogTimeEncoder(linear=29.99)
    scores = nats_per_note(table(fine), fine, [piece(60)])
    assert scores.of("step") == pytest.approx(math.log(3001))
    assert scores.of("duration") == pytest.approx(math.log(3000))
    assert scores.total == pytest.approx(math.log(128 * 32 * 3001 * 3000))


def test_a_normal_by_hand() -> None:
    encoder = StepDurationEncoder()
    notes = Notes(
        start=[*np.arange(25) * 0.5, 12.1, 12.1, 13.0],
        end=[*np.arange(25) * 0.5 + 0.3, 12.2, 12.3, 53.0],
        pitch=[*[60] * 25, 60, 61, 62],
    )
    pitch = np.log(np.arange(1.0, 129.0)).astype(np.float32)
    says = {"pitch": pitch.tolist(), "step": (0.2, 0.1), "duration": 0.25}
    score = score_piece(table(encoder, says), encoder, notes, sigmas={"duration": 0.5})
    assert score.notes == 3
    total = 128 * 129 / 2
    assert score.nats["pitch"] == pytest.approx(-sum(math.log(p / total) for p in (61, 62, 63)))
    # The onset before note 25 is 12.0: steps of 0.1, 0 and 0.9 seconds; 0 takes all below.
    steps = [
        phi((0.105 - 0.2) / 0.1) - phi((0.095 - 0.2) / 0.1),
        phi((0.005 - 0.2) / 0.1),
        phi((0.905 - 0.2) / 0.1) - phi((0.895 - 0.2) / 0.1),
    ]
    mixed = [(1 - 1e-9) * p + 1e-9 / 3001 for p in steps]
    assert score.nats["step"] == pytest.approx(-sum(map(math.log, mixed)), rel=1e-5)
    # Durations of 0.1 and 0.2 seconds, and 40, which the last cell takes with all above 29.995.
    durations = [
        phi((0.105 - 0.25) / 0.5) - phi((0.095 - 0.25) / 0.5),
        phi((0.205 - 0.25) / 0.5) - phi((0.195 - 0.25) / 0.5),
        phi(-(29.995 - 0.25) / 0.5),
    ]
    mixed = [(1 - 1e-9) * p + 1e-9 / 3000 for p in durations]
    assert score.nats["duration"] == pytest.approx(-sum(map(math.log, mixed)), rel=1e-5)
    assert Scores(pieces=(score,)).total is None
    assert Scores(pieces=(score,)).pitch_step_duration == pytest.approx(
        sum(score.nats.values()) / 3
    )


def test_a_coarse_class_shares_its_probability_among_its_cells() -> None:
    encoder = LogTimeEncoder(cell=0.01, linear=0.03, growth=2.0, longest=30.0)
    step = encoder.fields[1]
    logits = np.linspace(-1, 1, step.classes or 0).astype(np.float32)
    model = table(encoder, {"step": logits.tolist()})
    start = np.arange(26) * 0.02
    for cell in (0, 2, 3, 4, 7, 100):
        start[25] = start[24] + cell * 0.01
        notes = Notes(start=start, end=start + 1, pitch=np.arange(26))
        got = score_piece(model, encoder, notes).nats["step"]
        k = int(np.searchsorted(step.edges, cell * 0.01, side="right")) - 1
        width = round((step.edges[k + 1] - step.edges[k]) / 0.01)
        wanted = logits[k] - np.log(np.exp(logits.astype(float)).sum()) - np.log(width)
        assert got == pytest.approx(-wanted, abs=1e-5), cell


def test_a_step_starts_at_the_decoded_onset_of_the_note_before() -> None:
    """What rounding left over is known to the model's reader, and is no surprise."""
    encoder = LogTimeEncoder(cell=0.01, linear=0.02, growth=3.0, longest=30.0)
    step = encoder.fields[1]
    notes = quantize(piece(120, seed=3))
    rows = encoder.encode(notes)
    decoded = encoder.decode(rows).start
    true = notes.start - notes.start[0]
    assert np.abs(decoded - true).max() > 0.01
    rng = np.random.default_rng(0)
    logits = rng.normal(size=step.classes or 0).astype(np.float32)
    p = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum()
    edges = np.array(step.edges)
    cdf = np.concatenate([[0], np.cumsum(p)])

    def below(x: float) -> float:
        return float(np.interp(x, edges, cdf))

    total = 0.0
    for i in range(25, len(notes)):
        # The cell of the true onset, seen from the decoded onset of the note before.
        low, high = (true[i] + side - decoded[i - 1] for side in (-0.005, 0.005))
        if round((true[i] - true[i - 1]) / 0.01) == 0:
            low = -math.inf
        mass = below(high) - below(low)
        total -= math.log((1 - 1e-9) * mass + 1e-9 / 3001)
    got = score_piece(table(encoder, {"step": logits.tolist()}), encoder, notes).nats["step"]
    assert got == pytest.approx(total, rel=1e-6)


def test_events_by_hand() -> None:
    encoder = PerformanceEventEncoder()
    start = np.arange(28) * 0.1
    notes = Notes(start=start, end=start + 0.05, pitch=np.arange(28) + 40, velocity=64)
    rows = encoder.encode(quantize(notes))[:, 0].astype(int)
    logits = np.random.default_rng(0).normal(size=388).astype(np.float32)
    nll = np.log(np.exp(logits.astype(float)).sum()) - logits
    after = int(np.flatnonzero(rows < 128)[24]) + 1
    score = score_piece(table(encoder, {"event": logits.tolist()}), encoder, notes)
    assert score.notes == 3
    # From the wait after note 24 on: note-offs, waits and note-ons, 4 of each 3 and the last off.
    assert len(rows[after:]) == 2 + 3 * 4
    assert score.nats == {"event": pytest.approx(nll[rows[after:]].sum(), rel=1e-6)}
    scores = Scores(pieces=(score,))
    assert scores.total == pytest.approx(nll[rows[after:]].sum() / 3, rel=1e-6)
    assert scores.pitch_step_duration is None
    assert scores.to_json() == {
        "pitch": None,
        "step": None,
        "duration": None,
        "velocity": None,
        "pitch_step_duration": None,
        "instrument": None,
        "total": scores.total,
        "without_instrument": scores.total,
        "notes": 3,
        "merged": 0,
    }


def test_events_and_notes_are_counted_by_the_same_arithmetic() -> None:
    """Uniform models: as many nats as choices, times rows, over the same notes."""
    pieces = [quantize(piece(n, seed)) for seed, n in enumerate((30, 60, 26))]
    event = PerformanceEventEncoder()
    by_event = nats_per_note(table(event), event, pieces)
    by_note = nats_per_note(table(LogTimeEncoder()), LogTimeEncoder(), pieces)
    assert by_event.notes == by_note.notes == 5 + 35 + 1
    rows = 0
    for notes in pieces:
        ids = event.encode(notes)[:, 0]
        rows += len(ids) - (int(np.flatnonzero(ids < 128)[24]) + 1)
    assert by_event.total == pytest.approx(rows * math.log(388) / by_event.notes)


@EVERY_MODEL
def test_windowed_and_carried_are_scored_as_they_generate(name: str) -> None:
    model, encoder = MODELS[name]()
    notes = piece(60)
    carried = score_piece(model, encoder, notes, sigmas=SIGMAS)
    # A window longer than the piece is the whole piece.
    whole = score_piece(cast(NoteModel, Windowed(model, 100)), encoder, notes, sigmas=SIGMAS)
    for role, nats in carried.nats.items():
        assert whole.nats[role] == pytest.approx(nats, rel=1e-5)
    short = score_piece(cast(NoteModel, Windowed(model, 2)), encoder, notes, sigmas=SIGMAS)
    assert short.nats["pitch"] != pytest.approx(carried.nats["pitch"], rel=1e-5)
    # By hand: each row from the two before it, alone.
    snapped = quantize(notes)
    rows = torch.from_numpy(encoder.encode(snapped))
    total = 0.0
    with torch.no_grad():
        cast(nn.Module, model).eval()
        for i in range(25, len(rows)):
            context, _ = model.forward(rows[None, i - 2 : i], model.initial_state(1)[1])
            last = index(context, (0, slice(-1, None)))
            known = {f.name: rows[i : i + 1, k] for k, f in enumerate(encoder.fields)}
            prediction = model.predict("pitch", last, known)
            assert isinstance(prediction, Categorical)
            total += float(prediction.nll(known["pitch"]))
    assert short.nats["pitch"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("name", ["points", "chained classes"])
def test_chunks_do_not_change_scores(
    name: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = MODELS[name]()
    if window is not None:
        model = cast(NoteModel, Windowed(model, window))
    notes = piece(1100)
    plain = score_piece(model, encoder, notes, sigmas=SIGMAS)
    assert plain.notes == len(notes) - 25 > 1024
    from notelstm.evaluation import nats as module

    for size in (7, 100_000):
        monkeypatch.setattr(module, "_CHUNK", size)
        other = score_piece(model, encoder, notes, sigmas=SIGMAS)
        for role, nats in plain.nats.items():
            assert other.nats[role] == pytest.approx(nats, rel=1e-6)


def test_every_note_from_index_25_on_counts_and_none_before() -> None:
    encoder = LogTimeEncoder()
    logits = [0.0] * 128
    logits[100] = -50.0
    model = table(encoder, {"pitch": logits})
    start = np.arange(40) * 0.1
    for at in (0, 24, 25, 26, 39):
        pitch = np.full(40, 60)
        pitch[at] = 100
        notes = Notes(start=start, end=start + 0.05, pitch=pitch)
        # What is all but impossible costs what the floor of 1e-9 / 128 leaves it.
        rare = math.log(128e9) if at >= 25 else math.log(127)
        wanted = 14 * math.log(127) + rare
        assert score_piece(model, encoder, notes).nats["pitch"] == pytest.approx(wanted, abs=1e-3)


def test_pieces_without_a_scored_note_are_skipped() -> None:
    encoder = LogTimeEncoder()
    model = table(encoder)
    scores = nats_per_note(model, encoder, [piece(25), piece(26), Notes.empty()])
    assert [score.notes for score in scores.pieces] == [1]
    for pieces in ([], [piece(25), piece(3)]):
        with pytest.raises(
            DataError, match=f"scored: {counted(len(pieces), 'piece')} of 25 notes or fewer"
        ):
            nats_per_note(model, encoder, pieces)
    with pytest.raises(DataError, match="too short to be scored: 25 notes"):
        score_piece(model, encoder, piece(25))


def test_a_piece_whose_notes_an_encoder_merges() -> None:
    """Of several notes of one pitch in one cell, events keep one: nothing is left to score."""
    start = np.concatenate([np.arange(20) * 0.1, np.full(10, 2.0)])
    notes = Notes(start=start, end=start + 0.05, pitch=60)
    encoder = PerformanceEventEncoder()
    assert score_piece(table(encoder), encoder, notes).notes == 0
    scores = nats_per_note(table(encoder), encoder, [notes, piece(30)])
    assert [score.notes for score in scores.pieces] == [5]
    with pytest.raises(DataError, match="more than 25 notes"):
        nats_per_note(table(encoder), encoder, [notes])


def test_a_piece_whose_merged_notes_are_fewer_than_those_before_the_score() -> None:
    encoder = LogTimeEncoder(exact=True)
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8)
    together = Notes(start=np.zeros(30), end=np.ones(30), pitch=60)
    alone = score_piece(model, encoder, together)
    assert (alone.notes, alone.seconds, alone.merged) == (0, 0.0, 29)
    scores = nats_per_note(model, encoder, [together, piece(30)])
    assert [score.name for score in scores.pieces] == ["1"]


def test_pieces_are_quantized_first() -> None:
    model, encoder = MODELS["chained classes"]()
    notes = piece(50)
    rng = np.random.default_rng(0)
    off = rng.uniform(-0.004, 0.004, size=len(notes))
    snapped = quantize(notes)
    moved = Notes(
        start=np.maximum(0, snapped.start + off),
        end=snapped.end + off,
        pitch=snapped.pitch,
        velocity=snapped.velocity,
    )
    assert score_piece(model, encoder, moved) == score_piece(model, encoder, notes)
    # A chord is read from the lowest pitch up, in any stored order.
    chord = Notes(start=[0.001, 0.0], end=[1.0, 1.0], pitch=[60, 64])
    assert quantize(chord).pitch.tolist() == [60, 64]
    assert quantize(chord).start.tolist() == [0.0, 0.0]
    assert quantize(Notes(start=[0.5], end=[0.5], pitch=[60])).end.tolist() == [0.51]


def test_scores_add_up_over_pieces() -> None:
    def score(notes: int, **nats: float) -> PieceScore:
        return PieceScore(notes=notes, nats=nats)

    scores = Scores(
        pieces=(
            score(10, pitch=20, step=10, duration=10, velocity=5),
            score(30, pitch=20, step=30, duration=10, velocity=5),
        )
    )
    assert scores.notes == 40
    assert scores.to_json() == {
        "pitch": 1.0,
        "step": 1.0,
        "duration": 0.5,
        "velocity": 0.25,
        "pitch_step_duration": 2.5,
        "instrument": None,
        "total": 2.75,
        "without_instrument": 2.75,
        "notes": 40,
        "merged": 0,
    }


def test_a_point_needs_a_sigma() -> None:
    model, encoder = MODELS["points"]()
    with pytest.raises(FieldError, match=r"field 'step' have no sigma.*fit_sigmas"):
        score_piece(model, encoder, piece(30))
    with pytest.raises(FieldError, match="field 'duration' have no sigma"):
        score_piece(model, encoder, piece(30), sigmas={"step": 1.0})


@dataclass(frozen=True, kw_only=True)
class WithTempo:
    """An encoder with a field that the measure does not support."""

    @property
    def fields(self) -> tuple[Field, ...]:
        tempo = Field.categorical("tempo", "tempo", values=(60, 120))
        return (*StepDurationEncoder().fields[:1], tempo)

    def encode(self, notes: Notes) -> Rows:
        return np.stack([notes.pitch, notes.pitch * 0], axis=1).astype(np.float32)

    def decode(self, rows: Rows) -> Notes:
        raise NotImplementedError


def test_fields_and_predictions_that_cannot_be_scored_are_rejected() -> None:
    encoder = WithTempo()
    with pytest.raises(FieldError, match="cannot be scored: tempo"):
        score_piece(table(encoder), encoder, piece(30))

    class WithoutLikelihood(Prediction):
        def sample(self, noise: Tensor) -> Tensor:
            return noise[..., 0].long()

        def mode(self) -> Tensor:
            return torch.zeros(1)

        def constrained(self, allowed: Allowed) -> Self:
            return self

        def with_temperature(self, temperature: float) -> Self:
            return self

        def log_weights(self) -> Tensor:
            return torch.zeros(1, 128)

    class Silent(Table):
        def predict(self, field: str, context: Hidden, known: Any) -> Prediction:
            return WithoutLikelihood()

    plain = LogTimeEncoder()
    with pytest.raises(
        FieldError, match=r"WithoutLikelihood has no likelihood to score \(field 'pitch'\)"
    ):
        score_piece(cast(NoteModel, Silent(plain)), plain, piece(30))


def test_a_diverged_model_is_an_error() -> None:
    encoder = LogTimeEncoder()
    with pytest.raises(DataError, match=r"is nan.*diverged"):
        score_piece(table(encoder, {"pitch": [math.nan] * 128}), encoder, piece(30))


@EVERY_MODEL
@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_model_as_it_was(name: str, training: bool) -> None:
    model, encoder = MODELS[name]()
    module = cast(nn.Module, model)
    module.train(training)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    player = cast(NoteModel, Windowed(model, 4))
    assert score_piece(player, encoder, piece(40), sigmas=SIGMAS) == score_piece(
        player, encoder, piece(40), sigmas=SIGMAS
    )
    assert all(part.training == training for part in module.modules())
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())


def test_dropout_is_off_while_scoring() -> None:
    encoder = LogTimeEncoder()
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4, dropout=0.5).train()
    first = score_piece(model, encoder, piece(40))
    assert first == score_piece(model, encoder, piece(40))
