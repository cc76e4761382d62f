"""Piano rolls: time to the right, pitch upwards, drums below, one bar for each note.

The notes of one instrument are coloured by velocity, those of several by instrument.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from notelstm.errors import ConfigError, MissingExtraError, NotesError, did_you_mean
from notelstm.files import atomic_write, checked_suffix, displayable
from notelstm.listening.styles import COLOURS, SHAPES, Style, style_of
from notelstm.midi.writing import instrument_labels, instruments_of
from notelstm.notes import PITCH_CLASSES, Notes, TempoMap
from notelstm.programs import drum_name

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

__all__ = [
    "Grid",
    "bar_starts",
    "check_picture_path",
    "piano_roll",
    "pitch_name",
    "save_piano_roll",
]

Grid: TypeAlias = Literal["seconds", "bars"]
"""The unit of the vertical lines of a piano roll."""

FORMATS: Final = (".png", ".svg")
"""The suffixes of picture files."""

_PROMPT_TINT: Final = "#f6efe2"
_SHADES: Final = ("viridis_r", 0.45, 1.0)
"""The part of the colour map that is visible on white: teal, blue, purple."""
_PROMPT_SHADES: Final = ("YlOrBr", 0.68, 0.92)
"""Brown, which colour-blind readers can distinguish from the others."""
_PROMPT_FRAME: Final = "#8a4b08"
"""The frames of the prompt's notes, where colours are those of instruments."""
_BLACK_KEY_TINT: Final = (0.0, 0.0, 0.0, 0.04)
_GAP: Final = 0.04
"""The share of each bar that is left white at its end."""
_APART: Final = 1.2
"""Points between a bar and the next one of its pitch; half of their distance if they are closer."""
_LEAST: Final = 0.6
"""The width of the shortest bar, points."""
_HALF: Final = 0.42
"""Half the height of the loudest bar, in semitones."""
_SOFTEST: Final = 0.65
"""The height of the softest bar, as a share of the loudest, where colours are of instruments."""
_LEGEND_BELOW: Final = 0.55
"""Inches from the axis to the legend, which leave room for numbers and a label."""
_DRUM_ROW: Final = 2.0
"""The height of the row of a drum, in semitones."""


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
    legend: bool = True,
) -> None:
    """Draw a piano roll.

    Loud notes are dark. The colours (a part of viridis) keep their order of lightness for
    colour-blind readers and in print. The prompt is brown on a tinted background.

    The notes of several instruments differ by instrument in colour and in shape, and loud notes
    are higher; the notes of the prompt have a brown frame. Percussion has a row for each drum
    below the pitches.

    Args:
        notes: The piece.
        ax: The matplotlib axes to draw on.
        prompt_notes: The number of notes at the beginning that are the prompt.
        grid: Vertical lines at ``"seconds"``, or at the ``"bars"`` of the piece's tempo map.
        colorbar: Whether to draw a colour bar of the velocities, if they differ and the piece has
            one instrument.
        legend: Whether to name the instruments below the picture, if there are several.

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
    rows = _rows(notes)
    end = max(notes.end_time, 1e-3)
    ax.set_xlim(0, end)
    ax.set_ylim(rows.bottom, rows.top)
    _draw_rows(ax, rows)
    _draw_time(ax, notes.tempo_map, end, grid)
    prompt = np.arange(len(notes)) < prompt_notes
    if prompt.any():
        _draw_border(
            ax, float(notes.start[prompt_notes]) if prompt_notes < len(notes) else end, end
        )
    instruments = instruments_of(notes, None)
    numbers = np.zeros(len(notes), np.int64)
    for number, one in enumerate(instruments):
        numbers[one.notes] = number
    right = _right_sides(notes, numbers, ax, end)
    if len(instruments) > 1:
        handles = []
        for number, one in enumerate(instruments):
            style = style_of(number, drum=one.drum)
            for side, frame in ((~prompt, "none"), (prompt, _PROMPT_FRAME)):
                played = side & (numbers == number)
                _draw_instrument(ax, notes[played], right[played], rows, style, frame)
            handles.append(_legend_handle(style))
        if legend:
            _draw_legend(ax, handles, instrument_labels(instruments))
        return
    if prompt.any():
        _draw_notes(ax, notes[prompt], right[prompt], rows, _PROMPT_SHADES)
    scale = _draw_notes(ax, notes[~prompt], right[~prompt], rows, _SHADES)
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

    rows = _rows(notes)
    width = float(np.clip(notes.end_time / 4, 9, 24))
    height = float(np.clip((rows.top - rows.bottom - 1) / 11, 3, 6 if not rows.drums else 9))
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


class _Rows(NamedTuple):
    """The rows of a picture: the pitches, and below them the drums, the lowest key at the bottom.

    Attributes:
        pitches: The lowest and the highest pitch; None if there are only drums.
        drums: The drum keys that are played, ascending.
    """

    pitches: tuple[int, int] | None
    drums: tuple[int, ...]

    @property
    def _floor(self) -> float:
        """The lower side of the pitches."""
        return self.pitches[0] - 0.5 if self.pitches else 0.0

    @property
    def top(self) -> float:
        """The upper side of the picture."""
        return self.pitches[1] + 0.5 if self.pitches else 0.0

    @property
    def bottom(self) -> float:
        """The lower side of the picture."""
        return self._floor - _DRUM_ROW * len(self.drums)

    def middle(self, notes: Notes) -> NDArray[np.float64]:
        """(N,) the middle of each note's row."""
        if notes.drum is None:
            return notes.pitch.astype(np.float64)
        drums = self.bottom + _DRUM_ROW * (np.searchsorted(self.drums, notes.pitch) + 0.5)
        return np.where(notes.drum, drums, notes.pitch)

    def half(self, notes: Notes) -> NDArray[np.float64]:
        """(N,) half the height of the loudest bar in each note's row."""
        drum = np.zeros(len(notes), np.bool_) if notes.drum is None else notes.drum
        return np.where(drum, _HALF * _DRUM_ROW, _HALF)


