"""The folder of a run: checkpoints that are whole or not there, the log, the best model.

.. code-block:: text

   run/
   ├── settings.json   what was asked for; a resumed run must ask for the same
   ├── log.jsonl       a line for each epoch
   ├── last.pt         the newest checkpoint: all that is needed to go on
   ├── epoch-0010.pt   the model as it was then, every `checkpoint_every` epochs, the latest five
   └── best.pt         the best model so far, if a callback keeps it
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast, final

import torch

from notelstm.errors import OutputError, TrainingError
from notelstm.files import written_whole

__all__ = ["RunFolder"]

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
                "the run folder can be made",
                got=str(error),
                where=str(self.path),
                hint="name a folder that you may write to",
            ) from error

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return (self.path / "last.pt").exists()

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
                    "a new run has a folder of its own",
                    got="one with a checkpoint in it",
                    where=str(self.path),
                    hint="resume it, or name another folder, or delete this one",
                )
            _write(path, text)
            return
        if not self.begun:
            raise TrainingError(
                "a resumed run has a checkpoint",
                got="none",
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
                "a run is resumed with the settings it was started with",
                got="; ".join(changed),
                where=str(path),
                hint="use the old settings, or start a new run in another folder",
            )
        if old != new:
            _write(path, text)

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values to ``<name>.pt``, whole or not at all.

        Raises:
            OutputError: If it cannot be written; what was there before is still there.
        """
        with written_whole(self.path / f"{name}.pt") as beside:
            try:
                torch.save(dict(state), beside)
            except RuntimeError as error:
                # torch's zip writer reports a full disk as a RuntimeError.
                raise OSError(str(error).splitlines()[0]) from error

    def load(self, name: str) -> dict[str, Any]:
        """Read what :meth:`save` wrote; nothing but tensors and plain values is accepted.

        Raises:
            TrainingError: If the file is missing or damaged.
        """
        path = self.path / f"{name}.pt"
        try:
            return cast(dict[str, Any], torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, *_GARBLED) as error:
            raise TrainingError(
                "a checkpoint can be read",
                got=f"{type(error).__name__}: {error}".splitlines()[0],
                where=str(path),
                hint="start the run anew in another folder",
            ) from error


def _write(path: Path, text: str) -> None:
    with written_whole(path) as beside:
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
            "a run's settings can be read",
            got=str(error),
            where=str(path),
            hint="start the run anew in another folder",
        ) from error
