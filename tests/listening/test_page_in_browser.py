"""The page in Chromium: it loads, plays what can be heard, seeks, and fits a phone."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from notelstm.listening import Sample, notebook_html, save_page, synthesize
from notelstm.listening.styles import COLOURS
from notelstm.listening.synthesis import partials_of
from notelstm.listening.timbres import DRUM_SOUNDS, TIMBRES, timbre_of
from notelstm.midi import read_midi
from notelstm.notes import Notes

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

TUNE = Notes(
    start=np.arange(24) / 4,
    end=np.arange(24) / 4 + 0.3,
    pitch=60 + np.arange(24) % 13,
    velocity=40 + 3 * np.arange(24),
)
SHORT = Notes(start=[0, 0.2], end=[0.2, 0.5], pitch=[50, 80], velocity=90)
LONG = Notes(start=[0], end=[20], pitch=[40], velocity=110)
NASTY = '</script><b onclick="x">&amp; ♫'
ENDLESS = "player.loop = true"
"""On a busy machine, the piece would be over before it is looked at."""
LEVEL = """
const sound = new Float32Array(2048);
player.synth.meter.getFloatTimeDomainData(sound);
return Math.max(...sound.map(Math.abs));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "two ♫.html"
    first = Sample(notes=TUNE, title=NASTY, prompt_notes=4)
    samples = [first, Sample(notes=SHORT), Sample(notes=LONG)]
    save_page(samples, path, title="Two", details={"Model": {"encoder": "log-time", "<i>": NASTY}})
    return path


@pytest.fixture
def opened(chrome: Chrome, page: Path) -> Iterator[Chrome]:
    """The page at desktop width; no complaint of the browser is left at the end."""
    resize(chrome, 1280)
    chrome.get(page.as_uri())
    yield chrome
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium's


