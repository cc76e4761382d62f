"""A folder of MIDI files as a corpus."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from pathlib import Path

import pytest

from notelstm.data import CorpusSource
from notelstm.data.folder import Folder, midi_files, scan_folder
from notelstm.errors import DataError
from notelstm.midi import ReadPolicy, midi_bytes, write_midi
from notelstm.notes import Notes

NAMES = ["A.MID", "b/c/d.kar", "b/x.midi", "b/ünï ☃.mid", "z.mid"]


def tune(first: int) -> Notes:
    return Notes(start=[0, 0.5, 1.0], end=[0.5, 1.0, 1.5], pitch=[first, first + 4, first + 7])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five good files at any depth, and others that are none of its business."""
    folder = tmp_path / "my music"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_midi(tune(60 + number), folder / name)
    (folder / "notes.txt").write_text("not music")
    (folder / "b" / "cover.mid.jpg").write_bytes(b"\xff\xd8")
    return folder


def test_all_midi_files_at_any_depth_by_name(root: Path) -> None:
    corpus: CorpusSource = Folder(path=root, license="mine")
    pieces = list(corpus.pieces())
    assert [name for name, _ in pieces] == NAMES
    assert [notes.pitch[0] for _, notes in pieces] == [60, 61, 62, 63, 64]
    assert (corpus.name, corpus.source, corpus.license) == ("my music", str(root), "mine")


@pytest.mark.parametrize("name", ["a.rmi", "b/c.RMI", "D.Kar", "e.MIDI", "f.mid"])
def test_every_suffix_in_any_case(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    data = midi_bytes(tune(60))
    if name.lower().endswith(".rmi"):
        chunk = b"data" + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2)
        data = b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"RMID" + chunk
    path.write_bytes(data)
    assert [found for found, _ in Folder(path=tmp_path).pieces()] == [name]


@pytest.mark.parametrize("limit", [0, 1, 3, 99])
def test_a_limit_counts_pieces_that_were_read(root: Path, limit: int) -> None:
    (root / "A.MID").write_bytes(b"broken")
    got = [name for name, _ in Folder(path=root).pieces(limit)]
    assert got == NAMES[1:][:limit]


def test_bad_files_are_logged_and_never_fatal(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "empty.mid").touch()
    (root / "junk.mid").write_bytes(os.urandom(500))
    (root / "gone.mid").symlink_to(root / "nowhere.mid")
    with caplog.at_level(logging.WARNING):
        assert [name for name, _ in Folder(path=root).pieces()] == NAMES
    assert "empty.mid" in caplog.text
    assert "junk.mid" in caplog.text


def test_pieces_with_reports(root: Path) -> None:
    for _, notes, report in Folder(path=root).pieces_with_reports():
        assert report.notes == len(notes) == 3


def test_the_policy_is_the_readers(root: Path) -> None:
    policy = ReadPolicy(programs=(40,))
    with pytest.raises(DataError, match="cannot read any of 5 files"):
        list(Folder(path=root, policy=policy).pieces())


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        list(Folder(path=tmp_path / "missing").pieces())
    with pytest.raises(DataError, match=r"no MIDI files \(\.mid"):
        list(Folder(path=tmp_path).pieces())
    (tmp_path / "bad.mid").write_bytes(b"MThd")
    with pytest.raises(DataError, match="cannot read the only file; the most frequent reason"):
        list(Folder(path=tmp_path).pieces())


def test_one_file_is_a_corpus_too(root: Path) -> None:
    ((name, notes),) = Folder(path=root / "z.mid").pieces()
    assert name == "z.mid"
    assert len(notes) == 3


def test_a_circular_link_is_followed_once(root: Path) -> None:
    (root / "b" / "loop").symlink_to(root, target_is_directory=True)
    assert [path.relative_to(root).as_posix() for path in midi_files(root)] == NAMES


def test_a_broken_link_is_logged(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "y.mid").symlink_to(root / "missing.mid")
    with caplog.at_level(logging.WARNING):
        assert len(scan_folder(root).names) == len(NAMES)
    assert "left out" in caplog.text
    assert "y.mid" in caplog.text


def test_a_linked_folder_is_read(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_midi(tune(70), elsewhere / "far.mid")
    (root / "link").symlink_to(elsewhere, target_is_directory=True)
    assert [name for name, _ in Folder(path=root).pieces()] == [*NAMES[:4], "link/far.mid", "z.mid"]


def test_deeply_nested_folders_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By steps, since a whole path of that length is longer than systems take.
    monkeypatch.chdir(tmp_path)
    for _ in range(300):
        os.mkdir("a")
        os.chdir("a")
    write_midi(Notes(start=[0.0], end=[1.0], pitch=[60]), "deep.mid")
    monkeypatch.chdir(tmp_path)
    limit = sys.getrecursionlimit()
    depth = len(inspect.stack())
    sys.setrecursionlimit(depth + 200)
    try:
        found = scan_folder(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert [name.count("/") for name in found.names] == [300]
