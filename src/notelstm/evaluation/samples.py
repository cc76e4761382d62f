"""``evaluate_samples``: whether what a model writes is music, a collapse, or a copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from notelstm.errors import DataError, counted
from notelstm.evaluation.health import Health, diagnose
from notelstm.evaluation.memorisation import Memorisation, find_copies
from notelstm.evaluation.similarity import Similarity, similarity_of
from notelstm.notes import Notes

__all__ = ["SampleReport", "evaluate_samples"]


@final
@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """What is to be said of a model's samples.

    Attributes:
        similarity: Are they like real pieces?
        health: Have they collapsed?
        memorisation: Are they copies? None where the training pieces are not at hand.
    """

    similarity: Similarity
    health: Health
    memorisation: Memorisation | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        copies = self.memorisation
        return {
            "similarity": self.similarity.to_json(),
            "health": self.health.to_json(),
            "memorisation": None if copies is None else copies.to_json(),
        }


def evaluate_samples(
    samples: Sequence[Notes],
    real: Sequence[Notes],
    training: Iterable[tuple[str, Notes]] | None = None,
) -> SampleReport:
    """Look at what a model wrote.

    Args:
        samples: At least two generated pieces.
        real: At least two pieces that the model was not trained on.
        training: The pieces that it was trained on, with their names; None if they are not at hand.

    Raises:
        DataError: If there are fewer pieces, or one has fewer than two notes.
    """
    for kind, pieces in (("sample", samples), ("real piece", real)):
        short = [k for k, piece in enumerate(pieces) if len(piece) < 2]
        if short:
            raise DataError(
                f"{kind} {short[0]} has {counted(len(pieces[short[0]]), 'note')}, fewer than 2",
                hint="leave it out; a model that writes no notes needs more training",
            )
    return SampleReport(
        similarity=similarity_of(samples, real),
        health=diagnose(samples, real),
        memorisation=None if training is None else find_copies(samples, training, real),
    )
