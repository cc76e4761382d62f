"""Scores of exact cells: the probabilities of all notes that can follow sum to 1."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from notelstm.encoders import LogTimeEncoder
from notelstm.evaluation import nats_per_note, quantize, score_piece
from notelstm.models import NoteLSTM
from notelstm.notes import Notes
from notelstm.protocols import NoteModel
from notelstm.testing.makers import long_piece

SMALL = LogTimeEncoder(cell=0.01, linear=0.02, growth=2.0, longest=0.06, exact=True)
EXACT = LogTimeEncoder(exact=True)
ORDERS = (("step", "pitch"), ("pitch", "step"))


def model_of(encoder: LogTimeEncoder, order: tuple[str, str] = ORDERS[0]) -> NoteLSTM:
    torch.manual_seed(1)
    model = NoteLSTM(
        fields=encoder.fields,
        field_order=(*order, "velocity", "duration"),
        hidden_size=8,
        embedding_dim=4,
        sounding_features=True,
    )
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.mul_(3)
    return model


def history(last_pitch: int) -> Notes:
    piece = long_piece(np.random.default_rng(0), count=25, seconds=5)
    pitch = piece.pitch.copy()
    pitch[-1] = last_pitch
    return quantize(replace(piece, pitch=pitch))


def followed_by(before: Notes, step: int, pitch: int) -> Notes:
    """The notes and one more, `step` cells after the last."""
    start = before.start[-1] + 0.01 * step
    note = Notes(start=[start], end=[start + 0.03], pitch=[pitch], velocity=[60])
    return Notes.merge([before, note])


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("last_pitch", [60, 127])
def test_probabilities_of_all_next_notes_sum_to_one(
    order: tuple[str, str], last_pitch: int
) -> None:
    """By brute force through the front door: every step of the support and every pitch."""
    model, before = model_of(SMALL, order), history(last_pitch)
    total = 0.0
    for step in range(7):
        for pitch in range(last_pitch + 1 if step == 0 else 0, 128):
            score = score_piece(model, SMALL, followed_by(before, step, pitch))
            assert score.notes == 1
            total += math.exp(-score.nats["step"] - score.nats["pitch"])
    assert total == pytest.approx(1, abs=1e-5)


def test_the_same_model_without_the_mask_loses_what_cannot_follow() -> None:
    """The sum is less than 1 if nothing is excluded: the mask is what makes it whole."""

    class Unlimited:
        fields, encode, decode, snapped = SMALL.fields, SMALL.encode, SMALL.decode, SMALL.snapped

    model, before = model_of(SMALL), history(60)
    total = 0.0
    for step in range(7):
        for pitch in range(61 if step == 0 else 0, 128):
            score = score_piece(model, cast(Any, Unlimited()), followed_by(before, step, pitch))
            total += math.exp(-score.nats["step"] - score.nats["pitch"])
    assert total < 0.95


def test_a_score_is_that_of_the_rows_of_the_snapped_notes() -> None:
    """Each step has the class of its cell: nothing is shifted after a class of several cells."""
    model: NoteModel = model_of(EXACT)
    piece = long_piece(np.random.default_rng(2), count=60, seconds=60)
    assert (piece.step > 0.5).sum() > 10
    nats = score_piece(model, EXACT, piece).nats["step"]
    rows = torch.from_numpy(EXACT.encode(quantize(piece)))
    widths = np.diff(EXACT.fields[1].edges) / 0.01
    by_hand = 0.0
    context, state = model.initial_state(1)
    with torch.no_grad():
        cast(nn.Module, model).eval()
        for i, row in enumerate(rows):
            logits = model.predict("step", context, {}).log_weights()
            assert logits is not None
            if i and rows[i - 1, 0] == 127:
                logits[..., 0] = -math.inf
            step = int(row[1])
            if i >= 25:
                by_hand -= float(logits.double().log_softmax(-1)[0, 0, step]) - math.log(
                    widths[step]
                )
            context, state = model.forward(row[None, None], state)
    assert nats == pytest.approx(by_hand, rel=1e-5)


def test_shifted_and_merged_pieces_have_the_score_of_their_snapped_notes() -> None:
    model = model_of(EXACT)
    piece = long_piece(np.random.default_rng(3), count=50, seconds=10)
    twice = Notes.merge([piece, piece])
    assert len(twice) == 100
    alone = nats_per_note(model, EXACT, [piece])
    both = nats_per_note(model, EXACT, [twice])
    assert both.notes == alone.notes == len(EXACT.encode(piece)) - 25
    assert both.total == pytest.approx(alone.total)
