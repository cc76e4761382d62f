"""Each note is read once: what is sampled, what is played, and what is cut off or taken back."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder
from notelstm.fields import Field, Rows
from notelstm.generation import Session
from notelstm.models import NoteLSTM
from notelstm.models.inference import map_arrays
from notelstm.play import Limits, create_app, engine
from notelstm.play.engine import STRIDE, Engine, Memory, Played
from notelstm.play.performance import Performance
from notelstm.play.protocol import RefusedError, parse
from notelstm.play.sessions import _run_steps
from notelstm.sampling import Ancestral

Reply = dict[str, Any]


class Player:
    """Plays into a performance, and has all replies."""

    def __init__(self, *bundles: Bundle, **limits: Any) -> None:
        engines = {str(k): Engine(bundle) for k, bundle in enumerate(bundles)}
        self.performance = Performance(engines, Limits(**limits))
        self.performance.attach("a", 0)
        self.at = 0.0

    def __call__(self, kind: str, **values: Any) -> list[Reply]:
        message = parse(json.dumps({"type": kind, **values}))
        return [reply for step in self.performance.handle(message) for reply in step]

    def play(self, pitches: list[int]) -> None:
        for pitch in pitches:
            self("note-on", pitch=pitch, velocity=80, at=self.at)
            self("note-off", pitch=pitch, at=self.at + 0.13)
            self.at += 0.2

    def listen(self, seconds: float) -> list[Reply]:
        """Let the model play on."""
        replies = []
        for _ in range(round(4 * seconds)):
            self.at += 0.25
            replies += self("head", at=self.at)
        return replies

    def read(self) -> int:
        """Read what has been played, as the server does between messages; the number of steps."""
        steps = self.performance.reading()
        return 0 if steps is None else sum(1 for _ in steps)


def untrained(encoder: Any, seed: int = 1) -> Bundle:
    torch.manual_seed(seed)
    model = NoteLSTM(fields=encoder.fields, hidden_size=8)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral())


def softer(rows: torch.Tensor, fields: Sequence[Field]) -> torch.Tensor:
    """An input transform."""
    return rows * torch.tensor([field.role != "velocity" for field in fields])


EXACT, EVENTS = untrained(LogTimeEncoder(exact=True)), untrained(PerformanceEventEncoder())
OTHER = untrained(EXACT.encoder, 2)
SOFTER = dataclasses.replace(EXACT, input_transform=softer)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each call that reads some."""
    counts: list[int] = []
    feed = Session.feed

    def counted(self: Session, music: Any) -> None:
        counts.append(len(music))
        feed(self, music)

    monkeypatch.setattr(Session, "feed", counted)
    return counts


def test_what_was_sampled_is_not_read_again(bundle: Bundle, fed: list[int]) -> None:
    player = Player(bundle)
    player.play([60, 64, 67, 72])
    player("continue", at=player.at, seconds=None, seed=1)
    assert sum(fed) == 4
    fed.clear()
    player.listen(6)
    assert player.read() == 0
    assert not fed
    # The notes that sounded when the player interrupted have new ends; those before remain.
    piece = len(player.performance._piece())
    player.play([60])
    player("continue", at=player.at, seconds=None, seed=2)
    assert piece > 30
    assert 0 < sum(fed) < 16
    # The same place again, and the piece without the last turns.
    player.listen(4)
    fed.clear()
    player("again", at=player.at, seconds=None, seed=3)
    assert sum(fed) == 0
    player.listen(2)
    player("undo", at=player.at)
    fed.clear()
    player("continue", at=player.at, seconds=2, seed=3)
    assert sum(fed) < 10


def test_steering_reads_little(bundle: Bundle, fed: list[int]) -> None:
    player = Player(bundle)
    player.play([60, 64, 67, 72])
    player("continue", at=player.at, seconds=None, seed=1)
    player.listen(5)
    fed.clear()
    assert any(reply["type"] == "notes" for reply in player("steer", at=player.at, controls={}))
    assert sum(fed) < 10


