"""Malformed messages, cut connections, and other sites: the server lives and gives nothing away."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import http.client
import json
import os
import pickle
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from starlette.websockets import WebSocket, WebSocketState
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_socket
from websockets.typing import Origin

from notelstm.play import Limits, serving
from notelstm.play.performance import Performance
from notelstm.play.protocol import RefusedError, parse
from notelstm.play.sessions import Connected, Sessions

Connect = Callable[..., Any]

MALFORMED = {
    "": "is not JSON",
    "{": "is not JSON",
    "[]": "not a JSON object with a type",
    "null": "not a JSON object with a type",
    '{"type": 1}': "not a JSON object with a type",
    '{"type": "hedd", "at": 1}': "did you mean 'head'?",
    '{"type": "head"}': "head lacks at",
    '{"type": "head", "at": NaN}': "NaN is no JSON number",
    '{"type": "head", "at": 1e999}': "not a number from 0",
    '{"type": "head", "at": -1}': "at of head is -1, not a number from 0 to 1e+07",
    '{"type": "head", "at": "1"}': "not a number",
    '{"type": "head", "at": true}': "not a number",
    '{"type": "head", "at": 1, "on": 2}': "head has no 'on'",
    '{"type": "head", "at": ' + "9" * 5000 + "}": "is not JSON",
    '{"type": "note-on", "pitch": 128, "velocity": 1, "at": 1}': "not a whole number from 0 to 127",
    '{"type": "note-on", "pitch": 60, "velocity": 0, "at": 1}': "not a whole number from 1 to 127",
    '{"type": "note-on", "pitch": 60.5, "velocity": 1, "at": 1}': "not a whole number",
    '{"type": "note-off", "pitch": 60, "at": 1, "drum": 1}': "not true or false",
    '{"type": "notes", "notes": []}': "not a list of 1 to 512 notes",
    '{"type": "notes", "notes": [1]}': "number 0 is not an object",
    '{"type": "notes", "notes": [{"start": 2, "end": 1, "pitch": 1, "velocity": 1}]}': (
        "ends before it starts"
    ),
    '{"type": "steer", "at": 1, "controls": {"temprature": 1}}': "did you mean 'temperature'?",
    '{"type": "steer", "at": 1, "controls": {"temperature": 9}}': "is not a number from 0.1 to 3",
    '{"type": "steer", "at": 1, "controls": {"temperature": 1' + "0" * 400 + "}}": (
        "is not a number from 0.1 to 3"
    ),
    '{"type": "steer", "at": 1, "controls": {"temperature": true}}': "temperature is True",
    '{"type": "steer", "at": 1, "controls": {"temperature": "1"}}': "not a number from 0.1 to 3",
    '{"type": "steer", "at": 1, "controls": {"polyphony": 1.5}}': "not a whole number",
    '{"type": "steer", "at": 1, "controls": {"low": 60, "high": 50}}': "is empty",
    '{"type": "steer", "at": 1, "controls": {"scale": "H moll"}}': "no such scale",
    '{"type": "steer", "at": 1, "controls": {"scale": 5}}': "no such scale",
    '{"type": "model", "name": ' + json.dumps("x" * 300) + ', "at": 1}': "at most 200 characters",
    "[" * 30_000: "is not JSON",
}


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_message_is_explained(text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse(text)
    assert refused.value.code == "malformed"
    assert MALFORMED[text] in str(refused.value)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("{", None),
        ('{"type": "hedd", "at": 1}', None),
        ('{"type": "fill", "start": 1, "end": "2", "at": 3}', "fill"),
        ('{"type": "steer", "at": 1, "controls": {"temperature": 9}}', "steer"),
        ('{"type": "notes", "notes": [{"start": 1}]}', "notes"),
        ('{"type": "keep", "take": 99}', "keep"),
    ],
)
def test_an_error_names_the_message_that_was_refused(
    connect: Connect, text: str, about: str | None
) -> None:
    client = connect()
    client.socket.send(text)
    assert client.receive("error")["about"] == about


def test_the_session_lives_after_malformed_messages(connect: Connect) -> None:
    client = connect()
    for text in MALFORMED:
        client.socket.send(text)
        assert client.receive("error")["code"] == "malformed"
    client.socket.send(b"\x00\xff")
    assert client.receive("error")["code"] == "malformed"
    client.socket.send(json.dumps({"type": "clear", "at": 0, "x": "y" * 70_000}))
    assert client.receive("error")["code"] == "too-long"
    client.send("hello", version=1, clock="a", at=0)
    assert client.receive("error")["code"] == "not-now"
    client.send("continue", at=1, seconds=1, seed=1)
    assert client.receive("playing")["take"] == 1


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        ({"version": 2}, "version"),
        ({"token": None}, "token"),
        ({"token": "wrong"}, "token"),
        ({"token": "é"}, "token"),
    ],
)
def test_a_client_without_version_or_token_is_refused(
    serve: Callable[..., Any], hello: dict[str, Any], code: str
) -> None:
    server = serve(token="secret")
    with open_socket(server.address.replace("http", "ws") + "socket") as client:
        values = {"version": 1, "clock": "a", "at": 0, "token": "secret", **hello}
        client.send(json.dumps({"type": "hello", **values}))
        assert json.loads(client.recv(timeout=60))["code"] == code
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


@pytest.mark.parametrize("token", ["secret", "50% a+b&c=d#é/"])
def test_a_client_with_the_token_is_welcome(
    connect: Connect,
    serve: Callable[..., Any],
    bundle: Any,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
) -> None:
    """The address that the server prints has it, as browsers read it."""

    def make_server(app: Any, limits: Limits, on_start: Callable[[], object]) -> Any:
        return SimpleNamespace(run=lambda sockets: on_start())

    monkeypatch.setattr(serving, "make_server", make_server)
    printed: list[str] = []
    serving.serve(bundle, port=0, token=token, on_start=printed.append)
    _, _, fragment = printed[0].partition("#")
    assert parse_qs(fragment) == {"token": [token]}
    assert connect(f"{serve(token=token).address}#{fragment}").welcome["session"]


def test_nothing_is_answered_before_the_hello(server: Any) -> None:
    with open_socket(server.address.replace("http", "ws") + "socket") as client:
        client.send(json.dumps({"type": "continue", "at": 1}))
        found = json.loads(client.recv(timeout=60))
        assert (found["code"], found["message"]) == ("not-now", "the first message is not a hello")


def test_a_flood_of_messages_is_ignored(connect: Connect, serve: Callable[..., Any]) -> None:
    client = connect(serve(Limits(messages_per_second=50)).address)
    for _ in range(400):
        client.send("keep", take=99)
    codes = []
    while "too-fast" not in codes:
        codes.append(client.receive("error")["code"])
    assert len(codes) < 350


def status(server: Any, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """The answer to a request with these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    method = "POST" if path.endswith("midi") else "GET"
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in {**headers, "Content-Length": "0"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data


UPGRADE = (
    "GET /socket HTTP/1.1",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def handshake(server: Any, **headers: str) -> int:
    """The status of a request that opens the socket."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall("\r\n".join([*UPGRADE, *lines, "", ""]).encode())
        return int(raw.recv(100).split()[1])


def test_requests_for_other_hosts_are_refused(server: Any, connect: Connect) -> None:
    key = connect().welcome["session"]
    port = server.port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "localhost.evil.example",
        "",
        "127.0.0.1.nip.io",
    ):
        for path in ("/", "/page/main.js", f"/sessions/{key}/takes/1.mid", f"/sessions/{key}/midi"):
            code, _, data = status(server, path, Host=host)
            assert code in (400, 403), (host, path)
            assert b"html" not in data
        assert handshake(server, Host=host) in (400, 403), host
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "LOCALHOST"):
        assert status(server, "/", Host=host)[0] == 200
        assert handshake(server, Host=host) == 101


def test_other_sites_may_not_open_the_socket(server: Any, connect: Connect) -> None:
    own = f"127.0.0.1:{server.port}"
    key = connect().welcome["session"]
    for origin in (
        "http://evil.example",
        f"http://127.0.0.1:{server.port + 1}",
        f"http://localhost:{server.port}",
        f"http://{own}.evil.example",
        f"http://{own}@evil.example",
        "null",
        "",
    ):
        assert handshake(server, Host=own, Origin=origin) == 403, origin
        assert status(server, f"/sessions/{key}/midi", Origin=origin)[0] == 403, origin
    assert handshake(server, Host=own, Origin=f"http://{own}") == 101
    assert handshake(server, Host=own, Origin=f"HTTPS://{own}") == 101
    with pytest.raises(InvalidStatus):
        open_socket(f"ws://{own}/socket", origin=Origin("http://evil.example")).__enter__()


def test_answers_have_strict_headers(server: Any) -> None:
    for path in (
        "/",
        "/page/main.js",
        "/page/play.css",
        "/page/parts.js",
        "/page/sound.js",
        "/page/none.js",
    ):
        _, headers, _ = status(server, path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "http:" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page/", "/etc/passwd"]
)
def test_only_the_files_of_the_page_are_served(server: Any, path: str) -> None:
    assert status(server, path)[0] == 404


def test_the_page_has_no_inline_code_and_nothing_from_elsewhere() -> None:
    import notelstm.play

    folder = Path(notelstm.play.__file__).parent / "page"
    page = (folder / "index.html").read_text("utf-8")
    assert "<script>" not in page
    assert "style=" not in page
    assert " on" not in page.replace(" on the", "").replace(" one", "") or " onclick" not in page
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        for word in ("http://", "https://", "//cdn", "eval(", "innerHTML"):
            assert word not in text, (path.name, word)


def junk(chance: random.Random) -> str | bytes:
    """A random message: noise, JSON noise, or a message with random values."""
    kind = chance.randrange(5)
    if kind == 0:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(200)))
    if kind == 1:
        return "".join(chr(chance.randrange(32, 0x2FF)) for _ in range(chance.randrange(200)))
    if kind == 2:
        return chance.choice(list(MALFORMED))
    values: tuple[Any, ...] = (
        *(None, -1, 0, 1, 3.5, 60, 1e308, "x", "piano", [], {}, True, [{}]),
        {"density": 4},
    )
    names = (
        "at",
        "pitch",
        "velocity",
        "take",
        "controls",
        "seconds",
        "notes",
        "until",
        "name",
        "seed",
    )
    types = (
        *("note-on", "note-off", "notes", "continue", "again", "head", "steer", "stop"),
        *("undo", "clear", "model", "prompt", "keep", "delete", "take", "hello", "???"),
        *("fill", "piece"),
    )
    if kind == 3:
        found = {name: chance.choice(values) for name in chance.sample(names, chance.randrange(5))}
        return json.dumps({"type": chance.choice(types), **found})
    # Valid messages in any order.
    at = {"at": chance.random() * 100}
    note = {"pitch": chance.randrange(128), **at}
    valid: dict[str, dict[str, Any]] = {
        "note-on": {**note, "velocity": chance.randrange(1, 128)},
        "note-off": note,
        "continue": {**at, "seconds": chance.choice([None, 0.5, 3]), "seed": chance.randrange(9)},
        "again": {**at, "seed": chance.randrange(9)},
        "head": at,
        "steer": {**at, "controls": chance.choice([{}, {"scale": "D dorian"}, {"polyphony": 1}])},
        "stop": at,
        "undo": at,
        "clear": at,
        "piece": at,
        "fill": {**at, "start": chance.random() * 100, "end": chance.random() * 100},
        "keep": {"take": chance.randrange(1, 5)},
        "delete": {"take": chance.randrange(1, 5)},
        "take": {"take": chance.randrange(1, 5)},
    }
    kind_ = chance.choice(list(valid))
    return json.dumps({"type": kind_, **valid[kind_]})


def admitted(raw_socket: Callable[[str], Any], address: str) -> Any:
    """A client with a session; those that were cut keep theirs until the server notices it."""
    give_up = time.monotonic() + 60
    while True:
        client = raw_socket(address)
        client.send(json.dumps({"type": "hello", "version": 1, "clock": "a", "at": 0}))
        found = json.loads(client.recv(timeout=60))
        if found["type"] == "welcome":
            return client
        assert found["code"] == "full"
        assert time.monotonic() < give_up
        client.close()
        time.sleep(0.05)


def test_ten_thousand_random_messages(
    connect: Connect, serve: Callable[..., Any], raw_socket: Callable[[str], Any]
) -> None:
    limits = Limits(messages_per_second=1e6, sessions=8, resume_seconds=0.05, takes=4, notes=256)
    server = serve(limits)
    address = server.address.replace("http", "ws") + "socket"
    watcher = connect(server.address)
    gc.collect()
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    threads = threading.active_count()
    chance = random.Random(7)
    sent = cuts = refused = 0
    while sent < 10_000:
        client = admitted(raw_socket, address)
        # Some are cut in the middle of answers, others when they have read the last.
        patient = chance.random() < 0.7
        for number in range(chance.randrange(1, 300)):
            client.send(junk(chance))
            sent += 1
            if patient and number % 20 == 0:
                client.send(json.dumps({"type": "keep", "take": 10**9}))
                found = {"message": ""}
                while str(10**9) not in found.get("message", ""):
                    found = json.loads(client.recv(timeout=60))
                    refused += found["type"] == "error"
        cuts += not patient
        client.close()
    assert refused > 2000
    assert cuts > 5
    # Everybody else can play, and all that was left has ended.
    watcher.send("continue", at=1, seconds=2, seed=1)
    assert watcher.listen(1)[1]
    give_up = time.monotonic() + 60
    while True:
        with contextlib.suppress(RuntimeError), contextlib.ExitStack() as stack:
            for _ in range(limits.sessions - 1):
                stack.callback(connect(server.address).close)
            break
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert server.thread.is_alive()
    give_up = time.monotonic() + 60
    while files and len(os.listdir("/proc/self/fd")) > files + 2 * limits.sessions:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert threading.active_count() <= threads + 2 * limits.sessions + (os.cpu_count() or 1) + 2


def test_a_session_ends_if_its_client_is_gone_before_the_welcome() -> None:
    async def receive() -> dict[str, Any]:
        hello = {"type": "hello", "version": 1, "clock": "a", "at": 0}
        return {"type": "websocket.receive", "text": json.dumps(hello)}

    async def send(message: Any) -> None:
        raise OSError("the connection is lost")

    async def visit() -> int:
        sessions = Sessions({"none": None}, Limits(resume_seconds=0), None, [])  # type: ignore[dict-item]  # it is not used
        socket = WebSocket({"type": "websocket", "headers": []}, receive, send)
        socket.client_state = socket.application_state = WebSocketState.CONNECTED
        await Connected(socket, sessions).run()
        opened = len(sessions)
        async with asyncio.timeout(60):
            while len(sessions):
                await asyncio.sleep(0.01)
        return opened

    assert asyncio.run(visit()) == 1


def test_clients_that_close_at_once_leave_no_session(
    connect: Connect, serve: Callable[..., Any]
) -> None:
    server = serve(Limits(sessions=3, resume_seconds=0.05))

    def frame(kind: int, data: bytes) -> bytes:
        """A frame of a client, whose mask changes nothing."""
        return bytes([0x80 | kind, 0x80 | len(data)]) + bytes(4) + data

    hello = json.dumps({"type": "hello", "version": 1, "clock": "a", "at": 0}).encode()
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
            host = f"Host: 127.0.0.1:{server.port}"
            raw.sendall("\r\n".join([*UPGRADE, host, "", ""]).encode())
            assert raw.recv(1000).split()[1] == b"101"
            raw.sendall(frame(1, hello) + frame(8, (1001).to_bytes(2)))
    give_up = time.monotonic() + 60
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            while True:
                with contextlib.suppress(RuntimeError):
                    stack.callback(connect(server.address).close)
                    break
                assert time.monotonic() < give_up
                time.sleep(0.05)


def test_closing_a_lost_connection_is_no_error() -> None:
    """A client that comes back is not refused because its former connection is lost already."""

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    closings = []

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close":
            closings.append(message["code"])
            raise OSError("the connection is lost")

    async def close() -> None:
        socket = WebSocket({"type": "websocket", "headers": []}, receive, send)
        await socket.accept()
        await Connected(socket, Sessions({}, Limits(), None, [])).close(4001, "elsewhere")

    asyncio.run(close())
    assert closings == [4001]


def test_the_memory_of_a_session_is_constant(bundle: Any) -> None:
    from notelstm.play.engine import Engine

    limits = Limits(notes=256, takes=3)
    performance = Performance({"piano": Engine(bundle)}, limits)
    performance.attach("a", 0)

    def send(kind: str, **values: Any) -> None:
        for _ in performance.handle(parse(json.dumps({"type": kind, **values}))):
            pass

    def space() -> int:
        """The bytes of its whole state."""
        state = {k: v for k, v in vars(performance).items() if k not in ("_engines", "_handlers")}
        memory = dataclasses.replace(state["_memory"], engine=None)
        return len(pickle.dumps({**state, "_memory": memory}))

    sizes, spaces = [], []
    at = 0.0
    for turn in range(8):
        for _ in range(40):
            send("note-on", pitch=60 + turn, velocity=80, at=at)
            send("note-off", pitch=60 + turn, at=at + 0.1)
            at += 0.2
        send("continue", at=at, seconds=None, seed=turn)
        for _ in range(40):
            send("head", at=at)
            at += 1
        piece = performance.state()[2]["notes"]
        held = sum(len(take.prompt) + len(take.notes) for take in performance.takes.values())
        sizes.append(held)
        spaces.append(space())
        assert len(piece) <= limits.notes
        assert len(performance.takes) <= limits.takes
    assert max(sizes) <= 2 * limits.notes * limits.takes
    assert sizes[-1] <= sizes[4] * 1.5
    # The states of the model at some notes of the piece take most of it.
    assert max(spaces) < 8e6
    # Every eighth of the latest 128 rows, every 64th of all, and two more.
    assert len(performance._memory.states) <= 16 + 256 // 64 + 4


def test_a_client_without_pause_does_not_stop_the_others(bundle: Any) -> None:
    """Messages that have arrived together are handled in turn with those of other clients."""
    from notelstm.play.engine import Engine

    order: list[str] = []

    async def talk(name: str, sessions: Sessions) -> None:
        texts = [{"type": "hello", "version": 1, "clock": "a", "at": 0}]
        texts += [{"type": "keep", "take": 1}] * 40
        waiting = [{"type": "websocket.receive", "text": json.dumps(text)} for text in texts]

        async def receive() -> dict[str, Any]:
            return waiting.pop(0) if waiting else {"type": "websocket.disconnect"}

        async def send(message: Any) -> None:
            order.append(name)

        socket = WebSocket({"type": "websocket", "headers": []}, receive, send)
        socket.client_state = socket.application_state = WebSocketState.CONNECTED
        await Connected(socket, sessions).run()

    async def both() -> None:
        sessions = Sessions({"piano": Engine(bundle)}, Limits(), None, [])
        await asyncio.gather(talk("a", sessions), talk("b", sessions))

    asyncio.run(both())
    first, last = order.index("b"), len(order) - order[::-1].index("a")
    assert order[first:last].count("b") > 30


def test_a_message_that_is_too_long_counts_as_one(
    connect: Connect, serve: Callable[..., Any]
) -> None:
    client = connect(serve(Limits(messages_per_second=50, message_bytes=1024)).address)
    codes = []
    for _ in range(400):
        client.socket.send("x" * 2000)
    while "too-fast" not in codes:
        codes.append(client.receive("error")["code"])
    assert len(codes) < 350
    client.send("keep", take=99)


def test_a_session_is_taken_over_from_a_client_that_does_not_read(
    connect: Connect, serve: Callable[..., Any], raw_socket: Callable[[str], Any]
) -> None:
    """The new connection does not wait until the old one has been given up."""
    server = serve(Limits(send_seconds=3600, messages_per_second=1e6))
    with contextlib.closing(raw_socket(server.address.replace("http", "ws") + "socket")) as slow:
        slow.send(json.dumps({"type": "hello", "version": 1, "clock": "slow", "at": 0}))
        key = json.loads(slow.recv(timeout=60))["session"]
        notes = [{"start": k, "end": k, "pitch": 60, "velocity": 80} for k in range(500)]
        slow.send(json.dumps({"type": "notes", "notes": notes}))
        slow.send(json.dumps({"type": "continue", "at": 1000, "seconds": 5, "seed": 2}))
        asked = 0

        def ask() -> None:
            nonlocal asked
            with contextlib.suppress(OSError, ConnectionClosed):
                while True:
                    slow.send(json.dumps({"type": "take", "take": 1}))
                    asked += 1

        threading.Thread(target=ask, daemon=True).start()
        before = -1
        while asked > before:  # until the server reads no more, since it cannot answer
            before = asked
            time.sleep(1)
        client = connect(server.address, session=key, clock="b")
        assert client.welcome["resumed"]


@pytest.mark.parametrize("flood", ["head", "take"])
def test_the_server_stops_at_once(
    serve: Callable[..., Any], raw_socket: Callable[[str], Any], flood: str
) -> None:
    """Minutes of work that a client has asked for do not delay the end, nor others."""
    server = serve(Limits(messages_per_second=1e6))
    address = server.address.replace("http", "ws") + "socket"
    with contextlib.closing(raw_socket(address)) as greedy:

        def send(kind: str, **values: Any) -> None:
            greedy.send(json.dumps({"type": kind, **values}))

        def read() -> None:
            with contextlib.suppress(OSError, ConnectionClosed):
                while True:
                    greedy.recv()

        threading.Thread(target=read, daemon=True).start()
        send("hello", version=1, clock="a", at=0)
        send(
            "notes", notes=[{"start": k, "end": k, "pitch": 60, "velocity": 80} for k in range(500)]
        )
        send("continue", at=1000, seconds=None, seed=1)
        for k in range(4000):
            values = {"at": 1000 + 60 * k} if flood == "head" else {"take": 1}
            send(flood, **values)
        spent = time.process_time()
        server.stop()
        assert time.process_time() - spent < 1.5
