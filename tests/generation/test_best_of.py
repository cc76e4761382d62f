"""The best of several: by the likelihood under the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import ConfigError
from notelstm.generation import generate, generate_batch
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder
from notelstm.sampling import Ancestral, Temperature, Weighted
from notelstm.testing.makers import long_piece

PROMPT = long_piece(np.random.default_rng(0), count=20, seconds=5)


def chained(encoder: NoteEncoder) -> Bundle:
    torch.manual_seed(0)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


@torch.no_grad()
def nats_a_note(bundle: Bundle, new: Notes, prompt: Notes) -> float:
    """The nats of new notes after a prompt, for a model with one row per note, in one pass."""
    rows = torch.from_numpy(bundle.encoder.encode(prompt))[None]
    # The first step is counted from the prompt's last onset, which the new notes call 0 s.
    whole = Notes.merge([prompt, new.shifted(float(prompt.start[-1]))])
    added = torch.from_numpy(bundle.encoder.encode(whole))[None, rows.shape[1] :]
    everything = torch.cat([rows, added], dim=1)
    start, state = bundle.model.initial_state(1)
    contexts, _ = bundle.model.forward(everything, state)
    last = slice(rows.shape[1] - 1, everything.shape[1] - 1)
    context: Any = type(start)(contexts[0][:, last])
    total = 0.0
    known: dict[str, torch.Tensor] = {}
    for name in bundle.model.field_order:
        column = [field.name for field in bundle.encoder.fields].index(name)
        entries = added[..., column].long()
        total += float(bundle.model.predict(name, context, known).nll(entries).sum())  # type: ignore[attr-defined]
        known[name] = entries
    return total / len(new)


def test_best_of_returns_the_most_likely_piece() -> None:
    bundle = chained(LogTimeEncoder())
    several = generate_batch(bundle, 12, batch_size=6, prompt=PROMPT, seed=3)
    nats = [nats_a_note(bundle, new, PROMPT) for new in several]
    assert np.diff(np.sort(nats)).min() > 1e-3
    best = generate(bundle, 12, prompt=PROMPT, seed=3, best_of=6)
    assert best == several[int(np.argmin(nats))]
    # Of each piece of a batch, the best of sequences of its own.
    pair = generate_batch(bundle, 12, batch_size=2, prompt=PROMPT, seed=3, best_of=3)
    assert pair == [several[int(np.argmin(nats[:3]))], several[3 + int(np.argmin(nats[3:]))]]


def test_best_of_scores_predictions_before_processors() -> None:
    bundle = chained(LogTimeEncoder())
    sampler = Ancestral(processors=(Temperature(temperature=3.0),))
    several = generate_batch(bundle, 12, batch_size=6, prompt=PROMPT, seed=4, sampler=sampler)
    nats = [nats_a_note(bundle, new, PROMPT) for new in several]
    best = generate(bundle, 12, prompt=PROMPT, seed=4, sampler=sampler, best_of=6)
    assert best == several[int(np.argmin(nats))]


@pytest.mark.parametrize("limits", [{"num_notes": 20}, {"seconds": 2.0}])
def test_best_of_works_with_any_model_and_limit(limits: dict[str, Any]) -> None:
    three = ThreeHeadLSTM(fields=StepDurationEncoder().fields, hidden_size=8)
    with torch.no_grad():
        for name in ("step", "duration"):
            three.get_submodule(f"{name}_linear").bias.fill_(0.1)  # type: ignore[operator]
    bundles = [
        chained(PerformanceEventEncoder()),
        chained(StepDurationEncoder()),
        Bundle(model=three, encoder=StepDurationEncoder(), sampler=Weighted()),
    ]
    for bundle in bundles:
        several = generate_batch(bundle, batch_size=4, seed=1, **limits)
        assert generate(bundle, best_of=4, seed=1, **limits) in several
        assert generate(bundle, best_of=1, seed=1, **limits) == generate(bundle, seed=1, **limits)


def test_best_of_prefers_pieces_with_notes() -> None:
    bundle = chained(LogTimeEncoder())
    with torch.no_grad():
        bundle.model.get_submodule("heads.step")[2].bias[-40:] += 4  # type: ignore[attr-defined]
    lengths = [len(new) for new in generate_batch(bundle, batch_size=12, seconds=5.0, seed=2)]
    assert 0 in lengths
    assert max(lengths) > 0
    assert len(generate(bundle, best_of=12, seconds=5.0, seed=2)) > 0


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="best_of 0 is not a whole number, at least 1"):
        generate(chained(LogTimeEncoder()), 1, best_of=0)
