"""Samplers: each applies its processors in order, then chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from torch import Tensor

from notelstm.fields import Field
from notelstm.predictions import Categorical, PlainCategorical
from notelstm.protocols import PlainPrediction, Prediction, Processor, View
from notelstm.sampling.settings import as_processors

__all__ = ["Ancestral", "Greedy", "Weighted"]


def _processed(
    processors: Sequence[Processor], field: Field, prediction: Prediction, views: Sequence[View]
) -> Prediction:
    for processor in processors:
        prediction = processor(field, prediction, views)
    return prediction


_Choice: TypeAlias = Callable[[PlainPrediction, Sequence[float]], float]


def _drawn(prediction: PlainPrediction, noise: Sequence[float]) -> float:
    return prediction.draw(noise)


def _likeliest(prediction: PlainPrediction, _noise: Sequence[float]) -> float:
    return prediction.mode()


def _drawn_weighted(prediction: PlainPrediction, noise: Sequence[float]) -> float:
    if isinstance(prediction, PlainCategorical):
        return prediction.draw_weighted(noise)
    return prediction.draw(noise)


@final
@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """Draws each field from what is predicted of it, given the fields before.

    Attributes:
        processors: Applied in order before the draw.

    Raises:
        ConfigError: If they are not processors.
    """

    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        """Check the setting."""
        object.__setattr__(self, "processors", as_processors(self.processors))

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """(B,) drawn with (B, 2) noise."""
        return _processed(self.processors, field, prediction, views).draw(noise)

    def lean(self) -> _Choice | None:
        """The same choice from plain numbers, where there are no processors."""
        return None if self.processors else _drawn


@final
@dataclass(frozen=True, kw_only=True)
class Greedy:
    """Takes the most likely entry; no randomness.

    Attributes:
        processors: Applied in order before the choice.

    Raises:
        ConfigError: If they are not processors.
    """

    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        """Check the setting."""
        object.__setattr__(self, "processors", as_processors(self.processors))

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """(B,) the modes; the noise is not used."""
        return _processed(self.processors, field, prediction, views).mode()

    def lean(self) -> _Choice | None:
        """The same choice from plain numbers, where there are no processors."""
        return None if self.processors else _likeliest


@final
@dataclass(frozen=True, kw_only=True)
class Weighted:
    """The original's draw: classes in proportion to the head's weights, whatever they mean.

    Where a prediction has no weights of its own this is :class:`Ancestral`.

    Attributes:
        processors: Applied in order before the draw.

    Raises:
        ConfigError: If they are not processors.
    """

    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        """Check the setting."""
        object.__setattr__(self, "processors", as_processors(self.processors))

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """(B,) drawn with (B, 2) noise."""
        processed = _processed(self.processors, field, prediction, views)
        if isinstance(processed, Categorical):
            return processed.draw_weighted(noise)
        return processed.draw(noise)

    def lean(self) -> _Choice | None:
        """The same choice from plain numbers, where there are no processors."""
        return None if self.processors else _drawn_weighted
