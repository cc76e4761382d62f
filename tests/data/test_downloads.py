"""Downloads from servers that break every rule, and archives that were made to do harm."""

from __future__ import annotations

import hashlib
import io
import random
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from notelstm.data import download
from notelstm.errors import DataError, NotelstmError, OutputError

DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()

Answer = bytes | Callable[[socket.socket, "RawServer"], None]


class RawServer:
    """Sends the given bytes; the last answer repeatedly."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[bytes] = []
        self.closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/a.zip"

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection, suppress(OSError):
                connection.settimeout(10)
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    got = connection.recv(4096)
                    if not got:
                        break
                    request += got
                if self.closing.is_set():
                    return
                self.asked.append(request)
                answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                else:
                    answer(connection, self)

    def close(self) -> None:
        self.closing.set()
        with suppress(OSError):
            socket.create_connection(self._socket.getsockname()).close()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    monkeypatch.setattr(download, "_PATIENCE", 20.0)
    serving = RawServer()
    yield serving
    serving.close()


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", *headers, "Connection: close"))
    return head.encode("latin1") + b"\r\n\r\n" + body


def fetched(server: RawServer, tmp_path: Path) -> bytes:
    path = tmp_path / "a.zip"
    download.download(server.url, path, sha256=SHA256, progress=False)
    return path.read_bytes()


def whole() -> bytes:
    return answer(DATA, f"Content-Length: {len(DATA)}")


def ranged(first: int, header: str) -> bytes:
    body = DATA[first:]
    return answer(
        body, f"Content-Length: {len(body)}", f"Content-Range: {header}", status="206 Partial"
    )


LENGTH = "Content-Length: "
BAD = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": b"",
    "a status of words": b"HTTP/1.1 fine OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a long line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 200 + b"\r\n",
    "a length of words": answer(DATA, LENGTH + "much"),
    "a negative length": answer(DATA, LENGTH + "-5"),
    "two lengths in one": answer(DATA, LENGTH + "5, 5"),
    "a length of odd digits": answer(DATA, LENGTH + "\xb2\xb3"),
    "a length without end": answer(DATA, LENGTH + "9" * 5000),
    "a length beyond all": answer(DATA, LENGTH + str(10**15)),
    "a chunk of words": answer(b"zz\r\nabc", "Transfer-Encoding: chunked"),
    "a negative chunk": answer(b"-5\r\nabc", "Transfer-Encoding: chunked"),
    "a chunk cut short": answer(b"ff\r\nabc", "Transfer-Encoding: chunked"),
    "a redirect to nowhere": answer(b"", status="302 Found"),
    "a redirect to no address": answer(b"", "Location: http://[bad", status="302 Found"),
    "a redirect to no port": answer(b"", "Location: http://127.0.0.1:x/", status="302 Found"),
    "a redirect to odd letters": answer(b"", "Location: http://\xfc\xff/\xe4", status="301 M"),
    "a redirect to spaces": answer(b"", "Location: http://a b/c d", status="302 Found"),
    "a redirect to a file": answer(b"", "Location: file:///etc/passwd", status="302 Found"),
    "a redirect to FTP": answer(b"", "Location: ftp://127.0.0.1/a", status="302 Found"),
    "a redirect to a scheme": answer(b"", "Location: data:,x", status="302 Found"),
    "a redirect to itself": answer(b"", "Location: /a.zip", status="302 Found"),
    "another file": answer(b"x" * 100, LENGTH + "100"),
    "no content": answer(b"", status="204 No Content"),
    "a range nobody asked for": ranged(5, f"bytes 5-{len(DATA) - 1}/{len(DATA)}"),
    "a range that cannot be": answer(b"", "Content-Range: bytes */\xb2", status="416 Range"),
    "an informal status": b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_malformed_responses_are_rejected(server: RawServer, tmp_path: Path, bad: bytes) -> None:
    server.answers = [bad]
    with pytest.raises(DataError):
        fetched(server, tmp_path)
    assert len(server.asked) <= 12
    assert not (tmp_path / "a.zip").exists()
    server.answers = [whole()]
    assert fetched(server, tmp_path) == DATA, "and it is found out when it gets better"


RANGES = {
    "no range": "",
    "words": "bytes some-more/all",
    "another start": f"bytes 7-{len(DATA) - 1}/{len(DATA)}",
    "odd digits": "bytes \xb2-\xb3/\xb2",
    "negative": f"bytes -5-{len(DATA) - 1}/{len(DATA)}",
    "another unit": f"notes 1000-{len(DATA) - 1}/{len(DATA)}",
    "very long": f"bytes {'9' * 5000}-5/5",
}


@pytest.mark.parametrize("header", RANGES.values(), ids=RANGES.keys())
def test_an_unrequested_range_is_not_appended(
    server: RawServer, tmp_path: Path, header: str
) -> None:
    (tmp_path / "a.zip.part").write_bytes(DATA[:1000])
    server.answers = [ranged(7, header), whole()]
    assert fetched(server, tmp_path) == DATA
    assert b"Range: bytes=1000-" in server.asked[0]
    assert b"Range:" not in server.asked[1]


def test_the_requested_range_is_appended(server: RawServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(DATA[:1000])
    for total in (str(len(DATA)), "*"):
        server.answers = [ranged(1000, f"bytes 1000-{len(DATA) - 1}/{total}")]
        assert fetched(server, tmp_path) == DATA


def test_a_server_that_repeats_wrong_ranges_is_given_up(server: RawServer, tmp_path: Path) -> None:
    """Half the file, then a range that is wrong, then half the file again, endlessly."""
    half = answer(DATA[:5000], LENGTH + str(len(DATA)))
    server.answers = [half, ranged(7, "bytes 7-8/9")] * 100
    with pytest.raises(DataError, match="cannot download"):
        fetched(server, tmp_path)
    assert len(server.asked) < 10


def endless(connection: socket.socket, server: RawServer) -> None:
    connection.sendall(answer(b""))
    with suppress(OSError):
        while not server.closing.is_set():
            connection.sendall(bytes(1 << 16))


def test_an_endless_download_is_stopped(
    server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    server.answers = [endless]
    with pytest.raises(DataError, match="larger than 1048576 bytes"):
        fetched(server, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20


def drip(head: bytes) -> Callable[[socket.socket, RawServer], None]:
    """A byte now and then: no connection ever times out."""

    def send(connection: socket.socket, server: RawServer) -> None:
        connection.sendall(head)
        while not server.closing.wait(0.05):
            connection.sendall(b"x")

    return send


DRIPS = {
    "headers": b"HTTP/1.1 200 OK\r\nX: ",
    "a status": b"HTTP/1.1 ",
    "a body": answer(b"", LENGTH + "100000"),
    "a body without a length": answer(b""),
    "a chunk": answer(b"fffff\r\n", "Transfer-Encoding: chunked"),
    "the size of a chunk": answer(b"1;", "Transfer-Encoding: chunked"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("head", DRIPS.values(), ids=DRIPS.keys())
def test_a_slow_server_is_stopped_at_the_deadline(
    server: RawServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr(download, "MAX_SECONDS", 1.0)
    server.answers = [drip(head)]
    began = time.monotonic()
    with pytest.raises(DataError, match="takes longer than 1 s"):
        fetched(server, tmp_path)
    assert time.monotonic() - began < 30
    threading.Thread(target=server.closing.set).start()


def test_a_full_disk_is_an_output_error(server: RawServer, tmp_path: Path) -> None:
    server.answers = [whole()]
    (tmp_path / "a.zip.part").mkdir()
    with pytest.raises(OutputError, match="cannot write the download"):
        fetched(server, tmp_path)


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes], method: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return file.getvalue()


def of_mode(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry


def unpacked(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    download.unpack(tmp_path / "a.zip", tmp_path / "in" / "side")


def encrypted() -> bytes:
    data = bytearray(zipped(("a.mid", b"x" * 50)))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + at] |= 1
    return bytes(data)


def declared(size: int) -> bytes:
    """An archive whose directory gives its entry another size."""
    data = bytearray(zipped(("a.mid", bytes(1 << 20)), method=zipfile.ZIP_DEFLATED))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, size)
    return bytes(data)


ODD = {
    "a dot": (zipped((".", b"x")), "outside of the folder"),
    "two dots": (zipped(("a/../b", b"x")), "outside of the folder"),
    "a slash": (zipped(("/", b"")), "outside of the folder"),
    "no name": (zipped(("NAME", b"x")).replace(b"NAME", b"\0AME"), "outside of the folder"),
    "two slashes": (zipped(("a//b", b"x")), "outside of the folder"),
    "a stream": (zipped(("a.mid:b", b"x")), "outside of the folder"),
    "a long name": (zipped(("é" * 200, b"x")), "outside of the folder"),
    "a link": (zipped((of_mode("a", 0o120777), b"/etc")), "link or a device"),
    "a device": (zipped((of_mode("a", 0o20666), b"")), "link or a device"),
    "a pipe": (zipped((of_mode("a", 0o10666), b"")), "link or a device"),
    "case": (zipped(("a.mid", b"x"), ("A.MID", b"y")), "is a duplicate"),
    "a folder of its name": (zipped(("a/b", b"x"), ("a", b"y")), "is a duplicate"),
    "a folder in a file": (zipped(("a", b"x"), ("a/b", b"y")), "is inside a file"),
    "deep": (zipped(("a/" * 40 + "b", b"x")), "inside one another"),
    "encrypted": (encrypted(), "encrypted"),
    "bzip2": (zipped(("a", b"x"), method=zipfile.ZIP_BZIP2), "unusual method"),
    "lzma": (zipped(("a", b"x"), method=zipfile.ZIP_LZMA), "unusual method"),
    "a bomb": (declared(0xFFFFFFF0), "more than 1073741824 bytes"),
    "a bomb that lies": (declared(10), "damaged"),
}


@pytest.mark.parametrize(("data", "said"), ODD.values(), ids=ODD.keys())
def test_unsafe_archives_are_rejected(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        unpacked(data, tmp_path)
    found = sum(path.stat().st_size for path in (tmp_path / "in").rglob("*") if path.is_file())
    assert found <= 2 << 20


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_entries_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a duplicate"):
        unpacked(zipped(("a.mid", b"x"), ("a.mid", b"y")), tmp_path)


def test_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_ENTRIES", 10)
    with pytest.raises(DataError, match="more than 10 entries"):
        unpacked(zipped(*((f"{k}.mid", b"x") for k in range(11))), tmp_path)


def test_a_valid_archive_is_unpacked(tmp_path: Path) -> None:
    unpacked(zipped(("a/", b""), ("a/ü.mid", b"x"), ("a/b/c.mid", b"y")), tmp_path)
    assert (tmp_path / "in" / "side" / "a" / "ü.mid").read_bytes() == b"x"
    assert (tmp_path / "in" / "side" / "a" / "b" / "c.mid").read_bytes() == b"y"


def test_damaged_archives_raise_library_errors(tmp_path: Path) -> None:
    made = zipped(*((f"a/{k}.mid", bytes(range(200))) for k in range(5)), method=8)
    rng = random.Random(0)
    for trial in range(400):
        data = bytearray(made)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        if trial % 4 == 0:
            data = data[: rng.randrange(len(data))]
        (tmp_path / "a.zip").write_bytes(data)
        with suppress(NotelstmError):
            download.unpack(tmp_path / "a.zip", tmp_path / f"{trial}" / "side")
        assert {path.name for path in (tmp_path / f"{trial}").iterdir()} <= {"side"}
