"""Nats per note: the measure by which models with any encoder are compared.

Each piece is quantized to the grid, encoded, and read by the model from its beginning. From note 25
on, -ln P of each note's cell (or of each event) is summed by field, and divided by the number of
notes. An instrument has no cells: its P is that of the class of the encoder's part map. Neither has
the end of a piece. The pitch of a drum is its key.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, final, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notelstm.adaptation import Adaptation, Adapter
from notelstm.batch import columns
from notelstm.encoders import tracker_of
from notelstm.encoders.rows import part_map_of, snapped, watch_changes
from notelstm.errors import DataError, EncodingError, FieldError, counted
from notelstm.evaluation.grid import FIRST, GRIDS, UNIFORM_MIXIN, cells_of, quantize
from notelstm.evaluation.scores import PieceScore, Reliability, Scores, all_scored, long_enough
from notelstm.fields import Bounds, Field, Role, Rows, note_rows, predicted, written_rows
from notelstm.models.inference import check_has_float64, in_use
from notelstm.notes import Notes
from notelstm.predictions import Categorical, PointToNormal
from notelstm.protocols import (
    Context,
    HasLikelihood,
    NoteEncoder,
    NoteModel,
    Prediction,
    SnappingEncoder,
)
from notelstm.sampling.masking import Constraints, rows_before
from notelstm.tree import index, join, leaf

__all__ = [
    "MeasuredEncoder",
    "contexts",
    "fit_sigmas",
    "nats_per_note",
    "rejections",
    "score_piece",
]

_CHUNK: Final = 1024


def contexts(
    model: NoteModel, rows: Tensor, adapter: Adapter | None = None
) -> Iterator[tuple[slice, Context]]:
    """The contexts that predict each of the rows (N, F) of a piece, the first included.

    Args:
        model: The model.
        rows: The rows.
        adapter: The adapter whose model it is, which reads each chunk after it has been yielded.

    Yields:
        The slice of the rows, and the contexts (M, ...) that predict them, chunk by chunk.

    Raises:
        ConfigError: If the model is on a device without float64.
    """
    before, state = model.initial_state(1)
    device = leaf(before).device
    check_has_float64(device)
    size = _CHUNK if adapter is None else adapter.settings.segment
    for first in range(0, len(rows), size):
        chunk = rows[None, first : first + size].to(device)  # (1, M, F)
        after, state = model.forward(chunk, state)
        shifted = join([before, index(after, (slice(None), slice(None, -1)))], axis=1)
        yield slice(first, first + chunk.shape[1]), index(shifted, 0)
        before = index(after, (slice(None), slice(-1, None)))
        if adapter is not None:
            adapter.read(chunk[0].cpu().numpy())


_SMALLEST: float = 1e-3


def fit_sigmas(
    model: NoteModel, pieces: Sequence[Rows], *, skip: int = 25, limit: int = 50_000
) -> dict[str, float]:
    """The root mean square of a model's residuals, for each field that it predicts as a point.

    Args:
        model: The model as it is scored (windowed if its context is limited).
        pieces: Rows of training pieces, (N, F) each.
        skip: Rows at the start of each piece that are not counted, as in scoring.
        limit: The number of rows to use.

    Returns:
        By field name, in the field's unit, at least 0.001; empty without point predictions.
    """
    squares: dict[str, float] = {}
    count = 0
    with in_use(model):
        for piece in pieces:
            if len(piece) <= skip:
                continue
            rows = torch.from_numpy(piece[: skip + limit - count])
            for here, context in contexts(model, rows):
                some = rows[here].to(leaf(context).device)
                first = max(0, skip - here.start)
                chosen = torch.arange(len(some), device=some.device) >= first
                written = written_rows(some, model.fields)
                chosen = chosen if written is None else chosen & written
                for name, errors in _residuals(model, context, some).items():
                    squared = float((errors[chosen].double() ** 2).sum())
                    squares[name] = squares.get(name, 0.0) + squared
                if not squares:
                    return {}
                count += int(chosen.sum())
            if count >= limit:
                break
    return {name: max(_SMALLEST, (total / max(1, count)) ** 0.5) for name, total in squares.items()}


def _residuals(model: NoteModel, context: Context, rows: Tensor) -> dict[str, Tensor]:
    """By field name, (M,) target minus prediction, for fields that are predicted as points."""
    known = columns(rows, model.fields)
    predictions = {name: model.predict(name, context, known) for name in model.field_order}
    return {
        name: known[name] - prediction.mode()
        for name, prediction in predictions.items()
        if not isinstance(prediction, HasLikelihood) and prediction.log_weights() is None
    }


_log = logging.getLogger(__name__)

_WITHOUT_CELLS: Final[tuple[Role, ...]] = ("instrument", "end")
"""The roles of which P is that of the class."""

_COUNTED_AS: Final[Mapping[str, str]] = {
    "time_signature": "step",
    "position": "step",
    "tempo": "step",
}
"""Fields whose nats are added to the step's: together they determine the onset of a note."""


