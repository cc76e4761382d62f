"""Nats per note: the one measure that compares any model with any other.

Each piece is snapped to the grid, encoded, and read by the model from its beginning. From note 25
on, -ln P of each note's cell (or of each event) is summed, field by field, and divided by the
number of notes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.batch import columns
from notelstm.encoders import tracker_of
from notelstm.errors import DataError, EncodingError, FieldError, counted
from notelstm.evaluation.contexts import contexts
from notelstm.evaluation.grid import FIRST, GRIDS, UNIFORM_MIXIN, cells_of, quantize
from notelstm.evaluation.reliability import Reliability
from notelstm.evaluation.scores import PieceScore, Scores, all_scored, long_enough
from notelstm.evaluation.spread import PointToNormal
from notelstm.fields import Bounds, Field, Role, Rows
from notelstm.models.inference import in_use
from notelstm.notes import Notes
from notelstm.predictions import Categorical
from notelstm.protocols import HasLikelihood, NoteEncoder, NoteModel, Prediction
from notelstm.tree import leaf

__all__ = ["MeasuredEncoder", "nats_per_note", "score_piece"]

_log = logging.getLogger(__name__)

_REASONS: Final = 3
"""How many reasons a warning names."""

_COUNTED_AS: Final[Mapping[Role, Role]] = {
    "time_signature": "step",
    "position": "step",
    "tempo": "step",
}
"""What fields of a beat cost is a part of the step's: together they say when a note begins."""


@runtime_checkable
class MeasuredEncoder(NoteEncoder, Protocol):
    """An encoder whose units are not those of the measure, and that knows how they go together.

    The measure needs it of encoders with fields other than pitch, step and duration in seconds,
    velocity and events. What fields of time signature, position and tempo cost is added to the
    step's: together they say when a note begins.
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


def nats_per_note(
    model: NoteModel,
    encoder: NoteEncoder,
    pieces: Sequence[Notes],
    *,
    sigmas: Mapping[str, float] | None = None,
    names: Sequence[str] | None = None,
) -> Scores:
    """Score a model on held-out pieces.

    Args:
        model: The model as it generates: :attr:`~notelstm.bundle.Bundle.generation_model` of a
            bundle.
        encoder: Its encoder.
        pieces: Held-out pieces; those of 25 notes or fewer are left out and counted, those that
            the encoder refuses are left out with the reason.
        sigmas: Of point predictions, by field name.
        names: What the pieces are called; None for their numbers.

    Raises:
        DataError: If no piece has more than 25 notes and is accepted by the encoder, or there are
            not as many names as pieces.
        FieldError: If a field cannot be measured.
    """
    scored: list[PieceScore] = []
    refused: dict[str, str] = {}
    for name, piece in long_enough(pieces, names):
        try:
            score = score_piece(model, encoder, piece, sigmas=sigmas, name=name)
        except EncodingError as error:
            refused[name] = str(error)
            continue
        # An encoder that merges notes may have left too few of a piece.
        if score.notes > 0:
            scored.append(score)
    if refused:
        _log.warning("%s", _to_context(refused))
    return all_scored(scored, len(pieces), refused)


def _to_context(refused: Mapping[str, str]) -> str:
    """How many pieces the encoder refused, and the first reasons."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:_REASONS])
    return f"left out: {counted(len(refused), 'piece')} that the encoder refuses: {reasons}"


def score_piece(
    model: NoteModel,
    encoder: NoteEncoder,
    piece: Notes,
    *,
    sigmas: Mapping[str, float] | None = None,
    name: str = "",
) -> PieceScore:
    """Score one piece of more than 25 notes.

    Args:
        model: As for :func:`nats_per_note`.
        encoder: As for :func:`nats_per_note`.
        piece: The piece.
        sigmas: As for :func:`nats_per_note`.
        name: What it is called.

    Raises:
        DataError: If it is too short.
        FieldError: If a field cannot be measured.
    """
    if len(piece) <= FIRST:
        raise DataError(
            f"the piece is too short to be scored: {counted(len(piece), 'note')}",
            where=name,
            hint=f"give one of more than {FIRST} notes",
        )
    notes = quantize(piece)
    rows = encoder.encode(notes)
    spread = PointToNormal(sigmas=sigmas or {})
    bounds: Mapping[str, Bounds] = {}
    if any(field.role == "event" for field in encoder.fields):
        wanted, count = _event_rows(encoder, rows)
    else:
        wanted, count = np.arange(len(rows)) >= FIRST, len(notes) - FIRST
        bounds = _bounds(encoder, notes, rows)
    tally = _Sums()
    with in_use(model):
        for here, context in contexts(model, torch.from_numpy(rows)):
            device = leaf(context).device
            known = columns(torch.from_numpy(rows[here]).to(device), encoder.fields)
            chosen = torch.from_numpy(wanted[here]).to(device)
            for field in encoder.fields:
                prediction = spread(field.name, model.predict(field.name, context, known))
                entries = known[field.name]
                if not isinstance(prediction, HasLikelihood):
                    raise FieldError(
                        f"{type(prediction).__name__} has no likelihood to score",
                        where=f"field {field.name!r}",
                        hint="give the prediction the methods of notelstm.protocols.HasLikelihood",
                    )
                if bounds:
                    low, high = (torch.from_numpy(b[here]).to(device) for b in bounds[field.name])
                    nats = _cell_nats(field, prediction, low, high)
                else:
                    nats = _event_nats(field, prediction, entries)
                tally.add(field.role, prediction, entries, nats, chosen)
    return PieceScore(
        notes=count,
        nats=tally.nats,
        name=name,
        seconds=float(notes.start[-1] - notes.start[FIRST - 1]),
        reliability=tally.reliability,
    )


