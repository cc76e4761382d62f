"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from notelstm.errors import OutputError

__all__ = ["BAD_HEADER", "displayable", "written_whole"]

BAD_HEADER: Final = (SyntaxError, tokenize.TokenError)
"""What numpy raises besides ValueError where the header of an array's file is damaged."""


def displayable(text: str) -> str:
    r"""Replace lone surrogates, which cannot be encoded, by U+FFFD.

    Python decodes the bytes of file names that are not UTF-8 to such surrogates.

    Args:
        text: A text that may contain file names.

    Example:
        >>> displayable("caf\udce9.mid")
        'caf�.mid'
    """
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it is renamed to `path`.

    Whoever reads `path` meanwhile, or after a crash, finds the old file or the new one, never a
    part of it.

    Args:
        path: Where the file is to be; its folder is made if it is missing.

    Yields:
        A path in the same folder.

    Raises:
        OutputError: If the file cannot be written: no space, no permission, a folder, a device or a
            pipe in the way.
    """
    final = Path(path)
    beside = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
    if final.exists() and not (final.is_file() or final.is_dir()):
        # Renaming onto a device would put a file in its place: for root, in that of /dev/null.
        raise OutputError(
            "a result is written to a file",
            got="a device or a pipe",
            where=str(final),
            hint="name a file",
        )
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        mode = beside.stat().st_mode
        yield beside
        # Some writers make files that only their owner can read; the umask decides, not they.
        beside.chmod(mode)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, final)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            "the file can be written",
            got=error.strerror or str(error),
            where=str(final),
            hint="free some space, or name a folder that you may write to",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
