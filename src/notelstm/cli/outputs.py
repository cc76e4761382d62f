"""Outputs that exist are replaced only with ``--overwrite``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from notelstm.errors import OutputError

__all__ = ["check_folder", "check_outputs", "check_run", "remove_run", "run_folder"]


def check_outputs(paths: Iterable[Path | None], *, overwrite: bool) -> None:
    """Raise OutputError for an output that is a folder, or exists and may not be replaced.

    The checks of this module are made before a command does any work. None is skipped.
    """
    for path in filter(None, paths):
        if path.is_dir():
            raise OutputError(f"{path} is a folder", hint="name a file in it")
        if not overwrite and (path.exists() or path.is_symlink()):
            raise OutputError(
                f"{path} exists already", hint="add --overwrite to replace it, or name another file"
            )


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if the folder to write to is a file, or has files that must be kept."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file", hint="name a folder")
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise OutputError(
            f"the folder {path} is not empty",
            hint="add --overwrite to replace the files in it, or name another folder",
        )


def run_folder(output: Path) -> Path:
    """The folder of a run, beside its model file."""
    return output.with_name(output.name + ".run")


def check_run(folder: Path, *, overwrite: bool) -> None:
    """Raise OutputError if a run folder has checkpoints that must be kept; it need not exist."""
    if not overwrite and any(folder.glob("*.pt")):
        raise OutputError(
            f"the folder {folder} holds an earlier run",
            hint="add --resume to continue it, or --overwrite to replace it",
        )


def remove_run(folder: Path) -> None:
    """Delete a run folder if it exists; TrainingError if a run is using it."""
    from notelstm.training.checkpoints import exclusive

    if folder.exists():
        with exclusive(folder):
            shutil.rmtree(folder, ignore_errors=True)
