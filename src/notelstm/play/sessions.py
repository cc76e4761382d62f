"""``Sessions``: the clients of a server; and ``Connected``, one connection of a client."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import secrets
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Final, final

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from notelstm.errors import NotelstmError, counted
from notelstm.play.engine import Engine
from notelstm.play.limits import Limits
from notelstm.play.performance import Performance
from notelstm.play.protocol import VERSION, Message, RefusedError, Reply, error_of, parse
from notelstm.play.worker import ClosedError, Worker

__all__ = ["Connected", "Entry", "Sessions"]

_log = logging.getLogger(__name__)

_HELLO_SECONDS: Final = 20.0
"""Seconds in which a client must have sent its first message."""

_NORMAL, _WRONG, _ELSEWHERE, _BUSY, _SLOW = 1000, 1008, 4001, 1013, 4002
_IN_THREAD: Final = frozenset({"continue", "again", "fill", "head", "steer", "take"})
"""The messages that take more than a moment."""
_SOON: Final = 0.5
"""Seconds within which notes are heard soon. They come first, and are sent without waiting for
others; of later ones, those that were asked for first do."""
_FILLING: Final = 1.0
"""Seconds for which a span that is filled can wait."""
_READING: Final = 30.0
"""Seconds for which what has been played can wait until it is read: until nothing else waits."""
_STEPS_AT_ONCE: Final = 8
"""The steps of a message after which its replies are sent: some tens of milliseconds."""
_SILENT_STEPS: Final = 64
"""The most steps without replies before a look at whether the client is still there."""


@final
class Entry:
    """A session on the server.

    Attributes:
        performance: Its state.
        lock: Held while a message is handled.
        reading: Reads what has been played while no message waits.
        connection: The connection of its client, or None.
        expiry: Ends the session if the client does not come back.
    """

    def __init__(self, performance: Performance) -> None:
        self.performance: Final = performance
        self.lock: Final = asyncio.Lock()
        self.reading: asyncio.Task[None] | None = None
        self.connection: Connected | None = None
        self.expiry: asyncio.TimerHandle | None = None


@final
class Sessions:
    """The sessions of an app.

    Args:
        engines: The models by name.
        limits: The limits.
        token: The password, or None.
        models: The descriptions of the models, for clients.

    Attributes:
        limits: The same.
        worker: Runs the models.
        slow: Reads files and renders sound: seconds, for which nobody's music waits.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        limits: Limits,
        token: str | None,
        models: Sequence[Reply],
    ) -> None:
        self.limits: Final = limits
        self._engines: Final = engines
        self._token: Final = token
        self._models: Final = models
        self._entries: Final[dict[str, Entry]] = {}
        self.worker: Final = Worker("notelstm")
        self.slow: Final = Worker("notelstm-slow")
        for worker in (self.worker, self.slow):
            # With the app, or with the process.
            weakref.finalize(self, worker.close)

    def close(self) -> None:
        """End everything that sessions wait for, since the server stops."""
        self.worker.close()
        self.slow.close()

    def __len__(self) -> int:
        """The number of sessions."""
        return len(self._entries)

    def performance(self, key: str) -> Performance | None:
        """The state of a session, None if there is none with that key."""
        entry = self._entries.get(key)
        return None if entry is None else entry.performance

    def open(self, connection: Connected, hello: Message) -> tuple[str, Entry, Reply]:
        """Open or resume the session of a client, which `left` ends.

        Returns:
            Its key, its state, and the answer to the client.

        Raises:
            RefusedError: If the client has another version or a wrong token, or the server is full.
        """
        values = hello.values
        if values["version"] != VERSION:
            raise RefusedError(
                "version",
                f"the server has version {VERSION} of the protocol, not {values['version']}",
            )
        given = (values["token"] or "").encode()
        if self._token is not None and not hmac.compare_digest(given, self._token.encode()):
            raise RefusedError(
                "token", "the token is wrong: open the address that the server printed"
            )
        key = values["session"] or ""
        entry = self._entries.get(key)
        resumed = entry is not None
        if entry is None:
            if len(self._entries) >= self.limits.sessions:
                raise RefusedError(
                    "full",
                    f"the server is full: it allows {counted(self.limits.sessions, 'player')}",
                )
            key, entry = secrets.token_urlsafe(24), Entry(Performance(self._engines, self.limits))
            self._entries[key] = entry
        before, entry.connection = entry.connection, connection
        if entry.expiry is not None:
            entry.expiry.cancel()
            entry.expiry = None
        if before is not None:
            before.replace()
        welcome = {
            "type": "welcome",
            "version": VERSION,
            "session": key,
            "resumed": resumed,
            "models": self._models,
            "limits": {
                "takes": self.limits.takes,
                "file_bytes": self.limits.file_bytes,
                "fill_seconds": self.limits.fill_seconds,
                "resume_seconds": self.limits.resume_seconds,
            },
        }
        return key, entry, welcome

    def left(self, key: str, entry: Entry, connection: Connected) -> None:
        """A connection has ended; its session waits for a while."""
        if entry.connection is not connection:
            return
        entry.connection = None
        if entry.reading is not None:
            entry.reading.cancel()
        loop = asyncio.get_running_loop()
        entry.expiry = loop.call_later(self.limits.resume_seconds, self._entries.pop, key, None)


