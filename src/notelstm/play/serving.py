"""``serve``: a server of its own for the app, with uvicorn."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import ipaddress
import logging
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from starlette.types import ASGIApp

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, MissingExtraError
from notelstm.play.app import PlayApp, create_app
from notelstm.play.limits import Limits

if TYPE_CHECKING:
    import uvicorn

__all__ = ["PORT", "is_loopback", "make_server", "serve"]

PORT: Final = 7464
"""The port that is tried first."""

_PATIENCE: Final = 0.5
"""Seconds in which clients read what has been sent when the server stops."""

_SWITCH: Final = 0.0005
"""Seconds after which the thread of the models lets that of the event loop run, a tenth of the
default."""

_log = logging.getLogger(__name__)


def serve(
    bundles: Bundle | Mapping[str, Bundle],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    limits: Limits | None = None,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve the app until the process is interrupted.

    Args:
        bundles: The models, as for :func:`create_app`.
        host: The address or the name to listen on.
        port: The port; None for 7464 or, if that is in use, any free one; 0 for any free one.
        token: The password of clients. If it is None and other machines can reach `host`, one is
            made.
        limits: The limits; None for ``Limits()``.
        on_start: Called with the address of the page, with the token, when the server is ready.

    Raises:
        ConfigError: If the host does not exist or the port is in use.
        MissingExtraError: If the extra ``play`` is not installed.
    """
    missing = [name for name in ("uvicorn", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"{missing[0]}, which the server needs, is not installed",
            hint="run pip install 'notelstm[play]'",
        )
    bound = _bound(host, port)
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(12)
    limits = limits or Limits()
    names = {"localhost", host}
    if not is_loopback(host):
        names |= {socket.gethostname(), socket.getfqdn()}
    app = create_app(bundles, hosts=names, token=token, limits=limits)
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::", ""):
        shown = socket.gethostname()
    address = f"http://{shown}:{bound.getsockname()[1]}/"
    if token is not None:
        # The part after # is not sent to the server, so that no log has it.
        address += f"#token={quote(token, safe='')}"
    server = make_server(app, limits, lambda: on_start and on_start(address))
    # A full collection of the objects that are there already takes a tenth of a second, in which no
    # note is sent; frozen, they are left out.
    gc.collect()
    gc.freeze()
    # What has arrived or is to be sent would wait so long for the thread of the models.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        with bound:
            server.run(sockets=[bound])
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()


def make_server(
    app: ASGIApp, limits: Limits, on_start: Callable[[], object] | None = None
) -> uvicorn.Server:
    """A server for an app that has been created or into which it has been mounted.

    Args:
        app: The app.
        limits: The limits.
        on_start: Called when it is ready.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Tells when it is ready, and does not wait for its clients when it stops."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if on_start is not None and not self.should_exit:
                on_start()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if isinstance(app, PlayApp):
                app.close()
            asyncio.get_running_loop().call_later(_PATIENCE, self.abort)
            await super().shutdown(sockets)

        def abort(self) -> None:
            """Cut the connections of clients that do not read."""
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=4 * limits.message_bytes,
            # Notes are sent many times a second, mostly to this machine.
            ws_per_message_deflate=False,
            ws_ping_interval=20,
            ws_ping_timeout=20,
            timeout_graceful_shutdown=2,
        )
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket that is bound to the host and the port."""
    if port is not None and not 0 <= port <= 65_535:
        raise ConfigError(f"port {port} is not from 0 to 65535")
    for number in (PORT, 0) if port is None else (port,):
        try:
            found = socket.getaddrinfo(
                host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = found[0]
            bound = socket.socket(family, kind, protocol)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {host}: {error}", hint="check the host") from error
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError as error:
            bound.close()
            if port is None and number:
                continue
            reason = error.strerror or error
            raise ConfigError(
                f"cannot listen on {host}, port {number}: {reason}", hint="choose another port"
            ) from error
        return bound
    raise AssertionError("the last port is any free one")
