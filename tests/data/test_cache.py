"""Where caches live, how large they are, and clearing them."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data import cache
from notelstm.data.cache import cache_folder, cached_pieces, clear_caches, list_caches, locked
from notelstm.data.corpus import Corpus
from notelstm.data.encoding import encode_corpus
from notelstm.data.piece_file import PieceFile, entry_of, write_pieces
from notelstm.encoders import StepDurationEncoder
from notelstm.errors import DataError
from notelstm.midi import write_midi
from notelstm.notes import Notes
from notelstm.testing import strategies


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with a corpus, its rows, a download and kept pieces."""
    base = tmp_path / "kept"
    monkeypatch.setenv("NOTELSTM_CACHE", str(base))
    for name, count in (("one", 1), ("two", 9)):
        (tmp_path / name).mkdir()
        for k in range(count):
            notes = Notes(start=range(50), end=range(1, 51), pitch=60 + k)
            write_midi(notes, tmp_path / name / f"{k}.mid")
        corpus = Corpus.open(tmp_path / name, workers=0, progress=False)
    encode_corpus(corpus, StepDurationEncoder(), progress=False)
    (base / "downloads" / "music").mkdir(parents=True)
    (base / "downloads" / "music" / "a.mid").write_bytes(bytes(100))
    (base / "downloads" / ".music.lock").touch()
    cached_pieces("some-1", lambda: [("one", Notes(start=[0], end=[1], pitch=[60]))])
    return base


def test_everything_is_listed_with_its_size(base: Path, tmp_path: Path) -> None:
    found = list_caches()
    assert sorted((cached.kind, cached.name.rpartition("-")[0]) for cached in found) == [
        ("corpora", "one"),
        ("corpora", "two"),
        ("downloads", ""),
        ("encoded", "two"),
        ("pieces", "some"),
    ]
    assert [cached.bytes for cached in found] == sorted((c.bytes for c in found), reverse=True)
    for cached in found:
        path = Path(cached.path)
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        assert cached.bytes == sum(file.stat().st_size for file in files) > 0
        assert cached.to_json()["bytes"] == cached.bytes
    sources = {cached.kind: cached.source for cached in found}
    assert sources["encoded"] == str(tmp_path / "two")
    assert sources["pieces"] == ""


@given(st.lists(strategies.notes(max_notes=6, instruments=True), min_size=1, max_size=3))
def test_pieces_are_cached_with_their_instruments(pieces: list[Notes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inner" / "all.notes"
        entries = [entry_of(f"piece {k}", piece, "{}") for k, piece in enumerate(pieces)]
        write_pieces(path, entries, {})
        file = PieceFile(path)
        assert [file.notes(k) for k in range(len(pieces))] == pieces
    renamed = replace(pieces[0], track_names=("another name",))
    assert entry_of("x", renamed, "{}").digest != entries[0].digest


def test_one_or_all_are_cleared(base: Path, tmp_path: Path) -> None:
    two = next(cached for cached in list_caches() if cached.source.endswith("two"))
    assert clear_caches([two.name, "no such thing"]) == [two]
    assert not Path(two.path).exists()
    assert len(list_caches()) == 4
    assert len(clear_caches()) == 4
    assert list_caches() == []
    assert len(Corpus.open(tmp_path / "two", workers=0, progress=False)) == 9


def test_files_being_written_are_kept(base: Path) -> None:
    one = next(cached for cached in list_caches() if cached.source.endswith("one"))
    with locked(base / "locks" / f"{one.name}.lock"):
        assert one not in clear_caches()
        assert list_caches() == [one]
    assert clear_caches() == [one]


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed there")
def test_an_open_corpus_remains_valid_after_its_cache_is_removed(
    base: Path, tmp_path: Path
) -> None:
    corpus = Corpus.open(tmp_path / "two", workers=0, progress=False)
    before = list(corpus)
    clear_caches()
    assert list(corpus) == before


def test_a_missing_cache_is_empty(tmp_path: Path) -> None:
    assert list_caches(tmp_path / "none") == []
    assert clear_caches(cache=tmp_path / "none") == []


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTELSTM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("NOTELSTM_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "notelstm"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder() == tmp_path / ".cache" / "notelstm"
    assert "notelstm" in cache_folder().parts


def test_a_cache_that_cannot_be_opened_is_kept(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Corpus.open(tmp_path / "two", workers=0, progress=False).path
    whole = path.read_bytes()

    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "PieceFile", refuse)
        with pytest.raises(DataError, match="cannot open the cache: Permission denied"):
            Corpus.open(tmp_path / "two", workers=0, progress=False)
    assert path.read_bytes() == whole


def test_parts_of_files_being_written_are_kept(base: Path) -> None:
    """Parts of a download and of encoded rows, whose makers hold the lock of the whole."""
    coming = base / "downloads" / "music-midi.zip.part"
    coming.write_bytes(b"half")
    home = next(path for path in (base / "encoded").iterdir())
    beside = home.with_name(f".{home.name}.12345678.part")
    beside.mkdir()
    with locked(base / "downloads" / ".music.lock"), locked(base / "locks" / f"{home.name}.lock"):
        clear_caches()
        assert coming.exists()
        assert beside.exists()
        assert home.exists()
    clear_caches()
    assert not coming.exists()
    assert not beside.exists()
