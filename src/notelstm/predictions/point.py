"""``PointEstimate``: a single value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from notelstm.predictions.checks import bounds, ordered
from notelstm.protocols import Allowed, Prediction

__all__ = ["PointEstimate"]


@final
@dataclass(frozen=True, eq=False)
class PointEstimate(Prediction):
    """A single value, without a word on how sure it is: the original's step and duration.

    It has no likelihood; :class:`notelstm.evaluation.PointToNormal` makes a
    :class:`notelstm.predictions.Normal` of it.

    Attributes:
        value: (...) in the field's unit.
    """

    value: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """(...) the value, whatever the noise."""
        return self.value

    def mode(self) -> Tensor:
        """(...) the value."""
        return self.value

    def constrained(self, allowed: Allowed) -> PointEstimate:
        """The value cut off at the ends of what is allowed."""
        low, high = bounds(allowed)
        ordered(low, high)
        return PointEstimate(self.value.clamp(low.to(self.value), high.to(self.value)))

    def with_temperature(self, temperature: float) -> PointEstimate:
        """The same: a point has no spread."""
        return self
