"""Files: atomic writes, and seals that show later changes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from notelstm.errors import ConfigError, NotelstmError, OutputError

__all__ = [
    "BAD_HEADER",
    "atomic_write",
    "checked_suffix",
    "displayable",
    "is_sealed",
    "out_of_resources",
    "output_errors",
    "seal",
]

BAD_HEADER: Final = (SyntaxError, tokenize.TokenError)
"""Errors of numpy, besides ValueError, for a damaged header of an array's file."""


_HINT: Final = "free some space, or name a folder that you may write to"


def displayable(text: str) -> str:
    r"""Replace lone surrogates, which cannot be encoded, by U+FFFD.

    Python decodes the bytes of file names that are not UTF-8 to such surrogates.

    Example:
        >>> displayable("caf\udce9.mid")
        'caf�.mid'
    """
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def checked_suffix(
    path: str | os.PathLike[str], suffixes: Sequence[str], kind: str, *, hint: str = ""
) -> str:
    """The suffix of an output in lower case, checked before the work whose result it shows.

    Raises:
        ConfigError: If it is not one of `suffixes`; `kind` names the format in the message.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        known = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise ConfigError(
            f"unknown {kind} format {suffix!r}" if suffix else f"the {kind} file has no suffix",
            where=str(path),
            hint=hint or f"name a file that ends in {known}",
        )
    return suffix


@contextlib.contextmanager
def output_errors(problem: str, where: object, hint: str = _HINT) -> Iterator[None]:
    """Raise an OSError of the operating system as an OutputError: the problem and its reason."""
    try:
        yield
    except NotelstmError:  # some are an OSError as well
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{problem}: {reason}", where=str(where), hint=hint) from error


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, hint: str = _HINT) -> Iterator[Path]:
    """Give a temporary path beside `path`, which is renamed to `path` on success.

    Other processes see the old file or the new one, never a part of it, even after a crash.

    Args:
        path: The file to write; its folder is created if missing.
        hint: The hint of the error if it cannot be written.

    Yields:
        A path in the same folder.

    Raises:
        OutputError: If the file cannot be written: no space, no permission, or `path` is a folder,
            a device or a pipe, or cannot be the path of a file.
    """
    final = Path(path)
    if not final.name or "\0" in str(final):
        raise OutputError(f"not the path of a file: {str(final)!r}", hint="name a file")
    # Of a name that is as long as names can be, the beginning: 50 characters have up to 200 bytes.
    beside = final.with_name(f".{final.name[:50]}.{secrets.token_hex(4)}.part")
    try:
        with output_errors("cannot write the file", final, hint):
            if final.exists() and not (final.is_file() or final.is_dir()):
                # Renaming would replace a device, for root even /dev/null.
                raise OutputError(
                    "not a file but a device or a pipe", where=str(final), hint="name a file"
                )
            final.parent.mkdir(parents=True, exist_ok=True)
            beside.touch()
            mode = beside.stat().st_mode
            yield beside
            # Some writers create files that only their owner can read; the umask shall apply.
            beside.chmod(mode)
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(beside, final)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def seal(path: Path, checksum: int) -> None:
    """Record in a file's modification time that its content matches its checksum, at least 0.

    The fraction of the second becomes a function of the checksum. Any later write changes it, so
    a large file needs to be read only once to be checked.
    """
    # Without write access or fractions of seconds, the file is checked each time.
    with contextlib.suppress(OSError):
        second = path.stat().st_mtime_ns // 10**9
        changed = second * 10**9 + _fraction(checksum)
        os.utime(path, ns=(changed, changed))


def is_sealed(path: Path, checksum: int) -> bool:
    """Whether a file was not written to since :func:`seal` with this checksum.

    Raises:
        OSError: If its state cannot be read.
    """
    return path.stat().st_mtime_ns % 10**9 == _fraction(checksum)


def _fraction(checksum: int) -> int:
    """Nanoseconds below a second, in the steps of 100 that NTFS counts in."""
    return checksum % 10**7 * 100


def out_of_resources(error: OSError) -> bool:
    """Whether the process ran out of descriptors or memory."""
    return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
