"""A corpus: read once, whole or not at all, and again only where something changed."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data.corpus import Corpus, pool, shards, worker
from notelstm.data.corpus.columns import merge, open_columns, pack, unpack
from notelstm.data.corpus.shards import FileToRead, Job
from notelstm.data.folder import Folder
from notelstm.data.lock import locked, locked_now
from notelstm.errors import DataError, OutputError
from notelstm.midi import ReadPolicy, read_midi, write_midi
from notelstm.notes import BeatMap, Notes
from notelstm.testing import strategies

NAMES = ["A.MID", "b/c/d.kar", "b/x.midi", "b/ünï ☃.mid", "z.mid"]


def tune(first: int, n: int = 3) -> Notes:
    start = np.arange(n) * 0.5
    return Notes(start=start, end=start + 0.5, pitch=first + np.arange(n) % 12)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "my music"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_midi(tune(60 + number), folder / name)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as they are."""
    names: list[str] = []
    real = shards.read_shard

    def noted(files: list[FileToRead], job: Job) -> object:
        names.extend(file.name for file in files)
        return real(files, job)

    monkeypatch.setattr(pool, "read_shard", noted)
    return names


def opened(source: object, tmp_path: Path, **keywords: object) -> Corpus:
    settings = {"cache": tmp_path / "cache", "workers": 0, "progress": False, **keywords}
    return Corpus.open(source, **settings)  # type: ignore[arg-type]


def test_the_notes_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    corpus = opened(root, tmp_path)
    assert list(corpus.names) == NAMES
    assert len(corpus) == 5
    for name, notes in corpus.pieces():
        assert notes == read_midi(root / name)
    assert corpus[-1] == corpus[4] == corpus[4:][0]
    assert corpus.lengths.tolist() == [3] * 5
    with pytest.raises(IndexError):
        corpus[5]


def test_worker_processes_read_the_same(root: Path, tmp_path: Path) -> None:
    alone = opened(root, tmp_path)
    helped = opened(root, tmp_path, cache=tmp_path / "other", workers=2)
    assert list(helped) == list(alone)
    assert helped.fingerprint == alone.fingerprint
    assert helped.names == alone.names


def test_a_folder_a_list_a_file_or_a_part(root: Path, tmp_path: Path) -> None:
    whole = opened(root, tmp_path)
    listed = opened([root / NAMES[4], root / NAMES[1]], tmp_path)
    assert listed.names == ("z.mid", "b/c/d.kar")
    assert [n.pitch[0] for n in listed] == [64, 61]
    assert opened(root / "z.mid", tmp_path).names == ("z.mid",)
    part = opened(Folder(path=root, licence="mine"), tmp_path)
    assert (part.name, part.licence, part.source) == ("my music", "mine", str(root))
    assert part.folder == whole.folder, "a licence is no reason to read anything again"
    nonsense: object
    for nonsense in (3, []):
        with pytest.raises(DataError, match="a folder, a list of files, or a part"):
            opened(nonsense, tmp_path)
    with pytest.raises(DataError, match="in a corpus once"):
        opened([root / "z.mid", root / "b/../z.mid"], tmp_path)
    with pytest.raises(DataError, match="are there"):
        opened([root / "z.mid", root / "gone.mid"], tmp_path)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_names_that_are_not_unicode(root: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(root) + b"/b/\xff\xfe.mid")
    shutil.copy(root / "A.MID", odd)
    name = f"b/{os.path.basename(odd)}"
    for workers in (0, 1):
        corpus = opened(root, tmp_path, workers=workers, cache=tmp_path / str(workers))
        assert name in corpus.names
        assert corpus.names == opened(root, tmp_path, cache=tmp_path / str(workers)).names


@dataclass(frozen=True, kw_only=True)
class Songs:
    """A source that is not made of files."""

    count: int = 3
    name: ClassVar[str] = "songs"
    licence: ClassVar[str] = "free"
    source: ClassVar[str] = "this test"

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        beats = BeatMap(
            seconds=[0, 1.5], tempi=[60, 90], meter_beats=[0], numerators=[3], denominators=[4]
        )
        whole = tune(50)
        yield (
            "with",
            Notes(
                start=whole.start,
                end=whole.end,
                pitch=whole.pitch,
                drum=False,
                program=7,
                track=300,
                beats=beats,
            ),
        )
        for k in range(self.count - 1):
            yield f"without {k}", tune(60 + k, 200)


