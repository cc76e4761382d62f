"""Piano synthesis in numpy: notes to stereo sound, without a sound font or a download."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, NotesError
from notelstm.listening.piano import PIANO, attack_of, pan_of, partials_of
from notelstm.notes import Notes

__all__ = ["Audio", "check_length", "synthesize"]

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
