"""Sound font playback with FluidSynth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataNotFoundError, MissingExtraError, NotesError
from notelstm.listening.synthesis import Audio, check_length
from notelstm.midi import ReadPolicy, midi_bytes, read_midi
from notelstm.notes import Notes

__all__ = ["play_soundfont"]

_TAIL: Final = 2.0
_GAIN: Final = 0.6
_MELODIC: Final = tuple(c for c in range(16) if c != 9)
_DRUMS: Final = 9
_FULL: Final = 32767


def play_soundfont(notes: Notes, path: str | os.PathLike[str], *, rate: int = 44_100) -> Audio:
    """Render notes with a sound font, each with its own program, percussion included.

    A note that starts while another of its pitch sounds ends that one, as in a MIDI file. Needs the
    extra ``soundfont`` and the FluidSynth library.

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
        NotesError: If the piece lasts longer than four hours, or has more than 15 programs.
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
    gain = _GAIN
    while True:
        synth = fluidsynth.Synth(gain=gain, samplerate=rate)
        try:
            samples = _play(synth, played, path, rate)
        finally:
            synth.delete()
        # FluidSynth clips; render again at half the gain until nothing is clipped.
        if not samples.size or int(np.abs(samples.astype(np.int32)).max()) < _FULL:
            return samples.reshape(-1, 2).T.astype(np.float32, order="C") / np.float32(_FULL + 1)
        gain /= 2


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


def _play(synth: Any, notes: Notes, path: str | os.PathLike[str], rate: int) -> NDArray[np.int16]:
    """Render into (2 N,) interleaved samples, left first."""
    font = synth.sfload(str(path))
    if font < 0:
        raise ConfigError(f"not a sound font: {path}", hint="name an .sf2 or .sf3 file")
    channels = _channels(synth, font, notes)
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
            synth.noteoff(channels[note], int(notes.pitch[note]))
        else:
            synth.noteon(channels[note], int(notes.pitch[note]), int(notes.velocity[note]))
    parts.append(synth.get_samples(size - now))
    return np.concatenate(parts)


def _channels(synth: Any, font: int, notes: Notes) -> list[int]:
    """Select the programs on their channels, and return the channel of each note."""
    programs = [0] * len(notes) if notes.program is None else notes.program.tolist()
    drums = [False] * len(notes) if notes.drum is None else notes.drum.tolist()
    melodic = {p for p, drum in zip(programs, drums, strict=True) if not drum}
    if len(melodic) > len(_MELODIC):
        raise NotesError(
            f"{len(melodic)} programs need more than the 15 melodic channels of MIDI",
            hint="render the tracks in parts",
        )
    channel_of = dict(zip(sorted(melodic), _MELODIC, strict=False))
    for program, channel in channel_of.items():
        synth.program_select(channel, font, 0, program)
    synth.program_select(_DRUMS, font, 128, 0)
    return [_DRUMS if drum else channel_of[p] for p, drum in zip(programs, drums, strict=True)]
