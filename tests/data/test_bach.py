"""The Bach chorales: a score read by hand, music21's own reading, and the cache."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from notelstm.data import CorpusSource, bach, cache
from notelstm.data.bach import BachChorales, notes_of_score, open_score
from notelstm.encoders import LogTimeEncoder, StepDurationEncoder
from notelstm.encoders.rows import watch_changes
from notelstm.errors import DataError, MissingExtraError
from notelstm.midi import ReadPolicy, read_midi, write_midi
from notelstm.notes import Notes, TempoMap
from notelstm.parts import PartMap

FEW = ("bwv2.6", "bwv26.6", "bwv66.6", "bwv104.6", "bwv269", "bwv299", "bwv437")


def note(pitch: str, length: int, *extra: str) -> str:
    step, octave = pitch[0], pitch[-1]
    alter = {"#": "<alter>1</alter>", "b": "<alter>-1</alter>"}.get(pitch[1:-1], "")
    marks = "".join(f"<{mark}/>" if "<" not in mark else mark for mark in extra)
    return (
        f"<note>{marks}<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>"
        f"<duration>{length}</duration></note>"
    )


def score(*parts: list[str]) -> ElementTree.Element:
    body = "".join(
        "<part>" + "".join(f"<measure>{measure}</measure>" for measure in part) + "</part>"
        for part in parts
    )
    return ElementTree.fromstring(f"<score-partwise>{body}</score-partwise>")


def columns(notes: Notes) -> list[tuple[float, float, int]]:
    rows = zip(notes.start.tolist(), notes.end.tolist(), notes.pitch.tolist(), strict=True)
    return [(round(s, 6), round(e, 6), p) for s, e, p in rows]


START = (
    "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time>"
    '</attributes><direction><sound tempo="60"/></direction>'
)
TIE, END = '<tie type="start"/>', '<tie type="stop"/>'


def test_ties_chords_rests_and_alterations() -> None:
    rest = "<note><rest/><duration>2</duration></note>"
    first = START + note("C4", 4) + rest + note("F#4", 2, TIE)
    second = note("F#4", 4, END) + note("Bb3", 4) + note("D4", 4, "chord")
    notes = notes_of_score(score([first, second]), "x")
    assert columns(notes) == [(0, 2, 60), (3, 6, 66), (6, 8, 58), (6, 8, 62)]
    assert set(notes.velocity.tolist()) == {80}


def test_backup_forward_and_grace_notes() -> None:
    grace = "<note><grace/><pitch><step>A</step><octave>4</octave></pitch></note>"
    two_layers = (
        START + note("C4", 8) + "<backup><duration>8</duration></backup>"
        "<forward><duration>4</duration></forward>" + grace + note("E4", 4)
    )
    notes = notes_of_score(score([two_layers]), "x")
    assert columns(notes) == [(0, 4, 60), (2, 4, 64)]


def test_a_tempo_change_and_the_second_measure_of_every_part() -> None:
    faster = '<direction><sound tempo="120"/></direction>'
    upper = [START + note("C5", 8), faster + note("D5", 8)]
    short = ["<attributes><divisions>1</divisions></attributes>" + note("C3", 3), note("D3", 4)]
    notes = notes_of_score(score(upper, short), "x")
    assert columns(notes) == [(0, 3, 48), (0, 4, 72), (4, 6, 50), (4, 6, 74)]
    assert notes.tempo_map == TempoMap(
        seconds=[0, 4], tempos=[60, 120], time_signature_beats=[0], numerators=[4], denominators=[4]
    )


def test_bars_are_counted_from_the_end_of_an_upbeat() -> None:
    notes = notes_of_score(score([START + note("C4", 2), note("D4", 8)]), "x")
    assert notes.tempo_map is not None
    assert notes.tempo_map.time_signature_beats.tolist() == [1.0]


def test_voices_that_meet_on_a_pitch() -> None:
    upper = START + note("C4", 4) + note("E4", 8)
    lower = "<attributes><divisions>2</divisions></attributes>" + note("C4", 2) + note("C4", 2)
    lower += note("D4", 2) + note("E4", 2) + note("F4", 2)
    notes = notes_of_score(score([upper], [lower]), "x")
    # C4 together: once, for as long as the longer; then let go where the lower voice strikes it.
    assert columns(notes) == [
        (0, 1, 60),
        (1, 2, 60),
        (2, 3, 62),
        (2, 3, 64),
        (3, 6, 64),
        (4, 5, 65),
    ]


def test_voices_stay_apart_where_they_meet() -> None:
    upper = START + note("C4", 4) + note("E4", 8)
    lower = "<attributes><divisions>2</divisions></attributes>" + note("C4", 4) + note("D4", 2)
    lower += note("E4", 2) + note("F4", 4)
    notes = notes_of_score(score([upper], [lower]), "x", ("High", "Low"))
    assert columns(notes) == [
        (0, 2, 60),
        (0, 2, 60),
        (2, 3, 62),
        (2, 6, 64),
        (3, 4, 64),
        (4, 6, 65),
    ]
    assert notes.track is not None
    assert notes.track.tolist() == [0, 1, 1, 0, 1, 1]
    assert notes.track_names == ("High", "Low")
    # A note of the same voice still ends where it is repeated.
    layers = START + note("C4", 8) + "<backup><duration>8</duration></backup>"
    layers += "<forward><duration>4</duration></forward>" + note("C4", 4)
    assert columns(notes_of_score(score([layers]), "x", ("Low",))) == [(0, 2, 60), (2, 4, 60)]


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some of music21's scores, and an empty cache beside it."""
    pytest.importorskip("music21")
    monkeypatch.setenv("NOTELSTM_CACHE", str(tmp_path / "cache"))
    real, folder = bach._folder(), tmp_path / "bach"
    folder.mkdir()
    for name in (*FEW, "bwv248.9-1", "bwv846"):
        shutil.copy(real / f"{name}.mxl", folder)
    monkeypatch.setattr(bach, "_folder", lambda: folder)
    return folder


