"""Samplers: each applies its processors in order, then chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from notelstm.fields import Field
from notelstm.predictions import Categorical
from notelstm.protocols import Prediction, Processor, View

__all__ = ["Ancestral", "Greedy", "Weighted"]


def _processed(
    processors: Sequence[Processor], field: Field, prediction: Prediction, views: Sequence[View]
) -> Prediction:
    for processor in processors:
        prediction = processor(field, prediction, views)
    return prediction


@final
@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """Draws each field from what is predicted of it, given the fields before.

    Attributes:
        processors: Applied in order before the draw.
    """

    processors: tuple[Processor, ...] = ()

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """(B,) drawn with (B, 2) noise."""
        return _processed(self.processors, field, prediction, views).draw(noise)


@final
@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Takes the most likely entry; no randomness.

    Attributes:
        processors: Applied in order before the choice.
    """

    processors: tuple[Processor, ...] = ()

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """(B,) the modes; the noise is not used."""
        return _processed(self.processors, field, prediction, views).mode()


@final
@dataclass(frozen=True, kw_only=True)
class Weighted:
    """The original's draw: classes in proportion to the head's weights, whatever they mean.

    Where a prediction has no weights of its own this is :class:`Ancestral`.

    Attributes:
        processors: Applied in order before the draw.
    """

    processors: tuple[Processor, ...] = ()

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """(B,) drawn with (B, 2) noise."""
        processed = _processed(self.processors, field, prediction, views)
        if isinstance(processed, Categorical):
            return processed.draw_weighted(noise)
        return processed.draw(noise)
