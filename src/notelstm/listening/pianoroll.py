"""Piano rolls: time to the right, pitch upwards, one bar for each note, coloured by velocity."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, MissingExtraError, NotesError, did_you_mean
from notelstm.files import atomic_write, checked_suffix, displayable
from notelstm.notes import PITCH_CLASSES, Notes, TempoMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

__all__ = ["Grid", "check_picture_path", "piano_roll", "pitch_name", "save_piano_roll"]

Grid: TypeAlias = Literal["seconds", "bars"]
"""The unit of the vertical lines of a piano roll."""

FORMATS: Final = (".png", ".svg")
"""The suffixes of picture files."""

_PROMPT_TINT: Final = "#f6efe2"
_SHADES: Final = ("viridis_r", 0.45, 1.0)
"""The part of the colour map that is visible on white: teal, blue, purple."""
_PROMPT_SHADES: Final = ("YlOrBr", 0.68, 0.92)
"""Brown, which colour-blind readers can distinguish from the others."""
_BLACK_KEY_TINT: Final = (0.0, 0.0, 0.0, 0.04)
_GAP: Final = 0.04
"""The share of each bar that is left white at its end, to separate repeated notes."""


def pitch_name(pitch: int) -> str:
    """The name of a MIDI note number in scientific pitch notation.

    Args:
        pitch: 0 to 127.

    Example:
        >>> pitch_name(60), pitch_name(70)
        ('C4', 'A♯4')
    """
    return f"{PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}"


def piano_roll(
    notes: Notes,
    ax: Axes,
    *,
    prompt_notes: int = 0,
    grid: Grid = "seconds",
    colorbar: bool = True,
) -> None:
    """Draw a piano roll.

    Loud notes are dark. The colours (a part of viridis) keep their order of lightness for
    colour-blind readers and in print. The prompt is brown on a tinted background.

    Args:
        notes: The piece.
        ax: The matplotlib axes to draw on.
        prompt_notes: The number of notes at the beginning that are the prompt.
        grid: Vertical lines at ``"seconds"``, or at the ``"bars"`` of the piece's tempo map.
        colorbar: Whether to draw a colour bar of the velocities, if they differ.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ConfigError: If the grid is unknown, or `prompt_notes` is negative.
        NotesError: If the grid is ``"bars"`` and the piece has no tempo map.
    """
    if grid not in get_args(Grid):
        raise ConfigError(
            f"unknown grid {grid!r}{did_you_mean(grid, get_args(Grid))}",
            hint="use 'seconds' or 'bars'",
        )
    if prompt_notes < 0:
        raise ConfigError(f"negative prompt length {prompt_notes}", hint="use 0 for no prompt")
    low, high = _pitch_range(notes)
    end = max(notes.end_time, 1e-3)
    ax.set_xlim(0, end)
    ax.set_ylim(low - 0.5, high + 0.5)
    _draw_keys(ax, low, high)
    _draw_time(ax, notes.tempo_map, end, grid)
    first = notes[:prompt_notes]
    if len(first):
        _draw_border(
            ax, float(notes.start[prompt_notes]) if prompt_notes < len(notes) else end, end
        )
        _draw_notes(ax, first, _PROMPT_SHADES)
    scale = _draw_notes(ax, notes[prompt_notes:], _SHADES)
    if colorbar and len(set(notes.velocity.tolist())) > 1:
        bar = ax.figure.colorbar(scale, ax=ax, pad=0.01, fraction=0.03, aspect=30)
        bar.set_label("velocity")
        bar.set_ticks([1, 32, 64, 96, 127])
        bar.outline.set_visible(False)


def save_piano_roll(
    notes: Notes,
    path: str | os.PathLike[str],
    *,
    prompt_notes: int = 0,
    grid: Grid = "seconds",
    title: str = "",
) -> None:
    """Write a piano roll to a picture file, whole or not at all.

    Args:
        notes: The piece.
        path: The file to write, ``.png`` or ``.svg``.
        prompt_notes: As for :func:`piano_roll`.
        grid: As for :func:`piano_roll`.
        title: The title above the picture. Bytes of a file name that are not UTF-8 are shown as
            U+FFFD.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ConfigError: If the suffix or the grid is unknown, or `prompt_notes` is negative.
        NotesError: If the grid is ``"bars"`` and the piece has no tempo map.
        OutputError: If the picture cannot be written.
    """
    suffix = check_picture_path(path)
    from matplotlib.figure import Figure

    low, high = _pitch_range(notes)
    width = float(np.clip(notes.end_time / 4, 9, 24))
    height = float(np.clip((high - low) / 11, 3, 6))
    # Not pyplot, which needs closing, may need a window system, and is not thread-safe.
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    ax = figure.add_subplot()
    piano_roll(notes, ax, prompt_notes=prompt_notes, grid=grid)
    if title:
        # The file name may contain $, which is no formula.
        figure.suptitle(displayable(title), fontsize=11, parse_math=False)
    with atomic_write(path) as beside:
        figure.savefig(beside, format=suffix[1:])


def check_picture_path(path: str | os.PathLike[str]) -> str:
    """Check the name of a picture before the work whose result it shows.

    Returns:
        The suffix.

    Raises:
        ConfigError: If the suffix is not ``.png`` or ``.svg``.
        MissingExtraError: If matplotlib is not installed.
    """
    suffix = checked_suffix(path, FORMATS, "picture")
    _need_matplotlib()
    return suffix


def _need_matplotlib() -> None:
    try:
        import matplotlib as _  # noqa: F401  # only to check that it is installed
    except ImportError as error:
        raise MissingExtraError(
            "matplotlib, which draws pictures, is not installed",
            hint="run pip install 'notelstm[plot]'",
        ) from error


def _pitch_range(notes: Notes) -> tuple[int, int]:
    """The lowest and highest pitch shown: two semitones beyond the notes, at least an octave."""
    if not len(notes):
        return 60, 72
    low, high = int(notes.pitch.min()) - 2, int(notes.pitch.max()) + 2
    missing = max(0, 12 - (high - low))
    return max(0, low - missing // 2), min(127, high + (missing + 1) // 2)


def _draw_keys(ax: Axes, low: int, high: int) -> None:
    """Shade the black keys, and label every C, or all white keys of a narrow range."""
    white = {0, 2, 4, 5, 7, 9, 11}
    for pitch in range(low, high + 1):
        if pitch % 12 not in white:
            ax.axhspan(pitch - 0.5, pitch + 0.5, color=_BLACK_KEY_TINT, linewidth=0, zorder=0)
        if pitch % 12 == 0:
            ax.axhline(pitch - 0.5, color="0.8", linewidth=0.6, zorder=0.5)
    named = white if high - low <= 18 else {0}
    ticks = [pitch for pitch in range(low, high + 1) if pitch % 12 in named]
    ax.set_yticks(ticks, [pitch_name(pitch) for pitch in ticks])
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("pitch")
    ax.spines[["top", "right", "left"]].set_visible(False)


def _draw_time(ax: Axes, beats: TempoMap | None, end: float, grid: Grid) -> None:
    if grid == "bars":
        if beats is None:
            raise NotesError(
                "a grid of bars needs a tempo map, and the piece has none",
                hint="use grid='seconds'",
            )
        numbers, seconds = _bars(beats, end)
        every = max(1, -(-len(numbers) // 24))
        shown = numbers % every == (1 if every > 1 else 0)
        ax.set_xticks(seconds[shown], [str(n) for n in numbers[shown]])
        for second in seconds:
            ax.axvline(second, color="0.85", linewidth=0.6, zorder=0.5)
    else:
        ax.grid(axis="x", color="0.85", linewidth=0.6)
        ax.set_axisbelow(True)
    ax.set_xlabel("bar" if grid == "bars" else "seconds")


def _bars(beats: TempoMap, end: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The numbers of the bars up to `end`, and the second at which each begins.

    An upbeat is before bar 1. Without a time signature, a bar is four quarter notes.
    """
    last = float(beats.beats_at(end))
    changes = beats.time_signature_beats if beats.time_signature_beats.size else np.zeros(1)
    lengths = (
        beats.numerators * 4.0 / beats.denominators
        if beats.time_signature_beats.size
        else np.full(1, 4.0)
    )
    borders = np.append(changes, max(last, float(changes[-1])))
    starts = [
        np.arange(low, high - 1e-6, length)
        for low, high, length in zip(borders[:-1], borders[1:], lengths, strict=True)
    ]
    at = np.concatenate(starts)
    return np.arange(1, at.size + 1), beats.seconds_at(at)


