"""Sound files, from the built-in sounds or from a sound font played by FluidSynth."""

from __future__ import annotations

import logging
import os
import wave
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataNotFoundError, MissingExtraError, NotesError
from notelstm.files import atomic_write, checked_suffix
from notelstm.listening.synthesis import Audio, check_length, synthesize
from notelstm.midi import ReadPolicy, midi_bytes, read_midi
from notelstm.midi.writing import instrument_labels, instruments_of
from notelstm.notes import Notes

__all__ = ["play_soundfont", "save_audio"]

_log = logging.getLogger(__name__)

_TAIL: Final = 2.0
_GAIN: Final = 0.6
_CHANNELS: Final = 256  # the most that FluidSynth has
_DRUM_BANK: Final = 128
_FULL: Final = 32767


def play_soundfont(notes: Notes, path: str | os.PathLike[str], *, rate: int = 44_100) -> Audio:
    """Render notes with a sound font, percussion included.

    Each instrument (the notes of one track, program and kind, percussion or not) has a channel of
    its own, as in the MIDI file that :func:`~notelstm.midi.write_midi` writes. A note that starts
    while another of its pitch and instrument sounds ends that one. Instruments that the sound font
    lacks are silent, with a warning. Needs the extra ``soundfont`` and the FluidSynth library.

    Args:
        notes: The piece.
        path: The sound font, ``.sf2`` or ``.sf3``.
        rate: Sample rate, Hz, 8,000 to 96,000.

    Returns:
        (2, N) float32, left and right, below full scale.

    Raises:
        MissingExtraError: If the extra or the library is not installed.
        ConfigError: If the rate is out of range, or the file is not a sound font.
        DataNotFoundError: If there is no such file.
        NotesError: If the piece lasts longer than four hours, or has more than 256 instruments.
    """
    check_length(notes, rate)
    if rate > 96_000:
        raise ConfigError(
            f"a sample rate of {rate} Hz is too high for FluidSynth", hint="use 96000 Hz or less"
        )
    if not Path(path).is_file():
        raise DataNotFoundError(f"no such sound font: {path}", hint="check the path")
    fluidsynth = _fluidsynth()
    policy = ReadPolicy(tracks="all", drums=True)
    played = read_midi(midi_bytes(notes, short="lengthen"), policy) if len(notes) else notes
    instruments = len(instruments_of(played, None))
    if instruments > _CHANNELS:
        raise NotesError(
            f"{instruments} instruments are more than the {_CHANNELS} channels of FluidSynth",
            hint="render the tracks in parts",
        )
    gain = _GAIN
    while True:
        synth = fluidsynth.Synth(gain=gain, samplerate=rate, channels=_CHANNELS)
        try:
            samples, missing = _play(synth, played, path, rate)
        finally:
            synth.delete()
        # FluidSynth clips; render again at half the gain until nothing is clipped.
        if not samples.size or int(np.abs(samples.astype(np.int32)).max()) < _FULL:
            break
        gain /= 2
    if missing:
        _log.warning("%s has no sound for %s: these notes are silent", path, ", ".join(missing))
    return samples.reshape(-1, 2).T.astype(np.float32, order="C") / np.float32(_FULL + 1)


def _fluidsynth() -> Any:
    try:
        import fluidsynth
    except ImportError as error:
        raise MissingExtraError(
            f"pyfluidsynth or the FluidSynth library is missing: {error}",
            hint="run pip install 'notelstm[soundfont]', and install the FluidSynth library: "
            "libfluidsynth3 on Debian and Ubuntu, fluid-synth with Homebrew",
        ) from error
    return fluidsynth


def _play(
    synth: Any, notes: Notes, path: str | os.PathLike[str], rate: int
) -> tuple[NDArray[np.int16], list[str]]:
    """Render into (2 N,) interleaved samples, left first, with the instruments that are missing."""
    font = synth.sfload(str(path))
    if font < 0:
        raise ConfigError(f"not a sound font: {path}", hint="name an .sf2 or .sf3 file")
    channels = np.zeros(len(notes), np.int64)
    instruments, missing = instruments_of(notes, None), []
    for channel, (label, instrument) in enumerate(
        zip(instrument_labels(instruments), instruments, strict=True)
    ):
        bank, preset = (_DRUM_BANK, 0) if instrument.drum else (0, instrument.program)
        if synth.program_select(channel, font, bank, preset) < 0:
            missing.append(label)
        channels[instrument.notes] = channel
    size = round((notes.end_time + _TAIL) * rate)
    at = np.rint(np.concatenate([notes.end, notes.start]) * rate).astype(np.int64)
    # At the same sample, note-offs come before note-ons.
    order = np.argsort(at, kind="stable")
    parts, now = [], 0
    for event in order:
        if at[event] > now:
            parts.append(synth.get_samples(int(at[event]) - now))
            now = int(at[event])
        note = int(event) % len(notes)
        if event < len(notes):
            synth.noteoff(int(channels[note]), int(notes.pitch[note]))
        else:
            synth.noteon(int(channels[note]), int(notes.pitch[note]), int(notes.velocity[note]))
    parts.append(synth.get_samples(size - now))
    return np.concatenate(parts), missing


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
        soundfont: A sound font, ``.sf2`` or ``.sf3``, instead of the built-in sounds; it needs the
            extra ``soundfont``.

    Raises:
        ConfigError: If the suffix or the rate is wrong, or the file is not a sound font.
        DataNotFoundError: If there is no such sound font.
        NotesError: If the piece lasts longer than four hours.
        MissingExtraError: If a sound font is given and the extra is not installed.
        OutputError: If the file cannot be written.
    """
    checked_suffix(path, (".wav",), "sound")
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
