"""Models with fields of any name and sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from notelstm.batch import columns
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.errors import FieldError
from notelstm.fields import Field
from notelstm.models import NoteLSTM
from notelstm.predictions import Categorical
from notelstm.testing import random_rows

UP = Field.continuous("up", "other", unit="semitones", low=None)
TWO = Field.categorical("two", "other", values=(0, 1))


@pytest.mark.parametrize(
    ("fields", "words"),
    [((TWO, TWO), "two, two repeat a name"), ((), "no fields")],
)
def test_missing_or_repeated_field_names_are_rejected(fields: Any, words: str) -> None:
    with pytest.raises(FieldError, match=words):
        NoteLSTM(fields=fields)


def test_field_name_of_a_module_dict_method_is_rejected() -> None:
    with pytest.raises(FieldError, match="'type' is a method"):
        NoteLSTM(fields=(Field.categorical("type", "other", values=(0, 1)),))


def test_sign_of_a_number_changes_the_output() -> None:
    torch.manual_seed(0)
    model = NoteLSTM(fields=(UP,), hidden_size=8)
    rows = torch.tensor([[[2.0]], [[-2.0]]])
    hidden = model(rows, model.initial_state(2)[1])[0].hidden
    assert not torch.allclose(hidden[0], hidden[1])


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_model_in_another_precision_reads_float32_rows(kind: torch.dtype) -> None:
    model = NoteLSTM(fields=(UP, TWO), hidden_size=8).to(kind)
    context, _ = model(torch.ones(1, 3, 2), model.initial_state(1)[1])
    assert context.hidden.dtype == kind
    prediction = model.predict("two", context, {"up": torch.ones(1, 3)})
    assert isinstance(prediction, Categorical)
    assert torch.isfinite(prediction.nll(torch.ones(1, 3))).all()


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_model_of_given_notes_in_another_precision(kind: torch.dtype) -> None:
    fields = AnticipatingEncoder(inner=LogTimeEncoder(exact=True), seconds=2.0).fields
    model = NoteLSTM(fields=fields, hidden_size=8, sounding_features=True, memory_window=4)
    rows = torch.from_numpy(random_rows(fields, (2, 5), np.random.default_rng(0)))
    context, _ = model.to(kind)(rows, model.initial_state(2)[1])
    known = columns(rows, fields)
    for name in model.field_order:
        prediction = model.predict(name, context, known)
        assert isinstance(prediction, Categorical)
        assert torch.isfinite(prediction.nll(known[name])).all()
