"""Synthesis in numpy: notes to stereo sound, without a sound font or a download.

The player page synthesises the same sounds in the browser, from the same constants, which are in
:mod:`notelstm.listening.timbres`.
"""

from __future__ import annotations

from numbers import Integral
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, NotesError
from notelstm.listening.timbres import PIANO, TIMBRES, Timbre, drum_sound_of, timbre_of
from notelstm.notes import Notes

__all__ = ["Audio", "Partials", "attack_of", "check_length", "pan_of", "partials_of", "synthesize"]


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


def partials_of(
    pitch: int, velocity: int, *, timbre: Timbre = PIANO, highest: float | None = None
) -> Partials:
    """The partials of a note.

    The piano's strings are stiff, so its partials lie a little above the integer multiples. High
    partials decay faster. A higher velocity is louder and brighter.

    Args:
        pitch: 0 to 127.
        velocity: 1 to 127.
        timbre: The sound, one of :data:`~notelstm.listening.timbres.TIMBRES`.
        highest: Hz; partials above it are left out, except the first. None for the sound's own.

    Example:
        >>> partials_of(69, 80).frequency[:2].round(1).tolist()
        [440.0, 880.7]
    """
    first = 440.0 * 2 ** ((pitch - 69) / 12)
    bend = (pitch - timbre["stiffness_pitch"]) / timbre["stiffness_doubles"]
    stiffness = timbre["stiffness"] * (1 + 2**bend)
    k = np.arange(1, int(timbre["partials"]) + 1)
    bent = np.sqrt((1 + stiffness * k**2) / (1 + stiffness))
    frequency = first * k ** timbre["stretch"] * bent
    kept = (frequency < (timbre["highest"] if highest is None else highest)) | (k == 1)
    k, frequency = k[kept], frequency[kept]
    slow = timbre["decay"] * 2 ** ((60 - pitch) / timbre["decay_halves"])
    force = (velocity / 127) ** timbre["loudness_power"]
    fading = np.exp((first - frequency) / (timbre["dark"] + timbre["bright"] * force))
    off = (frequency - timbre["formant"]) / timbre["formant_width"]
    body = 1 + timbre["formant_gain"] * np.exp(-(off**2))
    shape = np.sin(np.pi * timbre["strike"] * k) * k ** -timbre["slope"] * fading * body
    return Partials(
        frequency,
        slow / (1 + timbre["damping"] * (k - 1)),
        timbre["volume"] * force * shape / np.sqrt((shape**2).sum()),
    )


def attack_of(velocity: int, timbre: Timbre = PIANO) -> float:
    """The attack time in seconds, longer for soft notes."""
    return timbre["attack"] + timbre["attack_soft"] * (1 - velocity / 127)


def pan_of(pitch: int, timbre: Timbre = PIANO) -> float:
    """The position of a note, -1 left to 1 right, low notes left as for the pianist."""
    return timbre["pan"] * min(1.0, max(-1.0, (pitch - 64) / 44))


Audio: TypeAlias = NDArray[np.float32]
"""(2, N) left and right, full scale being -1 to 1."""

_BLOCK: Final = 512
_NOISE_PEAK: Final = 2.5  # peak of noise, as a multiple of its root mean square
_DRUM_SILENT: Final = 7.0  # time constants: -60 dB
_LOUDEST: Final = 0.95
_RATES: Final = (8_000, 192_000)
_LONGEST: Final = 4 * 3600.0


def synthesize(notes: Notes, *, rate: int = 44_100, reverb: float = PIANO["reverb"]) -> Audio:
    """Synthesise notes with the built-in sounds.

    Each program has the sound of its family, and each drum key one of its own. The result is
    deterministic. A piece that would exceed full scale is scaled down as a whole.

    Args:
        notes: The piece.
        rate: Sample rate, Hz, 8,000 to 192,000.
        reverb: Level of the reverberation, 0 to 1.

    Returns:
        (2, N) float32, left and right, below full scale; it ends when the release and the
        reverberation of the last note have faded.

    Raises:
        ConfigError: If the rate or the reverb level is out of range, or the rate is not an integer.
        NotesError: If the piece lasts longer than four hours.
    """
    check_length(notes, rate)
    if not 0 <= reverb <= 1:
        raise ConfigError(f"reverb {reverb} is out of range", hint="use a level from 0 to 1")
    sounds = _sounds(notes, rate)
    ends = [sound.end(notes.start[at], notes.end[at]).max() for sound, at in sounds]
    last = max([notes.length or 0.0, *map(float, ends)])
    size = round((last + PIANO["reverb_seconds"]) * rate)
    dry = np.zeros((2, size), dtype=np.float32)
    for sound, members in sounds:
        columns = (notes.velocity, notes.start, notes.duration)
        for velocity, start, seconds in zip(*(c[members].tolist() for c in columns), strict=True):
            rendered = sound.render_note(velocity, seconds)
            first = round(start * rate)
            part = dry[:, first : first + rendered.shape[1]]
            part += rendered[:, : part.shape[1]]
    if reverb and len(notes):
        _add_reverb(dry, rate, reverb)
    peak = float(np.abs(dry).max(initial=0))
    if peak > _LOUDEST:
        dry *= _LOUDEST / peak
    return dry


