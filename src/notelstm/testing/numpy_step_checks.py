"""The clauses of ``check_model`` about the numpy step that a model may offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm import tree
from notelstm.models.inference import HasNumpyStep, ModelState, NumpyStep, repeat
from notelstm.protocols import Prediction
from notelstm.testing.clauses import require
from notelstm.testing.prediction_checks import ModelCase, as_numbers

__all__ = ["NUMPY_STEP_CLAUSES"]


def _numpy_step_of(case: ModelCase) -> NumpyStep | None:
    return case.model.numpy_step() if isinstance(case.model, HasNumpyStep) else None


def _predictions(
    case: ModelCase, step: NumpyStep, context: Any, rows: Tensor
) -> dict[str, Prediction]:
    """The predictions of a numpy step for each field of (B, F) rows."""
    known = case.known(rows)
    return {name: step.predict(name, context, known) for name in case.model.field_order}


def _leaves(of: Any) -> Iterator[NDArray[Any]]:
    """The arrays of a context or a state."""
    if isinstance(of, tuple):
        for part in of:
            yield from _leaves(part)
    else:
        yield np.asarray(of)


def _off(one: Any, two: Any) -> float:
    """By how much two trees differ at most."""
    pairs = list(zip(_leaves(one), _leaves(two), strict=True))
    return max((float(np.abs(a - b).max(initial=0)) for a, b in pairs), default=0.0)


def _start(step: NumpyStep, batch_size: int) -> ModelState:
    return repeat(ModelState(*step.initial_state()), batch_size)


@torch.no_grad()
def _numpy_step_predicts_the_same(case: ModelCase) -> None:
    """The numpy step predicts each row as the module does, alone and in a batch."""
    step = _numpy_step_of(case)
    if step is None:
        return
    for batch_size in (1, len(case.rows)):
        rows = case.rows[:batch_size]
        contexts, state = case.model.initial_state(batch_size)
        place = _start(step, batch_size)
        for t in range(rows.shape[1]):
            here: Any = tree.index(contexts, (slice(None), -1))
            predictions = _predictions(case, step, place.context, rows[:, t]).items()
            got = {name: as_numbers(one, case.fields[name]) for name, one in predictions}
            case.same(got, case.numbers(here, rows[:, t]), f"Batch size {batch_size}, row {t}")
            contexts, state = case.model.forward(rows[:, t : t + 1], state)
            place = ModelState(*step.step(rows[:, t].numpy(), place.state))


@torch.no_grad()
def _numpy_predictions_sample_the_same(case: ModelCase) -> None:
    """A numpy prediction samples the same entry as the tensors."""
    step = _numpy_step_of(case)
    if step is None:
        return
    rows, place = case.rows[:1], _start(step, 1)
    for t in range(rows.shape[1]):
        known = {name: float(entry) for name, entry in case.known(rows[:, t]).items()}
        for name, prediction in _predictions(case, step, place.context, rows[:, t]).items():
            for noise in ((0.0, 0.9), (0.3, 0.6), (0.7, 0.1)):
                want = float(prediction.sample(torch.tensor([noise], dtype=torch.float64)))
                got = step.predict_numpy(name, place.context, known).sample(noise)
                found = f"{name!r}, row {t}: {got:g} and {want:g}."
                require(abs(got - want) <= case.tolerance * max(1.0, abs(want)), found)
        place = ModelState(*step.step(rows[:, t].numpy(), place.state))


@torch.no_grad()
def _numpy_step_has_no_side_effects(case: ModelCase) -> None:
    """The numpy step does not change arrays that it returned, and has its own weights."""
    step = _numpy_step_of(case)
    if step is None:
        return
    given = [_start(step, len(case.rows))]
    for t in range(case.rows.shape[1]):
        _predictions(case, step, given[-1].context, case.rows[:, t])
        given.append(ModelState(*step.step(case.rows[:, t].numpy(), given[-1].state)))
    copies = [[leaf.copy() for leaf in _leaves(tuple(place))] for place in given]
    kept = {name: parameter.clone() for name, parameter in case.model.named_parameters()}
    try:
        for parameter in case.model.parameters():
            parameter.add_(1)
        for t, place in enumerate(given[:-1]):
            again = ModelState(*step.step(case.rows[:, t].numpy(), place.state))
            off = _off(tuple(again), tuple(given[t + 1]))
            require(
                off <= case.tolerance, f"Trained on, or asked again: row {t} is off by {off:g}."
            )
    finally:
        for name, parameter in case.model.named_parameters():
            parameter.copy_(kept[name])
    for t, (place, copied) in enumerate(zip(given, copies, strict=True)):
        for leaf, before in zip(_leaves(tuple(place)), copied, strict=True):
            require(np.array_equal(leaf, before), f"An array returned after {t} rows was changed.")


NUMPY_STEP_CLAUSES: tuple[Callable[[ModelCase], None], ...] = (
    _numpy_step_predicts_the_same,
    _numpy_predictions_sample_the_same,
    _numpy_step_has_no_side_effects,
)
"""Clauses about the numpy step of a model."""
