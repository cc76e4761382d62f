"""Matplotlib charts: losses of a training run, features of real and of generated music.

Each function draws on the axes that it is given. The colours (Okabe and Ito) can be distinguished
by colour-blind readers; lines differ in their dashes as well.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError, DataNotFoundError, did_you_mean
from notelstm.notes import Notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["epochs_of", "feature_shares", "training_curves"]

_log = logging.getLogger(__name__)

_BLUE: Final = "#0072B2"
_RED: Final = "#D55E00"
_GREY: Final = "#dbdbdb"
_EDGE: Final = "#7f7f7f"
_MOST_LETTERS: Final = 23
_MOST_EPOCHS: Final = 10**9
_LARGEST_VALUE: Final = 1e100


def training_curves(log: str | os.PathLike[str], ax: Axes, *, field: str = "") -> None:
    """Draw the losses of a run by epoch, and mark the minimum of the validation loss.

    Args:
        log: The run's ``log.jsonl``, or its folder. Damaged lines are left out with a warning.
        ax: The matplotlib axes to draw on.
        field: The field whose loss is drawn, such as ``"pitch"``; "" for the total loss.

    Raises:
        DataNotFoundError: If there is no such log.
        DataError: If the log cannot be read, or has no epoch.
        ConfigError: If the log has no losses of the field.
    """
    from matplotlib.ticker import MaxNLocator

    path = Path(log) / "log.jsonl" if Path(log).is_dir() else Path(log)
    lines = epochs_of(path)
    if not lines:
        raise DataError(
            "no epochs in the log", where=str(path), hint="wait until the first epoch is done"
        )
    ending = f"/{field}" if field else ""
    if not any(f"loss{ending}" in line for line in lines):
        names = sorted({name[5:] for line in lines for name in line if name.startswith("loss/")})
        hint = f"use one of: {', '.join(names)}" if names else "name the log.jsonl of another run"
        if not names and any("loss" in line for line in lines):
            hint = "leave out the field"
        problem = f"no losses of field {field!r}{did_you_mean(field, names)}"
        raise ConfigError(problem if field else "no total losses", where=str(path), hint=hint)
    for name, label, colour, dashes in (
        ("loss", "training", _BLUE, "-"),
        ("validation", "validation", _RED, "--"),
    ):
        found = [(x["epoch"], x[name + ending]) for x in lines if name + ending in x]
        if not found:
            continue
        epochs, values = np.array(found).T
        # A line through a single point would be invisible.
        marker = "o" if len(found) == 1 else ""
        ax.plot(epochs, values, color=colour, linestyle=dashes, marker=marker, label=label)
        if name == "validation":
            best = int(np.argmin(values))
            ax.plot(epochs[best], values[best], "o", color=colour, markersize=7)
            ax.annotate(
                f"{values[best]:.3f} at epoch {epochs[best]:.0f}",
                (epochs[best], values[best]),
                xytext=(0, -16),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"loss of {field}" if field else "loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(ax)


def feature_shares(
    real: Sequence[Notes], generated: Sequence[Notes], ax: Axes, *, feature: str
) -> None:
    """Draw the distribution of a feature in real and in generated pieces.

    Every piece has the same weight, whatever its length.

    Args:
        real: Pieces of at least two notes.
        generated: Pieces of at least two notes.
        ax: The matplotlib axes to draw on.
        feature: One of :data:`~notelstm.evaluation.features.FEATURES`.

    Raises:
        ConfigError: If there is no such feature.
        DataError: If there are no pieces, or a piece has fewer than two notes.
    """
    # Imported here because evaluation imports torch, which pictures and sound do not need.
    from notelstm.evaluation.features import FEATURES, bin_names

    if feature not in FEATURES:
        raise ConfigError(
            f"unknown feature {feature!r}{did_you_mean(feature, FEATURES)}",
            hint=f"use one of: {', '.join(FEATURES)}",
        )
    names = bin_names(feature)
    at = np.arange(len(names))
    ax.bar(at, _mean(real, feature), width=0.9, color=_GREY, ec=_EDGE, lw=0.6, label="real")
    outline = _mean(generated, feature)
    ax.step(at, outline, where="mid", color=_BLUE, linewidth=1.8, label="generated")
    # As many labels as fit side by side in a small chart.
    every = -(-sum(map(len, names)) // _MOST_LETTERS)
    ax.set_xticks(at[::every], names[::every])
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(feature)
    ax.set_ylabel("share of notes")
    _finish(ax)


def epochs_of(path: Path) -> list[dict[str, float]]:
    """The numbers that a run's log has for each epoch.

    Damaged lines, and values that are not finite numbers, are left out; a warning is logged that
    counts the damaged lines. A last line without a line break is still being written: it is left
    out without a warning.

    Args:
        path: The ``log.jsonl``.

    Raises:
        DataNotFoundError: If there is no such file.
        DataError: If the file cannot be read, or every line of it is damaged.
    """
    hint = "name the log.jsonl of a run"
    if not path.exists():
        raise DataNotFoundError(f"no such log: {path}", hint=hint)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problem = f"the log cannot be read: {error.strerror or error}"
        raise DataError(problem, where=str(path), hint=hint) from error
    lines = text[: text.rfind("\n") + 1].split("\n")[:-1]
    epochs = [epoch for line in lines if (epoch := _epoch_of(line)) is not None]
    damaged = len(lines) - len(epochs)
    if damaged and not epochs:
        raise DataError("every line of the log is damaged", where=str(path), hint=hint)
    if damaged:
        _log.warning("%s: %d damaged of %d lines left out", path, damaged, len(lines))
    return epochs


def _epoch_of(line: str) -> dict[str, float] | None:
    """The numbers of one line of a log, or None if the line is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, Mapping):
        return None
    numbers = {
        name: float(value)
        for name, value in found.items()
        if type(value) in (int, float) and abs(value) <= _LARGEST_VALUE
    }
    epoch = numbers.get("epoch", 0.0)
    return numbers if 1 <= epoch <= _MOST_EPOCHS and epoch.is_integer() else None


def _mean(pieces: Sequence[Notes], feature: str) -> NDArray[np.float64]:
    from notelstm.evaluation.features import histograms

    if not len(pieces):
        raise DataError("no pieces to draw", hint="give at least one piece")
    return np.asarray(np.mean([histograms(piece)[feature] for piece in pieces], axis=0))


def _finish(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False)
