"""Fetching an archive from the web, for once and whole."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, Final, cast

from tqdm.auto import tqdm

from notelstm.data.lock import locked
from notelstm.errors import DataError, OutputError

__all__ = ["download", "fetch_folder", "unpack"]

TRIES: Final = 5
"""How often a connection that breaks is made anew without a byte having come."""

_BLOCK: Final = 1 << 16
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.5

_log = logging.getLogger(__name__)


def fetch_folder(url: str, folder: Path, *, sha256: str, progress: bool = True) -> Path:
    """Download an archive and unpack it, unless the folder is already there.

    Several processes may do this at once; one of them does. What has been downloaded when it is
    interrupted is gone on with the next time.

    Args:
        url: A ``.zip`` file.
        folder: The folder that is in the archive, where it is to be.
        sha256: The archive's checksum, 64 hexadecimal digits.
        progress: Show a progress bar.

    Returns:
        The folder.

    Raises:
        DataError: If the archive cannot be fetched, is not what it should be, or holds no such
            folder.
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
                raise DataError(f"the archive holds the folder {folder.name}", where=url)
            (beside / folder.name).rename(folder)
            archive.unlink()
        except OSError as error:
            raise _cannot_write(folder, error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def download(url: str, path: Path, *, sha256: str, progress: bool = True) -> None:
    """Download a file, going on with what is there of it, and check it.

    Args:
        url: Where it is.
        path: Where it is to be; what has come so far is kept beside it, as ``<name>.part``.
        sha256: Its checksum, 64 hexadecimal digits.
        progress: Show a progress bar.

    Raises:
        DataError: If it cannot be fetched, or has another checksum.
        OutputError: If it cannot be written.
    """
    if path.exists() and _checksum(path) == sha256:
        return
    part = path.with_name(path.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, progress)
        found = _checksum(part)
        if found != sha256:
            part.unlink()
            raise DataError(
                f"the download has the SHA-256 {sha256}",
                got=found,
                where=url,
                hint="try again; if it stays so, the file at that address has been replaced",
            )
        os.replace(part, path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _fetch(url: str, part: Path, progress: bool) -> None:
    """Bring the file at `part` up to its whole length, however often the connection breaks."""
    idle = 0
    bar: tqdm[Any]
    with tqdm(desc=url.rpartition("/")[2], unit="B", unit_scale=True, disable=not progress) as bar:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                if _fetch_once(url, part, before, bar):
                    return
                problem = "the connection ended early"
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code not in (408, 429):
                    raise _cannot_fetch(url, f"HTTP {error.code} {error.reason}") from error
                problem = f"HTTP {error.code} {error.reason}"
            except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
                problem = str(getattr(error, "reason", "") or error) or type(error).__name__
            after = part.stat().st_size if part.exists() else 0
            idle = 0 if after > before else idle + 1
            if idle >= TRIES:
                raise _cannot_fetch(url, problem)
            _log.info("%s: %s; going on at byte %d", url, problem, after)
            time.sleep(_PAUSE * idle)


def _fetch_once(url: str, part: Path, have: int, bar: tqdm[Any]) -> bool:
    """One connection; whether the file is whole after it."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with contextlib.ExitStack() as stack:
        try:
            opened = urllib.request.urlopen(request, timeout=_PATIENCE)
        except urllib.error.HTTPError as error:
            # 416: nothing is left to fetch, or what is here is of another file.
            if error.code != 416:
                raise
            total = _total(error.headers.get("Content-Range", ""))
            error.close()
            if total != have:
                part.unlink()
            return total == have
        answer = stack.enter_context(cast(HTTPResponse, opened))
        if have and answer.status != 206:
            have = 0  # a server without ranges sends it from the start
        length = answer.headers.get("Content-Length")
        wanted = have + int(length) if length else None
        bar.reset(wanted)
        bar.update(have)
        file = stack.enter_context(part.open("r+b" if have else "wb"))
        file.seek(have)
        file.truncate()
        while block := _read(answer):
            file.write(block)
            bar.update(len(block))
        return wanted is None or file.tell() == wanted


def _read(answer: HTTPResponse) -> bytes:
    try:
        return answer.read(_BLOCK)
    except OSError as error:  # TLS has kinds of its own; a full disk must not be taken for them
        raise ConnectionError(error.strerror or str(error)) from error


def _total(content_range: str) -> int:
    """The length of the whole file from a header like ``bytes */1234``; -1 if it does not say."""
    text = content_range.rpartition("/")[2]
    return int(text) if text.isdigit() else -1


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ``.zip`` file into a new folder; nothing of it lands anywhere else.

    Raises:
        DataError: If it is not a whole archive, or an entry would land outside, or is a link.
        OutputError: If it cannot be written.
    """
    try:
        folder.mkdir(parents=True)
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                _check_entry(entry, archive)
            opened.extractall(folder)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise DataError(
            "the archive can be unpacked", got=str(error), where=str(archive), hint="fetch it again"
        ) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _check_entry(entry: zipfile.ZipInfo, archive: Path) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    leaves = path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
    if leaves or stat.S_ISLNK(entry.external_attr >> 16):
        raise DataError(
            "an archive's entries land in its folder",
            got=entry.filename,
            where=str(archive),
            hint="do not trust this archive",
        )


def _cannot_fetch(url: str, problem: str) -> DataError:
    return DataError(
        "the music can be downloaded",
        got=problem,
        where=url,
        hint="check the connection and try again, it goes on where it stopped; "
        "or fetch and unpack it yourself and name the folder",
    )


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        "the download can be written",
        got=error.strerror or str(error),
        where=str(path),
        hint="free some space, or set NOTELSTM_CACHE to another disk",
    )
