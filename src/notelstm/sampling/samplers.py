"""Samplers, which apply their processors in order and then choose, and the input transform."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, final, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import override

from notelstm.errors import ConfigError, FieldError, ShapeError
from notelstm.fields import Field
from notelstm.predictions import NumpyPrediction
from notelstm.predictions.categorical import in_numpy
from notelstm.protocols import Prediction, Processor, Sampler, SamplingContext
from notelstm.sampling.masking import as_processors
from notelstm.sampling.processors import Temperature, TopP
from notelstm.sampling.tones import ToneLimit, look_ahead

__all__ = [
    "Ancestral",
    "ContextOf",
    "Greedy",
    "HasNumpyChoice",
    "NumpyChoice",
    "RawPitch",
    "Weighted",
    "check_chosen",
    "with_processors",
]


NumpyChoice: TypeAlias = Callable[
    [Field, NumpyPrediction, Sequence[float], Mapping[str, float]], float
]
"""Chooses the entry of a field of one sequence, given its prediction, two uniforms, and the entries
of the row that are already fixed."""

ContextOf: TypeAlias = Callable[[Mapping[str, float]], SamplingContext]
"""The context of one sequence, given the entries of the row that are already fixed."""


@runtime_checkable
class HasNumpyChoice(Protocol):
    """A sampler that can choose from numpy predictions, which is faster for one sequence."""

    def numpy_choice(self, context_of: ContextOf) -> NumpyChoice:
        """The same choice for one sequence.

        Args:
            context_of: The context of the sequence.
        """
        ...


def check_chosen(chosen: object, field: Field, batch_size: int) -> Tensor:
    """The entries that a sampler returned.

    Raises:
        ShapeError: If there is not one entry for each sequence.
        FieldError: If a class id does not exist.
    """
    if not isinstance(chosen, Tensor) or chosen.shape != (batch_size,):
        what = f"shape {tuple(chosen.shape)}" if isinstance(chosen, Tensor) else type(chosen)
        raise ShapeError(
            f"the sampler returned {what} instead of a tensor of shape {(batch_size,)}",
            where=f"field {field.name!r}",
            hint="test the sampler with notelstm.testing.check_sampler",
        )
    if field.classes is not None:
        least, most = (int(end) for end in chosen.aminmax())
        if not 0 <= least <= most < field.classes:
            raise FieldError(
                f"the sampler returned class id {most if least >= 0 else least}, which is not "
                f"0 to {field.classes - 1}",
                where=f"field {field.name!r}",
                hint="test the sampler and its processors with notelstm.testing: check_sampler, "
                "check_processor",
            )
    return chosen


@dataclass(frozen=True, kw_only=True)
class _ProcessingSampler(abc.ABC):
    """Applies processors, then chooses."""

    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "processors", as_processors(self.processors))

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        """(B,) entries, chosen with (B, 2) noise."""
        chosen: Tensor = self._choose(self._processed(field, prediction, contexts), noise)
        return chosen

    def _processed(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """The prediction after all processors."""
        prediction = look_ahead(field, prediction, contexts, self._limits)
        for processor in self.processors:
            prediction = processor(field, prediction, contexts)
        return prediction

    @functools.cached_property
    def _limits(self) -> tuple[ToneLimit, ...]:
        return tuple(p for p in self.processors if isinstance(p, ToneLimit))

    def numpy_choice(self, context_of: ContextOf) -> NumpyChoice:
        """The same choice from a numpy prediction."""
        if not self.processors:
            return self._choose_numpy
        # Not a closure, which a deep copy of a session would share with the original.
        return functools.partial(self._choose_processed, context_of)

    def _choose_processed(
        self,
        context_of: ContextOf,
        field: Field,
        prediction: NumpyPrediction,
        noise: Sequence[float],
        known: Mapping[str, float],
    ) -> float:
        before = prediction.as_tensors()
        after = self._processed(field, before, [context_of(known)])
        if after is not before:
            numpy = in_numpy(after, field)
            if numpy is None:
                uniforms = torch.tensor([noise], dtype=torch.float64)
                return float(check_chosen(self._choose(after, uniforms), field, 1))
            prediction = numpy
        return self._choose_numpy(field, prediction, noise, known)

    def _choose_numpy(
        self,
        _field: Field,
        prediction: NumpyPrediction,
        noise: Sequence[float],
        _known: Mapping[str, float],
    ) -> float:
        return float(self._choose(prediction, noise))

    @abc.abstractmethod
    def _choose(self, prediction: Any, noise: Any) -> Any:
        """Choose from a prediction of tensors or a numpy prediction."""


@final
@dataclass(frozen=True, kw_only=True)
class Ancestral(_ProcessingSampler):
    """Samples each field from its prediction, given the earlier fields.

    Attributes:
        processors: Applied in order before sampling.
    """

    @override
    def _choose(self, prediction: Any, noise: Any) -> Any:
        return prediction.sample(noise)


@final
@dataclass(frozen=True, kw_only=True)
class Greedy(_ProcessingSampler):
    """Chooses the most likely entry, without randomness.

    Attributes:
        processors: Applied in order before the choice.
    """

    @override
    def _choose(self, prediction: Any, noise: Any) -> Any:
        return prediction.mode()


@final
@dataclass(frozen=True, kw_only=True)
class Weighted(_ProcessingSampler):
    """Samples classes in proportion to the weights of a head, as the original does.

    If a prediction has no separate weights, this is :class:`Ancestral`.

    Attributes:
        processors: Applied in order before sampling.
    """

    @override
    def _choose(self, prediction: Any, noise: Any) -> Any:
        return prediction.sample_weighted(noise)


def with_processors(
    sampler: Sampler,
    processors: Sequence[Processor] = (),
    *,
    temperature: float | None = None,
    top_p: float | None = None,
    first: Sequence[Processor] = (),
) -> Sampler:
    """The same sampler with more processors.

    The order is the temperature, the processors of the sampler, the new ones, and `top_p`, which
    thus depends only on entries that are still allowed.

    Args:
        sampler: A sampler with the setting `processors`.
        processors: More processors, in order.
        temperature: For a :class:`~notelstm.sampling.Temperature` of all fields, or None.
        top_p: For a :class:`~notelstm.sampling.TopP` of all fields, or None.
        first: Processors before all others, whose limits therefore always hold.

    Raises:
        ConfigError: If the sampler has no processors or is greedy, or a setting is out of range.
    """
    warm = () if temperature in (None, 1) else (Temperature(temperature=temperature),)
    last = () if top_p is None else (TopP(p=top_p),)
    new = as_processors(processors)
    if isinstance(sampler, Greedy) and (warm or last):
        raise ConfigError(
            "temperature and top_p do nothing with a greedy sampler",
            hint="leave them out, or use another sampler, such as Ancestral",
        )
    if not (first or warm or new or last):
        return sampler
    own = getattr(sampler, "processors", None)
    if not isinstance(own, tuple) or not dataclasses.is_dataclass(sampler):
        raise ConfigError(
            f"a {type(sampler).__name__} has no setting `processors`",
            hint="use another sampler, such as Ancestral",
        )
    changed: Sampler = dataclasses.replace(sampler, processors=(*first, *warm, *own, *new, *last))
    return changed


@final
@dataclass(frozen=True, kw_only=True)
class RawPitch:
    """The ``raw-feedback`` fault of the original: the model reads sampled pitches unscaled.

    It is trained on pitch / 128, but reads the pitch number in generation, far outside the range of
    its training.
    """

    def __call__(self, rows: Tensor, fields: Sequence[Field]) -> Tensor:
        """Multiply the pitch columns of (B, F) rows by their number of classes."""
        scale = [f.classes or 1 if f.role == "pitch" else 1 for f in fields]
        return rows * rows.new_tensor(scale)
