"""The clauses of ``check_model`` on the quick copies that a model may offer for generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm import tree
from notelstm.generation.steps import Place, spread
from notelstm.protocols import LeanModel, LeanStep, Prediction
from notelstm.testing.clauses import require
from notelstm.testing.model_case import ModelCase
from notelstm.testing.prediction_checks import as_numbers

__all__ = ["LEAN_CLAUSES"]


def _lean_of(case: ModelCase) -> LeanStep | None:
    return case.model.lean() if isinstance(case.model, LeanModel) else None


def _said(case: ModelCase, step: LeanStep, context: Any, rows: Tensor) -> dict[str, Prediction]:
    """What a lean step says of each field of (B, F) rows."""
    known = case.known(rows)
    return {name: step.predict(name, context, known) for name in case.model.order}


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


def _start(step: LeanStep, lanes: int) -> Place:
    return spread(Place(*step.start()), lanes)


@torch.no_grad()
def _a_lean_copy_says_the_same(case: ModelCase) -> None:
    """A lean copy says of each row what the model says, alone and in a batch."""
    step = _lean_of(case)
    if step is None:
        return
    for lanes in (1, len(case.rows)):
        rows = case.rows[:lanes]
        contexts, state = case.model.start(lanes)
        place = _start(step, lanes)
        for t in range(rows.shape[1]):
            here: Any = tree.index(contexts, (slice(None), -1))
            said = _said(case, step, place.context, rows[:, t]).items()
            got = {name: as_numbers(one, case.fields[name]) for name, one in said}
            case.same(got, case.said(here, rows[:, t]), f"{lanes} lanes, row {t}")
            contexts, state = case.model.forward(rows[:, t : t + 1], state)
            place = Place(*step.step(rows[:, t].numpy(), place.state))


@torch.no_grad()
def _a_lane_alone_draws_the_same(case: ModelCase) -> None:
    """What a lean copy says of one lane in plain numbers draws what its prediction draws."""
    step = _lean_of(case)
    if step is None:
        return
    rows, place = case.rows[:1], _start(step, 1)
    for t in range(rows.shape[1]):
        known = {name: float(entry) for name, entry in case.known(rows[:, t]).items()}
        for name, said in _said(case, step, place.context, rows[:, t]).items():
            for noise in ((0.0, 0.9), (0.3, 0.6), (0.7, 0.1)):
                want = float(said.draw(torch.tensor([noise], dtype=torch.float64)))
                got = step.plain(name, place.context, known).draw(noise)
                found = f"{name!r}, row {t}: {got:g} and {want:g}."
                require(abs(got - want) <= case.tolerance * max(1.0, abs(want)), found)
        place = Place(*step.step(rows[:, t].numpy(), place.state))


@torch.no_grad()
def _a_lean_copy_changes_nothing(case: ModelCase) -> None:
    """A lean copy leaves alone what it has given out, and has weights of its own."""
    step = _lean_of(case)
    if step is None:
        return
    given = [_start(step, len(case.rows))]
    for t in range(case.rows.shape[1]):
        _said(case, step, given[-1].context, case.rows[:, t])
        given.append(Place(*step.step(case.rows[:, t].numpy(), given[-1].state)))
    copies = [[leaf.copy() for leaf in _leaves(tuple(place))] for place in given]
    kept = {name: parameter.clone() for name, parameter in case.model.named_parameters()}
    try:
        for parameter in case.model.parameters():
            parameter.add_(1)
        for t, place in enumerate(given[:-1]):
            again = Place(*step.step(case.rows[:, t].numpy(), place.state))
            off = _off(tuple(again), tuple(given[t + 1]))
            require(
                off <= case.tolerance, f"Trained on, or asked again: row {t} is off by {off:g}."
            )
    finally:
        for name, parameter in case.model.named_parameters():
            parameter.copy_(kept[name])
    for t, (place, copied) in enumerate(zip(given, copies, strict=True)):
        for leaf, before in zip(_leaves(tuple(place)), copied, strict=True):
            require(np.array_equal(leaf, before), f"What was given out after {t} rows was changed.")


LEAN_CLAUSES: tuple[Callable[[ModelCase], None], ...] = (
    _a_lean_copy_says_the_same,
    _a_lane_alone_draws_the_same,
    _a_lean_copy_changes_nothing,
)
"""What holds for what a model offers by ``lean``."""
