"""The protocols (extension points) of the library: the methods that a part must have.

A class need not inherit from a protocol; it needs its methods. Only :class:`Prediction` has
defaults, for classes that do inherit. Two extension points are base classes with defaults:
:class:`notelstm.tracker.Tracker` and the callbacks of training. Importing this module does not
import torch. Shapes use the legend of :mod:`notelstm.batch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import FieldError
from notelstm.fields import Field, Rows
from notelstm.notes import Notes

if TYPE_CHECKING:
    from torch import Tensor

    from notelstm.batch import Batch
    from notelstm.tracker import Tracker

__all__ = [
    "Allowed",
    "Batches",
    "Context",
    "CorpusSource",
    "HasLikelihood",
    "InputTransform",
    "LossTerm",
    "NoteEncoder",
    "NoteModel",
    "Prediction",
    "Processor",
    "Sampler",
    "SamplingContext",
    "State",
    "Transform",
]

Context: TypeAlias = Any
"""The output of a model before a row: a named tuple of tensors, batch on axis 0, time on axis 1."""

State: TypeAlias = Any
"""The state that a model carries from row to row: a named tuple of tensors, batch on axis 0."""

Allowed: TypeAlias = "Tensor | tuple[Tensor, Tensor]"
"""The allowed entries of a field: (..., C) bool of a categorical one, or the least and the greatest
value, (...) each, of a continuous one."""


class NoteEncoder(Protocol):
    """Turns a piece into rows of numbers and back.

    An encoder with one row per note, with its pitch and with step and duration in seconds, needs no
    more than this. Others also have a method ``tracker()``, which returns a
    :class:`notelstm.tracker.Tracker` at the start of a piece. Encoders whose units are not those of
    the scorer have a method ``bounds()``, see
    :class:`notelstm.evaluation.nats.MeasuredEncoder`.
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """The meaning of each of the F columns."""
        ...

    def encode(self, notes: Notes) -> Rows:
        """Encode a piece.

        Args:
            notes: N notes within the encoder's domain.

        Returns:
            (N, F) float32; event encoders give more rows than notes.

        Raises:
            EncodingError: If a note is outside the domain: which one and why.
        """
        ...

    def decode(self, rows: Rows) -> Notes:
        """Decode rows, the inverse of :meth:`encode` up to the encoder's stated tolerance.

        Args:
            rows: (N, F) float32.

        Returns:
            The notes; velocity 100 where the fields have none.

        Raises:
            EncodingError: If a row cannot be a note: which one and why.
        """
        ...


class Prediction(Protocol):
    """The predicted distribution of one field, or a single value.

    The first four methods are the minimum. The others have defaults for a class that inherits from
    this one: a prediction of numbers, without weights. Samplers, processors and scorers call these
    methods and never look at the class, so a prediction of your own can be steered, truncated and,
    with :class:`HasLikelihood`, scored.
    """

    def sample(self, noise: Tensor) -> Tensor:
        """Sample by the inverse distribution function.

        Args:
            noise: (..., 2) uniforms in [0, 1).

        Returns:
            (...) class ids (int64) or values (float32).
        """
        ...

    def mode(self) -> Tensor:
        """(...) the most likely class or value."""
        ...

    def constrained(self, allowed: Allowed) -> Self:
        """The same prediction, limited to the allowed classes or values.

        Args:
            allowed: (..., C) bool of a categorical field, or the least and the greatest value,
                (...) each, of a continuous one.
        """
        ...

    def with_temperature(self, temperature: float) -> Self:
        """The same prediction, flatter above temperature 1, sharper below."""
        ...

    def log_weights(self) -> Tensor | None:
        """(..., C) unnormalised log-probability of each class, -inf for an impossible one.

        Returns:
            None for a prediction of numbers.
        """
        return None

    def add_log_weights(self, log_weights: Tensor) -> Self:
        """The same prediction with a number added to the log-weight of each class.

        Args:
            log_weights: (..., C) finite numbers.

        Returns:
            The prediction itself where it is one of numbers.

        Raises:
            FieldError: If the class has log-weights and no implementation of this method.
        """
        if self.log_weights() is None:
            return self
        raise FieldError(
            f"the class weights of a {type(self).__name__} cannot be changed",
            hint="implement add_log_weights() beside log_weights()",
        )

    def sample_weighted(self, noise: Tensor) -> Tensor:
        """Sample in proportion to weights of its own, where they differ from the probabilities.

        Args:
            noise: (..., 2) uniforms in [0, 1).
        """
        return self.sample(noise)

    def support(self) -> tuple[Tensor, Tensor] | None:
        """The least and the greatest possible value, (...) each.

        Returns:
            None for classes, and for a single value.
        """
        return None

    def shifted(self, by: Tensor) -> Self:
        """The same distribution of numbers with its centre moved, within its support.

        Args:
            by: (...) in the unit of the field.

        Returns:
            The prediction itself where it is one of classes, or a single value.
        """
        return self


