"""Nats per row: the exact likelihood of rows, for encoders whose rows are no notes.

Every row counts that the model writes, the first of a piece included, and every field that is not
given. Rows of notes that are given to the model are context: they do not count. The classes that
the encoder excludes have no probability. Unlike nats per note, these figures depend on the encoder:
they compare models of the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from notelstm.adaptation import Adaptation, Adapter
from notelstm.batch import columns
from notelstm.errors import DataError, FieldError
from notelstm.evaluation.nats import contexts
from notelstm.fields import Rows, written_rows
from notelstm.models.inference import in_use
from notelstm.predictions import PointToNormal
from notelstm.protocols import HasLikelihood, NoteEncoder, NoteModel
from notelstm.sampling.masking import Constraints, rows_before
from notelstm.tree import leaf

__all__ = ["RowScores", "averaged", "nats_per_row"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RowScores:
    """The nats of each row of some pieces.

    Attributes:
        fields: The names of the K predicted fields, in the order of prediction.
        nats: By the name of a piece, (N, K) float64: -ln P of each field of each of the N rows that
            the model writes, given all rows before and the fields earlier in the order.
    """

    fields: tuple[str, ...]
    nats: Mapping[str, NDArray[np.float64]]

    def per_row(self, *, skip: int = 0) -> float:
        """The mean over all rows of all pieces; NaN without rows.

        Args:
            skip: Rows at the start of each piece that do not count.
        """
        rows = [nats[skip:].sum(axis=1) for nats in self.nats.values() if len(nats) > skip]
        return float(np.concatenate(rows).mean()) if rows else float("nan")

    def per_piece(self, *, skip: int = 0) -> float:
        """The mean over the pieces of the mean over their rows; NaN without rows.

        Args:
            skip: Rows at the start of each piece that do not count.
        """
        means = [n[skip:].sum(axis=1).mean() for n in self.nats.values() if len(n) > skip]
        return float(np.mean(means)) if means else float("nan")

    def whole_rows(self) -> RowScores:
        """The same scores with one figure for each row, as if a row were one field.

        Models that predict the same rows field by field in other orders are averaged so.
        """
        nats = {name: nats.sum(axis=1, keepdims=True) for name, nats in self.nats.items()}
        return RowScores(fields=("row",), nats=nats)


def nats_per_row(
    model: NoteModel,
    encoder: NoteEncoder,
    pieces: Sequence[Rows],
    *,
    names: Sequence[str] | None = None,
    sigmas: Mapping[str, float] | None = None,
    adapt: Adaptation | None = None,
) -> RowScores:
    """Score a model on the rows of held-out pieces.

    Args:
        model: The model as it generates: :attr:`~notelstm.bundle.Bundle.generation_model` of a
            bundle.
        encoder: Its encoder.
        pieces: The rows of each piece, (N, F), with the entries of given fields.
        names: The names of the pieces, which differ; None for their numbers.
        sigmas: The standard deviations of point predictions, by field name.
        adapt: Settings of dynamic evaluation: a copy of the model adapts to each piece, from the
            trained weights on, after each segment has been scored. None for fixed weights.

    Raises:
        DataError: If names repeat or are not as many as the pieces, or an entry has no probability.
        FieldError: If a field is predicted without a likelihood.
    """
    called = [str(i) for i in range(len(pieces))] if names is None else list(names)
    if len(set(called)) != len(pieces) or len(called) != len(pieces):
        raise DataError(f"{len(called)} names, or repeated ones, of {len(pieces)} pieces")
    nats = {
        name: _nats(model, encoder, rows, sigmas or {}, adapt, name)
        for name, rows in zip(called, pieces, strict=True)
    }
    return RowScores(fields=model.field_order, nats=nats)


def _nats(
    model: NoteModel,
    encoder: NoteEncoder,
    rows: Rows,
    sigmas: Mapping[str, float],
    adapt: Adaptation | None,
    name: str,
) -> NDArray[np.float64]:
    """(N, K) the nats of the fields of the rows of one piece that the model writes."""
    adapter = None if adapt is None else Adapter(model, encoder, adapt, sigmas=sigmas)
    model = model if adapter is None else adapter.model
    constraints, spread = Constraints(encoder, model.field_order), PointToNormal(sigmas=sigmas)
    table = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
    previous = rows_before(table, encoder.fields)
    found = [np.zeros((0, len(model.field_order)))]
    with in_use(model):
        for here, context in contexts(model, table, adapter):
            device = leaf(context).device
            known = columns(table[here].to(device), encoder.fields)
            before = previous[here].to(device)
            chunk = []
            for field in model.field_order:
                prediction = spread(field, model.predict(field, context, known))
                prediction = constraints.apply(field, prediction, known, before)
                if not isinstance(prediction, HasLikelihood):
                    raise FieldError(
                        f"{type(prediction).__name__} has no likelihood to score",
                        where=f"field {field!r}",
                        hint="give the prediction the methods of notelstm.protocols.HasLikelihood",
                    )
                chunk.append(prediction.nll(known[field]).double())
            found.append(torch.stack(chunk, dim=1).cpu().numpy())
    nats = np.concatenate(found)
    written = written_rows(rows, encoder.fields)
    if written is not None:
        nats, rows = nats[written], rows[written]
    if not np.isfinite(nats).all():
        row, k = np.argwhere(~np.isfinite(nats))[0].tolist()
        raise DataError(
            f"{model.field_order[k]} {rows[row][_column(encoder, model.field_order[k])]:g} has "
            f"{nats[row, k]} nats",
            where=f"piece {name}, row {row}",
            hint="check the rows with the encoder's allowed_classes(), and the model's training",
        )
    return nats


def _column(encoder: NoteEncoder, name: str) -> int:
    return [field.name for field in encoder.fields].index(name)


def averaged(scores: Sequence[RowScores]) -> RowScores:
    """The scores of the mean of several models in probability, field by field.

    A field has the mean of the probabilities that the models give it after the same entries. That
    is a distribution of rows, since each factor of the product over the fields is one. Models with
    other orders of prediction are averaged by their :meth:`~RowScores.whole_rows`.

    Args:
        scores: Those of each model, for the same pieces.

    Raises:
        DataError: If there are none, or the pieces or the orders of prediction differ.

    Example:
        >>> one, two = (
        ...     RowScores(fields=("pitch",), nats={"a": -np.log([[p]])}) for p in (0.2, 0.6)
        ... )
        >>> round(float(np.exp(-averaged([one, two]).per_row())), 6)
        0.4
    """
    if not scores:
        raise DataError("there are no scores to average")
    first = scores[0]
    for other in scores[1:]:
        sizes, own = ({k: v.shape for k, v in s.nats.items()} for s in (other, first))
        if sizes != own or other.fields != first.fields:
            raise DataError(
                "the scores are of other pieces, or of models with another order of prediction",
                hint="score the models on the same rows, and average models with other orders of "
                "prediction by their whole_rows()",
            )
    log_count = np.log(len(scores))
    return RowScores(
        fields=first.fields,
        nats={
            name: log_count - np.logaddexp.reduce([-score.nats[name] for score in scores])
            for name in first.nats
        },
    )
