"""One broken loss term for each clause of check_loss_term: the clause catches it, by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from notelstm.errors import ShapeError
from notelstm.fields import Field
from notelstm.predictions import Categorical, PointEstimate
from notelstm.protocols import LossTerm, Prediction
from notelstm.testing import check_loss_term
from notelstm.testing.loss_checks import LOSS_CLAUSES

STEP = Field.continuous("step", "step", unit="s", low=0.0)
PITCH = Field.categorical("pitch", "pitch", values=range(5))


def errors(prediction: Prediction, target: Tensor) -> Tensor:
    """(S,) squared errors; refuses other shapes."""
    assert isinstance(prediction, PointEstimate)
    if prediction.value.shape != target.shape:
        raise ShapeError("shapes are equal")
    return (prediction.value - target) ** 2


def good(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target).mean()


def broadcasts(prediction: Prediction, target: Tensor) -> Tensor:
    """The original's fault: (N, 1) against (N,) is (N, N)."""
    assert isinstance(prediction, PointEstimate)
    return ((prediction.value - target) ** 2).mean()


def broadcasts_a_scalar(prediction: Prediction, target: Tensor) -> Tensor:
    assert isinstance(prediction, PointEstimate)
    if target.shape not in (prediction.value.shape, ()):
        raise ShapeError("shapes are equal")
    return ((prediction.value - target) ** 2).mean()


def not_reduced(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target)


def not_finite(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target).mean() + torch.inf


def random(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target).mean() * torch.rand(())


def cut_off(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target).mean().detach()


def overflows(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target).exp().mean()


def last_only(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target)[-1]


def early_counts_more(prediction: Prediction, target: Tensor) -> Tensor:
    values = errors(prediction, target)
    return (values / torch.arange(1, len(values) + 1)).mean()


def summed(prediction: Prediction, target: Tensor) -> Tensor:
    return errors(prediction, target).sum()


def upside_down(prediction: Prediction, target: Tensor) -> Tensor:
    return -errors(prediction, target).mean()


def likelihood_of_the_first(prediction: Prediction, target: Tensor) -> Tensor:
    assert isinstance(prediction, Categorical)
    if prediction.logits.shape[:-1] != target.shape:
        raise ShapeError("shapes are equal")
    return -prediction.logits.log_softmax(-1)[:, 0].mean()


BROKEN: list[tuple[str, LossTerm, Field]] = [
    ("loss_is_a_finite_scalar", not_reduced, STEP),
    ("loss_is_a_finite_scalar", not_finite, STEP),
    ("loss_is_a_finite_scalar", random, STEP),
    ("gradient_is_finite", cut_off, STEP),
    ("gradient_is_finite", overflows, STEP),
    ("gradient_is_finite", last_only, STEP),
    ("shape_mismatches_are_rejected", broadcasts, STEP),
    ("shape_mismatches_are_rejected", broadcasts_a_scalar, STEP),
    ("order_is_irrelevant", early_counts_more, STEP),
    ("loss_is_a_mean", summed, STEP),
    ("perfect_predictions_have_less_loss", upside_down, STEP),
    ("perfect_predictions_have_less_loss", likelihood_of_the_first, PITCH),
]


@pytest.mark.parametrize(("clause", "broken", "field"), BROKEN)
def test_the_clause_bites(clause: str, broken: LossTerm, field: Field) -> None:
    with pytest.raises(AssertionError, match=f"^check_loss_term, {clause}: "):
        check_loss_term(broken, field)


def test_the_unbroken_one_passes() -> None:
    check_loss_term(good, STEP)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (None, -5.0), (-3.0, None), (2.0, 2.5)])
def test_targets_lie_in_the_domain_of_the_field(bounds: tuple[float | None, ...]) -> None:
    field = Field.continuous("level", "other", unit="", low=bounds[0], high=bounds[1])

    def strict(prediction: Prediction, target: Tensor) -> Tensor:
        low, high = field.interval
        if not bool(((target >= low) & (target <= high)).all()):
            raise ValueError(f"a target of {target.tolist()}")
        return good(prediction, target)

    check_loss_term(strict, field)


def test_every_clause_has_a_broken_term() -> None:
    names = {clause.__name__.lstrip("_") for clause in LOSS_CLAUSES}
    assert names == {clause for clause, _, _ in BROKEN}
