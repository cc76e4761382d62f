"""One broken sampler and one broken processor for each clause: it catches them, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from notelstm.fields import Field
from notelstm.predictions import Categorical, Normal, PointEstimate
from notelstm.protocols import Allowed, Prediction, Processor, Sampler, SamplingContext
from notelstm.sampling import Ancestral, Scale, Temperature, TopP, allow_only
from notelstm.testing import check_processor, check_sampler
from notelstm.testing.sampling_checks import BAND, PROCESSOR_CLAUSES, SAMPLER_CLAUSES

Sample = Callable[[Field, Prediction, Tensor], Tensor]


def sampler(sample_classes: Sample) -> Sampler:
    """A sampler that draws classes in a broken way, and values in the good one."""

    def sample(
        field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
    ) -> Tensor:
        if field.is_categorical:
            return sample_classes(field, prediction, noise)
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


def ends_too_early(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    samples = prediction.sample(noise)
    return torch.ones_like(samples) if field.role == "end" else samples


def own_randomness(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    assert isinstance(prediction, Categorical)
    return prediction.probabilities.multinomial(1).squeeze(1)


def first_noise_for_all(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    return prediction.sample(noise[:1].expand_as(noise))


def overwrites_the_noise(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    samples = prediction.sample(noise)
    noise.zero_()
    return samples


def writes_in_the_logits(field: Field, prediction: Prediction, noise: Tensor) -> Tensor:
    assert isinstance(prediction, Categorical)
    samples = prediction.sample(noise)
    prediction.logits[:, 0] = 0
    return samples


def reads_the_contexts(
    field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
) -> Tensor:
    assert contexts[0].tracker.num_notes >= 0
    return prediction.sample(noise)


BROKEN_SAMPLERS: list[tuple[str, Sampler]] = [
    ("inputs_are_unchanged", sampler(overwrites_the_noise)),
    ("inputs_are_unchanged", sampler(writes_in_the_logits)),
    ("samples_are_in_the_domain", sampler(one_too_high)),
    ("samples_are_in_the_domain", sampler(as_float)),
    ("samples_are_in_the_domain", sampler(as_column)),
    ("impossible_classes_are_not_sampled", sampler(ignores_the_mask)),
    ("impossible_classes_are_not_sampled", sampler(ends_too_early)),
    ("results_are_repeatable", sampler(own_randomness)),
    ("sequences_are_independent", sampler(first_noise_for_all)),
]


@pytest.mark.parametrize(("clause", "broken"), BROKEN_SAMPLERS)
def test_the_sampler_clause_bites(clause: str, broken: Sampler) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=f"^check_sampler, {clause}: "):
        check_sampler(broken)


def test_the_unbroken_sampler_passes() -> None:
    check_sampler(sampler(good))


def test_a_sampler_that_reads_contexts_is_given_some() -> None:
    check_sampler(reads_the_contexts, looks=True)
    with pytest.raises(AssertionError, match="IndexError"):
        check_sampler(reads_the_contexts)


def pushes_a_row(context: SamplingContext) -> None:
    context.tracker.push(np.array([60, 0, 1], dtype=np.float32))


def pops_notes(context: SamplingContext) -> None:
    context.tracker.pop_finished(include_sounding=True)


def fixes_an_entry(context: SamplingContext) -> None:
    cast(dict[str, float], context.known)["step"] = 1.0


@pytest.mark.parametrize("change", [pushes_a_row, pops_notes, fixes_an_entry])
def test_contexts_are_unchanged(change: Callable[[SamplingContext], None]) -> None:
    """Otherwise, the music would change while it is generated."""

    def sample(
        field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
    ) -> Tensor:
        for context in contexts:
            change(context)
        return prediction.sample(noise)

    def process(
        field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        for context in contexts:
            change(context)
        return prediction

    with pytest.raises(AssertionError, match=r"^check_sampler, inputs_are_unchanged: .* changed"):
        check_sampler(sample, looks=True)
    with pytest.raises(AssertionError, match=r"^check_processor, inputs_are_unchanged: .* changed"):
        check_processor(process)


def test_results_of_other_kinds_are_named() -> None:
    with pytest.raises(AssertionError, match=r"got list\."):
        check_sampler(cast(Sampler, lambda *_: [0] * 6))
    with pytest.raises(AssertionError, match=r"got NoneType, not a prediction\."):
        check_processor(cast(Processor, lambda *_: None))


@dataclass(frozen=True)
class OfAPlugin(Prediction):
    """A prediction of classes that is no class of the library."""

    log_probs: Tensor

    def log_weights(self) -> Tensor:
        return self.log_probs

    def add_log_weights(self, log_weights: Tensor) -> OfAPlugin:
        return OfAPlugin(self.log_probs + log_weights)

    def sample(self, noise: Tensor) -> Tensor:
        return Categorical(self.log_probs).sample(noise)

    def mode(self) -> Tensor:
        return self.log_probs.argmax(-1)

    def constrained(self, allowed: Allowed) -> OfAPlugin:
        assert isinstance(allowed, Tensor)
        return OfAPlugin(self.log_probs.masked_fill(~allowed, -torch.inf))

    def with_temperature(self, temperature: float) -> OfAPlugin:
        return OfAPlugin(self.log_probs / temperature)


def test_a_sampler_of_other_predictions_is_checked() -> None:
    def all_classes(
        field: Field, prediction: Prediction, noise: Tensor, contexts: Sequence[SamplingContext]
    ) -> Tensor:
        if isinstance(prediction, OfAPlugin):
            prediction = OfAPlugin(torch.zeros_like(prediction.log_probs))
        return prediction.sample(noise)

    check_sampler(Ancestral(), make=OfAPlugin)
    check_sampler(all_classes)
    with pytest.raises(AssertionError, match=r"^check_sampler, impossible_classes_are_not_sampled"):
        check_sampler(all_classes, make=OfAPlugin)


def test_a_processor_of_other_predictions_is_checked() -> None:
    def smooth(
        field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        if isinstance(prediction, OfAPlugin):
            return OfAPlugin(prediction.log_probs.clamp_min(-10))
        return prediction

    check_processor(Temperature(temperature=2.0), make=OfAPlugin)
    check_processor(TopP(p=0.5), make=OfAPlugin)
    check_processor(smooth)
    with pytest.raises(AssertionError, match=r"^check_processor, impossible_stays_impossible: "):
        check_processor(smooth, make=OfAPlugin)


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


def only_one_sequence(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(prediction.logits[:1])


def one_class_less(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(torch.cat([prediction.logits, prediction.logits[:, :1]], dim=1))


def empties_the_mask(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    logits = prediction.logits.clone()
    logits[:, 0] = -torch.inf
    return Categorical(logits)


def smooths(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(prediction.logits.clamp_min(-10))


def by_batch_size(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return prediction.with_temperature(float(len(contexts)))


def random(prediction: Categorical, contexts: Sequence[SamplingContext]) -> Categorical:
    return Categorical(prediction.logits + 1e-9 * torch.rand(()))


class CoolsDown:
    """A lower temperature each time."""

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


def c_major_in_all_instruments(
    field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
) -> Prediction:
    """A scale that forgets about drums."""
    if field.role != "pitch":
        return prediction
    white = [pitch % 12 in (0, 2, 4, 5, 7, 9, 11) for pitch in range(field.classes or 0)]
    return allow_only(prediction, torch.tensor(white))


def no_pitch_of_the_last_note(
    field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
) -> Prediction:
    """Forbids the latest pitch, whichever instrument it is of."""
    if field.role != "pitch":
        return prediction
    allowed = torch.ones(len(contexts), field.classes or 0, dtype=torch.bool)
    for row, context in zip(allowed, contexts, strict=True):
        for _, tone in context.tracker.latest(1):
            row[tone.pitch] = False
    return allow_only(prediction, allowed)


EVERY_PART = {part.name for part in BAND}

BROKEN_PROCESSORS: list[tuple[str, Processor, dict[str, Any]]] = [
    ("inputs_are_unchanged", processor(in_place), {}),
    ("shape_is_kept", processor(only_one_sequence), {}),
    ("shape_is_kept", processor(one_class_less), {}),
    ("a_class_stays_possible", processor(empties_the_mask), {}),
    ("impossible_stays_impossible", processor(smooths), {}),
    ("impossible_stays_impossible", values_below_their_bounds, {}),
    ("impossible_stays_impossible", unbounded, {}),
    ("other_roles_are_unchanged", Temperature(temperature=2.0), {"roles": {"pitch"}}),
    (
        "other_instruments_are_unchanged",
        c_major_in_all_instruments,
        {"instruments": {"Piano", "Bass"}},
    ),
    (
        "other_instruments_are_unchanged",
        Scale(name="C major", drums=True),
        {"instruments": {"Piano", "Bass"}},
    ),
    (
        "other_instruments_have_no_effect",
        no_pitch_of_the_last_note,
        {"instruments": EVERY_PART},
    ),
    ("sequences_are_independent", processor(by_batch_size), {}),
    ("results_are_repeatable", processor(random), {}),
    ("results_are_repeatable", processor(CoolsDown()), {}),
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
