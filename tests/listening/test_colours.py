"""Colours, measured: contrast as WCAG 2.2 has it, and what colour-blind readers see.

Colour blindness is simulated with the matrices of Machado, Oliveira and Fernandes (2009) for a
cone that is missing; how far two colours are apart is measured in CIELAB.
"""

from __future__ import annotations

import colorsys
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import notelstm.listening
from notelstm.listening.styles import COLOURS, SHAPES, style_of

CSS = (Path(notelstm.listening.__file__).parent / "page.css").read_text(encoding="utf-8")
SIGHTS = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
APART = 25.0
"""A difference in CIELAB that is seen at once: ten times the least that is seen at all."""

Colour = NDArray[np.float64]


def themes() -> dict[str, dict[str, str]]:
    """The page's custom properties, in light and in dark."""
    light, dark = (
        dict(re.findall(r"(--[a-z-]+): ([^;]+);", block))
        for block in re.findall(r":root \{([^}]+)\}", CSS)
    )
    return {"light": light, "dark": {**light, **dark}}


THEMES = themes()


def rgb(text: str) -> Colour:
    digits = text.strip().removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * d for d in digits)
    return np.array([int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)])


def linear(colour: Colour) -> Colour:
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def lightness(colour: Colour) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((lightness(one), lightness(other)))
    return (high + 0.05) / (low + 0.05)


def lab(colour: Colour, sight: str) -> Colour:
    seen = np.clip(np.array(SIGHTS[sight]) @ linear(colour), 0, 1)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.array(matrix) @ seen / [0.95047, 1.0, 1.08883]
    f = [np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: Colour, other: Colour, sight: str) -> float:
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


def shades(theme: str) -> list[Colour]:
    """The colours of notes from soft to loud, as the page mixes them."""
    stops = np.array([rgb(stop) for stop in THEMES[theme]["--notes"].split(",")])
    at = np.linspace(0, len(stops) - 1, 60)
    return list(np.stack([np.interp(at, range(len(stops)), c) for c in stops.T], axis=1))


def test_the_measures_are_right() -> None:
    assert contrast(rgb("#fff"), rgb("#000")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#fff")) == pytest.approx(4.48, abs=0.01)
    red, green = rgb("#d02020"), rgb("#6a7a00")
    assert apart(red, green, "all cones") > 2 * apart(red, green, "deuteranopia")


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read(theme: str) -> None:
    colours = {name: value for name, value in THEMES[theme].items() if name != "--notes"}
    for ink, grounds in {
        "--ink": ("--ground", "--panel", "--prompt"),
        "--quiet": ("--ground", "--panel", "--prompt"),
        "--on-accent": ("--accent",),
    }.items():
        for ground in grounds:
            assert contrast(rgb(colours[ink]), rgb(colours[ground])) >= 4.5, (ink, ground)


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_drawn_can_be_seen(theme: str) -> None:
    colours = THEMES[theme]
    panel, prompt = rgb(colours["--panel"]), rgb(colours["--prompt"])
    # The lane of a black key: 9 % of a middle grey over the ground.
    sequence = 0.91 * panel + 0.09 * 128 / 255
    for shade in shades(theme):
        assert min(contrast(shade, panel), contrast(shade, sequence)) >= 3
    assert contrast(rgb(colours["--prompt-note"]), prompt) >= 3
    for name in ("--first", "--second", "--accent"):
        assert contrast(rgb(colours[name]), panel) >= 3
        assert contrast(rgb(colours[name]), rgb(colours["--ground"])) >= 3


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", THEMES)
def test_prompt_and_continuation_are_told_apart_by_all(theme: str, sight: str) -> None:
    prompt = rgb(THEMES[theme]["--prompt-note"])
    assert min(apart(shade, prompt, sight) for shade in shades(theme)) >= APART
    lines = rgb(THEMES[theme]["--first"]), rgb(THEMES[theme]["--second"])
    assert apart(*lines, sight) >= APART


@pytest.mark.parametrize("theme", THEMES)
def test_the_prompt_has_the_colour_by_which_the_page_names_it(theme: str) -> None:
    """Brown is a dark orange."""
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb(THEMES[theme]["--prompt-note"]))
    assert 20 <= 360 * hue <= 40
    assert saturation > 0.7
    name = "orange" if value >= 0.8 else "brown" if value <= 0.72 else "neither"
    assert name == THEMES[theme]["--prompt-name"]


