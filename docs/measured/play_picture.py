"""Take the picture of ``notelstm play``: the page in Chromium, while the model plays.

    python docs/measured/play_picture.py

writes ``docs/_static/play.png``, which is committed because the README needs it without a build,
and because a build has no browser. Needs selenium, Chromium and its driver.
"""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
import time
from pathlib import Path

from selenium import webdriver

from notelstm import load
from notelstm.play import serve

PICTURE = Path(__file__).parents[1] / "_static" / "play.png"
WIDTH, HEIGHT = 1000, 850
SECONDS = 9.5
"""Seconds after the button: the end of the phrase and the beginning of the continuation."""


def main() -> None:
    addresses: queue.Queue[str] = queue.Queue()
    settings = {"port": 0, "on_start": addresses.put}
    models = {"Piano, pretrained": load()}
    threading.Thread(target=serve, args=(models,), kwargs=settings, daemon=True).start()
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory() as profile:
        flags = ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars")
        for flag in (*flags, f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        chrome = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chrome.get(addresses.get(timeout=60))
        time.sleep(1)
        chrome.find_element("id", "something").click()
        time.sleep(SECONDS)
        chrome.save_screenshot(str(PICTURE))
        chrome.quit()


if __name__ == "__main__":
    main()
