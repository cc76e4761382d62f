"""Time signatures as classes: which have one, and the class of any other."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError
from notelstm.notes import TempoMap

__all__ = ["TIME_SIGNATURES", "SignatureClasses", "names_of"]

TIME_SIGNATURES: Final = tuple(f"{n}/{d}" for d in (1, 2, 4, 8, 16) for n in range(1, 2 * d + 1))
"""All time signatures in whole notes to sixteenths with bars of at most two whole notes."""

_WITHOUT: Final = "4/4"
"""The time signature of a piece that states none, as in the MIDI standard."""


def names_of(beats: TempoMap) -> list[str]:
    """(M,) the time signatures of a tempo map, such as ``"6/8"``."""
    return [f"{n}/{d}" for n, d in zip(beats.numerators, beats.denominators, strict=True)]


@final
class SignatureClasses:
    """The time signatures that have a class, with bars in cells.

    Args:
        names: (M,) the time signatures, such as ``"6/8"``, in the order of their classes.
        per_beat: Cells per quarter note.

    Attributes:
        numerators: (M,) their numerators.
        denominators: (M,) their denominators.
        bars: (M,) cells in a bar of each.

    Raises:
        ConfigError: If there are none, one is repeated or not a time signature, or its bar has no
            whole number of cells.
    """

    def __init__(self, names: Sequence[str], per_beat: int) -> None:
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"the time signatures {tuple(names)} are empty or repeat one", hint="give each once"
            )
        pairs = [_parsed(name) for name in names]
        for name, (upper, lower) in zip(names, pairs, strict=True):
            if 4 * upper * per_beat % lower:
                raise ConfigError(
                    f"a bar of {name} has no whole number of cells with {per_beat} cells per "
                    "quarter note",
                    hint="choose another per_beat, or leave the time signature out",
                )
        self._names: Final = tuple(names)
        self._per_beat: Final = per_beat
        bars = np.array(pairs, dtype=np.int64)
        self.numerators: Final[NDArray[np.int64]] = bars[:, 0]
        self.denominators: Final[NDArray[np.int64]] = bars[:, 1]
        self.bars: Final[NDArray[np.int64]] = 4 * self.numerators * per_beat // self.denominators

    def positions(
        self, beats: TempoMap, at: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], dict[str, NDArray[np.bool_]]]:
        """The time signature and the position in the bar at each of N cells, in ascending order.

        Bars are counted from the first statement of a class, backwards before the first statement
        of the piece.

        Returns:
            (N,) the class, (N,) the cells since the bar line, and the notes (N,) that have another
            time signature or position than in `beats`, by reason.
        """
        starts, names = [0.0], [_WITHOUT]
        if beats.time_signature_beats.size:
            starts = np.rint(beats.time_signature_beats * self._per_beat).tolist()
            names = names_of(beats)
        classes = {name: self.class_of(name) for name in names}
        here = np.maximum(np.searchsorted(starts, at, side="right") - 1, 0)
        ids = np.array([classes[name] for name in names])[here]
        new = np.diff(ids, prepend=-1) != 0
        first = np.maximum.accumulate(np.where(new, np.arange(len(at)), 0))
        position, stated = (
            (at - np.array(starts)[k]) % self.bars[ids] for k in (here[first], here)
        )
        changed = {
            f"in {name}, encoded as {self._names[k]}": np.array(names)[here] == name
            for name, k in classes.items()
            if name != self._names[k]
        }
        changed["in bars counted from an earlier bar line"] = position != stated
        return ids, position, changed

    def class_of(self, name: str) -> int:
        """The class of a time signature, or else of the one that replaces it.

        Bar lines must stay where they are: a bar of the replacement is a whole number of the bars
        that it replaces, or the reverse (13/4 in bars of 13/8). If a bar has no whole number of
        cells, the shortest run of bars that has one counts as a bar (7/32 in bars of 7/16). Of
        those that fit, or of all if none does, the one of the nearest length is chosen, then the
        one with the nearest denominator, then the first.
        """
        if name in self._names:
            return self._names.index(name)
        upper, lower = _parsed(name)
        # In lowest terms, the numerator is the shortest run of bars.
        cells = Fraction(4 * upper * self._per_beat, lower).numerator

        def distance(k: int) -> tuple[bool, Fraction, Fraction]:
            # Exact fractions, so that ties do not depend on rounding.
            length = Fraction(int(self.bars[k]), cells)
            unit = Fraction(int(self.denominators[k]), lower)
            fits = length.numerator == 1 or length.denominator == 1
            return not fits, max(length, 1 / length), max(unit, 1 / unit)

        return min(range(len(self._names)), key=distance)


def _parsed(name: str) -> tuple[int, int]:
    upper, _, lower = name.partition("/")
    if not (upper.isdecimal() and lower.isdecimal() and int(upper) and int(lower)):
        raise ConfigError(f"{name!r} is not a time signature", hint='give a fraction such as "3/4"')
    return int(upper), int(lower)
