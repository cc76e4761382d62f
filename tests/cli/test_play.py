"""``notelstm play``: it serves, says where, and ends."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from notelstm.cli import main

Process = subprocess.Popen[str]
NOTE = {"pitch": 60, "velocity": 80}


@pytest.fixture
def started() -> Iterator[Any]:
    """Starts ``notelstm play`` as a program; gives it and the line with its address."""
    running: list[Process] = []

    def start(*options: str, browser: Path | None = None) -> tuple[Process, str]:
        command = [sys.executable, "-m", "notelstm", "play", *options]
        if browser is None:
            command.append("--no-browser")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "BROWSER": str(browser)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        running.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline()

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_play_serves_until_interrupted(started: Any) -> None:
    process, line = started("--port", "0")
    address = line.split()[2]
    assert line.startswith("playing at http://127.0.0.1:")
    assert "#token" not in address
    with urllib.request.urlopen(address) as page:
        assert b"Play me something" in page.read()
    with connect(address.replace("http", "ws") + "socket") as client:
        client.send(json.dumps({"type": "hello", "version": 1, "clock": "a", "at": 0}))
        welcome = json.loads(client.recv(timeout=60))
        assert [model["name"] for model in welcome["models"]] == ["Piano, pretrained"]
        # A connection does not keep the server alive.
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=100)
    assert rest == "stopped\n"
    assert process.returncode == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the time of a processor")
def test_play_ends_at_once_while_it_generates_and_renders(started: Any) -> None:
    process, line = started("--port", "0")
    address = line.split()[2]
    ended = threading.Event()

    def download(key: str) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(f"{address}sessions/{key}/takes/1.wav").read()
        ended.set()

    with connect(address.replace("http", "ws") + "socket") as client:

        def send(kind: str, **values: Any) -> None:
            client.send(json.dumps({"type": kind, **values}))

        send("hello", version=1, clock="a", at=0)
        key = json.loads(client.recv(timeout=60))["session"]
        for part in range(5):
            # Each sounds for long, so that the sound takes many seconds of a processor.
            onsets = [part * 100 + k / 5 for k in range(500)]
            send("notes", notes=[{"start": s, "end": s + 20, **NOTE} for s in onsets])
        send("continue", at=600, seconds=1, seed=1)
        while json.loads(client.recv(timeout=60))["type"] != "ready":
            pass
        send("stop", at=610)
        threading.Thread(target=download, args=(key,), daemon=True).start()
        send("continue", at=620, seconds=None, seed=1)
        for k in range(100):
            send("head", at=620 + 60 * k)
        before = cpu_seconds(process.pid)
        while cpu_seconds(process.pid) < before + 0.5:
            assert not ended.is_set()
            time.sleep(0.01)
        before = cpu_seconds(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "stopped\n"
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert used.ru_utime + used.ru_stime - before < 4


def cpu_seconds(pid: int) -> float:
    """The time that a process has used of a processor."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform == "win32", reason="the browser is a shell script")
def test_the_browser_is_opened(started: Any, tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(0o755)
    _, line = started("--port", "0", browser=browser)
    give_up = time.monotonic() + 60
    while not opened.exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert opened.read_text().strip() == line.split()[2]


def test_other_machines_need_the_token(started: Any) -> None:
    process, line = started("--port", "0", "--host", "0.0.0.0")
    address, _, token = line.split()[2].partition("#token=")
    assert len(token) >= 16
    assert process.stdout is not None
    assert "other machines can reach this address" in process.stdout.readline()
    port = address.rstrip("/").rpartition(":")[2]
    for given, kind in ((None, "error"), (token, "welcome")):
        with connect(f"ws://127.0.0.1:{port}/socket") as client:
            values = {"version": 1, "clock": "a", "at": 0, "token": given}
            client.send(json.dumps({"type": "hello", **values}))
            assert json.loads(client.recv(timeout=60))["type"] == kind


def test_a_port_in_use_is_refused_and_the_usual_one_replaced(
    capsys: pytest.CaptureFixture[str], started: Any
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["play", "--no-browser", "--port", str(port)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"notelstm: error: cannot listen on 127.0.0.1, port {port}")
        assert error.endswith("Choose another port\n")
    lines = [started()[1] for _ in range(2)]
    assert all(line.startswith("playing at") for line in lines)
    assert lines[0] != lines[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], "port 70000 is not from 0 to 65535"),
        (["--host", "nowhere.invalid"], "cannot listen on nowhere.invalid"),
        (["--sessions", "0"], "sessions 0 is not a whole number from 1 to 10000"),
        (["nothing.notelstm"], "no such model file: nothing.notelstm"),
    ],
)
def test_invalid_options_are_explained(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["play", "--no-browser", *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"notelstm: error: {message}")


WITHOUT = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == sys.argv[1] else found(name, *a)
from notelstm.cli import main
sys.exit(main(["play", "--no-browser"]))
"""


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "websockets"])
def test_a_missing_extra_is_one_error(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"notelstm: error: {package}".replace("starlette", "Starlette"))
    assert line.endswith("not installed. Run pip install 'notelstm[play]'")


def test_the_names_of_models_are_those_of_their_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    import shutil

    from notelstm.bundle import PRETRAINED
    from notelstm.cli.play import play

    names: list[str] = []
    module = importlib.import_module("notelstm.play")
    monkeypatch.setattr(module, "serve", lambda bundles, **_: names.extend(bundles))
    paths = [tmp_path / "a" / "one.notelstm", tmp_path / "b" / "one.notelstm", tmp_path / "two"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        shutil.copy(PRETRAINED, path)
    play(tuple(paths), no_browser=True)
    assert names == [str(paths[0]), str(paths[1]), "two"]
