"""The seams: what a part must offer to be put in.

Each protocol is one or two methods; a class need not inherit from it, it only needs to fit. Shapes
use the legend of :mod:`notelstm.batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from notelstm.batch import Batch
from notelstm.fields import Field, Mask, Role, Row, Rows
from notelstm.notes import Note, Notes
from notelstm.tree import Tree

__all__ = [
    "RECALLED",
    "Batches",
    "Bounds",
    "BulkTracker",
    "Context",
    "CorpusSource",
    "Density",
    "Feedback",
    "LeanModel",
    "LeanSampler",
    "LeanStep",
    "Legal",
    "LossTerm",
    "MeasuredEncoder",
    "NoteEncoder",
    "NoteModel",
    "PlainPrediction",
    "Prediction",
    "Processor",
    "RecallingTracker",
    "Sampler",
    "SharedBatches",
    "State",
    "StepTracker",
    "Tracker",
    "TrackingEncoder",
    "Transform",
    "View",
]

Context: TypeAlias = Tree
"""What a model knows before a row: a named tuple of tensors, batch on axis 0, time on axis 1."""

State: TypeAlias = Tree
"""What a model carries from row to row: a named tuple of tensors, batch on axis 0."""

Legal: TypeAlias = "Tensor | tuple[Tensor, Tensor]"
"""What may come next, for many lanes: (..., C) bool of a categorical field, or the least and the
greatest value, (...) each, of a continuous one."""

RECALLED: Final = 1024
"""How many of the latest notes a tracker recalls when it has forgotten them."""

Bounds: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(N,) where cells begin and (N,) where they end, ends not included; infinite without an end."""


class NoteEncoder(Protocol):
    """Turns a piece into rows of numbers and back.

    An encoder with one row a note needs no more than this; one that says a note in several rows
    is a :class:`TrackingEncoder`.
    """

    @property
    def fields(self) -> tuple[Field, ...]:
        """What each of the F columns means."""
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


class Tracker(Protocol):
    """Decoding, a row at a time: the one implementation of grammar, clock and note count."""

    @property
    def n(self) -> int:
        """How many notes have begun."""
        ...

    @property
    def clock(self) -> float:
        """Seconds from the start of the piece to now."""
        ...

    def push(self, row: Row) -> None:
        """Take in the next row, (F,)."""
        ...

    def sounding(self, at: float) -> Set[int]:
        """The pitches that sound `at` seconds after the start of the piece."""
        ...

    def legal(self, field: Field, known: Mapping[str, float]) -> Mask | None:
        """What `field` of the next row may be so that it can be decoded; None for anything.

        Args:
            field: The field about to be drawn.
            known: The entries of the same row that are already fixed, by field name.
        """
        ...

    def closing(self) -> Rows:
        """The rows that end what still sounds, (M, F); empty for one row a note."""
        ...

    def notes(self) -> Notes:
        """Everything pushed so far and not forgotten, decoded."""
        ...

    def forget(self, *, everything: bool = False) -> Sequence[tuple[int, Note]]:
        """Give out the notes whose end is known, and keep them no longer.

        So music may go on for ever. Count, clock, what sounds and what is legal stay as they are.

        Args:
            everything: Also those that still go on, with the ends that :meth:`notes` gives them;
                the music is over then.

        Returns:
            Each note with its number, from 0 in the order of onset; in the order of their ends.
        """
        ...

    def copy(self) -> Self:
        """Another tracker that stands where this one does; each then goes its own way."""
        ...


@runtime_checkable
class BulkTracker(Tracker, Protocol):
    """A tracker that takes in many rows faster than one by one."""

    def extend(self, rows: Rows) -> None:
        """Take in the next rows, (N, F), to the same end as one by one."""
        ...


@runtime_checkable
class RecallingTracker(Tracker, Protocol):
    """A tracker that tells its latest notes without decoding all of them."""

    def latest(self, count: int) -> Sequence[tuple[float, int]]:
        """Onset (s) and pitch of the latest notes, in order; the last one begins at the clock.

        Args:
            count: How many at most, at least 1; of forgotten notes at least the latest 1,024 are
                told.
        """
        ...