def check_length(notes: Notes, rate: int) -> None:
    """Check the sample rate and the length of a piece before it is rendered.

    Raises:
        ConfigError: If the rate is out of range, or not an integer.
        NotesError: If the piece lasts longer than four hours.
    """
    low, high = _RATES
    if not isinstance(rate, Integral):
        raise ConfigError(
            f"a sample rate of {rate!r} Hz is not an integer", hint=f"use {low} to {high} Hz"
        )
    if not low <= rate <= high:
        raise ConfigError(
            f"a sample rate of {rate} Hz is out of range", hint=f"use {low} to {high} Hz"
        )
    if notes.end_time > _LONGEST:
        raise NotesError(
            f"the piece lasts {notes.end_time / 3600:.1f} hours, the limit is four hours",
            hint="render a part of it",
        )


def _sounds(notes: Notes, rate: int) -> list[tuple[_String | _Drum, NDArray[np.intp]]]:
    """The keys that are played, by instrument and pitch, and the numbers of their notes."""
    if not len(notes):
        return []
    zeros = np.zeros(len(notes), np.int64)
    drum, program = (zeros if c is None else c for c in (notes.drum, notes.program))
    # Programs that sound alike share their keys: by the first program of each sound.
    names = [timbre_of(number) for number in range(128)]
    timbre = np.array([names.index(name) for name in names])[program]
    rows = np.stack([drum, np.where(drum, 0, timbre), notes.pitch], axis=1)
    keys, which = np.unique(rows, axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    borders = np.cumsum(np.bincount(which.reshape(-1), minlength=len(keys)))[:-1]
    return [
        (_Drum(pitch, rate) if is_drum else _String(TIMBRES[names[first]], pitch, rate), members)
        for (is_drum, first, pitch), members in zip(
            keys.tolist(), np.split(order, borders), strict=True
        )
    ]


class _String:
    """The strings of one key, or the pipes or bars.

    Each partial is a power of a complex number, z**n. With n = 512 m + j it factors into a number
    for m and one for j, so the sum over the partials is a product of two matrices.
    """

    def __init__(self, timbre: Timbre, pitch: int, rate: int) -> None:
        self._timbre, self._pitch, self._rate = timbre, pitch, rate
        self._highest = min(timbre["highest"], 0.45 * rate)
        found = partials_of(pitch, 64, timbre=timbre, highest=self._highest)
        fast, slow = timbre["first_decay"] * found.decay, found.decay
        tuned = np.concatenate([found.frequency, found.frequency * timbre["beating"]])
        self._exponent = (2j * np.pi * tuned - 1 / np.concatenate([fast, slow])) / rate
        inside = np.exp(np.outer(self._exponent, np.arange(_BLOCK)))  # (2 K, 512)
        # Im(a b) = Re(a) Im(b) + Im(a) Re(b)
        self._inside = np.concatenate([inside.imag, inside.real]).astype(np.float32)
        self._longest = timbre["longest"] * float(slow[0])
        self._outside = np.zeros((0, 4 * len(slow)), dtype=np.float32)
        self._sides = _sides(pan_of(pitch, timbre))

    def render_note(self, velocity: int, seconds: float) -> Audio:
        """Render one note with its release; (2, N)."""
        held = round(min(seconds, self._longest) * self._rate)
        fall = round(self._timbre["release"] * self._rate)
        rise = round(attack_of(velocity, self._timbre) * self._rate)
        size = held + fall
        blocks = -(-size // _BLOCK)
        amplitude = partials_of(
            self._pitch, velocity, timbre=self._timbre, highest=self._highest
        ).amplitude
        share = self._timbre["first"]
        weights = np.tile(np.concatenate([share * amplitude, (1 - share) * amplitude]), 2)
        rows = self._rows(blocks) * weights.astype(np.float32)
        sound = (rows @ self._inside).reshape(-1)[:size]
        sound[:rise] *= np.sin(np.pi / 2 * np.arange(rise, dtype=np.float32) / rise) ** 2
        sound[held:] *= np.linspace(1, 0, fall, dtype=np.float32) ** 4
        return np.asarray(self._sides * sound)

    def end(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
        """The second at which each note is silent."""
        return end + self._timbre["release"]

    def _rows(self, blocks: int) -> NDArray[np.float32]:
        """The partials at the start of each block; (blocks, 4 K)."""
        if blocks > len(self._outside):
            at = np.exp(np.outer(np.arange(blocks) * _BLOCK, self._exponent))
            self._outside = np.concatenate([at.real, at.imag], axis=1).astype(np.float32)
        return self._outside[:blocks]


class _Drum:
    """One drum, which sounds to its end however short its note is."""

    def __init__(self, key: int, rate: int) -> None:
        drum = drum_sound_of(key)
        self._power, self._rate = drum["loudness_power"], rate
        last = (drum["bursts"] - 1) * drum["burst_seconds"]
        tone_decay = drum["tone_decay"] if drum["tone_level"] else 0.0
        self._seconds = _DRUM_SILENT * max(tone_decay, drum["noise_decay"]) + last
        time = np.arange(round(self._seconds * rate)) / rate
        sound = _drum_tone(drum, time, rate) + _drum_noise(drum, time, rate)
        sound *= np.minimum(1, time / drum["attack"])
        tones = drum["tone_level"] * (1 + drum["second_level"])
        sound *= drum["volume"] / (tones + _NOISE_PEAK * drum["noise"])
        self._loudest = (_sides(drum["pan"]) * sound).astype(np.float32)

    def render_note(self, velocity: int, seconds: float) -> Audio:
        """Render one stroke; (2, N)."""
        return np.asarray(self._loudest * np.float32((velocity / 127) ** self._power))

    def end(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
        """The second at which each stroke is silent, not before the end of its note."""
        return np.maximum(end, start + self._seconds)


def _drum_tone(drum: Timbre, time: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The tones of a drum, whose frequency falls exponentially to that of the skin."""
    fall = (drum["bend"] - 1) * drum["bend_seconds"]
    # The integral of 1 + (bend - 1) exp(-t / bend_seconds), in periods.
    turns = drum["tone"] * (time + fall * (1 - np.exp(-time / drum["bend_seconds"])))
    sound = np.sin(2 * np.pi * turns)
    if drum["tone"] * drum["second"] < 0.45 * rate:
        sound = sound + drum["second_level"] * np.sin(2 * np.pi * drum["second"] * turns)
    return np.asarray(drum["tone_level"] * sound * np.exp(-time / drum["tone_decay"]))


def _drum_noise(drum: Timbre, time: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The noise of a drum, in one or several bursts."""
    noise = np.random.Generator(np.random.PCG64(7)).standard_normal(time.size)
    spectrum = np.fft.rfft(noise)
    # Two filters of each kind, y += share (x - y), which the page applies sample by sample.
    delay = np.exp(-2j * np.pi * np.fft.rfftfreq(time.size))
    share = [
        1 - np.exp(-2 * np.pi * min(drum[side], 0.45 * rate) / rate)
        for side in ("noise_low", "noise_high")
    ]
    below_low, below_high = (a / (1 - (1 - a) * delay) for a in share)
    noise = np.fft.irfft(spectrum * below_high**2 * (1 - below_low) ** 2, time.size)
    noise /= np.sqrt((noise**2).mean())
    burst = np.minimum(time // drum["burst_seconds"], drum["bursts"] - 1)
    since = time - burst * drum["burst_seconds"]
    return np.asarray(drum["noise"] * noise * np.exp(-since / drum["noise_decay"]))


def _sides(pan: float) -> NDArray[np.float32]:
    """(2, 1) the levels of left and right, of equal power at each position."""
    angle = np.pi / 4 * (1 + pan)
    return np.array([[np.cos(angle)], [np.sin(angle)]], dtype=np.float32)


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
