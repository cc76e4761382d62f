"""Labels from the table of a corpus, and from folders."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest

from notelstm import Notes, write_midi
from notelstm.data import Corpus, Folder, MaestroCorpus
from notelstm.data.cache import cached_pieces
from notelstm.data.tables import find_table, labels_of_files
from notelstm.errors import DataError, DataNotFoundError

PIECE = Notes(start=[0, 1], end=2, pitch=[60, 62])
NAMES = ("a/1.mid", "a/2.mid", "b/1.mid")


def table(folder: Path, text: str, name: str = "info.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read(text: str, tmp_path: Path, names: tuple[str, ...] = NAMES) -> Mapping[str, object]:
    found = labels_of_files(names, None, table(tmp_path, text))
    return {
        name: {k: v for k, v in labels.items() if k != "folder"} for name, labels in found.items()
    }


def test_columns_are_labels(tmp_path: Path) -> None:
    text = (
        "canonical_composer,Style ,midi_filename,empty,\n"
        "Bach, baroque,a/1.mid,,x\n"
        '"Liszt, F.",romantic,a/2.mid,,\n'
        "Nobody,none,z/9.mid,,\n"
    )
    assert read(text, tmp_path) == {
        "a/1.mid": {"composer": "Bach", "style": "baroque"},
        "a/2.mid": {"composer": "Liszt, F.", "style": "romantic"},
        "b/1.mid": {},
    }


@pytest.mark.parametrize(
    ("column", "files"),
    [
        (("a/1.mid", "b/1.mid"), ("a/1.mid", "b/1.mid")),
        (("a/1", "b/1.wav"), ("a/1.mid", "b/1.mid")),  # other suffixes
        (("2.mid", "corpus/b/1.mid"), ("a/2.mid", "b/1.mid")),  # other folders
        (("C:\\music\\a\\1.mid", "1.mid"), ("a/1.mid",)),  # two files are called 1.mid
    ],
)
def test_files_are_found_by_their_names(
    column: tuple[str, ...], files: tuple[str, ...], tmp_path: Path
) -> None:
    rows = "\n".join(f"{name},{k}" for k, name in enumerate(column))
    found = read(f"file,number\n{rows}\n", tmp_path)
    assert {name for name, labels in found.items() if labels} == set(files)


def test_files_that_differ_by_their_suffixes_are_told_apart(tmp_path: Path) -> None:
    names = ("a.kar", "a.mid", "b/c.kar", "b/c.mid")
    text = "file,x\na.kar,1\na.mid,2\nmusic/b/c.mid,3\nb/c,4\n"
    found = read(text, tmp_path, names)
    assert found == {"a.kar": {"x": "1"}, "a.mid": {"x": "2"}, "b/c.kar": {}, "b/c.mid": {"x": "3"}}


def test_both_names_are_kept_where_one_would_be_twice(tmp_path: Path) -> None:
    found = read("canonical_title,title,file\nx,y,a/1.mid\n", tmp_path)
    assert found["a/1.mid"] == {"canonical_title": "x", "title": "y"}


def test_the_first_row_of_a_file_counts(tmp_path: Path) -> None:
    assert read("file,x\na/1.mid,1\na/1.mid,2\n", tmp_path)["a/1.mid"] == {"x": "1"}


def test_folders_are_labels_too() -> None:
    found = labels_of_files(("a/b/1.mid", "2.mid"), None)
    assert found == {"a/b/1.mid": {"folder": "a"}}


def test_the_table_with_the_most_files_is_found(tmp_path: Path) -> None:
    assert find_table(tmp_path, NAMES) is None
    assert find_table(tmp_path / "none", NAMES) is None
    table(tmp_path, "file\nz.mid\n", "a.csv")
    table(tmp_path, "file,x\na/1.mid,0\n", "b.csv")
    best = table(tmp_path, "file,x\na/1.mid,1\na/2.mid,2\n", "c.csv")
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00\x00broken")
    (tmp_path / "e.csv").write_text("", encoding="utf-8")
    assert find_table(tmp_path, NAMES) == best
    assert labels_of_files(NAMES, tmp_path)["a/2.mid"]["x"] == "2"


def test_a_named_table_must_fit(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="no such table"):
        labels_of_files(NAMES, None, tmp_path / "none.csv")
    with pytest.raises(DataError, match="no column with names of the files"):
        labels_of_files(NAMES, None, table(tmp_path, "file\nz.mid\n"))
    (tmp_path / "x.csv").write_bytes(b"file\n\xff")
    with pytest.raises(DataError, match="cannot read the table"):
        labels_of_files(NAMES, None, tmp_path / "x.csv")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_midi(PIECE, folder / name)
    table(folder, "midi_filename,composer\na/1.mid,Bach\nb/1.mid,Liszt\n")
    return folder


def composers(corpus: Corpus) -> list[str]:
    return [piece.labels.get("composer", "") for piece in corpus]


def test_a_corpus_has_the_labels_of_its_folder(music: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def opened(**settings: object) -> Corpus:
        return Corpus.open(music, cache=cache, workers=0, progress=False, **settings)  # type: ignore[arg-type]

    corpus = opened()
    assert composers(corpus) == ["Bach", "", "Liszt"]
    assert composers(pickle.loads(pickle.dumps(corpus))) == ["Bach", "", "Liszt"]
    assert [piece.labels["folder"] for piece in corpus] == ["a", "a", "b"]
    pieces = dict(Folder(path=music).pieces())
    assert {name: piece.labels for name, piece in pieces.items()} == {
        name: piece.labels for name, piece in corpus.pieces()
    }
    # The table is read again, the files are not.
    table(music, "midi_filename,composer\na/1.mid,Berg\n")
    assert composers(opened()) == ["Berg", "", ""]
    assert opened().labels_digest != corpus.labels_digest
    assert opened().path == corpus.path
    other = table(tmp_path / "elsewhere", "file,composer\na/2.mid,Clementi\n")
    assert composers(opened(table=other)) == ["", "Clementi", ""]
    assert dict(Folder(path=music, table=other).pieces())["a/2.mid"].labels["composer"]
    listed = Corpus.open(
        [music / name for name in NAMES], table=other, cache=cache, workers=0, progress=False
    )
    assert composers(listed) == ["", "Clementi", ""]


def test_a_broken_table_in_a_folder_is_a_warning(
    music: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (music / "info.csv").write_bytes(b"file\n\xff")
    with caplog.at_level(logging.WARNING):
        corpus = Corpus.open(music, cache=tmp_path, workers=0, progress=False)
    assert composers(corpus) == ["", "", ""]
    assert "no labels are read: cannot read the table" in caplog.text
    (music / "info.csv").write_text("")
    with caplog.at_level(logging.WARNING):
        Corpus.open(music, cache=tmp_path, workers=0, progress=False)
    assert "no labels are read: the table is empty" in caplog.text


def test_maestro_has_composers(music: Path, tmp_path: Path) -> None:
    (music / "info.csv").unlink()
    text = "canonical_composer,split,midi_filename\n" + "".join(
        f"Franz Liszt,train,{name}\n" for name in NAMES
    )
    table(music, text, "maestro-v2.0.0.csv")
    maestro = MaestroCorpus(path=music)
    assert (
        composers(Corpus.open(maestro, cache=tmp_path, workers=0, progress=False))
        == ["Franz Liszt"] * 3
    )
    assert next(iter(maestro.pieces()))[1].labels["composer"] == "Franz Liszt"


def test_caches_keep_the_labels_of_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTELSTM_CACHE", str(tmp_path))
    for names in (None, ("Piano",)):
        for labels in ({}, {"composer": "Größe"}):
            piece = Notes(start=[0, 1], end=2, pitch=60, track=0, track_names=names, labels=labels)
            key = f"{names}-{len(labels)}"
            cached_pieces(key, lambda piece=piece: [("a", piece)])  # type: ignore[misc]
            [(_, again)] = cached_pieces(key, list)
            assert again == piece
            assert again.labels == labels
            assert again.track_names == names
