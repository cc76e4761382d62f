"""The page as a file: complete in itself, and nothing that it is given can break out of it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notelstm.errors import ConfigError, OutputError
from notelstm.listening import Sample, notebook_html, page_html, save_page
from notelstm.listening.page import Layout
from notelstm.listening.timbres import DRUM_SOUNDS, PIANO, TIMBRES
from notelstm.midi import ReadPolicy, read_midi
from notelstm.notes import Notes, TempoMap

TUNE = Notes(start=[0, 0.5, 1.0], end=[0.5, 1.25, 3], pitch=[60, 64, 67], velocity=[30, 70, 127])
NASTY = "</script><script>alert(1)</script><!-- {{data}} & \"' \u2028 ♫"


class Reader(HTMLParser):
    """The tags of a page, and the text of its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        name, attributes = self.tags[-1] if self.tags else ("", {})
        key = attributes.get("id") or name
        self.texts[key] = self.texts.get(key, "") + data


def data_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Reader(page).texts["data"])
    return found


def test_the_notes_are_in_the_page() -> None:
    data = data_of(page_html([Sample(notes=TUNE, title="a", prompt_notes=2)]))
    (sample,) = data["samples"]
    assert sample["start"] == TUNE.start.tolist()
    assert sample["duration"] == TUNE.duration.tolist()
    assert sample["pitch"] == TUNE.pitch.tolist()
    assert sample["velocity"] == TUNE.velocity.tolist()
    assert (sample["title"], sample["prompt_notes"], sample["seconds"]) == ("a", 2, 3)
    assert data["timbres"] == {"piano": dict(PIANO)}
    assert sample["instrument"] == [0, 0, 0]
    assert [one["name"] for one in sample["instruments"]] == ["Acoustic Grand Piano"]


def test_the_midi_file_is_in_the_page() -> None:
    (sample,) = data_of(page_html([Sample(notes=TUNE)]))["samples"]
    read = read_midi(base64.b64decode(sample["midi"]))
    assert read.pitch.tolist() == TUNE.pitch.tolist()
    assert np.allclose(read.start, TUNE.start, atol=1e-3)


def test_nothing_is_fetched() -> None:
    page = page_html([Sample(notes=TUNE), Sample(notes=TUNE)], details={"a": {"b": 1}})
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    for tag, attributes in Reader(page).tags:
        assert "src" not in attributes, tag
        assert attributes.get("href") in (None, "data:,"), tag
    assert len(page) < 60_000


@given(text=st.text() | st.just(NASTY))
def test_no_name_breaks_out(text: str) -> None:
    page = page_html(
        [Sample(notes=TUNE, title=text)], title=text, details={text: {text: text, "n": 1}}
    )
    data = data_of(page)
    assert not set(Reader(page).texts["data"]) & set("<>&")
    assert data["samples"][0]["title"] == text
    assert data["details"] == {text: {"n": "1", **({text: text} if text != "n" else {"n": "1"})}}
    plain = Reader(page_html([Sample(notes=TUNE)], details={"a": {"b": 1}}))
    assert [tag for tag, _ in Reader(page).tags] == [tag for tag, _ in plain.tags]


def test_a_title_is_shown_as_it_is() -> None:
    page = page_html([Sample(notes=TUNE)], title=NASTY)
    assert page.count(html.escape(NASTY)) == 2


def test_percussion_is_in_the_file_and_on_the_roll() -> None:
    mixed = Notes(start=[0, 1, 2], end=[1, 2, 3], pitch=[36, 60, 64], drum=[True, False, False])
    data = data_of(page_html([Sample(notes=mixed, prompt_notes=2)]))
    (sample,) = data["samples"]
    assert (sample["pitch"], sample["prompt_notes"]) == ([36, 60, 64], 2)
    assert sample["instrument"] == [1, 0, 0]
    assert [one["timbre"] for one in sample["instruments"]] == ["piano", ""]
    assert data["drums"].keys() == {"36"}
    assert data["drums"]["36"]["name"] == "Bass Drum 1"
    assert data["drums"]["36"]["tone"] == DRUM_SOUNDS[36]["tone"]
    policy = ReadPolicy(tracks="all", drums=True)
    assert len(read_midi(base64.b64decode(sample["midi"]), policy)) == 3