@runtime_checkable
class MeasuredEncoder(NoteEncoder, Protocol):
    """An encoder that maps the cells of the grid to intervals of its fields.

    It is needed to score encoders with fields other than pitch, step and duration in seconds,
    velocity and events.
    """

    def bounds(
        self, notes: Notes, rows: Rows, cells: Mapping[Role, Bounds]
    ) -> Mapping[str, Bounds]:
        """The interval of each field that corresponds to the cell of each note.

        For each row, the intervals of all cells must partition the values of a field. They may
        depend on the rows before, and on fields of the row itself that are scored.

        Args:
            notes: N notes.
            rows: (M, F) the notes, encoded: as many, or more if there are rests, which are rows of
                the class `rest` of a step.
            cells: By role, the cell of each note: pitch, step and duration (s), velocity. A step
                is counted from the true onset of the note before.

        Returns:
            The intervals of each row by field name, (M,) in the field's unit; the row's own class
            if a field has no cells. An instrument and an end need none.
        """
        ...


def nats_per_note(
    model: NoteModel,
    encoder: NoteEncoder,
    pieces: Sequence[Notes],
    *,
    sigmas: Mapping[str, float] | None = None,
    names: Sequence[str] | None = None,
    adapt: Adaptation | None = None,
) -> Scores:
    """Score a model on held-out pieces.

    The notes of an encoder that moves, sorts or merges them, a
    :class:`~notelstm.protocols.SnappingEncoder`, are scored as it encodes them: those of a
    ``BeatEncoder`` with parts are on its grid of beats.

    Args:
        model: The model as it generates: :attr:`~notelstm.bundle.Bundle.generation_model` of a
            bundle.
        encoder: Its encoder.
        pieces: Held-out pieces; those of 25 notes or fewer are left out and counted, those that
            the encoder rejects are left out with the reason.
        sigmas: The standard deviations of point predictions, by field name.
        names: The names of the pieces; None for their numbers.
        adapt: Settings of dynamic evaluation: a copy of the model adapts to each piece, from the
            trained weights on, after each segment has been scored. None for fixed weights.

    Raises:
        DataError: If no piece has more than 25 notes and is accepted by the encoder, or there are
            not as many names as pieces.
        FieldError: If a field cannot be measured.
    """
    scored: list[PieceScore] = []
    rejected: dict[str, str] = {}
    named = list(long_enough(pieces, names))
    called = [name for name, _ in named]
    watched = watch_changes((piece for _, piece in named), encoder)
    for name, piece in zip(called, watched, strict=True):
        try:
            score = score_piece(model, encoder, piece, sigmas=sigmas, name=name, adapt=adapt)
        except EncodingError as error:
            rejected[name] = str(error)
            continue
        # An encoder that merges notes may leave too few.
        if score.notes > 0:
            scored.append(score)
    if rejected:
        _log.warning("%s", rejections([f"{name}: {why}" for name, why in rejected.items()]))
    return all_scored(scored, len(pieces), rejected)


