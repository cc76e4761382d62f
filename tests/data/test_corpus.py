"""A corpus: read once, whole or not at all, and again when something was changed."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.data.cache import locked
from notelstm.data.corpus import Corpus, reading
from notelstm.data.corpus.reading import FileToRead, Job
from notelstm.data.folder import Folder
from notelstm.data.piece_file import DamagedError, Entry, PieceFile, entry_of, write_pieces
from notelstm.errors import ConfigError, DataError, DataNotFoundError, OutputError
from notelstm.midi import ReadPolicy, midi_bytes, read_midi, write_midi
from notelstm.notes import Notes, TempoMap
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
    real = reading.read_file

    def noted(file: FileToRead, job: Job) -> Entry:
        names.append(file.name)
        return real(file, job)

    monkeypatch.setattr(reading, "read_file", noted)
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
    part = opened(Folder(path=root, license="mine"), tmp_path)
    assert (part.name, part.license, part.source) == ("my music", "mine", str(root))
    assert part.path == whole.path, "a license is no reason to read anything again"
    with pytest.raises(DataError, match="cannot make a corpus of int"):
        opened(3, tmp_path)
    with pytest.raises(DataError, match="an empty list of files"):
        opened([], tmp_path)
    with pytest.raises(DataError, match="listed twice"):
        opened([root / "z.mid", root / "b/../z.mid"], tmp_path)
    with pytest.raises(DataNotFoundError, match=r"no such file or folder: .*gone\.mid"):
        opened([root / "z.mid", root / "gone.mid"], tmp_path)
    with pytest.raises(DataError, match="it is a folder"):
        opened([root], tmp_path)


@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_pipes_and_invalid_names_are_rejected_immediately(root: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mid"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="not a regular file"):
        opened([root / "z.mid", pipe], tmp_path)
    with pytest.raises(DataError, match="neither a folder nor a regular file"):
        opened(pipe, tmp_path)
    for source in ("a\0b.mid", ["a\0b.mid"], Folder(path="a\0b")):
        with pytest.raises(DataNotFoundError, match="no such file or folder"):
            opened(source, tmp_path)
    os.mkfifo(root / "b" / "pipe.mid")
    assert list(opened(root, tmp_path).names) == NAMES, "in a folder it is no MIDI file"


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
    license: ClassVar[str] = "free"
    source: ClassVar[str] = "this test"

    def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
        beats = TempoMap(
            seconds=[0, 1.5],
            tempos=[60, 90],
            time_signature_beats=[0],
            numerators=[3],
            denominators=[4],
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
                tempo_map=beats,
            ),
        )
        for k in range(self.count - 1):
            yield f"without {k}", tune(60 + k, 200)


def test_a_source_that_is_not_made_of_files(tmp_path: Path) -> None:
    corpus = opened(Songs(), tmp_path)
    assert list(corpus.pieces()) == list(Songs().pieces())
    assert corpus[0].tempo_map is not None
    assert corpus[1].program is None
    assert (corpus.license, corpus.source) == ("free", "this test")
    assert opened(Songs(), tmp_path).path == corpus.path
    assert len(opened(Songs(count=5), tmp_path)) == 5


def test_a_policy_is_that_of_a_source_without_files(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Voices:
        name: ClassVar[str] = "voices"
        license: ClassVar[str] = ""
        source: ClassVar[str] = "this test"
        policy: ReadPolicy = field(default_factory=ReadPolicy)

        def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
            yield "one", tune(60, 4 if self.policy.tracks == "all" else 1)

    every = ReadPolicy(tracks="all")
    assert len(opened(Voices(policy=every), tmp_path)[0]) == 4
    assert len(opened(Voices(), tmp_path)[0]) == 1
    assert len(opened(Voices(), tmp_path, policy=every)[0]) == 4
    with pytest.raises(DataError, match="'songs' has no policy to set"):
        opened(Songs(), tmp_path, policy=every)


def test_a_corpus_is_open_already(root: Path, tmp_path: Path) -> None:
    first, second = opened(Folder(path=root), tmp_path), opened(root / "z.mid", tmp_path)
    assert opened(first, tmp_path) is first
    assert opened(second, tmp_path) is second
    with pytest.raises(DataError, match="no policy to set"):
        opened(first, tmp_path, policy=ReadPolicy(tracks="all"))


def test_another_edition_is_read_again(tmp_path: Path) -> None:
    class Changing:
        name, license, source, edition, pitch = "c", "", "nowhere", "1", 60

        def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
            yield "one", tune(self.pitch)

    first, second = Changing(), Changing()
    second.pitch = 70
    assert opened(first, tmp_path)[0].pitch[0] == 60
    assert opened(second, tmp_path)[0].pitch[0] == 60, "nothing says that it is another"
    second.edition = "2"
    assert opened(second, tmp_path)[0].pitch[0] == 70


def test_duplicate_names_are_rejected(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Twins:
        name: ClassVar[str] = "twins"
        license: ClassVar[str] = ""
        source: ClassVar[str] = ""

        def pieces(self, limit: int | None = None) -> Iterator[tuple[str, Notes]]:
            yield "one", tune(60)
            yield "one", tune(61)

    with pytest.raises(DataError, match="two pieces are called 'one'"):
        opened(Twins(), tmp_path)


def test_bad_files_are_in_the_report(root: Path, tmp_path: Path) -> None:
    (root / "empty.mid").touch()
    (root / "junk.mid").write_bytes(bytes(range(200)))
    (root / "dangling.mid").symlink_to(root / "nowhere.mid")
    corpus = opened(root, tmp_path)
    assert list(corpus.names) == NAMES
    assert [file.name for file in corpus.report.rejected()] == ["empty.mid", "junk.mid"]
    assert all(file.error and file.problem for file in corpus.report.rejected())
    assert sum(corpus.report.reasons().values()) == corpus.report.rejected_total == 2
    assert len(corpus.report) == 7
    read = corpus.report[0]
    assert (read.name, read.notes, read.error) == ("A.MID", 3, "")
    assert [notes.pitch[0] for notes in corpus] == [60, 61, 62, 63, 64]


def test_reasons_are_counted_without_the_details_of_a_file(root: Path, tmp_path: Path) -> None:
    for k in range(3):
        (root / f"junk {k}.mid").write_bytes(bytes([k]) * 20)
        drums = midi_bytes(Notes(start=range(k + 1), end=9, pitch=[36] * (k + 1), drum=True))
        (root / f"drums {k}.mid").write_bytes(drums)
    assert opened(root, tmp_path).report.reasons() == {
        "not a MIDI file": 3,
        "no notes that the policy reads": 3,
    }


@pytest.mark.skipif(not hasattr(os, "link"), reason="files are linked, to make many of them")
def test_opening_time_is_linear_in_the_number_of_files(root: Path, tmp_path: Path) -> None:
    """Computing time, the least of three: eight times the files may not take 24 times as long."""
    took = {}
    for count in (300, 2400):
        many = tmp_path / str(count)
        many.mkdir()
        paths = [many / f"{k}.mid" for k in range(count)]
        for path in paths:
            os.link(root / "z.mid", path)
        for kind, source in (("folder", many), ("list", paths)):
            times = []
            for _ in range(4):  # the first time it is read
                began = time.process_time()
                corpus = opened(source, tmp_path)
                assert len(corpus.names) == len(corpus.content_keys) == count
                times.append(time.process_time() - began)
            took[kind, count] = min(times[1:])
    for kind in ("folder", "list"):
        assert took[kind, 2400] < 24 * took[kind, 300] + 0.05, took


def test_repairs_are_in_the_report(root: Path, tmp_path: Path) -> None:
    whole = (root / "A.MID").read_bytes()
    (root / "cut.mid").write_bytes(whole[:-6])
    (file,) = opened(root, tmp_path).report.repaired()
    assert file.name == "cut.mid"
    assert file.repairs_total >= 1
    assert file.repairs


def test_only_bad_files(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    with pytest.raises(DataError, match=r"no MIDI files \(\.mid"):
        opened(folder, tmp_path)
    (folder / "junk.mid").write_bytes(b"nothing")
    corpus = opened(folder, tmp_path)
    assert len(corpus) == 0
    with pytest.raises(DataError, match="cannot read the only file; the most frequent reason"):
        list(corpus.pieces())


def test_nothing_is_read_twice(root: Path, tmp_path: Path, reads: list[str]) -> None:
    first = opened(root, tmp_path)
    assert reads == NAMES
    reads.clear()
    again = opened(root, tmp_path)
    assert reads == []
    assert again.path == first.path


def test_any_change_is_detected(root: Path, tmp_path: Path, reads: list[str]) -> None:
    old = opened(root, tmp_path)
    for change in ("changed", "added", "removed"):
        reads.clear()
        if change == "changed":
            write_midi(tune(80, 7), root / "b/x.midi")
        elif change == "added":
            write_midi(tune(90), root / "b/new.mid")
        else:
            (root / "A.MID").unlink()
        corpus = opened(root, tmp_path)
        assert reads == list(corpus.names), change
    assert corpus.names == ("b/c/d.kar", "b/new.mid", "b/x.midi", "b/ünï ☃.mid", "z.mid")
    assert [n.pitch[0] for n in corpus] == [61, 90, 80, 63, 64]
    assert [n.pitch[0] for n in old] == [60, 61, 62, 63, 64], "an open corpus works on"
    assert [p.name for p in corpus.path.parent.iterdir()] == [corpus.path.name]


def test_a_change_of_the_same_size_and_date_is_detected(
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
    assert opened(root, tmp_path)[4].pitch[0] == 65
    assert reads == NAMES


def test_an_unreadable_file_is_read_once_it_is_readable(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "open", refuse, raising=False)
        assert opened(root, tmp_path).report.rejected_total == 5
    for name in NAMES:
        (root / name).chmod(0o600)
    assert opened(root, tmp_path).report.rejected_total == 0


def test_another_policy_is_another_cache(root: Path, tmp_path: Path, reads: list[str]) -> None:
    one = opened(root, tmp_path)
    two = opened(root, tmp_path, policy=ReadPolicy(max_seconds=0.6))
    assert [len(n) for n in two] == [2] * 5
    assert [len(n) for n in one] == [3] * 5
    assert reads == NAMES * 2
    part = Folder(path=root, policy=ReadPolicy(max_seconds=0.6))
    assert opened(part, tmp_path).path == two.path


def test_fingerprints_differ_with_the_notes(root: Path, tmp_path: Path) -> None:
    before = opened(root, tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert opened(copy, tmp_path).fingerprint == before.fingerprint
    write_midi(tune(64, 4), root / "z.mid")
    assert opened(root, tmp_path).fingerprint != before.fingerprint


def test_a_pickled_corpus_is_its_path(root: Path, tmp_path: Path) -> None:
    corpus = opened(root, tmp_path)
    data = pickle.dumps(corpus)
    assert len(data) < 3000
    twin = pickle.loads(data)
    assert list(twin) == list(corpus)
    assert (twin.name, twin.fingerprint) == (corpus.name, corpus.fingerprint)
    corpus.path.unlink()
    with pytest.raises(DataError, match=r"gone.*Open it again"):
        pickle.loads(data)


@given(pieces=st.lists(strategies.notes(max_notes=8), max_size=5))
def test_a_file_of_pieces_round_trips(
    pieces: list[Notes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "x.notes"
    entries = [entry_of(f"☃ {k}", notes, f'{{"name": "{k}"}}') for k, notes in enumerate(pieces)]
    write_pieces(path, entries, {"of": "these"})
    stored = PieceFile(path)
    assert [stored.notes(k) for k in range(len(pieces))] == pieces
    assert list(stored.names) == [entry.name for entry in entries]
    assert [stored.report(k) for k in range(len(pieces))] == [entry.report for entry in entries]
    assert stored.about["of"] == "these"
    assert stored.about["notes"] == sum(map(len, pieces))


@pytest.mark.parametrize("damage", ["", "short", "cut", "longer", "zeros"])
def test_a_damaged_cache_is_rebuilt(
    root: Path, tmp_path: Path, reads: list[str], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    corpus = opened(root, tmp_path)
    truth, path = list(corpus), corpus.path
    whole = path.read_bytes()
    reads.clear()
    path.write_bytes(
        {
            "": b"",
            "short": whole[:20],
            "cut": whole[:-9],
            "longer": whole + b"!",
            "zeros": bytes(len(whole)),
        }[damage]
    )
    assert list(opened(root, tmp_path)) == truth
    assert reads == NAMES
    assert path.read_bytes() == whole
    assert "rebuilt" in caplog.text


def test_a_folder_instead_of_a_cache_file_is_replaced(root: Path, tmp_path: Path) -> None:
    path = opened(root, tmp_path).path
    path.unlink()
    path.mkdir()
    (path / "x").touch()
    assert len(opened(root, tmp_path)) == 5
    assert path.is_file()


def test_a_flipped_byte_never_changes_notes(root: Path, tmp_path: Path) -> None:
    """Set NOTELSTM_FLIPS for more than the usual number of flips."""
    (root / "junk.mid").write_bytes(b"nothing")
    corpus = opened(root, tmp_path)
    truth = list(corpus.pieces()), list(corpus.report), corpus.content_keys, corpus.fingerprint
    path, rng = corpus.path, random.Random(0)
    whole = path.read_bytes()
    for _ in range(int(os.environ.get("NOTELSTM_FLIPS", "50"))):
        place = rng.randrange(len(whole))
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([whole[place] ^ rng.randrange(1, 256)]))
        with pytest.raises(DamagedError):
            PieceFile(path)
        again = opened(root, tmp_path)
        found = list(again.pieces()), list(again.report), again.content_keys, again.fingerprint
        assert found == truth, f"byte {place}"
        assert path.read_bytes() == whole


def test_a_byte_flipped_on_disk_is_detected_on_access(root: Path, tmp_path: Path) -> None:
    """Nothing writes to the file then, so its date stays; opening it does not read it all."""
    corpus = opened(root, tmp_path)
    truth, path = list(corpus), corpus.path
    state = path.stat()
    with path.open("r+b") as file:
        file.seek(20)  # in the notes of the first piece
        byte = file.read(1)[0]
        file.seek(20)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    again = opened(root, tmp_path)
    assert again[1] == truth[1]
    with pytest.raises(DataError, match=r"the cache is damaged.*Open the corpus again"):
        again[0]
    assert list(opened(root, tmp_path)) == truth


def test_an_intact_cache_of_another_date_is_checked_once(
    root: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = opened(root, tmp_path).path
    reads.clear()
    checked: list[int] = []
    real = PieceFile._record

    def counted(self: PieceFile, entry: int) -> memoryview:
        checked.append(entry)
        return real(self, entry)

    monkeypatch.setattr(PieceFile, "_record", counted)
    opened(root, tmp_path)
    assert checked == [], "it was written here and nobody changed it"
    os.utime(path, (1e9, 1e9))
    for _ in range(2):
        opened(root, tmp_path)
        assert checked == [0, 1, 2, 3, 4]
    assert reads == []


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_a_corpus_holds_one_descriptor(root: Path, tmp_path: Path) -> None:
    opened(root, tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    several = [opened(root, tmp_path) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) - before == len(several)


DESCRIPTORS = """
import os, resource, sys
from notelstm.data.corpus import Corpus
from notelstm.errors import DataError

