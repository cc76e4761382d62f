"""``notelstm report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from notelstm.cli.options import Flag, shown
from notelstm.cli.outputs import check_outputs, run_folder
from notelstm.listening import save_report
from notelstm.listening.page import check_page_path

__all__ = ["report"]


def report(
    run: Annotated[Path, tyro.conf.Positional, arg(metavar="RUN")],
    other: Annotated[Path | None, tyro.conf.Positional, shown("[OTHER]")] = None,
    /,
    *,
    output: Annotated[Path, arg(aliases=["-o"], metavar="PAGE")],
    overwrite: Flag = False,
) -> None:
    """Write a page on a training run, or on two runs to compare them.

    The page has curves of the losses, the learning rate and the throughput, baselines, samples and
    settings; of two runs, the settings that differ.

    Args:
        run: A model file whose run folder is beside it, or a run folder such as my.notelstm.run.
        other: Another one, drawn into the same charts.
        output: The page to write, .html.
        overwrite: Replace the page if it exists.
    """
    check_page_path(output)
    check_outputs([output], overwrite=overwrite)
    save_report(_folder(run), output, compare_to=None if other is None else _folder(other))
    print(f"wrote {output}: open it in a browser")


def _folder(run: Path) -> Path:
    """The run folder that a path means."""
    beside = run_folder(run)
    return beside if not run.is_dir() and beside.is_dir() else run
