"""The sound of a piano's string, as a sum of partials.

The page in the browser plays by the same recipe: it gets :data:`PIANO` and does the same sums.
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
    "strike": 0.12,  # where the hammer hits, as a share of the string
    "slope": 0.4,
    "dark": 450.0,  # Hz, above which the softest note fades out
    "bright": 2400.0,  # Hz more for the loudest
    "loudness_power": 1.5,
    "volume": 0.18,
    "decay": 2.0,  # seconds to 1/e of middle C, once the first shock is over
    "decay_halves": 18.0,  # semitones
    "damping": 0.15,  # how much faster each partial falls than the one below it
    "first": 0.7,  # the share of the first, fast decay
    "first_decay": 0.2,  # its seconds, as a share of those of the second
    "beating": 1.00012,  # how much higher the slow string is
    "attack": 0.002,  # seconds, of the loudest note
    "attack_soft": 0.006,  # seconds more for the softest
    "release": 0.25,  # seconds from the end of a note to silence
    "longest": 7.0,  # slow decays after which a string is still: -60 dB
    "pan": 0.65,
    "room": 0.14,
    "room_decay": 0.28,  # seconds to 1/e
    "room_seconds": 1.6,
}
"""The constants of the sound."""


class Partials(NamedTuple):
    """What one struck string consists of: K partials, each decaying fast and then slowly.

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

    Strings are stiff, so partials are a little higher than whole multiples; high ones fall faster;
    a harder blow is louder and brighter.

    Args:
        pitch: 0 to 127.
        velocity: 1 to 127.
        highest: Hz, above which there are none but the first.

    Example:
        >>> partials_of(69, 80).frequency[:2].round(1).tolist()
        [440.0, 880.7]
    """
    first = 440.0 * 2 ** ((pitch - 69) / 12)
    bend = (pitch - PIANO["stiffness_pitch"]) / PIANO["stiffness_doubles"]
    stiffness = PIANO["stiffness"] * (1 + 2**bend)
    k = np.arange(1, int(PIANO["partials"]) + 1)
    frequency = first * k * np.sqrt((1 + stiffness * k**2) / (1 + stiffness))
    heard = (frequency < highest) | (k == 1)
    k, frequency = k[heard], frequency[heard]
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
    """Seconds in which a note rises: soft hammers are slower."""
    return PIANO["attack"] + PIANO["attack_soft"] * (1 - velocity / 127)


def pan_of(pitch: int) -> float:
    """Where a note is heard, -1 left to 1 right: as the player hears it, low notes left."""
    return PIANO["pan"] * min(1.0, max(-1.0, (pitch - 64) / 44))
