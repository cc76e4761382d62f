"""Making point predictions measurable: a normal distribution around each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notelstm.batch import columns
from notelstm.errors import FieldError
from notelstm.evaluation.contexts import contexts
from notelstm.fields import Rows
from notelstm.models.inference import in_use
from notelstm.predictions import Normal
from notelstm.protocols import Context, HasLikelihood, NoteModel, Prediction
from notelstm.tree import leaf

__all__ = ["PointToNormal", "fit_sigmas"]

_SMALLEST: float = 1e-3


@final
@dataclass(frozen=True, kw_only=True)
class PointToNormal:
    """Turns a point into a normal distribution; leaves other predictions as they are.

    Attributes:
        sigmas: By field name, the root mean square of the training residuals.
    """

    sigmas: Mapping[str, float]

    def __call__(self, field: str, prediction: Prediction) -> Prediction:
        """A prediction that has a likelihood.

        Raises:
            FieldError: If a point's field has no sigma.
        """
        if isinstance(prediction, HasLikelihood) or prediction.log_weights() is not None:
            return prediction
        if field not in self.sigmas:
            raise FieldError(
                f"the point predictions of the field {field!r} have no sigma",
                hint="call fit_sigmas(model, pieces) with training pieces, and store the result in "
                "the bundle",
            )
        value = prediction.mode()
        return Normal(value, torch.full_like(value, self.sigmas[field]))


def fit_sigmas(
    model: NoteModel, pieces: Sequence[Rows], *, skip: int = 25, limit: int = 50_000
) -> dict[str, float]:
    """The root mean square of a model's residuals, for each field that it predicts as a point.

    Args:
        model: The model as it is scored (windowed if it looks back on a window).
        pieces: Rows of training pieces, (N, F) each.
        skip: Rows at the start of each piece that are not counted, as in scoring.
        limit: Rows after which it has seen enough.

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
                for name, errors in _residuals(model, context, some).items():
                    squared = float((errors[first:].double() ** 2).sum())
                    squares[name] = squares.get(name, 0.0) + squared
                if not squares:
                    return {}
            count += len(rows) - skip
            if count >= limit:
                break
    return {name: max(_SMALLEST, (total / count) ** 0.5) for name, total in squares.items()}


def _residuals(model: NoteModel, context: Context, rows: Tensor) -> dict[str, Tensor]:
    """By field name, (M,) target minus prediction, of fields that are predicted as points."""
    known = columns(rows, model.fields)
    predictions = {name: model.predict(name, context, known) for name in known}
    return {
        name: known[name] - prediction.mode()
        for name, prediction in predictions.items()
        if not isinstance(prediction, HasLikelihood) and prediction.log_weights() is None
    }