def resize(chrome: Chrome, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def run(chrome: Chrome, script: str, *arguments: object) -> Any:
    return chrome.execute_script(script, *arguments)


def press(chrome: Chrome, keys: str) -> None:
    chrome.find_element("tag name", "body").send_keys(keys)


def position(chrome: Chrome) -> float:
    return float(run(chrome, "return player.position"))


def wait_for(true: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something is so; a busy machine may be slow."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("width", [390, 1280])
def test_it_loads_and_fits(opened: Chrome, width: int) -> None:
    resize(opened, width)
    opened.refresh()
    # A page higher than the window has a scroll bar.
    root = "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    inside, window = run(opened, root)
    assert inside == window <= width
    assert opened.title == "Two"
    canvas = opened.find_element("id", "roll")
    assert canvas.size["width"] > 0.8 * min(width, 850)
    colours = run(
        opened,
        "const c = document.getElementById('roll');"
        "const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "const pairs = Array.from({length: p.length / 4}, (_, i) => p[4 * i] * 256 + p[4 * i + 1]);"
        "return new Set(pairs).size",
    )
    assert colours > 15
    for control in opened.find_elements("css selector", "button, input, a"):
        assert control.accessible_name
        assert control.rect["x"] + control.rect["width"] <= width


def test_it_has_a_position_before_the_sound_begins(opened: Chrome) -> None:
    """The browser may take a moment until its clock runs, in which the player can be paused."""
    run(
        opened,
        """const resume = AudioContext.prototype.resume;
        window.positions = [];
        window.waiting = [];
        const changed = player.changed;
        player.changed = () => { positions.push(player.position); changed(); };
        AudioContext.prototype.resume = function () {
          return new Promise((go) => waiting.push(() => resume.call(this).then(go)));
        };
        player.seek(2);""",
    )
    play = opened.find_element("id", "play")
    play.click()
    assert run(opened, "return positions") == [2, 2]
    play.click()
    assert run(opened, "return [player.position, player.rest]") == [2, 2]
    assert "NaN" not in run(opened, "return document.body.innerText")
    # Played again, it begins once.
    begins = """const begin = player.begin.bind(player);
    window.begins = 0;
    player.begin = () => { begins++; begin(); };"""
    run(opened, begins)
    play.click()
    run(opened, "for (const go of waiting) go();")
    wait_for(lambda: position(opened) > 2.05)
    assert run(opened, "return begins") == 1
    run(opened, "player.pause()")
    assert run(opened, "return player.next") > 0
    # So it does once more.
    rest = position(opened)
    play.click()
    assert run(opened, "return [player.playing, player.position]") == [True, rest]
    run(opened, "for (const go of waiting) go();")
    wait_for(lambda: position(opened) > rest + 0.05)
    assert run(opened, "return begins") == 2
    run(opened, "player.pause()")


def test_the_prompt_is_marked(opened: Chrome) -> None:
    """By the colours of its ground and of its notes, and in words for whoever sees neither."""
    script = """
    const roll = document.getElementById("roll"), top = 24, found = [{}, {}];
    const border = geometry().x(samples[0].notes[4].start);
    const points = roll.getContext("2d").getImageData(0, top, roll.width, roll.height - 60);
    for (let n = 0; n < points.data.length; n += 4) {
      const x = (n / 4) % roll.width, side = found[Number(x > border)];
      const hex = [0, 1, 2].map((k) => points.data[n + k].toString(16).padStart(2, "0")).join("");
      if (x > KEYS && Math.abs(x - border) > 20) side[hex] = (side[hex] || 0) + 1;
    }
    return found;
    """
    prompt, rest = run(opened, script)
    assert max(prompt, key=prompt.get) == "f6efe2"
    assert max(rest, key=rest.get) == "ffffff"
    assert prompt["b45309"] > 100
    assert "b45309" not in rest
    roll = opened.find_element("id", "roll")
    assert roll.accessible_name.endswith("the first 4, in brown, are the prompt")
    assert "the first 4, in brown, are the prompt" in opened.find_element("id", "facts").text
    shown = opened.find_element("class name", "prompt-key").is_displayed
    assert shown()
    press(opened, "n")
    assert not shown()


@pytest.mark.parametrize("width", [390, 1280])
def test_it_plays_what_can_be_heard(opened: Chrome, width: int) -> None:
    resize(opened, width)
    opened.refresh()
    run(opened, ENDLESS)
    button = opened.find_element("id", "play")
    assert button.text == "Play"
    before = run(opened, "return document.getElementById('roll').toDataURL()")
    button.click()
    wait_for(lambda: position(opened) > 0.5)
    assert button.text == "Pause"
    wait_for(lambda: run(opened, LEVEL) > 0.02)
    assert run(opened, "return document.getElementById('roll').toDataURL()") != before
    assert "Playing" in str(opened.find_element("id", "status").get_attribute("textContent"))
    # At once, since the piece may begin again between two requests of a busy machine.
    pause = "if (player.position > 0.5) document.getElementById('play').click();"
    wait_for(lambda: run(opened, f"{pause} return !player.playing"))
    assert button.text == "Play"
    rest = position(opened)
    assert rest > 0.5
    wait_for(lambda: run(opened, LEVEL) < 1e-3)
    assert position(opened) == rest


def test_the_head_moves_as_time_does(opened: Chrome) -> None:
    press(opened, " ")
    wait_for(lambda: position(opened) > 0.1)
    script = "return [player.position, performance.now() / 1000]"
    first = run(opened, script)
    time.sleep(1)
    second = run(opened, script)
    assert second[0] - first[0] == pytest.approx(second[1] - first[1], abs=0.1)
    head = "return geometry().x(player.position)"
    at = run(opened, head)
    time.sleep(0.3)
    assert run(opened, head) > at


def test_seeking(opened: Chrome) -> None:
    run(opened, ENDLESS)
    canvas = opened.find_element("id", "roll")
    canvas.click()
    middle = position(opened)
    assert 2 < middle < 4
    press(opened, "\ue014")
    assert position(opened) == pytest.approx(min(middle + 5, TUNE.end_time), abs=0.01)
    press(opened, "\ue012")
    press(opened, "\ue011")
    assert position(opened) == 0
    opened.find_element("id", "seek").send_keys("\ue014" * 100)
    assert position(opened) == pytest.approx(1, abs=0.05)
    assert opened.find_element("id", "seek").get_attribute("aria-valuetext") == "0:01 of 0:06"
    press(opened, " ")
    wait_for(lambda: position(opened) > 1.2)
    canvas.click()
    assert middle - 0.1 < position(opened) < middle + 1
    wait_for(lambda: run(opened, LEVEL) > 0.02)


def test_a_pause_and_a_seek_end_what_sounds(opened: Chrome) -> None:
    press(opened, "p")
    press(opened, " ")
    wait_for(lambda: run(opened, LEVEL) > 0.02)
    press(opened, " ")
    wait_for(lambda: run(opened, LEVEL) < 1e-4, seconds=4)
    opened.find_element("id", "roll").click()
    press(opened, " ")
    wait_for(lambda: run(opened, LEVEL) > 1e-4)
    assert position(opened) > 3


def test_the_end_and_the_loop(opened: Chrome) -> None:
    press(opened, "n")
    assert opened.find_element("id", "now").text == "Sample 2"
    press(opened, " ")
    wait_for(lambda: not run(opened, "return player.playing"))
    assert position(opened) == 0
    assert opened.find_element("id", "play").text == "Play"
    press(opened, "l")
    assert opened.find_element("id", "loop").get_attribute("aria-pressed") == "true"
    press(opened, " ")
    wait_for(lambda: position(opened) > 0.3)
    wait_for(lambda: position(opened) < 0.2)
    assert run(opened, "return player.playing")


def test_samples_are_chosen_and_saved(opened: Chrome) -> None:
    first, second, _ = opened.find_elements("css selector", "#samples button")
    assert first.get_attribute("aria-current") == "true"
    assert opened.find_element("id", "now").text == NASTY
    second.click()
    assert second.get_attribute("aria-current") == "true"
    assert "2 notes, 0.5 s" in opened.find_element("id", "facts").text
    link = opened.find_element("id", "midi")
    assert link.get_attribute("download") == "Sample 2.mid"
    content = (link.get_attribute("href") or "").removeprefix("data:audio/midi;base64,")
    assert read_midi(base64.b64decode(content)).pitch.tolist() == SHORT.pitch.tolist()
    rows = [row.text for row in opened.find_elements("css selector", "#details tr")]
    assert rows == ["encoder log-time", f"<i> {NASTY}"]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_keyboard_goes_where_the_eyes_go(opened: Chrome, width: int) -> None:
    resize(opened, width)
    opened.refresh()
    seen: list[str] = []
    tops: list[float] = []
    for _ in range(12):
        press(opened, "\ue004") if not seen else opened.switch_to.active_element.send_keys("\ue004")
        now = opened.switch_to.active_element
        seen.append(now.get_attribute("id") or now.find_element("class name", "name").text)
        tops.append(now.rect["y"] + now.rect["height"])
        assert now.value_of_css_property("outline-style") == "solid"
    controls = ["notes", "play", "seek", "loop", "volume", "midi"]
    controls += ["zoom-out", "zoom-in", "zoom-all"]
    assert seen == [*controls, NASTY, "Sample 2", "Sample 3"]
    # Beside the player or below it, the samples come after it.
    assert tops[9:] == sorted(tops[9:])
    if width == 390:
        assert max(tops[:9]) < tops[9]
    for control in opened.find_elements("css selector", "button, a"):
        assert min(control.size.values()) >= 44, "a thumb is that wide"


def test_headings_and_names_are_in_order(opened: Chrome) -> None:
    found = opened.find_elements("css selector", "h1, h2, h3, caption")
    assert [(e.tag_name, e.text) for e in found] == [
        ("h1", "Two"),
        ("h2", NASTY),
        ("h2", "Samples"),
        ("caption", "Model"),
    ]
    roll = opened.find_element("id", "roll")
    assert roll.aria_role == "image"
    assert roll.accessible_name.startswith(f"Piano roll of {NASTY}: 24 notes")
    names = {e.accessible_name for e in opened.find_elements("css selector", ".controls *[id]")}
    assert {"Play", "Position", "Loop", "Volume", "Save MIDI"} <= names
    ids = run(opened, "return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(set(ids)) == len(ids)
    assert run(opened, "return document.documentElement.lang") == "en"


def test_volume(opened: Chrome) -> None:
    press(opened, " ")
    wait_for(lambda: run(opened, LEVEL) > 0.02)
    opened.find_element("id", "volume").send_keys("\ue011")
    wait_for(lambda: run(opened, LEVEL) < 1e-4)


@pytest.mark.parametrize(("pitch", "velocity"), [(28, 30), (60, 85), (100, 110)])
def test_the_browser_plays_by_the_same_recipe(opened: Chrome, pitch: int, velocity: int) -> None:
    found = run(
        opened, "return partials(data.timbres.piano, ...arguments)", pitch, velocity, 12_000
    )
    wanted = partials_of(pitch, velocity)
    for name in ("frequency", "decay", "amplitude"):
        assert np.allclose([p[name] for p in found], getattr(wanted, name), rtol=1e-9)
    sound = run(
        opened,
        "return Array.from(renderNote(data.timbres.piano, ...arguments))",
        pitch,
        velocity,
        0.3,
        22_050,
    )
    one = Notes(start=[0], end=[0.3], pitch=[pitch], velocity=velocity)
    left, right = synthesize(one, rate=22_050, reverb=0)
    held = round(0.3 * 22_050)
    mono = np.sqrt(left**2 + right**2)[:held]
    assert np.allclose(np.abs(sound[:held]), mono, atol=0.01 * mono.max())


def test_rendered_without_a_clock(opened: Chrome) -> None:
    script = """
    const done = arguments[0], context = new OfflineAudioContext(2, 44100 * 3, 44100);
    const synth = new Synthesizer(context, data);
    for (const note of samples[0].notes.slice(0, 8)) synth.playNote(note, 0.3, note.start, 0);
    context.startRendering().then((sound) => {
      const all = [...sound.getChannelData(0), ...sound.getChannelData(1)];
      const peak = all.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      done([peak, Math.sqrt(all.reduce((a, b) => a + b * b, 0) / all.length)]);
    });
    """
    peak, level = opened.execute_async_script(script)
    assert 0.05 < peak < 1
    assert level > 0.005


def test_the_policy_blocks_what_is_not_part_of_the_page(chrome: Chrome, page: Path) -> None:
    chrome.get(page.as_uri())
    script = """
    const done = arguments[0], blocked = [];
    addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
    const insert = (name, fill) => {
      const made = document.createElement(name);
      fill(made);
      document.body.append(made);
    };
    insert("script", (made) => { made.textContent = "window.injected = 1"; });
    insert("style", (made) => { made.textContent = "body { color: rgb(1, 2, 3); }"; });
    insert("img", (made) => { made.src = "http://localhost:9/a.png"; });
    insert("iframe", (made) => { made.src = "http://localhost:9/"; });
    insert("p", (made) => { made.setAttribute("onclick", "window.injected = 2"); made.click(); });
    fetch("http://localhost:9/").catch(() => {
      const wait = () => blocked.length < 6 ? setTimeout(wait, 20)
        : done([blocked.sort(), window.injected, getComputedStyle(document.body).color]);
      wait();
    });
    """
    blocked, injected, colour = chrome.execute_async_script(script)
    kinds = ["connect-src", "frame-src", "img-src", "script-src-attr", "script-src-elem"]
    assert blocked == [*kinds, "style-src-elem"]
    assert injected is None
    assert colour != "rgb(1, 2, 3)"
    chrome.get_log("browser")  # type: ignore[no-untyped-call]  # the violations, for the next test


def test_the_midi_file_is_saved(chrome: Chrome, page: Path, tmp_path: Path) -> None:
    chrome.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    chrome.get(page.as_uri())
    press(chrome, "n")
    chrome.find_element("id", "midi").click()
    saved = tmp_path / "Sample 2.mid"
    wait_for(saved.is_file)
    assert read_midi(saved).pitch.tolist() == SHORT.pitch.tolist()
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium's


@pytest.mark.parametrize("width", [390, 640, 1000])
@pytest.mark.parametrize("instruments", [1, 4])
def test_in_a_notebook(chrome: Chrome, tmp_path: Path, width: int, instruments: int) -> None:
    """The player has a title, and room for everything, whatever the width of the cell."""
    path = tmp_path / "cell.html"
    piece = Notes(
        start=TUNE.start, end=TUNE.end, pitch=TUNE.pitch, track=np.arange(24) % instruments
    )
    path.write_text(f"<!doctype html><body>{notebook_html(piece, 'A tune')}", encoding="utf-8")
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chrome.get(path.as_uri())
    frame = chrome.find_element("tag name", "iframe")
    assert frame.get_attribute("title") == "A tune"
    chrome.switch_to.frame(frame)
    assert chrome.find_element("id", "now").text == "A tune"
    root = "const root = document.documentElement;"
    assert run(chrome, f"{root} return root.scrollHeight <= innerHeight")
    assert run(chrome, f"{root} return root.scrollWidth <= innerWidth")
    assert chrome.find_element("id", "roll").size["height"] >= 180
    chrome.find_element("id", "play").click()
    wait_for(lambda: run(chrome, LEVEL) > 0.02)
    chrome.switch_to.default_content()
    assert not [line for line in chrome.get_log("browser") if line["level"] == "SEVERE"]  # type: ignore[no-untyped-call]  # selenium's


PROGRAMS = [next(p for p in range(128) if timbre_of(p) == name) for name in TIMBRES]
DRUMS = (36, 38, 39, 42, 45, 49, 51, 56, 81)


@pytest.fixture(scope="module")
def band_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a band of four, a piece of every sound, and one of piano alone."""
    path = tmp_path_factory.mktemp("pages") / "band.html"
    row = np.arange(16)
    part = Notes(
        start=np.repeat(row / 4, 4),
        end=np.repeat(row / 4, 4) + 0.2,
        pitch=np.tile([72, 60, 40, 38], 16),
        velocity=np.repeat(50 + 4 * row, 4),
        program=np.tile([73, 0, 32, 0], 16),
        drum=np.tile([0, 0, 0, 1], 16),
        track=np.tile([3, 0, 1, 2], 16),
        track_names=("", "Low & <i>", ""),
    )
    programs = [*PROGRAMS, *(0 for _ in DRUMS)]
    drum = np.arange(len(programs)) >= len(PROGRAMS)
    every = Notes(
        start=[0] * len(programs),
        end=[0.3] * len(programs),
        pitch=[*(60 for _ in PROGRAMS), *DRUMS],
        program=programs,
        drum=drum,
        velocity=127,
    )
    samples = [
        Sample(notes=part, title="Band", prompt_notes=24),
        Sample(notes=every),
        Sample(notes=TUNE),
    ]
    save_page(samples, path, title="Band")
    return path


@pytest.fixture
def band(chrome: Chrome, band_page: Path) -> Iterator[Chrome]:
    """The band's page at desktop width; no complaint of the browser is left at the end."""
    resize(chrome, 1280)
    chrome.get(band_page.as_uri())
    yield chrome
    assert chrome.get_log("browser") == []  # type: ignore[no-untyped-call]  # selenium's


NAMES = ["Acoustic Grand Piano", "Low & <i>", "Drums", "Flute"]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_mixer_names_instruments_and_fits(band: Chrome, width: int) -> None:
    resize(band, width)
    band.refresh()
    # A page higher than the window has a scroll bar.
    root = "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    inside, window = run(band, root)
    assert inside == window <= width
    mixer = band.find_element("id", "mixer")
    assert mixer.aria_role == "list"
    assert mixer.accessible_name == "Instruments"
    assert [e.text for e in mixer.find_elements("class name", "name")] == NAMES
    buttons = mixer.find_elements("tag name", "button")
    wanted = [f"{what} {name}" for name in NAMES for what in ("Mute", "Solo")]
    assert [button.accessible_name for button in buttons] == wanted
    for button in buttons:
        assert button.get_attribute("aria-pressed") == "false"
        assert min(button.size.values()) >= 44
        assert button.rect["x"] + button.rect["width"] <= width
    for name in mixer.find_elements("class name", "name"):
        assert name.size["width"] >= 60, "there is room for a name beside the buttons"
    assert "64 notes, 4.0 s, 4 instruments" in band.find_element("id", "facts").text
    press(band, "p")
    assert not mixer.is_displayed()
    assert "instrument" not in band.find_element("id", "facts").text


def gains(chrome: Chrome) -> dict[str, float]:
    """The level of each instrument, by name."""
    script = "return Object.fromEntries([...player.synth.buses].map(([n, b]) => [n, b.gain.value]))"
    found: dict[str, float] = run(chrome, script)
    return found


def test_mute_and_solo_by_the_keyboard(band: Chrome) -> None:
    buttons = band.find_elements("css selector", "#mixer button")
    mute_piano, solo_piano, mute_low, _, _, _, _, solo_flute = buttons
    # On a busy machine the piece would end before the test: without a sound, gains do not change.
    press(band, "l ")
    wait_for(lambda: run(band, LEVEL) > 0.02)
    mute_piano.send_keys(" ")
    assert mute_piano.get_attribute("aria-pressed") == "true"
    wait_for(lambda: gains(band)["Acoustic Grand Piano"] < 1e-3)
    others = [gains(band)[name] for name in NAMES[1:]]
    assert others == pytest.approx([1, 1, 1])
    status = band.find_element("id", "status")
    assert status.get_attribute("textContent") == "Sounding: Low & <i>, Drums, Flute"
    solo_flute.send_keys("\ue007")
    wait_for(lambda: max(gains(band)[name] for name in NAMES[:3]) < 1e-3)
    assert gains(band)["Flute"] == pytest.approx(1)
    # Solo is stronger than mute.
    solo_piano.send_keys(" ")
    wait_for(lambda: gains(band)["Acoustic Grand Piano"] > 0.99)
    for button in (solo_piano, solo_flute, mute_piano):
        button.send_keys(" ")
        assert button.get_attribute("aria-pressed") == "false"
    wait_for(lambda: min(gains(band).values()) > 0.99)
    assert status.get_attribute("textContent") == "All instruments sound"
    for button in (mute_piano, mute_low, buttons[4], buttons[6]):
        button.send_keys(" ")
    assert status.get_attribute("textContent") == "Sounding: none"
    wait_for(lambda: run(band, LEVEL) < 1e-3)
    assert run(band, "return player.playing")


def test_what_is_muted_stays_muted_and_is_pale(band: Chrome) -> None:
    count = """
    const roll = document.getElementById("roll");
    const copy = new OffscreenCanvas(roll.width, roll.height);
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(roll, 0, 0);
    const points = pen.getImageData(0, 0, roll.width, roll.height).data;
    let found = 0;
    for (let n = 0; n < points.length; n += 4) {
      if ([0, 1, 2].every((k) => points[n + k] === arguments[0][k])) found++;
    }
    return found;
    """
    flute = [int(COLOURS["light"][3][n : n + 2], 16) for n in (1, 3, 5)]
    before = run(band, count, flute)
    assert before > 50
    mute = band.find_elements("css selector", "#mixer button")[6]
    mute.click()
    assert run(band, count, flute) == 0
    names = band.find_elements("css selector", "#mixer .quiet")
    assert [name.text for name in names] == ["Flute"]
    press(band, "np")
    mute = band.find_elements("css selector", "#mixer button")[6]
    assert mute.get_attribute("aria-pressed") == "true"
    press(band, " ")
    wait_for(lambda: run(band, LEVEL) > 0.02)
    assert gains(band)["Flute"] < 0.01


def test_a_piece_without_a_mixer_is_never_silenced(band: Chrome) -> None:
    """What is muted or soloed in one piece does not silence another that cannot undo it."""
    buttons = band.find_elements("css selector", "#mixer button")
    buttons[0].click()  # mute the piano
    buttons[7].click()  # solo the flute
    press(band, "p")
    assert not band.find_element("id", "mixer").is_displayed()
    press(band, " ")
    wait_for(lambda: run(band, LEVEL) > 0.02)
    assert gains(band)["Acoustic Grand Piano"] > 0.99


def test_colours_and_drum_names_are_on_the_roll(band: Chrome) -> None:
    script = """
    const drawn = [], write = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
      drawn.push(text);
      return write.call(this, text, ...rest);
    };
    draw();
    CanvasRenderingContext2D.prototype.fillText = write;
    const roll = document.getElementById("roll");
    const copy = new OffscreenCanvas(roll.width, roll.height);
    const pen = copy.getContext("2d", { willReadFrequently: true });
    pen.drawImage(roll, 0, 0);
    const points = pen.getImageData(0, 0, roll.width, roll.height).data, found = {};
    for (let n = 0; n < points.length; n += 4) {
      const hex = "#" + [0, 1, 2].map((k) => points[n + k].toString(16).padStart(2, "0")).join("");
      const place = Math.floor(n / 4 / roll.width);
      (found[hex] = found[hex] || []).push(place);
    }
    return [drawn, Object.fromEntries(arguments[0].map((hex) => {
      const rows = (found[hex] || []).sort((a, b) => a - b);
      return [hex, [rows.length, rows[Math.floor(rows.length / 2)] || 0]];
    }))];
    """
    colours = list(COLOURS["light"][:4])
    texts, found = run(band, script, [*colours, "#b45309", "#f6efe2"])
    assert {"Acoustic Snare", "C4", "C5", "prompt", "continuation"} <= set(texts)
    assert all(found[colour][0] > 40 for colour in colours)
    piano, low, drums, flute = (found[colour][1] for colour in colours)
    assert flute < piano < low < drums, "from top to bottom"
    assert found["#b45309"][0] > 100, "frames of the prompt"
    assert found["#f6efe2"][0] > 1000, "and its ground"


@pytest.mark.parametrize("name", TIMBRES)
def test_the_browser_plays_every_family_by_the_same_recipe(band: Chrome, name: str) -> None:
    program = PROGRAMS[list(TIMBRES).index(name)]
    script = "return Array.from(renderNote(data.timbres[arguments[0]], 64, 90, 0.3, 22050))"
    sound = run(band, script, name)
    one = Notes(start=[0], end=[0.3], pitch=[64], velocity=90, program=[program])
    left, right = synthesize(one, rate=22_050, reverb=0)
    held = round(0.3 * 22_050)
    mono = np.sqrt(left**2 + right**2)[:held]
    assert np.allclose(np.abs(sound[:held]), mono, atol=0.01 * mono.max())


@pytest.mark.parametrize("key", DRUMS)
def test_the_browser_plays_drums_alike(band: Chrome, key: int) -> None:
    sound = np.array(
        run(band, "return Array.from(renderDrum(data.drums[arguments[0]], 44100))", key)
    )
    one = Notes(start=[0], end=[0.1], pitch=[key], velocity=127, drum=True)
    other = synthesize(one, reverb=0)
    # The sum of the sides, whose powers add to that of the sound.
    pan = DRUM_SOUNDS[key]["pan"]
    mono = other.sum(axis=0, dtype=np.float64)[: sound.size] / (
        np.sqrt(2) * np.cos(np.pi / 4 * pan)
    )

    def measures(samples: np.ndarray) -> tuple[float, float]:
        size = np.abs(np.fft.rfft(samples[:16384])) ** 2
        frequency = np.fft.rfftfreq(min(16384, samples.size), 1 / 44_100)
        middle = float((frequency * size).sum() / size.sum())
        return middle, float(np.sqrt((samples[:4410] ** 2).mean()))

    assert measures(sound) == pytest.approx(measures(mono), rel=0.2)


def rendered(chrome: Chrome, notes: str, level: float = 0.8) -> tuple[float, float]:
    """The peak and the level of notes, a JavaScript expression, that are rendered at once."""
    script = """
    const done = arguments[0], context = new OfflineAudioContext(2, 44100 * 2, 44100);
    const synth = new Synthesizer(context, data);
    synth.volume.gain.value = %s;
    for (const note of %s) synth.playNote(note, note.seconds, 0, 0);
    context.startRendering().then((sound) => {
      const all = [...sound.getChannelData(0), ...sound.getChannelData(1)];
      const peak = all.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      done([peak, Math.sqrt(all.reduce((a, b) => a + b * b, 0) / all.length)]);
    });
    """
    peak, loudness = chrome.execute_async_script(script % (level, notes))
    return float(peak), float(loudness)


def test_more_than_twelve_instruments_at_once_do_not_clip(band: Chrome) -> None:
    """At full volume, each with a loud chord."""
    chords = """samples[1].notes.flatMap((note) => note.instrument.timbre
      ? [0, 4, 7].map((k) => ({ ...note, pitch: note.pitch + k })) : note)"""
    assert run(band, "return samples[1].instruments.length") >= 12
    peak, level = rendered(band, chords, 1)
    assert 0.5 < peak < 1
    assert level > 0.05


def test_the_limit_does_not_change_a_piano(band: Chrome) -> None:
    """Levels below 0.85 pass unchanged, so one note is as loud as without the limit."""
    found = run(band, "return [0.001, 0.3, -0.84, 0.9, 2, -50].map(softLimit)")
    assert found[:3] == pytest.approx([0.001, 0.3, -0.84])
    assert 0.85 < found[3] < 0.9
    assert -0.99 <= found[5] < -0.98 < 0.98 < found[4] <= 0.99
    peak, _ = rendered(band, "[samples[2].notes[20]]")
    assert 0.02 < peak < 0.85
