"""Whether a model copies: what its samples share with the training pieces, and what is usual."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from notelstm.evaluation.features import excerpts, usual_length
from notelstm.evaluation.passages import SHORTEST, Passage, longest_shared
from notelstm.notes import Notes

__all__ = ["Memorisation", "find_copies"]


@final
@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """What samples share with the training pieces, and what music from elsewhere shares with them.

    Attributes:
        samples: The longest passage of each sample, None where there is none of
            :data:`~notelstm.evaluation.passages.SHORTEST` notes.
        real: The same of excerpts of real pieces, as long as samples usually are.
    """

    samples: tuple[Passage | None, ...]
    real: tuple[Passage | None, ...] = ()

    @property
    def longest(self) -> Passage | None:
        """The longest passage of all samples."""
        return max(filter(None, self.samples), key=lambda made: made.notes, default=None)

    @property
    def usual(self) -> int:
        """Notes of the longest passage that real music shares with the training pieces; 0 for none.

        Scales, trills and formulas are shared by everyone.
        """
        return max((made.notes for made in self.real if made is not None), default=0)

    @property
    def copied(self) -> tuple[Passage, ...]:
        """The passages longer than what real music shares; none where there is no real music."""
        made = [passage for passage in self.samples if passage is not None]
        return tuple(passage for passage in made if self.real and passage.notes > self.usual)

    @property
    def sentence(self) -> str:
        """What was found, and what to do about it where there is something."""
        line = f"real music shares up to {self.usual}" if self.real else "nothing to compare with"
        found = self.longest
        if found is None:
            return f"no passage of {SHORTEST} notes is shared with the training pieces; {line}"
        where = (
            f"{found.notes} notes from note {found.at} of sample {found.sample} on are those from "
            f"note {found.place} of {found.piece} on ({found.semitones:+d} semitones, "
            f"{found.stretch:.2f} times as slow); {line}"
        )
        if not self.copied:
            return where
        return (
            f"{len(self.copied)} of {len(self.samples)} samples copy: {where}. To fix: stop "
            "training earlier, where the validation loss is least, or add augmentation, dropout or "
            "more pieces"
        )

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""

        def listed(passages: Sequence[Passage | None]) -> list[dict[str, Any] | None]:
            return [None if made is None else made.to_json() for made in passages]

        return {
            "longest": listed([self.longest])[0],
            "usual": self.usual,
            "copied": [made.sample for made in self.copied],
            "sentence": self.sentence,
            "samples": listed(self.samples),
            "real": listed(self.real),
        }


def find_copies(
    samples: Sequence[Notes],
    training: Iterable[tuple[str, Notes]],
    real: Sequence[Notes] = (),
) -> Memorisation:
    """Look for copies of training pieces, and say how much of it is usual.

    Args:
        samples: Generated pieces.
        training: The pieces that the model was trained on, with their names; they are read once.
        real: Pieces that it was not trained on, to be cut into excerpts that are searched for, too.

    Raises:
        DataError: If there are real pieces, but no samples of at least two notes.
    """
    others = excerpts(real, usual_length(samples)) if len(real) else []
    found = longest_shared([*samples, *others], training)
    first = len(samples)
    return Memorisation(samples=found[:first], real=found[first:])
