"""Line charts for pages: SVG whose colours follow the light or dark theme of the page."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from notelstm.errors import ConfigError

__all__ = ["Chart", "Points"]

Points: TypeAlias = Sequence[tuple[float, float]]
"""The (x, y) points of a line."""

_WIDTH, _HEIGHT = 400, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 12, 40
_MOST_LINES: Final = 2
"""The page has colours and dashes for two lines, and dashes for two baselines."""
_LARGEST: Final = 1e100
"""Beyond it the arithmetic of the axes could overflow."""


@final
@dataclass(frozen=True, kw_only=True)
class Chart:
    """One or two lines over integers, such as losses by epoch, with their minima marked.

    On a page, the pointer or the arrow keys show the values of each x.

    Args:
        title: The title of the chart.
        lines: The points of each line by its name, from left to right. Lines without points are
            left out.
        x_label: The label of the x axis.
        baselines: Values by name, at most two, which are drawn as horizontal lines.
        lowest: Whether the minima matter, and are marked; otherwise the legend has the last values.

    Raises:
        ConfigError: If no line or more than two lines have points, there are more than two
            baselines, or a coordinate is not finite or exceeds 1e100.
    """

    title: str
    lines: Mapping[str, Points]
    x_label: str = "epoch"
    baselines: Mapping[str, float] = field(default_factory=dict)
    lowest: bool = True

    def __post_init__(self) -> None:
        """Check the lines."""
        if not 1 <= len(self._drawn) <= _MOST_LINES:
            raise ConfigError(
                f"{len(self._drawn)} lines with points in a chart", hint=f"give 1 to {_MOST_LINES}"
            )
        if len(self.baselines) > _MOST_LINES:
            raise ConfigError(
                f"{len(self.baselines)} baselines in a chart", hint=f"give at most {_MOST_LINES}"
            )
        levels = {name: [(0.0, level)] for name, level in self.baselines.items()}
        for name, points in [*self._drawn.items(), *levels.items()]:
            if not all(abs(value) <= _LARGEST for point in points for value in point):
                raise ConfigError(
                    "a coordinate is not finite or too large",
                    where=f"line {name!r}",
                    hint="leave such points out",
                )

    @property
    def _drawn(self) -> dict[str, Points]:
        return {name: points for name, points in self.lines.items() if points}

    def svg(self) -> str:
        """The chart as SVG, for an HTML page that styles ``line-0``, ``line-1`` and ``level-0``.

        The attributes ``data-x`` and ``data-y`` of a line have the values of its points.
        """
        points = [point for line in self._drawn.values() for point in line]
        x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
        heights = [*(y for _, y in points), *self.baselines.values()]
        y_low, y_high = min(heights), max(heights)
        if x_low == x_high:
            around = max(1.0, abs(x_low) * 1e-3)
            x_low, x_high = x_low - around, x_high + around
        margin = (y_high - y_low) * 0.06 or max(abs(y_high), 1e-3) * 0.1
        y_low, y_high = y_low - margin, y_high + margin
        x = _scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
        y = _scale(y_low, y_high, _HEIGHT - _BOTTOM, _TOP)
        parts = [*_grid(x, y, (x_low, x_high), (y_low, y_high))]
        parts.append(
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 4}" '
            f'text-anchor="middle">{html.escape(self.x_label)}</text>'
        )
        for number, level in enumerate(self.baselines.values()):
            at = f"M{_LEFT} {y(level):.1f}H{_WIDTH - _RIGHT}"
            parts.append(f'<path class="level-{number}" d="{at}"/>')
        for number, (name, line) in enumerate(self._drawn.items()):
            parts.append(_line(number, name, line, [(x(a), y(b)) for a, b in line]))
            if self.lowest or len(line) == 1:
                a, b = min(line, key=lambda point: point[1])
                dot = f'cx="{x(a):.1f}" cy="{y(b):.1f}" r="4"'
                parts.append(f'<circle class="line-{number}" {dot}/>')
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'data-label="{html.escape(self.x_label)}" '
            f'aria-label="{html.escape(self.alt_text())}">{"".join(parts)}</svg>'
        )

    def alt_text(self) -> str:
        """The chart as a sentence, for screen readers."""
        parts = []
        for name, points in self._drawn.items():
            (first, begin), (last, end) = points[0], points[-1]
            part = (
                f"{name} from {_shown(begin)} at {self.x_label} {first:g} to {_shown(end)} at "
                f"{self.x_label} {last:g}"
            )
            if self.lowest:
                at, lowest = min(points, key=lambda point: point[1])
                part += f", lowest {_shown(lowest)} at {self.x_label} {at:g}"
            parts.append(part)
        parts += [f"{name} {_shown(level)}" for name, level in self.baselines.items()]
        return f"{self.title}: {'; '.join(parts)}"

    def figure(self) -> str:
        """The chart as an HTML figure, with its title and a legend that gives the minima."""
        keys = []
        for number, (name, points) in enumerate(self._drawn.items()):
            at, value = min(points, key=lambda point: point[1]) if self.lowest else points[-1]
            what = f"{'lowest ' if self.lowest else ''}{_shown(value)} at {self.x_label} {at:g}"
            keys.append(_key(f"line-{number}", f"{name}: {what}"))
        for number, (name, level) in enumerate(self.baselines.items()):
            keys.append(_key(f"level-{number}", f"{name}: {_shown(level)}"))
        return (
            f'<figure class="chart"><figcaption>{html.escape(self.title)}</figcaption>'
            f"{self.svg()}<ul>{''.join(keys)}</ul></figure>"
        )


def _key(style: str, text: str) -> str:
    """An entry of the legend: a piece of the line, and its name and value."""
    sample = f'<svg viewBox="0 0 24 8" aria-hidden="true"><path class="{style}" d="M0 4H24"/></svg>'
    return f"<li>{sample}{html.escape(text)}</li>"


def _shown(value: float) -> str:
    """A value with about four digits."""
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3e}"
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}"


def _scale(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    """Map a value to SVG coordinates."""
    return lambda value: begin + (value - low) / (high - low) * (end - begin)


def _line(number: int, name: str, values: Points, points: Points) -> str:
    """A line, with the values of its points."""
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    across = " ".join(f"{a:g}" for a, _ in values)
    up = " ".join(_shown(b) for _, b in values)
    return (
        f'<path class="line-{number}" d="M{path}" data-name="{html.escape(name)}" '
        f'data-x="{across}" data-y="{up}"/>'
    )


def _grid(
    x: Callable[[float], float],
    y: Callable[[float], float],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> Iterator[str]:
    """Grid lines at round values, with labels."""
    for value in _round_values(*y_range, most=7):
        at = y(value)
        yield f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    for value in _round_values(*x_range, most=8, least=1):
        yield (
            f'<text x="{x(value):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
            f"{value:g}</text>"
        )


def _round_values(low: float, high: float, *, most: int, least: float = 0.0) -> list[float]:
    """At most `most` multiples of 1, 2 or 5 times a power of ten, at least `least` apart."""
    size = 10.0 ** math.floor(math.log10((high - low) / most))
    step = max(least, next(k * size for k in (1, 2, 5, 10, 20) if (high - low) / (k * size) < most))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]
