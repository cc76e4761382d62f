"""The piano sound: a string as a sum of partials.

The player page synthesises the same sound in the browser, from the same constants, :data:`PIANO`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PIANO", "Partials", "attack_of", "pan_of", "partials_of"]

PIANO: Final[Mapping[str, float]] = {
    "partials": 20,
    "highest": 12_000.0,  # Hz, of a partial
    "stiffness": 1e-4,
    "stiffness_pitch": 50.0,
    "stiffness_doubles": 9.0,  # semitones
    "strike": 0.12,  # position of the hammer, as a share of the string
    "slope": 0.4,
    "dark": 450.0,  # Hz, above which the softest note fades out
    "bright": 2400.0,  # Hz more for the loudest
    "loudness_power": 1.5,
    "volume": 0.18,
    "decay": 2.0,  # seconds to 1/e of middle C, in the slow part of the decay
    "decay_halves": 18.0,  # semitones
    "damping": 0.15,  # how much faster each partial decays than the one below it
    "first": 0.7,  # share of the fast decay
    "first_decay": 0.2,  # its time constant, as a share of that of the slow decay
    "beating": 1.00012,  # frequency ratio of the slowly decaying string
    "attack": 0.002,  # seconds, of the loudest note
    "attack_soft": 0.006,  # seconds more for the softest
    "release": 0.25,  # seconds from the end of a note to silence
    "longest": 7.0,  # slow time constants after which a string is silent: -60 dB
    "pan": 0.65,
    "reverb": 0.14,
    "reverb_decay": 0.28,  # seconds to 1/e
    "reverb_seconds": 1.6,
}
"""The constants of the sound."""


class Partials(NamedTuple):
    """The K partials of one note, each of which decays fast and then slowly.

    Attributes:
        frequency: (K,) Hz.
        decay: (K,) seconds to 1/e of the slow decay.
        amplitude: (K,) 1 being full scale; its sign is its phase.
    """

    frequency: NDArray[np.float64]
    decay: NDArray[np.float64]
    amplitude: NDArray[np.float64]


def partials_of(pitch: int, velocity: int, *, highest: float = PIANO["highest"]) -> Partials:
    """The partials of a note.

    Strings are stiff, so partials lie a little above the integer multiples. High partials decay
    faster. A higher velocity is louder and brighter.

    Args:
        pitch: 0 to 127.
        velocity: 1 to 127.
        highest: Hz; partials above it are left out, except the first.

    Example:
        >>> partials_of(69, 80).frequency[:2].round(1).tolist()
        [440.0, 880.7]
    """
    first = 440.0 * 2 ** ((pitch - 69) / 12)
    bend = (pitch - PIANO["stiffness_pitch"]) / PIANO["stiffness_doubles"]
    stiffness = PIANO["stiffness"] * (1 + 2**bend)
    k = np.arange(1, int(PIANO["partials"]) + 1)
    frequency = first * k * np.sqrt((1 + stiffness * k**2) / (1 + stiffness))
    kept = (frequency < highest) | (k == 1)
    k, frequency = k[kept], frequency[kept]
    slow = PIANO["decay"] * 2 ** ((60 - pitch) / PIANO["decay_halves"])
    force = (velocity / 127) ** PIANO["loudness_power"]
    fading = np.exp((first - frequency) / (PIANO["dark"] + PIANO["bright"] * force))
    shape = np.sin(np.pi * PIANO["strike"] * k) * k ** -PIANO["slope"] * fading
    return Partials(
        frequency,
        slow / (1 + PIANO["damping"] * (k - 1)),
        PIANO["volume"] * force * shape / np.sqrt((shape**2).sum()),
    )


def attack_of(velocity: int) -> float:
    """The attack time in seconds, longer for soft notes."""
    return PIANO["attack"] + PIANO["attack_soft"] * (1 - velocity / 127)


def pan_of(pitch: int) -> float:
    """The position of a note, -1 left to 1 right, low notes left as for the pianist."""
    return PIANO["pan"] * min(1.0, max(-1.0, (pitch - 64) / 44))
