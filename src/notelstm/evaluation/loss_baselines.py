"""The losses that simple predictions of the next row would have, to compare a training loss with.

They are in the units of the loss, classes of the encoder, and so differ from the baselines of
``notelstm evaluate``, which scores all models on one grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from notelstm.evaluation.baselines import RepeatLast, Unigram
from notelstm.evaluation.grid import UNIFORM_MIXIN
from notelstm.fields import Field, Rows, written_rows
from notelstm.losses import CompositeLoss, Likelihood

__all__ = ["loss_baselines"]


def loss_baselines(
    loss: CompositeLoss,
    fields: Sequence[Field],
    training: Sequence[Rows],
    scored: Sequence[Rows],
    *,
    skip: int = 0,
) -> dict[str, dict[str, float]]:
    """The losses of a unigram, and of a unigram mixed with a repetition of the row before.

    Args:
        loss: The loss. Terms other than the likelihood of a categorical field have no baseline.
        fields: The F fields.
        training: The rows (N, F) of each piece that the class frequencies are counted in.
        scored: The rows of each piece that the loss is measured on.
        skip: Rows at the beginning of each scored piece that are no targets. Rows of given notes
            are none either, nor are they counted.

    Returns:
        By name of the baseline, ``unigram`` and ``repeat-last``: ``loss/<field>`` for each field
        that has one, and ``loss``, their weighted sum, if all have one; empty if none has.
    """
    found: dict[str, dict[str, float]] = {}
    for column, field in enumerate(fields):
        term, _ = loss.terms.get(field.name, (None, 0.0))
        if not field.is_categorical or not isinstance(term, Likelihood):
            continue
        unigram = _unigram(field, _classes(_written(training, fields), column))
        repeating = RepeatLast(unigram=unigram)
        for name, baseline in (("unigram", unigram), ("repeat-last", repeating)):
            total, count = 0.0, 0
            for piece in filter(len, scored):
                (rows,), (first,) = (_written([part], fields) for part in (piece, piece[:skip]))
                (ids,) = _classes([rows], column)
                given = baseline.probabilities({field.role: ids})[field.role][len(first) :]
                mixed = (1 - UNIFORM_MIXIN) * given + UNIFORM_MIXIN / cast(int, field.classes)
                total -= float(np.log(mixed).sum())
                count += len(mixed)
            if count:
                found.setdefault(name, {})[f"loss/{field.name}"] = total / count
    return {name: _with_total(loss, losses) for name, losses in found.items()}


def _written(pieces: Iterable[Rows], fields: Sequence[Field]) -> Iterator[Rows]:
    """The rows of each piece that a model writes."""
    for rows in pieces:
        written = written_rows(rows, fields)
        yield rows if written is None else rows[written]


def _classes(pieces: Iterable[Rows], column: int) -> Iterator[NDArray[np.int64]]:
    """(N,) the class ids of each piece."""
    return (piece[:, column].astype(np.int64) for piece in pieces if len(piece))


def _unigram(field: Field, pieces: Iterator[NDArray[np.int64]]) -> Unigram:
    counts = np.zeros(cast(int, field.classes), np.int64)
    repeats = pairs = 0
    for ids in pieces:
        counts += np.bincount(ids, minlength=len(counts))
        repeats += int((ids[1:] == ids[:-1]).sum())
        pairs += max(0, len(ids) - 1)
    return Unigram(counts={field.role: counts}, repeats={field.role: repeats}, pairs=pairs)


def _with_total(loss: CompositeLoss, losses: Mapping[str, float]) -> dict[str, float]:
    """The losses of the fields after their weighted sum, if it is known."""
    terms = {f"loss/{name}": weight for name, weight in loss.weights.items()}
    if not terms.keys() <= losses.keys():
        return dict(losses)
    return {"loss": sum(weight * losses[name] for name, weight in terms.items()), **losses}