class _Sums:
    """Sums by role, so that a long piece takes no more memory than a short one."""

    def __init__(self) -> None:
        self.nats: dict[str, float] = {}
        self.reliability: dict[str, Reliability] = {}

    def add(
        self, role: Role, prediction: Prediction, entries: Tensor, nats: Tensor, chosen: Tensor
    ) -> None:
        """Count the rows that are chosen, (M,) bool, of one field."""
        total = float(nats[chosen].sum())
        if not math.isfinite(total):
            raise DataError(
                f"the score of {role} is {total}",
                hint="train the model again: it has diverged",
            )
        counted = _COUNTED_AS.get(role, role)
        self.nats[counted] = self.nats.get(counted, 0.0) + total
        log_weights = prediction.log_weights()
        if log_weights is not None:
            said = Reliability.of(Categorical(log_weights[chosen]), entries[chosen])
            before = self.reliability.get(role, Reliability())
            self.reliability[role] = Reliability.sum((before, said))


def _cell_nats(field: Field, prediction: HasLikelihood, low: Tensor, high: Tensor) -> Tensor:
    """(M,) -ln P of the cells [low, high)."""
    grid = GRIDS.get(field.role)
    cells = field.classes or 1 if grid is None else grid.size
    return _nats(prediction.interval_prob(field, low, high), cells)


def _event_nats(field: Field, prediction: HasLikelihood, events: Tensor) -> Tensor:
    """(M,) -ln P of events."""
    return _nats((-prediction.nll(events).double()).exp(), field.classes or 1)


def _nats(probability: Tensor, cells: int) -> Tensor:
    """-ln P, mixed with a little of the uniform distribution so that none is infinite."""
    return -torch.log((1 - UNIFORM_MIXIN) * probability + UNIFORM_MIXIN / cells)


def _bounds(encoder: NoteEncoder, notes: Notes, rows: Rows) -> Mapping[str, Bounds]:
    """Each field's cells of a piece, (N,) begins and ends."""
    cells = cells_of(notes)
    if isinstance(encoder, MeasuredEncoder):
        falls = {role: grid.bounds(getattr(cells, role)) for role, grid in GRIDS.items()}
        return encoder.bounds(notes, rows, falls)
    unmeasured = [f"{f.name} ({f.role}, {f.unit})" for f in encoder.fields if not _is_measured(f)]
    if unmeasured:
        raise FieldError(
            f"fields that cannot be scored: {', '.join(unmeasured)}",
            hint="give the encoder bounds(), as in notelstm.evaluation.nats.MeasuredEncoder",
        )
    bounds = {f.name: GRIDS[f.role].bounds(getattr(cells, f.role)) for f in encoder.fields}
    decoded = encoder.decode(rows).start
    for field in encoder.fields:
        if field.role == "step":
            # Coarse steps leave the decoded onset beside the one meant; the next step is counted
            # from it.
            meant = np.cumsum(notes.step - _given_up(field, notes.step))
            astray = decoded - decoded[0] - meant
            before = np.concatenate([[0.0], astray[:-1]])
            low, high = bounds[field.name]
            bounds[field.name] = (low - before, high - before)
    return bounds


def _is_measured(field: Field) -> bool:
    timed = field.role in ("step", "duration")
    return field.role in GRIDS and (field.unit == "s" or not timed)


def _given_up(field: Field, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) what rests longer than any that the field can say have above the longest."""
    if not field.edges:
        return np.maximum(0.0, step - field.interval.high)
    longest = field.values[-1] if field.values else field.edges[-1]
    return np.where(step > field.edges[-1], step - longest, 0.0)


def _event_rows(encoder: NoteEncoder, rows: Rows) -> tuple[NDArray[np.bool_], int]:
    """Which events come after note 24's note-on, and how many notes begin among them."""
    tracker = tracker_of(encoder)
    wanted = np.zeros(len(rows), dtype=np.bool_)
    for i, row in enumerate(rows):
        # A row belongs to the number of notes begun before it.
        wanted[i] = tracker.num_notes >= FIRST
        tracker.push(row)
    return wanted, max(0, tracker.num_notes - FIRST)
