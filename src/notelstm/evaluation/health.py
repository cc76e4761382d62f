"""Whether generated pieces have collapsed: loops, silence, one note over and over, noise.

Each symptom is a number; where the line is drawn, real pieces say: a sample is ill that has more of
it than any excerpt of real music of the same length. Of samples that are as good as real ones, one
in as many as there are excerpts crosses the line by chance, so name enough real pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from notelstm.errors import DataError, counted
from notelstm.evaluation.features import excerpts, usual_length
from notelstm.evaluation.grid import quantize
from notelstm.evaluation.symptoms import SYMPTOMS, Symptom
from notelstm.notes import Notes

__all__ = ["Diagnosis", "Health", "diagnose"]


@final
@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One symptom in all samples.

    Attributes:
        symptom: Which.
        limit: The most, or the least, in any real excerpt.
        values: Of each sample.
        ill: The numbers of the samples that are beyond the limit.
    """

    symptom: Symptom
    limit: float
    values: tuple[float, ...]
    flagged: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """What was found, and what to do about it where there is something."""
        extreme = max(self.values) if self.symptom.side == "most" else min(self.values)
        found = f"{extreme:.4g} {self.symptom.unit} at {self.symptom.side}"
        line = f"real music {self.limit:.4g}"
        if not self.flagged:
            return f"{found}, {line}"
        return (
            f"the music {self.symptom.means} in {len(self.flagged)} of {len(self.values)} samples: "
            f"{found}, {line}. To fix: {self.symptom.advice}"
        )

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "unit": self.symptom.unit,
            "bad": self.symptom.side,
            "limit": self.limit,
            "values": list(self.values),
            "flagged": list(self.flagged),
            "sentence": self.sentence,
        }


@final
@dataclass(frozen=True, kw_only=True)
class Health:
    """What was found in all samples.

    Attributes:
        diagnoses: One for each of :data:`~notelstm.evaluation.symptoms.SYMPTOMS`.
        notes: How many notes of each sample were looked at.
        excerpts: How many excerpts of real music drew the lines.
    """

    diagnoses: tuple[Diagnosis, ...]
    notes: int
    excerpts: int

    @property
    def flagged(self) -> tuple[int, ...]:
        """The numbers of the samples that have any symptom."""
        return tuple(sorted({k for diagnosis in self.diagnoses for k in diagnosis.flagged}))

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values, symptoms by name."""
        return {
            "flagged": list(self.flagged),
            "symptoms": {made.symptom.name: made.to_json() for made in self.diagnoses},
            "notes": self.notes,
            "excerpts": self.excerpts,
        }


def diagnose(samples: Sequence[Notes], real: Sequence[Notes]) -> Health:
    """Look for symptoms of collapse.

    Args:
        samples: Generated pieces of at least two notes; of each the beginning is looked at, as
            many notes as most samples have.
        real: Real pieces, each cut into as many excerpts of that length as it holds.

    Raises:
        DataError: If there are no samples or real pieces, or one has fewer than two notes.
    """
    notes = usual_length(samples)
    if not real:
        raise DataError(
            "there are no real pieces to compare the samples with",
            hint="give some that the model was not trained on",
        )
    shortest = min(map(len, (*samples, *real)))
    if shortest < 2:
        raise DataError(
            f"a piece has {counted(shortest, 'note')}, fewer than 2", hint="leave it out"
        )
    made = [quantize(sample[:notes]) for sample in samples]
    true = [quantize(excerpt) for excerpt in excerpts(real, notes)]
    return Health(
        diagnoses=tuple(_diagnosis(symptom, made, true) for symptom in SYMPTOMS),
        notes=notes,
        excerpts=len(true),
    )


def _diagnosis(symptom: Symptom, samples: Sequence[Notes], real: Sequence[Notes]) -> Diagnosis:
    values = tuple(symptom.measure(sample) for sample in samples)
    normal = [symptom.measure(excerpt) for excerpt in real]
    if symptom.side == "most":
        limit = max(normal)
        ill = tuple(k for k, value in enumerate(values) if value > limit)
    else:
        limit = min(normal)
        ill = tuple(k for k, value in enumerate(values) if value < limit)
    return Diagnosis(symptom=symptom, limit=limit, values=values, flagged=ill)
