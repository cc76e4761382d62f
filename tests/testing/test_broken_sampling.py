"""One broken sampler and one broken processor for each clause: it catches them, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from notelstm.fields import Field
from notelstm.predictions import Categorical, Normal, PointEstimate
from notelstm.protocols import Prediction, Processor, Sampler, SamplingContext
from notelstm.sampling import Temperature
from notelstm.testing import check_processor, check_sampler
from notelstm.testing.processor_checks import PROCESSOR_CLAUSES
from notelstm.testing.sampler_checks import SAMPLER_CLAUSES

Draw = Callable[[Field, Prediction, Tensor], Tensor]


def sampler(draw: Draw) -> Sampler:
    """A sampler that draws classes in a broken way, and values in the good one."""

    def sample(
        field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
    ) -> Tensor:
        if field.is_categorical:
            return draw(field, prediction, noise)
        return prediction.sample(noise)

    return sample


def good(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    return prediction.sample(noise)


def one_too_high(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    return prediction.sample(noise) + 1


def as_float(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    return prediction.sample(noise).float()


def as_column(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    return prediction.sample(noise).unsqueeze(1)


def ignores_the_mask(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    return (noise[:, 0] * (field.classes or 1)).long()


def own_randomness(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    assert isinstance(prediction, Categorical)
    return prediction.probabilities.multinomial(1).squeeze(1)


def first_noise_for_all(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    return prediction.sample(noise[:1].expand_as(noise))


def spends_its_noise(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    drawn = prediction.sample(noise)
    noise.zero_()
    return drawn


def writes_in_the_logits(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    assert isinstance(prediction, Categorical)
    drawn = prediction.sample(noise)
    prediction.logits[:, 0] = 0
    return drawn


def wants_a_view(
    field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
) -> Tensor:
    assert contexts[0].tracker.num_notes >= 0
    return prediction.sample(noise)


BROKEN_SAMPLERS: list[tuple[str, Sampler]] = [
    ("what_it_is_given_stays", sampler(spends_its_noise)),
    ("what_it_is_given_stays", sampler(writes_in_the_logits)),
    ("a_draw_is_in_the_domain", sampler(one_too_high)),
    ("a_draw_is_in_the_domain", sampler(as_float)),
    ("a_draw_is_in_the_domain", sampler(as_column)),
    ("what_is_impossible_is_not_drawn", sampler(ignores_the_mask)),
    ("same_noise_same_draw", sampler(own_randomness)),
    ("a_lane_is_drawn_alone", sampler(first_noise_for_all)),
]


@pytest.mark.parametrize(("clause", "broken"), BROKEN_SAMPLERS)
def test_the_sampler_clause_bites(clause: str, broken: Sampler) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=f"^check_sampler, {clause}: "):
        check_sampler(broken)


def test_the_unbroken_sampler_passes() -> None:
    check_sampler(sampler(good))


def test_a_sampler_that_looks_at_views_says_so() -> None:
    check_sampler(wants_a_view, looks=True)
    with pytest.raises(AssertionError, match="IndexError"):
        check_sampler(wants_a_view)


def test_every_clause_has_a_broken_sampler() -> None:
    names = {clause.__name__.lstrip("_") for clause in SAMPLER_CLAUSES}
    assert names == {clause for clause, _ in BROKEN_SAMPLERS}


Change = Callable[[Categorical, Sequence[SamplingContext]], Categorical]


def processor(change: Change) -> Processor:
    """A processor that changes classes in a broken way, and leaves values alone."""

    def process(
        field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        return change(prediction, contexts) if isinstance(prediction, Categorical) else prediction

    return process


def same(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return prediction


def in_place(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    prediction.logits.mul_(2)
    return prediction


def only_one_lane(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(prediction.logits[:1])


def one_class_less(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(torch.cat([prediction.logits, prediction.logits[:, :1]], dim=1))


def empties_the_mask(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    logits = prediction.logits.clone()
    logits[:, 0] = -torch.inf
    return Categorical(logits)


def smooths(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(prediction.logits.clamp_min(-10))


def by_the_crowd(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return prediction.with_temperature(float(len(contexts)))


def random(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(prediction.logits + 1e-9 * torch.rand(()))


class GrowsCold:
    """Tempers more each time."""

    def __init__(self) -> None:
        self.temperature = 1.0

    def __call__(self, prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
        self.temperature *= 1 - 1e-7
        return prediction.with_temperature(self.temperature)


def values_below_their_bounds(
    field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
) -> Prediction:
    return (
        PointEstimate(prediction.value - 20)
        if isinstance(prediction, PointEstimate)
        else prediction
    )


def unbounded(
    field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
) -> Prediction:
    if isinstance(prediction, Normal):
        return Normal(prediction.mean, prediction.sigma)
    return prediction


BROKEN_PROCESSORS: list[tuple[str, Processor, dict[str, Any]]] = [
    ("what_it_is_given_stays", processor(in_place), {}),
    ("the_shape_stays", processor(only_one_lane), {}),
    ("the_shape_stays", processor(one_class_less), {}),
    ("something_is_left", processor(empties_the_mask), {}),
    ("nothing_impossible_returns", processor(smooths), {}),
    ("nothing_impossible_returns", values_below_their_bounds, {}),
    ("nothing_impossible_returns", unbounded, {}),
    ("other_roles_are_left_alone", Temperature(temperature=2.0), {"roles": {"pitch"}}),
    ("a_lane_is_processed_alone", processor(by_the_crowd), {}),
    ("it_is_repeatable", processor(random), {}),
    ("it_is_repeatable", processor(GrowsCold()), {}),
]


@pytest.mark.parametrize(("clause", "broken", "settings"), BROKEN_PROCESSORS)
def test_the_processor_clause_bites(
    clause: str, broken: Processor, settings: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError, match=f"^check_processor, {clause}: "):
        check_processor(broken, **settings)


def test_the_unbroken_processor_passes() -> None:
    check_processor(processor(same), roles=set())


def test_every_clause_has_a_broken_processor() -> None:
    names = {clause.__name__.lstrip("_") for clause in PROCESSOR_CLAUSES}
    assert names == {clause for clause, _, _ in BROKEN_PROCESSORS}
