"""A piano in numpy: notes in, stereo sound out, without a sound font, a package or a download."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, NotesError
from notelstm.files import written_whole
from notelstm.listening.piano import PIANO, attack_of, pan_of, partials_of
from notelstm.notes import Notes

__all__ = ["Audio", "check_length", "save_audio", "synthesize"]

Audio: TypeAlias = NDArray[np.float32]
"""(2, N) left and right, full scale being -1 to 1."""

_BLOCK: Final = 512
_LOUDEST: Final = 0.95
_RATES: Final = (8_000, 192_000)
_LONGEST: Final = 4 * 3600.0
_SECONDS_WRITTEN_AT_ONCE: Final = 10


def synthesize(notes: Notes, *, rate: int = 44_100, room: float = PIANO["room"]) -> Audio:
    """Play notes on a piano made of partials.

    Every instrument is heard as a piano; percussion, which has no pitch, is not heard. The same
    notes sound the same; where they would be too loud for the format, the whole is made softer.

    Args:
        notes: The piece.
        rate: Samples per second, 8,000 to 192,000.
        room: How much of the room is heard, 0 to 1.

    Returns:
        (2, N) float32, left and right, below full scale; as long as the last note and the room
        after it.

    Raises:
        ConfigError: If the rate or the room is out of range.
        NotesError: If the piece lasts longer than four hours.
    """
    check_length(notes, rate)
    if not 0 <= room <= 1:
        raise ConfigError("a room is 0 to 1", got=f"{room}")
    heard = notes if notes.drum is None else notes[~notes.drum]
    size = round((notes.seconds + PIANO["release"] + PIANO["room_seconds"]) * rate)
    dry = np.zeros((2, size), dtype=np.float32)
    order = np.argsort(heard.pitch, kind="stable")
    string: _String | None = None
    for at in order:
        pitch = int(heard.pitch[at])
        if string is None or string.pitch != pitch:
            string = _String(pitch, rate)
        sound = string.struck(int(heard.velocity[at]), float(heard.duration[at]))
        first = round(float(heard.start[at]) * rate)
        part = dry[:, first : first + sound.shape[1]]
        part += sound[:, : part.shape[1]]
    if room and len(heard):
        _add_room(dry, rate, room)
    peak = float(np.abs(dry).max(initial=0))
    if peak > _LOUDEST:
        dry *= _LOUDEST / peak
    return dry


def save_audio(
    notes: Notes,
    path: str | os.PathLike[str],
    *,
    rate: int = 44_100,
    soundfont: str | os.PathLike[str] | None = None,
) -> None:
    """Write a piece as a sound file: 16-bit stereo WAV, whole or not at all.

    Args:
        notes: The piece.
        path: Where to; ``.wav``.
        rate: Samples per second, 8,000 to 192,000.
        soundfont: A sound font to play with, ``.sf2`` or ``.sf3``, instead of the built-in piano;
            needs the extra ``soundfont``.

    Raises:
        ConfigError: If the suffix or the rate is wrong, or the sound font cannot be read.
        NotesError: If the piece lasts longer than four hours.
        MissingExtraError: If a sound font is given and the extra is not installed.
        OutputError: If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix != ".wav":
        raise ConfigError("a sound file ends in .wav", got=repr(suffix), where=str(path))
    if soundfont is None:
        audio = synthesize(notes, rate=rate)
    else:
        from notelstm.listening.soundfont import play_soundfont

        audio = play_soundfont(notes, soundfont, rate=rate)
    with written_whole(path) as beside, wave.open(str(beside), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        for low in range(0, audio.shape[1], rate * _SECONDS_WRITTEN_AT_ONCE):
            part = audio[:, low : low + rate * _SECONDS_WRITTEN_AT_ONCE]
            file.writeframes(np.rint(part.T * 32767).astype("<i2").tobytes())


def check_length(notes: Notes, rate: int) -> None:
    """Refuse what cannot be rendered.

    Raises:
        ConfigError: If the rate is out of range.
        NotesError: If the piece lasts longer than four hours.
    """
    low, high = _RATES
    if not low <= rate <= high:
        raise ConfigError(f"a sample rate is {low} to {high} Hz", got=f"{rate}")
    if notes.seconds > _LONGEST:
        raise NotesError(
            "a piece that is rendered lasts at most four hours",
            got=f"{notes.seconds / 3600:.1f} hours",
            hint="render a part of it",
        )


class _String:
    """The strings of one key, ready to be struck.

    Each partial is a power of a complex number, z**n. With n = 512 m + j it is a product of a
    number for m and one for j, so that the sum over the partials is a product of two matrices.
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

    def struck(self, velocity: int, seconds: float) -> Audio:
        """(2, N) one note, its release included."""
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
        """(blocks, 4 K) each partial at the beginning of each block."""
        if blocks > len(self._outside):
            at = np.exp(np.outer(np.arange(blocks) * _BLOCK, self._exponent))
            self._outside = np.concatenate([at.real, at.imag], axis=1).astype(np.float32)
        return self._outside[:blocks]


def _add_room(dry: Audio, rate: int, room: float) -> None:
    """Add what the walls give back: noise that fades away, other noise for each ear."""
    seconds, decay = PIANO["room_seconds"], PIANO["room_decay"]
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.Generator(np.random.PCG64(7)).standard_normal((2, time.size))
    # Walls give back little of what is very high, and a room's bass would only be mud.
    spectrum = np.fft.rfft(noise * np.exp(-time / decay))
    frequency = np.fft.rfftfreq(time.size, 1 / rate)
    spectrum *= frequency / (frequency + 200) / (1 + (frequency / 3500) ** 2)
    echo = np.fft.irfft(spectrum, time.size) * (1 - time / seconds)
    echo *= room / np.sqrt((echo**2).sum(axis=1, keepdims=True))
    block = 1 << int(4 * time.size).bit_length()
    step = block - time.size + 1
    kernel = np.fft.rfft(echo, block)
    # Backwards, so that what is added lies behind everything that is still to be read.
    for low in range((dry.shape[1] - 1) // step * step, -1, -step):
        part = np.fft.irfft(np.fft.rfft(dry[:, low : low + step], block) * kernel, block)
        goal = dry[:, low : low + block]
        goal += part[:, : goal.shape[1]]
