"""Degenerate samples: loops, silence, one note repeated, noise.

Each symptom is a number. A sample is flagged if its number is beyond that of every excerpt of real
music of the same length. Of samples as good as real music, one in as many as there are excerpts is
flagged by chance, so use enough real pieces.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import DataError, counted
from notelstm.evaluation.features import excerpts, usual_length
from notelstm.evaluation.grid import quantize
from notelstm.notes import Notes

__all__ = ["SYMPTOMS", "Diagnosis", "Health", "Side", "Symptom", "diagnose"]

_LONGEST_PERIOD: Final = 64
_TOGETHER: Final = 0.1

Side: TypeAlias = Literal["most", "least"]
"""The bad end of the range of a measure."""


@final
@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One sign of degenerate music.

    Attributes:
        name: The name.
        unit: The unit of the measure.
        measure: Measures a piece of at least two notes that is on the grid.
        side: The bad end of the measure, ``"most"`` or ``"least"``.
        means: The end of a sentence that begins with "the music".
        advice: The remedy.
    """

    name: str
    unit: str
    measure: Callable[[Notes], float]
    side: Side
    means: str
    advice: str


def _entropy(notes: Notes) -> float:
    """Nats of the distribution of pitches."""
    p = np.bincount(notes.pitch) / len(notes)
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def _loop(notes: Notes) -> float:
    """The longest run of pitches that repeats pitches up to 64 notes before, in notes."""
    best = 0
    for period in range(1, min(_LONGEST_PERIOD, len(notes) - 1) + 1):
        run = _longest_run(notes.pitch[period:] == notes.pitch[:-period])
        # Less than a whole period is no loop.
        best = max(best, run if run >= period else 0)
    return float(best)


def _one_note(notes: Notes) -> float:
    """The longest run of notes of one pitch."""
    return float(_longest_run(notes.pitch[1:] == notes.pitch[:-1]) + 1)


def _longest_run(same: NDArray[np.bool_]) -> int:
    """The length of the longest stretch of True."""
    borders = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    return int((borders[1::2] - borders[::2]).max(initial=0))


def _gaps(notes: Notes) -> NDArray[np.float64]:
    """(N - 1,) the silence before each note but the first, in seconds."""
    last_end = np.maximum.accumulate(notes.end)
    return np.maximum(0.0, notes.start[1:] - last_end[:-1])


def _silence(notes: Notes) -> float:
    """The share of silence in the time of the piece."""
    return float(_gaps(notes).sum() / (notes.end.max() - notes.start[0]))


def _rest(notes: Notes) -> float:
    """The longest rest, seconds."""
    return float(_gaps(notes).max())


def _cluster(notes: Notes) -> float:
    """The most notes that begin within 0.1 s."""
    last = np.searchsorted(notes.start, notes.start + _TOGETHER, side="right")
    return float((last - np.arange(len(notes))).max())


SYMPTOMS: Final = (
    Symptom(
        name="few pitches",
        unit="nats of entropy",
        measure=_entropy,
        side="least",
        means="keeps to a few pitches",
        advice="sample with a higher temperature and without greedy choice; if that does not help, "
        "train longer or on more pieces",
    ),
    Symptom(
        name="any pitch",
        unit="nats of entropy",
        measure=_entropy,
        side="most",
        means="scatters over all pitches",
        advice="train longer until the validation loss stops falling, or sample with a lower "
        "temperature",
    ),
    Symptom(
        name="loop",
        unit="notes",
        measure=_loop,
        side="most",
        means="repeats in a loop",
        advice="sample with a higher temperature; if that does not help, train on more data, or "
        "with more dropout or augmentation",
    ),
    Symptom(
        name="one note",
        unit="notes",
        measure=_one_note,
        side="most",
        means="repeats one note",
        advice="sample with a higher temperature, and check that the pitch loss fell below that of "
        "the unigram baseline",
    ),
    Symptom(
        name="silence",
        unit="share of the time",
        measure=_silence,
        side="most",
        means="is mostly silent",
        advice="look at the nats of step and duration: sampled steps are too long or notes too "
        "short; predict times as classes, or train longer",
    ),
    Symptom(
        name="rest",
        unit="s",
        measure=_rest,
        side="most",
        means="stops for long",
        advice="sample with a lower temperature, which makes rare long steps rarer, and look for "
        "pieces with long gaps among those trained on",
    ),
    Symptom(
        name="cluster",
        unit="notes in 0.1 s",
        measure=_cluster,
        side="most",
        means="clusters too many notes at one moment",
        advice="look at the nats of step: too many sampled steps are 0; predict steps as classes, "
        "or train longer",
    ),
)
"""The symptoms that :func:`diagnose` measures."""


@final
@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One symptom in all samples.

    Attributes:
        symptom: The symptom.
        limit: The most, or the least, in any real excerpt.
        values: The measure of each sample.
        flagged: The numbers of the samples that are beyond the limit.
    """

    symptom: Symptom
    limit: float
    values: tuple[float, ...]
    flagged: tuple[int, ...]

    @property
    def sentence(self) -> str:
        """The finding, with the remedy if a sample is flagged."""
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
        """The diagnosis as JSON values."""
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
    """The symptoms of all samples.

    Attributes:
        diagnoses: One for each of :data:`~notelstm.evaluation.health.SYMPTOMS`.
        notes: The number of notes of each sample that were measured.
        excerpts: The number of excerpts of real music that set the limits.
    """

    diagnoses: tuple[Diagnosis, ...]
    notes: int
    excerpts: int

    @property
    def flagged(self) -> tuple[int, ...]:
        """The numbers of the samples that have any symptom."""
        return tuple(sorted({k for diagnosis in self.diagnoses for k in diagnosis.flagged}))

    def to_json(self) -> dict[str, Any]:
        """The findings as JSON values, symptoms by name."""
        return {
            "flagged": list(self.flagged),
            "symptoms": {made.symptom.name: made.to_json() for made in self.diagnoses},
            "notes": self.notes,
            "excerpts": self.excerpts,
        }


def diagnose(samples: Sequence[Notes], real: Sequence[Notes]) -> Health:
    """Measure the symptoms of degenerate samples.

    Args:
        samples: Generated pieces of at least two notes; the first notes of each are measured, as
            many as samples have in the median.
        real: Real pieces, which are cut into excerpts of that length.

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
    values = tuple(map(symptom.measure, samples))
    most = symptom.side == "most"
    limit = (max if most else min)(map(symptom.measure, real))
    beyond = operator.gt if most else operator.lt
    flagged = tuple(k for k, value in enumerate(values) if beyond(value, limit))
    return Diagnosis(symptom=symptom, limit=limit, values=values, flagged=flagged)