def test_chorales_only_in_catalogue_order_and_limited(few: Path) -> None:
    corpus: CorpusSource = BachChorales()
    assert [name for name, _ in corpus.pieces()] == list(FEW)
    assert [name for name, _ in corpus.pieces(limit=2)] == list(FEW[:2])
    assert "music21" in corpus.source
    assert "not for commercial" in corpus.license


def test_music21_reads_the_same_notes(few: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # music21's own
        from music21 import converter
    for name, notes in BachChorales().pieces():
        parsed: Any = converter.parse(few / f"{name}.mxl", forceSource=True)
        theirs = {
            (round(float(item.offset), 4), pitch.midi)
            for part in parsed.parts
            for item in part.stripTies().flatten().notes
            for pitch in item.pitches
            if not item.duration.isGrace
        }
        assert notes.tempo_map is not None
        onsets = np.round(notes.tempo_map.beats_at(notes.start), 4).tolist()
        ours = list(zip(onsets, notes.pitch.tolist(), strict=True))
        assert len(ours) == len(set(ours)), name
        assert set(ours) == theirs, name


def test_every_chorale_can_be_written(few: Path, tmp_path: Path) -> None:
    for name, notes in BachChorales().pieces():
        for pitch in set(notes.pitch.tolist()):
            same = notes[notes.pitch == pitch]
            assert np.all(same.end[:-1] <= same.start[1:]), (name, pitch)
        path = tmp_path / f"{name}.mid"
        write_midi(notes, path)
        assert read_midi(path).pitch.tolist() == notes.pitch.tolist()


def test_four_voices_as_tracks(few: Path, tmp_path: Path) -> None:
    policy = ReadPolicy(tracks="all")
    for (name, voices), (_, keyboard) in zip(
        BachChorales(policy=policy).pieces(), BachChorales().pieces(), strict=True
    ):
        assert voices.track_names == ("Soprano", "Alto", "Tenor", "Bass")
        assert voices.track is not None
        assert voices.program is not None
        assert set(voices.program.tolist()) == {52}
        means = [voices.pitch[voices.track == k].mean() for k in range(4)]
        assert means == sorted(means, reverse=True), "the order of the voices"
        assert {*zip(voices.start.tolist(), voices.pitch.tolist(), strict=True)} == {
            *zip(keyboard.start.tolist(), keyboard.pitch.tolist(), strict=True)
        }
        assert keyboard.track is None
        assert keyboard.program is None
        assert keyboard.track_names is None
        path = tmp_path / f"{name}.mid"
        write_midi(voices, path)
        read = read_midi(path, policy)
        assert read.track_names == voices.track_names
        assert len(read) == len(voices) > len(keyboard), "unisons are two notes"


def test_voices_of_one_program_are_no_lost_instruments(
    few: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pieces = [notes for _, notes in BachChorales(policy=ReadPolicy(tracks="all")).pieces()]
    part_map = PartMap.from_pieces(pieces, by="auto")
    assert [part.name for part in part_map.parts] == ["Alto", "Bass", "Soprano", "Tenor"]
    with caplog.at_level(logging.WARNING):
        list(watch_changes(pieces, StepDurationEncoder()))
        list(watch_changes(pieces, LogTimeEncoder(exact=True, parts=part_map)))
    assert not caplog.text


def test_the_second_reading_uses_the_cache(few: Path) -> None:
    first = list(BachChorales().pieces())
    for path in few.iterdir():
        path.unlink()
    assert list(BachChorales().pieces()) == first
    assert len(list((cache.cache_folder() / "pieces").iterdir())) == 1


def test_without_music21(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'notelstm\[bach\]'"):
        next(BachChorales().pieces())


def test_a_music21_without_scores(few: Path) -> None:
    for path in few.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="corpus of scores"):
        next(BachChorales().pieces())
    assert not cache.cache_folder().exists()


def test_damaged_scores_are_named(few: Path) -> None:
    good = (few / "bwv2.6.mxl").read_bytes()
    (few / "bwv2.6.mxl").write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match=r"bwv2\.6"):
        next(BachChorales().pieces())
    with zipfile.ZipFile(few / "bwv2.6.mxl", "w") as archive:
        archive.writestr("META-INF/container.xml", '<c><rootfile full-path="a.xml"/></c>')
        archive.writestr("a.xml", "<score-partwise><part><measure>")
    with pytest.raises(DataError, match=r"bwv2\.6"):
        open_score(few / "bwv2.6.mxl")
    with pytest.raises(DataError, match="uneven"):
        notes_of_score(score([START], [START, START]), "uneven")


def pieces() -> Iterator[tuple[str, Notes]]:
    beats = TempoMap(
        tempos=[90.0], time_signature_beats=[0, 4], numerators=[3, 4], denominators=[4, 4]
    )
    yield (
        "ä/ 1",
        Notes(start=[0, 1], end=[1, 2.5], pitch=[60, 62], velocity=[1, 127], tempo_map=beats),
    )
    yield "none", Notes.empty()
    yield "two", Notes(start=[0.1], end=[0.3], pitch=[127])


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_cached_pieces_round_trip(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTELSTM_CACHE", str(tmp_path / "new" / "folder"))
    some = list(pieces())[:count]
    assert cache.cached_pieces("x", lambda: some) == some

    def unwanted() -> list[tuple[str, Notes]]:
        raise AssertionError("read again")

    assert cache.cached_pieces("x", unwanted) == some


@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_damaged_cache_is_rebuilt(
    keep: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTELSTM_CACHE", str(tmp_path))
    want = cache.cached_pieces("x", pieces)
    (path,) = tmp_path.glob("pieces/*/*")
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with caplog.at_level(logging.WARNING):
        assert cache.cached_pieces("x", pieces) == want
    assert "is damaged" in caplog.text
    assert len(path.read_bytes()) == len(whole)


def test_without_a_writable_cache_pieces_are_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOTELSTM_CACHE", str(tmp_path / "file"))
    assert len(cache.cached_pieces("x", pieces)) == 3
    assert "are not cached" in caplog.text
