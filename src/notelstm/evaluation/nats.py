"""Nats per note: the one measure that compares any model with any other.

Each piece is snapped to the grid, encoded, and read by the model from its beginning. From note 25
on, -ln P of each note's cell (or of each event) is summed, field by field, and divided by the
number of notes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.encoders import tracker_of
from notelstm.errors import DataError, FieldError
from notelstm.evaluation.contexts import contexts
from notelstm.evaluation.grid import GRIDS, cells_of, snap
from notelstm.evaluation.spread import Spread
from notelstm.fields import Field, Role, Rows
from notelstm.models.known import columns
from notelstm.models.modes import in_use
from notelstm.notes import Notes
from notelstm.protocols import Bounds, Density, MeasuredEncoder, NoteEncoder, NoteModel
from notelstm.tree import leaf

__all__ = ["FIRST", "PieceScore", "Scores", "nats_per_note", "score_piece"]

FIRST: Final = 25
"""The first note of a piece that is scored, so that every model has as much context."""

_FLOOR: Final = 1e-9

_COUNTED_AS: Final[Mapping[Role, Role]] = {"metre": "step", "position": "step", "tempo": "step"}
"""What fields of a beat cost is a part of the step's: together they say when a note begins."""


@final
@dataclass(frozen=True, kw_only=True)
class PieceScore:
    """What one piece costs.

    Attributes:
        notes: How many notes were scored.
        nats: By role, the sum of -ln P over these notes; ``"event"`` for event encoders.
    """

    notes: int
    nats: Mapping[str, float]


@final
@dataclass(frozen=True, kw_only=True)
class Scores:
    """Nats per note over a set of pieces.

    Attributes:
        pieces: Each piece's score, in order, for paired comparisons.
    """

    pieces: tuple[PieceScore, ...]

    @property
    def notes(self) -> int:
        """How many notes were scored."""
        return sum(piece.notes for piece in self.pieces)

    def of(self, role: str) -> float | None:
        """Nats per note of one role, None if the model does not predict it."""
        if any(role not in piece.nats for piece in self.pieces):
            return None
        return sum(piece.nats[role] for piece in self.pieces) / self.notes

    def _sum(self, *roles: str) -> float | None:
        parts = [self.of(role) for role in roles]
        return None if any(part is None for part in parts) else sum(cast(list[float], parts))

    @property
    def psd(self) -> float | None:
        """Pitch, step and duration together."""
        return self._sum("pitch", "step", "duration")

    @property
    def total(self) -> float | None:
        """All of a note including its velocity; None for a model without one."""
        events = self.of("event")
        return self._sum("pitch", "step", "duration", "velocity") if events is None else events

    def to_json(self) -> dict[str, float | int | None]:
        """The figures under the names of the command line's ``--json``."""
        roles = ("pitch", "step", "duration", "velocity")
        figures: dict[str, float | int | None] = {role: self.of(role) for role in roles}
        return {**figures, "psd": self.psd, "total": self.total, "notes": self.notes}


def nats_per_note(
    model: NoteModel,
    encoder: NoteEncoder,
    pieces: Sequence[Notes],
    *,
    sigmas: Mapping[str, float] | None = None,
) -> Scores:
    """Score a model on held-out pieces.

    Args:
        model: The model as it generates: :attr:`~notelstm.bundle.Bundle.player` of a bundle.
        encoder: Its encoder.
        pieces: Held-out pieces; those of 25 notes or fewer are passed over.
        sigmas: Of point predictions, by field name.

    Raises:
        DataError: If no piece has more than 25 notes.
        FieldError: If a field cannot be measured.
    """
    long_enough = (piece for piece in pieces if len(piece) > FIRST)
    scored = [score_piece(model, encoder, piece, sigmas=sigmas) for piece in long_enough]
    # An encoder that merges notes may have left too few of a piece.
    scored = [score for score in scored if score.notes > 0]
    if not scored:
        raise DataError(
            f"a scored piece has more than {FIRST} notes", got=f"{len(pieces)} pieces, none of them"
        )
    return Scores(pieces=tuple(scored))


