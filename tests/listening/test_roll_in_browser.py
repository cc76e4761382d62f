"""The piano roll of the pages in Chromium: keyboard, bars, zoom, names of notes, repeated notes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from notelstm.listening import Sample, save_page
from notelstm.notes import Notes, TempoMap

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

WALTZ = TempoMap(tempos=[90], time_signature_beats=[1], numerators=[3], denominators=[4])
SCALE = Notes(
    start=np.arange(40) / 2,
    end=np.arange(40) / 2 + 0.45,
    pitch=60 + np.arange(40) % 13,
    velocity=40 + 2 * np.arange(40),
    tempo_map=WALTZ,
)
REPEATS = Notes(start=np.arange(90) / 9, end=np.arange(90) / 9 + 0.2, pitch=60, velocity=100)
"""One pitch nine times a second; each note ends only after the next has begun."""
BAND = Notes(
    start=np.repeat(np.arange(20) / 2, 3),
    end=np.repeat(np.arange(20) / 2, 3) + 0.4,
    pitch=np.tile([72, 48, 38], 20),
    program=np.tile([73, 32, 0], 20),
    drum=np.tile([0, 0, 1], 20),
    track=np.tile([0, 1, 2], 20),
)
LONG = Notes(start=[0], end=[600], pitch=[60], velocity=100)
KEYS = {"right": "\ue014", "left": "\ue012", "end": "\ue010", "tab": "\ue004", "enter": "\ue007"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rolls") / "rolls.html"
    samples = [
        Sample(notes=SCALE, title="Scale", prompt_notes=5),
        Sample(notes=REPEATS, title="Repeats"),
        Sample(notes=BAND, title="Band", prompt_notes=6),
        Sample(notes=LONG, title="Long"),
        Sample(notes=Notes.empty(), title="Nothing"),
    ]
    save_page(samples, path, title="Rolls", details={"Model": {"notes": 5}})
    return path


@pytest.fixture
def opened(chrome: Chrome, page: Path) -> Iterator[Chrome]:
    """The page at desktop width; no complaint of the browser is left at the end."""
    show(chrome, page, 1280, "light")
    yield chrome
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium's


def show(chrome: Chrome, page: Path, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    chrome.get(page.as_uri())


def run(chrome: Chrome, script: str, *arguments: object) -> Any:
    return chrome.execute_script(script, *arguments)


def press(chrome: Chrome, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(chrome).send_keys(*keys).perform()


def hover(chrome: Chrome, x: float, y: float) -> Any:
    """Move the pointer to a point of the roll."""
    from selenium.webdriver.common.action_chains import ActionChains

    roll = chrome.find_element("id", "roll")
    size = roll.size
    offset = round(x - size["width"] / 2), round(y - size["height"] / 2)
    action = ActionChains(chrome).move_to_element_with_offset(roll, *offset)
    action.perform()
    return action


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something holds; the limit is for hangs."""
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def row_of_pixels(chrome: Chrome, y: float) -> list[str]:
    """The colours of the roll along a line, as hexadecimal numbers."""
    found: list[str] = run(
        chrome,
        """const roll = document.getElementById("roll");
        const pen = new OffscreenCanvas(roll.width, 1).getContext("2d");
        pen.drawImage(roll, 0, -arguments[0]);
        const points = pen.getImageData(0, 0, roll.width, 1).data;
        return Array.from({ length: roll.width }, (_, x) => [0, 1, 2].map((k) =>
          points[4 * x + k].toString(16).padStart(2, "0")).join(""));""",
        round(y),
    )
    return found


def texts(chrome: Chrome) -> list[str]:
    """The texts that the roll draws."""
    found: list[str] = run(
        chrome,
        """const drawn = [], write = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
          drawn.push(String(text));
          return write.call(this, text, ...rest);
        };
        draw();
        CanvasRenderingContext2D.prototype.fillText = write;
        return drawn;""",
    )
    return found


