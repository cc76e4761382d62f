"""Models of every kind can be played with: events, beats, a context, own instruments."""

from __future__ import annotations

import dataclasses
import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import torch
from starlette.applications import Starlette
from starlette.routing import Mount

from notelstm.bundle import Bundle
from notelstm.encoders import (
    BeatEncoder,
    LogTimeEncoder,
    PerformanceEventEncoder,
    StepDurationEncoder,
)
from notelstm.errors import ConfigError
from notelstm.models import NoteLSTM, ThreeHeadLSTM
from notelstm.models.inference import map_arrays
from notelstm.parts import Part, PartMap
from notelstm.play import Limits, create_app
from notelstm.play.controls import Controls, controls_of
from notelstm.play.engine import Engine, Memory, Played
from notelstm.play.performance import Performance
from notelstm.play.protocol import parse
from notelstm.sampling import Ancestral, Greedy

PHRASE = [60, 64, 67, 72, 71, 67, 65, 62]


THREE = PartMap(
    by="name",
    parts=(
        Part(name="soprano", program=52),
        Part(name="alto", program=52),
        Part(name="bass", program=32),
    ),
)


def untrained(encoder: Any, **settings: Any) -> Bundle:
    torch.manual_seed(1)
    if isinstance(encoder, StepDurationEncoder):
        model: Any = ThreeHeadLSTM(fields=encoder.fields)
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "lstm" not in name and len(parameter) == 1:
                torch.nn.init.constant_(parameter, 0.2)  # steps and durations above 0
    else:
        model = NoteLSTM(fields=encoder.fields, hidden_size=8)
    return Bundle(model=model, encoder=encoder, sampler=Ancestral(), **settings)


def performance_of(bundle: Bundle, **limits: Any) -> Callable[..., list[dict[str, Any]]]:
    """A function that handles a message, and gives all replies."""
    performance = Performance({"model": Engine(bundle)}, Limits(**limits))
    performance.attach("a", 0)

    def send(kind: str, **values: Any) -> list[dict[str, Any]]:
        message = parse(json.dumps({"type": kind, **values}))
        return [reply for step in performance.handle(message) for reply in step]

    return send