@runtime_checkable
class StepTracker(Tracker, Protocol):
    """A tracker of rows with a step: what a processor must know to judge a step.

    Steps, and times counted with them, are in the unit of the step's field.
    """

    @property
    def place(self) -> float:
        """Where the latest note begins: since the start of the piece, or since its bar line."""
        ...

    @property
    def pace(self) -> float:
        """Seconds that a step of 1 lasts from here on."""
        ...

    def remaining(self) -> Sequence[tuple[float, int]]:
        """How much longer each note lasts that sounds beyond the latest onset, and its pitch."""
        ...

    def overlapping(self, known: Mapping[str, float]) -> Set[int] | None:
        """The pitches that still sound where the next note begins; None while that is open.

        Args:
            known: The entries of its row that are already fixed, by field name.
        """
        ...


@runtime_checkable
class TrackingEncoder(NoteEncoder, Protocol):
    """An encoder that decodes row by row with a tracker of its own."""

    def tracker(self) -> Tracker:
        """A tracker at the start of a piece."""
        ...


@runtime_checkable
class MeasuredEncoder(NoteEncoder, Protocol):
    """An encoder whose units are not those of the measure, and that knows how they go together.

    The measure needs it of encoders with fields other than pitch, step and duration in seconds,
    velocity and events. What fields of metre, position and tempo cost is added to the step's:
    together they say when a note begins.
    """

    def bounds(
        self, notes: Notes, rows: Rows, cells: Mapping[Role, Bounds]
    ) -> Mapping[str, Bounds]:
        """Which interval of each field is the cell in which the note falls.

        For each row the intervals of all cells must divide the values that a field can have, and
        may depend on the rows before and on the row itself only by what the measure charges for.

        Args:
            notes: N notes.
            rows: (N, F) the same, encoded.
            cells: The cell of each note: pitch, step and duration (s), velocity, by role. A step
                is counted from the true onset of the note before.

        Returns:
            The intervals by field name, in the field's unit; the row's own class where a field has
            no cells.
        """
        ...


class Prediction(Protocol):
    """What a head says of one field: a distribution, or a single value."""

    def draw(self, noise: Tensor) -> Tensor:
        """Draw by inverse distribution function.

        Args:
            noise: (..., 2) uniforms in [0, 1).

        Returns:
            (...) class ids (int64) or values (float32).
        """
        ...

    def mode(self) -> Tensor:
        """(...) the most likely class or value."""
        ...

    def masked(self, legal: Legal) -> Self:
        """The same prediction confined to what is legal."""
        ...

    def tempered(self, temperature: float) -> Self:
        """The same prediction, flatter above temperature 1, sharper below."""
        ...


