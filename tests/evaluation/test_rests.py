"""Nats per note after rests too long for an encoder, and in units that are not measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import pytest
import torch

from notelstm.encoders import LogTimeEncoder
from notelstm.errors import FieldError
from notelstm.evaluation import quantize, score_piece
from notelstm.fields import Field, Rows
from notelstm.models import NoteLSTM
from notelstm.notes import Notes, TempoMap


def with_a_rest(seconds: float) -> Notes:
    start = np.arange(60) * 0.25
    start[40:] += seconds
    return Notes(start=start, end=start + 0.5, pitch=60 + np.arange(60) % 12)


@pytest.mark.parametrize("encoder", [LogTimeEncoder(), LogTimeEncoder(longest=8.0)], ids=str)
def test_notes_after_a_long_rest_are_scored_where_they_are(encoder: LogTimeEncoder) -> None:
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8)
    short, long = (score_piece(model, encoder, with_a_rest(s)).nats for s in (0.0, 200.0))
    # The rest alone costs more, up to the floor of 28.7 nats.
    assert short["step"] - 1 < long["step"] < short["step"] + 30


@final
@dataclass(frozen=True, kw_only=True)
class InBeats:
    """LogTimeEncoder's rows, with steps that are said to be beats."""

    @property
    def fields(self) -> tuple[Field, ...]:
        pitch, step, duration, velocity = LogTimeEncoder().fields
        return pitch, replace(step, unit="beat"), duration, velocity

    def encode(self, notes: Notes) -> Rows:
        return LogTimeEncoder().encode(notes)

    def decode(self, rows: Rows) -> Notes:
        return LogTimeEncoder().decode(rows)


def test_steps_in_beats_are_not_measured_as_seconds() -> None:
    model = NoteLSTM(fields=InBeats().fields, hidden_size=8)
    with pytest.raises(FieldError, match=r"cannot be scored: step \(step, beat\)"):
        score_piece(model, InBeats(), with_a_rest(0.0))


def test_the_beat_map_stays_on_the_grid() -> None:
    beats = TempoMap(tempos=[90.0])
    assert quantize(Notes(start=[0.004], end=[1], pitch=[60], tempo_map=beats)).tempo_map is beats
