"""Scales by name: a tonic and a mode, or twelve digits."""

from __future__ import annotations

import numbers
import re
from typing import Final

from notelstm.errors import ConfigError

__all__ = ["MODES", "note_number", "pitch_classes"]

MODES: Final[dict[str, tuple[int, ...]]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "ionian": (0, 2, 4, 5, 7, 9, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11),
    "pentatonic": (0, 2, 4, 7, 9),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "major blues": (0, 2, 3, 4, 7, 9),
    "whole tone": (0, 2, 4, 6, 8, 10),
    "octatonic": (0, 2, 3, 5, 6, 8, 9, 11),
    "chromatic": tuple(range(12)),
}
"""Semitones above the tonic, by the name of the mode; melodic minor is the rising one."""

_LETTERS: Final = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_SIGNS: Final = {"#": 1, "♯": 1, "b": -1, "♭": -1}
_TONIC: Final = r"([A-Ga-g])(##|bb|[#b♯♭])?"
_SCALE: Final = re.compile(rf"{_TONIC}(m)?(?:[ _-]+(.+))?")
_NOTE: Final = re.compile(rf"{_TONIC}(-?\d+)")


def _semitones(letter: str, signs: str | None) -> int:
    return _LETTERS[letter.lower()] + sum(_SIGNS[sign] for sign in signs or "")


def pitch_classes(name: str) -> frozenset[int]:
    """The pitch classes of a scale, 0 for C to 11 for B.

    Args:
        name: A tonic and one of :data:`MODES`, ``"D dorian"`` or ``"F# minor"``; a tonic alone is
            major, with an ``m`` minor; or a mask of twelve digits from C on, 1 for each note in it.

    Raises:
        ConfigError: If there is no such scale.

    Example:
        >>> sorted(pitch_classes("F# minor"))
        [1, 2, 4, 6, 8, 9, 11]
        >>> sorted(pitch_classes("100010010000"))
        [0, 4, 7]
    """
    text = name.strip() if isinstance(name, str) else ""
    if re.fullmatch("[01]{12}", text) and "1" in text:
        return frozenset(k for k, digit in enumerate(text) if digit == "1")
    found = _SCALE.fullmatch("c chromatic" if text.lower() == "chromatic" else text)
    if found is not None:
        letter, signs, minor, mode = found.groups()
        mode = "minor" if minor else re.sub("[ _-]+", " ", mode or "major").strip().lower()
        if mode in MODES and not (minor and found[4]):
            tonic = _semitones(letter, signs)
            return frozenset((tonic + step) % 12 for step in MODES[mode])
    raise ConfigError(
        f"no such scale: {name!r}",
        hint='give a tonic and a mode or twelve digits from C on, "F# minor" or "101011010101"; '
        f"the modes are {', '.join(MODES)}",
    )


def note_number(name: str | int) -> int:
    """The MIDI note number of a name such as ``"C4"`` (60), ``"F#2"``, ``"Bb-1"``, or of a number.

    Raises:
        ConfigError: If it is neither, or not from 0 to 127.

    Example:
        >>> note_number("A0"), note_number("C8"), note_number(60)
        (21, 108, 60)
    """
    number = -1
    if not isinstance(name, str):
        # A float from an array or from JSON may be whole.
        number = int(name) if isinstance(name, numbers.Real) and name % 1 == 0 else -1
    elif name.strip().isdecimal():
        number = int(name)
    elif (found := _NOTE.fullmatch(name.strip())) is not None:
        number = 12 * (int(found[3]) + 1) + _semitones(found[1], found[2])
    if not 0 <= number <= 127:
        raise ConfigError(
            f"no such pitch: {name!r}",
            hint="give a MIDI note number from 0 to 127 or a name from C-1 to G9",
        )
    return number
