"""MAESTRO, fetched from a server of our own that behaves badly."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from notelstm.data import download, maestro
from notelstm.data.corpus import Corpus
from notelstm.data.maestro import MaestroCorpus
from notelstm.data.splits import Split
from notelstm.errors import ConfigError, DataError, OutputError
from notelstm.midi import write_midi
from notelstm.notes import Notes
from notelstm.plugins import find

NAMES = ("2004/a.midi", "2006/ü.midi")
VERSION = "2.0.0"


def archive_of(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Something like the real archive, of two pieces."""
    folder, root = tmp_path_factory.mktemp("made"), f"maestro-v{VERSION}"
    entries = {}
    for k, name in enumerate(NAMES):
        write_midi(Notes(start=[0, 1], end=[1, 2], pitch=[60 + k, 64]), folder / "x.mid")
        entries[f"{root}/{name}"] = (folder / "x.mid").read_bytes()
    table = "midi_filename,split\n2004/a.midi,train\n2006/ü.midi,test\n"
    entries[f"{root}/maestro-v{VERSION}.csv"] = table.encode()
    entries[f"{root}/filler.wav"] = bytes(range(256)) * 2000
    return archive_of(entries)


class Server(ThreadingHTTPServer):
    """Serves one file, with the faults that are set."""

    def __init__(self, data: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.ranges = True
        self.break_after: int | None = None
        self.failures: list[int] = []
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if server.failures:
            self.send_error(server.failures.pop(0))
            return
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if first >= len(server.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.data)}")
            self.end_headers()
            return
        body = server.data[first:]
        self.send_response(206 if asked and server.ranges else 200)
        if asked and server.ranges:
            total = len(server.data)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.break_after is not None:
            body = body[: server.break_after]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(archive: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setitem(maestro.CHECKSUMS, VERSION, hashlib.sha256(archive).hexdigest())
    monkeypatch.setenv("NOTELSTM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    serving = Server(archive)
    thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


def corpus_of(server: Server) -> MaestroCorpus:
    return MaestroCorpus(version=VERSION, address=server.address, progress=False)


def left(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache" / "downloads").iterdir())


def test_the_archive_is_downloaded_once_and_unpacked(server: Server, tmp_path: Path) -> None:
    corpus = corpus_of(server)
    assert tuple(name for name, _ in corpus.pieces()) == NAMES
    assert [notes.pitch[0] for _, notes in corpus.pieces(1)] == [60]
    assert server.asked == [None]
    assert left(tmp_path) == [f".maestro-v{VERSION}.lock", f"maestro-v{VERSION}"]
    assert corpus.split(NAMES) == Split(train=(0,), test=(1,))
    assert "CC BY-NC-SA" in corpus.license
    assert corpus.source.endswith(f"/v{VERSION}/maestro-v{VERSION}-midi.zip")


def test_a_corpus_of_it_is_cached_with_its_license(server: Server, tmp_path: Path) -> None:
    opened = Corpus.open(corpus_of(server), workers=0, progress=False)
    assert (opened.name, opened.names) == ("maestro", NAMES)
    assert opened.license == MaestroCorpus.license
    assert opened.path.is_relative_to(tmp_path / "cache")


def test_broken_connections_are_resumed(server: Server, archive: bytes) -> None:
    server.break_after = len(archive) // 4
    assert len(list(corpus_of(server).pieces())) == 2
    quarter = len(archive) // 4
    assert server.asked[:4] == [None, *(f"bytes={quarter * k}-" for k in (1, 2, 3))]


def test_without_ranges_the_whole_file_is_requested(server: Server, archive: bytes) -> None:
    server.ranges = False
    server.break_after = 1000
    with pytest.raises(DataError, match="download is resumed"):
        list(corpus_of(server).pieces())
    server.break_after = None
    assert len(list(corpus_of(server).pieces())) == 2


def test_temporary_server_errors_are_retried(server: Server) -> None:
    server.failures = [503, 429, 500, 408]
    assert len(list(corpus_of(server).pieces())) == 2
    assert len(server.asked) == 5


def test_permanent_server_errors_are_errors(server: Server) -> None:
    server.failures = [503] * 99
    with pytest.raises(DataError, match="HTTP 503"):
        list(corpus_of(server).pieces())
    assert len(server.asked) == download.TRIES
    server.failures = [404]
    with pytest.raises(DataError, match=r"HTTP 404.*name the folder"):
        list(corpus_of(server).pieces())
    assert len(server.asked) == download.TRIES + 1, "what is not there is not asked for again"


def test_no_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = MaestroCorpus(version=VERSION, address="http://127.0.0.1:1", progress=False)
    with pytest.raises(DataError, match="refused"):
        list(corpus.pieces())


def test_an_interrupted_download_is_resumed(server: Server, archive: bytes, tmp_path: Path) -> None:
    part = tmp_path / "cache" / "downloads" / f"maestro-v{VERSION}-midi.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(archive[:5000])
    assert len(list(corpus_of(server).pieces())) == 2
    assert server.asked == ["bytes=5000-"]


@pytest.mark.parametrize("extra", [0, 7])
def test_complete_and_overlong_parts_are_handled(
    server: Server, archive: bytes, tmp_path: Path, extra: int
) -> None:
    part = tmp_path / "cache" / "downloads" / f"maestro-v{VERSION}-midi.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(archive + bytes(extra))
    assert len(list(corpus_of(server).pieces())) == 2
    assert len(server.asked) == (1 if not extra else 2)


def test_a_wrong_checksum_is_an_error(server: Server, archive: bytes, tmp_path: Path) -> None:
    server.data = archive[:-1] + b"!"
    with pytest.raises(DataError, match="SHA-256"):
        list(corpus_of(server).pieces())
    assert left(tmp_path) == [f".maestro-v{VERSION}.lock"], "nothing of it is kept"
    server.data = archive
    assert len(list(corpus_of(server).pieces())) == 2


def test_progress_is_shown(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    MaestroCorpus(version=VERSION, address=server.address).folder()
    assert f"maestro-v{VERSION}-midi.zip" in capfd.readouterr().err


def test_several_processes_fetch_it_once(server: Server, tmp_path: Path) -> None:
    script = (
        "from notelstm.data import maestro\n"
        f"maestro.CHECKSUMS[{VERSION!r}] = {maestro.CHECKSUMS[VERSION]!r}\n"
        f"corpus = maestro.MaestroCorpus(version={VERSION!r}, address={server.address!r})\n"
        "assert len(list(corpus.pieces())) == 2\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0] * 3
    assert server.asked == [None]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../evil.mid", "outside of the folder"),
        ("a/../../evil.mid", "outside of the folder"),
        ("/evil.mid", "outside of the folder"),
        ("..\\evil.mid", "outside of the folder"),
        ("C:\\evil.mid", "outside of the folder"),
    ],
)
def test_nothing_is_unpacked_elsewhere(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "a.zip").write_bytes(archive_of({name: b"x"}))
    with pytest.raises(DataError, match=said):
        download.unpack(tmp_path / "a.zip", tmp_path / "in" / "side")
    assert not list(tmp_path.rglob("evil.mid"))


def test_links_are_not_unpacked(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(DataError, match="is a link or a device"):
        download.unpack(tmp_path / "a.zip", tmp_path / "side")


def test_an_archive_without_the_folder(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.data = archive_of({"elsewhere/a.mid": b"x"})
    checksum = hashlib.sha256(server.data).hexdigest()
    monkeypatch.setitem(maestro.CHECKSUMS, VERSION, checksum)
    with pytest.raises(DataError, match="holds no folder"):
        corpus_of(server).folder()
    server.data = b"no archive at all"
    monkeypatch.setitem(maestro.CHECKSUMS, VERSION, hashlib.sha256(server.data).hexdigest())
    with pytest.raises(DataError, match="archive is damaged"):
        corpus_of(server).folder()


def test_an_unwritable_folder_is_an_output_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OutputError):
        corpus_of(server).folder()


def test_an_existing_folder_is_used(server: Server, tmp_path: Path) -> None:
    corpus_of(server).folder()
    server.asked.clear()
    here = tmp_path / "cache" / "downloads" / f"maestro-v{VERSION}"
    named = MaestroCorpus(version=VERSION, path=here)
    assert tuple(name for name, _ in named.pieces()) == NAMES
    assert named.source == str(here)
    assert server.asked == []
    with pytest.raises(DataError, match="no such folder"):
        MaestroCorpus(path=tmp_path / "missing").folder()
    (here / f"maestro-v{VERSION}.csv").unlink()
    with pytest.raises(DataError, match=r"table.*is missing"):
        named.split(NAMES)


def test_it_is_a_part() -> None:
    assert find("corpora", "maestro").load() is MaestroCorpus
    with pytest.raises(ConfigError, match="no version '2' of MAESTRO"):
        MaestroCorpus(version="2")


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0", "3.0.0"])
def test_the_real_versions(version: str) -> None:
    address = "https://storage.googleapis.com/magentadata/datasets/maestro"
    corpus = MaestroCorpus(version=version)
    assert corpus.source == f"{address}/v{version}/maestro-v{version}-midi.zip"
    assert len(bytes.fromhex(maestro.CHECKSUMS[version])) == 32
