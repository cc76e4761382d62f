"""Scores of notes with instruments: sums by brute force, parts apart, and models side by side."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from notelstm.bundle import Bundle
from notelstm.cli.evaluate import _report_lines
from notelstm.encoders import LogTimeEncoder
from notelstm.encoders.rows import snapped
from notelstm.errors import DataError
from notelstm.evaluation import (
    RepeatLast,
    Uniform,
    Unigram,
    compare,
    evaluate,
    fit_ngrams,
    fit_unigram,
    nats_per_note,
    quantize,
    score_baseline,
    score_piece,
    score_together,
)
from notelstm.evaluation.baselines import _CLASSES, NOVELTY, Baseline
from notelstm.evaluation.grid import GRIDS, places_of
from notelstm.fields import Role
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.parts import Part, PartMap
from notelstm.protocols import NoteEncoder
from notelstm.sampling import Ancestral
from notelstm.testing.makers import long_piece

BAND = PartMap(
    by="family",
    parts=(Part(name="Piano"), Part(name="Bass", program=32), Part(name="Drums", drum=True)),
)
DUO = PartMap(parts=(Part(name="Piano"), Part(name="Drums", drum=True)))
ENSEMBLE = LogTimeEncoder(exact=True, parts=BAND)
PLAIN = LogTimeEncoder(exact=True)
SMALL = LogTimeEncoder(cell=0.01, linear=0.01, growth=2.0, longest=0.02, exact=True, parts=DUO)
SONG_ORDER = ("step", "instrument", "pitch", "velocity", "duration")
ORDERS = (
    SONG_ORDER,
    ("instrument", "step", "pitch", "velocity", "duration"),
    ("velocity", "step", "pitch", "duration", "instrument"),
)
ROLES: tuple[Role, ...] = ("instrument", "pitch", "step", "duration", "velocity")


def song(count: int = 90, seed: int = 0) -> Notes:
    """A piece of piano, bass and drums, in which pitches are doubled."""
    piece = long_piece(np.random.default_rng(seed), count=count, seconds=count / 6)
    which = np.random.default_rng(seed + 1).integers(0, 3, count)[: len(piece)]
    band = replace(piece, program=np.where(which == 1, 33, 0), drum=which == 2)
    return Notes.merge([band, replace(piece[::7], program=np.full(len(piece[::7]), 32))])


def model_of(encoder: NoteEncoder, order: tuple[str, ...] | None = None) -> NoteLSTM:
    torch.manual_seed(1)
    model = NoteLSTM(
        fields=encoder.fields,
        field_order=order,
        hidden_size=8,
        embedding_dim=4,
        sounding_features=True,
    )
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.mul_(3)
    return model


def bundle_of(encoder: NoteEncoder) -> Bundle:
    unigram = fit_unigram(TRAINING, encoder=encoder).to_json()
    return Bundle(model=model_of(encoder), encoder=encoder, sampler=Ancestral(), unigram=unigram)


TRAINING = [song(300, 7), Notes.empty(), song(200, 8), song(4, 9)]
PIECES = [song(60 + k, k) for k in range(3)]


@pytest.mark.parametrize(
    ("order", "last_part"), [*((order, 0) for order in ORDERS), (ORDERS[1], 1)]
)
def test_probabilities_of_all_next_notes_sum_to_one(order: tuple[str, ...], last_part: int) -> None:
    """By brute force through the front door: every step, instrument and pitch.

    The note without its instrument costs what the sum of its probabilities with each instrument
    costs.
    """
    model = model_of(SMALL, order)
    before = quantize(long_piece(np.random.default_rng(0), count=25, seconds=5))
    last = int(before.pitch[-1])
    start = before.start[-1]
    before = replace(
        before,
        program=np.zeros(25, dtype=np.int64),
        drum=np.arange(25) == (24 if last_part else 12),
    )
    total = 0.0
    joint: dict[tuple[int, int], list[float]] = {}
    alone: dict[tuple[int, int], list[float]] = {}
    for step, part, pitch in product(range(3), range(2), range(128)):
        if step == 0 and (part, pitch) <= (last_part, last):
            continue
        at = start + 0.01 * step
        note = Notes(start=[at], end=[at + 0.02], pitch=[pitch], velocity=[60], drum=[part == 1])
        score = score_piece(model, SMALL, Notes.merge([before, note]))
        assert score.notes == 1
        total += math.exp(-sum(score.nats[role] for role in ("step", "instrument", "pitch")))
        joint.setdefault((step, pitch), []).append(math.exp(-(score.of("total") or 0)))
        alone.setdefault((step, pitch), []).append(score.of("without_instrument") or 0)
    assert total == pytest.approx(1, abs=1e-5)
    for key, sums in joint.items():
        assert alone[key] == pytest.approx([-math.log(sum(sums))] * len(sums), abs=1e-6), key


def test_the_cost_of_an_instrument_is_that_of_its_class() -> None:
    model, piece = model_of(ENSEMBLE, SONG_ORDER), song()
    score = score_piece(model, ENSEMBLE, piece)
    rows = torch.from_numpy(ENSEMBLE.encode(quantize(piece)))
    by_hand, count = np.zeros(3), np.zeros(3, dtype=int)
    with torch.no_grad():
        model.eval()
        context, state = model.initial_state(1)
        for i, row in enumerate(rows):
            step, part = row[1].view(1, 1), int(row[4])
            logits = model.predict("instrument", context, {"step": step}).log_weights()
            assert logits is not None
            if i >= 25:
                # In a cell, parts ascend; the last pitch of a part can only be followed by others.
                if step == 0:
                    logits[..., : int(rows[i - 1, 4]) + (int(rows[i - 1, 0]) == 127)] = -math.inf
                by_hand[part] -= float(logits.double().log_softmax(-1)[0, 0, part])
                count[part] += 1
            context, state = model.forward(row[None, None], state)
    assert score.nats["instrument"] == pytest.approx(by_hand.sum(), rel=1e-5)
    assert score.notes == count.sum()
    assert list(score.parts) == ["Piano", "Bass", "Drums"]
    assert [part.notes for part in score.parts.values()] == count.tolist()
    got = [part.nats["instrument"] for part in score.parts.values()]
    assert got == pytest.approx(by_hand.tolist(), rel=1e-5)
    for role, nats in score.nats.items():
        assert sum(part.nats[role] for part in score.parts.values()) == pytest.approx(nats), role


def test_totals_add_the_instrument_and_lie_on_both_sides_of_the_one_without_it() -> None:
    score = score_piece(model_of(ENSEMBLE, SONG_ORDER), ENSEMBLE, song())
    fields = ("pitch", "step", "duration", "velocity")
    rest = sum(score.nats[role] for role in fields)
    assert score.of("total") == pytest.approx(rest + score.nats["instrument"])
    assert score.of("pitch_step_duration") == pytest.approx(rest - score.nats["velocity"])
    without = score.of("without_instrument")
    assert without is not None
    assert without < (score.of("total") or 0)
    plain = score_piece(model_of(PLAIN), PLAIN, song())
    assert plain.of("without_instrument") == plain.of("total")
    assert plain.of("instrument") is None
    assert not plain.parts


def test_an_encoder_that_merges_doubled_notes_says_so(caplog: pytest.LogCaptureFixture) -> None:
    piece = song()
    doubled = len(quantize(piece)) - len(snapped(PLAIN, piece))
    assert doubled > 5
    plain = nats_per_note(model_of(PLAIN), PLAIN, [piece])
    assert (plain.merged, plain.notes) == (doubled, len(piece) - doubled - 25)
    assert plain.to_json()["merged"] == plain.pieces[0].to_json()["merged"] == doubled
    assert "does not encode instruments: in 1 of 1 pieces" in caplog.text
    assert f"{doubled} notes that repeat a pitch within a cell, merged" in caplog.text
    merged = len(quantize(piece)) - len(snapped(ENSEMBLE, piece))
    assert merged < doubled
    assert nats_per_note(model_of(ENSEMBLE), ENSEMBLE, [piece]).merged == merged


def test_models_with_and_without_instruments_on_the_same_notes() -> None:
    models = {"with": bundle_of(ENSEMBLE), "without": bundle_of(PLAIN)}
    together = score_together(models, PIECES, names=["a", "b", "c"])
    kept = [snapped(PLAIN, quantize(piece)) for piece in PIECES]
    assert together.notes == sum(map(len, PIECES))
    assert together.merged == together.notes - sum(map(len, kept)) > 10
    one, other = together.scores.values()
    assert [p.notes for p in one.pieces] == [p.notes for p in other.pieces]
    assert (one.merged, other.merged) == (0, 0)
    found = compare(one, other)
    assert found.notes == (one.notes, other.notes)
    assert found.to_json()["notes"] == [one.notes, other.notes]
    a, b = one.of("without_instrument"), other.total
    assert found.differences["without_instrument"].value == pytest.approx((a or 0) - (b or 0))
    header, _, first, second, _, left = together.table().splitlines()
    assert [cell.strip() for cell in header.split("|")[1:-1]][6:] == [
        "instrument",
        "total",
        "without instrument",
        "notes",
    ]
    assert f"{a:.3f}" in first
    assert second.count(f"{b:.3f}") == 2
    assert left == f"Left out: {together.merged:,} of {together.notes:,} notes, merged."


NGRAMS = fit_ngrams(TRAINING, encoder=ENSEMBLE)
BASELINES: dict[str, Baseline] = {
    "uniform": Uniform(num_parts=3),
    "unigram": NGRAMS.unigram,
    "repeat-last": RepeatLast(unigram=NGRAMS.unigram),
    "4-gram": NGRAMS,
}


def training_places() -> list[dict[Role, list[int]]]:
    kept = [snapped(ENSEMBLE, quantize(notes)) for notes in TRAINING]
    return [{r: at.tolist() for r, at in places_of(n, BAND).items()} for n in kept]


@pytest.mark.parametrize("name", BASELINES)
def test_the_cells_of_a_baseline_sum_to_one_for_each_instrument(name: str) -> None:
    seen = places_of(snapped(ENSEMBLE, quantize(TRAINING[0])), BAND)
    roles: tuple[Role, ...] = ("instrument", "pitch", "velocity")
    for role in roles:
        size = GRIDS[role].size if role in GRIDS else 3
        for first, part in ((0, 0), (50, 1), (120, 2)):
            p = []
            for cell in range(size):
                places = {r: at[first : first + 5].copy() for r, at in seen.items()}
                places["instrument"][-1] = part
                places[role][-1] = cell
                p.append(BASELINES[name].probabilities(places)[role][-1])
            assert sum(p) == pytest.approx(1, abs=1e-9), (role, part)


@pytest.mark.parametrize("role", ROLES)
def test_n_grams_with_instruments_are_those_of_the_definition(role: Role) -> None:
    """Interpolated from the unigram of all notes to three notes before, within a part."""
    played = training_places()
    at = {r: np.array(column[:40]) for r, column in played[2].items()}
    got = NGRAMS.probabilities(at)[role]
    size = GRIDS[role].size if role in GRIDS else 3
    for i in (0, 1, 3, 20, 39):
        contexts = [Counter[int]() for _ in range(6)]  # of all, of the part, then 0 to 3 before
        own = at["instrument"][i]
        for piece in played:
            for j, cell in enumerate(piece[role]):
                contexts[0][cell] += 1
                if role != "instrument" and piece["instrument"][j] != own:
                    continue
                contexts[1][cell] += role != "instrument"
                for depth in range(1, min(i, j, 3) + 1):
                    a, b = piece[role][j - depth : j], at[role][i - depth : i]
                    classes = _CLASSES.get(role, np.arange(3))
                    if classes[a].tolist() == classes[b].tolist():
                        contexts[1 + depth][cell] += 1
        p = 1 / size
        for counts in contexts:
            if counts.total():
                weight = NOVELTY * sum(count > 0 for count in counts.values())
                p = (counts[int(at[role][i])] + weight * p) / (counts.total() + weight)
        assert got[i] == pytest.approx(p, rel=1e-9), i


def test_baselines_are_scored_on_the_notes_of_the_model_in_their_order() -> None:
    model = bundle_of(ENSEMBLE)
    report = evaluate(model, PIECES, names=["a", "b", "c"], training=TRAINING)
    assert list(report.baselines) == ["uniform", "unigram", "repeat-last", "bigram", "4-gram"]
    for scores in report.baselines.values():
        assert [p.notes for p in scores.pieces] == [p.notes for p in report.model.pieces]
        assert [p.merged for p in scores.pieces] == [p.merged for p in report.model.pieces]
    uniform = report.baselines["uniform"]
    assert uniform.of("instrument") == pytest.approx(math.log(3))
    assert uniform.total == pytest.approx(math.log(3 * 128 * 3001 * 3000 * 32))
    made = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert made["parts"].keys() == {"Piano", "Bass", "Drums"}
    drums = report.model.parts["Drums"]
    figures = drums.to_json()
    del figures["merged"]  # which part a merged note had is not counted
    assert made["parts"]["Drums"] == figures
    assert made["parts"]["Drums"]["pitch"] == pytest.approx(drums.of("pitch"))
    assert sum(part["notes"] for part in made["parts"].values()) == made["notes"]
    assert made["instrument"] > 0
    assert set(made["baselines"]["4-gram"]["difference"]["differences"]) == {
        "pitch",
        "step",
        "duration",
        "pitch_step_duration",
        "velocity",
        "instrument",
        "total",
    }


def test_the_report_in_lines_has_instruments_only_where_there_are_some() -> None:
    lines = _report_lines(evaluate(bundle_of(ENSEMBLE), PIECES, training=TRAINING))
    names = [line.split()[0] for line in lines if line]
    assert [names.count(n) for n in ("instrument", "without_instrument", "Drums")] == [1, 1, 1]
    assert any(line.startswith("merged by the encoder, and not scored: ") for line in lines)
    plain = [replace(p[p.program == 0], program=None, drum=None) for p in PIECES]  # type: ignore[index]
    lines = _report_lines(evaluate(bundle_of(PLAIN), plain))
    assert not any("instrument" in line or "merged" in line for line in lines)


def test_the_order_and_the_instruments_are_worth_something_to_n_grams() -> None:
    """Each part has its own pitch: the instrument of the note says which."""
    start = np.repeat(np.arange(60) * 0.25, 3)
    part = np.tile(np.arange(3), 60)
    notes = Notes(
        start=start,
        end=start + 0.1,
        pitch=np.array([72, 36, 40])[part],
        program=np.array([0, 32, 0])[part],
        drum=part == 2,
    )
    scores = score_baseline(fit_ngrams([notes], encoder=ENSEMBLE), [notes], encoder=ENSEMBLE)
    assert (scores.of("pitch") or 0) < 0.3
    assert (scores.of("instrument") or 0) < 0.5
    blind = score_baseline(fit_unigram([notes]), [notes])
    assert (blind.of("pitch") or 0) > 1


def test_counts_of_instruments_come_back_from_json() -> None:
    before = fit_unigram(TRAINING, encoder=ENSEMBLE)
    stored = json.loads(json.dumps(before.to_json()))
    after = Unigram.from_json(stored)
    places = places_of(snapped(ENSEMBLE, quantize(PIECES[0])), BAND)
    for role, p in before.probabilities(places).items():
        assert np.array_equal(after.probabilities(places)[role], p)
    assert after.repeats == before.repeats
    damages: tuple[dict[str, object], ...] = (
        {"by_part": {}},
        {"by_part": {**stored["by_part"], "pitch": {"codes": [1, 0], "counts": [1, 1]}}},
        {"by_part": {**stored["by_part"], "pitch": {"codes": [1], "counts": [0]}}},
        {"by_part": {**stored["by_part"], "pitch": {"codes": [1], "counts": [1, 1]}}},
        {"repeats": dict.fromkeys(GRIDS, 1)},
    )
    for damage in damages:
        with pytest.raises(DataError, match="stored unigram is damaged"):
            Unigram.from_json({**stored, **damage})
    with pytest.raises(DataError, match="no counts of the role instrument"):
        score_baseline(fit_unigram(TRAINING), PIECES, encoder=ENSEMBLE)


def test_refused_training_pieces_are_left_out_of_the_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    strict = replace(ENSEMBLE, parts=replace(BAND, unknown="refuse"))
    strange = replace(TRAINING[0], program=np.full(len(TRAINING[0]), 100))
    counted = fit_ngrams([*TRAINING, strange], encoder=strict)
    assert counted.unigram.to_json() == NGRAMS.unigram.to_json()
    assert "left out: 1 piece that the encoder rejects" in caplog.text


def test_parts_of_one_name_are_told_apart() -> None:
    twins = PartMap(parts=(Part(name="Piano"), Part(name="Piano", program=1)))
    piece = song(80)
    piece = replace(piece, program=np.arange(len(piece)) % 2, drum=None)
    encoder = replace(ENSEMBLE, parts=twins)
    score = score_piece(model_of(encoder), encoder, piece)
    assert list(score.parts) == ["Piano (0)", "Piano (1)"]
