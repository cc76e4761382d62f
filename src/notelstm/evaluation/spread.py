"""Making point predictions measurable: a normal distribution around each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import nn

from notelstm.errors import FieldError
from notelstm.fields import Rows
from notelstm.predictions import Normal, Point
from notelstm.protocols import NoteModel, Prediction

__all__ = ["Spread", "fit_sigmas"]

_SMALLEST: float = 1e-3


@final
@dataclass(frozen=True, kw_only=True)
class Spread:
    """Turns a point into a normal distribution; leaves other predictions as they are.

    Attributes:
        sigmas: By field name, the standard deviation of the training residuals.
    """

    sigmas: Mapping[str, float]

    def __call__(self, field: str, prediction: Prediction) -> Prediction:
        """A prediction that has a likelihood.

        Raises:
            FieldError: If a point's field has no sigma.
        """
        if not isinstance(prediction, Point):
            return prediction
        if field not in self.sigmas:
            raise FieldError(
                "a point prediction is scored with its field's sigma",
                got=f"none for {field!r}",
                fix="fit_sigmas(model, pieces) on training pieces, and store them in the bundle",
            )
        value = prediction.value
        return Normal(value, torch.full_like(value, self.sigmas[field]))


@torch.inference_mode()
def fit_sigmas(
    model: NoteModel, pieces: Sequence[Rows], *, skip: int = 25, limit: int = 50_000
) -> dict[str, float]:
    """The standard deviation of a model's residuals, for each field that it predicts as a point.

    Args:
        model: The model as it is scored (windowed if it looks back on a window).
        pieces: Rows of training pieces, (N, F) each.
        skip: Rows at the start of each piece that are not counted, as in scoring.
        limit: Rows after which it has seen enough.

    Returns:
        By field name, in the field's unit, at least 0.001; empty without point predictions.
    """
    module = cast(nn.Module, model)
    training = module.training
    module.eval()
    names = [field.name for field in model.fields]
    device = next(module.parameters()).device
    squares: dict[str, float] = {}
    count = 0
    for piece in pieces:
        if count >= limit:
            break
        if len(piece) <= skip:
            continue
        rows = torch.from_numpy(piece[: limit - count + skip]).to(device)  # (N, F)
        context, _ = model.forward(rows[None, :-1], model.start(1)[1])
        for i, name in enumerate(names):
            known = {n: rows[None, 1:, k] for k, n in enumerate(names)}
            prediction = model.predict(name, context, known)
            if isinstance(prediction, Point):
                residual = rows[skip:, i] - prediction.value[0, skip - 1 :]
                squares[name] = squares.get(name, 0.0) + float((residual.double() ** 2).sum())
        count += len(rows) - skip
    module.train(training)
    return {name: max(_SMALLEST, (total / count) ** 0.5) for name, total in squares.items()}