@final
class Connected:
    """One connection: messages are handled one by one, so a slow client waits for itself alone.

    After each message, other connections have their turn.

    Args:
        socket: The accepted socket.
        sessions: The sessions of the app.
    """

    def __init__(self, socket: WebSocket, sessions: Sessions) -> None:
        self._socket: Final = socket
        self._sessions: Final = sessions
        self._budget = 2 * sessions.limits.messages_per_second
        self._counted_at = 0.0
        self._was_refused = False
        self._sending: asyncio.Timeout | None = None
        self._closing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Handle messages until the connection ends."""
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                opened = await self._hello()
        except (TimeoutError, WebSocketDisconnect):
            await self.close(_WRONG, "no hello")
            return
        if opened is None:
            return
        hello, key, entry, welcome = opened
        # A client may be gone as soon as it has its session.
        try:
            async with entry.lock:
                entry.performance.attach(hello.values["clock"], hello.values["at"])
            await self._send(_texts([welcome, *entry.performance.state()]))
            while entry.connection is self:
                text = await self._text()
                if self._allowed():
                    await self._handle(entry, text)
                elif not self._was_refused:
                    # Once, since answers to a flood would be a flood.
                    self._was_refused = True
                    rate = self._sessions.limits.messages_per_second
                    problem = f"more than {rate:g} messages per second are ignored"
                    await self._send(_texts([error_of(RefusedError("too-fast", problem))]))
                # Messages that have arrived already are received without a pause.
                await asyncio.sleep(0)
        except (WebSocketDisconnect, ClosedError):
            pass
        except TimeoutError:
            await self.close(_SLOW, "the client does not read")
        finally:
            self._sessions.left(key, entry, self)

    async def _hello(self) -> tuple[Message, str, Entry, Reply] | None:
        """The hello of the client and what it opens; None if the client was refused."""
        while True:
            try:
                message = self._parsed(await self._text())
                if message.type != "hello":
                    raise RefusedError("not-now", "the first message is not a hello")
                return (message, *self._sessions.open(self, message))
            except RefusedError as refusal:
                await self._send(_texts([error_of(refusal)]))
                if refusal.code in ("version", "token", "full"):
                    code = _BUSY if refusal.code == "full" else _WRONG
                    await self.close(code, refusal.code)
                    return None
                if not self._allowed():
                    await self.close(_WRONG, "too many messages")
                    return None

    async def _handle(self, entry: Entry, text: str) -> None:
        """Handle a message, and answer it."""
        kind = None
        try:
            message = self._parsed(text)
            kind = message.type
            if kind == "hello":
                raise RefusedError("not-now", "the session is open already")
            if entry.reading is not None:
                entry.reading.cancel()
            async with entry.lock:
                await self._run(entry, message)
                if (steps := entry.performance.reading()) is not None:
                    entry.reading = asyncio.create_task(_read(steps, self._sessions.worker))
        except (RefusedError, NotelstmError) as refusal:
            await self._send(_texts([error_of(refusal, kind)]))

    async def _run(self, entry: Entry, message: Message) -> None:
        """Run the steps of a message, and send their replies."""
        performance, kind = entry.performance, message.type
        steps = performance.handle(message)
        if kind not in _IN_THREAD:
            await self._send(_texts(list(chain.from_iterable(steps))))
            return
        worker, done = self._sessions.worker, False
        ahead = min(performance.seconds_ahead, _SOON)
        wait = {"head": ahead, "fill": _FILLING}.get(kind, 0.0)
        due = time.monotonic() + wait
        while not done and entry.connection is self:
            run = partial(_run_steps, steps, worker, due, until_first=wait < _SOON)
            texts, done = await worker.run(run, due)
            await self._send(texts)
            if texts and kind != "fill":
                wait = min(performance.seconds_ahead, _SOON)
            # A message that needs few notes is not put off for the many of another one.
            if kind != "head":
                due = time.monotonic() + wait

    async def _text(self) -> str:
        """The next message, "" for one that is not a text."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", _NORMAL))
        return message.get("text") or ""

    def _parsed(self, text: str) -> Message:
        """Read a message.

        Raises:
            RefusedError: If it is too long, or malformed.
        """
        # A character has at least one byte.
        most = self._sessions.limits.message_bytes
        if len(text) > most or len(text.encode("utf-8", "replace")) > most:
            raise RefusedError("too-long", f"a message has at most {most:,} bytes")
        return parse(text)

    def _allowed(self) -> bool:
        """Whether the client keeps to the rate of messages: a bucket that fills with time."""
        rate = self._sessions.limits.messages_per_second
        now = asyncio.get_running_loop().time()
        if self._counted_at:
            self._budget = min(2 * rate, self._budget + rate * (now - self._counted_at))
        self._counted_at = now
        self._budget -= 1
        if self._budget >= rate:
            self._was_refused = False
        if self._budget < 0:
            self._budget = 0.0
            return False
        return True

    async def _send(self, texts: Sequence[str]) -> None:
        """Send messages; a client that does not read them for too long is disconnected.

        Raises:
            TimeoutError: If it does not.
            WebSocketDisconnect: If the connection has ended.
        """
        self._sending = asyncio.timeout(self._sessions.limits.send_seconds)
        try:
            async with self._sending:
                for text in texts:
                    if self._socket.application_state is not WebSocketState.CONNECTED:
                        raise WebSocketDisconnect(_NORMAL)
                    await self._socket.send_text(text)
        except TimeoutError:
            raise
        except (OSError, RuntimeError) as error:
            raise WebSocketDisconnect(_NORMAL) from error
        finally:
            self._sending = None

    def replace(self) -> None:
        """End the connection, since its session has another one; that one need not wait."""
        if self._sending is not None and not self._sending.expired():
            self._sending.reschedule(asyncio.get_running_loop().time())
        closing = self.close(_ELSEWHERE, "the session was opened elsewhere")
        self._closing = asyncio.get_running_loop().create_task(closing)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection, if it is open."""
        if self._socket.application_state is WebSocketState.CONNECTED:
            # Starlette turns the OSError of a lost connection into a WebSocketDisconnect.
            lost = (OSError, RuntimeError, TimeoutError, WebSocketDisconnect)
            with contextlib.suppress(*lost):
                async with asyncio.timeout(self._sessions.limits.send_seconds):
                    await self._socket.close(code, reason)


def _texts(replies: Sequence[Reply]) -> list[str]:
    return [json.dumps(reply, allow_nan=False) for reply in replies]


async def _read(steps: Iterator[Sequence[Reply]], worker: Worker) -> None:
    """Read what has been played, while the worker has nothing else to do."""
    done = False
    # What cannot be read is refused when the model is asked to continue it.
    with contextlib.suppress(NotelstmError, ClosedError):
        while not done:
            due = time.monotonic() + _READING
            run = partial(_run_steps, steps, worker, due, until_first=False)
            _, done = await worker.run(run, due)


def _run_steps(
    steps: Iterator[Sequence[Reply]], worker: Worker, due: float, *, until_first: bool
) -> tuple[list[str], bool]:
    """Run a few steps of a message, or a single one if another job is due earlier.

    Args:
        steps: The steps.
        worker: The worker in whose thread they run.
        due: The time on the monotonic clock at which their result is needed.
        until_first: Whether to return with the first replies.

    Returns:
        The messages to send, and whether there are no more.
    """
    replies: list[Reply] = []
    done = False
    for count in range(1, _SILENT_STEPS + 1):
        more = next(steps, None)
        if more is None:
            done = True
            break
        for reply in more:
            last = replies[-1] if replies else {"type": ""}
            if reply["type"] == last["type"] == "notes" and reply["take"] == last["take"]:
                last["notes"] += reply["notes"]
            else:
                replies.append(reply)
        enough = until_first or count >= _STEPS_AT_ONCE
        if worker.is_wanted(due) or (replies and enough):
            break
    return _texts(replies), done
