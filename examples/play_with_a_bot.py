"""A bot that plays with the model: the protocol of ``notelstm play`` from Python.

The bot sends a phrase as if a musician had played it, asks for an answer of eight seconds, changes
the scale in the middle of it, and downloads the take. Its clock need not be that of the wall: here
eight seconds of music take a moment. Needs the extra ``play``.
"""

import contextlib
import json
import queue
import threading
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from websockets.sync.client import connect

import notelstm
from notelstm.play import serve


class Client:
    """One connection to a server, at an address such as ``http://127.0.0.1:7464/``."""

    def __init__(self, address: str, *, session: str | None = None, clock: str = "bot") -> None:
        self.address, _, token = address.partition("#token=")
        self._stack = contextlib.ExitStack()
        socket = connect(self.address.replace("http", "ws", 1) + "socket")
        self.socket = self._stack.enter_context(socket)
        self.send(
            "hello", version=1, clock=clock, at=0, session=session, token=unquote(token) or None
        )
        self.welcome = self.receive("welcome")
        self.state = {kind: self.receive(kind) for kind in ("controls", "takes", "piece")}

    def close(self) -> None:
        """Close the connection; the session waits for a minute."""
        self._stack.close()

    def send(self, kind: str, **values: Any) -> None:
        """Send a message."""
        self.socket.send(json.dumps({"type": kind, **values}))

    def receive(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these types; others before it are dropped."""
        while True:
            message: dict[str, Any] = json.loads(self.socket.recv(timeout=60))
            if message["type"] in kinds or not kinds:
                return message
            if message["type"] == "error":
                raise RuntimeError(message["message"])

    def play(self, pitches: Sequence[int], start: float, step: float = 0.25) -> float:
        """Play a melody from a time on; returns the time of its end."""
        for number, pitch in enumerate(pitches):
            at = start + number * step
            self.send("note-on", pitch=pitch, velocity=80, at=at)
            self.send("note-off", pitch=pitch, at=at + 0.9 * step)
        return start + len(pitches) * step

    def listen(self, start: float) -> tuple[int, list[dict[str, Any]]]:
        """Move the play head from a time on until the model has ended; returns take and notes."""
        notes: list[dict[str, Any]] = []
        head = start
        while True:
            self.send("head", at=head)
            while (message := self.receive("notes", "cut", "end", "ready"))["type"] != "ready":
                if message["type"] == "notes":
                    notes += message["notes"]
                elif message["type"] == "cut":
                    notes = [note for note in notes if note["start"] <= message["from"]]
                else:
                    return message["take"], notes
            head += 0.5

    def download(self, take: int, suffix: str = "mid") -> bytes:
        """A take as a file: ``mid``, ``wav`` or ``html``."""
        path = f"sessions/{self.welcome['session']}/takes/{take}.{suffix}"
        with urllib.request.urlopen(self.address + path) as response:
            data: bytes = response.read()
        return data


def main() -> None:
    """Serve the pretrained model in a thread, and play with it."""
    addresses: queue.Queue[str] = queue.Queue()
    arguments = {"port": 0, "on_start": addresses.put}
    threading.Thread(target=serve, args=(notelstm.load(),), kwargs=arguments, daemon=True).start()
    bot = Client(addresses.get(timeout=60))
    end = bot.play([60, 64, 67, 72, 71, 67, 65, 62], start=0.0)
    bot.send("continue", at=end + 0.5, seconds=8, seed=1)
    bot.send("steer", at=end + 4, controls={"scale": "C minor"})
    take, notes = bot.listen(end + 0.5)
    with open("bot.mid", "wb") as file:
        file.write(bot.download(take))
    bot.close()
    print(f"take {take}: {len(notes)} notes; wrote bot.mid: {notelstm.read_midi('bot.mid')}")


if __name__ == "__main__":
    main()