def _rows(notes: Notes) -> _Rows:
    """The rows for a piece: two semitones beyond its pitches, at least an octave."""
    drum = np.zeros(len(notes), np.bool_) if notes.drum is None else notes.drum
    drums = tuple(np.unique(notes.pitch[drum]).tolist())
    pitches = notes.pitch[~drum]
    if not pitches.size:
        return _Rows(None if drums else (60, 72), drums)
    low, high = int(pitches.min()) - 2, int(pitches.max()) + 2
    missing = max(0, 12 - (high - low))
    return _Rows((max(0, low - missing // 2), min(127, high + (missing + 1) // 2)), drums)


def _draw_rows(ax: Axes, rows: _Rows) -> None:
    """Shade the black keys, label every C, or all white keys of a narrow range, and the drums."""
    white = {0, 2, 4, 5, 7, 9, 11}
    low, high = rows.pitches or (0, -1)
    for pitch in range(low, high + 1):
        if pitch % 12 not in white:
            ax.axhspan(pitch - 0.5, pitch + 0.5, color=_BLACK_KEY_TINT, linewidth=0, zorder=0)
        if pitch % 12 == 0:
            ax.axhline(pitch - 0.5, color="0.8", linewidth=0.6, zorder=0.5)
    named = white if high - low <= 18 else {0}
    ticks = [float(pitch) for pitch in range(low, high + 1) if pitch % 12 in named]
    labels = [pitch_name(int(pitch)) for pitch in ticks]
    for number, key in enumerate(rows.drums):
        at = rows.bottom + _DRUM_ROW * number
        ax.axhline(at + _DRUM_ROW, color="0.8", linewidth=0.6, zorder=0.5)
        ticks.append(at + _DRUM_ROW / 2)
        labels.append(drum_name(key))
    if rows.drums and rows.pitches:
        ax.axhline(rows.pitches[0] - 0.5, color="0.25", linewidth=1, zorder=0.6)
    ax.set_yticks(ticks, labels)
    for label in ax.get_yticklabels()[len(ticks) - len(rows.drums) :]:
        label.set_fontsize(7)
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("pitch" if rows.pitches else "drum")
    ax.spines[["top", "right", "left"]].set_visible(False)


def _draw_time(ax: Axes, beats: TempoMap | None, end: float, grid: Grid) -> None:
    if grid == "bars":
        if beats is None:
            raise NotesError(
                "a grid of bars needs a tempo map, and the piece has none",
                hint="use grid='seconds'",
            )
        seconds = bar_starts(beats, end)
        numbers = np.arange(1, seconds.size + 1)
        every = max(1, -(-len(numbers) // 24))
        shown = numbers % every == (1 if every > 1 else 0)
        ax.set_xticks(seconds[shown], [str(n) for n in numbers[shown]])
        for second in seconds:
            ax.axvline(second, color="0.85", linewidth=0.6, zorder=0.5)
    else:
        ax.grid(axis="x", color="0.85", linewidth=0.6)
        ax.set_axisbelow(True)
    ax.set_xlabel("bar" if grid == "bars" else "seconds")


def bar_starts(beats: TempoMap, end: float) -> NDArray[np.float64]:
    """The second at which each bar up to `end` begins.

    An upbeat is before bar 1. Without a time signature, a bar is four quarter notes.
    """
    last = float(beats.beats_at(end))
    changes = beats.time_signature_beats if beats.time_signature_beats.size else np.zeros(1)
    lengths = (
        beats.numerators * 4.0 / beats.denominators
        if beats.time_signature_beats.size
        else np.full(1, 4.0)
    )
    # Time signatures after the end have no bars.
    borders = np.minimum(np.append(changes, last), last)
    starts = [
        np.arange(low, high - 1e-6, length)
        for low, high, length in zip(borders[:-1], borders[1:], lengths, strict=True)
    ]
    return beats.seconds_at(np.concatenate(starts))


def _draw_border(ax: Axes, border: float, end: float) -> None:
    """Tint the background of the prompt, and draw a line where the continuation begins."""
    ax.axvspan(0, border, color=_PROMPT_TINT, linewidth=0, zorder=-1)
    transform = ax.get_xaxis_transform()
    ax.text(0, 1.01, "prompt", fontsize=9, va="bottom", transform=transform)
    if border < end:
        ax.axvline(border, color="0.25", linewidth=1, linestyle=(0, (4, 3)), zorder=3)
        ax.text(border, 1.01, "continuation", fontsize=9, va="bottom", transform=transform)


def _right_sides(
    notes: Notes, instruments: NDArray[np.int64], ax: Axes, end: float
) -> NDArray[np.float64]:
    """(N,) the right side of each bar, before the next bar of its pitch and instrument, if any.

    Where notes overlap, MIDI files that notelstm writes end the first one there, too. The gap is
    one on paper, so that it can be seen at the scale of the axes.
    """
    point = end / (ax.get_window_extent().width * 72 / ax.figure.dpi)  # seconds
    places = np.stack([128 * instruments + notes.pitch, notes.start])
    unique, number = np.unique(places, axis=1, return_inverse=True)
    following = np.full(unique.shape[1], np.inf)
    same = unique[0, 1:] == unique[0, :-1]
    following[:-1][same] = unique[1, 1:][same]
    space = following[number.reshape(-1)] - notes.start
    length = np.maximum((1 - _GAP) * notes.duration, _LEAST * point)
    return np.asarray(
        notes.start + np.minimum(length, np.maximum(space - _APART * point, space / 2))
    )


def _draw_notes(
    ax: Axes,
    notes: Notes,
    right: NDArray[np.float64],
    rows: _Rows,
    colours: tuple[str, float, float],
) -> ScalarMappable:
    """Draw a bar for each note in a part of a colour map; returns the colours for a colour bar."""
    _need_matplotlib()
    import matplotlib as mpl
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    name, softest, loudest = colours
    shades = LinearSegmentedColormap.from_list(
        name, mpl.colormaps[name](np.linspace(softest, loudest, 128))
    )
    (corners,) = _corners(notes, right, rows, "bar", rows.half(notes))
    bars = PolyCollection(
        list(corners), cmap=shades, norm=Normalize(1, 127), linewidths=0, zorder=2
    )
    bars.set_array(notes.velocity)
    ax.add_collection(bars, autolim=False)
    return bars


def _corners(
    notes: Notes,
    right: NDArray[np.float64],
    rows: _Rows,
    shape: str,
    half: NDArray[np.float64],
) -> list[NDArray[np.float64]]:
    """The corners of the notes, (N, corners, 2) for each polygon of the shape."""
    middle = rows.middle(notes)[:, None]
    left, width = notes.start[:, None], (right - notes.start)[:, None]
    return [
        np.stack([left + width * x, middle + half[:, None] * y], axis=-1)
        for x, y in (np.array(polygon, np.float64).T for polygon in SHAPES[shape])
    ]


def _draw_instrument(
    ax: Axes,
    notes: Notes,
    right: NDArray[np.float64],
    rows: _Rows,
    style: Style,
    frame: str,
) -> None:
    """Draw the notes of one of several instruments, with a frame of a colour or "none"."""
    _need_matplotlib()
    from matplotlib.collections import PolyCollection

    if not len(notes):
        return
    half = rows.half(notes)
    loudness = _SOFTEST + (1 - _SOFTEST) * notes.velocity / 127
    bars = [
        bar for part in _corners(notes, right, rows, style.shape, half * loudness) for bar in part
    ]
    colour = COLOURS["light"][style.colour]
    ax.add_collection(
        PolyCollection(bars, facecolors=colour, linewidths=0, zorder=2),
        autolim=False,
    )
    if frame != "none":
        (frames,) = _corners(notes, right, rows, "bar", half)
        ax.add_collection(
            PolyCollection(
                list(frames), facecolors="none", edgecolors=frame, linewidths=0.8, zorder=2.1
            ),
            autolim=False,
        )


def _legend_handle(style: Style) -> Artist:
    """A note of an instrument, for the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.path import Path as Outline

    polygons = [
        Outline([((2 * x - 1) * 1.6, y * 0.8) for x, y in (*polygon, polygon[0])], closed=True)
        for polygon in SHAPES[style.shape]
    ]
    colour = COLOURS["light"][style.colour]
    marker = Outline.make_compound_path(*polygons)
    return Line2D(
        [], [], color=colour, marker=marker, markersize=16, markeredgewidth=0, linestyle="none"
    )  # fmt: skip


def _draw_legend(ax: Axes, handles: list[Artist], labels: Sequence[str]) -> None:
    """Name the instruments below the picture."""
    from matplotlib.transforms import ScaledTranslation

    below = ScaledTranslation(0, -_LEGEND_BELOW, ax.figure.dpi_scale_trans)
    made = ax.legend(
        handles,
        [""] * len(handles),  # matplotlib leaves out labels that begin with an underscore
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + below,
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize=8,
        borderaxespad=0,
        handletextpad=0.8,
    )
    for text, label in zip(made.get_texts(), labels, strict=True):
        text.set_parse_math(False)  # the name may contain $, which is no formula
        text.set_text(displayable(label))
