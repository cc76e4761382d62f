"""The page in Chromium, on a real server with the pretrained model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from notelstm.midi import midi_bytes, read_midi
from notelstm.notes import Notes
from notelstm.play import Limits, create_app
from notelstm.sampling.pitches import pitch_classes

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

RECORD = """
const link = notelstm.link, send = link.send.bind(link);
notelstm.sent = [];
link.send = (type, values) => { notelstm.sent.push(type); return send(type, values); };
"""
LEVEL = """
const sound = new Float32Array(2048);
notelstm.synth.meter.getFloatTimeDomainData(sound);
return Math.max(...sound.map(Math.abs));
"""


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until something holds; the limit is for hangs."""
    give_up = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return found


def run(chrome: Chrome, script: str, *arguments: object) -> Any:
    return chrome.execute_script(script, *arguments)


def by_id(chrome: Chrome, name: str) -> Any:
    return chrome.find_element("id", name)


def choose(chrome: Chrome, name: str, value: str) -> None:
    """Choose an option, as a user does who then leaves the control."""
    run(
        chrome,
        """const select = document.getElementById(arguments[0]);
        select.value = arguments[1];
        select.dispatchEvent(new Event("change", { bubbles: true }));""",
        name,
        value,
    )


def resize(chrome: Chrome, width: int, height: int = 1000) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def emulate(chrome: Chrome, **features: str) -> None:
    found = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": found})


def open_page(chrome: Chrome, address: str) -> None:
    """Open the page, and wait for the connection."""
    chrome.get(address)
    wait_for(lambda: by_id(chrome, "connection").text == "Connected")
    wait_for(lambda: chrome.find_elements("css selector", ".control"))


def leave(chrome: Chrome) -> None:
    """Leave the page of a server that is to stop, which it would try to reach."""
    chrome.get("about:blank")


@pytest.fixture
def page(chrome: Chrome, server: Any) -> Iterator[Chrome]:
    """The page as on a first visit; afterwards nothing may have gone wrong in it."""
    resize(chrome, 1280)
    emulate(chrome)
    chrome.get(f"{server.address}page/play.css")
    run(chrome, "sessionStorage.clear(); localStorage.clear();")
    chrome.get_log("browser")  # type: ignore[no-untyped-call]  # of other tests
    open_page(chrome, server.address)
    yield chrome
    found = [line for line in chrome.get_log("browser") if line["level"] == "SEVERE"]  # type: ignore[no-untyped-call]  # selenium's
    assert found == []


def key_event(chrome: Chrome, kind: str, code: str, key: str) -> None:
    event = {"type": kind, "code": code, "key": key, "windowsVirtualKeyCode": ord(key.upper()[0])}
    chrome.execute_cdp_cmd("Input.dispatchKeyEvent", event)


def play_phrase(chrome: Chrome, codes: str = "ZCBM") -> None:
    """Press keys of the computer keyboard, one after the other."""
    for letter in codes:
        key_event(chrome, "rawKeyDown", f"Key{letter}", letter.lower())
        time.sleep(0.12)
        key_event(chrome, "keyUp", f"Key{letter}", letter.lower())


