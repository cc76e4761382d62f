"""Settings that every test shares."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# Tests must not touch the caches of the user, and the chorales are read once for all.
os.environ.setdefault("NOTELSTM_CACHE", str(Path(__file__).parents[1] / ".cache"))

# The 200 ms deadline fails properties on models; a busy machine must not turn a test red.
settings.register_profile(
    "quick", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=500)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "quick")
)

FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)


def lacking(what: str) -> NoReturn:
    """Skip, or where nothing may be left out, as in CI, fail."""
    if os.environ.get("NOTELSTM_NO_SKIPS"):
        pytest.fail(f"NOTELSTM_NO_SKIPS is set, and this needs {what}", pytrace=False)
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium without a window, driven by selenium."""
    try:
        from selenium import webdriver
    except ImportError:
        lacking("selenium")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        lacking("Chromium and its driver: on Debian, chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    BROWSERS.append(running)
    yield running
    running.quit()


BROWSERS: list[Chrome] = []
"""The browser of this process, if a test has used it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """After the last test of a file, close the page, and forget what it said of its medium.

    Pages that are left open go on drawing, and a colour scheme would be that of all pages to come.
    """
    result = yield
    if nextitem is not None and nextitem.path != item.path:
        for browser in BROWSERS:
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
            browser.get("about:blank")
    return result


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], float]], None]:
    """Sets the clock of training.

    That of the process is also the clock of the servers that other tests keep running. With another
    time, an event loop waits for hours, and its server does not stop.
    """

    def use(clock: Callable[[], float]) -> None:
        for module in ("callbacks", "progress"):
            instead = SimpleNamespace(monotonic=clock)
            monkeypatch.setattr(f"notelstm.training.{module}.time", instead)

    return use


@pytest.fixture
def fluidsynth() -> None:
    """Nothing, where sound fonts can be played."""
    try:
        import fluidsynth as _  # noqa: F401  # only to see whether it is there
    except ImportError as error:
        lacking(f"pyfluidsynth and FluidSynth's library: {error}")


@pytest.fixture
def scipy() -> None:
    """Nothing, where MATLAB files can be read."""
    if importlib.util.find_spec("scipy") is None:
        lacking("scipy")
