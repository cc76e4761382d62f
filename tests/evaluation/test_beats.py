"""Nats per note of an encoder whose times are beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from notelstm.encoders import BeatEncoder
from notelstm.evaluation import nats_per_note, quantize, score_piece
from notelstm.evaluation.grid import CELL, GRIDS, cells_of
from notelstm.evaluation.nats import MeasuredEncoder, contexts
from notelstm.fields import Bounds, Role
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap
from notelstm.protocols import HasLikelihood, NoteModel
from notelstm.testing.makers import long_piece
from notelstm.tree import index

ENCODER = BeatEncoder()
BEATS = TempoMap(
    seconds=[0, 2.2, 3.1],
    tempos=[60, 97, 131],
    time_signature_beats=[1, 7],
    numerators=[3, 6],
    denominators=[4, 8],
)
ORDERS = pytest.mark.parametrize(
    "order",
    [None, ("position", "tempo", "time_signature", "duration", "velocity", "step", "pitch")],
    ids=["as the columns are", "position first"],
)


def piece(count: int, seed: int = 0) -> Notes:
    notes = long_piece(np.random.default_rng(seed), count=count, seconds=count / 5)
    return replace(notes, tempo_map=BEATS)


def chained(order: Sequence[str] | None = None) -> NoteModel:
    torch.manual_seed(0)
    model = NoteLSTM(fields=ENCODER.fields, hidden_size=8, embedding_dim=4, field_order=order)
    with torch.no_grad():
        for name, parameter in cast(nn.Module, model).named_parameters():
            if "linear.weight" in name or "heads" in name:
                parameter.mul_(3)
    return model


def everywhere(notes: Notes, role: Role, at: int) -> tuple[Tensor, Tensor]:
    """For note `at`, the interval of every cell of the grid in turn."""
    grid, rows, told = GRIDS[role], ENCODER.encode(notes), []
    own = {r: g.bounds(cells_of(notes)[r]) for r, g in GRIDS.items()}
    for cell in range(grid.first, grid.last + 1):
        cells: dict[Role, Bounds] = {**own, role: grid.bounds(np.full(len(notes), cell))}
        low, high = ENCODER.bounds(notes, rows, cells)[role]
        told.append((low[at], high[at]))
    low_high = torch.tensor(told, dtype=torch.float64)
    return low_high[:, 0], low_high[:, 1]


def probabilities(model: NoteModel, notes: Notes, role: Role, at: int) -> Tensor:
    """P of every cell of a role (of every class where it has no cells) for note `at`."""
    rows = torch.from_numpy(ENCODER.encode(notes))
    ((_, everything),) = contexts(model, rows)
    (field,) = (field for field in ENCODER.fields if field.role == role)
    if role in GRIDS:
        low, high = everywhere(notes, role, at)
    else:
        edges = torch.tensor(field.edges, dtype=torch.float64)
        low, high = edges[:-1], edges[1:]
    n = len(low)
    known = {f.name: rows[at, i].long().expand(n) for i, f in enumerate(ENCODER.fields)}
    context = index(everything, torch.full((n,), at))
    prediction = model.predict(field.name, context, known)
    assert isinstance(prediction, HasLikelihood)
    return (1 - 1e-9) * prediction.interval_prob(field, low, high) + 1e-9 / n


@ORDERS
@torch.no_grad()
def test_probabilities_of_all_cells_sum_to_one_after_random_histories(
    order: Sequence[str] | None,
) -> None:
    model = chained(order)
    cast(nn.Module, model).eval()
    for seed in range(2):
        notes = quantize(piece(40, seed))
        for at in (26, 39):
            for field in ENCODER.fields:
                p = probabilities(model, notes, field.role, at)
                assert torch.all(p >= 0), field.name
                assert float(p.sum()) == pytest.approx(1, abs=1e-6), field.name


@ORDERS
@torch.no_grad()
def test_the_scorer_gives_the_same_probabilities(order: Sequence[str] | None) -> None:
    """One note is scored; it is put in other cells, by hand, through the front door."""
    model = chained(order)
    cast(nn.Module, model).eval()
    notes = quantize(piece(26, seed=5))
    cells = cells_of(notes)
    assert cells["step"][25] > 0
    for step, duration in ((cells["step"][25], 7), (3, 1), (40, 333), (700, 60)):
        columns = {name: getattr(notes, name).copy() for name in ("start", "end")}
        columns["start"][25] = notes.start[24] + step * CELL
        columns["end"][25] = columns["start"][25] + duration * CELL
        moved = replace(notes, **columns)
        rows = ENCODER.encode(quantize(moved))
        got = score_piece(model, ENCODER, moved).nats

        def p(role: Role, cell: int, here: Notes = moved) -> float:
            first = GRIDS[role].first if role in GRIDS else 0
            return float(probabilities(model, quantize(here), role, 25)[cell - first])

        when = [p("step", step)]
        others: tuple[tuple[int, Role], ...] = (
            (0, "time_signature"),
            (2, "position"),
            (3, "tempo"),
        )
        when += [p(r, int(rows[25, k])) for k, r in others]
        assert got["step"] == pytest.approx(-sum(map(math.log, when)), rel=1e-5)
        assert got["duration"] == pytest.approx(-math.log(p("duration", duration)), rel=1e-5)
        assert got.keys() == {"pitch", "step", "duration", "velocity"}


class Uniform(nn.Module):
    """Uniform over all classes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = NoteLSTM(fields=ENCODER.fields, hidden_size=2, embedding_dim=1)
        self.fields, self.field_order = self.inner.fields, self.inner.field_order
        self.initial_state, self.forward = self.inner.initial_state, self.inner.forward
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.predict = self.inner.predict


