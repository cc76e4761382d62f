"""The symptoms of collapse: loops, silence, one note over and over, noise, as numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from notelstm.notes import Notes

__all__ = ["SYMPTOMS", "Side", "Symptom"]

_LONGEST_PERIOD: Final = 64
_TOGETHER: Final = 0.1

Side: TypeAlias = Literal["most", "least"]
"""Which end of what can be measured is bad."""


@final
@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One way in which generated music goes wrong.

    Attributes:
        name: What it is called.
        unit: Of what is measured.
        measure: Measures a piece of at least two notes that is on the grid.
        side: Whether ``"most"`` or ``"least"`` of all is what is bad.
        means: What it looks like, as the end of a sentence that begins with "the music".
        advice: What to do.
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
    """The longest stretch of pitches that repeats what came up to 64 notes before, in notes."""
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
    """(N - 1,) how long nothing sounds before each note but the first, in seconds."""
    heard = np.maximum.accumulate(notes.end)
    return np.maximum(0.0, notes.start[1:] - heard[:-1])


def _silence(notes: Notes) -> float:
    """The share of the time in which nothing sounds."""
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
        advice="draw with a higher temperature and without greedy choice; if that does not help, "
        "train longer or on more pieces",
    ),
    Symptom(
        name="any pitch",
        unit="nats of entropy",
        measure=_entropy,
        side="most",
        means="scatters over all pitches",
        advice="train longer until the validation loss stops falling, or draw with a lower "
        "temperature",
    ),
    Symptom(
        name="loop",
        unit="notes",
        measure=_loop,
        side="most",
        means="repeats itself without end",
        advice="draw with a higher temperature; a model that still loops wants more data, more "
        "dropout or augmentation",
    ),
    Symptom(
        name="one note",
        unit="notes",
        measure=_one_note,
        side="most",
        means="strikes one note over and over",
        advice="draw with a higher temperature, and check that the pitch loss fell below that of "
        "the unigram baseline",
    ),
    Symptom(
        name="silence",
        unit="share of the time",
        measure=_silence,
        side="most",
        means="is mostly silent",
        advice="look at the nats of step and duration: steps are drawn too long or notes too "
        "short; predict times as classes, or train longer",
    ),
    Symptom(
        name="rest",
        unit="s",
        measure=_rest,
        side="most",
        means="stops for long",
        advice="draw with a lower temperature, which makes rare long steps rarer, and look for "
        "pieces with long gaps among those trained on",
    ),
    Symptom(
        name="cluster",
        unit="notes in 0.1 s",
        measure=_cluster,
        side="most",
        means="piles notes up at one moment",
        advice="look at the nats of step: the model does not move on in time; predict steps as "
        "classes, or train longer",
    ),
)
"""The ways in which generated music goes wrong that are looked for."""