BAND = Notes(
    start=[0, 0, 0, 1, 1],
    end=[1, 1, 1, 2, 2],
    pitch=[60, 60, 36, 64, 72],
    program=[40, 40, 0, 33, 40],
    drum=[0, 0, 1, 0, 0],
    track=[0, 1, 2, 3, 1],
    track_names=("", "Second violin"),
)


def test_instruments_have_names_sounds_and_styles() -> None:
    data = data_of(page_html([Sample(notes=BAND)]))
    (sample,) = data["samples"]
    names = ["Violin", "Second violin", "Drums", "Electric Bass (finger)"]
    assert [one["name"] for one in sample["instruments"]] == names
    assert sample["instrument"] == [0, 1, 2, 3, 1]
    assert [one["timbre"] for one in sample["instruments"]] == ["strings", "strings", "", "bass"]
    styles = [(one["colour"], one["shape"]) for one in sample["instruments"]]
    assert len(set(styles)) == 4
    assert styles[2][1] == "bar"
    assert data["timbres"] == {n: dict(TIMBRES[n]) for n in ("piano", "strings", "bass")}
    assert {len(colours) for colours in data["colours"].values()} == {8}


def test_an_instrument_looks_the_same_in_every_piece() -> None:
    part = BAND[3:4]
    whole, only = data_of(page_html([Sample(notes=BAND), Sample(notes=part)]))["samples"]
    assert only["instruments"] == [whole["instruments"][3]]
    assert only["instrument"] == [0]


def test_a_notebook_has_room_for_the_instruments() -> None:
    heights = [int(re.search(r"height:(\d+)px", notebook_html(n))[1]) for n in (TUNE, BAND)]  # type: ignore[index]  # there is one
    assert heights[0] == 500
    assert heights[1] >= 500 + 4 * 44


def test_a_notebook_player_has_a_title() -> None:
    def titles(notes: Notes, title: str = "") -> list[str | None]:
        ((_, attributes),) = Reader(notebook_html(notes, title)).tags
        (sample,) = data_of(attributes["srcdoc"] or "")["samples"]
        return [attributes["title"], sample["title"]]

    assert titles(TUNE, NASTY) == [NASTY, NASTY]
    assert titles(TUNE) == ["Acoustic Grand Piano"] * 2
    assert titles(BAND) == ["Violin, Second violin, Drums, Electric Bass (finger)"] * 2
    many = Notes(start=[0] * 6, end=[1] * 6, pitch=60, program=range(6))
    assert (titles(many)[0] or "").endswith(" and 2 more")
    assert titles(Notes.empty()) == ["No notes"] * 2


def test_bars_are_in_the_page_where_the_piece_has_them() -> None:
    def bars(**beats: object) -> list[float]:
        mapped = TUNE.shifted(0) if not beats else None
        notes = mapped or Notes(
            start=TUNE.start,
            end=TUNE.end,
            pitch=TUNE.pitch,
            tempo_map=TempoMap(**beats),  # type: ignore[arg-type]  # they vary
        )
        found: list[float] = data_of(page_html([Sample(notes=notes)]))["samples"][0]["bars"]
        return found

    assert bars() == []
    assert bars(tempos=[120]) == [], "a tempo without a time signature"
    waltz = {"time_signature_beats": [0], "numerators": [3], "denominators": [4]}
    assert bars(tempos=[180], **waltz) == [0, 1, 2]
    later = {"time_signature_beats": [0, 4e6], "numerators": [3, 4], "denominators": [4, 4]}
    assert bars(tempos=[180], **later) == [0, 1, 2], "a time signature after the end"
    upbeat = {**waltz, "time_signature_beats": [1.5]}
    assert bars(tempos=[180], **upbeat) == [0.5, 1.5, 2.5]
    assert bars(tempos=[6e6], **waltz) == [], "millions of bars"