def test_a_source_that_is_not_made_of_files(tmp_path: Path) -> None:
    corpus = opened(Songs(), tmp_path)
    assert list(corpus.pieces()) == list(Songs().pieces())
    assert corpus[0].beats is not None
    assert corpus[1].program is None
    assert (corpus.licence, corpus.source) == ("free", "this test")
    assert opened(Songs(), tmp_path).folder == corpus.folder
    assert len(opened(Songs(count=5), tmp_path)) == 5


def test_another_edition_is_read_anew(tmp_path: Path) -> None:
    class Changing:
        name, licence, source, edition, pitch = "c", "", "nowhere", "1", 60

        def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
            yield "one", tune(self.pitch)

    first, second = Changing(), Changing()
    second.pitch = 70
    assert opened(first, tmp_path)[0].pitch[0] == 60
    assert opened(second, tmp_path)[0].pitch[0] == 60, "nothing says that it is another"
    second.edition = "2"
    assert opened(second, tmp_path)[0].pitch[0] == 70


def test_pieces_of_one_name_are_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Twins:
        name: ClassVar[str] = "twins"
        licence: ClassVar[str] = ""
        source: ClassVar[str] = ""

        def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
            yield "one", tune(60)
            yield "one", tune(61)

    with pytest.raises(DataError, match="name of its own"):
        opened(Twins(), tmp_path)


def test_bad_files_are_in_the_report(root: Path, tmp_path: Path) -> None:
    (root / "empty.mid").touch()
    (root / "junk.mid").write_bytes(bytes(range(200)))
    (root / "dangling.mid").symlink_to(root / "nowhere.mid")
    corpus = opened(root, tmp_path)
    assert list(corpus.names) == NAMES
    assert [file.name for file in corpus.report.refused()] == ["empty.mid", "junk.mid"]
    assert all(file.error and file.rule for file in corpus.report.refused())
    assert sum(corpus.report.reasons().values()) == corpus.report.refused_total == 2
    assert len(corpus.report) == 7
    read = corpus.report[0]
    assert (read.name, read.notes, read.error) == ("A.MID", 3, "")
    assert [notes.pitch[0] for notes in corpus] == [60, 61, 62, 63, 64]


def test_what_was_repaired_is_in_the_report(root: Path, tmp_path: Path) -> None:
    whole = (root / "A.MID").read_bytes()
    (root / "cut.mid").write_bytes(whole[:-6])
    (file,) = opened(root, tmp_path).report.repaired()
    assert file.name == "cut.mid"
    assert file.repairs_total >= 1
    assert file.repairs


