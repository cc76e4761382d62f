"""Charts for pages: every point is where it belongs, and the chart has a text alternative."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from notelstm.errors import ConfigError
from notelstm.listening import Chart
from notelstm.listening.chart import Points

LOSSES = {
    "training": [(1.0, 4.0), (2.0, 3.0), (3.0, 2.0)],
    "validation": [(1.0, 3.5), (2.0, 2.5), (3.0, 2.75)],
}
values = st.floats(-1e6, 1e6, allow_subnormal=False)


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.figure().replace("&#x27;", "'"))


def corners(figure: ElementTree.Element, number: int) -> list[tuple[float, float]]:
    (path,) = [
        p for p in figure.findall("./svg/path") if p.get("class") == f"line-{number}"
    ]  # the key's sample line is in a list
    pairs = str(path.get("d"))[1:].split("L")
    return [(float(a), float(b)) for a, b in (pair.split() for pair in pairs)]


def texts(figure: ElementTree.Element) -> list[str]:
    return [str(text.text) for text in figure.findall("./svg/text")]


def test_points_are_drawn_in_proportion() -> None:
    figure = parsed(Chart(title="Loss", lines=LOSSES))
    first, second = corners(figure, 0), corners(figure, 1)
    assert first[1][0] - first[0][0] == pytest.approx(first[2][0] - first[1][0], abs=0.11)
    down = (first[2][1] - first[0][1]) / 2
    assert first[1][1] == pytest.approx(first[0][1] + down, abs=0.11)
    # 3.5 is a quarter of the way from 4 to 2, and lower values are further down.
    assert second[0][1] == pytest.approx(first[0][1] + down / 2, abs=0.11)
    assert down > 30


def test_minima_are_marked_and_labelled() -> None:
    figure = parsed(Chart(title="Loss", lines=LOSSES))
    dots = [(c.get("cx"), c.get("cy")) for c in figure.iter("circle")]
    lowest = [corners(figure, 0)[2], corners(figure, 1)[1]]
    assert dots == [(f"{a:.1f}", f"{b:.1f}") for a, b in lowest]
    keys = ["".join(item.itertext()) for item in figure.iter("li")]
    assert keys == ["training: lowest 2.000 at epoch 3", "validation: lowest 2.500 at epoch 2"]


def test_a_chart_has_alt_text() -> None:
    (svg,) = parsed(Chart(title="Loss", lines=LOSSES)).findall("svg")
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == (
        "Loss: training from 4.000 at epoch 1 to 2.000 at epoch 3, lowest 2.000 at epoch 3; "
        "validation from 3.500 at epoch 1 to 2.750 at epoch 3, lowest 2.500 at epoch 2"
    )


@given(up=st.lists(values, min_size=1, max_size=30), first=st.integers(1, 500))
def test_any_values_are_drawn_inside_the_chart(up: list[float], first: int) -> None:
    line = [(float(first + n), value) for n, value in enumerate(up)]
    figure = parsed(Chart(title="x", lines={"a": line}))
    for a, b in corners(figure, 0):
        assert 50 <= a <= 388
        assert 12 <= b <= 190
    named = texts(figure)
    assert named[-1] == "epoch"
    # Epochs are named by whole numbers, from left to right, and not too many of them.
    across = [t for t in figure.findall("./svg/text") if t.get("y") == "208"]
    assert 1 <= len(across) <= 9
    assert all(float(str(t.text)).is_integer() for t in across)
    assert all(
        float(str(a.get("x"))) < float(str(b.get("x"))) for a, b in itertools.pairwise(across)
    )


@given(low=values, high=values)
def test_axis_labels_are_round_values(low: float, high: float) -> None:
    assume(high - low > 1e-6 * (1 + abs(low) + abs(high)))
    figure = parsed(Chart(title="x", lines={"a": [(1, low), (2, high)]}))
    named = [float(str(t.text)) for t in figure.findall("./svg/text") if t.get("x") == "44"]
    assert 2 <= len(named) <= 8
    assert named == sorted(named)
    margin = 0.07 * (high - low)
    # Six digits are shown.
    rounding = 1e-5 * max(abs(low), abs(high))
    assert low - margin - rounding <= named[0] <= named[-1] <= high + margin + rounding


def test_a_line_without_points_is_left_out() -> None:
    figure = parsed(Chart(title="x", lines={"a": [(1, 1)], "b": []}))
    assert len(figure.findall("./svg/circle")) == 1
    assert len(list(figure.iter("li"))) == 1


def test_names_are_escaped() -> None:
    nasty = '</svg><b onclick="x">\'&'
    figure = parsed(Chart(title=nasty, lines={nasty: [(1, 1), (2, 3)]}, x_label=nasty))
    assert not list(figure.iter("b"))
    (caption,) = figure.findall("figcaption")
    assert caption.text == nasty


@pytest.mark.parametrize("lines", [{}, {"a": []}, {name: [(1.0, 1.0)] for name in "abc"}])
def test_refusals(lines: dict[str, Points]) -> None:
    with pytest.raises(ConfigError, match=r"lines with points in a chart.*1 to 2"):
        Chart(title="x", lines=lines)


@given(points=st.lists(st.tuples(*[st.floats(-1e100, 1e100)] * 2), min_size=1))
def test_any_coordinates_can_be_drawn(points: list[tuple[float, float]]) -> None:
    assert "nan" not in Chart(title="x", lines={"a": points}).svg()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300])
def test_extreme_coordinates_are_rejected(value: float) -> None:
    for point in ((1.0, value), (value, 1.0)):
        with pytest.raises(ConfigError, match="not finite or too large"):
            Chart(title="x", lines={"a": [(0.0, 0.0), point]})


def test_baselines_are_horizontal_lines_inside() -> None:
    levels = {"unigram": 5.0, "repeat-last": 1.5}
    figure = parsed(Chart(title="Loss", lines=LOSSES, baselines=levels))
    found = {
        str(p.get("class")): re.fullmatch(r"M50 (\d+\.\d)H388", str(p.get("d")))
        for p in figure.findall("./svg/path")
        if str(p.get("class")).startswith("level-")
    }
    above, below = (float(found[f"level-{n}"][1]) for n in (0, 1))  # type: ignore[index]  # they match
    heights = [y for n in (0, 1) for _, y in corners(figure, n)]
    assert 12 <= above < min(heights) < max(heights) < below <= 190
    # In proportion: 4 is at two sevenths of the way from 5 to 1.5.
    assert corners(figure, 0)[0][1] == pytest.approx(above + (below - above) * 2 / 7, abs=0.11)
    keys = ["".join(item.itertext()) for item in figure.iter("li")]
    assert keys[2:] == ["unigram: 5.000", "repeat-last: 1.500"]
    (svg,) = figure.findall("svg")
    assert str(svg.get("aria-label")).endswith("; unigram 5.000; repeat-last 1.500")


def test_the_values_of_the_points_are_in_the_chart() -> None:
    (svg,) = parsed(Chart(title="Loss", lines=LOSSES, x_label="step")).findall("svg")
    assert svg.get("data-label") == "step"
    lines = [p for p in svg.findall("path") if p.get("data-x")]
    assert [(p.get("data-name"), p.get("data-x"), p.get("data-y")) for p in lines] == [
        ("training", "1 2 3", "4.000 3.000 2.000"),
        ("validation", "1 2 3", "3.500 2.500 2.750"),
    ]


def test_without_minima_the_last_values_are_told() -> None:
    rates = [(1.0, 1e-3), (2.0, 5e-4), (3.0, 2.5e-5)]
    figure = parsed(Chart(title="Rate", lines={"rate": rates}, lowest=False))
    assert not list(figure.iter("circle"))
    assert ["".join(item.itertext()) for item in figure.iter("li")] == ["rate: 2.5e-05 at epoch 3"]
    (svg,) = figure.findall("svg")
    assert svg.get("aria-label") == "Rate: rate from 0.001 at epoch 1 to 2.5e-05 at epoch 3"
    one = parsed(Chart(title="Speed", lines={"speed": [(1.0, 12345.6)]}, lowest=False))
    assert len(list(one.iter("circle"))) == 1, "a line of one point would be invisible"
    assert ["".join(item.itertext()) for item in one.iter("li")] == ["speed: 12,346 at epoch 1"]


def test_baselines_that_are_refused() -> None:
    three = dict.fromkeys("abc", 1.0)
    with pytest.raises(ConfigError, match=r"3 baselines in a chart.*at most 2"):
        Chart(title="x", lines=LOSSES, baselines=three)
    with pytest.raises(ConfigError, match=r"not finite or too large \(line 'a'\)"):
        Chart(title="x", lines=LOSSES, baselines={"a": float("nan")})