def test_the_cost_of_a_guess_by_hand() -> None:
    """At 120 a minute a cell of 10 ms is 0.02 beats, 0.24 of a class."""
    start = np.arange(30) * 0.5
    notes = Notes(start=start, end=start + 0.25, pitch=60, tempo_map=TempoMap(tempos=[120]))
    scores = nats_per_note(cast(NoteModel, Uniform()), ENCODER, [notes])
    sizes = {field.role: math.log(field.classes or 0) for field in ENCODER.fields}
    share = -math.log(0.24)
    assert scores.notes == 5
    assert scores.of("duration") == pytest.approx(sizes["duration"] + share, abs=1e-5)
    when = sizes["step"] + sizes["time_signature"] + sizes["position"] + sizes["tempo"]
    assert scores.of("step") == pytest.approx(when + share, abs=1e-5)
    assert scores.total == pytest.approx(sum(sizes.values()) + 2 * share, abs=1e-5)


@pytest.mark.parametrize("tempos", [(60.0, 120.0, 30.0), (120.0,)], ids=["changing", "one tempo"])
def test_a_step_is_counted_from_the_cell_of_the_note_before_at_its_tempo(
    tempos: tuple[float, ...],
) -> None:
    """The middle of a note's own cell lies as far from its class as the note from its beat."""
    rng = np.random.default_rng(0)
    at = np.append(0, np.cumsum(rng.integers(0, 5, size=60))) / 2
    knots = np.unique(at)
    tempo = np.resize(tempos, len(knots))
    seconds = np.append(0.0, np.cumsum(np.diff(knots) * 60 / tempo[:-1]))
    beats = TempoMap(seconds=seconds, tempos=tempo)
    start = beats.seconds_at(at)
    if len(tempos) == 1:
        start = np.sort(start + rng.uniform(0, 0.2, size=61))
    notes = quantize(Notes(start=start, end=start + 0.2, pitch=60, tempo_map=beats))
    rows = ENCODER.encode(notes)
    assert np.unique(rows[:, 3]).size == len(tempos)
    bounds = ENCODER.bounds(
        notes, rows, {r: g.bounds(cells_of(notes)[r]) for r, g in GRIDS.items()}
    )
    off = beats.beats_at(notes.start) * 12
    off = (off - np.rint(off)) / 12
    steps, lengths = (np.array(ENCODER.fields[k].values)[rows[:, k].astype(int)] for k in (1, 5))
    low, high = bounds["step"]
    later = notes.step > 0
    assert np.allclose(((low + high) / 2 - steps)[later], off[later])
    assert np.all(np.isinf(low[~later]))
    low, high = bounds["duration"]
    assert np.all(np.abs((low + high) / 2 - lengths) <= 1 / 24 + 1e-9)
    assert isinstance(ENCODER, MeasuredEncoder)
