"""``check_sampler``: the contract of :class:`notelstm.protocols.Sampler`, clause by clause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Sampler, SamplingContext
from notelstm.testing.clauses import require, run
from notelstm.testing.prediction_checks import noise_like, require_in_domain
from notelstm.testing.trials import (
    FIELDS,
    LANES,
    Trial,
    contents,
    equal,
    lane,
    sampling_contexts,
    trials,
)

__all__ = ["SAMPLER_CLAUSES", "SamplerCase", "check_sampler"]


@final
@dataclass(frozen=True)
class SamplerCase:
    """A sampler on trial.

    Attributes:
        sampler: The sampler.
        fields: Fields that it can draw.
        contexts: A context for each lane, or none.
    """

    sampler: Sampler
    fields: Sequence[Field]
    contexts: Sequence[SamplingContext]

    def sample(self, trial: Trial, seed: int = 0) -> Tensor:
        """(B,) what it draws with some noise."""
        noise = noise_like(torch.zeros(LANES), seed)
        return self.sampler(trial.field, trial.prediction, noise, self.contexts)


def check_sampler(
    sampler: Sampler, *, fields: Sequence[Field] = FIELDS, looks: bool = False
) -> None:
    """Check that a sampler keeps the contract.

    Args:
        sampler: The sampler.
        fields: Fields that it can draw.
        looks: Whether it looks at the contexts; one that does not must work without any.

    Raises:
        AssertionError: At the first clause that is broken, with its name.

    Example:
        >>> from notelstm.sampling import Ancestral
        >>> check_sampler(Ancestral())
    """
    case = SamplerCase(sampler, fields, sampling_contexts(LANES) if looks else ())
    run("check_sampler", SAMPLER_CLAUSES, case)


def _a_draw_is_in_the_domain(case: SamplerCase) -> None:
    """A draw is (B,) class ids, or (B,) values within the field's bounds."""
    for trial in trials(case.fields):
        drawn = case.sample(trial)
        require(tuple(drawn.shape) == (LANES,), f"{trial.what}: shape {tuple(drawn.shape)}.")
        require_in_domain(trial.field, drawn)


def _what_is_impossible_is_not_drawn(case: SamplerCase) -> None:
    """A class of probability 0 is never drawn."""
    for trial in trials(case.fields):
        if isinstance(trial.prediction, Categorical):
            for seed in range(20):
                drawn = case.sample(trial, seed)
                possible = trial.prediction.logits > -torch.inf
                drawn_possible = possible.gather(1, drawn[:, None]).squeeze(1)
                require(drawn_possible.all(), f"{trial.what}: drew {drawn.tolist()}.")


def _same_noise_same_draw(case: SamplerCase) -> None:
    """The noise that it is given is its only randomness."""
    for trial in trials(case.fields):
        before = torch.get_rng_state()
        one, two = case.sample(trial), case.sample(trial)
        require(torch.equal(one, two), f"{trial.what}: {one.tolist()}, then {two.tolist()}.")
        same = torch.equal(before, torch.get_rng_state())
        require(same, f"{trial.what}: torch's global generator was used.")


def _a_lane_is_drawn_alone(case: SamplerCase) -> None:
    """A batch draws what each of its lanes draws alone."""
    noise = noise_like(torch.zeros(LANES))
    for trial in trials(case.fields):
        whole = case.sample(trial)
        for i in range(LANES):
            alone = case.sampler(
                trial.field, lane(trial.prediction, i), noise[i : i + 1], case.contexts[i : i + 1]
            )
            require(torch.equal(alone, whole[i : i + 1]), f"{trial.what}: lane {i} differs.")


def _what_it_is_given_stays(case: SamplerCase) -> None:
    """Prediction and noise are left as they are."""
    for trial in trials(case.fields):
        noise = noise_like(torch.zeros(LANES))
        kept, before = noise.clone(), contents(trial.prediction)
        case.sampler(trial.field, trial.prediction, noise, case.contexts)
        require(torch.equal(noise, kept), f"{trial.what}: the noise changed.")
        require(equal(contents(trial.prediction), before), f"{trial.what}: it changed.")


SAMPLER_CLAUSES: tuple[Callable[[SamplerCase], None], ...] = (
    _what_it_is_given_stays,
    _a_draw_is_in_the_domain,
    _what_is_impossible_is_not_drawn,
    _same_noise_same_draw,
    _a_lane_is_drawn_alone,
)
"""What holds for every sampler."""