def notes(chrome: Chrome, by: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run(
        chrome, "return notelstm.roll.notes.filter((note) => note.by === arguments[0])", by
    )
    return found


def takes(chrome: Chrome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run(chrome, "return notelstm.takes.takes")
    return found


def is_playing(chrome: Chrome) -> bool:
    return bool(run(chrome, "return notelstm.take !== null"))


def stop(chrome: Chrome) -> None:
    """Stop the model when it is heard, and wait for its take."""
    sounded = "return notelstm.roll.notes.some((n) => n.by === 'model' && n.start < notelstm.now)"
    wait_for(lambda: run(chrome, sounded))
    before = len(takes(chrome))
    by_id(chrome, "answer").click()
    wait_for(lambda: len(takes(chrome)) > before)


def axe(chrome: Chrome) -> list[str]:
    """The violations of accessibility rules on the page."""
    from axe_core_python import selenium as engine  # an extra of the tests

    script = (Path(engine.__file__).parent / "axe.min.js").read_text("utf-8")
    run(chrome, script)
    found = chrome.execute_async_script(
        "const done = arguments[0]; axe.run().then((result) => done(result.violations));"
    )
    return [f"{v['id']}: {node['html'][:200]}" for v in found for node in v["nodes"]]


def test_the_first_visit_has_one_button_that_plays(page: Chrome) -> None:
    assert by_id(page, "welcome").is_displayed()
    assert run(page, LEVEL) == 0
    by_id(page, "something").click()
    wait_for(lambda: run(page, LEVEL) > 0.02)
    assert not by_id(page, "welcome").is_displayed()
    wait_for(lambda: len(notes(page, "model")) > 5)
    assert len(notes(page, "you")) == 32
    begin = min(note["start"] for note in notes(page, "model"))
    # The model begins where the phrase ends.
    last = max(note["start"] for note in notes(page, "you"))
    assert 0.1 < begin - last < 0.4
    stop(page)
    assert takes(page)[0]["prompt_notes"] == 32


def test_the_first_phrase_can_be_interrupted(page: Chrome) -> None:
    by_id(page, "something").click()
    wait_for(lambda: run(page, LEVEL) > 0.02)
    play_phrase(page, "M")
    pressed = notes(page, "you")[-1]
    assert pressed["pitch"] == 59
    # The rest of the phrase is gone, here and for the model, which answers what was heard.
    assert all(note["start"] <= pressed["start"] for note in notes(page, "you"))
    count = len(notes(page, "you"))
    wait_for(lambda: len(notes(page, "model")) > 2)
    stop(page)
    assert takes(page)[0]["prompt_notes"] == count < 32


def test_pressed_keys_are_heard_and_answered(page: Chrome) -> None:
    assert run(page, LEVEL) == 0
    # On a busy machine, a text may be replaced before it is read.
    run(
        page,
        """const text = (id) => document.getElementById(id).textContent;
        notelstm.shown = new Set();
        new MutationObserver(() => notelstm.shown.add(text("status")).add(text("stage")))
          .observe(document.body, { childList: true, subtree: true, characterData: true });""",
    )
    play_phrase(page)
    wait_for(lambda: run(page, LEVEL) > 0.01)
    assert [note["pitch"] for note in notes(page, "you")] == [48, 52, 55, 59]
    # After the rest, the model answers by itself.
    wait_for(lambda: len(notes(page, "model")) > 2)
    wait_for(lambda: not is_playing(page) and takes(page))
    shown = run(page, "return [...notelstm.shown]")
    assert {"The model plays", "Your turn", "Take 1 is in the list"} <= set(shown)
    assert takes(page)[0]["prompt_notes"] == 4
    assert by_id(page, "stage").text == "Your turn"


def test_a_slow_server_is_asked_earlier(page: Chrome) -> None:
    """So that its notes are in time."""
    run(
        page,
        """const link = notelstm.link, send = link.send.bind(link);
        notelstm.leads = [];
        link.send = (type, values) => {
          if (type !== "again" && type !== "continue") return send(type, values);
          notelstm.leads.push(values.at - notelstm.now);
          setTimeout(() => send(type, values), 400);
        };""",
    )
    by_id(page, "answer").click()
    wait_for(lambda: len(notes(page, "model")) > 0)
    by_id(page, "again").click()
    wait_for(lambda: len(run(page, "return notelstm.leads")) == 2)
    first, second = run(page, "return notelstm.leads")
    assert first == pytest.approx(0.15, abs=0.01)
    assert 0.6 <= second <= 1.51


def test_a_midi_keyboard_is_connected(page: Chrome) -> None:
    run(
        page,
        """const input = { state: "connected", name: "Grand" }, inputs = new Map([["1", input]]);
        navigator.requestMIDIAccess = async () => notelstm.access = { inputs };
        notelstm.input = input;""",
    )
    by_id(page, "midi").click()
    wait_for(lambda: by_id(page, "midi-state").text == "Connected: Grand")
    run(page, "notelstm.input.onmidimessage({ data: [0x91, 60, 100] })")
    assert [(note["pitch"], note["velocity"]) for note in notes(page, "you")] == [(60, 100)]
    # It is unplugged while a key and the pedal are held.
    run(page, "notelstm.input.onmidimessage({ data: [0xb1, 64, 127] })")
    assert run(page, "return notelstm.midi.pedal")
    run(page, "notelstm.input.state = 'disconnected'; notelstm.access.onstatechange()")
    assert not run(page, "return notelstm.midi.pedal")
    assert by_id(page, "midi-state").text == "No MIDI keyboard is connected."
    assert all(note["end"] is not None for note in notes(page, "you"))
    run(page, "navigator.requestMIDIAccess = async () => { throw new Error('no'); }")
    by_id(page, "midi").click()
    wait_for(lambda: by_id(page, "midi-state").text == "The browser did not allow MIDI.")


def test_the_lowest_and_highest_notes_are_drawn(page: Chrome) -> None:
    """There is no key beside them, and the page goes on to draw."""
    for pitch in (0, 127):
        run(page, "notelstm.press(arguments[0], 80); notelstm.release(arguments[0])", pitch)
    wait_for(lambda: "2 recent notes of yours" in by_id(page, "roll").get_attribute("aria-label"))
    assert run(page, "return [notelstm.roll.low, notelstm.roll.high]") == [0, 127]


def test_the_model_is_chosen_with_its_card_and_license(page: Chrome, bundle: Any) -> None:
    choose(page, "model", "second")
    wait_for(lambda: run(page, "return notelstm.model") == "second")
    assert bundle.data.license in by_id(page, "license").text
    page.find_element("css selector", "summary").click()
    rows = [row.text for row in page.find_elements("css selector", "#card th")]
    assert "license of the data" in rows
    assert axe(page) == []
    by_id(page, "answer").click()
    stop(page)
    assert takes(page)[0]["model"] == "second"


def test_what_is_scheduled_is_not_silence(page: Chrome) -> None:
    """The notes of the model, rendered without a clock."""
    script = """
    const done = arguments[0], context = new OfflineAudioContext(2, 44100 * 2, 44100);
    const { constructor: Synthesizer, sounds } = notelstm.synth;
    const synth = new Synthesizer(context, sounds);
    const instrument = { name: "model", timbre: "piano" };
    const voice = synth.playNote({ pitch: 60, velocity: 90, seconds: 1, instrument }, 1, 0.2, 0);
    const dropped = synth.playNote({ pitch: 90, velocity: 127, seconds: 1, instrument }, 1, 1.5, 0);
    synth.end(voice, 0.6, 0.05);
    synth.end(dropped, 0.6, 0.05);
    context.startRendering().then((sound) => {
      const left = sound.getChannelData(0);
      const level = (from, to) => Math.max(...left.slice(44100 * from, 44100 * to).map(Math.abs));
      done([level(0, 0.2), level(0.25, 0.6), level(1.4, 2)]);
    });
    """
    before, sounding, after = page.execute_async_script(script)
    assert before == 0
    assert sounding > 0.02
    # Only the room still sounds: the note has ended, the later one was cancelled.
    assert after < 0.1 * sounding


def test_playing_on_interrupts_the_model(page: Chrome) -> None:
    by_id(page, "go-on").click()
    wait_for(lambda: len(notes(page, "model")) > 3)
    now = run(page, "return notelstm.now")
    play_phrase(page, "Z")
    wait_for(lambda: takes(page))
    assert by_id(page, "stage").text in ("Your turn", "The model plays")
    pressed = notes(page, "you")[0]["start"]
    assert pressed >= now
    assert all(
        note["start"] <= pressed for note in notes(page, "model") if note["start"] < pressed + 1
    )


def test_steering_changes_what_the_model_plays(page: Chrome) -> None:
    run(
        page,
        """const tonic = document.getElementById("control-scale");
        tonic.value = "C"; document.getElementById("control-mode").value = "minor pentatonic";
        tonic.dispatchEvent(new Event("change"));
        const low = document.getElementById("control-low");
        low.value = 60; low.dispatchEvent(new Event("input"));""",
    )
    wait_for(lambda: run(page, "return Object.keys(notelstm.steering.values).length") == 2)
    assert page.find_elements("css selector", "[data-control=low].set")
    by_id(page, "go-on").click()
    # The first change may come while it plays.
    time.sleep(0.5)
    begin = run(page, "return notelstm.now") + 0.5
    wait_for(lambda: len([n for n in notes(page, "model") if n["start"] > begin]) > 10)
    scale = pitch_classes("C minor pentatonic")
    found = [note["pitch"] for note in notes(page, "model") if note["start"] > begin]
    assert {pitch % 12 for pitch in found} <= scale
    assert min(found) >= 60
    stop(page)
    assert takes(page)[0]["controls"] == {"scale": "C minor pentatonic", "low": 60}
    by_id(page, "as-model").click()
    wait_for(lambda: run(page, "return Object.keys(notelstm.steering.values).length") == 0)


def test_instruments_are_chosen_where_the_model_has_them(page: Chrome) -> None:
    run(
        page,
        """const choices = ["soprano", "alto", "bass"];
        notelstm.steering.build([{ name: "instruments", choices, own: choices }]);""",
    )
    boxes = page.find_elements("css selector", ".instruments input")
    assert all(box.is_selected() for box in boxes)
    boxes[0].click()
    boxes[1].click()
    chosen = "return notelstm.steering.values.instruments"
    assert run(page, chosen) == ["bass"]
    boxes[2].click()  # one at least plays
    assert run(page, chosen) == ["bass"]
    assert axe(page) == []
    # The model of this server has none, and says so.
    wait_for(lambda: "is a part of the model" in by_id(page, "facts").text)
    assert by_id(page, "facts").text.startswith("None of the instruments")
    assert "is a part of" in by_id(page, "status").get_attribute("textContent")
    for scheme in ("light", "dark"):
        emulate(page, prefers_color_scheme=scheme)
        assert axe(page) == []


def test_the_player_has_the_instruments_of_the_model(
    page: Chrome, band: Any, serve: Callable[..., Any]
) -> None:
    server = serve(app=create_app({"band": band}))
    open_page(page, server.address)
    assert by_id(page, "instrument").is_displayed()
    options = "return [...document.querySelectorAll('#instrument option')].map((o) => o.text)"
    assert run(page, options) == ["soprano", "violin", "bass", "kit"]
    choose(page, "rest", "0")
    choose(page, "instrument", "bass")
    # Held until it is heard: on a busy machine, a short note is over before the level is read.
    key_event(page, "rawKeyDown", "KeyZ", "z")
    wait_for(lambda: run(page, LEVEL) > 0.01)
    key_event(page, "keyUp", "KeyZ", "z")
    choose(page, "instrument", "kit")
    assert by_id(page, "octave").text == "Drums"
    assert not by_id(page, "octave-up").is_displayed()
    assert axe(page) == []
    play_phrase(page, "ZXT")
    pads = page.find_elements("css selector", ".pad")
    assert [pad.get_attribute("aria-label") for pad in pads[:3]] == ["Kick", "Snare", "Closed hat"]
    pads[2].click()
    kinds = [(note["pitch"], note["part"], note["drum"]) for note in notes(page, "you")]
    drums = [(pitch, "kit", True) for pitch in (36, 38, 49, 42)]
    assert kinds == [(48, "bass", False), *drums]
    for width in (390, 1280):
        resize(page, width)
        assert run(page, "return document.documentElement.scrollWidth") <= width
    by_id(page, "answer").click()
    stop(page)
    assert takes(page)[0]["prompt_notes"] == 5
    page.refresh()
    wait_for(lambda: by_id(page, "connection").text == "Connected" and takes(page))
    assert by_id(page, "instrument").get_attribute("value") == "kit"
    assert [note["part"] for note in notes(page, "you")] == ["bass", *["kit"] * 4]


def test_a_span_is_marked_and_filled(
    page: Chrome, writer: Callable[..., Any], band: Any, serve: Callable[..., Any]
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    server = serve(app=create_app({"writer": writer(), "band": band}))
    open_page(page, server.address)
    assert by_id(page, "span").is_displayed()
    assert not by_id(page, "fill").is_enabled()
    assert axe(page) == []
    played = [
        {"start": k / 2, "end": k / 2 + 0.4, "pitch": 50 + k, "velocity": 80} for k in range(20)
    ]
    run(page, "notelstm.link.send('notes', { notes: arguments[0] })", played)
    # The panel asks for the piece when a pointer enters it.
    roll = by_id(page, "span-roll")
    run(page, "arguments[0].scrollIntoView({ block: 'center' })", roll)
    width = roll.size["width"]
    actions = ActionChains(page).move_to_element_with_offset(roll, -width // 2 + 5, 20)
    actions.perform()
    wait_for(lambda: by_id(page, "fill").is_enabled())
    # By mouse: from 3 to 6 of 9.9 seconds.
    actions = ActionChains(page).move_to_element_with_offset(roll, int(width * (3 / 9.9 - 0.5)), 20)
    actions.click_and_hold().move_by_offset(int(width * 3 / 9.9), 5).release().perform()
    marked = (
        "return ['span-begin', 'span-end'].map((id) => Number(document.getElementById(id).value))"
    )
    begin, end = run(page, marked)
    assert (begin, end) == (pytest.approx(3, abs=0.2), pytest.approx(6, abs=0.2))
    assert f"the span is from {begin:.1f} to {end:.1f} s" in roll.get_attribute("aria-label")
    # By touch, which the browser reports as a pointer, too.
    run(
        page,
        """const [roll, from, to] = arguments, box = roll.getBoundingClientRect();
        const at = (share) => ({ pointerId: 1, pointerType: "touch", bubbles: true,
          clientX: box.left + share * box.width, clientY: box.top + 9 });
        roll.setPointerCapture = () => {};
        roll.dispatchEvent(new PointerEvent("pointerdown", at(from)));
        roll.dispatchEvent(new PointerEvent("pointermove", at(to)));
        roll.dispatchEvent(new PointerEvent("pointerup", at(to)));""",
        roll,
        7 / 9.9,
        4 / 9.9,
    )
    assert run(page, marked) == [pytest.approx(4, abs=0.1), pytest.approx(7, abs=0.1)]
    # By the keyboard alone.
    by_id(page, "span-end").send_keys(Keys.ARROW_LEFT * 5)
    assert run(page, marked)[1] == pytest.approx(6.5, abs=0.1)
    begin, end = run(page, marked)
    by_id(page, "fill").send_keys(Keys.ENTER)
    wait_for(lambda: by_id(page, "status").text.startswith("The model wrote") or takes(page))
    wait_for(lambda: notes(page, "model"))
    zero = min(note["start"] for note in notes(page, "you"))
    new = [note["start"] - zero for note in notes(page, "model")]
    assert min(new) >= begin - 0.01
    assert max(new) < end
    kept = [k for k in range(20) if not begin - 0.01 <= k / 2 < end]
    assert [note["pitch"] - 50 for note in notes(page, "you")] == kept
    assert by_id(page, "fill").is_enabled()
    assert axe(page) == []
    by_id(page, "undo").click()
    wait_for(lambda: len(notes(page, "you")) == 20)
    # The server refuses what is too long for it; the page is ready again.
    run(page, "notelstm.fill(notelstm.span.zero, notelstm.span.zero + 3000)")
    wait_for(lambda: "A span of up to 60 s" in by_id(page, "facts").text)
    assert by_id(page, "fill").is_enabled()
    resize(page, 390)
    assert run(page, "return document.documentElement.scrollWidth") <= 390
    choose(page, "model", "band")
    wait_for(lambda: not by_id(page, "span").is_displayed())
    assert axe(page) == []


def test_takes_are_kept_replaced_and_undone(page: Chrome) -> None:
    play_phrase(page)
    wait_for(lambda: not is_playing(page) and takes(page))
    by_id(page, "keep").click()
    wait_for(lambda: takes(page)[0]["kept"])
    assert page.find_elements("css selector", ".take.kept")
    by_id(page, "again").click()
    wait_for(lambda: len(takes(page)) == 2 and not is_playing(page))
    first, second = takes(page)
    assert first["prompt_notes"] == second["prompt_notes"] == 4
    assert first["seed"] != second["seed"]
    by_id(page, "undo").click()
    wait_for(lambda: not notes(page, "model"))
    assert len(notes(page, "you")) == 4
    page.find_element("css selector", "[data-action=delete-2]").click()
    wait_for(lambda: len(takes(page)) == 1)
    page.find_element("css selector", "[data-action=play-1]").click()
    wait_for(lambda: notes(page, "model"))
    wait_for(lambda: run(page, LEVEL) > 0.01)
    # In one go: a short take is soon over.
    stages = """const stage = document.getElementById("stage"), before = stage.textContent;
        document.getElementById("answer").click();
        return [before, stage.textContent];"""
    assert run(page, stages) == ["A take plays", "Your turn"]
    assert axe(page) == []
    assert run(page, "return notelstm.voices.length") == 0


def test_a_take_is_downloaded_and_read_back(page: Chrome, tmp_path: Path) -> None:
    page.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    play_phrase(page)
    wait_for(lambda: not is_playing(page) and takes(page))
    (take,) = takes(page)
    for kind in ("MIDI", "WAV"):
        page.find_element("css selector", f"[aria-label='Download take 1 as {kind}']").click()
    saved = tmp_path / "take 1.mid"
    wait_for(saved.is_file)
    read = read_midi(saved)
    assert read.pitch[:4].tolist() == [48, 52, 55, 59]
    # MIDI cannot hold two notes of a pitch that begin together.
    assert 4 < len(read) <= 4 + take["notes"]
    wait_for((tmp_path / "take 1.wav").is_file)
    link = page.find_element("css selector", "[aria-label='Page of take 1']").get_attribute("href")
    page.get(str(link))
    wait_for(lambda: by_id(page, "now").text == "Take 1")


def test_a_reload_restores_piece_takes_and_settings(page: Chrome) -> None:
    run(
        page,
        """for (const [id, value] of [["rest", "0.5"], ["volume", "0.5"]]) {
          const element = document.getElementById(id);
          element.value = value;
          element.dispatchEvent(new Event("input", { bubbles: true }));
          element.dispatchEvent(new Event("change", { bubbles: true }));
        }
        const polyphony = document.getElementById("control-polyphony");
        polyphony.value = 2; polyphony.dispatchEvent(new Event("input"));""",
    )
    by_id(page, "octave-up").click()
    play_phrase(page)
    wait_for(lambda: not is_playing(page) and takes(page))
    by_id(page, "keep").click()
    wait_for(lambda: takes(page)[0]["kept"])
    before, count = takes(page), len(notes(page, "model"))
    page.refresh()
    wait_for(lambda: by_id(page, "connection").text == "Connected" and takes(page))
    assert takes(page) == before
    assert len(notes(page, "you")) == 4
    assert len(notes(page, "model")) == count
    assert by_id(page, "rest").get_attribute("value") == "0.5"
    assert by_id(page, "volume").get_attribute("value") == "0.5"
    assert run(page, "return notelstm.steering.values") == {"polyphony": 2}
    assert by_id(page, "octave").text.startswith("C4")
    assert not by_id(page, "welcome").is_displayed()
    # The piece goes on from where it was.
    by_id(page, "go-on").click()
    wait_for(lambda: len(notes(page, "model")) > count)


def test_two_browsers_do_not_disturb_each_other(page: Chrome, server: Any) -> None:
    first = page.current_window_handle
    by_id(page, "go-on").click()
    wait_for(lambda: len(notes(page, "model")) > 3)
    page.switch_to.new_window("tab")
    open_page(page, server.address)
    assert notes(page, "model") == []
    play_phrase(page)
    wait_for(lambda: takes(page) and not is_playing(page))
    assert [note["pitch"] for note in notes(page, "you")] == [48, 52, 55, 59]
    page.close()
    page.switch_to.window(first)
    assert notes(page, "you") == []
    assert is_playing(page)
    stop(page)
    assert takes(page)[0]["prompt_notes"] == 0


def test_a_lost_connection_comes_back(page: Chrome) -> None:
    by_id(page, "go-on").click()
    wait_for(lambda: len(notes(page, "model")) > 3)
    count = len(notes(page, "model"))
    run(page, "notelstm.link.socket.close()")
    wait_for(lambda: by_id(page, "connection").text == "Connected" and is_playing(page))
    wait_for(lambda: len(notes(page, "model")) > count)
    stop(page)
    assert len(takes(page)) == 1


def test_by_keyboard_alone(page: Chrome) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(page).send_keys(*keys).perform()

    seen: list[str] = []
    for _ in range(80):
        press(Keys.TAB)
        focused = page.switch_to.active_element
        name = run(
            page,
            "const e = arguments[0]; return e.id || e.getAttribute('aria-label') || e.tagName",
            focused,
        )
        if name in seen:
            break
        seen.append(name)
    wanted = ["something", "answer", "go-on", "clear", "octave-down", "octave-up", "C4"]
    assert [name for name in seen if name in wanted] == wanted
    for name in ("file", "control-temperature", "control-scale", "as-model", "rest", "model"):
        assert name in seen
    # The arrow keys move on the piano, and Space plays it.
    run(page, "document.querySelector('.key[tabindex=\"0\"]').focus()")
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.get_attribute("aria-label") == "D4"
    press(Keys.SPACE)
    wait_for(lambda: [note["pitch"] for note in notes(page, "you")] == [62])
    run(page, "document.activeElement.blur()")
    press(Keys.SPACE)
    wait_for(lambda: is_playing(page))
    press(Keys.SPACE)
    wait_for(lambda: not is_playing(page))
    press(Keys.BACKSPACE)
    press(Keys.PAGE_UP)
    assert by_id(page, "octave").text.startswith("C4")


def test_a_file_is_dropped_and_continued(page: Chrome, tmp_path: Path) -> None:
    piece = Notes(start=[k / 4 for k in range(40)], end=[k / 4 + 0.2 for k in range(40)], pitch=64)
    path = tmp_path / "tune ♫.mid"
    path.write_bytes(midi_bytes(piece))
    by_id(page, "file").send_keys(str(path))
    wait_for(lambda: by_id(page, "marker").is_displayed())
    assert by_id(page, "file-state").text.startswith("tune ♫.mid: 40 notes, ")
    run(
        page,
        """const mark = document.getElementById("mark");
        mark.value = 5; mark.dispatchEvent(new Event("input"));""",
    )
    assert by_id(page, "mark-time").text == "5.0 s"
    by_id(page, "use-file").click()
    wait_for(lambda: notes(page, "model"))
    wait_for(lambda: len(notes(page, "you")) == 21)
    stop(page)
    assert takes(page)[0]["prompt_notes"] == 21
    bad = tmp_path / "bad.mid"
    bad.write_bytes(b"no music")
    by_id(page, "file").send_keys(str(bad))
    wait_for(lambda: "not a midi file" in by_id(page, "file-state").text.lower())
    assert axe(page) == []
    page.get_log("browser")  # type: ignore[no-untyped-call]  # the refused request


def test_a_file_is_dropped_anywhere_on_the_page(page: Chrome) -> None:
    data = list(midi_bytes(Notes(start=[0, 1], end=[1, 2], pitch=[60, 64])))
    run(
        page,
        """const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([new Uint8Array(arguments[0])], "two.mid"));
        const settings = { dataTransfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent("drop", settings));""",
        data,
    )
    wait_for(lambda: by_id(page, "file-state").text.startswith("two.mid: 2 notes, "))
    assert by_id(page, "marker").is_displayed()
    assert axe(page) == []


def test_web_midi(page: Chrome) -> None:
    """The messages of a MIDI keyboard, with velocity and the sustain pedal."""
    send = "notelstm.midi.read(arguments)"
    run(page, send, 0x90, 60, 33)
    run(page, send, 0xB0, 64, 127)
    run(page, send, 0x80, 60, 0)
    run(page, send, 0x90, 64, 99)
    run(page, send, 0x90, 64, 0)
    found = notes(page, "you")
    assert [(note["pitch"], note["velocity"]) for note in found] == [(60, 33), (64, 99)]
    assert [note["end"] for note in found] == [None, None]
    run(page, send, 0xB0, 64, 0)
    assert all(note["end"] is not None for note in notes(page, "you"))


def test_a_key_is_struck_again_under_the_pedal(page: Chrome) -> None:
    by_id(page, "octave-up").click()  # sound is allowed after a touch
    run(page, RECORD)
    send = "notelstm.midi.read(arguments)"
    run(page, send, 0xB0, 64, 127)
    for _ in range(3):
        run(page, send, 0x90, 60, 80)
        run(page, send, 0x80, 60, 0)
    assert [note["end"] is None for note in notes(page, "you")] == [False, False, True]
    run(page, send, 0xB0, 64, 0)
    assert run(page, "return notelstm.held.size") == 0
    assert [note["end"] is None for note in notes(page, "you")] == [False] * 3
    # So does one whose release did not arrive.
    run(page, send, 0x90, 64, 80)
    run(page, send, 0x90, 64, 80)
    run(page, send, 0x80, 64, 0)
    assert run(page, "return notelstm.held.size") == 0
    sent = run(page, "return notelstm.sent.filter((type) => type.startsWith('note'))")
    assert sent == ["note-on", "note-off"] * 5
    # A release without a key is not that of a key of the page.
    run(page, "notelstm.press(65, 80); notelstm.midi.read([0x80, 65, 0])")
    assert run(page, "return notelstm.held.size") == 1
    run(page, "notelstm.release(65)")
    # Nothing is held, so that the model answers.
    wait_for(lambda: is_playing(page))


def test_the_mouse_presses_one_key_after_another(page: Chrome) -> None:
    """The focus follows it; the key that is pressed is held until the button is released."""
    from selenium.webdriver import ActionChains

    def key(pitch: int) -> Any:
        return page.find_element("css selector", f"#keyboard [data-pitch='{pitch}']")

    def ends() -> list[bool]:
        return [note["end"] is not None for note in notes(page, "you")]

    choose(page, "rest", "0")
    run(page, "arguments[0].scrollIntoView({ block: 'center' })", key(60))
    ActionChains(page).click_and_hold(key(60)).release().perform()
    wait_for(lambda: ends() == [True])
    ActionChains(page).click_and_hold(key(64)).perform()
    wait_for(lambda: len(ends()) == 2)
    assert run(page, "return document.activeElement.dataset.pitch") == "64"
    assert ends() == [True, False]
    ActionChains(page).release().perform()
    wait_for(lambda: ends() == [True, True])
    # The button is released beside the keys.
    ActionChains(page).click_and_hold(key(67)).move_to_element(by_id(page, "octave")).perform()
    ActionChains(page).release().perform()
    wait_for(lambda: ends() == [True] * 3)
    assert [note["pitch"] for note in notes(page, "you")] == [60, 64, 67]
    # A key of the screen that Space holds is released when the focus leaves it.
    key_event(page, "rawKeyDown", "Space", " ")
    wait_for(lambda: len(ends()) == 4)
    assert not ends()[3]
    run(page, "document.activeElement.blur()")
    assert ends() == [True] * 4


def test_a_wider_keyboard_has_no_keys_that_do_not_exist(page: Chrome) -> None:
    def pitches() -> list[int]:
        found: list[int] = run(page, "return [...notelstm.screen.keys.keys()]")
        return found

    resize(page, 390)
    wait_for(lambda: len(pitches()) < 30)
    for _ in range(6):
        by_id(page, "octave-up").click()
    assert pitches()[0] == 96
    resize(page, 1280)
    wait_for(lambda: len(pitches()) > 40)
    assert max(pitches()) <= 127


def test_nothing_begins_by_itself_after_another_request(page: Chrome) -> None:
    by_id(page, "octave-up").click()  # sound is allowed after a touch
    choose(page, "rest", "0.5")
    run(
        page,
        """const set = setTimeout, clear = clearTimeout;
        notelstm.waiting = new Set();
        globalThis.setTimeout = (act, milliseconds) => {
          const id = set(act, milliseconds);
          if (milliseconds === 500) notelstm.waiting.add(id);
          return id;
        };
        globalThis.clearTimeout = (id) => { notelstm.waiting.delete(id); clear(id); };""",
    )
    waiting = """const done = arguments[0];
    notelstm.press(60, 80);
    notelstm.release(60);
    const before = notelstm.waiting.size;
    Promise.resolve({}).then(() => done([before, notelstm.waiting.size]));"""
    for action in (
        "document.getElementById('clear').click()",
        "notelstm.again()",
        "notelstm.useFile(1)",
        "notelstm.fill(0, 1)",
        "notelstm.playTake({ take: 1, all_notes: [] })",
        "notelstm.hear(1)",
        "notelstm.stop()",
    ):
        assert page.execute_async_script(waiting.replace("{}", action)) == [1, 0], action
    # The key of a phrase that was answered or dropped is released later.
    for action in ("document.getElementById('clear').click()", "notelstm.answer()"):
        held = f"""const done = arguments[0];
        notelstm.press(60, 80);
        Promise.resolve({action}).then(() => {{
          notelstm.release(60);
          done(notelstm.waiting.size);
        }});"""
        assert page.execute_async_script(held) == 0, action


def test_the_model_is_shown_after_a_reconnection(page: Chrome) -> None:
    choose(page, "model", "second")
    wait_for(lambda: run(page, "return notelstm.model") == "second")
    run(page, "notelstm.before = notelstm.models; notelstm.link.socket.close()")
    wait_for(lambda: run(page, "return notelstm.models !== notelstm.before && notelstm.model"))
    assert by_id(page, "model").get_attribute("value") == "second"
    # The server was started again, with another model of the name.
    run(
        page,
        """const { models, limits } = notelstm, other = { ...models[1], license: "another" };
        notelstm.receive({ type: "welcome", models: [models[0], other], limits, resumed: true });
        notelstm.receive({ type: "controls", controls: {}, model: "second" });""",
    )
    assert "another" in by_id(page, "license").text


def test_a_model_has_no_controls_of_another(
    page: Chrome, writer: Callable[..., Any], band: Any, serve: Callable[..., Any]
) -> None:
    values = "return notelstm.steering.values"
    server = serve(app=create_app({"writer": writer(), "band": band}))
    saved = '{"instruments": ["violin"], "temperature": 0.5}'
    open_page(page, server.address)
    run(page, "localStorage.setItem('notelstm-controls', arguments[0])", saved)
    run(page, "sessionStorage.clear()")
    open_page(page, server.address)
    wait_for(lambda: run(page, values) == {"temperature": 0.5})
    assert by_id(page, "facts").text == ""
    choose(page, "model", "band")
    wait_for(lambda: page.find_elements("css selector", ".instruments input"))
    run(page, "notelstm.steering.set('instruments', ['soprano', 'bass'])")
    by_id(page, "go-on").click()
    wait_for(lambda: is_playing(page))
    choose(page, "model", "writer")
    wait_for(lambda: run(page, "return notelstm.model") == "writer")
    assert run(page, values) == {"temperature": 0.5}
    assert "instruments" not in run(page, "return localStorage.getItem('notelstm-controls')")
    assert by_id(page, "facts").text == ""
    assert not is_playing(page)
    leave(page)


def test_a_model_that_is_refused_changes_nothing(page: Chrome) -> None:
    by_id(page, "go-on").click()
    wait_for(lambda: is_playing(page))
    run(
        page,
        """const link = notelstm.link, send = link.send.bind(link);
        const other = { name: "third", at: 0 };
        link.send = (type, values) => send(type, type === "model" ? other : values);""",
    )
    choose(page, "model", "second")
    wait_for(lambda: "no model 'third'" in by_id(page, "facts").text)
    assert by_id(page, "model").get_attribute("value") == "piano"
    assert not is_playing(page)
    # The server does not play either, and answers.
    by_id(page, "answer").click()
    wait_for(lambda: is_playing(page))


def test_a_piece_from_before_the_clock_is_filled(
    page: Chrome, writer: Callable[..., Any], serve: Callable[..., Any]
) -> None:
    """After a reload, the times of the piece are below 0."""
    server = serve(app=create_app({"writer": writer()}))
    open_page(page, server.address)
    played = [
        {"start": k / 2, "end": k / 2 + 0.4, "pitch": 50 + k, "velocity": 80} for k in range(20)
    ]
    run(page, "notelstm.link.send('notes', { notes: arguments[0] })", played)
    page.refresh()
    wait_for(lambda: by_id(page, "connection").text == "Connected" and notes(page, "you"))
    run(page, "notelstm.askForPiece()")
    wait_for(lambda: by_id(page, "fill").is_enabled())
    assert run(page, "return notelstm.span.zero") < -9
    by_id(page, "fill").click()
    wait_for(lambda: takes(page))
    wait_for(lambda: by_id(page, "fill").is_enabled())
    # An error that names no message may be that of a span.
    run(page, "notelstm.span.wait(true)")
    assert not by_id(page, "fill").is_enabled()
    run(page, "notelstm.link.send('fill it', {})")
    wait_for(lambda: "Unknown message" in by_id(page, "facts").text)
    assert by_id(page, "fill").is_enabled()
    leave(page)


def test_a_control_that_was_moved_meanwhile_stays(page: Chrome) -> None:
    shown = """
    notelstm.steering.set("temperature", 1.5);
    notelstm.receive({ type: "controls", controls: {}, model: notelstm.model });
    return notelstm.steering.values.temperature;
    """
    assert run(page, shown) == 1.5
    wait_for(lambda: not run(page, "return notelstm.steering.timer"))
    wait_for(lambda: run(page, "return notelstm.steering.values.temperature === 1.5"))
    # The server's are shown when nothing waits.
    nothing = """
    notelstm.receive({ type: "controls", controls: {}, model: notelstm.model });
    return "temperature" in notelstm.steering.values;
    """
    assert run(page, nothing) is False


def test_a_phrase_whose_answer_is_refused_is_still_there(page: Chrome) -> None:
    refused = """
    notelstm.phrase = { from: 1, to: 6 };
    notelstm.ask("continue", { seconds: -1 });
    return notelstm.phrase;
    """
    assert run(page, refused) is None
    wait_for(lambda: run(page, "return notelstm.phrase"))
    assert run(page, "return notelstm.phrase") == {"from": 1, "to": 6}


def test_a_file_that_is_refused_is_not_continued(page: Chrome, tmp_path: Path) -> None:
    run(page, RECORD)
    by_id(page, "go-on").click()
    wait_for(lambda: is_playing(page))
    run(page, "notelstm.useFile(5)")
    wait_for(lambda: "There is no file" in by_id(page, "facts").text)
    sent = "return notelstm.sent.filter((type) => type !== 'head')"
    assert run(page, sent) == ["continue", "stop", "prompt"]
    assert not is_playing(page)
    # The first note of this file is after the tenth of a second that is nearest.
    path = tmp_path / "late.mid"
    path.write_bytes(midi_bytes(Notes(start=[20.04, 30], end=[21, 30.04], pitch=[60, 62])))
    by_id(page, "file").send_keys(str(path))
    wait_for(lambda: by_id(page, "marker").is_displayed())
    mark = by_id(page, "mark")
    values = [mark.get_attribute(name) for name in ("min", "value", "max")]
    assert values == ["20.1", "20.1", "30.1"]
    by_id(page, "use-file").click()
    wait_for(lambda: is_playing(page))
    assert [note["pitch"] for note in notes(page, "you")] == [60]
    # A session that is not that of the file has none.
    run(
        page,
        """const { models, limits, model } = notelstm;
        notelstm.receive({ type: "welcome", models, limits, resumed: false });
        notelstm.receive({ type: "controls", controls: {}, model });""",
    )
    assert not by_id(page, "marker").is_displayed()
    assert by_id(page, "file-state").text == ""


def test_a_lost_connection_is_not_called_refused(
    page: Chrome, connect: Callable[..., Any], serve: Callable[..., Any]
) -> None:
    server = serve(Limits(sessions=1, resume_seconds=0.05))
    other = connect(server.address)
    page.get(server.address)
    wait_for(lambda: "the server is full" in by_id(page, "connection").text)
    other.close()
    wait_for(lambda: by_id(page, "connection").text == "Connected")
    run(
        page,
        """const { link } = notelstm, changed = link.changed;
        notelstm.texts = [];
        link.changed = (state, text) => { notelstm.texts.push(text); changed(state, text); };
        link.socket.close();""",
    )
    wait_for(lambda: run(page, "return notelstm.texts.length"))
    assert run(page, "return notelstm.texts[0]").startswith("The connection is lost")
    wait_for(lambda: by_id(page, "connection").text == "Connected")
    leave(page)


def test_a_long_take_is_scheduled_a_little_ahead(page: Chrome) -> None:
    """Rendering all of its sounds at once would take until long after its first notes."""
    by_id(page, "octave-up").click()  # sound is allowed after a touch
    script = """
    notelstm.played_again = 0;
    const play = notelstm.synth.playNote.bind(notelstm.synth);
    notelstm.synth.playNote = (...values) => { notelstm.played_again++; return play(...values); };
    const note = (k) => ({ start: k / 10, end: k / 10 + 0.1, pitch: 40 + k % 40, velocity: 80,
      program: 0, drum: false, part: "", by: "model" });
    notelstm.playTake({ take: 1, all_notes: Array.from({ length: 600 }, (_, k) => note(599 - k)) });
    """
    ahead = "return Math.max(...notelstm.voices.map(({ start }) => start)) - notelstm.now"
    assert 0 < run(page, script + ahead) <= 0.5
    assert by_id(page, "stage").text == "A take plays"
    assert len(notes(page, "model")) == 600
    wait_for(lambda: run(page, "return notelstm.played_again") > 20)
    assert run(page, ahead) <= 0.5
    by_id(page, "answer").click()
    assert run(page, "return notelstm.coming.length") == 0


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_has_no_violations(page: Chrome, width: int, scheme: str) -> None:
    emulate(page, prefers_color_scheme=scheme)
    resize(page, width)
    assert axe(page) == []
    play_phrase(page)
    wait_for(lambda: not is_playing(page) and takes(page))
    run(page, "document.querySelector('details').open = true")
    assert run(page, "return document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    by_id(page, "answer").click()
    wait_for(lambda: is_playing(page))
    assert axe(page) == []


def test_with_reduced_motion_the_roll_stands_still(page: Chrome) -> None:
    emulate(page, prefers_reduced_motion="reduce")
    by_id(page, "go-on").click()
    wait_for(lambda: len(notes(page, "model")) > 3)
    left = run(page, "return notelstm.roll.page")
    now = run(page, "return notelstm.now")
    wait_for(lambda: run(page, "return notelstm.now") > now + 0.5)
    assert run(page, "return notelstm.roll.page") == left
