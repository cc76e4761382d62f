"""``Point``: a single value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from notelstm.predictions.checks import bounds, ordered
from notelstm.protocols import Legal

__all__ = ["Point"]


@final
@dataclass(frozen=True, eq=False)
class Point:
    """A single value, without a word on how sure it is: the original's step and duration.

    It has no likelihood; :class:`notelstm.evaluation.Spread` makes a
    :class:`notelstm.predictions.Normal` of it.

    Attributes:
        value: (...) in the field's unit.
    """

    value: Tensor

    def draw(self, noise: Tensor) -> Tensor:
        """(...) the value, whatever the noise."""
        return self.value

    def mode(self) -> Tensor:
        """(...) the value."""
        return self.value

    def masked(self, legal: Legal) -> Point:
        """The value cut off at the ends of what is legal."""
        low, high = bounds(legal)
        ordered(low, high)
        return Point(self.value.clamp(low.to(self.value), high.to(self.value)))

    def tempered(self, temperature: float) -> Point:
        """The same: a point has no spread."""
        return self