def score_piece(
    model: NoteModel,
    encoder: NoteEncoder,
    piece: Notes,
    *,
    sigmas: Mapping[str, float] | None = None,
) -> PieceScore:
    """Score one piece of more than 25 notes; the arguments are those of :func:`nats_per_note`."""
    if len(piece) <= FIRST:
        raise DataError(f"a scored piece has more than {FIRST} notes", got=f"{len(piece)}")
    notes = snap(piece)
    rows = encoder.encode(notes)
    spread = Spread(sigmas=sigmas or {})
    bounds: Mapping[str, Bounds] = {}
    if any(field.role == "event" for field in encoder.fields):
        wanted, count = _event_rows(encoder, rows)
    else:
        wanted, count = np.arange(len(rows)) >= FIRST, len(notes) - FIRST
        bounds = _bounds(encoder, notes, rows)
    sums: dict[str, float] = {}
    with in_use(model):
        for here, context in contexts(model, torch.from_numpy(rows)):
            device = leaf(context).device
            known = columns(torch.from_numpy(rows[here]).to(device), encoder.fields)
            for field in encoder.fields:
                prediction = spread(field.name, model.predict(field.name, context, known))
                if not isinstance(prediction, Density):
                    raise FieldError(
                        "a scored prediction has a likelihood",
                        got=type(prediction).__name__,
                        where=f"field {field.name!r}",
                    )
                if bounds:
                    low, high = (torch.from_numpy(b[here]).to(device) for b in bounds[field.name])
                    nats = _cell_nats(field, prediction, low, high)
                else:
                    nats = _event_nats(field, prediction, known[field.name])
                chosen = nats[torch.from_numpy(wanted[here]).to(device)]
                role = _COUNTED_AS.get(field.role, field.role)
                sums[role] = sums.get(role, 0.0) + float(chosen.sum())
    if not all(math.isfinite(value) for value in sums.values()):
        raise DataError("scores are finite", got=f"{sums}", fix="the model has diverged; retrain")
    return PieceScore(notes=count, nats=sums)


def _cell_nats(field: Field, prediction: Density, low: Tensor, high: Tensor) -> Tensor:
    """(M,) -ln P of the cells [low, high)."""
    grid = GRIDS.get(field.role)
    cells = field.classes or 1 if grid is None else grid.size
    return _nats(prediction.mass(field, low, high), cells)


def _event_nats(field: Field, prediction: Density, events: Tensor) -> Tensor:
    """(M,) -ln P of events."""
    return _nats((-prediction.nll(events).double()).exp(), field.classes or 1)


def _nats(probability: Tensor, cells: int) -> Tensor:
    """-ln P, mixed with a little of the uniform distribution so that none is infinite."""
    return -torch.log((1 - _FLOOR) * probability + _FLOOR / cells)


def _bounds(encoder: NoteEncoder, notes: Notes, rows: Rows) -> Mapping[str, Bounds]:
    """Each field's cells of a piece, (N,) begins and ends."""
    cells = cells_of(notes)
    if isinstance(encoder, MeasuredEncoder):
        falls = {role: grid.bounds(getattr(cells, role)) for role, grid in GRIDS.items()}
        return encoder.bounds(notes, rows, falls)
    unmeasured = [f"{f.name} ({f.role}, {f.unit})" for f in encoder.fields if not _is_measured(f)]
    if unmeasured:
        raise FieldError(
            "the measure knows pitch, step, duration (in seconds), velocity and events",
            got=", ".join(unmeasured),
            fix="give the encoder bounds(), notelstm.protocols.MeasuredEncoder",
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
        wanted[i] = tracker.n >= FIRST
        tracker.push(row)
    return wanted, max(0, tracker.n - FIRST)
