"""The built-in sounds, measured: level, pitch, loudness, colour, attack, decay, release, sides."""

from __future__ import annotations

import itertools
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from notelstm.errors import ConfigError, NotesError, OutputError
from notelstm.listening import save_audio, synthesize
from notelstm.listening.synthesis import attack_of, partials_of
from notelstm.listening.timbres import DRUM_SOUNDS, PIANO, TIMBRES, timbre_of
from notelstm.notes import Notes
from notelstm.programs import DRUM_KEYS
from notelstm.testing.strategies import notes as pieces

RATE = 44_100


def note(pitch: int = 60, velocity: int = 80, seconds: float = 1.0) -> Notes:
    return Notes(start=[0.0], end=[seconds], pitch=[pitch], velocity=velocity)


def mono(notes: Notes, reverb: float = 0.0) -> NDArray[np.float64]:
    return np.asarray(synthesize(notes, reverb=reverb).sum(axis=0, dtype=np.float64))


def level(sound: NDArray[np.float64], start: float, end: float) -> float:
    """Root mean square between two seconds."""
    part = sound[round(start * RATE) : round(end * RATE)]
    return float(np.sqrt((part**2).mean()))


def spectrum(sound: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size = 1 << 19
    part = sound[:RATE]
    loudness = np.abs(np.fft.rfft(part * np.hanning(part.size), size))
    return np.asarray(np.fft.rfftfreq(size, 1 / RATE)), np.asarray(loudness)


@pytest.mark.parametrize("pitch", [28, 45, 60, 69, 84, 100])
def test_notes_are_in_tune(pitch: int) -> None:
    frequency, size = spectrum(mono(note(pitch)))
    wanted = 440 * 2 ** ((pitch - 69) / 12)
    near = (frequency > wanted * 0.9) & (frequency < wanted * 1.1)
    found = frequency[near][np.argmax(size[near])]
    assert abs(1200 * np.log2(found / wanted)) < 2


def test_piano_partials_are_stretched() -> None:
    found = partials_of(45, 80).frequency
    assert found[0] == pytest.approx(110)
    ratios = found / found[0] / np.arange(1, found.size + 1)
    assert (np.diff(ratios) > 0).all()
    assert 1.001 < ratios[9] < 1.02


@given(notes=pieces(max_seconds=20))
def test_any_piece_is_finite_and_below_full_scale(notes: Notes) -> None:
    sound = synthesize(notes, rate=8_000)
    assert np.isfinite(sound).all()
    assert (level(sound.sum(axis=0), 0, notes.end_time + 2) > 0) == bool(len(notes))
    assert np.abs(sound).max() <= 0.951


def test_a_hundred_loud_notes_at_once_do_not_clip() -> None:
    sound = synthesize(Notes(start=[0] * 88, end=[1] * 88, pitch=range(21, 109), velocity=127))
    assert 0.9 < np.abs(sound).max() <= 0.951


def test_a_note_is_audible() -> None:
    assert level(mono(note()), 0, 1) > 0.01


def test_velocity_changes_loudness_and_brightness() -> None:
    levels, centres = [], []
    for velocity in (20, 50, 80, 110):
        sound = mono(note(velocity=velocity))
        levels.append(level(sound, 0, 0.5))
        frequency, size = spectrum(sound)
        centres.append((frequency * size).sum() / size.sum())
    assert all(after > 1.5 * before for before, after in itertools.pairwise(levels))
    assert all(after > 1.05 * before for before, after in itertools.pairwise(centres))


def test_the_attack_is_short_and_longer_for_soft_notes() -> None:
    assert 0.001 < attack_of(127) < attack_of(20) < 0.01
    for velocity in (20, 127):
        sound = np.abs(mono(note(velocity=velocity)))
        peak = sound[: RATE // 20].max()
        assert np.argmax(sound > peak / 2) / RATE < 0.012


def test_a_held_note_decays_fast_and_then_slowly() -> None:
    sound = mono(note(seconds=6))
    at = [level(sound, t, t + 0.2) for t in (0.05, 0.55, 1.05, 3.05, 3.55)]
    assert all(after < before for before, after in itertools.pairwise(at))
    assert at[0] / at[1] > 1.3 * at[3] / at[4]
    left = [level(mono(note(pitch, seconds=3)), 1.05, 1.25) for pitch in (36, 60, 96)]
    begun = [level(mono(note(pitch, seconds=3)), 0.05, 0.25) for pitch in (36, 60, 96)]
    low, middle, high = (a / b for a, b in zip(left, begun, strict=True))
    assert low > 1.5 * middle, "long strings sound for longer"
    assert middle > 2.5 * high


def test_a_released_note_falls_silent() -> None:
    sound = mono(note(seconds=1))
    release = PIANO["release"]
    before, after = level(sound, 0.9, 1), level(sound, 1 + release / 2, 1 + release)
    assert after < before / 10
    assert not sound[round((1 + release) * RATE) + 1 :].any()


@pytest.mark.parametrize("pitch", [30, 60, 90])
def test_no_clicks_at_the_borders_of_notes(pitch: int) -> None:
    sound = mono(note(pitch, velocity=110, seconds=0.5))
    # No sample is further from the line through its neighbours at the end than in the note.
    bend = np.abs(np.diff(sound, 2))
    end = round(0.5 * RATE)
    within = bend[RATE // 20 : end - 10].max()
    assert bend[end - 10 :].max() <= within
    assert np.abs(sound[:3]).max() < 0.002
    assert abs(sound[-1]) < 1e-9


def test_low_notes_are_left_and_high_ones_right() -> None:
    low, middle, high = (
        [level(side.astype(np.float64), 0, 0.5) for side in synthesize(note(pitch), reverb=0)]
        for pitch in (30, 64, 100)
    )
    assert low[0] > 1.5 * low[1]
    assert middle[0] == pytest.approx(middle[1])
    assert high[1] > 1.5 * high[0]


def test_the_reverberation_lasts_after_the_note_and_ends() -> None:
    dry, wet = mono(note(seconds=0.2)), mono(note(seconds=0.2), reverb=0.14)
    assert level(wet, 0.6, 0.8) > 1e-4
    assert level(dry, 0.6, 0.8) == 0
    assert np.abs(wet[-100:]).max() < 1e-4
    assert level(wet, 0, 0.2) == pytest.approx(level(dry, 0, 0.2), rel=0.2)


@pytest.mark.parametrize("second", [10.2, 31.3])
def test_reverberation_does_not_depend_on_the_length_of_a_piece(second: float) -> None:
    late = Notes(start=[0.0, second], end=[0.2, second + 0.2], pitch=[60, 60], velocity=80)
    sound, one = mono(late, reverb=0.14), mono(note(seconds=0.2), reverb=0.14)
    begin = round(second * RATE)
    assert np.allclose(sound[begin : begin + one.size], one, atol=1e-5)
    assert np.allclose(sound[: one.size], one, atol=1e-5)


def test_a_piece_without_notes_is_silent() -> None:
    assert not synthesize(Notes.empty()).any()


def test_synthesis_is_deterministic() -> None:
    piece = Notes(start=[0, 0, 0.5], end=[1, 1.5, 2], pitch=[60, 64, 60], velocity=[50, 90, 120])
    assert (synthesize(piece) == synthesize(piece)).all()


def test_a_note_without_length_is_audible() -> None:
    assert level(mono(note(seconds=0)), 0, 0.1) > 0.001


def test_the_file_has_the_synthesised_samples(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.WAV"
    save_audio(note(), path, rate=22_050)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 22_050)
        read = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2).T
    assert np.abs(read / 32767 - synthesize(note(), rate=22_050)).max() < 1 / 32767
    assert [p.name for p in path.parent.iterdir()] == ["a.WAV"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown sound format .*\.mp3"):
        save_audio(note(), tmp_path / "a.mp3")
    with pytest.raises(ConfigError, match="sample rate of 100 Hz is out of range"):
        synthesize(note(), rate=100)
    with pytest.raises(ConfigError, match=r"sample rate of 44100\.0 Hz is not an integer"):
        synthesize(note(), rate=44_100.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="reverb 2 is out of range"):
        synthesize(note(), reverb=2)
    with pytest.raises(NotesError, match="four hours"):
        synthesize(note(seconds=20_000))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        save_audio(note(), tmp_path / "file" / "a.wav")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


PROGRAM_OF = {timbre_of(program): program for program in range(127, -1, -1)}
"""The first program of each sound."""


def played(program: int, pitch: int = 60, velocity: int = 80) -> NDArray[np.float64]:
    """A second of an instrument, without reverberation."""
    one = Notes(start=[0], end=[1], pitch=[pitch], velocity=velocity, program=[program])
    return mono(one)


def centroid(sound: NDArray[np.float64]) -> float:
    """The mean frequency of the first half second, Hz."""
    part = sound[: RATE // 2]
    size = np.abs(np.fft.rfft(part * np.hanning(part.size)))
    return float((np.fft.rfftfreq(part.size, 1 / RATE) * size).sum() / size.sum())


def attack_time(sound: NDArray[np.float64]) -> float:
    """Seconds until the sound has reached half of its largest level."""
    loudness = np.abs(sound[: RATE // 2])
    return float(np.argmax(loudness > 0.5 * loudness.max()) / RATE)


def held(sound: NDArray[np.float64]) -> float:
    """The level at the end of the second, as a share of that at its beginning."""
    return level(sound, 0.8, 0.95) / level(sound, 0.15, 0.3)


def octave(sound: NDArray[np.float64]) -> float:
    """The level of the second partial of middle C, as a share of that of the first."""
    frequency, size = spectrum(sound)
    first, second = (size[np.abs(frequency - k * 261.63) < 8 * k].max() for k in (1, 2))
    return float(second / first)


def test_the_loudness_of_the_piano_is_unchanged() -> None:
    for pitch, decibels in ((36, -26.66), (60, -27.97), (76, -29.79)):
        found = 20 * np.log10(level(played(0, pitch), 0, 0.5) / np.sqrt(2))
        assert found == pytest.approx(decibels, abs=0.2)
    unnamed, named = note(), Notes(start=[0], end=[1], pitch=[60], velocity=80, program=[0])
    assert (synthesize(unnamed) == synthesize(named)).all()


def test_families_sound_different() -> None:
    """Any two differ in mean frequency, attack, decay or even partials."""
    found = {name: played(program) for name, program in PROGRAM_OF.items()}
    assert found.keys() == TIMBRES.keys()
    assert attack_time(found["pad"]) > attack_time(found["strings"]) > 0.015
    assert attack_time(found["strings"]) > 3 * attack_time(found["organ"])
    for plucked in ("piano", "guitar", "harpsichord", "mallets", "bass", "electric piano"):
        assert attack_time(found[plucked]) < 0.006
        assert held(found[plucked]) < 0.75
    for blown in ("organ", "reeds", "brass", "pipes"):
        assert held(found[blown]) > 0.8
    assert centroid(found["harpsichord"]) > 1.5 * centroid(found["piano"])
    assert centroid(found["strings"]) > 1.5 * centroid(found["voices"])
    assert centroid(found["lead"]) > 1.5 * centroid(found["organ"])
    assert centroid(found["pipes"]) < 0.7 * centroid(found["reeds"])
    # A fifth of an octave in mean frequency, half as long an attack, a third of the decay, or 6 dB
    # of the even partials.
    measured = {
        name: [
            5 * np.log2(centroid(sound)),
            np.log2(attack_time(sound) + 0.002),
            np.log(held(sound)) / np.log(1.5),
            np.log2(octave(sound)),
        ]
        for name, sound in found.items()
    }
    for one, other in itertools.combinations(found, 2):
        assert np.abs(np.subtract(measured[one], measured[other])).max() >= 1, (one, other)


@pytest.mark.parametrize("name", TIMBRES)
def test_families_are_in_tune_and_about_as_loud_as_the_piano(name: str) -> None:
    sound = played(PROGRAM_OF[name], 69)
    frequency, size = spectrum(sound)
    near = (frequency > 396) & (frequency < 484)
    assert abs(1200 * np.log2(frequency[near][np.argmax(size[near])] / 440)) < 8
    difference = 20 * np.log10(level(sound, 0, 1) / level(played(0, 69), 0, 1))
    assert -6 < difference < 6


@pytest.mark.parametrize("program", range(128))
def test_every_program_has_a_sound_that_ends(program: int) -> None:
    sound = synthesize(
        Notes(start=[0], end=[0.3], pitch=[55], velocity=90, program=[program]), rate=8_000
    )
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0.005
    assert np.abs(sound[:, -80:]).max() < 1e-3


@pytest.mark.parametrize("program", [PROGRAM_OF["strings"], PROGRAM_OF["organ"]])
def test_no_clicks_in_sustained_sounds(program: int) -> None:
    sound = played(program, velocity=110)
    bend = np.abs(np.diff(sound, 2))
    within = bend[RATE // 10 : RATE - 10].max()
    # The two copies of each partial are in phase at the onset, and a little less so later.
    assert bend[: RATE // 10].max() <= 1.15 * within
    assert bend[RATE - 10 :].max() <= within


def struck(key: int, velocity: int = 100, seconds: float = 0.1) -> NDArray[np.float64]:
    return mono(Notes(start=[0], end=[seconds], pitch=[key], velocity=velocity, drum=True))


@pytest.mark.parametrize("key", [*DRUM_KEYS, 0, 127])
def test_every_drum_key_sounds(key: int) -> None:
    sound = struck(key)
    assert np.isfinite(sound).all()
    assert 0.02 < np.abs(sound).max() < 0.6
    assert attack_time(sound) < 0.1
    assert np.abs(sound[-100:]).max() < 1e-3


def test_drums_have_their_frequencies() -> None:
    middle = {key: centroid(struck(key)) for key in DRUM_SOUNDS}
    assert middle[36] < 400 < middle[38] < middle[42], "kick, snare, hi-hat"
    toms = [spectrum(struck(key))[1][: 1 << 13].argmax() for key in (41, 43, 45, 47, 48, 50)]
    assert toms == sorted(set(toms)), "from the low floor tom to the high tom"
    long, short = (level(struck(key), 0.2, 0.3) for key in (46, 42))
    assert long > 20 * short, "an open hi-hat rings, a closed one does not"
    assert level(struck(49), 0.8, 1.0) > level(struck(55), 0.8, 1.0) > 0
    ends = [np.flatnonzero(np.abs(struck(49, seconds=s)) > 1e-4)[-1] for s in (0.05, 1)]
    assert ends[0] == ends[1], "the note's end does not stop a cymbal"


def test_velocity_changes_the_loudness_of_drums() -> None:
    soft, loud = (np.abs(struck(38, velocity)).max() for velocity in (40, 120))
    assert loud > 3 * soft


def test_programs_and_drums_of_one_pitch_are_all_audible() -> None:
    both = Notes(
        start=[0, 0, 1], end=[1, 1, 1.5], pitch=[60] * 3, program=[0, 48, 0], drum=[0, 0, 1]
    )
    parts = [both[n : n + 1] for n in range(3)]
    together, alone = mono(both), [mono(part) for part in parts]
    total = np.zeros(max(map(len, [together, *alone])))
    for sound in alone:
        total[: sound.size] += sound
    assert np.allclose(together, total[: together.size], atol=1e-5)


def band(instruments: int, velocity: int = 127) -> Notes:
    """Chords of many instruments, and all drums, at once."""
    programs = [0, 16, 24, 32, 40, 52, 56, 65, 73, 80, 88][: instruments - 1]
    rows = [
        (start, 48 + 12 * (n % 3) + third, program, False)
        for start in (0, 1)
        for n, program in enumerate(programs)
        for third in (0, 4, 7)
    ]
    rows += [(start, key, 0, True) for start in (0, 1) for key in (36, 38, 42, 49)]
    start, pitch, program, drum = zip(*sorted(rows), strict=True)
    return Notes(
        start=start, end=np.add(start, 1), pitch=pitch, program=program, drum=drum,
        velocity=velocity, track=program,
    )  # fmt: skip


def test_twelve_instruments_do_not_clip() -> None:
    sound = synthesize(band(12))
    assert 0.5 < np.abs(sound).max() < 1
    assert np.isfinite(sound).all()
