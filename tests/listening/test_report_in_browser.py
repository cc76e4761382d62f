"""A run's page in Chromium: what a training has just written is seen and heard."""

from __future__ import annotations

import json
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
    assert len(charts) == 7
    # On a phone they are one below the other, each as wide as the page.
    assert len({chart.rect["y"] for chart in charts}) == (7 if width < 500 else 3)
    for chart in charts:
        assert chart.rect["x"] >= 0
        assert chart.rect["x"] + chart.rect["width"] <= width
        picture = chart.find_element("css selector", ":scope > svg")
        assert picture.size["width"] > 300
        lines = chart.find_elements("css selector", ":scope > svg > path[class^=line]")
        assert all(line.size["width"] > 150 for line in lines)
        text = chart.find_element("tag name", "text")
        assert text.size["height"] >= 11, "the labels can be read"
    for chart in charts[:5]:
        picture = chart.find_element("css selector", ":scope > svg")
        assert "validation from" in picture.accessible_name
        assert "unigram" in picture.accessible_name
        lines = chart.find_elements("css selector", ":scope > svg > path[class^=line]")
        colours = {line.value_of_css_property("stroke") for line in lines}
        assert len(colours) == len(lines) == 2
        levels = chart.find_elements("css selector", ":scope > svg > path[class^=level]")
        assert len({line.value_of_css_property("stroke-dasharray") for line in levels}) == 2
    titles = [chart.find_element("tag name", "figcaption").text for chart in charts[5:]]
    assert titles == ["Learning rate", "Throughput (targets per second)"]


def test_values_on_hover_and_focus(opened: Chrome, report: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    log = (report.parent / "mine.notelstm.run" / "log.jsonl").read_text(encoding="utf-8")
    epochs = [json.loads(line) for line in log.splitlines()]
    wanted = [
        f"epoch {n}\ntraining {e['loss']:.3f}\nvalidation {e['validation']:.3f}"
        for n, e in enumerate(epochs, 1)
    ]
    chart = opened.find_element("class name", "chart")
    picture = chart.find_element("css selector", ":scope > svg")
    tip = chart.find_element("class name", "tip")
    assert not tip.is_displayed()
    for share, text in ((-0.35, wanted[0]), (0.1, wanted[1]), (0.45, wanted[2])):
        across = round(share * picture.size["width"])
        ActionChains(opened).move_to_element_with_offset(picture, across, 0).perform()
        assert tip.text == text
        shown = tip.rect
        assert chart.rect["x"] <= shown["x"]
        assert shown["x"] + shown["width"] <= chart.rect["x"] + chart.rect["width"]
    assert len(chart.find_elements("css selector", "circle.at")) == 2
    ActionChains(opened).move_to_element(opened.find_element("tag name", "h1")).perform()
    assert not tip.is_displayed()
    # The first stop of the Tab key.
    ActionChains(opened).send_keys("\ue004").perform()
    over = opened.switch_to.active_element
    assert (over.aria_role, over.accessible_name) == ("slider", "Values: Loss")
    assert tip.text == over.get_attribute("aria-valuetext") == wanted[0]
    ActionChains(opened).send_keys("\ue014\ue014\ue014").perform()
    assert tip.text == over.get_attribute("aria-valuetext") == wanted[2]
    ActionChains(opened).send_keys("\ue004").perform()
    assert not tip.is_displayed()
    assert opened.execute_script("return player.position") == 0, "the arrows did not seek"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_violations(opened: Chrome, scheme: str) -> None:
    from axe_core_python import selenium as engine  # an extra of the tests

    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    opened.execute_script((Path(engine.__file__).parent / "axe.min.js").read_text("utf-8"))
    opened.find_element("class name", "over").send_keys("\ue014")
    found = opened.execute_async_script(
        "const done = arguments[0]; axe.run().then((result) => done(result.violations));"
    )
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert [f"{v['id']}: {node['html'][:200]}" for v in found for node in v["nodes"]] == []


def test_samples_over_time_are_heard(opened: Chrome) -> None:
    names = [e.text for e in opened.find_elements("css selector", "#samples .name")]
    # Of one that is longer than a minute, a minute is there, and the rest is told.
    assert [name.partition(",")[0] for name in names] == [f"After epoch {n}" for n in (3, 2, 1)]
    assert opened.execute_script("return Math.max(...samples.map((one) => one.seconds))") <= 60
    opened.find_elements("css selector", "#samples button")[1].click()
    assert opened.find_element("id", "now").text == names[1]
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
