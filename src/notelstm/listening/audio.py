"""Sound files, from the built-in piano or from a sound font."""

from __future__ import annotations

import os
import wave
from pathlib import Path
from typing import Final

import numpy as np

from notelstm.errors import ConfigError
from notelstm.files import atomic_write
from notelstm.listening.soundfont import play_soundfont
from notelstm.listening.synthesis import synthesize
from notelstm.notes import Notes

__all__ = ["save_audio"]

_SECONDS_WRITTEN_AT_ONCE: Final = 10


def save_audio(
    notes: Notes,
    path: str | os.PathLike[str],
    *,
    rate: int = 44_100,
    soundfont: str | os.PathLike[str] | None = None,
) -> None:
    """Write a piece as a 16-bit stereo WAV file, whole or not at all.

    Args:
        notes: The piece.
        path: The file to write, ``.wav``.
        rate: Sample rate, Hz, 8,000 to 192,000.
        soundfont: A sound font, ``.sf2`` or ``.sf3``, instead of the built-in piano; it needs the
            extra ``soundfont``.

    Raises:
        ConfigError: If the suffix or the rate is wrong, or the file is not a sound font.
        DataNotFoundError: If there is no such sound font.
        NotesError: If the piece lasts longer than four hours.
        MissingExtraError: If a sound font is given and the extra is not installed.
        OutputError: If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix != ".wav":
        raise ConfigError(
            f"unknown sound format {suffix!r}",
            where=str(path),
            hint="name a file that ends in .wav",
        )
    if soundfont is None:
        audio = synthesize(notes, rate=rate)
    else:
        audio = play_soundfont(notes, soundfont, rate=rate)
    with atomic_write(path) as beside, wave.open(str(beside), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        for low in range(0, audio.shape[1], rate * _SECONDS_WRITTEN_AT_ONCE):
            part = audio[:, low : low + rate * _SECONDS_WRITTEN_AT_ONCE]
            file.writeframes(np.rint(part.T * 32767).astype("<i2").tobytes())