root, cache = sys.argv[1:]
Corpus.open(root, cache=cache, workers=0, progress=False)
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for free in range(6):
    for changed in (False, True):
        if changed:
            os.utime(os.path.join(root, "z.mid"), (free, free))
        try:
            found = len(Corpus.open(root, cache=cache, workers=0, progress=False))
            assert found == 5, f"{free} free: {found} pieces"
            print("opened")
        except (DataError, OSError) as error:
            assert "Too many open files" in str(error), error
            assert not isinstance(error, OSError) or hasattr(error, "problem"), repr(error)
            print("no descriptors")
    os.close(taken.pop())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are limited there alike")
def test_running_out_of_descriptors_does_not_rebuild(root: Path, tmp_path: Path) -> None:
    path = opened(root, tmp_path).path
    command = [sys.executable, "-c", DESCRIPTORS, str(root), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no descriptors" in done.stdout
    assert "opened" in done.stdout
    assert "damaged" not in done.stderr
    (left,) = path.parent.iterdir()
    assert len(PieceFile(left).table) == 5


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_build_leaves_the_cache_as_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    old = opened(root, tmp_path)
    write_midi(tune(80, 7), root / "b/x.midi")
    written = 0

    def interrupted(*_: object) -> bytes:
        nonlocal written
        written += 1
        if written == 3:
            raise KeyboardInterrupt
        return bytes(32)

    with monkeypatch.context() as patch:
        patch.setattr(Entry, "digest", property(interrupted))
        with pytest.raises(KeyboardInterrupt):
            opened(root, tmp_path, workers=workers)
    assert [p.name for p in old.path.parent.iterdir()] == [old.path.name]
    (old.path.parent / ".half.part").write_bytes(b"what a killed build leaves")
    corpus = opened(root, tmp_path)
    assert list(corpus) == [read_midi(root / name) for name in NAMES]
    assert [p.name for p in corpus.path.parent.iterdir()] == [corpus.path.name]


def command_of_worker_with(does: str) -> str:
    """A worker that does something when it comes to the file x.midi."""
    return reading.COMMAND.replace(
        "serve()",
        "from notelstm.data.corpus import reading; real = reading.read_midi_with_report; "
        f"bad = lambda s, *a, **k: ({does}) if 'x.midi' in s.name else real(s, *a, **k); "
        "reading.read_midi_with_report = bad; serve()",
    )


def test_a_file_that_crashes_its_worker_is_rejected(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "COMMAND", command_of_worker_with("__import__('os')._exit(7)"))
    corpus = opened(root, tmp_path, workers=2)
    (file,) = corpus.report.rejected()
    assert file.name == "b/x.midi"
    assert "code 7" in file.error
    assert len(corpus) == 4


def test_a_file_that_hangs_its_worker_is_rejected(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SECONDS_A_FILE", 0.5)
    monkeypatch.setattr(reading, "COMMAND", command_of_worker_with("__import__('time').sleep(99)"))
    corpus = opened(root, tmp_path, workers=1)
    (file,) = corpus.report.rejected()
    assert file.name == "b/x.midi"
    assert "more than 0.5 s" in file.error


def test_a_failing_reader_does_not_end_the_reading(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "COMMAND", command_of_worker_with("1 / 0"))
    (file,) = opened(root, tmp_path, workers=1).report.rejected()
    assert "ZeroDivisionError" in file.error


def test_a_negative_number_of_workers_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers -1 is negative"):
        opened(root, tmp_path, workers=-1)


def test_workers_that_cannot_start_reject_no_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "COMMAND", "raise SystemExit(3)")
    with pytest.raises(DataError, match="code 3"):
        opened(root, tmp_path, workers=2)


def test_a_cache_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError, match="NOTELSTM_CACHE"):
        opened(root, tmp_path)


