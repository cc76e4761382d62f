"""Charts: how training went, and how generated music differs from real music.

Each draws on axes that it is given. Colours are told apart by colour-blind readers (Okabe and Ito),
and lines by their dashes as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, DataError
from notelstm.notes import Notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["epochs_of", "feature_shares", "training_curves"]

_BLUE: Final = "#0072B2"
_RED: Final = "#D55E00"
_GREY: Final = "#dbdbdb"
_EDGE: Final = "#7f7f7f"
_MOST_LETTERS: Final = 23


def training_curves(log: str | os.PathLike[str], ax: Axes, *, field: str = "") -> None:
    """Draw a run's losses by epoch, and where the validation loss was lowest.

    Args:
        log: The run's ``log.jsonl``, or the folder that it is in.
        ax: The matplotlib axes to draw on.
        field: The loss of one field, such as ``"pitch"``; "" for the whole loss.

    Raises:
        DataError: If there is no such log, or nothing in it yet.
        ConfigError: If the log has no losses of the field.
    """
    from matplotlib.ticker import MaxNLocator

    path = Path(log) / "log.jsonl" if Path(log).is_dir() else Path(log)
    lines = epochs_of(path)
    if not lines:
        raise DataError("a log has at least one epoch", got="none", where=str(path))
    ending = f"/{field}" if field else ""
    if not any(f"loss{ending}" in line for line in lines):
        names = sorted(name[5:] for name in lines[0] if name.startswith("loss/"))
        raise ConfigError("a field of the log", got=repr(field), hint=f"use one of {names}")
    for name, label, colour, dashes in (
        ("loss", "training", _BLUE, "-"),
        ("validation", "validation", _RED, "--"),
    ):
        found = [(x["epoch"], x[name + ending]) for x in lines if name + ending in x]
        if not found:
            continue
        epochs, values = np.array(found).T
        # A single epoch is a point, which a line would not show.
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
    """Draw how often each value of a feature is in real and in generated pieces.

    Every piece counts the same, long or short.

    Args:
        real: Pieces of at least two notes.
        generated: Pieces of at least two notes.
        ax: The matplotlib axes to draw on.
        feature: One of :data:`~notelstm.evaluation.features.FEATURES`.

    Raises:
        ConfigError: If there is no such feature.
        DataError: If there are no pieces, or one has fewer than two notes.
    """
    # Pictures and sound need no torch, which comes with evaluation.
    from notelstm.evaluation.features import FEATURES, bin_names

    if feature not in FEATURES:
        raise ConfigError(f"a feature is one of {', '.join(FEATURES)}", got=repr(feature))
    names = bin_names(feature)
    at = np.arange(len(names))
    ax.bar(at, _mean(real, feature), width=0.9, color=_GREY, ec=_EDGE, lw=0.6, label="real")
    outline = _mean(generated, feature)
    ax.step(at, outline, where="mid", color=_BLUE, linewidth=1.8, label="generated")
    # As many names as can be read side by side in a small picture.
    every = -(-sum(map(len, names)) // _MOST_LETTERS)
    ax.set_xticks(at[::every], names[::every])
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(feature)
    ax.set_ylabel("share of notes")
    _finish(ax)


def epochs_of(path: Path) -> list[dict[str, float]]:
    """What a run's log says of each epoch so far.

    Args:
        path: The ``log.jsonl``; a last line that is still being written is left out.

    Raises:
        DataError: If there is no such file, or it is none.
    """
    if not path.is_file():
        raise DataError("a run's log is a file log.jsonl", got="no such file", where=str(path))
    lines = []
    text = path.read_text(encoding="utf-8")
    for line in text[: text.rfind("\n") + 1].splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise DataError(
                "a log is JSON, a line an epoch", got=str(error), where=str(path)
            ) from error
    return lines


def _mean(pieces: Sequence[Notes], feature: str) -> NDArray[np.float64]:
    from notelstm.evaluation.features import histograms

    if not len(pieces):
        raise DataError("features are of at least one piece", got="none")
    return np.asarray(np.mean([histograms(piece)[feature] for piece in pieces], axis=0))


def _finish(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False)
