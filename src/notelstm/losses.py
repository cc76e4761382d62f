"""``CompositeLoss`` and its terms.

A term is a scalar, the mean of a loss over S positions. Predictions and targets must have the same
shape; :class:`AllPairs` alone broadcasts them, on purpose.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast, final

import torch
from torch import Tensor

from notelstm.errors import ConfigError, FieldError, ShapeError
from notelstm.fields import Field, predicted
from notelstm.protocols import HasLikelihood, LossTerm, Prediction

__all__ = ["AllPairs", "CompositeLoss", "Likelihood", "Losses", "PositivePressure"]


class Losses(NamedTuple):
    """The weighted sum of a :class:`CompositeLoss` and its unweighted terms by field, scalars."""

    total: Tensor
    terms: dict[str, Tensor]


@final
@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The mean negative log-likelihood, in nats; the cross entropy of a categorical field."""

    def __call__(self, prediction: Prediction, target: Tensor) -> Tensor:
        """The mean over (S,) positions; a prediction without probabilities is a FieldError."""
        if not _has_likelihood(type(prediction)):
            raise FieldError(
                f"a {type(prediction).__name__} has no likelihood",
                hint="use PositivePressure for point estimates, or a model with likelihood heads",
            )
        return cast(HasLikelihood, prediction).nll(target).mean()


@functools.lru_cache(maxsize=64)
def _has_likelihood(kind: type) -> bool:
    """Whether predictions of a class have a likelihood.

    Cached, since the check of a protocol takes longer than the loss.
    """
    return issubclass(kind, HasLikelihood)


def _check_pressure(pressure: object) -> None:
    if (
        isinstance(pressure, bool)
        or not isinstance(pressure, numbers.Real)
        or not 0 <= float(pressure) < math.inf
    ):
        raise ConfigError(f"pressure {pressure!r} is not a finite number of at least 0")


def _point_estimate(prediction: Prediction, target: Tensor) -> Tensor:
    if _has_likelihood(type(prediction)):
        raise FieldError(
            f"a squared error needs a point estimate, not a {type(prediction).__name__}",
            hint="use Likelihood for distributions",
        )
    value = prediction.mode()
    if value.shape != target.shape:
        raise ShapeError(
            f"the prediction has shape {tuple(value.shape)}, the target {tuple(target.shape)}",
            hint="squeeze the prediction, or use AllPairs to compare all with all",
        )
    return value


@final
@dataclass(frozen=True, kw_only=True)
class PositivePressure:
    """Squared error plus a penalty of negative predictions: ``(y - p)^2 + pressure max(-p, 0)``.

    Attributes:
        pressure: Weight of the penalty, at least 0; 0 for a plain squared error.

    Raises:
        ConfigError: If it is not a finite number of at least 0.

    Source:
        TensorFlow's tutorial "Generate music with an RNN" (``mse_with_positive_pressure``).
    """

    pressure: float = 10.0

    def __post_init__(self) -> None:
        _check_pressure(self.pressure)

    def __call__(self, prediction: Prediction, target: Tensor) -> Tensor:
        """The mean over (S,) positions; a prediction that is not a point is a FieldError."""
        value = _point_estimate(prediction, target)
        return ((target - value) ** 2 + self.pressure * (-value).clamp_min(0)).mean()


@final
@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """:class:`PositivePressure` of every prediction against every target, (S, S).

    This reproduces a fault of the original, in which (S, 1) predictions and (S,) labels broadcast:
    the head is trained towards the mean of the batch.

    Raises:
        ConfigError: If the pressure is not a finite number of at least 0.
    """

    pressure: float = 10.0

    def __post_init__(self) -> None:
        _check_pressure(self.pressure)

    def __call__(self, prediction: Prediction, target: Tensor) -> Tensor:
        """The mean over (S, S) pairs; a prediction that is not a point is a FieldError."""
        value = _point_estimate(prediction, target)
        pairs = (target[None, :] - value[:, None]) ** 2  # (S, S)
        return (pairs + self.pressure * (-value[:, None]).clamp_min(0)).mean()


@final
@dataclass(frozen=True, kw_only=True)
class CompositeLoss:
    """A weighted sum of terms, one for each field.

    Attributes:
        terms: The term of each field and its weight (at least 0), by field name.

    Raises:
        ConfigError: If there is no term, a field has no term with a weight, or a weight is no
            number, negative or not finite.

    Example:
        >>> loss = CompositeLoss(terms={"pitch": (Likelihood(), 0.1)})
        >>> loss.weights
        {'pitch': 0.1}
    """

    terms: Mapping[str, tuple[LossTerm, float]]

    def __post_init__(self) -> None:
        if not self.terms:
            raise ConfigError("the loss has no terms", hint="give a term for each field")
        for name, pair in self.terms.items():
            where = f"field {name!r}"
            if not (isinstance(pair, Sequence) and len(pair) == 2 and callable(pair[0])):
                raise ConfigError(
                    f"{pair!r} is not a term and its weight",
                    where=where,
                    hint="give both, as in (Likelihood(), 1.0)",
                )
            weight = pair[1]
            if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
                raise ConfigError(f"the weight {weight!r} is not a number", where=where)
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"the weight {weight} is negative or not finite", where=where)

    @classmethod
    def for_fields(
        cls, fields: Sequence[Field], *, continuous: LossTerm | None = None
    ) -> CompositeLoss:
        """A term of weight 1 for each field: :class:`Likelihood`, or `continuous` for numbers.

        Given fields have no term.
        """
        term = Likelihood() if continuous is None else continuous
        return cls(
            terms={
                f.name: (Likelihood() if f.is_categorical else term, 1.0) for f in predicted(fields)
            }
        )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each field."""
        return {name: weight for name, (_, weight) in self.terms.items()}

    def __call__(
        self, predictions: Mapping[str, Prediction], targets: Mapping[str, Tensor]
    ) -> Losses:
        """The weighted sum and each term, from (S,) predictions and targets by field name."""
        values = {
            name: term(predictions[name], targets[name]) for name, (term, _) in self.terms.items()
        }
        weighted = (self.terms[name][1] * value for name, value in values.items())
        return Losses(functools.reduce(torch.add, weighted), values)

    def balanced(self, measured: Mapping[str, float]) -> CompositeLoss:
        """The same terms with weights that make the measured weighted terms equal.

        The sum of the weights stays. The author of the original chooses such weights by hand after
        a first run.

        Args:
            measured: The term of each field, from `Losses.terms` or
                :func:`notelstm.training.measure_terms`.

        Raises:
            ConfigError: If a term is missing, 0 or not finite.
        """
        for name in self.terms:
            value = measured.get(name, 0.0)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    f"the measured loss {value} is not a finite number above 0",
                    where=f"field {name!r}",
                    hint="measure on a batch that has every field",
                )
        inverse = {name: 1 / measured[name] for name in self.terms}
        scale = sum(self.weights.values()) / sum(inverse.values())
        return CompositeLoss(
            terms={name: (term, inverse[name] * scale) for name, (term, _) in self.terms.items()}
        )