def test_the_first_note_does_not_wait_for_the_second(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(bundle)
    player.play([60, 64, 67, 72])
    rows: list[Rows] = []
    sample = Session.next

    def counted(self: Session) -> Rows:
        rows.append(sample(self))
        return rows[-1]

    monkeypatch.setattr(Session, "next", counted)
    steps = player.performance.handle(
        parse(json.dumps({"type": "continue", "at": player.at, "seconds": None, "seed": 1}))
    )
    first = next(replies for replies in steps if replies)
    assert [reply["type"] for reply in first] == ["playing", "notes"]
    assert len(rows) == 1


def test_a_model_that_reads_other_rows_than_it_samples(bundle: Bundle, fed: list[int]) -> None:
    player = Player(dataclasses.replace(bundle, input_transform=softer))
    player.play([60, 64, 67])
    player("continue", at=player.at, seconds=None, seed=1)
    player.listen(4)
    fed.clear()
    player("again", at=player.at, seconds=None, seed=1)
    assert not fed
    player.listen(4)
    player.play([60])
    piece = len(player.performance._piece())
    player("continue", at=player.at, seconds=None, seed=2)
    assert sum(fed) == piece - 3 > 10


def test_the_players_notes_are_read_before_an_answer(bundle: Bundle, fed: list[int]) -> None:
    player = Player(bundle)
    player.play([60, 62])
    assert player.read() == 0  # few notes take little time later
    player.play(list(range(40, 90)))
    assert player.read() > 3
    assert sum(fed) == 52
    fed.clear()
    player("continue", at=player.at, seconds=None, seed=1)
    assert not fed


def test_a_file_and_another_model_are_read_before_an_answer(bundle: Bundle) -> None:
    player = Player(bundle, EXACT)
    player.play(list(range(60, 70)))
    assert player.read()
    assert player.read() == 0
    player("model", name="1", at=player.at)
    assert player.read()
    assert player.performance._memory.engine is player.performance._engines["1"]


def test_a_long_turn_is_read_anew_from_a_later_note(bundle: Bundle, fed: list[int]) -> None:
    player = Player(bundle)
    notes = [
        {"start": k / 20, "end": k / 20 + 0.05, "pitch": 40 + k % 40, "velocity": 80}
        for k in range(STRIDE + 150)
    ]
    for part in (notes[:500], notes[500:]):
        player("notes", notes=part)
    player.at = notes[-1]["end"]
    player("continue", at=player.at, seconds=None, seed=1)
    assert sum(fed) == STRIDE + 150
    fed.clear()
    read = [player.listen(0.5) and player.read() for _ in range(30)]
    sounded = len([n for n in player.performance._piece() if n.start < player.performance._clock])
    assert sounded > STRIDE + 160
    assert player.performance._memory.first == STRIDE
    # Once from the later note on, then what has sounded since, some notes at a time.
    assert sum(map(bool, read)) > 1
    assert 160 <= sum(fed) <= sounded - STRIDE + 50
    fed.clear()
    player.play([60])
    player("continue", at=player.at, seconds=None, seed=2)
    assert sum(fed) < 100


def test_the_last_note_of_a_prompt_is_not_the_end_of_a_piece() -> None:
    bundle = untrained(LogTimeEncoder(exact=True, ends=True))
    memory = Memory()
    Engine(bundle).read(memory, [Played(k, k + 1, 60, 80) for k in range(5)])
    assert not memory.rows[:, -1].any()


def check_beginnings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Check that every continuation begins in the state of a model that has read the piece whole.

    Returns:
        The number of notes at each of them, filled while the piece is played.
    """
    counts: list[int] = []
    begin = Engine.begin

    def checked(self: Engine, memory: Memory, played: Any, sampler: Any, seed: int) -> Any:
        found, whole = begin(self, memory, played, sampler, seed), Memory()
        wanted = self.read(whole, played)
        np.testing.assert_array_equal(memory.rows, whole.rows)
        lists = [
            map_arrays(lambda array: array.tolist(), snapshot.state.model)
            for snapshot in (found.snapshot, wanted)
        ]
        assert lists[0] == lists[1]
        (tracker,), (other,) = found.snapshot.trackers, wanted.trackers
        assert (tracker.num_notes, tracker.time) == (other.num_notes, other.time)
        assert tracker.latest(100) == other.latest(100)
        assert len(memory.states) < 40
        counts.append(len(played))
        return found

    monkeypatch.setattr(Engine, "begin", checked)
    return counts


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.lists(st.integers(40, 80), min_size=1, max_size=12)),
        st.tuples(st.just("listen"), st.sampled_from([0.25, 1.0, 3.0])),
        st.tuples(st.just("read"), st.integers(0, 4)),
        st.tuples(st.sampled_from(["continue", "again"]), st.sampled_from([None, 1.0])),
        st.tuples(st.sampled_from(["stop", "undo", "model", "steer", "clear"]), st.integers(0, 3)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=50, deadline=None)
@given(actions=ACTIONS)
def test_what_is_remembered_is_what_would_be_read(actions: list[tuple[str, Any]]) -> None:
    """Whatever is interrupted, taken back or left half read."""
    with pytest.MonkeyPatch.context() as patch:
        # Long pieces take few notes.
        patch.setattr(engine, "_CONTEXT", 12)
        patch.setattr(engine, "STRIDE", 20)
        patch.setattr(engine, "_LATEST", 24)
        patch.setattr(engine, "_CHECKPOINT", 2)
        counts = check_beginnings(patch)
        player = Player(EXACT, EVENTS, SOFTER, OTHER, notes=256)
        player.play([60, 64])
        for number, (kind, value) in enumerate(actions):
            act(player, kind, value, number)
        player("stop", at=player.at)
        player("continue", at=player.at, seconds=None, seed=1)
        assert counts


def act(player: Player, kind: str, value: Any, number: int) -> None:
    """One of the actions; those that are not possible now are refused."""
    if kind == "play":
        player.play(value)
    elif kind == "listen":
        player.listen(value)
    elif kind == "read":
        steps = player.performance.reading()
        for _ in itertools.islice(steps or (), value):
            pass
    else:
        values = {
            "continue": {"seconds": value, "seed": number},
            "again": {"seconds": value, "seed": number},
            "model": {"name": str(value)},
            "steer": {"controls": {"low": 40 + value} if kind == "steer" else {}},
        }.get(kind, {})
        with contextlib.suppress(RefusedError):
            player(kind, at=player.at, **values)


class Queue:
    """A worker with one job that waits."""

    def __init__(self, due: float) -> None:
        self._due = due

    def is_wanted(self, due: float) -> bool:
        return self._due < due


@pytest.mark.parametrize(("waits", "count"), [(1.0, 1), (9.0, 8)])
def test_a_job_ends_early_for_those_that_are_due_earlier(waits: float, count: int) -> None:
    steps = iter([[{"type": "ready", "until": k}] for k in range(20)])
    texts, done = _run_steps(steps, cast(Any, Queue(waits)), 5.0, until_first=False)
    assert (len(texts), done) == (count, False)


def test_notes_of_several_steps_are_one_message() -> None:
    def notes(take: int, name: str) -> Reply:
        return {"type": "notes", "take": take, "notes": [name]}

    steps = iter([[notes(1, "a")], [], [notes(1, "b")], [notes(2, "c")], [{"type": "ready"}]])
    texts, done = _run_steps(steps, cast(Any, Queue(9.0)), 5.0, until_first=False)
    assert done
    assert [json.loads(text).get("notes") for text in texts] == [["a", "b"], ["c"], None]
    steps = iter([[], [notes(1, "a")], [notes(1, "b")]])
    texts, done = _run_steps(steps, cast(Any, Queue(9.0)), 5.0, until_first=True)
    assert [json.loads(text)["notes"] for text in texts] == [["a"]]
    assert not done
    # Reading has no replies, and another look at the event loop would put off the first note.
    steps = iter([*([[]] * 50), [notes(1, "a")], [notes(1, "b")]])
    texts, done = _run_steps(steps, cast(Any, Queue(9.0)), 5.0, until_first=True)
    assert [json.loads(text)["notes"] for text in texts] == [["a"]]


def waited_for(condition: Callable[[], bool]) -> bool:
    """Whether a condition has become true."""
    give_up = time.monotonic() + 600
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.01)
    return condition()


def test_the_server_reads_while_no_message_waits(
    connect: Callable[..., Any], serve: Callable[..., Any]
) -> None:
    server = serve()
    client = connect(server.address)
    client.play([60 + k for k in range(12)], start=1)
    performance = server.app._sessions.performance(client.welcome["session"])
    assert waited_for(lambda: performance._memory.last >= 9)
    client.send("continue", at=5, seconds=1, seed=1)
    assert client.listen(5)[1]


def test_what_cannot_be_read_is_refused_when_it_is_to_be_continued(
    connect: Callable[..., Any], serve: Callable[..., Any], bundle: Bundle
) -> None:
    server = serve(app=create_app(dataclasses.replace(bundle, context_length=8)))
    client = connect(server.address)
    client.play([60, 62, 64, 65, 67], start=1)
    performance = server.app._sessions.performance(client.welcome["session"])
    assert waited_for(lambda: len(performance._piece()) == 5)
    client.send("keep", take=1)
    assert json.loads(client.socket.recv(timeout=600))["about"] == "keep"
    client.send("continue", at=5, seconds=1, seed=1)
    error = json.loads(client.socket.recv(timeout=600))
    assert error["message"].startswith("the model continues 8 notes or more, not 5")
