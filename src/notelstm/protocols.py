"""The protocols (extension points) of the library: the methods that a part must have.

A class need not inherit from a protocol. Only :class:`Prediction` has default methods, for classes
that do inherit. Two extension points are base classes: :class:`notelstm.tracker.Tracker` and the
callbacks of training. This module does not import torch at run time. Shapes use the legend of
:mod:`notelstm.batch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

from numpy.typing import ArrayLike

from notelstm.errors import FieldError
from notelstm.fields import Field, Row, Rows
from notelstm.notes import Note, Notes

if TYPE_CHECKING:
    from torch import Tensor

    from notelstm.batch import Batch
    from notelstm.tracker import Tracker

__all__ = [
    "Allowed",
    "AnticipatesNotes",
    "Batches",
    "ConstrainingEncoder",
    "Context",
    "HasLikelihood",
    "InputTransform",
    "LossTerm",
    "NoteEncoder",
    "NoteModel",
    "Prediction",
    "Processor",
    "Sampler",
    "SamplingContext",
    "SnappingEncoder",
    "State",
]

Context: TypeAlias = Any
"""The output of a model before a row: a named tuple of tensors, batch on axis 0, time on axis 1."""

State: TypeAlias = Any
"""The state that a model carries from row to row: a named tuple of tensors, batch on axis 0."""

Allowed: TypeAlias = "Tensor | tuple[Tensor, Tensor]"
"""The allowed entries of a field: (..., C) bool if it is categorical, the minimum and the maximum,
(...) each, if it is continuous."""


class NoteEncoder(Protocol):
    """Turns a piece into rows of numbers and back.

    These methods are enough for an encoder with one row per note and fields for pitch, step and
    duration in seconds. Other encoders also have a method ``tracker()``, which returns a
    :class:`notelstm.tracker.Tracker` at the start of a piece. If an encoder has other units than
    the scorer, it has a method ``bounds()``: see :class:`notelstm.evaluation.nats.MeasuredEncoder`.
    An encoder that never gives some rows can exclude them from a model's predictions, with the
    method of a :class:`ConstrainingEncoder`. One that moves, sorts or merges notes before it
    encodes them is a :class:`SnappingEncoder`.
    An encoder that counts the notes that it changes has a method ``changes()``: see
    :class:`notelstm.encoders.rows.ReportingEncoder`.
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
            EncodingError: If a note is outside the domain; it names the note and the reason.
        """
        ...

    def decode(self, rows: Rows) -> Notes:
        """Decode rows, the inverse of :meth:`encode` up to the encoder's stated tolerance.

        Args:
            rows: (N, F) float32.

        Returns:
            The notes, with velocity 100 if the encoder has no such field.

        Raises:
            EncodingError: If a row cannot be decoded; it names the row and the reason.
        """
        ...


@runtime_checkable
class ConstrainingEncoder(NoteEncoder, Protocol):
    """An encoder that limits the classes of a row, given the row before it.

    Training, scoring and generation exclude the other classes from the predictions of a model, so
    that the probabilities of the allowed ones sum to 1. All three use this one method.
    """

    @property
    def limited_fields(self) -> tuple[str, ...]:
        """The names of the fields whose classes are limited; none if all rows are allowed."""
        ...

    def allowed_classes(
        self, field: str, known: Mapping[str, Any], previous: Mapping[str, Any]
    ) -> Any:
        """The classes of a field with which a row can be completed.

        The rows that :meth:`encode` gives are allowed, and some class is allowed whatever allowed
        entries are known. The method is called with arrays of numpy, for one sequence, and of
        torch, on any device, and returns an array of the same kind; operators are enough.

        Args:
            field: The name of one of :attr:`limited_fields`, a field of classes.
            known: (...) the entries of the same row that are known, by field name: those of given
                fields, of fields that are predicted earlier, and those that are fixed.
            previous: (...) the entries of the row before, by field name. Before the first row of a
                piece, class ids are -1 and numbers NaN.

        Returns:
            (..., C) bool, or None if all classes are allowed.
        """
        ...


@runtime_checkable
class SnappingEncoder(NoteEncoder, Protocol):
    """An encoder whose rows encode the notes moved to a grid, sorted, or merged."""

    def snapped(self, notes: Notes) -> Notes | None:
        """The notes that the rows of N notes encode, one for each row and in their order.

        They have the same rows as `notes`. Steps are counted from these notes, not from those that
        the rows before decode to.

        Returns:
            At most N notes; None if the rows encode `notes` as they are.
        """
        ...


@runtime_checkable
class AnticipatesNotes(NoteEncoder, Protocol):
    """An encoder whose rows can have notes that are given, before they sound.

    While rows are generated, a given note is due after the first row after which the time of the
    tracker is at least its onset less :attr:`seconds`, or at the start. Its row is fed and not
    sampled. Given notes that are due together have the order of :meth:`encode_given`. The rows that
    a model writes are those of :func:`notelstm.fields.written_rows`; the notes of a tracker are the
    written ones.
    """

    @property
    def seconds(self) -> float:
        """The time by which given notes precede their onset."""
        ...

    def encode_given(self, notes: Notes, given: ArrayLike) -> Rows:
        """(M, F) rows of N notes, those of which (N,) bool `given` is true are given."""
        ...

    def given_row(self, note: Note, clock: float) -> Row:
        """(F,) the row of a given note while the time of the tracker is `clock`, in seconds.

        The time of the note is counted as the tracker counts, from the onset of the first note of
        all, and is at least that of the clock.
        """
        ...


class Prediction(Protocol):
    """The predicted distribution of one field, or a point estimate.

    The first four methods are required. The defaults of the others are for a prediction of numbers
    without weights. Samplers, processors and scorers call these methods and do not check the class,
    so that your own predictions can be constrained, truncated and, with :class:`HasLikelihood`,
    scored.
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
        """The same prediction, limited to the allowed classes or values."""
        ...

    def with_temperature(self, temperature: float) -> Self:
        """The same prediction, flatter above temperature 1 and sharper below."""
        ...

    def log_weights(self) -> Tensor | None:
        """(..., C) unnormalised log-probability of each class, -inf for impossible classes.

        None for a prediction of numbers.
        """
        return None

    def add_log_weights(self, log_weights: Tensor) -> Self:
        """The same prediction with a number added to the log-weight of each class.

        Args:
            log_weights: (..., C) finite numbers, or -inf to exclude a class; some possible class
                must remain.

        Returns:
            The prediction itself if it is one of numbers.

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
        """Sample as :meth:`sample`, in proportion to separate weights if the prediction has any."""
        return self.sample(noise)

    def support(self) -> tuple[Tensor, Tensor] | None:
        """The minimum and the maximum possible value, (...) each; None for classes and points."""
        return None

    def shifted(self, by: Tensor) -> Self:
        """The same distribution of numbers with its centre moved, within its support.

        Args:
            by: (...) in the unit of the field.

        Returns:
            The prediction itself if it is one of classes or a point estimate.
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

    A model is built as ``Model(fields=..., **settings)`` and has these keywords as its attribute
    `config`, so that it can be saved.

    The state has a fixed size: the shapes and types of its tensors depend on the batch size alone,
    not on the number of rows read. So the time and memory per row stay constant, a state can be
    carried from batch to batch and saved in a checkpoint, and sequences with different numbers of
    rows can be selected and joined along the batch axis. A model with a limited context, such as a
    causal transformer, keeps its last rows or keys in a ring buffer of fixed length, and their
    number as a tensor (B,).
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns of the rows."""
        ...

    @property
    def field_order(self) -> tuple[str, ...]:
        """The names of the fields that are not given, in the order in which they are predicted."""
        ...

    def initial_state(self, batch_size: int) -> tuple[Context, State]:
        """The context (B, 1, ...) that predicts row 0 of a piece, and the state (B, ...) before."""
        ...

    def forward(self, rows: Tensor, state: State) -> tuple[Context, State]:
        """Read rows.

        Args:
            rows: (B, T, F).
            state: From :meth:`initial_state` or the previous forward, (B, ...).

        Returns:
            The contexts that predict the row after each, (B, T, ...), and the state after the last.
        """
        ...

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field of one row.

        Args:
            field: The name of the field, which is not given.
            context: Contexts of any leading shape.
            known: The entries of the given fields of the same row, and of those that come earlier
                in `field_order`, of the same leading shape: targets in training, sampled or fixed
                ones in generation.
        """
        ...


class LossTerm(Protocol):
    """A loss of a prediction, given its target."""

    def __call__(self, prediction: Prediction, target: Tensor) -> Tensor:
        """The loss, averaged over positions.

        Args:
            prediction: For (S,) positions.
            target: (S,) class ids (int64) or values (float32).

        Returns:
            A scalar.

        Raises:
            ShapeError: If the shapes differ; terms do not broadcast.
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
    """Chooses the entry of a field. A sampler can be a function."""

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
            prediction: For (B,) sequences, constrained to the allowed entries.
            noise: (B, 2) uniforms in [0, 1), from a separate stream for each sequence.
            contexts: The context of each sequence, created on access.

        Returns:
            (B,) class ids or values.
        """
        ...


class Processor(Protocol):
    """Changes a prediction before sampling. A processor can be a function."""

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
    """A training set in batches."""

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        ...

    @property
    def stateful(self) -> bool:
        """Whether each sequence continues in the next batch, with its state."""
        ...

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, the same ones at each call.

        Args:
            number: The epoch, from 0.
            first: The first batch, to resume an epoch.
        """
        ...