@runtime_checkable
class Density(Prediction, Protocol):
    """A prediction that gives probabilities, so that it can be trained and scored by likelihood."""

    def nll(self, target: Tensor) -> Tensor:
        """(...) the negative logarithm of the probability of `target` (...), in nats."""
        ...

    def mass(self, field: Field, low: Tensor, high: Tensor) -> Tensor:
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
    def order(self) -> tuple[str, ...]:
        """The names of the fields, in the order in which they are predicted."""
        ...

    def start(self, batch: int) -> tuple[Context, State]:
        """Before the first row of a piece.

        Args:
            batch: B, the number of lanes.

        Returns:
            The context that predicts row 0, (B, 1, ...), and the state that row 0 meets, (B, ...).
        """
        ...

    def forward(self, rows: Tensor, state: State) -> tuple[Context, State]:
        """Read rows.

        Args:
            rows: (B, T, F).
            state: What :meth:`start` or the forward before gave, (B, ...).

        Returns:
            The contexts that predict the row after each, (B, T, ...), and the state after all.
        """
        ...

    def predict(self, field: str, context: Context, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field of one row.

        Args:
            field: The field's name.
            context: Of any leading shape.
            known: The fields of the same row that come earlier in `order`, of the same leading
                shape: the true ones in training, the drawn or forced ones in generation.
        """
        ...


class PlainPrediction(Protocol):
    """What a head says of one field of one lane, in plain numbers: quick to draw from."""

    def draw(self, noise: Sequence[float]) -> float:
        """The class id or value that the :class:`Prediction` draws with the same two uniforms."""
        ...

    def mode(self) -> float:
        """The most likely class id or value."""
        ...

    def masked(self, legal: Mask) -> Self:
        """The same prediction confined to what is legal."""
        ...


class LeanStep(Protocol):
    """A model for B lanes, without autograd and modules: what it says agrees to 1e-5.

    It has contexts and states of its own: named tuples of arrays with the lanes on axis 0, which
    it never changes once it has given them out.
    """

    def start(self) -> tuple[Any, Any]:
        """Before the first row, in one lane: the context that predicts it, and the state."""
        ...

    def step(self, rows: Rows, state: Any) -> tuple[Any, Any]:
        """Read one row in each lane, (B, F).

        Returns:
            The context that predicts the next row, and the state after this one.
        """
        ...

    def predict(self, field: str, context: Any, known: Mapping[str, Tensor]) -> Prediction:
        """Predict one field, (B,), given at least those that come earlier in the order, (B,)."""
        ...

    def plain(self, field: str, context: Any, known: Mapping[str, float]) -> PlainPrediction:
        """The same for one lane alone, B = 1, in plain numbers."""
        ...


@runtime_checkable
class LeanModel(Protocol):
    """A model that can give a lean copy of itself."""

    def lean(self) -> LeanStep | None:
        """The copy, with the weights as they are now; None if there is none, on a GPU say."""
        ...


class LossTerm(Protocol):
    """How far a prediction is from what came."""

    def __call__(self, prediction: Prediction, target: Tensor) -> Tensor:
        """The loss, averaged over positions.

        Args:
            prediction: For (S,) positions.
            target: (S,) what came: class ids (int64) or values (float32).

        Returns:
            A scalar.

        Raises:
            ShapeError: If the shapes differ; a term never broadcasts in silence.
        """
        ...


class View(NamedTuple):
    """What a sampler or processor may know of one lane.

    Attributes:
        known: The entries of the row being drawn that are already fixed, by field name.
        tracker: The lane's music so far.
    """

    known: Mapping[str, float]
    tracker: Tracker


class Sampler(Protocol):
    """Chooses the entry of a field. A plain function will do."""

    def __call__(
        self, field: Field, prediction: Prediction, noise: Tensor, views: Sequence[View]
    ) -> Tensor:
        """Choose.

        Args:
            field: The field.
            prediction: For (B,) lanes, already confined to what is legal.
            noise: (B, 2) uniforms in [0, 1), each lane's from its own stream.
            views: One for each lane, made when looked at.

        Returns:
            (B,) class ids or values.
        """
        ...


@runtime_checkable
class LeanSampler(Protocol):
    """A sampler that can choose from plain numbers."""

    def lean(self) -> Callable[[PlainPrediction, Sequence[float]], float] | None:
        """The very same choice for one lane; None if it must look at more, for processors say."""
        ...


class Processor(Protocol):
    """Changes a prediction before the draw. A plain function will do."""

    def __call__(self, field: Field, prediction: Prediction, views: Sequence[View]) -> Prediction:
        """Change, or return as it is, what is predicted of `field` for (B,) lanes.

        What is left must hold at least one of the entries that were possible before.
        """
        ...


class Feedback(Protocol):
    """A hook of the note loop: what the model reads of the row that was just drawn."""

    def __call__(self, rows: Tensor, fields: Sequence[Field]) -> Tensor:
        """Map the drawn rows (B, F) to the rows (B, F) that the model reads."""
        ...


class Batches(Protocol):
    """A training set, cut into batches."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        ...

    @property
    def carries(self) -> bool:
        """Whether a lane's state is carried from batch to batch."""
        ...

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch; the same ones each time it is asked.

        Args:
            number: The epoch, from 0.
            first: The batch to begin with, so that an epoch can be resumed.
        """
        ...


@runtime_checkable
class SharedBatches(Batches, Protocol):
    """Batches of which each of several processes can read its own lanes alone."""

    def share(self, number: int, count: int) -> Batches:
        """As many batches, each with one process's lanes only; there may be none in them.

        Args:
            number: Of the process, from 0.
            count: How many processes there are; together their lanes are those of `self`, in order.
        """
        ...


class Transform(Protocol):
    """Changes pieces on their way to training; a plugin of the kind ``transforms``."""

    def choose(
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
    def licence(self) -> str:
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
