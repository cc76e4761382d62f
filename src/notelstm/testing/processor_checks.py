"""``check_processor``: the contract of :class:`notelstm.protocols.Processor`, clause by clause."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notelstm.fields import Field, Role
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, Processor, SamplingContext
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

__all__ = ["PROCESSOR_CLAUSES", "ProcessorCase", "check_processor"]


@final
@dataclass(frozen=True)
class ProcessorCase:
    """A processor on trial.

    Attributes:
        processor: The processor.
        fields: Fields whose predictions it is given.
        roles: The roles that it changes, or None for any.
        contexts: A context for each lane.
    """

    processor: Processor
    fields: Sequence[Field]
    roles: Collection[Role] | None
    contexts: Sequence[SamplingContext]

    def process(self, trial: Trial) -> Prediction:
        """What it makes of a prediction."""
        return self.processor(trial.field, trial.prediction, self.contexts)


def check_processor(
    processor: Processor,
    *,
    fields: Sequence[Field] = FIELDS,
    roles: Collection[Role] | None = None,
    lanes: Sequence[SamplingContext] | None = None,
) -> None:
    """Check that a processor keeps the contract.

    Args:
        processor: The processor.
        fields: Fields whose predictions it is given.
        roles: The roles of the fields that it changes; None for any. All others it must leave
            alone.
        lanes: 6 contexts of lanes; by default lanes in which three notes sound.

    Raises:
        AssertionError: At the first clause that is broken, with its name.

    Example:
        >>> from notelstm.sampling import MinDuration
        >>> check_processor(MinDuration(), roles={"duration"})
    """
    case = ProcessorCase(
        processor, fields, roles, sampling_contexts(LANES) if lanes is None else lanes
    )
    run("check_processor", PROCESSOR_CLAUSES, case)


def _possible(prediction: Prediction) -> Tensor | None:
    """(B, C) the classes that can be drawn, by logits and by weights; None for values."""
    if not isinstance(prediction, Categorical):
        return None
    possible = prediction.logits > -torch.inf
    return possible if prediction.weights is None else possible & (prediction.weights > 0)


def _the_shape_stays(case: ProcessorCase) -> None:
    """What comes out is a prediction of the same (B,) lanes, of classes or values as before."""
    for trial in trials(case.fields):
        got = case.process(trial)
        shape = tuple(got.mode().shape)
        require(shape == (LANES,), f"{trial.what}: shape {shape}.")
        before, after = _possible(trial.prediction), _possible(got)
        same = (None if x is None else x.shape for x in (before, after))
        require(len(set(same)) == 1, f"{trial.what}: other classes.")


def _something_is_left(case: ProcessorCase) -> None:
    """At least one class of those that were possible is left in each lane."""
    for trial in trials(case.fields):
        possible = _possible(case.process(trial))
        if possible is not None:
            require(possible.any(-1).all(), f"{trial.what}: nothing is left.")


def _nothing_impossible_returns(case: ProcessorCase) -> None:
    """A class that was impossible stays so, and a value stays within the field's bounds."""
    for trial in trials(case.fields):
        got = case.process(trial)
        before, after = _possible(trial.prediction), _possible(got)
        if before is not None and after is not None:
            require(not (after & ~before).any(), f"{trial.what}: a class returned.")
        else:
            require_in_domain(trial.field, got.sample(noise_like(got.mode())))


def _other_roles_are_left_alone(case: ProcessorCase) -> None:
    """Predictions of fields whose role it does not declare come back as they are."""
    for trial in trials(case.fields):
        if case.roles is not None and trial.field.role not in case.roles:
            same = equal(contents(case.process(trial)), contents(trial.prediction))
            require(same, f"{trial.what}: changed.")


def _a_lane_is_processed_alone(case: ProcessorCase) -> None:
    """A batch gives what each of its lanes gives alone."""
    for trial in trials(case.fields):
        whole = case.process(trial)
        for i in range(LANES):
            own = case.contexts[i : i + 1]
            alone = case.processor(trial.field, lane(trial.prediction, i), own)
            want, got = contents(lane(whole, i)), contents(alone)
            near = len(want) == len(got) and all(
                torch.allclose(a, b, atol=1e-6) for a, b in zip(want, got, strict=True)
            )
            require(near, f"{trial.what}: lane {i} differs.")


def _it_is_repeatable(case: ProcessorCase) -> None:
    """The same prediction gives the same again, without torch's global generator."""
    for trial in trials(case.fields):
        before = torch.get_rng_state()
        one, two = contents(case.process(trial)), contents(case.process(trial))
        require(equal(one, two), f"{trial.what}: the second time it differed.")
        same = torch.equal(before, torch.get_rng_state())
        require(same, f"{trial.what}: torch's global generator was used.")


def _what_it_is_given_stays(case: ProcessorCase) -> None:
    """The prediction that it is given is left as it is."""
    for trial in trials(case.fields):
        before = contents(trial.prediction)
        case.process(trial)
        require(equal(contents(trial.prediction), before), f"{trial.what}: it changed.")


PROCESSOR_CLAUSES: tuple[Callable[[ProcessorCase], None], ...] = (
    _what_it_is_given_stays,
    _the_shape_stays,
    _something_is_left,
    _nothing_impossible_returns,
    _other_roles_are_left_alone,
    _a_lane_is_processed_alone,
    _it_is_repeatable,
)
"""What holds for every processor."""
