"""A prediction of a plugin is steered, truncated, trained and scored like the library's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from notelstm_intervals import CategoricalMixture, MixtureHead
from torch import Tensor, nn
from typing_extensions import override

from notelstm import Notes, Session, nats_per_note
from notelstm.encoders import LogTimeEncoder
from notelstm.fields import by_name
from notelstm.losses import CompositeLoss
from notelstm.protocols import HasLikelihood, Prediction, SamplingContext
from notelstm.sampling import (
    Ancestral,
    NoRepeatNGram,
    NoteDensity,
    RepetitionPenalty,
    Scale,
    Temperature,
    TopP,
    allow_only,
)
from notelstm.testing import check_model

ENCODER = LogTimeEncoder(longest=4.0)
PITCH, STEP, *_ = ENCODER.fields


class Hidden(NamedTuple):
    """A context or state of one tensor, (B, ..., H)."""

    hidden: Tensor


class MixtureModel(nn.Module):
    """A recurrent model whose heads all predict mixtures."""

    def __init__(self, *, fields: Any, hidden_size: int = 12) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.field_order = tuple(by_name(fields))
        self.config = {"fields": self.fields, "hidden_size": hidden_size}
        self.inputs = nn.ModuleDict({f.name: nn.Embedding(f.classes, hidden_size) for f in fields})
        self.rnn = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.heads = nn.ModuleDict({f.name: MixtureHead(hidden_size, f.classes, 3) for f in fields})
        self.initial_context = nn.Parameter(torch.zeros(hidden_size))

    def initial_state(self, batch_size: int) -> tuple[Hidden, Hidden]:
        context = self.initial_context.expand(batch_size, 1, -1)
        return Hidden(context), Hidden(torch.zeros_like(context[:, 0]))

    @override
    def forward(self, rows: Tensor, state: Hidden) -> tuple[Hidden, Hidden]:
        columns = [self.inputs[f.name](rows[..., i].long()) for i, f in enumerate(self.fields)]
        output, last = self.rnn(torch.stack(columns).sum(0), state.hidden[None].contiguous())
        return Hidden(output), Hidden(last[0])

    def predict(self, field: str, context: Hidden, known: Mapping[str, Tensor]) -> Prediction:
        prediction: CategoricalMixture = self.heads[field](context.hidden)
        return prediction


def model() -> MixtureModel:
    torch.manual_seed(0)
    return MixtureModel(fields=ENCODER.fields)


def mixture(rows: int = 2, classes: int = 128) -> CategoricalMixture:
    generator = torch.Generator().manual_seed(1)
    shares = torch.randn(rows, 3, generator=generator).log_softmax(-1)
    return CategoricalMixture(
        shares, torch.randn(rows, 3, classes, generator=generator).mul(3).log_softmax(-1)
    )


def contexts(rows: int = 2) -> list[SamplingContext]:
    made = []
    for i in range(rows):
        session = Session(model(), ENCODER, Ancestral(), seed=i)
        session.run(num_notes=20)
        made.append(SamplingContext({}, session.trackers[0]))
    return made


def test_a_model_with_mixtures_keeps_its_contract() -> None:
    check_model(model(), entry_point=False)


def test_a_mixture_has_a_likelihood() -> None:
    prediction = mixture()
    assert isinstance(prediction, HasLikelihood)
    every = torch.arange(128).expand(2, -1)
    nats = torch.stack([prediction.nll(ids) for ids in every.unbind(1)])
    torch.testing.assert_close((-nats).exp().sum(0), torch.ones(2))


def test_scale_limits_it() -> None:
    kept = Scale(name="C major")(PITCH, mixture(), contexts())
    weights = kept.log_weights()
    assert weights is not None
    possible = (weights[0] > -math.inf).nonzero().squeeze(1)
    assert set((possible % 12).tolist()) == {0, 2, 4, 5, 7, 9, 11}
    before = mixture().log_weights()[0, possible].softmax(-1)
    torch.testing.assert_close(weights[0, possible].softmax(-1), before)


def test_top_p_truncates_it() -> None:
    probabilities = mixture().log_weights().softmax(-1)
    weights = TopP(p=0.5)(PITCH, mixture(), contexts()).log_weights()
    assert weights is not None
    for before, kept in zip(probabilities, weights > -math.inf, strict=True):
        assert float(before[kept].sum()) >= 0.5 > float(before[kept].sum() - before[kept].min())


def test_note_density_bends_it() -> None:
    prediction, seen = mixture(classes=STEP.classes or 0), contexts()
    values = torch.tensor(STEP.values)

    def mean_step(rate: float) -> Tensor:
        weights = NoteDensity(notes_per_second=rate)(STEP, prediction, seen).log_weights()
        assert weights is not None
        return (weights.softmax(-1) * values).sum(-1)

    assert bool((mean_step(0.5) > mean_step(50.0) + 0.1).all())


@pytest.mark.parametrize(
    "processor",
    [Temperature(temperature=0.5), RepetitionPenalty(), NoRepeatNGram(ngram_size=1)],
    ids=lambda processor: type(processor).__name__,
)
def test_other_processors_change_it(processor: Any) -> None:
    changed = processor(PITCH, mixture(), contexts()).log_weights()
    assert not torch.equal(changed.softmax(-1), mixture().log_weights().softmax(-1))


def test_a_temperature_is_a_power_of_the_probabilities() -> None:
    weights = mixture().with_temperature(2.0).log_weights().softmax(-1)
    torch.testing.assert_close(weights, (mixture().log_weights() / 2).softmax(-1))


def test_where_nothing_allowed_is_left_everything_stays() -> None:
    only = torch.zeros(128, dtype=torch.bool)
    only[60] = True
    confined = mixture().constrained(only.expand(2, -1))
    other = torch.zeros(128, dtype=torch.bool)
    other[61] = True
    assert allow_only(confined, other).mode().tolist() == [60, 60]


def test_it_generates_within_a_scale() -> None:
    sampler = Ancestral(processors=(Scale(name="A blues"), TopP(p=0.9), NoteDensity()))
    for batch_size in (1, 3):
        for notes in Session(model(), ENCODER, sampler, batch_size=batch_size).run(num_notes=40):
            assert set(notes.pitch % 12) <= {9, 0, 2, 3, 4, 7}


def test_it_is_trained_and_scored() -> None:
    trained, rng = model(), np.random.default_rng(0)
    start = np.arange(120) * 0.25
    piece = Notes(start=start, end=start + 0.2, pitch=rng.choice([60, 64, 67], size=120))
    before = nats_per_note(trained, ENCODER, [piece]).total or math.inf
    rows = torch.from_numpy(ENCODER.encode(piece))[None]
    loss, optimizer = (
        CompositeLoss.for_fields(ENCODER.fields),
        torch.optim.Adam(trained.parameters(), lr=0.02),
    )
    targets = {f.name: rows[0, :, i].long() for i, f in enumerate(ENCODER.fields)}
    for _ in range(60):
        first, state = trained.initial_state(1)
        context, _ = trained(rows[:, :-1], state)
        whole = Hidden(torch.cat([first.hidden, context.hidden], dim=1)[0])
        optimizer.zero_grad()
        total = loss({n: trained.predict(n, whole, {}) for n in targets}, targets).total
        torch.autograd.backward(total)
        optimizer.step()
    after = nats_per_note(trained, ENCODER, [piece]).total
    assert after is not None
    assert after < before / 3 < math.inf
