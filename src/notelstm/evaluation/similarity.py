"""Similarity of generated and real pieces, feature by feature.

Each piece becomes a histogram. The distances within the real pieces are compared with those between
generated and real ones: the more the two distributions overlap, the less the feature distinguishes
generated from real pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError, counted
from notelstm.evaluation.features import FEATURES, histograms, usual_length
from notelstm.notes import Notes

__all__ = ["FeatureSimilarity", "Similarity", "kernel_overlap", "similarity_of"]

_POINTS: Final = 1000
_REACH: Final = 4.0
_NARROWEST: Final = 1e-3
_TINY: Final = 1e-300


@final
@dataclass(frozen=True, kw_only=True)
class FeatureSimilarity:
    """Similarity of two sets of pieces in one feature.

    Attributes:
        feature: One of :data:`~notelstm.evaluation.features.FEATURES`.
        overlap: The area that the densities of the distances within the real set and between the
            sets have in common, 0 to 1; higher is better.
        kl: The Kullback-Leibler divergence of the latter from the former, nats; lower
            is better.
        within_real: The mean Euclidean distance of two real pieces.
        within_generated: The mean distance of two generated pieces; far below `within_real`, the
            pieces are too much alike.
        between: The mean distance of a generated and a real piece.
    """

    feature: str
    overlap: float
    kl: float
    within_real: float
    within_generated: float
    between: float


@final
@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Similarity of generated and real pieces.

    Attributes:
        features: One entry for each feature.
        notes: The number of notes of each piece that were compared.
        generated: The number of generated pieces.
        real: The number of real pieces.
    """

    features: tuple[FeatureSimilarity, ...]
    notes: int
    generated: int
    real: int

    @property
    def overlap(self) -> float:
        """The mean overlap over all features."""
        return sum(made.overlap for made in self.features) / len(self.features)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values, features by name."""
        features = [asdict(made) for made in self.features]
        by_name = {made.pop("feature"): made for made in features}
        return {"overlap": self.overlap, **asdict(self), "features": by_name}


def similarity_of(generated: Sequence[Notes], real: Sequence[Notes]) -> Similarity:
    """Compare generated pieces with real ones.

    Args:
        generated: At least two pieces of at least two notes.
        real: At least two others; only as many notes of each are compared as generated pieces
            have in the median.

    Raises:
        DataError: If there are fewer pieces, or a piece has fewer notes.

    Source:
        Yang and Lerch: On the evaluation of generative models in music, Neural Computing and
        Applications 32, 2020.
    """
    if min(len(generated), len(real)) < 2:
        raise DataError(
            f"{counted(len(generated), 'sample')} and {counted(len(real), 'real piece')} are too "
            "few to compare",
            hint="give at least 2 of each",
        )
    notes = usual_length(generated)
    made = [histograms(piece[:notes]) for piece in generated]
    true = [histograms(piece[:notes]) for piece in real]
    return Similarity(
        features=tuple(_alike(feature, made, true) for feature in FEATURES),
        notes=notes,
        generated=len(generated),
        real=len(real),
    )


def _alike(
    feature: str,
    generated: Sequence[dict[str, NDArray[np.float64]]],
    real: Sequence[dict[str, NDArray[np.float64]]],
) -> FeatureSimilarity:
    g, r = (np.stack([one[feature] for one in pieces]) for pieces in (generated, real))
    within_real, within_generated, between = _within(r), _within(g), _distances(g, r).ravel()
    overlap, kl = kernel_overlap(within_real, between)
    return FeatureSimilarity(
        feature=feature,
        overlap=overlap,
        kl=kl,
        within_real=float(within_real.mean()),
        within_generated=float(within_generated.mean()),
        between=float(between.mean()),
    )


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(A, B) Euclidean distances of (A, C) and (B, C) histograms."""
    return np.stack([np.sqrt(((row - b) ** 2).sum(-1)) for row in a])


def _within(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distances of all pairs of different pieces."""
    return np.asarray(_distances(a, a)[np.triu_indices(len(a), 1)])


def kernel_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """The overlap of the distributions of two samples of numbers, (A,) and (B,).

    Both densities are estimated with Gaussian kernels whose width follows Scott's rule.

    Returns:
        The area that the densities have in common, 0 to 1, and the Kullback-Leibler divergence of
        `b` from `a` in nats.

    Example:
        >>> area, divergence = kernel_overlap(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
        >>> round(area, 3), round(divergence, 3)
        (1.0, 0.0)
    """
    both = np.concatenate([a, b])
    # Equal values have a density too, a narrow one.
    least = _NARROWEST * float(both.max() - both.min()) or 1.0
    width_a, width_b = (max(least, _scott(values)) for values in (a, b))
    margin = _REACH * max(width_a, width_b)
    low, high = both.min() - margin, both.max() + margin
    # At least two points in the width of the narrower kernel.
    points = max(_POINTS, int(2 * (high - low) / min(width_a, width_b)))
    x = np.linspace(low, high, points)
    p, q = _density(a, width_a, x), _density(b, width_b, x)
    area = float(np.minimum(p, q).sum())
    kl = float((p * np.log(np.maximum(p, _TINY) / np.maximum(q, _TINY))).sum())
    return area, max(0.0, kl)


def _scott(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) * len(values) ** -0.2 if len(values) > 1 else 0.0


def _density(
    values: NDArray[np.float64], width: float, x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(X,) the estimated density at the points, as shares that sum to 1."""
    made = np.zeros_like(x)
    for value in values:
        made += np.exp(-0.5 * ((x - value) / width) ** 2)
    return np.asarray(made / made.sum())
