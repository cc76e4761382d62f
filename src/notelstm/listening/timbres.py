"""The sounds of instruments as numbers, which the synthesiser and the player page share.

A pitched sound is a sum of partials, each of which decays fast and then slowly; sustained sounds
decay so slowly that it is not noticed. A drum is a tone that falls in pitch, and filtered noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from notelstm.programs import family_of

__all__ = ["DRUM_SOUNDS", "PIANO", "TIMBRES", "Timbre", "drum_sound_of", "timbre_of"]

Timbre: TypeAlias = Mapping[str, float]
"""The constants of one sound, by name."""

PIANO: Final[Timbre] = {
    "partials": 20,
    "highest": 12_000.0,  # Hz, of a partial
    "stretch": 1.0,  # power of the partial's number: 1 for strings and pipes, more for bars
    "stiffness": 1e-4,
    "stiffness_pitch": 50.0,
    "stiffness_doubles": 9.0,  # semitones
    "strike": 0.12,  # position of the hammer, as a share of the string; 0.5 leaves odd partials
    "slope": 0.4,
    "dark": 450.0,  # Hz, above which the softest note fades out
    "bright": 2400.0,  # Hz more for the loudest
    "formant": 1000.0,  # Hz, the centre of a resonance of the body
    "formant_width": 400.0,  # Hz
    "formant_gain": 0.0,  # how much louder partials are at the centre
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
"""The constants of the piano. The reverberation is that of all sounds."""


def _decaying(**changes: float) -> Timbre:
    """A sound that decays while it is held, without the stiffness of the piano's strings."""
    return {**PIANO, "stiffness": 0.0, "pan": 0.4, "first": 0.5, "first_decay": 0.3, **changes}


def _sustained(**changes: float) -> Timbre:
    """A sound that lasts as long as it is held; two of everything, a little out of tune."""
    return _decaying(
        **{
            "strike": 0.03,
            "partials": 14,
            "decay": 60.0,
            "decay_halves": 1e6,
            "damping": 0.0,
            "first": 0.9,
            "first_decay": 1.0,
            "longest": 2.0,
            "volume": 0.085,
            **changes,
        }
    )


# fmt: off
TIMBRES: Final[Mapping[str, Timbre]] = MappingProxyType(
    {
        "piano": PIANO,
        "electric piano": _decaying(
            partials=8, strike=0.42, slope=0.9, dark=300, bright=2400, decay=2.6, volume=0.2,
        ),
        "harpsichord": _decaying(
            strike=0.08, slope=0.1, dark=3500, bright=500, decay=1.3, volume=0.13, attack_soft=0,
        ),
        "mallets": _decaying(
            partials=4, stretch=1.9, strike=0.3, slope=1.2, dark=900, decay=0.9, decay_halves=16,
            damping=2.0, first=0.4, attack=0.001, attack_soft=0.002, release=0.5, volume=0.26,
            pan=0.6,
        ),
        "organ": _sustained(
            partials=8, slope=1.8, dark=2500, bright=300, loudness_power=0.8, beating=1.0015,
            attack=0.012, attack_soft=0, release=0.1, volume=0.115,
        ),
        "guitar": _decaying(
            strike=0.19, slope=0.7, dark=700, bright=2000, decay=1.5, decay_halves=24, volume=0.17,
        ),
        "bass": _decaying(
            partials=12, strike=0.23, slope=0.9, dark=320, bright=900, decay=1.2, decay_halves=24,
            first=0.3, attack=0.006, release=0.12, volume=0.2, pan=0.1,
        ),
        "strings": _sustained(
            slope=1.7, dark=2000, bright=1600, beating=1.0032, attack=0.05, attack_soft=0.05,
            release=0.35, first=0.7, volume=0.13,
        ),
        "voices": _sustained(
            slope=2.4, dark=900, bright=400, formant=750, formant_width=280, formant_gain=3.0,
            beating=1.0038, attack=0.07, attack_soft=0.04, release=0.4, volume=0.15, first=0.7,
        ),
        "brass": _sustained(
            partials=18, slope=1.7, dark=500, bright=3200, formant_gain=1.0, beating=1.0006,
            attack=0.025, attack_soft=0.04, release=0.14, volume=0.11,
        ),
        "reeds": _sustained(
            partials=14, strike=0.46, slope=1.0, dark=1300, bright=900, formant=1300,
            formant_width=500, formant_gain=1.5, beating=1.0004, attack=0.02, attack_soft=0.02,
            release=0.12, volume=0.125,
        ),
        "pipes": _sustained(
            partials=5, slope=3.0, dark=500, bright=500, beating=1.0012, attack=0.035,
            attack_soft=0.03, release=0.16, volume=0.15,
        ),
        "lead": _sustained(
            partials=20, slope=1.8, dark=3500, bright=500, beating=1.002, attack=0.004,
            attack_soft=0, release=0.12, volume=0.11,
        ),
        "pad": _sustained(
            slope=1.9, dark=1000, bright=400, beating=1.005, attack=0.16, attack_soft=0.05,
            release=0.7, volume=0.14, first=0.7,
        ),
    }
)
# fmt: on
"""The constants of each sound, by its name."""