def test_no_notes_and_a_prompt_beyond_the_end() -> None:
    empty, over = data_of(
        page_html([Sample(notes=Notes.empty()), Sample(notes=TUNE, prompt_notes=9)])
    )["samples"]
    assert (empty["pitch"], empty["seconds"]) == ([], 0)
    assert over["prompt_notes"] == 3


def blocks(page: str, tag: str) -> list[str]:
    """The texts of the inline scripts or styles of a page."""
    return re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)


def policy_of(page: str) -> dict[str, list[str]]:
    """The directives of a page's content security policy."""
    (policy,) = (
        attributes["content"] or ""
        for _, attributes in Reader(page).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    words = [directive.split() for directive in policy.split(";")]
    return {name: sources for name, *sources in words}


@pytest.mark.parametrize("layout", ["page", "compact"])
def test_the_policy_allows_what_the_page_contains_and_nothing_else(layout: Layout) -> None:
    page = page_html([Sample(notes=TUNE, title=NASTY)], details={"a": {"b": 1}}, layout=layout)
    policy = policy_of(page)
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = blocks(page, tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy.pop(directive) == [f"'sha256-{digest}'"]
    assert policy == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    # The policy stands before everything that it governs, and no attribute would need an exception.
    tags = Reader(page).tags
    first = next(n for n, (_, attributes) in enumerate(tags) if "http-equiv" in attributes)
    assert {tag for tag, _ in tags[:first]} == {"html", "head", "meta"}
    names = {name for _, attributes in tags for name in attributes}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]


@given(raw=st.binary(max_size=20))
def test_file_names_that_are_not_utf_8(raw: bytes) -> None:
    name = os.fsdecode(raw)
    page = page_html([Sample(notes=TUNE, title=name)], title=name, lead=name, details={name: {}})
    shown = "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in name)
    assert data_of(page)["samples"][0]["title"] == shown
    assert page.encode("utf-8")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names are Unicode")
def test_a_page_named_by_bytes(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.html")
    save_page([Sample(notes=TUNE, title=path.stem)], path, title=path.stem)
    assert "<title>caf\ufffd</title>" in path.read_text(encoding="utf-8")


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.HTML"
    save_page([Sample(notes=TUNE, title=NASTY)], path, title="♫", details={"a": {}})
    written = page_html([Sample(notes=TUNE, title=NASTY)], title="♫", details={"a": {}})
    assert path.read_text(encoding="utf-8") == written
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        save_page([Sample(notes=TUNE)], tmp_path / "file" / "a.html")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown page format '\.pdf'"):
        save_page([Sample(notes=TUNE)], tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match="nothing to show"):
        save_page([], tmp_path / "a.html")
    with pytest.raises(ConfigError, match="negative prompt length -1"):
        Sample(notes=TUNE, prompt_notes=-1)
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_a_player() -> None:
    frame = notebook_html(TUNE)
    ((tag, attributes),) = Reader(frame).tags
    assert tag == "iframe"
    assert attributes["title"]
    inside = attributes["srcdoc"]
    assert inside is not None
    assert data_of(inside)["samples"][0]["pitch"] == TUNE.pitch.tolist()
    assert 'class="compact single"' in inside


def test_ipython_displays_a_piece_as_a_player() -> None:
    pytest.importorskip("IPython")
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell;"
        "shell = InteractiveShell.instance();"
        "from notelstm.notes import Notes;"
        "assert 'notelstm.listening' not in sys.modules;"
        "piece = Notes(start=[0], end=[1], pitch=[60]);"
        "formats, _ = shell.display_formatter.format(piece);"
        "from notelstm.listening import notebook_html;"
        "assert formats == {'text/html': notebook_html(piece), 'text/plain': repr(piece)}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_importing_notelstm_imports_nothing_else() -> None:
    code = "import sys, notelstm; assert not {'numpy', 'IPython', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_notes_alone_load_no_player() -> None:
    code = (
        "import sys; from notelstm.notes import Notes; import notelstm.listening;"
        "assert not {'torch', 'matplotlib'} & sys.modules.keys();"
        "print(repr(Notes.empty()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
