"""Colours and shapes by which pictures and pages distinguish the instruments of a piece."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

__all__ = ["COLOURS", "SHAPES", "Polygon", "Style", "style_of"]

Polygon: TypeAlias = tuple[tuple[float, float], ...]
"""Corners; 0 to 1 from the start of a note to its end, -1 to 1 from its lower to its upper side."""

COLOURS: Final[dict[str, tuple[str, ...]]] = {
    "light": (
        *("#2478fc", "#e40c48", "#009c6c", "#600090"),
        *("#e43ca8", "#3c4800", "#6c183c", "#c07800"),
    ),
    "dark": (
        *("#78b4fc", "#fc4860", "#ccfcc0", "#9078fc"),
        *("#cc78a8", "#f0fc60", "#00f0fc", "#fcc078"),
    ),
}
"""Eight colours for a light and a dark ground.

They were found by maximising the least distance between any two of them in CIELAB, with the three
kinds of cones and without each kind, among the colours with a contrast of 3 to 1 on the ground.
"""

SHAPES: Final[dict[str, tuple[Polygon, ...]]] = {
    "bar": (((0, -1), (0, 1), (1, 1), (1, -1)),),
    "rails": (
        ((0, 0.28), (0, 1), (1, 1), (1, 0.28)),
        ((0, -1), (0, -0.28), (1, -0.28), (1, -1)),
    ),
    "wedge": (((0, -1), (0, 1), (1, 0.12), (1, -0.12)),),
    "tail": (
        ((0, -1), (0, 1), (0.35, 1), (0.35, 0.4), (1, 0.4), (1, -0.4), (0.35, -0.4), (0.35, -1)),
    ),
    "hourglass": (((0, -1), (0, 1), (0.5, 0.2), (1, 1), (1, -1), (0.5, -0.2)),),
}
"""The shapes of notes, so that colour is not the only difference between two instruments."""


class Style(NamedTuple):
    """How the notes of an instrument are drawn.

    Attributes:
        colour: A number in each theme of :data:`COLOURS`.
        shape: A name in :data:`SHAPES`.
    """

    colour: int
    shape: str


def style_of(number: int, *, drum: bool = False) -> Style:
    """The style of the instrument of a number from 0.

    Eight and five have no common divisor, so the first forty instruments have different styles.
    Drums, which have rows of their own, are bars.

    Example:
        >>> style_of(0), style_of(9)
        (Style(colour=0, shape='bar'), Style(colour=1, shape='hourglass'))
    """
    shape = 0 if drum else number % len(SHAPES)
    return Style(number % len(COLOURS["light"]), list(SHAPES)[shape])
