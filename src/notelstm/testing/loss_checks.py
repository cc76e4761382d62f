"""``check_loss_term``: the contract of :class:`notelstm.protocols.LossTerm`, clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from notelstm.errors import ShapeError
from notelstm.fields import Field
from notelstm.predictions import Categorical, PointEstimate
from notelstm.protocols import LossTerm, Prediction
from notelstm.testing.clauses import require, run

__all__ = ["LossCase", "check_loss_term"]

_S: Final = 12


@final
@dataclass(frozen=True)
class LossCase:
    """The arguments of :func:`check_loss_term`."""

    term: LossTerm
    field: Field
    make: Callable[[Tensor], Prediction]

    @property
    def target(self) -> Tensor:
        """(S,) class ids or values."""
        if self.field.classes is not None:
            return torch.arange(_S) % self.field.classes
        low, high = self.field.interval
        if self.field.low is None:
            low = min(-1.0, high - 2)
        size = min(2.0, high - low)  # of the values, which lie in the domain of the field
        return torch.linspace(low + size / 20, low + size, _S)

    @property
    def numbers(self) -> Tensor:
        """Random outputs of a head, the same each time."""
        shape = (_S,) if self.field.classes is None else (_S, self.field.classes)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def perfect(self, target: Tensor) -> Tensor:
        """Outputs of a head that predict the target with certainty."""
        if self.field.classes is None:
            return target.clone()
        return 30.0 * torch.nn.functional.one_hot(target, self.field.classes).float()


def check_loss_term(
    term: LossTerm, field: Field, *, make: Callable[[Tensor], Prediction] | None = None
) -> None:
    """Check that a loss term keeps the contract.

    Args:
        term: The term.
        field: A field whose predictions the term supports.
        make: Makes a prediction from (S, C) logits of a categorical field, or (S,) values of a
            continuous one. ``Categorical`` or ``PointEstimate`` by default.

    Raises:
        AssertionError: At the first broken clause, with its name.

    Example:
        >>> from notelstm.losses import PositivePressure
        >>> step = Field.continuous("step", "step", unit="s", low=0.0)
        >>> check_loss_term(PositivePressure(), step)
    """
    if make is None:
        make = Categorical if field.is_categorical else PointEstimate
    run("check_loss_term", LOSS_CLAUSES, LossCase(term, field, make))


def _loss_is_a_finite_scalar(case: LossCase) -> None:
    """The loss is a finite scalar and deterministic."""
    numbers = case.numbers
    value = case.term(case.make(numbers), case.target)
    require(isinstance(value, Tensor), f"Got {type(value).__name__}.")
    require(value.shape == (), f"Got shape {tuple(value.shape)}.")
    require(torch.isfinite(value), f"Got {value.item()}.")
    again = case.term(case.make(numbers), case.target)
    require(torch.equal(value, again), f"Got {value.item()}, then {again.item()}.")


def _gradient_is_finite(case: LossCase) -> None:
    """Each position has a finite gradient, also of poor predictions."""
    for scale in (1.0, 1e3):
        numbers = (scale * case.numbers).requires_grad_()
        value = case.term(case.make(numbers), case.target)
        require(value.requires_grad, "The loss has no gradient.")
        torch.autograd.backward(value)
        gradient = numbers.grad
        require(gradient is not None and torch.isfinite(gradient).all(), f"Got {gradient}.")
        if scale == 1.0 and gradient is not None:
            reached = gradient.reshape(_S, -1).abs().sum(1) > 0
            require(reached.all(), f"Position {(~reached).nonzero()[:1].tolist()} has none.")


def _shape_mismatches_are_rejected(case: LossCase) -> None:
    """Predictions and targets of different shapes raise a ShapeError."""
    numbers, target = case.numbers, case.target
    for predicted, wanted in (
        (numbers.unsqueeze(1), target),  # (S, 1) and (S,)
        (numbers, target.unsqueeze(1)),
        (numbers, target[:1]),
        (numbers[:1], target),
        (numbers, target[0]),
    ):
        shape = tuple(predicted.shape)
        lead = shape if case.field.classes is None else shape[:-1]
        try:
            case.term(case.make(predicted), wanted)
        except ShapeError:
            continue
        raise AssertionError(f"Predictions {lead} and targets {tuple(wanted.shape)} are accepted.")


def _order_is_irrelevant(case: LossCase) -> None:
    """The loss does not depend on the order of the positions."""
    numbers, target = case.numbers, case.target
    order = torch.randperm(_S, generator=torch.Generator().manual_seed(1))
    one = case.term(case.make(numbers), target)
    two = case.term(case.make(numbers[order]), target[order])
    require(torch.allclose(one, two, rtol=1e-5), f"Got {one.item()} and {two.item()}.")


def _loss_is_a_mean(case: LossCase) -> None:
    """The loss is a mean: repeating every position does not change it."""
    numbers, target = case.numbers, case.target
    one = case.term(case.make(numbers), target)
    two = case.term(case.make(torch.cat([numbers, numbers])), torch.cat([target, target]))
    require(torch.allclose(one, two, rtol=1e-5), f"Got {one.item()} and {two.item()}.")


def _perfect_predictions_have_less_loss(case: LossCase) -> None:
    """A perfect prediction has a smaller loss than a wrong one."""
    target = case.target
    bad = case.perfect(target.roll(1))
    if case.field.classes is None:
        bad = target + 5
    best = case.term(case.make(case.perfect(target)), target)
    worst = case.term(case.make(bad), target)
    require(best < worst, f"Perfect: {best.item()}, wrong: {worst.item()}.")


LOSS_CLAUSES = (
    _loss_is_a_finite_scalar,
    _gradient_is_finite,
    _shape_mismatches_are_rejected,
    _order_is_irrelevant,
    _loss_is_a_mean,
    _perfect_predictions_have_less_loss,
)