_FAMILIES: Final = {
    "Piano": "piano",
    "Chromatic Percussion": "mallets",
    "Organ": "organ",
    "Guitar": "guitar",
    "Bass": "bass",
    "Strings": "strings",
    "Ensemble": "strings",
    "Brass": "brass",
    "Reed": "reeds",
    "Pipe": "pipes",
    "Synth Lead": "lead",
    "Synth Pad": "pad",
    "Synth Effects": "pad",
    "Ethnic": "guitar",
    "Percussive": "mallets",
    "Sound Effects": "pad",
}
_PROGRAMS: Final = {
    **dict.fromkeys((4, 5), "electric piano"),
    **dict.fromkeys((6, 7, 15), "harpsichord"),  # clavinet and dulcimer
    **dict.fromkeys((20, 21, 22, 23, 109, 111), "reeds"),  # accordions, harmonica, bagpipe, shanai
    **dict.fromkeys((45, 46), "guitar"),  # plucked strings
    **dict.fromkeys((47, 108), "mallets"),  # timpani, kalimba
    **dict.fromkeys((52, 53, 54, 85, 91), "voices"),
    110: "strings",  # fiddle
}
"""Programs that sound unlike most of their family."""


def timbre_of(program: int) -> str:
    """The name of the sound of a General MIDI program, a key of :data:`TIMBRES`.

    Args:
        program: 0 to 127.

    Example:
        >>> timbre_of(0), timbre_of(52), timbre_of(56)
        ('piano', 'voices', 'brass')
    """
    return _PROGRAMS.get(program, _FAMILIES[family_of(program)])


_DRUM: Final[Timbre] = {
    "tone": 200.0,  # Hz, to which the tone falls
    "tone_level": 0.0,
    "tone_decay": 0.05,  # seconds to 1/e
    "bend": 1.0,  # frequency ratio of the onset
    "bend_seconds": 0.03,  # time constant of the fall
    "second": 1.5,  # frequency ratio of a second tone
    "second_level": 0.0,
    "noise": 0.0,  # level
    "noise_decay": 0.05,  # seconds to 1/e
    "noise_low": 1000.0,  # Hz, below which the noise fades out
    "noise_high": 6500.0,  # Hz, above which it does
    "bursts": 1,  # of noise
    "burst_seconds": 0.012,  # from one to the next
    "attack": 0.0008,  # seconds
    "loudness_power": 1.5,
    "volume": 0.2,  # about the peak of the loudest
    "pan": 0.0,
}


def _tone(tone: float, decay: float, **changes: float) -> Timbre:
    """A drum or a piece of wood or metal with a pitch."""
    return {**_DRUM, "tone": tone, "tone_decay": decay, "tone_level": 1.0, **changes}


def _skin(tone: float, decay: float, **changes: float) -> Timbre:
    """A drum whose pitch falls after the stroke."""
    falling = {"bend": 1.5, "bend_seconds": 0.04, "noise": 0.1, "noise_decay": 0.015}
    return _tone(tone, decay, **{**falling, "volume": 0.32, **changes})


def _noise(low: float, decay: float, **changes: float) -> Timbre:
    """Noise above a frequency."""
    return {**_DRUM, "noise": 1.0, "noise_low": low, "noise_decay": decay, **changes}


_KICK: Final = _skin(54, 0.17, bend=4.0, bend_seconds=0.03, noise=0.12, volume=0.6)
_SNARE: Final = _skin(
    185, 0.09, second=1.78, second_level=0.5, noise=1.1, noise_decay=0.11, volume=0.36
)
_CRASH: Final = _noise(2600, 0.8, noise_high=6000.0, volume=0.2, pan=0.35)
_RIDE: Final = _noise(
    5000, 0.3, tone=2950.0, tone_level=0.25, tone_decay=0.4, second=1.51, second_level=0.2,
    noise_high=8000.0, volume=0.16, pan=0.4,
)  # fmt: skip
_TICK: Final = _tone(1700, 0.014, second=0.48, second_level=0.5, noise=0.3, noise_decay=0.008)
_METAL: Final = {"second_level": 0.8, "pan": 0.25}

