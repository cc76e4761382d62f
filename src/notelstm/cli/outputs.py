"""Outputs that exist are replaced only with ``--overwrite``."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro
from tyro.conf import arg

__all__ = ["Overwrite", "check_folder", "check_outputs", "check_run", "remove_run"]

Overwrite: TypeAlias = Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")]
"""The type of the option ``--overwrite`` of every command that writes files."""


def check_outputs(paths: Iterable[Path | None], *, overwrite: bool) -> None:
    """Refuse outputs that exist, before any work is done.

    Args:
        paths: The files that the command will write; None is skipped.
        overwrite: Whether files may be replaced. Folders never are.

    Raises:
        OutputError: If one of them is a folder, or exists and `overwrite` is false.
    """
    from notelstm.errors import OutputError

    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise OutputError(f"{path} is a folder", hint="name a file in it")
        if not overwrite and (path.exists() or path.is_symlink()):
            raise OutputError(
                f"{path} exists already", hint="add --overwrite to replace it, or name another file"
            )


def check_folder(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not empty, before any work is done.

    Args:
        path: The folder that the command will write files to.
        overwrite: Whether files in it may be replaced.

    Raises:
        OutputError: If it is a file, or is not empty and `overwrite` is false.
    """
    from notelstm.errors import OutputError

    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file", hint="name a folder")
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise OutputError(
            f"the folder {path} is not empty",
            hint="add --overwrite to replace the files in it, or name another folder",
        )


def check_run(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder with the checkpoints of an earlier run, before any work is done.

    Args:
        folder: The run folder; it need not exist.
        overwrite: Whether the run may be replaced or continued.

    Raises:
        OutputError: If there are checkpoints in it.
    """
    from notelstm.errors import OutputError

    if not overwrite and any(folder.glob("*.pt")):
        raise OutputError(
            f"the folder {folder} holds an earlier run",
            hint="add --resume to continue it, or --overwrite to replace it",
        )


def remove_run(folder: Path) -> None:
    """Delete the folder of an earlier run.

    Args:
        folder: The run folder; it need not exist.

    Raises:
        TrainingError: If a run is using the folder.
    """
    from notelstm.training.checkpoints import exclusive

    if folder.exists():
        with exclusive(folder):
            shutil.rmtree(folder, ignore_errors=True)