def notes_in(replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [note for reply in replies if reply["type"] == "notes" for note in reply["notes"]]


@pytest.mark.parametrize(
    "encoder",
    [LogTimeEncoder(), BeatEncoder(), PerformanceEventEncoder(), StepDurationEncoder()],
    ids=lambda encoder: type(encoder).__name__,
)
def test_every_encoder_can_be_played_with(encoder: Any) -> None:
    send = performance_of(untrained(encoder))
    for k, pitch in enumerate(PHRASE):
        send("note-on", pitch=pitch, velocity=80, at=k / 4)
        send("note-off", pitch=pitch, at=k / 4 + 0.2)
    replies = send("continue", at=3, seconds=None, seed=1)
    for half in range(8):
        replies += send("head", at=3 + half / 2)
    found = notes_in(replies)
    assert found
    assert min(note["start"] for note in found) == pytest.approx(3, abs=0.02)
    replies = send("steer", at=7, controls={"low": 60, "high": 72})
    for half in range(8):
        replies += send("head", at=7 + half / 2)
    (cut,) = [reply["from"] for reply in replies if reply["type"] == "cut"]
    assert cut <= 7.5
    later = notes_in(replies)
    assert all(60 <= note["pitch"] <= 72 and note["start"] >= cut - 0.001 for note in later)
    replies = send("note-on", pitch=60, velocity=80, at=12)
    if any(reply["type"] == "end" for reply in replies):
        assert replies[-1]["type"] == "takes"


def test_a_model_with_a_context_needs_enough_notes(bundle: Bundle) -> None:
    send = performance_of(dataclasses.replace(bundle, context_length=5))
    send("notes", notes=[{"start": 0, "end": 1, "pitch": 60, "velocity": 80}])
    with pytest.raises(Exception, match="continues 5 notes or more, not 1"):
        send("continue", at=2, seconds=1, seed=1)
    send("notes", notes=[{"start": k, "end": k, "pitch": 60, "velocity": 80} for k in range(1, 5)])
    assert notes_in(send("continue", at=10, seconds=1, seed=1))


def test_a_piece_is_read_once(bundle: Bundle) -> None:
    """The state is the same as if the piece had been read whole."""
    engine = Engine(bundle)
    played = [Played(k / 3, k / 3 + 0.2, 40 + 7 * k % 40, 30 + k % 90) for k in range(700)]
    memory = Memory()
    for count in (3, 4, 30, 31, 200, 319, 320, 321, 500, 700, 650, 12):
        part = played[:count]
        if count == 500:
            part[-3] = part[-3]._replace(end=part[-3].end + 5)  # an earlier note differs
        found = engine.read(memory, part)
        wanted = engine.read(Memory(), part)
        assert map_arrays(lambda array: array.tolist(), found.state.model) == map_arrays(
            lambda array: array.tolist(), wanted.state.model
        )
        assert found.trackers[0].time == wanted.trackers[0].time
        assert len(memory.states) < 50


def test_a_model_with_instruments_plays_those_that_are_chosen() -> None:
    parts = PartMap(
        by="name",
        parts=(
            Part(name="soprano", program=52),
            Part(name="alto", program=52),
            Part(name="bass", program=32),
            Part(name="kit", drum=True),
        ),
    )
    bundle = untrained(LogTimeEncoder(parts=parts, exact=True))
    (control,) = [c for c in controls_of(bundle) if c["name"] == "instruments"]
    assert control["choices"] == control["own"] == ["soprano", "alto", "bass", "kit"]
    send = performance_of(bundle)
    found = notes_in(send("continue", at=0, seconds=None, seed=3) + send("head", at=60))
    assert {(note["program"], note["drum"]) for note in found} == {
        (52, False),
        (32, False),
        (0, True),
    }
    send("stop", at=60)
    send("steer", at=60, controls={"instruments": ["alto", "kit"]})
    found = notes_in(send("continue", at=61, seconds=None, seed=3) + send("head", at=120))
    assert {(note["program"], note["drum"]) for note in found} == {(52, False), (0, True)}
    for chosen in ([], ["tuba"]):
        with pytest.raises(ConfigError, match="is a part of the model: soprano, alto, bass, kit"):
            send("steer", at=121, controls={"instruments": chosen})


def test_parts_with_one_program_stay_apart() -> None:
    parts = PartMap(
        by="name", parts=(Part(name="soprano", program=52), Part(name="alto", program=52))
    )
    bundle = untrained(LogTimeEncoder(parts=parts, exact=True))
    played = [Played(0, 1, 60, 80, 52, False, "alto"), Played(1, 2, 62, 80, 52, False, "soprano")]
    memory = Memory()
    Engine(bundle).read(memory, played)
    assert memory.rows[:, 4].tolist() == [1, 0]
    # A part that the model does not have is the nearest one.
    for part in ("", "piano"):
        Engine(bundle).read(memory, [Played(0, 1, 60, 80, 0, False, part)])
        assert memory.rows[:, 4].tolist() == [0]
    # The player chooses a part; so does a file, and a take keeps it.
    performance = Performance({"model": Engine(bundle)}, Limits())
    performance.attach("a", 0)

    def send(kind: str, **values: Any) -> None:
        for _ in performance.handle(parse(json.dumps({"type": kind, **values}))):
            pass

    send("note-on", pitch=60, velocity=80, at=0, program=52, part="alto")
    send("note-on", pitch=60, velocity=80, at=0.1, program=52, part="soprano")
    send("note-off", pitch=60, at=1, program=52, part="alto")
    send("continue", at=2, seconds=2, seed=1)
    piece = performance.takes[1].piece()
    assert piece.track_names is not None
    assert piece.track is not None
    found = [piece.track_names[k] for k in piece.track]
    assert found[:2] == ["alto", "soprano"]
    assert set(found[2:]) <= {"alto", "soprano"}
    performance.file = piece
    send("prompt", until=None, at=20)
    notes = performance.state()[2]["notes"]
    assert [note["part"] for note in notes] == found


def test_parts_with_one_name_stay_apart() -> None:
    parts = PartMap(by="track", parts=(Part(name="violin", program=40),) * 2)
    bundle = untrained(LogTimeEncoder(parts=parts, exact=True))
    assert [part.name for part in Engine(bundle).parts] == ["violin 1", "violin 2"]
    memory = Memory()
    Engine(bundle).read(memory, [Played(0, 1, 60, 80, 40, False, "violin 2")])
    assert memory.rows[:, 4].tolist() == [1]


def test_the_instruments_of_a_piece_survive_another_model(bundle: Bundle) -> None:
    """Parts have names, which models with fewer or no parts understand."""
    many = untrained(LogTimeEncoder(parts=THREE, exact=True))
    two = PartMap(by="name", parts=THREE.parts[:2], unknown="nearest")
    few = untrained(LogTimeEncoder(parts=two, exact=True))
    engines = {"many": Engine(many), "few": Engine(few), "none": Engine(bundle)}
    performance = Performance(engines, Limits())
    performance.attach("a", 0)
    for k, name in enumerate(engines):
        for kind, values in (
            ("model", {"name": name, "at": 100 * k}),
            ("continue", {"seconds": 50, "seed": 1, "at": 100 * k + 1}),
            ("head", {"at": 100 * k + 60}),
        ):
            for _ in performance.handle(parse(json.dumps({"type": kind, **values}))):
                pass
    assert [take.model for take in performance.takes.values()] == ["many", "few", "none"]
    played = [{note.part for note in take.notes} for take in performance.takes.values()]
    assert played == [{"soprano", "alto", "bass"}, {"soprano", "alto"}, {""}]


def test_a_model_without_instruments_plays_that_of_the_piece(bundle: Bundle) -> None:
    send = performance_of(bundle)
    for k, pitch in enumerate(PHRASE):
        send("note-on", pitch=pitch, velocity=80, at=k / 4, program=40)
        send("note-off", pitch=pitch, at=k / 4 + 0.2, program=40)
    found = notes_in(send("continue", at=3, seconds=2, seed=1))
    assert {(note["program"], note["drum"]) for note in found} == {(40, False)}


def test_a_model_that_stalls_ends_its_turn(bundle: Bundle) -> None:
    class Stuck:
        """Always the first class: no time passes."""

        def __call__(self, field: Any, prediction: Any, noise: Any, contexts: Any) -> Any:
            return prediction.mode() * 0

    send = performance_of(dataclasses.replace(bundle, sampler=Stuck()))
    replies = send("continue", at=0, seconds=None, seed=1)
    assert [reply["reason"] for reply in replies if reply["type"] == "end"] == ["stalled"]
    assert len(notes_in(replies)) <= 600


def test_a_sampler_without_processors_cannot_be_steered(bundle: Bundle) -> None:
    class Plain:
        def __call__(self, field: Any, prediction: Any, noise: Any, contexts: Any) -> Any:
            return prediction.sample(noise)

    send = performance_of(dataclasses.replace(bundle, sampler=Plain()))
    with pytest.raises(ConfigError, match="has no setting `processors`"):
        send("steer", at=0, controls={"temperature": 0.5})
    assert notes_in(send("continue", at=1, seconds=1))
    send("steer", at=1.5, controls={})


def test_the_values_of_the_model_alone() -> None:
    bundle = dataclasses.replace(untrained(LogTimeEncoder()), sampler=Greedy())
    own = {control["name"]: control["own"] for control in controls_of(bundle)}
    # Without training data, only those of the sampler are known.
    assert own["density"] is own["low"] is own["polyphony"] is None
    assert own["temperature"] == 1
    assert Controls().sampler_for(bundle) is bundle.sampler


def test_a_mount_in_another_app(
    bundle: Bundle, serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    outer = Starlette(routes=[Mount("/music/play", app=create_app({"piano": bundle}))])
    server = serve(app=outer)
    address = f"{server.address}music/play/"
    with urllib.request.urlopen(address) as page:
        assert b"Play me something" in page.read()
    with urllib.request.urlopen(f"{address}page/main.js") as script:
        assert script.headers["content-type"].startswith("text/javascript")
    client = connect(address)
    client.send("continue", at=1, seconds=1, seed=1)
    take, _ = client.listen(1)
    assert client.download(take)[:4] == b"MThd"


def test_no_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no model to play with"):
        create_app({})