@runtime_checkable
class HasLikelihood(Protocol):
    """A prediction with probabilities, which can be trained and scored by likelihood."""

    def nll(self, target: Tensor) -> Tensor:
        """(...) the negative log-probability of `target` (...), in nats."""
        ...

    def interval_prob(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
        """(...) the probability (float64) of a value of `field` in [low, high), in its unit."""
        ...


class NoteModel(Protocol):
    """A ``torch.nn.Module`` that predicts each row from those before it.

    A model is built as ``Model(fields=..., **settings)`` and offers the very keywords it was built
    with as its `config`, so that it can be saved.
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns of the rows it reads and predicts."""
        ...

    @property
    def field_order(self) -> tuple[str, ...]:
        """The names of the fields, in the order in which they are predicted."""
        ...

    def initial_state(self, batch_size: int) -> tuple[Context, State]:
        """The context and the state before the first row of a piece.

        Args:
            batch_size: B, the number of sequences.

        Returns:
            The context that predicts row 0, (B, 1, ...), and the state to read it with, (B, ...).
        """
        ...

    def forward(self, rows: Tensor, state: State) -> tuple[Context, State]:
        """Read rows.

        Args:
            rows: (B, T, F).
            state: From :meth:`initial_state` or the previous forward, (B, ...).

        Returns:
            The contexts that predict the row after each, (B, T, ...), and the state after all.
        """
        ...

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field of one row.

        Args:
            field: The field's name.
            context: Of any leading shape.
            known: The earlier fields of the same row in `field_order`, of the same leading shape:
                the true ones in training, the sampled or fixed ones in generation.
        """
        ...


class LossTerm(Protocol):
    """A distance between a prediction and its target."""

    def __call__(self, prediction: Prediction, target: Tensor) -> Tensor:
        """The loss, averaged over positions.

        Args:
            prediction: For (S,) positions.
            target: (S,) class ids (int64) or values (float32).

        Returns:
            A scalar.

        Raises:
            ShapeError: If the shapes differ; a term never broadcasts silently.
        """
        ...


class SamplingContext(NamedTuple):
    """The state of one sequence while a row is sampled.

    Attributes:
        known: The entries of the current row that are already fixed, by field name.
        tracker: The notes of the sequence so far.
    """

    known: Mapping[str, float]
    tracker: Tracker


class Sampler(Protocol):
    """Chooses the entry of a field. A plain function is a sampler, too."""

    def __call__(
        self,
        field: Field,
        prediction: Prediction,
        noise: Tensor,
        contexts: Sequence[SamplingContext],
    ) -> Tensor:
        """Choose an entry for each sequence.

        Args:
            field: The field.
            prediction: For (B,) sequences, already limited to the allowed entries.
            noise: (B, 2) uniforms in [0, 1), from the sequence's own stream.
            contexts: One for each sequence, made on access.

        Returns:
            (B,) class ids or values.
        """
        ...


class Processor(Protocol):
    """Changes a prediction before sampling. A plain function is a processor, too."""

    def __call__(
        self, field: Field, prediction: Prediction, contexts: Sequence[SamplingContext]
    ) -> Prediction:
        """Change the prediction of `field` for (B,) sequences, or return it as it is.

        At least one entry that was possible before must stay possible.
        """
        ...


class InputTransform(Protocol):
    """Maps each sampled row to the row that the model reads."""

    def __call__(self, rows: Tensor, fields: Sequence[Field]) -> Tensor:
        """Map the sampled rows (B, F) to the rows (B, F) that the model reads."""
        ...


class Batches(Protocol):
    """A training set, cut into batches."""

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        ...

    @property
    def stateful(self) -> bool:
        """Whether a lane's state is carried from batch to batch."""
        ...

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch; the same ones each time it is asked.

        Args:
            number: The epoch, from 0.
            first: The batch to begin with, so that an epoch can be resumed.
        """
        ...


class Transform(Protocol):
    """Changes pieces on their way to training; a plugin of the kind ``transforms``."""

    def sample_params(
        self,
        fields: Sequence[Field],
        low: NDArray[np.float32],
        high: NDArray[np.float32],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Choose how each piece is changed for an epoch.

        Args:
            fields: What the F columns mean.
            low: (P, F) the least entry of each column in each piece.
            high: (P, F) the greatest.
            generator: Where chance comes from.

        Returns:
            (P,) numbers that :meth:`apply` understands.

        Raises:
            FieldError: If rows of these fields cannot be changed so.
        """
        ...

    def apply(self, fields: Sequence[Field], rows: Tensor, choices: Tensor) -> Tensor:
        """Change a batch; rows of zeros, which fill lanes up, may become any rows of the fields.

        Args:
            fields: What the F columns mean.
            rows: (B, T + 1, F); they stay as they are.
            choices: (B,) what was chosen for the piece that each lane is in.

        Returns:
            (B, T + 1, F) float32.
        """
        ...


class CorpusSource(Protocol):
    """Where pieces of music come from; a plugin of the kind ``corpora``.

    It may also have a ``size``, a line on how much music it is, which ``notelstm corpora`` shows.
    """

    @property
    def name(self) -> str:
        """What files and the command line call it."""
        ...

    @property
    def license(self) -> str:
        """What one may do with the music; it is shown, and stored with what is trained on it."""
        ...

    @property
    def source(self) -> str:
        """Where the music comes from: a package, an address, a folder."""
        ...

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        """Fetch the music if need be, and read it.

        Args:
            limit: How many pieces at most; None for all.

        Returns:
            Each piece's name, the same one each time, and its notes.

        Raises:
            DataError: If no piece is there.
        """
        ...
