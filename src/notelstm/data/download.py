"""Downloading and unpacking an archive, with limits of size and time."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import stat
import struct
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final, cast

from tqdm.auto import tqdm
from typing_extensions import override

from notelstm.data.cache import locked
from notelstm.data.piece_file import CACHE_HINT
from notelstm.errors import DataError, NotelstmError
from notelstm.files import output_errors

__all__ = ["download", "fetch_folder", "unpack"]

TRIES: Final = 5
"""The number of connections in a row without new data after which the download fails."""

MAX_BYTES: Final = 1 << 30
"""The largest download, and the largest content of an archive, 1 GiB."""

MAX_SECONDS: Final = 3600.0
"""The longest that a download may take, all connections together."""

MAX_ENTRIES: Final = 20_000
"""The number of entries of an archive."""

MAX_DEPTH: Final = 16
"""The number of folders inside one another in an archive."""

_BLOCK: Final = 1 << 16
_CANNOT_WRITE: Final = "cannot write the download"
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.5

_log = logging.getLogger(__name__)


def fetch_folder(url: str, folder: Path, *, sha256: str, progress: bool = True) -> Path:
    """Download an archive and unpack it, unless the folder exists.

    Several processes may do this at the same time; one of them downloads. An interrupted download
    is resumed the next time.

    Args:
        url: A ``.zip`` file.
        folder: The folder to create, which has the same name in the archive.
        sha256: The archive's checksum, 64 hexadecimal digits.
        progress: Show a progress bar.

    Returns:
        The folder.

    Raises:
        DataError: If the archive cannot be downloaded, has another checksum, or cannot be unpacked.
        OutputError: If it cannot be written.
    """
    if folder.is_dir():
        return folder
    with locked(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return folder
        archive = folder.with_name(url.rpartition("/")[2])
        beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
        download(url, archive, sha256=sha256, progress=progress)
        try:
            unpack(archive, beside)
            if not (beside / folder.name).is_dir():
                raise DataError(f"the archive holds no folder {folder.name}", where=url)
            with output_errors(_CANNOT_WRITE, folder, CACHE_HINT):
                (beside / folder.name).rename(folder)
                archive.unlink()
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def download(url: str, path: Path, *, sha256: str, progress: bool = True) -> None:
    """Download a file, resuming an earlier attempt, and check it.

    An unfinished download is kept beside it, as ``<name>.part``.

    Raises:
        DataError: If it cannot be downloaded, is larger than 1 GiB, takes longer than an hour, or
            has another checksum.
        OutputError: If it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    with output_errors(_CANNOT_WRITE, path, CACHE_HINT):
        if path.exists() and _checksum(path) == sha256:
            return
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        found = _checksum(part)
        if found != sha256:
            part.unlink()
            raise DataError(
                f"the download has the SHA-256 {found}, not {sha256}",
                where=url,
                hint="try again; the file at that address may have been replaced",
            )
        os.replace(part, path)


def _fetch(url: str, part: Path, progress: bool) -> None:
    """Complete the file at `part`, in as many connections as it takes."""
    idle = farthest = 0
    deadline = time.monotonic() + MAX_SECONDS
    bar: tqdm[Any]
    with tqdm(desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=not progress) as bar:
        while True:
            before = part.stat().st_size if part.exists() else 0
            whole, problem = False, "the connection ended early"
            try:
                whole = _fetch_once(url, part, before, deadline, bar)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code < 500 and error.code not in (408, 429):
                    raise _cannot_fetch(url, f"HTTP {error.code} {error.reason}") from error
                problem = f"HTTP {error.code} {error.reason}"
            except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
                problem = str(getattr(error, "reason", "") or error) or type(error).__name__
            # A response without a length looks whole when it is cut at the deadline.
            if time.monotonic() >= deadline:
                raise _cannot_fetch(url, f"it takes longer than {MAX_SECONDS:g} s")
            if whole:
                return
            after = part.stat().st_size if part.exists() else 0
            # A part may be dropped and fetched again: only new bytes are progress.
            idle = 0 if after > max(before, farthest) else idle + 1
            farthest = max(before, after, farthest)
            if idle >= TRIES:
                raise _cannot_fetch(url, problem)
            _log.info("%s: %s; resuming at byte %d", url, problem, after)
            time.sleep(_PAUSE * idle)


def _fetch_once(url: str, part: Path, have: int, deadline: float, bar: tqdm[Any]) -> bool:
    """Fetch over one connection; whether the file is whole after it."""
    with contextlib.ExitStack() as stack:
        opener = stack.enter_context(_bounded_opener(deadline))
        try:
            request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
            if have:
                request.add_header("Range", f"bytes={have}-")
            opened = opener.open(request, timeout=_PATIENCE)
        except urllib.error.HTTPError as error:
            # 416: nothing is left to fetch, or the part is of another file.
            if error.code != 416 or not have:
                raise
            total = _range_of(error.headers.get("Content-Range"))[1]
            error.close()
            if total != have:
                part.unlink()
            return total == have
        except (urllib.error.URLError, HTTPException, OSError):
            raise
        except ValueError as error:  # an address, after a redirect perhaps, that is none
            raise _cannot_fetch(url, f"malformed answer: {error}") from error
        answer = stack.enter_context(cast(HTTPResponse, opened))
        wanted = _length_of(url, answer)
        if answer.status == 206:
            first, total = _range_of(answer.headers.get("Content-Range"))
            if first != have:
                part.unlink(missing_ok=True)
                raise ConnectionError(f"asked for bytes from {have}, the server sent others")
            wanted = total if total >= 0 else wanted and have + wanted
        elif have:
            have = 0  # a server without ranges sends it from the start
        if wanted is not None and wanted > MAX_BYTES:
            raise _cannot_fetch(url, f"it is larger than {MAX_BYTES} bytes")
        bar.reset(wanted)
        bar.update(have)
        file = stack.enter_context(part.open("r+b" if have else "wb"))
        file.seek(have)
        file.truncate()
        while block := _read(answer):
            if file.tell() + len(block) > MAX_BYTES:
                file.truncate(0)
                raise _cannot_fetch(url, f"it is larger than {MAX_BYTES} bytes")
            file.write(block)
            bar.update(len(block))
        return wanted is None or file.tell() == wanted