def box(chrome: Chrome, note: int) -> dict[str, float]:
    """Where a note is drawn: left, top, long, row."""
    found: dict[str, float] = run(
        chrome, "return geometry().box(samples[chosen].notes[arguments[0]])", note
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_keyboard_is_at_the_left_edge(opened: Chrome, page: Path, scheme: str) -> None:
    show(opened, page, 1280, scheme)
    low, high, row = run(opened, "const r = geometry().rows; return [r.low, r.high, r.row]")
    assert low < 60
    assert high > 72
    for pitch in range(low, high + 1):
        pixels = row_of_pixels(opened, (high - pitch + 0.3) * row)
        black = pitch % 12 in (1, 3, 6, 8, 10)
        assert pixels[5] == ("26241f" if black else "fdfcfa"), pitch
    assert {"C4", "C5"} <= set(texts(opened))
    # A key that sounds has the colour of its note.
    press(opened, "nnn", " ")
    wait_for(lambda: run(opened, "return player.position") > 0.05)
    run(opened, "draw()")
    place = box(opened, 0)
    pixels = row_of_pixels(opened, place["top"] + 0.7 * place["row"])
    assert pixels[5] == pixels[round(place["left"]) + 100] != "fdfcfa"


def test_drums_have_names_where_pitches_have_keys(opened: Chrome) -> None:
    press(opened, "nn")
    assert "Acoustic Snare" in texts(opened)
    left = run(opened, "return edge - KEYS")
    assert left > 10
    high, row = run(opened, "const r = geometry().rows; return [r.high, r.row]")
    pixels = row_of_pixels(opened, (high - 61 + 0.3) * row)
    assert pixels[left + 5] == "26241f"
    assert pixels[left - 5] == "ffffff"


def test_bars_are_numbered_where_the_piece_has_them(opened: Chrome) -> None:
    found = texts(opened)
    assert {"bar", "1", "2", "8"} <= set(found)
    # Three beats of 2/3 s each, after an upbeat of one: bar 2 begins at 8/3 s.
    x = round(run(opened, "return geometry().x(8 / 3)"))
    pixels = row_of_pixels(opened, 5)
    assert min(pixels[x - 1 : x + 2]) < "e4"
    assert min(pixels[x + 3 : x + 20]) == "ffffff"
    # As many numbers as there is room for.
    run(opened, "samples[chosen].bars = Array.from({ length: 200 }, (_, n) => n / 10)")
    numbers = [int(text) for text in texts(opened) if text.isdigit()]
    assert numbers[:3] == [1, 9, 17]
    press(opened, "n")
    assert "bar" not in texts(opened)


@pytest.mark.parametrize("width", [390, 1280])
def test_zoom(opened: Chrome, page: Path, width: int) -> None:
    show(opened, page, width, "light")
    shown = "return geometry().shown"
    before = run(opened, shown)
    opened.find_element("id", "zoom-in").click()
    assert run(opened, shown) == pytest.approx(before / 1.5)
    press(opened, "+")
    assert run(opened, shown) == pytest.approx(before / 2.25)
    press(opened, "-")
    press(opened, "0")
    assert run(opened, shown) == pytest.approx(SCALE.end_time)
    status = opened.find_element("id", "status")
    assert status.get_attribute("textContent") == "The whole piece is shown"
    # The play head stays where it is on the screen.
    run(opened, "seek(10)")
    head = "return geometry().x(player.position)"
    at = run(opened, head)
    for _ in range(4):
        press(opened, "+")
        assert run(opened, head) == pytest.approx(at, abs=0.5)
    for _ in range(30):
        press(opened, "+")
    assert run(opened, shown) == 1
    # Another piece is shown as at first.
    press(opened, "np")
    assert run(opened, shown) == pytest.approx(before)


def test_the_wheel_and_dragging_move_the_view(opened: Chrome) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    run(opened, "zoom(0.25)")
    second = "return geometry().second(600)"
    before = run(opened, second)
    wheel = """document.getElementById("roll").dispatchEvent(
      new WheelEvent("wheel", { ...arguments[0], cancelable: true, bubbles: true }));"""
    run(opened, wheel, {"deltaX": 100})
    after = run(opened, second)
    assert after > before + 0.2
    roll = opened.find_element("id", "roll")
    ActionChains(opened).move_to_element(roll).click_and_hold().move_by_offset(
        -120, 0
    ).release().perform()
    assert run(opened, second) > after + 0.2
    assert run(opened, "return player.position") == 0, "a drag is no click"
    run(opened, wheel, {"deltaY": -100, "ctrlKey": True})
    assert run(opened, "return geometry().shown") < 5
    # Playing follows the play head again.
    run(opened, "seek(0)")
    assert run(opened, "return page") == 0


def test_names_on_hover(opened: Chrome) -> None:
    tip = opened.find_element("id", "tip")
    assert not tip.is_displayed()
    place = box(opened, 1)
    hover(opened, place["left"] + 3, place["top"] + place["row"] / 2)
    assert tip.text == "C♯4, prompt\nat 0:00.5, 0.45 s, velocity 42"
    frame, shown = opened.find_element("class name", "roll").rect, tip.rect
    assert frame["x"] <= shown["x"]
    assert shown["x"] + shown["width"] <= frame["x"] + frame["width"]
    hover(opened, place["left"] + 3, place["top"] - 40)
    assert not tip.is_displayed()
    press(opened, "nn")
    for note, name in ((6, "C5, Flute"), (7, "C3, Acoustic Bass"), (8, "Acoustic Snare")):
        place = box(opened, note)
        hover(opened, place["left"] + 3, place["top"] + place["row"] / 2)
        assert tip.text.startswith(f"{name}\nat 0:01.0, 0.40 s, ")


def test_names_on_focus(opened: Chrome) -> None:
    press(opened, KEYS["tab"])
    notes = opened.switch_to.active_element
    assert notes.get_attribute("id") == "notes"
    assert notes.aria_role == "slider"
    assert notes.accessible_name == "Notes of Scale"
    tip = opened.find_element("id", "tip")
    assert tip.text.startswith("C4, prompt\nat 0:00.0")
    press(opened, KEYS["right"], KEYS["right"], KEYS["left"])
    assert tip.text.startswith("C♯4, prompt")
    assert notes.get_attribute("aria-valuetext") == tip.text
    assert [notes.get_attribute(f"aria-value{x}") for x in ("min", "now", "max")] == [
        "1",
        "2",
        "40",
    ]
    # A note beyond the view is moved into it, and Enter plays from there.
    run(opened, "zoom(0.2)")
    press(opened, KEYS["end"])
    assert tip.text.startswith("C4\nat 0:19.5")
    place = box(opened, 39)
    assert 44 <= place["left"] < opened.find_element("id", "roll").size["width"]
    press(opened, KEYS["enter"])
    assert run(opened, "return player.position") == 19.5
    press(opened, " ")
    assert run(opened, "return player.playing")
    press(opened, " ", KEYS["tab"])
    assert not tip.is_displayed()
    # A piece without notes has nothing to go through.
    press(opened, "p")
    assert not notes.is_displayed()


@pytest.mark.parametrize(("scheme", "colour"), [("light", "brown"), ("dark", "orange")])
def test_the_prompt_is_named_by_its_colour(
    opened: Chrome, page: Path, scheme: str, colour: str
) -> None:
    show(opened, page, 1280, scheme)
    facts, key = (opened.find_element("id", name) for name in ("facts", "prompt-name"))
    assert facts.text.endswith(f"the first 5, in {colour}, are the prompt")
    assert key.text == f"prompt ({colour})"
    press(opened, "nn")
    assert facts.text.endswith(f"the first 6, framed in {colour}, are the prompt")
    # When the theme changes, so do the names.
    other = {"light": "dark", "dark": "light"}[scheme]
    media = {"features": [{"name": "prefers-color-scheme", "value": other}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    until = "return document.getElementById('prompt-name').textContent"
    wait_for(lambda: colour not in run(opened, until))
    assert colour not in facts.text


@pytest.mark.parametrize("width", [390, 1280])
def test_repeated_notes_stay_apart(opened: Chrome, page: Path, width: int) -> None:
    """At every zoom at which a note and a gap have a pixel each."""
    show(opened, page, width, "light")
    press(opened, "n")
    for _ in range(5):
        place = box(opened, 0)
        left, right = run(
            opened, "const { x } = geometry(); return [KEYS + 3, x(samples[1].seconds)]"
        )
        y = place["top"] + place["row"] / 2
        pixels = row_of_pixels(opened, y)[round(left) : round(right) - 1]
        light = [int(p[:2], 16) > 0x80 for p in pixels]
        runs = [key for key, _ in itertools.groupby(light)]
        shown = run(
            opened,
            "const { x } = geometry(), w = document.getElementById('roll').width;"
            "return samples[1].notes.filter((n) => x(n.start) > KEYS + 3 && x(n.start) < w).length",
        )
        assert shown > 5
        assert abs(runs.count(True) - shown) <= 1, "a gap before each note"
        press(opened, "-")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_violations_in_any_state(opened: Chrome, page: Path, width: int, scheme: str) -> None:
    from axe_core_python import selenium as engine  # an extra of the tests

    show(opened, page, width, scheme)
    run(opened, (Path(engine.__file__).parent / "axe.min.js").read_text("utf-8"))

    def violations() -> list[str]:
        found = opened.execute_async_script(
            "const done = arguments[0]; axe.run().then((result) => done(result.violations));"
        )
        return [f"{v['id']}: {node['html'][:200]}" for v in found for node in v["nodes"]]

    assert violations() == []
    press(opened, KEYS["tab"], KEYS["right"])
    assert opened.find_element("id", "tip").is_displayed()
    assert violations() == []
    press(opened, "nn", "+", " ")
    assert violations() == []
    press(opened, " ", "nn")
    assert violations() == []