def test_a_full_disk_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("notelstm.files.os.fsync", full)
        with pytest.raises(OutputError, match=r"No space left.*set NOTELSTM_CACHE"):
            opened(root, tmp_path)
    assert not list(tmp_path.glob("cache/corpora/*/*"))
    assert len(opened(root, tmp_path)) == 5


def test_a_lock_is_released_when_its_owner_dies(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    script = (
        "import sys, time; from pathlib import Path; from notelstm.data.cache import locked\n"
        f"with locked(Path({str(path)!r})): print('held', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        with locked(path, wait=False) as free:
            assert not free
    finally:
        owner.kill()
        owner.communicate()
    began = time.monotonic()
    with locked(path):
        assert time.monotonic() - began < 1
        with locked(path, wait=False) as free:
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
    assert sum("65 files to read" in text for text in said) == 1, "one of them reads"
    assert list(corpus) == [read_midi(root / name) for name in corpus.names]


def test_progress_is_shown_only_if_asked_for(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    opened(root, tmp_path)
    assert capfd.readouterr() == ("", "")
    with caplog.at_level(logging.INFO):
        opened(root, tmp_path, cache=tmp_path / "two", progress=True)
    assert "reading my music" in capfd.readouterr().err
    assert "5 files to read" in caplog.text


@pytest.mark.maestro
def test_an_existing_cache_opens_quickly(tmp_path: Path) -> None:
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


def test_a_list_of_files_is_named_after_its_folder(root: Path, tmp_path: Path) -> None:
    files = sorted(root.rglob("*.mid"))
    assert Corpus.open(files[:1], cache=tmp_path / "c").name == files[0].parent.name
    elsewhere = tmp_path / "elsewhere" / "b.mid"
    write_midi(tune(60), elsewhere)
    common = Path(os.path.commonpath([files[0].parent, elsewhere.parent]))
    assert Corpus.open([files[0], elsewhere], cache=tmp_path / "c").name == common.name
