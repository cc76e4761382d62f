"""Sound fonts, with the one that pretty_midi contains."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pretty_midi
import pytest

from notelstm.errors import ConfigError, DataNotFoundError, MissingExtraError, NotesError
from notelstm.listening import play_soundfont, save_audio
from notelstm.notes import Notes

FONT = Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")
TUNE = Notes(start=[0.0, 1.0], end=[1.0, 2.0], pitch=[69, 81], velocity=90)


pytestmark = pytest.mark.usefixtures("fluidsynth")


@pytest.mark.parametrize(("second", "hertz"), [(0.2, 440), (1.2, 880)])
def test_fluidsynth_plays_notes_at_their_times(second: float, hertz: float) -> None:
    sound = play_soundfont(TUNE, FONT)
    assert sound.shape == (2, 4 * 44_100)
    assert sound.dtype == np.float32
    part = sound.sum(axis=0)[round(second * 44_100) :][:22_050]
    size = np.abs(np.fft.rfft(part * np.hanning(part.size)))
    assert np.argmax(size[200:]) + 200 == pytest.approx(hertz / 2, abs=2)


def test_programs_and_percussion_sound_different() -> None:
    def played(**columns: object) -> np.ndarray:
        notes = Notes(start=[0.0], end=[1.0], pitch=[60], **columns)  # type: ignore[arg-type]
        return play_soundfont(notes, FONT)

    piano, flute, drum = played(program=0), played(program=73), played(drum=True)
    assert np.abs(piano - flute).max() > 0.01
    assert np.abs(piano - drum).max() > 0.01


def test_a_repeated_key_sounds_again() -> None:
    held = Notes(start=[0, 1], end=[1.2, 2], pitch=[60, 60], velocity=90)
    sound = np.abs(play_soundfont(held, FONT)).max(axis=0)
    assert sound[round(1.5 * 44_100) : round(1.9 * 44_100)].max() > 0.02


def test_loud_chords_do_not_clip() -> None:
    chord = Notes(start=[0] * 60, end=[1] * 60, pitch=range(30, 90), velocity=127)
    assert 0.3 < np.abs(play_soundfont(chord, FONT)).max() < 1


def test_a_piece_without_notes_is_silent() -> None:
    assert np.abs(play_soundfont(Notes.empty(), FONT)).max() < 1e-3


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no such sound font"):
        play_soundfont(TUNE, tmp_path / "none.sf2")
    (tmp_path / "bad.sf2").write_bytes(b"RIFF no")
    with pytest.raises(ConfigError, match="not a sound font"):
        save_audio(TUNE, tmp_path / "a.wav", soundfont=tmp_path / "bad.sf2")
    assert not (tmp_path / "a.wav").exists()
    with pytest.raises(ConfigError, match="96000"):
        play_soundfont(TUNE, FONT, rate=100_000)
    many = Notes(start=range(257), end=range(1, 258), pitch=60, track=range(257))
    with pytest.raises(NotesError, match="257 instruments are more than the 256 channels"):
        play_soundfont(many, FONT)


def test_tracks_of_one_program_and_more_than_15_programs_have_channels_of_their_own() -> None:
    """A note of one track must not end the note of another that has its program and pitch."""
    held = Notes(start=[0], end=[2], pitch=60, track=0)
    other = Notes(start=[0.5], end=[1], pitch=60, track=1)
    together, alone = (play_soundfont(notes, FONT) for notes in (Notes.merge([held, other]), held))
    late = slice(round(1.7 * 44_100), round(1.9 * 44_100))
    assert np.abs(together[:, late]).max() > 0.8 * np.abs(alone[:, late]).max() > 0.002
    many = Notes(
        start=np.arange(20) / 20, end=np.arange(20) / 20 + 0.04, pitch=60, program=range(20)
    )
    assert np.abs(play_soundfont(many, FONT)).max() > 0.02


def test_instruments_that_the_sound_font_lacks_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    font = bytearray(FONT.read_bytes())
    begin = font.index(b"phdr") + 4
    (size,) = struct.unpack_from("<I", font, begin)
    for at in range(begin + 4 + 20, begin + 4 + size, 38):
        if struct.unpack_from("<HH", font, at) != (0, 0):  # preset and bank of all but the piano
            struct.pack_into("<H", font, at + 2, 99)
    piano = tmp_path / "piano.sf2"
    piano.write_bytes(font)
    band = Notes(
        start=[0, 0, 0], end=[1, 1, 1], pitch=[60, 36, 38], program=[0, 33, 0],
        drum=[False, False, True],
    )  # fmt: skip
    assert np.abs(play_soundfont(band[:1], piano)).max() > 0.02
    assert not caplog.text
    play_soundfont(band, piano)
    (record,) = caplog.records
    warning = f"{piano} has no sound for Drums, Electric Bass (finger): these notes are silent"
    assert record.getMessage() == warning


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    with pytest.raises(MissingExtraError, match=r"notelstm\[soundfont\]"):
        play_soundfont(TUNE, FONT)
