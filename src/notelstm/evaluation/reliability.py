"""``Reliability``: how often the most likely class was right, by how sure the model was of it."""

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
"""Into how many bins of equal width the confidence is sorted."""


@final
@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Whether a categorical field's probabilities can be believed.

    Of classes that are equally likely each counts as the most likely one by its share, so that a
    model which says the same of all C classes is right once in C times.

    Attributes:
        counts: How many predictions are in each of :data:`BINS` bins of their confidence: the
            probability of the most likely class.
        confidence: The sum of the confidence in each bin.
        correct: How often the most likely class was right in each bin.
        among_five: How often the right class was among the five most likely, over all bins.

    Source:
        Guo, Pleiss, Sun and Weinberger: On calibration of modern neural networks, ICML 2017.
    """

    counts: tuple[float, ...] = (0.0,) * BINS
    confidence: tuple[float, ...] = (0.0,) * BINS
    correct: tuple[float, ...] = (0.0,) * BINS
    top5: float = 0.0

    @classmethod
    def of(cls, prediction: Categorical, target: Tensor) -> Reliability:
        """What some predictions were worth.

        Args:
            prediction: (M, C) logits.
            target: (M,) the classes that came, int64.

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
            among_five=float(among(5).sum()),
        )

    @classmethod
    def sum(cls, parts: Iterable[Reliability]) -> Reliability:
        """Of several sets of predictions together."""
        total = cls()
        for part in parts:
            total = cls(
                counts=_added(total.counts, part.counts),
                confidence=_added(total.confidence, part.confidence),
                correct=_added(total.correct, part.correct),
                among_five=total.top5 + part.top5,
            )
        return total

    @property
    def count(self) -> float:
        """How many predictions there were."""
        return sum(self.counts)

    @property
    def top1(self) -> float:
        """How often the most likely class was right, 0 to 1."""
        return sum(self.correct) / self.count

    @property
    def top5(self) -> float:
        """How often the right class was among the five most likely, 0 to 1."""
        return self.top5 / self.count

    @property
    def error(self) -> float:
        """The expected calibration error: how far confidence and accuracy are apart, 0 to 1."""
        gaps = (abs(a - b) for a, b in zip(self.confidence, self.correct, strict=True))
        return sum(gaps) / self.count

    def to_json(self) -> dict[str, Any]:
        """The error, and of each bin that is not empty its borders, size, confidence and accuracy.

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