def rejections(reasons: Sequence[str]) -> str:
    """A warning of pieces that the encoder rejects, with the first three reasons."""
    first = "; ".join(reasons[:3])
    return f"left out: {counted(len(reasons), 'piece')} that the encoder rejects: {first}"


def score_piece(
    model: NoteModel,
    encoder: NoteEncoder,
    piece: Notes,
    *,
    sigmas: Mapping[str, float] | None = None,
    name: str = "",
    adapt: Adaptation | None = None,
) -> PieceScore:
    """Score one piece of more than 25 notes, as :func:`nats_per_note` scores several.

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
    quantized = quantize(piece)
    notes = snapped(encoder, quantized)
    rows = encoder.encode(notes)
    previous = rows_before(torch.from_numpy(rows), encoder.fields)
    bounds: Mapping[str, Bounds] = {}
    note = note_rows(rows, encoder.fields)
    if any(field.role == "event" for field in predicted(encoder.fields)):
        wanted, count = _event_rows(encoder, rows)
    else:
        # A rest counts for the note after it.
        number: NDArray[np.int64] = np.cumsum(note) - note
        wanted, count = number >= FIRST, len(notes) - FIRST
        bounds = _bounds(encoder, notes, rows)
    adapter = None
    if adapt is not None:
        adapter = Adapter(model, encoder, adapt, sigmas=sigmas)
        model = adapter.model
    fields = predicted(encoder.fields)
    instrument = _instrument_of(fields)
    names = [] if instrument is None else _part_names(encoder, instrument)
    part_of_row = None if instrument is None else _part_of_row(encoder, instrument, rows, note)
    sums = _Sums(len(names))
    with in_use(model):
        for here, context in contexts(model, torch.from_numpy(rows), adapter):
            device = leaf(context).device
            known = columns(torch.from_numpy(rows[here]).to(device), encoder.fields)
            chunk = _Chunk(
                model=model,
                spread=PointToNormal(sigmas=sigmas or {}),
                constraints=Constraints(encoder, model.field_order),
                context=context,
                before=previous[here].to(device),
                bounds={
                    name: tuple(torch.from_numpy(bound[here]).to(device) for bound in pair)
                    for name, pair in bounds.items()
                },
            )
            chosen = torch.from_numpy(wanted[here]).to(device)
            # A rest is predicted by the step alone.
            notes_only = chosen & torch.from_numpy(note[here]).to(device)
            parts = None
            if part_of_row is not None:
                parts = torch.from_numpy(part_of_row[here]).to(device)[chosen]
            nats = {}
            for field in fields:
                prediction = chunk.predict(field, known)
                nats[field.name] = chunk.nats(field, prediction, known)
                sums.add(field.role, nats[field.name][chosen], parts)
                counted_rows = notes_only if field.rest is None else chosen
                sums.add_reliability(field.role, prediction, known[field.name], counted_rows)
            if instrument is not None:
                summed_out = chunk.without_instrument(fields, instrument, known, nats)
                sums.add("without_instrument", summed_out[chosen], parts)
    part_of_note = np.zeros(0, np.int64) if part_of_row is None else part_of_row[wanted & note]
    in_part = np.bincount(part_of_note, minlength=len(names))
    return PieceScore(
        notes=max(0, count),
        nats=sums.nats,
        name=name,
        seconds=float(notes.start[-1] - notes.start[FIRST - 1]) if count > 0 else 0.0,
        reliability=sums.reliability,
        merged=len(quantized) - FIRST - count,
        parts=sums.by_part(name, names, in_part.tolist()),
    )


def _instrument_of(fields: Sequence[Field]) -> Field | None:
    """The field of the instrument of a note, if there is one."""
    return next((field for field in fields if field.role == "instrument"), None)


def _part_of_row(
    encoder: NoteEncoder, instrument: Field, rows: Rows, note: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """(M,) the class of the instrument of each row; a rest has that of the note after it."""
    part = rows[:, encoder.fields.index(instrument)].astype(np.int64)
    following: NDArray[np.int64] = np.cumsum(note) - note  # the number of the note
    return np.asarray(part[note][following.clip(max=int(note.sum()) - 1)])


def _part_names(encoder: NoteEncoder, instrument: Field) -> list[str]:
    """The name of each class of an instrument; with its number if another has the same."""
    part_map = part_map_of(encoder)
    if part_map is None:
        return [str(k) for k in range(instrument.classes or 0)]
    names = [part.name for part in part_map.classes]
    return [n if names.count(n) == 1 else f"{n} ({k})" for k, n in enumerate(names)]


@final
@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """The predictions of M rows of a piece.

    Attributes:
        context: (M, ...) the contexts that predict them.
        before: (M, F) the rows before them.
        bounds: By field name, the bounds of each row's cell, (M,) each; empty for events.
    """

    model: NoteModel
    spread: PointToNormal
    constraints: Constraints
    context: Context
    before: Tensor
    bounds: Mapping[str, tuple[Tensor, ...]]

    def predict(self, field: Field, known: Mapping[str, Tensor]) -> Prediction:
        """The prediction of a field, given (M,) entries of the earlier ones."""
        name = field.name
        prediction = self.spread(name, self.model.predict(name, self.context, known))
        return self.constraints.apply(name, prediction, known, self.before)

    def nats(self, field: Field, prediction: Prediction, known: Mapping[str, Tensor]) -> Tensor:
        """(M,) -ln P of the cell of each row, or of its class if the field has no cells."""
        if not isinstance(prediction, HasLikelihood):
            raise FieldError(
                f"{type(prediction).__name__} has no likelihood to score",
                where=f"field {field.name!r}",
                hint="give the prediction the methods of notelstm.protocols.HasLikelihood",
            )
        cells = field.classes or 1
        if self.bounds and field.role not in _WITHOUT_CELLS:
            p = prediction.interval_prob(field, *self.bounds[field.name])
            cells = GRIDS[field.role].size if field.role in GRIDS else cells
        else:
            p = (-prediction.nll(known[field.name]).double()).exp()
        return -torch.log((1 - UNIFORM_MIXIN) * p + UNIFORM_MIXIN / cells)

    def without_instrument(
        self,
        fields: Sequence[Field],
        instrument: Field,
        known: Mapping[str, Tensor],
        nats: Mapping[str, Tensor],
    ) -> Tensor:
        """(M,) -ln P of each note with any instrument, given the (M,) `nats` of each field.

        P is the sum over the instruments k of P(earlier fields) P(k) P(later fields given k).
        """
        order = self.model.field_order
        at = order.index(instrument.name)
        named = {field.name: field for field in fields}
        later = [named[name] for name in order[at + 1 :]]
        prediction, own = self.predict(instrument, known), known[instrument.name]
        joint = []
        for k in range(instrument.classes or 0):
            assumed = {**known, instrument.name: torch.full_like(own, k)}
            possible = _is_possible(prediction, assumed[instrument.name])
            cost = self.nats(instrument, prediction, assumed)
            for field in later:
                # After an entry that the encoder excludes, no later one may be allowed.
                assumed[instrument.name] = torch.where(possible, assumed[instrument.name], own)
                given = self.predict(field, assumed)
                cost = cost + self.nats(field, given, assumed)
                possible = possible & _is_possible(given, known[field.name])
            joint.append(torch.where(possible, -cost, -math.inf))
        summed = -torch.logsumexp(torch.stack(joint), dim=0)
        return sum((nats[name] for name in order[:at]), summed)


def _is_possible(prediction: Prediction, entries: Tensor) -> Tensor:
    """(M,) whether (M,) entries are possible; numbers always are."""
    log_weights = prediction.log_weights()
    if log_weights is None:
        return torch.ones_like(entries, dtype=torch.bool)
    return log_weights.gather(-1, entries.long().unsqueeze(-1)).squeeze(-1) > -math.inf


class _Sums:
    """Sums by role over the chunks of a piece.

    Args:
        parts: C, the number of parts; 0 without instruments.
    """

    def __init__(self, parts: int) -> None:
        self._count: Final = parts
        self._by_part: Final[dict[str, Tensor]] = {}
        self.nats: Final[dict[str, float]] = {}
        self.reliability: Final[dict[str, Reliability]] = {}

    def add(self, role: str, nats: Tensor, parts: Tensor | None) -> None:
        """Add (M,) nats of the notes of (M,) parts."""
        total = float(nats.sum())
        if not math.isfinite(total):
            raise DataError(
                f"the score of {role} is {total}", hint="train the model again: it has diverged"
            )
        role = _COUNTED_AS.get(role, role)
        self.nats[role] = self.nats.get(role, 0.0) + total
        if parts is not None:
            zeros = torch.zeros(self._count, dtype=torch.float64, device=nats.device)
            self._by_part.setdefault(role, zeros).index_add_(0, parts, nats)

    def add_reliability(
        self, role: Role, prediction: Prediction, entries: Tensor, chosen: Tensor
    ) -> None:
        """Add the reliability of the chosen rows, (M,) bool, of one field of classes."""
        log_weights = prediction.log_weights()
        if log_weights is not None:
            here = Reliability.of(Categorical(log_weights[chosen]), entries[chosen])
            self.reliability[role] = self.reliability.get(role, Reliability()) + here

    def by_part(
        self, piece: str, names: Sequence[str], notes: Sequence[int]
    ) -> dict[str, PieceScore]:
        """The score of each part of a piece that has notes, given their names and numbers."""
        return {
            name: PieceScore(
                name=piece,
                notes=count,
                nats={role: float(of[k]) for role, of in self._by_part.items()},
            )
            for k, (name, count) in enumerate(zip(names, notes, strict=True))
            if count
        }


def _bounds(encoder: NoteEncoder, notes: Notes, rows: Rows) -> Mapping[str, Bounds]:
    """By field name, the bounds of each note's cell, (N,) each, of roles that have cells."""
    cells = cells_of(notes)
    if isinstance(encoder, MeasuredEncoder):
        falls = {role: grid.bounds(cells[role]) for role, grid in GRIDS.items()}
        return encoder.bounds(notes, rows, falls)
    fields = [field for field in predicted(encoder.fields) if field.role not in _WITHOUT_CELLS]
    unmeasured = [f"{f.name} ({f.role}, {f.unit})" for f in fields if not _is_measured(f)]
    if unmeasured:
        raise FieldError(
            f"fields that cannot be scored: {', '.join(unmeasured)}",
            hint="give the encoder bounds(), as in notelstm.evaluation.nats.MeasuredEncoder",
        )
    bounds = {f.name: GRIDS[f.role].bounds(cells[f.role]) for f in fields}
    if isinstance(encoder, SnappingEncoder) and encoder.snapped(notes) is not None:
        return bounds
    decoded = encoder.decode(rows).start
    for field in fields:
        if field.role == "step":
            # With coarse steps a decoded onset differs from the true one; the next step is
            # counted from the decoded one.
            wanted = np.cumsum(notes.step - _excess(field, notes.step))
            error = decoded - decoded[0] - wanted
            before = np.concatenate([[0.0], error[:-1]])
            low, high = bounds[field.name]
            bounds[field.name] = (low - before, high - before)
    return bounds


def _is_measured(field: Field) -> bool:
    timed = field.role in ("step", "duration")
    return field.role in GRIDS and (field.unit == "s" or not timed)


def _excess(field: Field, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) the part of each step beyond the longest that the field can represent."""
    if not field.edges:
        return np.maximum(0.0, step - field.interval.high)
    longest = field.values[-1] if field.values else field.edges[-1]
    return np.where(step > field.edges[-1], step - longest, 0.0)


def _event_rows(encoder: NoteEncoder, rows: Rows) -> tuple[NDArray[np.bool_], int]:
    """A mask of the events after note 24's note-on, and the number of notes that begin there."""
    tracker = tracker_of(encoder)
    wanted = np.zeros(len(rows), dtype=np.bool_)
    for i, row in enumerate(rows):
        wanted[i] = tracker.num_notes >= FIRST
        tracker.push(row)
    return wanted, max(0, tracker.num_notes - FIRST)
