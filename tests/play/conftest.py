"""A real server in a thread, and the client of the examples."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
import torch
from torch import nn
from websockets.sync.client import connect as open_socket

from notelstm.bundle import Bundle, load
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.models import NoteLSTM
from notelstm.parts import Part, PartMap
from notelstm.play import Limits, create_app
from notelstm.play.serving import make_server
from notelstm.sampling import Ancestral

HANGS: Final = 600
"""Seconds in which a server starts or stops, on any machine."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "play_with_a_bot.py"


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("play_with_a_bot", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class RawSocket:
    """A connection without compression whose end does not wait for the server."""

    def __init__(self, address: str) -> None:
        self._context: Final = open_socket(address, compression=None, close_timeout=0.1)
        self._socket: Final = self._context.__enter__()
        self.send: Final = self._socket.send
        self.recv: Final = self._socket.recv

    def close(self) -> None:
        """Cut the connection."""
        with contextlib.suppress(OSError):
            self._socket.socket.shutdown(socket.SHUT_RDWR)
        self._context.__exit__(None, None, None)


class Server:
    """A server of an ASGI app on a free port of this machine."""

    def __init__(self, app: Any) -> None:
        self.app: Final = app
        # asyncio sends small messages at once only if the socket names its protocol, as that of
        # `notelstm.play.serve` does; otherwise, each exchange takes up to 40 ms.
        self._socket: Final = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self.port: Final = int(self._socket.getsockname()[1])
        self.address: Final = f"http://127.0.0.1:{self.port}/"
        self._server: Final = make_server(app, Limits())
        self.thread: Final = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def __enter__(self) -> Server:
        self.thread.start()
        give_up = time.monotonic() + HANGS
        while not self._server.started:
            if not self.thread.is_alive() or time.monotonic() > give_up:
                self._server.should_exit = True
                pytest.fail("the server did not start")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server, which closes the socket before its loop ends."""
        self._server.should_exit = True
        self.thread.join(HANGS)
        assert not self.thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load()


@pytest.fixture(scope="session")
def example() -> Any:
    """The example with the client, as a module."""
    return _example()


@pytest.fixture(scope="session")
def server(bundle: Bundle) -> Iterator[Server]:
    """A server with two models, which are the same."""
    # Sessions of tests that have ended wait for their clients.
    app = create_app({"piano": bundle, "second": bundle}, limits=Limits(sessions=1000))
    with Server(app) as running:
        yield running


@pytest.fixture(scope="session")
def band() -> Bundle:
    """An untrained model of three instruments and drums."""
    parts = (
        Part(name="soprano", program=52),
        Part(name="violin", program=40),
        Part(name="bass", program=32),
        Part(name="kit", drum=True),
    )
    encoder = LogTimeEncoder(parts=PartMap(by="name", parts=parts), exact=True)
    torch.manual_seed(1)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


@pytest.fixture(scope="session")
def writer() -> Callable[..., Bundle]:
    """A tiny untrained model, with parts if they are given, that can fill gaps."""

    def make(parts: PartMap | None = None) -> Bundle:
        inner = LogTimeEncoder(exact=True, linear=2.0, parts=parts)
        encoder = AnticipatingEncoder(inner=inner, seconds=2.0)
        torch.manual_seed(1)
        model = NoteLSTM(fields=encoder.fields, hidden_size=8, embedding_dim=4)
        with torch.no_grad():
            # Short steps are likely.
            bias = cast(nn.Linear, model.heads["step"].get_submodule("2")).bias
            bias.copy_(bias - 0.05 * torch.arange(len(bias)))
        return Bundle(model=model, encoder=encoder, sampler=Ancestral())

    return make


@pytest.fixture
def serve(bundle: Bundle) -> Iterator[Callable[..., Server]]:
    """Starts a server with its own settings, as often as it is called."""
    with contextlib.ExitStack() as stack:

        def start(limits: Limits | None = None, app: Any = None, **settings: Any) -> Server:
            app = app or create_app(bundle, limits=limits, **settings)
            return stack.enter_context(Server(app))

        yield start


@pytest.fixture
def connect(server: Server, example: Any) -> Iterator[Callable[..., Any]]:
    """Opens clients, of the shared server if no address is given."""
    with contextlib.ExitStack() as stack:

        def start(address: str | None = None, **settings: Any) -> Any:
            client = example.Client(address or server.address, **settings)
            stack.callback(client.close)
            return client

        yield start


@pytest.fixture
def raw_socket() -> Callable[[str], RawSocket]:
    """Opens a connection that can be cut."""
    return RawSocket