def _draw_border(ax: Axes, border: float, end: float) -> None:
    """Tint the background of the prompt, and draw a line where the continuation begins."""
    ax.axvspan(0, border, color=_PROMPT_TINT, linewidth=0, zorder=-1)
    transform = ax.get_xaxis_transform()
    ax.text(0, 1.01, "prompt", fontsize=9, va="bottom", transform=transform)
    if border < end:
        ax.axvline(border, color="0.25", linewidth=1, linestyle=(0, (4, 3)), zorder=3)
        ax.text(border, 1.01, "continuation", fontsize=9, va="bottom", transform=transform)


def _draw_notes(ax: Axes, notes: Notes, colours: tuple[str, float, float]) -> ScalarMappable:
    """Draw a bar for each note in a part of a colour map; returns the colours for a colour bar."""
    _need_matplotlib()
    import matplotlib as mpl
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    name, softest, loudest = colours
    shades = LinearSegmentedColormap.from_list(
        name, mpl.colormaps[name](np.linspace(softest, loudest, 128))
    )
    left, right = notes.start, notes.end - _GAP * notes.duration
    low, high = notes.pitch - 0.42, notes.pitch + 0.42
    corners = np.stack(  # (N, 4, 2)
        [
            np.stack([x, y], axis=-1)
            for x, y in ((left, low), (left, high), (right, high), (right, low))
        ],
        axis=1,
    )
    bars = PolyCollection(
        list(corners), cmap=shades, norm=Normalize(1, 127), linewidths=0.5, zorder=2
    )
    bars.set_array(notes.velocity)
    bars.set_edgecolor("face")
    ax.add_collection(bars, autolim=False)
    return bars
