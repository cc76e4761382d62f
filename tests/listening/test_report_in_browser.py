"""A run's page in Chromium: what a training has just written is seen and heard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from notelstm.cli import main
from notelstm.midi import write_midi
from notelstm.testing.makers import long_piece

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.timeout(300)  # a browser and a training, beside other tests

LEVEL = """
const sound = new Float32Array(2048);
player.synth.meter.getFloatTimeDomainData(sound);
return Math.max(...sound.map(Math.abs));
"""
SMALL = [
    "--recipe",
    "expressive",
    "--set",
    "options.hidden_size=8",
    "sequence_length=16",
    "batch_size=4",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that was resumed."""
    folder = tmp_path_factory.mktemp("run ♫")
    rng = np.random.default_rng(0)
    for n in range(4):
        write_midi(long_piece(rng, count=60, seconds=20), folder / "midi" / f"{n}.mid")
    page, model = folder / "report.html", folder / "mine.notelstm"
    argv = ["train", str(folder / "midi"), "-o", str(model), *SMALL, "--validation", "0.4"]
    argv += ["--callback", "samples:notes=20", "--report", str(page)]
    assert main([*argv, "--epochs", "2"]) == 0
    assert main([*argv, "--epochs", "3", "--resume"]) == 0
    return page


@pytest.fixture(params=[390, 1280])
def opened(request: pytest.FixtureRequest, chrome: Chrome, report: Path) -> Iterator[Chrome]:
    metrics = {
        "width": request.param,
        "height": 900,
        "deviceScaleFactor": 1,
        "mobile": request.param < 500,
    }
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chrome.get(report.as_uri())
    yield chrome
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium's


def test_curves_are_seen(opened: Chrome) -> None:
    width = opened.execute_script("return innerWidth")
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    assert opened.find_element("css selector", ".lead").text.startswith("3 of 3 epochs in ")
    charts = opened.find_elements("css selector", ".charts > figure")
    assert len(charts) == 5
    # On a phone they are side by side, to be swiped through.
    assert len({chart.rect["y"] for chart in charts}) == (1 if width < 500 else 2)
    for chart in charts:
        picture = chart.find_element("css selector", ":scope > svg")
        assert picture.size["width"] > 240
        assert "validation from" in picture.accessible_name
        lines = chart.find_elements("css selector", ":scope > svg > path[class^=line]")
        assert all(line.size["width"] > 150 for line in lines)
        colours = {line.value_of_css_property("stroke") for line in lines}
        assert len(colours) == len(lines) == 2


def test_samples_over_time_are_heard(opened: Chrome) -> None:
    names = [e.text for e in opened.find_elements("css selector", "#samples .name")]
    assert names == ["After epoch 3", "After epoch 2", "After epoch 1"]
    opened.find_elements("css selector", "#samples button")[1].click()
    assert opened.find_element("id", "now").text == "After epoch 2"
    # A model that has learnt little may be silent for long; its loudest note is heard.
    opened.execute_script(
        "const loudest = samples[chosen].notes.reduce((a, b) => b.velocity > a.velocity ? b : a);"
        "player.seek(loudest.start - 0.2)"
    )
    opened.find_element("id", "play").click()
    until = time.monotonic() + 20
    while not opened.execute_script(LEVEL) > 3e-3:
        assert time.monotonic() < until, "silence"
        time.sleep(0.05)


def test_settings_are_there(opened: Chrome) -> None:
    rows = [row.text for row in opened.find_elements("css selector", "#details tr")]
    assert {"sequence_length 16", "hidden_size 8", "name expressive", "epochs 3"} <= set(rows)


def test_its_colours_follow_the_browsers(opened: Chrome) -> None:
    def stroke() -> str:
        line = opened.find_element("css selector", ".charts .line-0")
        return line.value_of_css_property("stroke")

    light = stroke()
    media: dict[str, Any] = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    dark = stroke()
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert light != dark
