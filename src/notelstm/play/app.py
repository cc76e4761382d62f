"""``create_app``: the ASGI app with the page, the socket, uploads and downloads."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar, final

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from notelstm.bundle import Bundle
from notelstm.errors import ConfigError, NotelstmError, NotesError
from notelstm.listening.audio import save_audio
from notelstm.listening.card import card_of, music_details
from notelstm.listening.page import Sample, page_html
from notelstm.listening.timbres import TIMBRES, drum_sound_of, timbre_of
from notelstm.midi import ReadPolicy, midi_bytes_with_report, read_midi_with_report
from notelstm.notes import Notes
from notelstm.play.controls import controls_of
from notelstm.play.engine import Engine
from notelstm.play.limits import Limits
from notelstm.play.performance import Take
from notelstm.play.sessions import Connected, Sessions
from notelstm.play.worker import ClosedError

__all__ = ["PlayApp", "create_app"]

_LOCAL: Final = ("localhost",)
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_OF_A_TAKE: Final = "sandbox allow-scripts allow-downloads"
"""The page of a take has a policy of its own, in a meta element; it gets no access to the app."""
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_UNNAMED: Final = re.compile(r"[^\w .-]+")

T = TypeVar("T")

_log = logging.getLogger(__name__)


def create_app(
    bundles: Bundle | Mapping[str, Bundle],
    *,
    hosts: Collection[str] = _LOCAL,
    token: str | None = None,
    limits: Limits | None = None,
) -> PlayApp:
    """The ASGI app, to run with any server or to mount in another app.

    Requests are answered only if they name one of `hosts` or an IP address as their host, and
    browsers may open the socket only from a page of the same origin, so that no other site can use
    the app.

    Args:
        bundles: The models, by the names that the page shows; or one model.
        hosts: The names of the machine, without port.
        token: A password that clients must send, for apps that other machines can reach; None for
            none.
        limits: The limits; None for ``Limits()``.

    Raises:
        ConfigError: If there is no model.
        DataError: If a parameter of a model is NaN or infinite.
    """
    named = {"model": bundles} if isinstance(bundles, Bundle) else dict(bundles)
    if not named:
        raise ConfigError("there is no model to play with", hint="pass a bundle")
    engines = {name: Engine(bundle) for name, bundle in named.items()}
    models = [_described(name, engine) for name, engine in engines.items()]
    sessions = Sessions(engines, limits or Limits(), token, models)
    app = _App(named, sessions)
    return PlayApp(app.starlette, hosts, sessions)


def _described(name: str, engine: Engine) -> dict[str, Any]:
    """A model for the list of models."""
    bundle = engine.bundle
    card = {
        heading: {key: str(value) for key, value in table.items()}
        for heading, table in card_of(bundle).items()
    }
    license_ = bundle.data.license or "unknown"
    return {
        "name": name,
        "license": license_,
        "card": card,
        "controls": controls_of(bundle),
        "fills": engine.fills,
        "parts": [
            {"name": part.name, "program": part.program, "drum": part.drum} for part in engine.parts
        ],
    }


@final
class PlayApp:
    """The ASGI app: refuses requests with another host or origin, and adds headers to answers.

    Args:
        app: The app inside.
        hosts: The names that a request may have as its host.
        sessions: The sessions.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], sessions: Sessions) -> None:
        self._app: Final = app
        self._hosts: Final = frozenset(host.lower() for host in hosts)
        self._sessions: Final = sessions

    def close(self) -> None:
        """End all sessions. A server that stops calls it, so that it need not wait for them."""
        self._sessions.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_known(host) or not _is_same_origin(headers.get("origin"), host):
            _log.warning("refused: host %r, origin %r", host, headers.get("origin"))
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
            else:
                text = "This host or origin is not allowed.\n"
                await PlainTextResponse(text, status_code=403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = Headers(raw=message["headers"])
                added = {
                    "content-security-policy": _POLICY,
                    "x-content-type-options": "nosniff",
                    "referrer-policy": "no-referrer",
                    "cross-origin-resource-policy": "same-origin",
                    "cache-control": "no-store",
                }
                pairs = [(k, v) for k, v in added.items() if k not in found]
                raw = [*message["headers"], *((k.encode(), v.encode()) for k, v in pairs)]
                message = {**message, "headers": raw}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _is_known(self, host: str) -> bool:
        """Whether a host is one of the names, or an address.

        A page of another site can make its own name lead here, but it cannot have an address as
        its host without being served from it.
        """
        name = re.sub(r":\d*$", "", host).lower()
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _is_same_origin(origin: str | None, host: str) -> bool:
    """Whether a request comes from a page of this host, or from no browser.

    Browsers send an origin with every request that opens a socket or posts data.
    """
    return origin is None or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


class _BusyError(Exception):
    """A session asks for more files at a time than it may."""


_REASONS: Final[Mapping[type[Exception], tuple[int, str]]] = {
    NotelstmError: (422, ""),
    _BusyError: (429, "Too many of your files are read or rendered: wait for them."),
    ClosedError: (503, "The server stops."),
}
"""The status and the text of an answer without a file; "" for that of the error."""


def _reason(error: Exception) -> tuple[int, str]:
    """The status and the text of an answer without a file."""
    (code, text), *_ = (reason for kind, reason in _REASONS.items() if isinstance(error, kind))
    return code, text or f"{str(error)[0].upper()}{str(error)[1:]}."


@final
class _App:
    """The routes.

    Args:
        bundles: The models by name.
        sessions: The sessions.
    """

    def __init__(self, bundles: Mapping[str, Bundle], sessions: Sessions) -> None:
        self._bundles: Final = bundles
        self._sessions: Final = sessions
        self._assets: Final = _assets()
        self._requests: Final[Counter[str]] = Counter()
        takes = "/sessions/{key}/takes/{take:int}"
        self.starlette: Final = Starlette(
            routes=[
                Route("/", self._asset),
                Route("/page/{name}", self._asset),
                Route("/sessions/{key}/midi", self._upload, methods=["POST"]),
                Route(takes + ".mid", partial(self._download, self._midi)),
                Route(takes + ".wav", partial(self._download, self._wav)),
                Route(takes + ".html", partial(self._download, self._page)),
                WebSocketRoute("/socket", self._socket),
            ]
        )

    async def _asset(self, request: Request) -> Response:
        """A file of the page."""
        name = request.path_params.get("name", "index.html")
        if name not in self._assets:
            return PlainTextResponse("There is no such page.\n", status_code=404)
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(self._assets[name], media_type=f"{kind}; charset=utf-8")

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        await Connected(socket, self._sessions).run()

    async def _upload(self, request: Request) -> Response:
        """Read a MIDI file for the session."""
        performance = self._sessions.performance(request.path_params["key"])
        if performance is None:
            return _failure(404, "There is no such session.")
        most = self._sessions.limits.file_bytes
        data = bytearray()
        try:
            async for part in request.stream():
                data += part
                if len(data) > most:
                    return _failure(413, f"The file is larger than {most:,} bytes.")
        except ClientDisconnect:
            return _failure(400, "The file is not complete.")
        policy = self._bundles[performance.model].read_policy
        read = partial(_read_file, bytes(data), policy)
        try:
            performance.file, response = await self._run(request, read)
        except tuple(_REASONS) as error:
            return _failure(*_reason(error))
        return response

    async def _run(self, request: Request, function: Callable[[], T]) -> T:
        """Read or render a file.

        Raises:
            _BusyError: If there are too many already for the session.
            ClosedError: If the server stops.
        """
        key = request.path_params["key"]
        if self._requests[key] >= self._sessions.limits.requests:
            raise _BusyError
        self._requests[key] += 1
        try:
            return await self._sessions.slow.run(function)
        finally:
            self._requests[key] -= 1
            if not self._requests[key]:
                del self._requests[key]

    async def _download(self, render: Callable[[Take], Response], request: Request) -> Response:
        """A take as a file."""
        performance = self._sessions.performance(request.path_params["key"])
        take = None if performance is None else performance.takes.get(request.path_params["take"])
        if take is None or not take.notes:
            return PlainTextResponse("There is no such take.\n", status_code=404)
        try:
            return await self._run(request, partial(render, take))
        except tuple(_REASONS) as error:
            code, problem = _reason(error)
            return PlainTextResponse(f"{problem}\n", status_code=code)

    def _midi(self, take: Take) -> Response:
        text = f"notelstm: take {take.number}, model {take.model}, seed {take.seed}"
        data, _ = midi_bytes_with_report(take.piece(), short="lengthen", text=text)
        return _attachment(data, "audio/midi", f"take {take.number}.mid")

    def _wav(self, take: Take) -> Response:
        seconds, most = take.piece().end_time, self._sessions.limits.sound_seconds
        if seconds > most:
            raise NotesError(
                f"the take lasts {seconds:.0f} s with the notes before it, the limit is {most:g} s",
                hint="download it as a MIDI file",
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "take.wav"
            save_audio(take.piece(), path)
            return _attachment(path.read_bytes(), "audio/wav", f"take {take.number}.wav")

    def _page(self, take: Take) -> Response:
        title = f"Take {take.number}"
        sample = Sample(notes=take.piece(), title=title, prompt_notes=len(take.prompt))
        about = {"model": take.model, "seed": take.seed, **take.controls.to_json()}
        details = {"This music": music_details(about), **card_of(self._bundles[take.model])}
        page = page_html([sample], title=title, details=details)
        return Response(
            page, headers={"content-security-policy": _OF_A_TAKE}, media_type="text/html"
        )


def _assets() -> dict[str, bytes]:
    """The files of the page by name, with those that it shares with the player pages."""
    folder = files("notelstm.play") / "page"
    found = {
        item.name: item.read_bytes()
        for item in folder.iterdir()
        if item.name.rpartition(".")[2] in _TYPES
    }
    listening = files("notelstm.listening")
    shared = {name: (listening / name).read_bytes() for name in ("page.css", "parts.js")}
    sound = (listening / "sound.js").read_text(encoding="utf-8")
    constants = {
        "timbres": {name: dict(timbre) for name, timbre in TIMBRES.items()},
        "drums": {key: dict(drum_sound_of(key)) for key in range(128)},
        "timbre_of": [timbre_of(program) for program in range(128)],
    }
    module = f"{sound}\nexport const SOUNDS = {json.dumps(constants)};\n"
    return {**found, **shared, "sound.js": module.encode()}


def _read_file(data: bytes, policy: ReadPolicy) -> tuple[Notes, Response]:
    """The notes of a MIDI file, and the answer with the report of reading it."""
    notes, report = read_midi_with_report(data, policy)
    found = report.to_json()
    shown = {
        name: column.tolist()
        for name in ("start", "end", "pitch", "velocity")
        if (column := getattr(notes, name)) is not None
    }
    return notes, JSONResponse({"report": found, "summary": _summary(found), "notes": shown})


def _attachment(data: bytes, kind: str, name: str) -> Response:
    shown = f'attachment; filename="{_UNNAMED.sub("_", name)}"'
    return Response(data, media_type=kind, headers={"content-disposition": shown})


def _failure(code: int, problem: str) -> Response:
    return JSONResponse({"error": problem}, status_code=code)


def _summary(report: Mapping[str, Any]) -> str:
    """A report of reading in a line: nothing is repaired or left out in silence."""
    parts = [f"{report['notes']:,} notes, {report['seconds']:.1f} s"]
    left_out = sum(report["left_out"].values())
    if left_out:
        rules = ", ".join(f"{name} {count:,}" for name, count in report["left_out"].items())
        parts.append(f"{left_out:,} notes left out ({rules})")
    if report["repairs_total"]:
        parts.append(f"{report['repairs_total']:,} faults repaired, {report['lost']:,} notes lost")
    return "; ".join([*parts, *report["warnings"]])