DRUM_SOUNDS: Final[Mapping[int, Timbre]] = MappingProxyType(
    {
        35: {**_KICK, "tone": 46.0},
        36: _KICK,
        37: _TICK,
        38: _SNARE,
        39: _noise(1000, 0.1, noise_high=3500.0, bursts=3, volume=0.28),
        40: {**_SNARE, "tone": 210.0, "noise_decay": 0.14},
        41: _skin(78, 0.26, pan=0.4),
        42: _noise(6000, 0.035, noise_high=8000.0, volume=0.16, pan=-0.3),
        43: _skin(94, 0.25, pan=0.3),
        44: _noise(4500, 0.05, noise_high=7000.0, volume=0.11, pan=-0.3),
        45: _skin(115, 0.23, pan=0.15),
        46: _noise(5500, 0.26, noise_high=8000.0, volume=0.16, pan=-0.3),
        47: _skin(140, 0.21),
        48: _skin(165, 0.2, pan=-0.15),
        49: _CRASH,
        50: _skin(200, 0.18, pan=-0.3),
        51: _RIDE,
        52: _noise(2200, 0.5, noise_high=8000.0, volume=0.22, pan=0.4),
        53: {**_RIDE, "tone": 900.0, "tone_level": 1.0, "noise": 0.3, "volume": 0.18},
        54: _noise(5500, 0.09, bursts=2, burst_seconds=0.03, volume=0.16),
        55: _noise(4000, 0.32, noise_high=7500.0, volume=0.22, pan=-0.35),
        56: _tone(560, 0.12, second=1.48, **_METAL),
        57: {**_CRASH, "noise_low": 2100.0, "pan": -0.35},
        58: _noise(1800, 0.04, bursts=12, burst_seconds=0.035, volume=0.16),
        59: {**_RIDE, "tone": 2600.0, "pan": -0.4},
        60: _skin(410, 0.09, pan=-0.3),
        61: _skin(300, 0.11, pan=-0.2),
        62: _skin(340, 0.05, pan=0.2),
        63: _skin(330, 0.15, pan=0.2),
        64: _skin(245, 0.18, pan=0.3),
        65: _skin(480, 0.12, noise=0.4, pan=-0.25),
        66: _skin(350, 0.14, noise=0.4, pan=0.25),
        67: _tone(920, 0.2, second=1.52, **_METAL),
        68: _tone(690, 0.2, second=1.52, **_METAL),
        69: _noise(5000, 0.05, volume=0.14, pan=0.3),
        70: _noise(6500, 0.03, volume=0.14, pan=-0.3),
        71: _tone(2350, 0.06, second=1.04, second_level=0.8, attack=0.01, volume=0.14),
        72: _tone(2350, 0.25, second=1.04, second_level=0.8, attack=0.01, volume=0.14),
        73: _noise(2500, 0.02, bursts=4, burst_seconds=0.018, volume=0.16),
        74: _noise(2500, 0.03, bursts=14, burst_seconds=0.02, volume=0.16),
        75: _tone(2500, 0.03),
        76: _tone(1150, 0.04, second=1.6, second_level=0.3, pan=-0.2),
        77: _tone(840, 0.045, second=1.6, second_level=0.3, pan=0.2),
        78: _tone(520, 0.06, bend=0.7, bend_seconds=0.05),
        79: _tone(430, 0.18, bend=0.6, bend_seconds=0.08),
        80: _tone(4200, 0.06, second=1.37, volume=0.12, **_METAL),
        81: _tone(4200, 0.7, second=1.37, volume=0.12, **_METAL),
        82: _noise(6000, 0.05, attack=0.01, volume=0.14),
        83: _noise(6500, 0.12, bursts=4, burst_seconds=0.05, volume=0.14),
        84: _tone(3100, 0.6, second=1.29, volume=0.12, **_METAL),
        85: _tone(1900, 0.02, second=1.3, second_level=0.4),
        86: _skin(72, 0.08, volume=0.4),
        87: _skin(68, 0.35, volume=0.4),
    }
)
"""The constants of each drum, by its General MIDI key."""


def drum_sound_of(key: int) -> Timbre:
    """The constants of the drum of a MIDI note number; of a short click where there is none.

    Args:
        key: 0 to 127.
    """
    return DRUM_SOUNDS.get(key, _TICK)