@contextlib.contextmanager
def _bounded_opener(deadline: float) -> Iterator[urllib.request.OpenerDirector]:
    """An opener whose connections are cut at the deadline.

    A time-out alone is no limit: it restarts with each byte, also of the headers.
    """
    sockets: list[socket.socket] = []

    class Connections(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
        @override
        def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
            def recorded(*args: Any, **kwargs: Any) -> Any:
                connection = http_class(*args, **kwargs)
                connect = connection.connect

                def connect_and_record() -> None:
                    connect()
                    sockets.append(connection.sock)

                connection.connect = connect_and_record
                return connection

            return super().do_open(recorded, req, **options)

    class Redirects(urllib.request.HTTPRedirectHandler):
        @override
        def redirect_request(
            self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> urllib.request.Request | None:
            if not newurl.lower().startswith(("http://", "https://")):
                raise urllib.error.HTTPError(
                    newurl, code, "redirect to another protocol", headers, fp
                )
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    def cut() -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield urllib.request.build_opener(Connections, Redirects)
    finally:
        timer.cancel()


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read1(_BLOCK)
    except OSError as error:  # TLS has kinds of its own; a full disk must not be taken for them
        raise ConnectionError(error.strerror or str(error)) from error
    except ValueError as error:  # the size of a chunk
        raise ConnectionError(f"malformed answer: {error}") from error


def _length_of(url: str, answer: HTTPResponse) -> int | None:
    """The declared length of a response, bytes."""
    text = answer.headers.get("Content-Length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise _cannot_fetch(url, f"malformed Content-Length {text[:40]!r}")
    return int(text)


def _range_of(header: str | None) -> tuple[int, int]:
    """First byte and length of the file, from a header like ``bytes 5-9/1234``; -1 if unknown."""
    found = re.fullmatch(
        r"bytes (?:\*|([0-9]{1,18})-[0-9]{1,18})/(?:\*|([0-9]{1,18}))", (header or "").strip()
    )
    first, total = found.groups() if found else (None, None)
    return int(first or -1), int(total or -1)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ``.zip`` file into a new folder, and nowhere else.

    Raises:
        DataError: If it is damaged, encrypted, too large, too deep or has too many entries, or an
            entry is a link, a duplicate or outside of the folder.
        OutputError: If it cannot be written.
    """
    try:
        with output_errors(_CANNOT_WRITE, folder, CACHE_HINT):
            folder.mkdir(parents=True)
            with zipfile.ZipFile(archive) as opened:
                problem = next(_problems_of(opened.infolist()), "")
                if problem:
                    raise DataError(
                        f"cannot unpack the archive: {problem}",
                        where=str(archive),
                        hint="do not trust this archive",
                    )
                opened.extractall(folder)
    except NotelstmError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        ValueError,  # a name that is no UTF-8, a negative offset
        OverflowError,
        RuntimeError,  # an unknown version of the format
    ) as error:
        raise DataError(
            f"the archive is damaged: {error}",
            where=str(archive),
            hint="remove it and download it again",
        ) from error


def _problems_of(entries: Sequence[zipfile.ZipInfo]) -> Iterator[str]:
    """The reasons not to unpack an archive."""
    if len(entries) > MAX_ENTRIES:
        yield f"more than {MAX_ENTRIES} entries"
    # The reader stops at the size that an entry declares, so the sum bounds what is written.
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        yield f"more than {MAX_BYTES} bytes"
    files, folders = set[tuple[str, ...]](), set[tuple[str, ...]]()
    for entry in entries:
        # As on the strictest file systems: \ separates folders, and case does not count.
        name = entry.filename.replace("\\", "/").casefold()
        parts = tuple(name.rstrip("/").split("/"))
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if any(
            part in ("", ".", "..") or ":" in part or len(part.encode()) > 255 for part in parts
        ):
            yield f"the entry {entry.filename!r} is outside of the folder"
        if len(parts) > MAX_DEPTH:
            yield f"more than {MAX_DEPTH} folders inside one another"
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"the entry {entry.filename!r} is a link or a device"
        if entry.flag_bits & 0x1:
            yield f"the entry {entry.filename!r} is encrypted"
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield f"the entry {entry.filename!r} is compressed by an unusual method"
        if parts in files or (parts in folders and not entry.is_dir()):
            yield f"the entry {entry.filename!r} is a duplicate"
        above = {parts[:k] for k in range(1, len(parts))}
        if above & files:
            yield f"the entry {entry.filename!r} is inside a file"
        folders |= above
        (folders if entry.is_dir() else files).add(parts)


def _cannot_fetch(url: str, problem: str) -> DataError:
    return DataError(
        f"cannot download the music: {problem}",
        where=url,
        hint="check the connection and try again, the download is resumed; "
        "or download and unpack it yourself and name the folder",
    )
