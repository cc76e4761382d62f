"""The folder of a run: checkpoints with checksums, the log, the best model.

.. code-block:: text

   run/
   ├── run.lock        locked while a run uses the folder
   ├── settings.json   what was asked for; a resumed run must ask for the same
   ├── log.jsonl       a line for each epoch
   ├── last.pt         the newest checkpoint: all that is needed to go on
   ├── previous.pt     the checkpoint before it, used if the newest one is damaged
   ├── epoch-0010.pt   the model as it was then, every `checkpoint_every` epochs, the latest five
   └── best.pt         the best model so far, if a callback keeps it
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import pickle
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, cast, final

import torch
from filelock import FileLock, Timeout

from notelstm.errors import OutputError, TrainingError
from notelstm.files import atomic_write

__all__ = ["RunFolder", "exclusive"]

_log = logging.getLogger(__name__)

_MARK: Final = b"notelstm sha256 "
_DIGEST: Final = 64
_END_OF_ZIP: Final = b"PK\x05\x06"
_END_OF_ZIP_SIZE: Final = 22

_GARBLED: Final = (ValueError, LookupError, TypeError, AttributeError)
"""What unpickling damaged bytes may raise besides."""


_KEPT: Final = 5
"""Models of epochs that are kept: a night's training would fill the disk with them."""


def _number(path: Path) -> int:
    """Of the epoch; more than 9,999 are not in the order of their names."""
    digits = path.stem.partition("-")[2]
    return int(digits) if digits.isdecimal() else -1


@final
class RunFolder:
    """A run's folder.

    Args:
        path: Made if it is missing.

    Raises:
        OutputError: If it cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"the run folder cannot be made: {error.strerror or error}",
                where=str(self.path),
                hint="name a folder that you may write to",
            ) from error

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any((self.path / name).exists() for name in ("last.pt", "previous.pt"))

    def thin(self) -> None:
        """Remove all but the latest models of epochs."""
        for old in sorted(self.path.glob("epoch-*.pt"), key=_number)[:-_KEPT]:
            old.unlink(missing_ok=True)

    def begin(self, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Note the settings of a new run, or check that a resumed one asks for the same.

        Args:
            settings: JSON; ``training.epochs`` may differ, so that a run can go on for longer, and
                so may the versions of the packages that parts are from.
            resume: Whether the run goes on.

        Raises:
            TrainingError: If there is a run already, there is none, or it had other settings.
        """
        for left_over in self.path.glob(".*.part"):
            left_over.unlink(missing_ok=True)
        path = self.path / "settings.json"
        text = json.dumps(dict(settings), indent=2, sort_keys=True)
        if not resume:
            if self.begun:
                raise TrainingError(
                    "the folder holds a run already",
                    where=str(self.path),
                    hint="resume it, or name another folder, or delete this one",
                )
            _write(path, text)
            return
        if not self.begun:
            raise TrainingError(
                "there is no checkpoint to resume from",
                where=str(self.path),
                hint="start it without resuming",
            )
        old, new = _read_json(path), json.loads(text)
        before, now = _flat(old), _flat(new)
        changed = sorted(
            f"{key}: {before.get(key)!r} became {now.get(key)!r}"
            for key in (before.keys() | now.keys()) - {"training.epochs"}
            if before.get(key) != now.get(key) and not key.endswith(".version")
        )
        if changed:
            raise TrainingError(
                f"the run was started with other settings: {'; '.join(changed)}",
                where=str(path),
                hint="use the old settings, or start a new run in another folder",
            )
        if old != new:
            _write(path, text)

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values to ``<name>.pt``, whole or not at all, with a checksum.

        The checkpoint ``last`` that was there before is kept as ``previous``.

        Raises:
            OutputError: If it cannot be written; what was there before is still there.
        """
        path = self.path / f"{name}.pt"
        with atomic_write(path) as beside:
            try:
                torch.save(dict(state), beside)
            except RuntimeError as error:
                # torch's zip writer reports a full disk as a RuntimeError.
                raise OSError(str(error).splitlines()[0]) from error
            _append_checksum(beside)
            if name == "last" and path.exists():
                path.replace(self.path / "previous.pt")

    def load(self, name: str) -> dict[str, Any]:
        """Read what :meth:`save` wrote; nothing but tensors and plain values is accepted.

        If ``last`` is damaged, or a crash left none, ``previous`` takes its place.

        Raises:
            TrainingError: If the file is missing or damaged.
        """
        path = self.path / f"{name}.pt"
        if name != "last":
            return _read(path)
        previous = self.path / "previous.pt"
        try:
            return _read(path)
        except TrainingError as error:
            if not previous.exists():
                raise
            try:
                state = _read(previous)
            except TrainingError as other:
                raise TrainingError(f"{error.problem}; {other.problem}", hint=error.hint) from other
            if path.exists():
                _log.warning("%s; resuming from the one before it, %s", error.problem, previous)
            # From now on it is the newest: the damaged one must not become `previous`.
            previous.replace(path)
            return state


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Keep other runs out of a run folder.

    The operating system holds the lock, so that a killed process leaves none.

    Args:
        folder: Made if it is missing; None for a run without a folder.

    Raises:
        TrainingError: If another run uses the folder.
        OutputError: If the folder cannot be made or written to.
    """
    if folder is None:
        yield
        return
    path = RunFolder(folder).path
    lock = FileLock(path / "run.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise TrainingError(
            "another run is using the folder",
            where=str(path),
            hint="wait until it has ended, or name another folder",
        ) from error
    except OSError as error:
        raise OutputError(
            f"the run folder cannot be locked: {error.strerror or error}",
            where=str(path),
            hint="name a folder that you may write to",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _append_checksum(path: Path) -> None:
    """Write a SHA-256 of a zip file's bytes into its comment; torch.load reads it as before."""
    with path.open("rb+") as file:
        file.seek(-_END_OF_ZIP_SIZE, os.SEEK_END)
        if file.read(4) != _END_OF_ZIP:
            raise OSError("torch wrote no zip file")
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", len(_MARK) + _DIGEST))
        file.write(_MARK)
        size = file.tell()
        file.seek(0)
        digest = _digest(file, size)
        file.seek(size)
        file.write(digest)


def _digest(file: IO[bytes], size: int) -> bytes:
    """SHA-256 of the first `size` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(min(size, 2**20)):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()


def _check(path: Path) -> None:
    """Compare the checksum of a file that :meth:`RunFolder.save` wrote.

    Raises:
        ValueError: If it is another one, or there is none.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - _DIGEST
        if size < 0:
            raise ValueError("the file is cut off")
        file.seek(0)
        found = _digest(file, size)
        if file.read() != found:
            raise ValueError("the checksum does not match")


def _read(path: Path) -> dict[str, Any]:
    """The state in a file, after its checksum was compared."""
    try:
        _check(path)
        return cast(dict[str, Any], torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {path}", hint="start the run anew in another folder"
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, *_GARBLED) as error:
        raise TrainingError(
            f"damaged checkpoint {path}: {str(error).splitlines()[0]}",
            hint="start the run anew in another folder",
        ) from error


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The leaves of a tree of settings under their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        deeper = isinstance(value, Mapping) and value
        leaves |= _flat(value, f"{before}{name}.") if deeper else {before + name: value}
    return leaves


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise TrainingError(
            f"the settings of the run cannot be read: {error}",
            where=str(path),
            hint="start the run anew in another folder",
        ) from error
