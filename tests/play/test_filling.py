"""A span of the piece is filled: the protocol, its limits, and the page."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder
from notelstm.errors import ConfigError
from notelstm.midi import ReadPolicy, read_midi
from notelstm.models import NoteLSTM
from notelstm.parts import Part, PartMap
from notelstm.play import Limits, create_app
from notelstm.play.engine import Engine
from notelstm.play.performance import Performance
from notelstm.play.protocol import RefusedError, parse
from notelstm.sampling import Ancestral

DUET = PartMap(by="name", parts=(Part(name="flute", program=73), Part(name="bass", program=33)))
Reply = dict[str, Any]


Writer = Callable[..., Bundle]


class Client:
    """Sends messages to a performance, and has all replies."""

    def __init__(self, bundle: Bundle, **limits: Any) -> None:
        self.performance = Performance({"model": Engine(bundle)}, Limits(**limits))
        self.performance.attach("a", 0)

    def __call__(self, kind: str, **values: Any) -> list[Reply]:
        message = parse(json.dumps({"type": kind, **values}))
        return [reply for step in self.performance.handle(message) for reply in step]

    def piece(self, at: float = 30) -> list[Reply]:
        (reply,) = self("piece", at=at)
        found: list[Reply] = reply["notes"]
        return found


def played(client: Client, count: int = 20, **instrument: Any) -> list[Reply]:
    """The player plays half seconds from 10 s on."""
    notes = [
        {"start": 10 + k / 2, "end": 10.4 + k / 2, "pitch": 60 + k, "velocity": 80, **instrument}
        for k in range(count)
    ]
    client("notes", notes=notes)
    return client.piece()


def kinds(replies: list[Reply]) -> list[str]:
    return [reply["type"] for reply in replies]


def test_a_span_is_filled_between_the_notes_around_it(writer: Writer) -> None:
    client = Client(writer())
    before = played(client)
    replies = client("fill", start=13, end=16, at=30, seed=3)
    assert kinds(replies) == ["takes", "piece", "filled"]
    takes, piece, filled = replies
    new = [note for note in piece["notes"] if note["by"] == "model"]
    assert filled == {
        "type": "filled",
        "take": 1,
        "start": 13,
        "end": 16,
        "seed": 3,
        "notes": len(new),
    }
    assert len(new) > 3
    assert all(13 <= note["start"] < 16 for note in new)
    kept = [note for note in before if not 13 <= note["start"] < 16]
    assert [note for note in piece["notes"] if note["by"] == "you"] == kept
    assert sorted(piece["notes"], key=lambda n: float(n["start"])) == piece["notes"]
    # Notes of one key do not overlap.
    for one in new:
        same = [n for n in piece["notes"] if n["pitch"] == one["pitch"]]
        assert sum(n["start"] < one["end"] and n["end"] > one["start"] for n in same) == 1
    (take,) = takes["takes"]
    assert take["prompt_notes"] == 6
    assert take["notes"] == len(new) + 8
    (shown,) = client("take", take=1)
    assert [n["by"] for n in shown["all_notes"]] == ["you"] * 6 + ["model"] * len(new) + ["you"] * 8
    again = Client(writer())
    played(again)
    assert again("fill", start=13, end=16, at=30, seed=3)[1] == piece


def test_a_span_before_the_clock_began_is_filled(writer: Writer) -> None:
    """A page that is loaded again has a new clock, and the piece ends when it begins."""
    client = Client(writer())
    played(client)
    client.performance.attach("b", 0)
    before = client.piece(1)
    zero = before[0]["start"]
    assert zero < -9
    _, piece, _ = client("fill", start=zero + 3, end=zero + 6, at=2, seed=3)
    new = [note["start"] for note in piece["notes"] if note["by"] == "model"]
    assert new
    assert all(zero + 3 <= start < zero + 6 for start in new)


def test_fills_are_undone_one_after_another(writer: Writer) -> None:
    client = Client(writer())
    pieces = [played(client)]
    for start in (11, 14, 17):
        _, piece, _ = client("fill", start=start, end=start + 2, at=30, seed=start)
        pieces.append(piece["notes"])
    for wanted in pieces[-2::-1]:
        (piece,) = client("undo", at=31)
        assert piece["notes"] == wanted
    client("fill", start=11, end=13, at=32, seed=1)
    # A note that was played since is what is undone.
    filled = client.piece(33)
    client("notes", notes=[{"start": 34, "end": 35, "pitch": 50, "velocity": 80}])
    assert len(client.piece(36)) == len(filled) + 1
    (piece,) = client("undo", at=37)
    assert len(piece["notes"]) < len(filled)


def test_the_model_continues_a_piece_that_was_filled(writer: Writer) -> None:
    client = Client(writer())
    played(client)
    client("continue", at=30, seconds=4, seed=1)
    for at in (31, 32, 33, 34):
        client("head", at=at)
    assert client.performance.takes[1].notes
    before = client.piece(36)
    first = min(note["start"] for note in before if note["by"] == "model")
    # The span has notes of both; the turn of the take is not whole any more.
    client("fill", start=first - 1, end=first + 1, at=36, seed=2)
    with pytest.raises(RefusedError, match="no continuation to replace"):
        client("again", at=37)
    replies = client("continue", at=40, seconds=4, seed=1)
    assert "playing" in kinds(replies)
    with pytest.raises(RefusedError, match="the model plays: stop it first"):
        client("fill", start=11, end=12, at=40.1)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_take_is_replaced_before_it_begins(writer: Writer, kept: int) -> None:
    """It is none, so that no other take makes room, not even where all others are kept."""
    client = Client(writer(), takes=kept + 1)
    played(client)
    if kept:
        client("fill", start=13, end=16, at=30, seed=3)
        client("keep", take=1)
    client("continue", at=35, seconds=4, seed=1)
    replies = client("again", at=34.9, seconds=4, seed=2)
    assert "playing" in kinds(replies)
    assert list(client.performance.takes) == [*range(1, kept + 1), kept + 2]
    # One that has sounded makes room for the next.
    assert "playing" in kinds(client("again", at=36, seconds=4, seed=3))
    assert list(client.performance.takes) == [*range(1, kept + 1), kept + 3]


def test_parts_keep_their_instruments(writer: Writer) -> None:
    client = Client(writer(DUET))
    played(client, part="bass", program=33)
    client("steer", at=29, controls={"instruments": ["flute"]})
    _, piece, _ = client("fill", start=13, end=16, at=30, seed=3)
    new = [note for note in piece["notes"] if note["by"] == "model"]
    assert new
    assert {(n["part"], n["program"]) for n in new} == {("flute", 73)}


def test_what_cannot_be_filled_is_refused(writer: Writer) -> None:
    client = Client(writer(), fill_seconds=5)
    with pytest.raises(RefusedError, match="the span is not in the piece"):
        client("fill", start=1, end=2, at=3)
    before = played(client)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"start": 12, "end": 17.5}, "too-long", "a span of up to 5 s can be filled"),
        ({"start": 12, "end": 12}, "too-long", "a span of up to 5 s can be filled"),
        ({"start": 13, "end": 12}, "too-long", "a span of up to 5 s can be filled"),
        ({"start": 28, "end": 29}, "not-now", "the span is not in the piece"),
        ({"start": 5, "end": 10}, "not-now", "the span is not in the piece"),
        ({"start": 12}, "malformed", "fill lacks end"),
        ({"start": 12, "end": "13"}, "malformed", "end of fill is '13', not a number"),
    ]
    for span, code, message in cases:
        with pytest.raises(RefusedError, match=message) as refused:
            client("fill", at=30, **span)
        assert refused.value.code == code
    assert client.piece() == before
    cannot = Client(
        Bundle(
            model=NoteLSTM(fields=LogTimeEncoder().fields, hidden_size=8),
            encoder=LogTimeEncoder(),
            sampler=Ancestral(),
        )
    )
    before = played(cannot)
    with pytest.raises(ConfigError, match="cannot be given notes"):
        cannot("fill", start=12, end=14, at=30)
    assert cannot.piece() == before


def test_a_filled_piece_is_downloaded(
    connect: Callable[..., Any], serve: Callable[..., Any], bundle: Bundle, writer: Writer
) -> None:
    server = serve(app=create_app({"writer": writer(), "piano": bundle}))
    client = connect(server.address)
    assert {m["name"]: m["fills"] for m in client.welcome["models"]}["writer"]
    assert client.welcome["limits"]["fill_seconds"] == 60
    end = client.play([60 + k for k in range(20)], start=1)
    client.send("fill", start=2, end=4, at=end + 1, seed=4)
    piece = client.receive("piece")["notes"]
    filled = client.receive("filled")
    data = client.download(filled["take"])
    assert len(read_midi(io.BytesIO(data), ReadPolicy(tracks="all"))) == len(piece)
    client.send("model", name="piano", at=end + 2)
    if not client.welcome["models"][1]["fills"]:
        client.send("fill", start=2, end=4, at=end + 3)
        with pytest.raises(RuntimeError, match="cannot be given notes"):
            client.receive("filled")
