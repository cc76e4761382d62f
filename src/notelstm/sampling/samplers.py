"""Samplers, which apply their processors in order and then choose, and the input transform."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final, runtime_checkable

from torch import Tensor

from notelstm.errors import ConfigError
from notelstm.fields import Field
from notelstm.predictions import NumpyPrediction
from notelstm.protocols import Prediction, Processor, Sampler, SamplingContext
from notelstm.sampling.masking import as_processors
from notelstm.sampling.processors import Temperature, TopP

__all__ = [
    "Ancestral",
    "Greedy",
    "HasNumpyChoice",
    "NumpyChoice",
    "RawPitch",
    "Weighted",
    "with_processors",
]


def _processed(
    processors: Sequence[Processor],
    field: Field,
    prediction: Prediction,
    contexts: Sequence[SamplingContext],
) -> Prediction:
    for processor in processors:
        prediction = processor(field, prediction, contexts)
    return prediction


NumpyChoice: TypeAlias = Callable[
    [Field, NumpyPrediction, Sequence[float], Mapping[str, float]], float
]
"""Chooses the entry of a field of one sequence, given its prediction, two uniforms, and the entries
of the row that are already fixed."""


@runtime_checkable
class HasNumpyChoice(Protocol):
    """A sampler that can choose from numpy predictions, which is quicker for one sequence."""

    def numpy_choice(self) -> NumpyChoice | None:
        """The same choice for one sequence; None where processors need the tensors."""
        ...


def _sample(
    _field: Field, prediction: NumpyPrediction, noise: Sequence[float], _known: Mapping[str, float]
) -> float:
    return prediction.sample(noise)


def _mode(
    _field: Field, prediction: NumpyPrediction, _noise: Sequence[float], _known: Mapping[str, float]
) -> float:
    return prediction.mode()


def _sample_weighted(
    _field: Field, prediction: NumpyPrediction, noise: Sequence[float], _known: Mapping[str, float]
) -> float:
    return prediction.sample_weighted(noise)


@final
@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """Samples each field from its prediction, given the earlier fields.

    Attributes:
        processors: Applied in order before sampling.

    Raises:
        ConfigError: If they are not processors.
    """

    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        """Check the setting."""
        object.__setattr__(self, "processors", as_processors(self.processors))

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        """(B,) sampled with (B, 2) noise."""
        return _processed(self.processors, field, prediction, contexts).sample(noise)

    def numpy_choice(self) -> NumpyChoice | None:
        """The same choice from a numpy prediction, without processors."""
        return None if self.processors else _sample


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
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        """(B,) the modes; the noise is not used."""
        return _processed(self.processors, field, prediction, contexts).mode()

    def numpy_choice(self) -> NumpyChoice | None:
        """The same choice from a numpy prediction, without processors."""
        return None if self.processors else _mode


@final
@dataclass(frozen=True, kw_only=True)
class Weighted:
    """The original's sampling: classes in proportion to the head's weights, whatever they mean.

    Where a prediction has no weights of its own this is :class:`Ancestral`.

    Attributes:
        processors: Applied in order before sampling.

    Raises:
        ConfigError: If they are not processors.
    """

    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        """Check the setting."""
        object.__setattr__(self, "processors", as_processors(self.processors))

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        """(B,) sampled with (B, 2) noise."""
        return _processed(self.processors, field, prediction, contexts).sample_weighted(noise)

    def numpy_choice(self) -> NumpyChoice | None:
        """The same choice from a numpy prediction, without processors."""
        return None if self.processors else _sample_weighted


def with_processors(
    sampler: Sampler,
    processors: Sequence[Processor] = (),
    *,
    temperature: float | None = None,
    top_p: float | None = None,
) -> Sampler:
    """The same sampler with more processors.

    The temperature comes first and acts on the prediction of the model; then the sampler's own
    processors; then the new ones; then `top_p`, which so depends only on the entries still allowed.

    Args:
        sampler: A sampler with the setting `processors`.
        processors: More processors, in order.
        temperature: Of a :class:`~notelstm.sampling.Temperature` for all fields; None for none.
        top_p: Of a :class:`~notelstm.sampling.TopP` for all fields; None for none.

    Raises:
        ConfigError: If the sampler has no processors, or a setting is out of range.
    """
    before = () if temperature in (None, 1) else (Temperature(temperature=temperature),)
    after = () if top_p is None else (TopP(p=top_p),)
    new = as_processors(processors)
    if not (before or new or after):
        return sampler
    own = getattr(sampler, "processors", None)
    if not isinstance(own, tuple) or not dataclasses.is_dataclass(sampler):
        raise ConfigError(
            f"a {type(sampler).__name__} has no setting `processors`",
            hint="give another sampler, such as Ancestral",
        )
    made: Sampler = dataclasses.replace(sampler, processors=(*before, *own, *new, *after))
    return made


@final
@dataclass(frozen=True, kw_only=True)
class RawPitch:
    """The original's ``raw-feedback`` fault: sampled pitches are read without their scaling.

    In training the model reads pitch / 128; here it reads the pitch number itself, far outside
    the range it was trained on.
    """

    def __call__(self, rows: Tensor, fields: Sequence[Field]) -> Tensor:
        """Multiply the pitch columns of (B, F) rows by their number of classes."""
        scale = [f.classes or 1 if f.role == "pitch" else 1 for f in fields]
        return rows * rows.new_tensor(scale)
