"""``Reliability``: accuracy and calibration of categorical predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, final

import torch
from torch import Tensor

from notelstm.errors import ShapeError
from notelstm.predictions import Categorical

__all__ = ["BINS", "Reliability"]

BINS: Final = 15
"""The number of bins of equal width for the confidence."""


@final
@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Accuracy by confidence of the predictions of a categorical field.

    Classes that are equally likely share the first place, so that a uniform prediction of C classes
    is right once in C times.

    Attributes:
        counts: The number of predictions in each of :data:`BINS` bins of their confidence, which is
            the probability of the most likely class.
        confidence: The sum of the confidence in each bin.
        correct: The number of correct predictions in each bin.
        top5_count: The number of predictions with the right class among the five most likely.

    Source:
        Guo, Pleiss, Sun and Weinberger: On calibration of modern neural networks, ICML 2017.
    """

    counts: tuple[float, ...] = (0.0,) * BINS
    confidence: tuple[float, ...] = (0.0,) * BINS
    correct: tuple[float, ...] = (0.0,) * BINS
    top5_count: float = 0.0

    @classmethod
    def of(cls, prediction: Categorical, target: Tensor) -> Reliability:
        """The reliability of some predictions.

        Args:
            prediction: (M, C) logits.
            target: (M,) the right classes, int64.

        Raises:
            ShapeError: If the shapes do not match.
        """
        if prediction.logits.shape[:-1] != target.shape:
            raise ShapeError(
                f"targets of shape {tuple(target.shape)} do not fit logits of shape "
                f"{tuple(prediction.logits.shape)}",
                hint="give one target for each prediction",
            )
        p = prediction.logits.double().softmax(-1)  # (M, C)
        own = p.gather(-1, target.unsqueeze(-1))  # (M, 1)
        above, alike = (p > own).sum(-1), (p == own).sum(-1)  # (M,)
        top = p.amax(-1)
        at = (top * BINS).long().clamp(max=BINS - 1)

        def binned(values: Tensor) -> tuple[float, ...]:
            sums = torch.zeros(BINS, dtype=torch.float64, device=values.device)
            return tuple(sums.index_add_(0, at, values).tolist())

        def among(k: int) -> Tensor:
            return ((k - above) / alike).double().clamp(0, 1)

        return cls(
            counts=binned(torch.ones_like(top)),
            confidence=binned(top),
            correct=binned(among(1)),
            top5_count=float(among(5).sum()),
        )

    @classmethod
    def sum(cls, parts: Iterable[Reliability]) -> Reliability:
        """The reliability of several sets of predictions together."""
        total = cls()
        for part in parts:
            total = cls(
                counts=_added(total.counts, part.counts),
                confidence=_added(total.confidence, part.confidence),
                correct=_added(total.correct, part.correct),
                top5_count=total.top5_count + part.top5_count,
            )
        return total

    @property
    def count(self) -> float:
        """The number of predictions."""
        return sum(self.counts)

    @property
    def top1(self) -> float:
        """The share of predictions whose most likely class was right."""
        return sum(self.correct) / self.count

    @property
    def top5(self) -> float:
        """The share of predictions with the right class among the five most likely."""
        return self.top5_count / self.count

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap of confidence and accuracy, 0 to 1."""
        gaps = (abs(a - b) for a, b in zip(self.confidence, self.correct, strict=True))
        return sum(gaps) / self.count

    def to_json(self) -> dict[str, Any]:
        """The error, and the bounds, size, confidence and accuracy of each bin that is not empty.

        Example:
            >>> sure = Categorical(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]))
            >>> [made] = Reliability.of(sure, torch.tensor([0, 0])).to_json()["bins"]
            >>> made["count"], made["accuracy"]
            (2, 0.5)
        """
        bins = [
            {
                "from": k / BINS,
                "to": (k + 1) / BINS,
                "count": round(self.counts[k]),
                "confidence": self.confidence[k] / self.counts[k],
                "accuracy": self.correct[k] / self.counts[k],
            }
            for k in range(BINS)
            if self.counts[k]
        ]
        return {"error": self.error, "bins": bins}


def _added(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