@pytest.mark.parametrize("theme", THEMES)
def test_keys_can_be_seen(theme: str) -> None:
    white, black, edge, name = (
        rgb(THEMES[theme][f"--{key}"]) for key in ("white-key", "black-key", "key-edge", "key-name")
    )
    assert contrast(white, black) >= 10
    assert contrast(white, edge) >= 3
    assert contrast(white, name) >= 4.5


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", THEMES)
def test_loudness_keeps_its_order(theme: str, sight: str) -> None:
    seen = [float(lab(shade, sight)[0]) for shade in shades(theme)]
    pairs = itertools.pairwise(seen if theme == "dark" else seen[::-1])
    assert all(after > before - 0.2 for before, after in pairs)
    assert abs(seen[-1] - seen[0]) > 35


INSTRUMENTS_APART = 20.0
"""Less than for two colours, because there are eight, and shapes and names differ too."""


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", THEMES)
def test_instruments_are_told_apart_by_all(theme: str, sight: str) -> None:
    colours = [rgb(colour) for colour in COLOURS[theme]]
    assert len(colours) == 8
    for one, other in itertools.combinations(colours, 2):
        assert apart(one, other, sight) >= INSTRUMENTS_APART


@pytest.mark.parametrize("theme", THEMES)
def test_instruments_can_be_seen(theme: str) -> None:
    panel, prompt = (rgb(THEMES[theme][name]) for name in ("--panel", "--prompt"))
    # Rows of black keys, as above, also in the prompt.
    grounds = [g for ground in (panel, prompt) for g in (ground, 0.91 * ground + 0.09 * 128 / 255)]
    for colour in COLOURS[theme]:
        limits = [contrast(rgb(colour), ground) for ground in grounds]
        assert limits[0] >= 3
        assert min(limits) >= 2.5
    assert contrast(rgb(THEMES[theme]["--prompt-note"]), panel) >= 3


def test_colour_is_never_the_only_difference() -> None:
    """Two instruments of one colour differ in shape, and so do any five neighbours."""
    styles = [style_of(number) for number in range(40)]
    assert len(set(styles)) == 40
    for number in range(36):
        assert len({style.shape for style in styles[number : number + 5]}) == 5
    assert {style_of(number, drum=True).shape for number in range(40)} == {"bar"}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_begin_and_end_with_their_notes(shape: str) -> None:
    corners = np.array([corner for polygon in SHAPES[shape] for corner in polygon])
    assert (corners.min(axis=0) == [0, -1]).all()
    assert (corners.max(axis=0) == [1, 1]).all()
    assert (np.abs(corners[corners[:, 0] == 0, 1]).max()) == 1, "the onset has the full height"


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_same_for_pictures(sight: str) -> None:
    mpl = pytest.importorskip("matplotlib")
    from notelstm.listening.pianoroll import (
        _PROMPT_FRAME,
        _PROMPT_SHADES,
        _PROMPT_TINT,
        _SHADES,
    )
    from notelstm.listening.plots import _BLUE, _EDGE, _GREY, _RED

    def part(name: str, low: float, high: float) -> list[Colour]:
        return [np.array(mpl.colormaps[name](at)[:3]) for at in np.linspace(low, high, 40)]

    prompt, rest = part(*_PROMPT_SHADES), part(*_SHADES)
    assert min(apart(a, b, sight) for a in prompt for b in rest) >= APART
    assert min(contrast(shade, rgb("#fff")) for shade in rest) >= 3
    assert min(contrast(shade, rgb(_PROMPT_TINT)) for shade in prompt) >= 3
    assert contrast(rgb(_PROMPT_FRAME), rgb(_PROMPT_TINT)) >= 3
    assert apart(rgb(_BLUE), rgb(_RED), sight) >= APART
    assert apart(rgb(_BLUE), rgb(_GREY), sight) >= APART
    for line, ground in ((_BLUE, "#fff"), (_RED, "#fff"), (_BLUE, _GREY), (_EDGE, "#fff")):
        assert contrast(rgb(line), rgb(ground)) >= 3
