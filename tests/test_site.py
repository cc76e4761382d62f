"""The built site: every name is documented, links work, search works, pages play and fit."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

import notelstm

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ROOT = Path(__file__).parents[1]

# One process builds the site, once; on a busy machine that takes minutes.
pytestmark = [pytest.mark.xdist_group("site"), pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh build: that of `make test`, if it names one."""
    if built := os.environ.get("NOTELSTM_SITE"):
        return Path(built)
    copy = tmp_path_factory.mktemp("site")
    left = shutil.ignore_patterns("_build", "generated", "__pycache__")
    for folder in ("docs", "examples"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=left)
    for page in ROOT.glob("*.md"):
        shutil.copy(page, copy)
    card = Path("src/notelstm/pretrained/CARD.md")
    (copy / card).parent.mkdir(parents=True)
    shutil.copy(ROOT / card, copy / card)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "docs", "html"],
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
        cwd=copy,
    )
    assert done.returncode == 0, done.stderr
    return copy / "html"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build's own scripts can be imported."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    monkeypatch.syspath_prepend(ROOT / "docs" / "measured")


class Page(HTMLParser):
    """What a page can be linked to by, and what it links to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {name for name in (given.get("id"), given.get("name")) if name}
        self.links |= {link for link in (given.get("href"), given.get("src")) if link}


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def modules() -> Iterator[ModuleType]:
    yield notelstm
    for info in pkgutil.walk_packages(notelstm.__path__, "notelstm."):
        if "._" not in info.name:
            yield importlib.import_module(info.name)


def test_every_public_name_is_documented(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    found = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    inventory = {
        name for kind, names in found.data.items() if kind.startswith("py:") for name in names
    }
    missing = []
    for module in modules():
        if module.__name__ != "notelstm" and module.__name__ not in inventory:
            missing.append(f"module {module.__name__}")
        for name in module.__all__:
            public = getattr(module, name)
            home = getattr(public, "__module__", None) or module.__name__
            names = {f"{module.__name__}.{name}", f"{home}.{name}"}
            # A constant has no ``__module__``: it is in one of the package's modules.
            is_package = hasattr(module, "__path__")
            inside = is_package and any(
                n.startswith(f"{module.__name__}.") and n.endswith(f".{name}") for n in inventory
            )
            if module is notelstm and not isinstance(public, ModuleType):
                names, inside = {f"notelstm.{name}"}, False  # as users type it
            if not (names & inventory or inside or name == "__version__"):
                missing.append(f"{module.__name__}.{name}")
    assert not missing, "\n".join(missing)


def broken(path: Path, link: str, pages: dict[Path, Page]) -> str:
    """What is wrong with a link; nothing if it leads somewhere."""
    parts = urlsplit(link)
    if parts.scheme == "data" or link == "#":
        return ""
    if parts.scheme or parts.netloc:
        # No network here; `make linkcheck` asks what is at the other end.
        fine = parts.scheme == "https" and re.fullmatch(r"[\w.-]+\.\w+", parts.netloc)
        return "" if fine and " " not in link else "is no https address"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "leads to no file"
    known = pages.get(target)
    if parts.fragment and known is not None and unquote(parts.fragment) not in known.ids:
        return "leads to no place on its page"
    return ""


def test_links_resolve(pages: dict[Path, Page]) -> None:
    assert len(pages) > 50
    wrong = [
        f"{path.name}: {link} {why}"
        for path, page in pages.items()
        for link in sorted(page.links)
        if (why := broken(path, link, pages))
    ]
    assert not wrong, "\n".join(wrong)


def test_broken_links_are_found(site: Path, pages: dict[Path, Page]) -> None:
    index = site / "index.html"
    for link in (
        "nowhere.html",
        "tutorial.html#nowhere",
        "#nowhere",
        "http://example.com",
        "https://",
    ):
        assert broken(index, link, pages), link
    for link in (
        "tutorial.html#train",
        "#documentation",
        "https://example.com/a",
        "_static/new.wav",
    ):
        assert not broken(index, link, pages), link


def test_every_page_is_in_the_menu(site: Path, pages: dict[Path, Page]) -> None:
    written = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} - {"index.html"}
    assert written <= pages[site / "index.html"].links


def test_every_command_is_in_the_reference(site: Path, pages: dict[Path, Page]) -> None:
    from notelstm.cli import _COMMANDS

    assert "train" in _COMMANDS
    assert {f"notelstm-{name}" for name in _COMMANDS} <= pages[site / "cli.html"].ids


def open_page(chrome: Chrome, path: Path, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chrome.get(path.as_uri())


def run(chrome: Chrome, script: str) -> Any:
    return chrome.execute_script(script)


def wait_for(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is so; a busy machine may be slow."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit(chrome: Chrome, site: Path, width: int) -> None:
    for path in sorted(site.glob("*.html")):
        open_page(chrome, path, width)
        assert run(chrome, "return document.documentElement.scrollWidth") <= width, path.name
        assert chrome.get_log("browser") == [], path.name  # type: ignore[no-untyped-call]


def test_the_search_finds_words(chrome: Chrome, site: Path) -> None:
    open_page(chrome, site / "search.html", 1280)
    chrome.get(f"{(site / 'search.html').as_uri()}?q=dorian")
    wait_for(lambda: chrome.find_elements("css selector", "#search-results li a"))
    found = chrome.find_elements("css selector", "#search-results li a")
    where = {str(link.get_attribute("href")).partition("?")[0].rpartition("/")[2] for link in found}
    assert "concepts.html" in where, where
    assert all((site / name.partition("#")[0]).exists() or "notelstm" in name for name in where)
    chrome.get(f"{(site / 'search.html').as_uri()}?q=xylophonist")
    wait_for(lambda: "did not match" in str(run(chrome, "return document.body.innerText")))


def test_the_first_page_plays(chrome: Chrome, site: Path) -> None:
    open_page(chrome, site / "index.html", 1280)
    frame = chrome.find_element("css selector", "iframe.player")
    chrome.switch_to.frame(frame)
    assert len(chrome.find_elements("css selector", "#samples button")) == 3
    # The frame is as high as what is in it.
    assert run(chrome, "return document.body.offsetHeight - innerHeight") == 0
    chrome.find_element("id", "play").click()
    level = (
        "const sound = new Float32Array(2048);"
        "player.synth.meter.getFloatTimeDomainData(sound);"
        "return Math.max(...sound.map(Math.abs));"
    )
    wait_for(lambda: run(chrome, level) > 0.01)
    chrome.switch_to.default_content()
    run(chrome, "document.querySelector('audio').load()")
    wait_for(lambda: (run(chrome, "return document.querySelector('audio').duration") or 0) > 30)
    assert not run(chrome, "return document.querySelector('audio').error")


def brightness(colour: str) -> int:
    """The sum of the three numbers of a CSS colour."""
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_the_dark_theme_is_dark(chrome: Chrome, site: Path) -> None:
    """Pictures are turned inside out, and the player takes the site's colours, not the system's."""
    open_page(chrome, site / "index.html", 1280)
    ground = "return getComputedStyle(document.querySelector('.player, .samples')).backgroundColor"
    seen = {}
    for theme in ("light", "dark"):
        run(chrome, f"document.body.dataset.theme = '{theme}'")
        picture = run(chrome, "return getComputedStyle(document.querySelector('img.roll')).filter")
        chrome.switch_to.frame(chrome.find_element("css selector", "iframe.player"))
        # The frame gets the theme by a message, which may still be on its way.
        wait_for(lambda: (brightness(run(chrome, ground)) > 600) == (theme == "light"))  # noqa: B023
        seen[theme] = (picture, run(chrome, ground))
        chrome.switch_to.default_content()
    assert seen["light"][0] == "none"
    assert "invert" in seen["dark"][0]
    light, dark = (brightness(colour) for _, colour in seen.values())
    assert light > 600
    assert dark < 160


@pytest.mark.usefixtures("scripts")
def test_generated_files_are_kept_until_their_sources_change(tmp_path: Path) -> None:
    making = importlib.import_module("making")
    source, folder, made = tmp_path / "source.py", tmp_path / "made", []

    def make(to: Path) -> None:
        made.append(to)
        (to / f"{len(made)}.txt").touch()

    for text, names in (("a", ["1.txt"]), ("a", ["1.txt"]), ("b", ["2.txt"])):
        source.write_text(text)
        making._keep(folder, make, [source])
        assert [path.name for path in folder.iterdir()] == names

    def fail(to: Path) -> None:
        raise RuntimeError

    source.write_text("c")
    with pytest.raises(RuntimeError):
        making._keep(folder, fail, [source])
    making._keep(folder, make, [source])
    assert (folder / "3.txt").exists(), "what failed half-way is made again"


@pytest.mark.usefixtures("scripts")
def test_benchmarks_become_tables() -> None:
    benchmarks = importlib.import_module("benchmarks")
    machine = {"processor": "one"}
    table = benchmarks.tables(
        {
            "plain": {"what": "Plain.", "figures": {"a": 0.123, "b": 1234.5}, "machine": machine},
            "grid": {
                "what": "Grid.",
                "figures": {"x: a": 1.0, "y: a": 22.22, "y: b": 3.0},
                "machine": {},
            },
        }
    )
    for line in ("## Plain", "| a | 0.12 |", "| b | 1,234 |", "Machine: processor: one."):
        assert line in table.splitlines(), table
    for line in ("|  | x | y |", "| a | 1 | 22.2 |", "| b |  | 3 |"):
        assert line in table.splitlines(), table
    # Each of them can be asked; `figures` is what the script calls.
    for name in benchmarks.names():
        assert callable(benchmarks.script(name).figures)