def test_only_bad_files(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    with pytest.raises(DataError, match="ending in"):
        opened(folder, tmp_path)
    (folder / "junk.mid").write_bytes(b"nothing")
    corpus = opened(folder, tmp_path)
    assert len(corpus) == 0
    with pytest.raises(DataError, match="none of 1; 1 times"):
        list(corpus.pieces())


def test_nothing_is_read_twice(root: Path, tmp_path: Path, reads: list[str]) -> None:
    first = opened(root, tmp_path)
    assert reads == NAMES
    reads.clear()
    again = opened(root, tmp_path)
    assert reads == []
    assert again.folder == first.folder


def test_only_what_changed_is_read(root: Path, tmp_path: Path, reads: list[str]) -> None:
    opened(root, tmp_path)
    reads.clear()
    write_midi(tune(80, 7), root / "b/x.midi")
    write_midi(tune(90), root / "b/new.mid")
    (root / "A.MID").unlink()
    corpus = opened(root, tmp_path)
    assert reads == ["b/new.mid", "b/x.midi"]
    assert corpus.names == ("b/c/d.kar", "b/new.mid", "b/x.midi", "b/ünï ☃.mid", "z.mid")
    assert [n.pitch[0] for n in corpus] == [61, 90, 80, 63, 64]
    assert list(corpus) == list(opened(root, tmp_path, cache=tmp_path / "anew"))


def test_a_change_of_the_same_size_and_date_is_seen(
    root: Path, tmp_path: Path, reads: list[str]
) -> None:
    opened(root, tmp_path)
    reads.clear()
    path = root / "z.mid"
    state, data = path.stat(), path.read_bytes()
    path.write_bytes(data.replace(bytes([0x90, 64]), bytes([0x90, 65])))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    if path.stat().st_ctime_ns == state.st_ctime_ns:
        pytest.skip("this file system does not keep the time of change")
    opened(root, tmp_path)
    assert reads == ["z.mid"]


def test_a_new_date_alone_is_no_reason_to_read(
    root: Path, tmp_path: Path, reads: list[str]
) -> None:
    first = opened(root, tmp_path)
    reads.clear()
    os.utime(root / "z.mid", (1, 1))
    second = opened(root, tmp_path)
    assert reads == []
    assert second.fingerprint == first.fingerprint
    assert second.folder != first.folder, "the new date is kept"
    assert opened(root, tmp_path).folder == second.folder


def test_a_file_that_may_not_be_read_is_tried_again_when_it_may(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(shards, "open", refuse, raising=False)
        assert opened(root, tmp_path).report.refused_total == 5
    for name in NAMES:
        (root / name).chmod(0o600)
    assert opened(root, tmp_path).report.refused_total == 0


def test_another_policy_is_another_cache(root: Path, tmp_path: Path, reads: list[str]) -> None:
    one = opened(root, tmp_path)
    two = opened(root, tmp_path, policy=ReadPolicy(max_seconds=0.6))
    assert [len(n) for n in two] == [2] * 5
    assert [len(n) for n in one] == [3] * 5
    assert reads == NAMES * 2
    assert opened(Folder(path=root, policy=ReadPolicy(max_seconds=0.6)), tmp_path).folder == (
        two.folder
    )


def test_fingerprints_tell_notes_apart(root: Path, tmp_path: Path) -> None:
    before = opened(root, tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert opened(copy, tmp_path).fingerprint == before.fingerprint
    write_midi(tune(64, 4), root / "z.mid")
    assert opened(root, tmp_path).fingerprint != before.fingerprint


def test_a_pickled_corpus_is_its_place(root: Path, tmp_path: Path) -> None:
    corpus = opened(root, tmp_path)
    data = pickle.dumps(corpus)
    assert len(data) < 3000
    twin = pickle.loads(data)
    assert list(twin) == list(corpus)
    assert (twin.name, twin.fingerprint) == (corpus.name, corpus.fingerprint)
    shutil.rmtree(corpus.folder)
    with pytest.raises(DataError, match="Open it again"):
        pickle.loads(data)


@given(
    pieces=st.lists(strategies.notes(max_notes=8), max_size=5),
    cuts=st.lists(st.integers(0, 5), max_size=3),
)
def test_columns_keep_pieces_however_they_are_merged(
    pieces: list[Notes], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    blank = {"report": "{}", "file_hash": bytes(32), "size": 0, "changed": 0, "touched": 0}
    entries = [{"name": f"☃ {k}", "notes": n, **blank} for k, n in enumerate(pieces)]
    columns = pack(entries)
    edges = [0, *sorted(min(cut, len(pieces)) for cut in cuts), len(pieces)]
    runs = [(columns, a, b) for a, b in pairwise(edges)]
    folder = tmp_path_factory.mktemp("columns")
    merge(folder, runs)
    for got in (columns, open_columns(folder)):
        assert [unpack(got, k) for k in range(len(pieces))] == pieces


def test_a_damaged_cache_is_made_again(
    root: Path, tmp_path: Path, reads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    corpus = opened(root, tmp_path)
    truth, home = list(corpus), corpus.folder.parent
    for name, cut in (("start.npy", -9), ("note_offsets.npy", -1), ("pitch.npy", 0)):
        reads.clear()
        file = opened(root, tmp_path).folder / name
        file.write_bytes(file.read_bytes()[:cut])
        assert list(opened(root, tmp_path)) == truth
        assert reads == NAMES
    for nonsense in ("", "[]", '{"generation": "generation-0"}'):
        (home / "current.json").write_text(nonsense)
        assert list(opened(root, tmp_path)) == truth
    assert "made again" in caplog.text


def test_an_interrupted_build_goes_on(
    root: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notelstm.data.corpus.shards.CHUNK_FILES", 1)

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("notelstm.data.corpus.build.tqdm.update", interrupted)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                opened(root, tmp_path)
    assert reads == NAMES[:3], "each run does one file before it is interrupted"
    (one, *_) = tmp_path.glob("cache/corpora/*/shards/*.npz")
    one.write_bytes(one.read_bytes()[:-50])
    (one.parent / ".half.part").write_bytes(b"half a shard")
    corpus = opened(root, tmp_path)
    assert len(reads) == 6, "three that were left, less one that was damaged"
    assert list(corpus) == [read_midi(root / name) for name in NAMES]
    home = corpus.folder.parent
    assert sorted(p.name for p in home.iterdir()) == ["current.json", corpus.folder.name]


def worker_that(does: str) -> str:
    """A worker that does something when it comes to the file x.midi."""
    return worker.COMMAND.replace(
        "serve()",
        "from notelstm.data.corpus import shards; real = shards.read_midi_with_report; "
        f"bad = lambda s, *a, **k: ({does}) if 'x.midi' in s.name else real(s, *a, **k); "
        "shards.read_midi_with_report = bad; serve()",
    )


def test_a_file_that_ends_its_reader_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COMMAND", worker_that("__import__('os')._exit(7)"))
    corpus = opened(root, tmp_path, workers=2)
    (file,) = corpus.report.refused()
    assert file.name == "b/x.midi"
    assert "code 7" in file.error
    assert len(corpus) == 4


def test_a_file_that_takes_for_ever_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SECONDS_A_FILE", 0.5)
    monkeypatch.setattr(pool, "COMMAND", worker_that("__import__('time').sleep(99)"))
    corpus = opened(root, tmp_path, workers=1)
    (file,) = corpus.report.refused()
    assert file.name == "b/x.midi"
    assert "process ended" in file.error


def test_a_reader_that_fails_is_no_end(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COMMAND", worker_that("1 / 0"))
    (file,) = opened(root, tmp_path, workers=1).report.refused()
    assert "ZeroDivisionError" in file.error


def test_workers_that_cannot_start_blame_no_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COMMAND", "raise SystemExit(3)")
    with pytest.raises(DataError, match="code 3"):
        opened(root, tmp_path, workers=2)


def test_a_cache_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError, match="NOTELSTM_CACHE"):
        opened(root, tmp_path)


def test_a_lock_ends_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    script = (
        "import sys, time; from pathlib import Path; from notelstm.data.lock import locked\n"
        f"with locked(Path({str(path)!r})): print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with locked_now(path) as free:
            assert not free
    finally:
        owner.kill()
        owner.communicate()
    began = time.monotonic()
    with locked(path):
        assert time.monotonic() - began < 1
        with locked_now(path) as free:
            assert not free


def test_several_processes_build_one_cache(root: Path, tmp_path: Path) -> None:
    for k in range(60):
        write_midi(tune(k + 20, 40), root / f"{k}.mid")
    script = (
        "import logging, sys; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "from notelstm.data.corpus import Corpus\n"
        f"c = Corpus.open({str(root)!r}, cache={str(tmp_path / 'cache')!r}, progress=False)\n"
        "print(c.fingerprint, len(c))"
    )
    command = [sys.executable, "-c", script]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    corpus = opened(root, tmp_path)
    assert {text.splitlines()[-1] for text in said} == {f"{corpus.fingerprint} 65"}
    assert sum("65 of 65 files to read" in text for text in said) == 1, "one of them reads"
    assert list(corpus) == [read_midi(root / name) for name in corpus.names]


def test_progress_is_shown_only_if_asked_for(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    opened(root, tmp_path)
    assert capfd.readouterr() == ("", "")
    with caplog.at_level(logging.INFO):
        opened(root, tmp_path, cache=tmp_path / "two", progress=True)
    assert "reading my music" in capfd.readouterr().err
    assert "5 of 5 files to read" in caplog.text


@pytest.mark.maestro
def test_a_built_cache_opens_at_once(tmp_path: Path) -> None:
    folder = os.environ.get("NOTELSTM_MAESTRO")
    if not folder:
        pytest.skip("NOTELSTM_MAESTRO names no folder")
    corpus = opened(folder, tmp_path, workers=None)
    took = []
    for _ in range(5):
        began = time.process_time()  # nearly all of it is computing; a busy machine is no fault
        opened(folder, tmp_path)
        took.append(time.process_time() - began)
    assert min(took) < 0.05
    assert len(corpus.names) == len(corpus) == len(corpus.report)


def test_what_a_killed_build_half_wrote_is_removed(tmp_path: Path) -> None:
    music, cache = tmp_path / "music", tmp_path / "cache"
    music.mkdir()
    write_midi(Notes(start=[0.0], end=[1.0], pitch=[60]), music / "a.mid")
    folder = Corpus.open(music, cache=cache, progress=False).folder.parent
    half = folder / ".current.json.0badcafe.part"
    half.touch()
    write_midi(Notes(start=[0.0], end=[1.0], pitch=[62]), music / "b.mid")
    assert len(Corpus.open(music, cache=cache, progress=False)) == 2
    assert not half.exists()
