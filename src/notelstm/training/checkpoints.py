"""Checkpoints of a run, in memory and in the run folder."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import logging
import os
import pickle
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, cast, final

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from notelstm.errors import ConfigError, OutputError, TrainingError
from notelstm.files import atomic_write
from notelstm.protocols import NoteModel, State
from notelstm.training.distributed import DistributedGroup
from notelstm.training.step import Precision, TrainerState
from notelstm.tree import flatten, leaf, move, unflatten

__all__ = ["Checkpoints", "RunFolder", "Stateful", "exclusive"]

_log = logging.getLogger(__name__)

_MARK: Final = b"notelstm sha256 "
_DIGEST: Final = 64
_END_OF_ZIP: Final = b"PK\x05\x06"
_END_OF_ZIP_SIZE: Final = 22

_UNPICKLING_ERRORS: Final = (ValueError, LookupError, TypeError, AttributeError)
"""Errors that unpickling damaged bytes may raise, besides ``UnpicklingError``."""

_MOST_SECONDS: Final = 600
"""The time after which a checkpoint is due, also within an epoch."""

_EPOCH_MODELS: Final = 5
"""The number of models of epochs that are kept, so that a long run does not fill the disk."""


class Stateful(Protocol):
    """A callback with a state."""

    def state_dict(self) -> dict[str, Any]:
        """The state, as tensors and plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state."""
        ...


@final
@dataclass(kw_only=True)
class Checkpoints:
    """The newest checkpoint of a run, its best model, and the snapshot for a rollback.

    A checkpoint has the state of all processes of the run, as tensors and plain values. All
    processes call the methods together, except those of the best model; the main process has the
    states and the folder.

    Attributes:
        model: The model that is trained.
        optimizer: Its optimizer.
        position: The position of the run, updated in place.
        group: The processes of the run.
        callbacks: The callbacks with a state.
        folder: The run folder; None to keep nothing on disk.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    position: TrainerState
    group: DistributedGroup
    callbacks: Sequence[Stateful]
    folder: RunFolder | None
    _best: dict[str, Tensor] | None = None
    _snapshot: dict[str, Any] | None = None
    _saved: float = field(default_factory=time.monotonic)

    @property
    def are_due(self) -> bool:
        """Whether the newest checkpoint, or the start of the run, was ten minutes ago."""
        return self.folder is not None and time.monotonic() - self._saved >= _MOST_SECONDS

    def save_best(self) -> None:
        """Keep the current weights as the best so far."""
        model = self.model.state_dict()
        self._best = {name: tensor.detach().cpu().clone() for name, tensor in model.items()}
        if self.folder is not None:
            self.folder.save("best", self._best)

    def load_best(self) -> None:
        """Load the best weights, if some were kept."""
        if self._best is not None:
            self.model.load_state_dict(self._best)

    def snapshot(self) -> None:
        """Keep the current state for a rollback, unless an epoch was resumed in its middle."""
        has_older = self._snapshot is not None and self.position.batch > 0
        if not self.group.broadcast_object(has_older):
            self._snapshot = copy.deepcopy(self._state())

    def rollback(self) -> None:
        """Restore the last snapshot.

        Raises:
            ConfigError: If there is none.
        """
        snapshot = self.group.broadcast_object(self._snapshot)
        if snapshot is None:
            raise ConfigError(
                "there is no snapshot to roll back to",
                hint="call trainer.snapshot() in on_train_start",
            )
        # The optimizer updates the tensors that it loads in place.
        self._restore(copy.deepcopy(snapshot))

    def save(self, precision: Precision, name: str | None = None) -> None:
        """Write the newest checkpoint, and a copy of the model under `name`.

        Raises:
            OutputError: If it cannot be written; the old one is still there.
        """
        state = self._state()
        self._saved = time.monotonic()
        if self.folder is None:
            return
        if name is not None:
            self.folder.save(name, self.model.state_dict())
            self.folder.remove_old_models()
        self.folder.save(
            "last",
            {
                **state,
                "precision": precision,
                "best": self._best,
                # Between epochs, the snapshot is this very state.
                "good": self._snapshot if self.position.batch else None,
                "callbacks": [(type(c).__name__, c.state_dict()) for c in self.callbacks],
            },
        )

    def load(self) -> Precision:
        """Load the newest checkpoint; the one before it where the newest is damaged.

        Returns:
            The precision of the run.

        Raises:
            TrainingError: If there is none, or it is of another run.
        """
        saved: dict[str, Any] = {}
        if self.group.is_main_process:
            if self.folder is None:
                raise TrainingError(
                    "there is no run folder to resume from", hint="pass folder= to the Trainer"
                )
            saved = self.folder.load("last")
        saved = self.group.broadcast_object(saved)
        try:
            self._restore(saved)
            precision: Precision = saved["precision"]
            if self.group.is_main_process:
                self._best, self._snapshot = saved["best"], saved["good"]
                self._restore_callbacks(saved["callbacks"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(
                "the checkpoint is of another model, optimizer or callbacks: "
                f"{str(error).strip().splitlines()[-1].strip()}",
                where="" if self.folder is None else str(self.folder.path),
                hint="resume with the parts that the run was started with",
            ) from error
        return precision

    def _restore_callbacks(self, saved: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Load the states of the callbacks."""
        now, then = [type(c).__name__ for c in self.callbacks], [name for name, _ in saved]
        if now != then:
            raise TrainingError(
                f"the callbacks are {', '.join(now) or 'none'}; the run was started with "
                f"{', '.join(then) or 'none'}",
                hint="resume with the callbacks that the run was started with",
            )
        for callback, (_, state) in zip(self.callbacks, saved, strict=True):
            callback.load_state_dict(state)

    def _state(self) -> dict[str, Any]:
        """The current state of all processes, in the main process; empty in the others."""
        at, group = self.position, self.group
        sums = None if at.sums is None else group.all_reduce_sum(at.sums.clone())
        carried = {} if at.carried is None else flatten(at.carried)
        device = self._device
        device_rng = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        parts = group.gather_object(
            ({k: v.cpu() for k, v in carried.items()}, torch.get_rng_state(), device_rng)
        )
        if not parts:
            return {}
        states = [carried for carried, _, _ in parts if carried]
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": at.epoch,
            "batch": at.batch,
            "steps": at.steps,
            "rate_scale": at.rate_scale,
            "carried": {k: torch.cat([part[k] for part in states]) for k in (states or [{}])[0]},
            "sums": sums,
            "rng": [rng for _, rng, _ in parts],
            "device_rng": [rng for _, _, rng in parts],
        }

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Load a state, also one of another number of processes."""
        at, group, device = self.position, self.group, self._device
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        at.epoch, at.batch, at.steps = saved["epoch"], saved["batch"], saved["steps"]
        at.rate_scale = saved["rate_scale"]
        at.carried = self._carried(saved["carried"])
        # The sums of all processes are counted once.
        sums = saved["sums"]
        at.sums = sums.to(device) if sums is not None and group.is_main_process else None
        if len(saved["rng"]) == group.world_size:
            torch.set_rng_state(saved["rng"][group.rank].cpu())
            device_rng = saved["device_rng"][group.rank]
            if device_rng is not None and device.type == "cuda":
                torch.cuda.set_rng_state(device_rng.cpu(), device)

    def _carried(self, saved: Mapping[str, Tensor]) -> State | None:
        """The carried state of this process's sequences."""
        if not saved:
            return None
        mine = self.group.shard_slice(len(next(iter(saved.values()))))
        if mine.start == mine.stop:
            return None
        template = cast(NoteModel, self.model).initial_state(mine.stop - mine.start)[1]
        return move(unflatten(template, {k: v[mine] for k, v in saved.items()}), self._device)

    @property
    def _device(self) -> torch.device:
        # A state may have no tensors, a context has some.
        return leaf(cast(NoteModel, self.model).initial_state(1)[0]).device


@final
class RunFolder:
    """The folder of a run, made if it is missing.

    .. code-block:: text

       run/
       ├── run.lock        locked while a run uses the folder
       ├── settings.json   the settings of the run; a resumed run must have the same
       ├── log.jsonl       one line for each epoch
       ├── last.pt         the newest checkpoint, with everything needed to resume
       ├── previous.pt     the checkpoint before it, used if the newest one is damaged
       ├── epoch-0010.pt   the model every `checkpoint_every` epochs, the latest five
       └── best.pt         the best model so far, if a callback keeps it

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
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any((self.path / name).exists() for name in ("last.pt", "previous.pt"))

    def remove_old_models(self) -> None:
        """Remove all but the latest models of epochs."""
        # Epochs above 9,999 are not in the order of their names.
        models = [p for p in self.path.glob("epoch-*.pt") if p.stem[6:].isdecimal()]
        for old in sorted(models, key=lambda path: int(path.stem[6:]))[:-_EPOCH_MODELS]:
            old.unlink(missing_ok=True)

    def open(self, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Write the settings of a new run, or compare those of a resumed one.

        Args:
            settings: JSON; ``training.epochs`` may differ, to lengthen a run, and so may the
                versions of the packages that parts are from.
            resume: Whether the run is resumed.

        Raises:
            TrainingError: If there is a run already, there is none, or it had other settings.
        """
        for unfinished in self.path.glob(".*.part"):
            unfinished.unlink(missing_ok=True)
        path = self.path / "settings.json"
        text = json.dumps(dict(settings), indent=2, sort_keys=True)
        if not resume:
            if self.has_checkpoint:
                raise TrainingError(
                    "the folder holds a run already",
                    where=str(self.path),
                    hint="resume it, or name another folder, or delete this one",
                )
            _write(path, text)
            return
        if not self.has_checkpoint:
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
        """Write tensors and plain values to ``<name>.pt``, atomically and with a checksum.

        The old checkpoint ``last`` is kept as ``previous``.

        Raises:
            OutputError: If it cannot be written; the old file is kept.
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
        """Read the tensors and plain values that :meth:`save` wrote, and nothing else.

        If ``last`` is damaged, or missing after a crash, ``previous`` takes its place.

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
            # The next save must not keep the damaged file as `previous`.
            previous.replace(path)
            return state


@contextlib.contextmanager
def exclusive(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Lock a run folder, made if it is missing, against other runs until the process ends.

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
    """Write the SHA-256 of a zip file into its comment, which torch.load ignores."""
    with path.open("rb+") as file:
        file.seek(-_END_OF_ZIP_SIZE, os.SEEK_END)
        if file.read(4) != _END_OF_ZIP:
            raise OSError("torch wrote no zip file")
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", len(_MARK) + _DIGEST) + _MARK)
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").hexdigest().encode())


def _read(path: Path) -> dict[str, Any]:
    """Read a file that :meth:`RunFolder.save` wrote, after its checksum was compared."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[:-_DIGEST]).hexdigest().encode() != data[-_DIGEST:]:
            raise ValueError("the checksum does not match")
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"there is no checkpoint {path}", hint="start a new run in another folder"
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, *_UNPICKLING_ERRORS) as error:
        raise TrainingError(
            f"damaged checkpoint {path}: {str(error).splitlines()[0]}",
            hint="start a new run in another folder",
        ) from error
    return cast(dict[str, Any], found)


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
            hint="start a new run in another folder",
        ) from error
