"""Piano synthesis in numpy: notes to stereo sound, without a sound font or a download.

A string is a sum of partials. The player page synthesises the same sound in the browser, from the
same constants, :data:`PIANO`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, NotesError
from notelstm.notes import Notes

__all__ = [
    "PIANO",
    "Audio",
    "Partials",
    "attack_of",
    "check_length",
    "pan_of",
    "partials_of",
    "synthesize",
]

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


Audio: TypeAlias = NDArray[np.float32]
"""(2, N) left and right, full scale being -1 to 1."""

_BLOCK: Final = 512
_LOUDEST: Final = 0.95
_RATES: Final = (8_000, 192_000)
_LONGEST: Final = 4 * 3600.0


def synthesize(notes: Notes, *, rate: int = 44_100, reverb: float = PIANO["reverb"]) -> Audio:
    """Synthesise notes with the built-in additive piano.

    Every program is rendered as a piano; percussion is left out. The result is deterministic. A
    piece that would exceed full scale is scaled down as a whole.

    Args:
        notes: The piece.
        rate: Sample rate, Hz, 8,000 to 192,000.
        reverb: Level of the reverberation, 0 to 1.

    Returns:
        (2, N) float32, left and right, below full scale; it ends when the release and the
        reverberation of the last note have faded.

    Raises:
        ConfigError: If the rate or the reverb level is out of range.
        NotesError: If the piece lasts longer than four hours.
    """
    check_length(notes, rate)
    if not 0 <= reverb <= 1:
        raise ConfigError(f"reverb {reverb} is out of range", hint="use a level from 0 to 1")
    pitched = notes if notes.drum is None else notes[~notes.drum]
    size = round((notes.end_time + PIANO["release"] + PIANO["reverb_seconds"]) * rate)
    dry = np.zeros((2, size), dtype=np.float32)
    order = np.argsort(pitched.pitch, kind="stable")
    string: _String | None = None
    for at in order:
        pitch = int(pitched.pitch[at])
        if string is None or string.pitch != pitch:
            string = _String(pitch, rate)
        sound = string.render_note(int(pitched.velocity[at]), float(pitched.duration[at]))
        first = round(float(pitched.start[at]) * rate)
        part = dry[:, first : first + sound.shape[1]]
        part += sound[:, : part.shape[1]]
    if reverb and len(pitched):
        _add_reverb(dry, rate, reverb)
    peak = float(np.abs(dry).max(initial=0))
    if peak > _LOUDEST:
        dry *= _LOUDEST / peak
    return dry


def check_length(notes: Notes, rate: int) -> None:
    """Check the sample rate and the length of a piece before it is rendered.

    Raises:
        ConfigError: If the rate is out of range.
        NotesError: If the piece lasts longer than four hours.
    """
    low, high = _RATES
    if not low <= rate <= high:
        raise ConfigError(
            f"a sample rate of {rate} Hz is out of range", hint=f"use {low} to {high} Hz"
        )
    if notes.end_time > _LONGEST:
        raise NotesError(
            f"the piece lasts {notes.end_time / 3600:.1f} hours, the limit is four hours",
            hint="render a part of it",
        )


class _String:
    """The strings of one key, which render any number of notes.

    Each partial is a power of a complex number, z**n. With n = 512 m + j it factors into a number
    for m and one for j, so the sum over the partials is a product of two matrices.
    """

    def __init__(self, pitch: int, rate: int) -> None:
        self.pitch, self._rate = pitch, rate
        self._highest = min(PIANO["highest"], 0.45 * rate)
        found = partials_of(pitch, 64, highest=self._highest)
        fast, slow = PIANO["first_decay"] * found.decay, found.decay
        tuned = np.concatenate([found.frequency, found.frequency * PIANO["beating"]])
        self._exponent = (2j * np.pi * tuned - 1 / np.concatenate([fast, slow])) / rate
        inside = np.exp(np.outer(self._exponent, np.arange(_BLOCK)))  # (2 K, 512)
        # Im(a b) = Re(a) Im(b) + Im(a) Re(b)
        self._inside = np.concatenate([inside.imag, inside.real]).astype(np.float32)
        self._longest = PIANO["longest"] * float(slow[0])
        self._outside = np.zeros((0, 4 * len(slow)), dtype=np.float32)
        angle = np.pi / 4 * (1 + pan_of(pitch))
        self._sides = np.array([[np.cos(angle)], [np.sin(angle)]], dtype=np.float32)

    def render_note(self, velocity: int, seconds: float) -> Audio:
        """Render one note with its release; (2, N)."""
        held = round(min(seconds, self._longest) * self._rate)
        rise, fall = round(attack_of(velocity) * self._rate), round(PIANO["release"] * self._rate)
        size = held + fall
        blocks = -(-size // _BLOCK)
        amplitude = partials_of(self.pitch, velocity, highest=self._highest).amplitude
        share = PIANO["first"]
        weights = np.tile(np.concatenate([share * amplitude, (1 - share) * amplitude]), 2)
        rows = self._rows(blocks) * weights.astype(np.float32)
        sound = (rows @ self._inside).reshape(-1)[:size]
        sound[:rise] *= np.sin(np.pi / 2 * np.arange(rise, dtype=np.float32) / rise) ** 2
        sound[held:] *= np.linspace(1, 0, fall, dtype=np.float32) ** 4
        return np.asarray(self._sides * sound)

    def _rows(self, blocks: int) -> NDArray[np.float32]:
        """The partials at the start of each block; (blocks, 4 K)."""
        if blocks > len(self._outside):
            at = np.exp(np.outer(np.arange(blocks) * _BLOCK, self._exponent))
            self._outside = np.concatenate([at.real, at.imag], axis=1).astype(np.float32)
        return self._outside[:blocks]


def _add_reverb(dry: Audio, rate: int, level: float) -> None:
    """Convolve with an impulse response of decaying noise, different for each side, in place."""
    seconds, decay = PIANO["reverb_seconds"], PIANO["reverb_decay"]
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.Generator(np.random.PCG64(7)).standard_normal((2, time.size))
    # Walls absorb high frequencies; reverberated low frequencies would blur the bass.
    spectrum = np.fft.rfft(noise * np.exp(-time / decay))
    frequency = np.fft.rfftfreq(time.size, 1 / rate)
    spectrum *= frequency / (frequency + 200) / (1 + (frequency / 3500) ** 2)
    echo = np.fft.irfft(spectrum, time.size) * (1 - time / seconds)
    echo *= level / np.sqrt((echo**2).sum(axis=1, keepdims=True))
    block = 1 << int(4 * time.size).bit_length()
    step = block - time.size + 1
    kernel = np.fft.rfft(echo, block)
    # From the end to the beginning: each block adds only to samples that have been read already.
    for low in range((dry.shape[1] - 1) // step * step, -1, -step):
        part = np.fft.irfft(np.fft.rfft(dry[:, low : low + step], block) * kernel, block)
        goal = dry[:, low : low + block]
        goal += part[:, : goal.shape[1]]
