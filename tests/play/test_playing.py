"""Playing with the model over the protocol, on a real server with the pretrained model."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from notelstm.bundle import Bundle
from notelstm.midi import midi_bytes, read_midi
from notelstm.notes import Notes
from notelstm.play import VERSION, Limits
from notelstm.play.performance import AHEAD
from notelstm.sampling.pitches import pitch_classes

PHRASE = [60, 64, 67, 72, 71, 67, 65, 62]
Connect = Callable[..., Any]


def answer(client: Any, at: float, seconds: float | None = 4.0, **settings: Any) -> Any:
    """Ask for an answer, and listen to its end."""
    client.send("continue", at=at, seconds=seconds, **{"seed": 2, **settings})
    playing = client.receive("playing")
    take, notes = client.listen(at)
    assert take == playing["take"]
    return take, notes


def takes(client: Any) -> list[dict[str, Any]]:
    """The list of takes after a message that changes it."""
    found: list[dict[str, Any]] = client.receive("takes")["takes"]
    return found


def music(notes: list[dict[str, Any]]) -> list[tuple[float, ...]]:
    """Notes without the time at which the first of them begins."""
    begin = notes[0]["start"]
    return [
        (round(n["start"] - begin, 3), round(n["end"] - begin, 3), n["pitch"], n["velocity"])
        for n in notes
    ]


def test_the_server_says_what_it_has(connect: Connect, bundle: Bundle) -> None:
    welcome = connect().welcome
    assert welcome["version"] == VERSION
    assert [model["name"] for model in welcome["models"]] == ["piano", "second"]
    model = welcome["models"][0]
    assert model["license"] == bundle.data.license
    assert model["card"]["Model"]["license of the data"] == bundle.data.license
    own = {control["name"]: control["own"] for control in model["controls"]}
    assert own["temperature"] == own["top_p"] == 1
    # The piano music of MAESTRO: its register and density, measured in the training notes.
    assert 8 < own["density"] < 12
    assert 28 < own["low"] < 40
    assert 88 < own["high"] < 100
    assert own["scale"] is None


def test_a_phrase_is_answered_in_time(connect: Connect) -> None:
    client = connect()
    end = client.play(PHRASE, start=1)
    take, notes = answer(client, end + 0.7)
    assert len(notes) > 3
    client.send("take", take=take)
    starts = [note["start"] for note in client.receive("take")["all_notes"]]
    assert starts[len(PHRASE)] >= starts[len(PHRASE) - 1] + 0.04
    onsets = [note["start"] for note in notes]
    assert onsets[0] == pytest.approx(end + 0.7)
    assert max(onsets) < end + 0.7 + 4
    assert all(note["end"] >= note["start"] for note in notes)
    assert all(note["program"] == 0 and not note["drum"] for note in notes)


def test_notes_come_before_their_time_and_not_too_early(connect: Connect) -> None:
    client = connect()
    at = client.play(PHRASE, start=0)
    client.send("continue", at=at, seconds=None, seed=2)
    client.receive("playing")
    client.receive("ready")
    head, previous, seen = at, at, 0
    while seen < 80:
        client.send("head", at=head)
        while (message := client.receive("notes", "ready"))["type"] != "ready":
            starts = [note["start"] for note in message["notes"]]
            seen += len(starts)
            # All notes up to AHEAD after the last head have been sent with it.
            if head > at:
                assert min(starts) >= previous + AHEAD - 0.001
                assert min(starts) > head
            # A single note may lie further ahead.
            assert sum(start > head + AHEAD for start in starts) <= 1
        previous, head = head, head + 0.25
    client.send("stop", at=head)
    assert client.receive("end")["reason"] == "stopped"


def test_the_same_seed_gives_the_same_answer(connect: Connect) -> None:
    answers = []
    for seed, begin in ((5, 0), (5, 100), (6, 0)):
        client = connect()
        end = client.play(PHRASE, start=begin)
        answers.append(music(answer(client, end + 1, seed=seed)[1]))
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


def test_the_answer_depends_on_what_was_played(connect: Connect) -> None:
    answers = []
    for phrase in (PHRASE, [pitch + 6 for pitch in PHRASE]):
        client = connect()
        answers.append(music(answer(client, client.play(phrase, start=0), seed=5)[1]))
    assert answers[0] != answers[1]


def test_playing_interrupts_at_once_and_is_the_new_prompt(connect: Connect) -> None:
    client = connect()
    at = client.play(PHRASE, start=0)
    client.send("continue", at=at, seconds=None, seed=2)
    first = client.receive("notes")["notes"]
    assert first
    cut = at + 0.8
    client.send("note-on", pitch=60, velocity=90, at=cut)
    assert client.receive("cut")["from"] == cut
    assert client.receive("end")["reason"] == "interrupted"
    (take,) = takes(client)
    client.send("note-off", pitch=60, at=cut + 0.4)
    client.send("head", at=cut + 1)  # the model is silent
    client.send("take", take=take["take"])
    found = client.receive("notes", "take")
    assert found["type"] == "take"
    played = [note for note in found["all_notes"] if note["by"] == "model"]
    assert len(played) == take["notes"] > 0
    begin = found["all_notes"][len(PHRASE)]["start"]
    assert max(note["end"] for note in played) <= begin + 0.8 + 0.001
    _, _ = answer(client, cut + 1.5)
    assert takes(client)[-1]["prompt_notes"] == len(PHRASE) + take["notes"] + 1


def test_a_phrase_that_has_not_sounded_is_dropped(connect: Connect) -> None:
    """A client sends a phrase and asks for its continuation ahead of their time."""
    client = connect()
    notes = [{"start": 1 + k, "end": 2 + k, "pitch": 60 + k, "velocity": 80} for k in range(8)]
    client.send("notes", notes=notes)
    client.send("continue", at=9, seconds=None, seed=2)
    client.receive("ready")
    # The player presses a key after the fourth note.
    client.send("note-on", pitch=80, velocity=90, at=4.5)
    client.send("note-off", pitch=80, at=5)
    take, _ = answer(client, 6, seconds=1)
    assert take == 2
    client.send("take", take=take)
    prompt = [note for note in client.receive("take")["all_notes"] if note["by"] == "you"]
    assert [note["pitch"] for note in prompt] == [60, 61, 62, 63, 80]
    assert prompt[-1]["start"] == pytest.approx(3.5)
    assert prompt[-1]["end"] == pytest.approx(4)


def test_steering_before_the_take_begins(connect: Connect) -> None:
    client = connect()
    notes = [{"start": 1 + k, "end": 2 + k, "pitch": 60 + k, "velocity": 80} for k in range(8)]
    client.send("notes", notes=notes)
    client.send("continue", at=9, seconds=5, seed=3)
    client.receive("ready")
    client.send("steer", at=4, controls={"scale": "C major"})
    assert client.receive("cut")["from"] == 9
    take, _ = client.listen(9)
    client.send("take", take=take)
    found = client.receive("take")["all_notes"]
    assert [note["start"] for note in found if note["by"] == "you"] == pytest.approx(list(range(8)))
    later = [note for note in found if note["by"] == "model"][1:]
    assert later
    assert all(note["pitch"] % 12 in pitch_classes("C major") for note in later)


def test_again_is_another_continuation_of_the_same_place(connect: Connect) -> None:
    client = connect()
    _, first = answer(client, client.play(PHRASE, start=0), seed=1)
    takes(client)
    client.send("again", at=20, seconds=4, seed=2)
    assert len(client.receive("piece")["notes"]) == len(PHRASE)
    client.receive("playing")
    _, second = client.listen(20)
    found = takes(client)
    assert [take["prompt_notes"] for take in found] == [len(PHRASE)] * 2
    assert second[0]["start"] == pytest.approx(20)
    assert music(first) != music(second)
    # The first seed at the same place gives the first take.
    client.send("again", at=40, seconds=4, seed=1)
    client.receive("playing")
    assert music(client.listen(40)[1]) == music(first)


def test_go_on_continues_the_take(connect: Connect) -> None:
    client = connect()
    answer(client, client.play(PHRASE, start=0))
    first = takes(client)[-1]
    client.send("continue", at=30, seconds=None, seed=2)
    client.receive("playing")
    for second in range(30, 60):
        client.send("head", at=second)
    client.send("stop", at=60)
    assert client.receive("end")["reason"] == "stopped"
    last = takes(client)[-1]
    assert last["prompt_notes"] == len(PHRASE) + first["notes"]
    assert last["seconds"] > 20


def test_go_on_while_it_plays_takes_the_limit_away(connect: Connect) -> None:
    client = connect()
    at = client.play(PHRASE, start=0)
    client.send("continue", at=at, seconds=3, seed=2)
    client.receive("playing")
    client.send("continue", at=at + 1, seconds=None, seed=2)
    for half in range(40):
        client.send("head", at=at + half / 2)
    client.send("stop", at=at + 20)
    assert client.receive("end")["reason"] == "stopped"


def test_undo_takes_back_turn_after_turn(connect: Connect) -> None:
    client = connect()
    _, notes = answer(client, client.play(PHRASE, start=0))
    client.send("undo", at=20)
    assert len(client.receive("piece")["notes"]) == len(PHRASE)
    client.send("undo", at=21)
    assert client.receive("piece")["notes"] == []
    client.send("undo", at=22)
    assert client.receive("error")["code"] == "not-now"
    assert notes


def test_takes_are_kept_and_others_make_room(connect: Connect, serve: Callable[..., Any]) -> None:
    client = connect(serve(Limits(takes=2)).address)
    client.play(PHRASE, start=0)
    answer(client, 10, seconds=1)
    first = takes(client)[0]["take"]
    client.send("keep", take=first)
    assert takes(client)[0]["kept"]
    for at in (20, 30):
        client.send("again", at=at, seconds=1, seed=None)
        client.receive("playing")
        client.listen(at)
    found = takes(client)
    assert [take["kept"] for take in found] == [True, False]
    client.send("keep", take=found[1]["take"])
    takes(client)
    client.send("again", at=40, seconds=1)
    refused = client.receive("error")
    assert refused["code"] == "full"
    assert "delete one" in refused["message"]
    client.send("delete", take=first)
    assert len(takes(client)) == 1
    answer(client, 50, seconds=1)


@pytest.mark.parametrize(
    ("controls", "holds"),
    [
        ({"scale": "C minor"}, lambda n: n["pitch"] % 12 in pitch_classes("C minor")),
        ({"low": 60, "high": 71}, lambda n: 60 <= n["pitch"] <= 71),
    ],
)
def test_steering_changes_what_is_played(
    connect: Connect, controls: dict[str, Any], holds: Callable[[dict[str, Any]], bool]
) -> None:
    client = connect()
    at = client.play(PHRASE, start=0)
    client.send("continue", at=at, seconds=10, seed=3)
    client.receive("playing")
    client.send("steer", at=at + 2, controls=controls)
    # Heard within half a second; what sounds earlier has been played as before.
    assert at + 2 <= client.receive("cut")["from"] <= at + 2.5
    _, notes = client.listen(at + 2)
    later = [note for note in notes if note["start"] > at + 2.5]
    assert len(later) > 10
    assert all(map(holds, later))
    client.send("steer", at=at + 20, controls={})
    client.receive("controls")
    _, free = answer(client, at + 21, seconds=20, seed=3)
    assert not all(map(holds, free))


def test_steering_polyphony_and_density(connect: Connect) -> None:
    client = connect()
    client.send("steer", at=0, controls={"polyphony": 1, "density": 3})
    assert client.receive("controls")["controls"] == {"polyphony": 1, "density": 3}
    _, notes = answer(client, client.play(PHRASE, start=0), seconds=30, seed=4)
    for note, later in itertools.pairwise(notes):
        assert later["start"] >= note["end"] - 0.001
    assert 1.5 < len(notes) / 30 < 4.5
    assert takes(client)[-1]["controls"] == {"polyphony": 1, "density": 3}


def test_steering_chance(connect: Connect) -> None:
    def first_pitches(**controls: float) -> set[int]:
        found = set()
        for seed in range(8):
            client = connect()
            client.send("steer", at=0, controls=controls)
            end = client.play(PHRASE, start=0)
            found.add(answer(client, end, seed=seed)[1][0]["pitch"])
        return found

    assert len(first_pitches(top_p=0.05)) == 1
    assert len(first_pitches(temperature=0.1)) < len(first_pitches(temperature=2.0))


def test_controls_leave_the_music_to_the_model(connect: Connect) -> None:
    plain, reset = connect(), connect()
    reset.send("steer", at=0, controls={"temperature": 2})
    reset.send("steer", at=0, controls={})
    found = [music(answer(c, c.play(PHRASE, start=0), seed=8)[1]) for c in (plain, reset)]
    assert found[0] == found[1]


def test_a_long_wait_is_not_part_of_the_piece(connect: Connect) -> None:
    client = connect()
    client.play([60, 62], start=0)
    client.play([64, 65], start=500)
    take, _ = answer(client, 505, seconds=1)
    client.send("take", take=take)
    starts = [note["start"] for note in client.receive("take")["all_notes"]]
    assert 1 < starts[2] - starts[1] < 3


def test_notes_at_once_are_the_same_as_one_by_one(connect: Connect) -> None:
    single, several = connect(), connect()
    end = single.play(PHRASE, start=0)
    notes = [
        {"start": k * 0.25, "end": k * 0.25 + 0.9 * 0.25, "pitch": pitch, "velocity": 80}
        for k, pitch in enumerate(PHRASE)
    ]
    several.send("notes", notes=notes)
    found = [music(answer(c, end, seed=8)[1]) for c in (single, several)]
    assert found[0] == found[1]


def test_a_held_chord_is_part_of_the_prompt(connect: Connect) -> None:
    client = connect()
    for pitch in (60, 64, 67):
        client.send("note-on", pitch=pitch, velocity=80, at=1)
    take, _ = answer(client, 3, seconds=1)
    client.send("note-off", pitch=60, at=9)
    client.send("take", take=take)
    prompt = client.receive("take")["all_notes"][:3]
    assert [note["pitch"] for note in prompt] == [60, 64, 67]
    assert [note["end"] - note["start"] for note in prompt] == pytest.approx([2, 2, 2])


def test_takes_are_downloaded(connect: Connect) -> None:
    client = connect()
    take, _ = answer(client, client.play(PHRASE, start=0), seed=1)
    client.send("take", take=take)
    # Notes that begin together are in the order of their pitches in a file.
    wanted = sorted(client.receive("take")["all_notes"], key=lambda n: (n["start"], n["pitch"]))
    read = read_midi(client.download(take, "mid"))
    assert read.pitch.tolist() == [note["pitch"] for note in wanted]
    assert np.allclose(read.start, [note["start"] for note in wanted], atol=1e-3)
    with wave.open(io.BytesIO(client.download(take, "wav"))) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        assert sound.getnframes() / sound.getframerate() > read.end_time
    assert np.abs(samples).max() > 1000
    page = client.download(take, "html").decode()
    assert "Content-Security-Policy" in page
    assert f"Take {take}" in page


def test_a_file_is_continued_from_a_mark(connect: Connect, server: Any) -> None:
    client = connect()
    piece = Notes(
        start=np.arange(40) / 4, end=np.arange(40) / 4 + 0.2, pitch=50 + np.arange(40) % 20
    )
    address = f"{server.address}sessions/{client.welcome['session']}/midi"
    with urllib.request.urlopen(
        urllib.request.Request(address, data=midi_bytes(piece))
    ) as answered:
        found = json.load(answered)
    assert found["summary"].startswith("40 notes")
    assert found["report"]["notes"] == 40
    assert found["notes"]["pitch"] == piece.pitch.tolist()
    client.send("prompt", until=5.0, at=100)
    shown = client.receive("piece")["notes"]
    assert [note["pitch"] for note in shown] == piece.pitch[:21].tolist()
    # The mark is at the time of the clock.
    assert shown[-1]["start"] == pytest.approx(100, abs=0.01)
    take, _ = answer(client, 101)
    assert takes(client)[-1]["prompt_notes"] == 21
    client.send("prompt", until=None, at=200)
    assert len(client.receive("piece")["notes"]) == 40
    assert take


def test_files_that_cannot_be_read_are_refused(connect: Connect, serve: Callable[..., Any]) -> None:
    server = serve(Limits(file_bytes=5000))
    client = connect(server.address)
    key = client.welcome["session"]
    for path, data, code, problem in (
        (f"sessions/{key}/midi", b"no music", 422, "not a MIDI file"),
        (f"sessions/{key}/midi", b"x" * 5001, 413, "larger than 5,000 bytes"),
        ("sessions/other/midi", b"x", 404, "no such session"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(server.address + path, data=data))
        assert refused.value.code == code
        assert problem.lower() in json.load(refused.value)["error"].lower()
    client.send("prompt", until=None, at=1)
    assert client.receive("error")["code"] == "not-now"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        client.download(77)


def test_one_session_cannot_keep_the_others_from_files(
    connect: Connect, serve: Callable[..., Any]
) -> None:
    client = connect(serve(Limits(requests=2)).address)
    # A long sound takes some time to render.
    notes = [{"start": k / 2, "end": k / 2 + 8, "pitch": 40, "velocity": 80} for k in range(500)]
    client.send("notes", notes=notes)
    take, _ = answer(client, 300, seconds=1)
    found: list[int] = []

    def download() -> None:
        try:
            found.append(len(client.download(take, "wav")) and 200)
        except urllib.error.HTTPError as error:
            found.append(error.code)

    threads = [threading.Thread(target=download) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 200 in found
    assert 429 in found
    assert set(found) == {200, 429}
    # Afterwards there is room again.
    assert client.download(take, "mid")[:4] == b"MThd"


def test_a_long_take_is_not_rendered(connect: Connect, serve: Callable[..., Any]) -> None:
    client = connect(serve(Limits(sound_seconds=20)).address)
    take, _ = answer(client, 1, seconds=10)
    assert client.download(take, "wav")[:4] == b"RIFF"
    client.send("notes", notes=[{"start": 20, "end": 60, "pitch": 60, "velocity": 80}])
    take, _ = answer(client, 61, seconds=1)
    with pytest.raises(urllib.error.HTTPError) as refused:
        client.download(take, "wav")
    assert refused.value.code == 422
    assert "the limit is 20 s" in refused.value.read().decode()
    assert client.download(take, "mid")[:4] == b"MThd"


def test_a_dropped_connection_resumes_its_session(connect: Connect) -> None:
    client = connect(clock="a")
    at = client.play(PHRASE, start=0)
    client.send("continue", at=at, seconds=None, seed=2)  # has notes in the seconds below
    client.receive("notes")
    key = client.welcome["session"]
    client.close()
    # On the same clock the model is still playing.
    same = connect(session=key, clock="a")
    assert same.welcome["resumed"]
    assert same.state["piece"]["playing"] == 1
    same.send("head", at=at + 2)
    assert same.receive("notes")["notes"]
    same.close()
    # A page that was loaded again has another clock: the model has stopped, the rest is there.
    other = connect(session=key, clock="b")
    assert [take["take"] for take in other.state["takes"]["takes"]] == [1]
    piece = other.state["piece"]
    assert piece["playing"] is None
    assert len(piece["notes"]) > len(PHRASE)
    assert max(note["end"] for note in piece["notes"]) <= 0.001
    assert answer(other, 1)[1]


def test_a_session_that_is_left_ends(connect: Connect, serve: Callable[..., Any]) -> None:
    server = serve(Limits(resume_seconds=0.05))
    client = connect(server.address)
    key = client.welcome["session"]
    client.close()
    give_up = time.monotonic() + 60
    while (again := connect(server.address, session=key)).welcome["resumed"]:
        again.close()
        assert time.monotonic() < give_up
        time.sleep(0.2)
    assert again.welcome["session"] != key


def test_a_session_that_is_opened_elsewhere_is_closed_here(connect: Connect) -> None:
    client = connect()
    other = connect(session=client.welcome["session"], clock="b")
    with pytest.raises(ConnectionClosed) as closed:
        client.receive("never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    assert answer(other, 1)[1]


def test_a_full_server_says_so(connect: Connect, serve: Callable[..., Any]) -> None:
    server = serve(Limits(sessions=1))
    connect(server.address)
    with pytest.raises(RuntimeError, match="the server is full: it allows 1 player"):
        connect(server.address)


def test_several_sessions_do_not_disturb_each_other(connect: Connect) -> None:
    alone = connect()
    wanted = [
        music(answer(alone, alone.play(PHRASE, start=100 * k), seconds=6, seed=k)[1])
        for k in range(1)
    ]
    clients = [connect() for _ in range(4)]
    for client in clients:
        at = client.play(PHRASE, start=0)
        client.send("continue", at=at, seconds=6, seed=0)
    for client in clients:
        client.receive("playing")
    found = [music(client.listen(at)[1]) for client in clients]
    assert found == wanted * 4


def test_a_slow_client_does_not_stop_the_others(
    connect: Connect, serve: Callable[..., Any], raw_socket: Callable[[str], Any]
) -> None:
    server = serve(Limits(send_seconds=1, resume_seconds=0, sessions=2, messages_per_second=1e6))
    quick = connect(server.address)
    address = server.address.replace("http", "ws") + "socket"
    with contextlib.closing(raw_socket(address)) as slow:

        def send(kind: str, **values: Any) -> None:
            slow.send(json.dumps({"type": kind, **values}))

        send("hello", version=VERSION, clock="slow", at=0)
        send(
            "notes", notes=[{"start": k, "end": k, "pitch": 60, "velocity": 80} for k in range(500)]
        )
        send("continue", at=1000, seconds=5, seed=2)

        def ask() -> None:
            # It asks for the take again and again, and reads nothing.
            with contextlib.suppress(OSError, ConnectionClosed):
                while True:
                    send("take", take=1)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        give_up = time.monotonic() + 60
        while True:
            assert answer(quick, quick.play(PHRASE, start=0), seconds=1)[1]
            # Its place is free as soon as it has been given up.
            with contextlib.suppress(RuntimeError):
                connect(server.address)
                break
            assert time.monotonic() < give_up
    # Its socket is closed, so that the thread ends.
    asking.join(60)
    assert not asking.is_alive()


def test_the_model_is_chosen(connect: Connect) -> None:
    client = connect()
    client.send("model", name="second", at=0)
    assert client.receive("controls")["model"] == "second"
    answer(client, client.play(PHRASE, start=1))
    assert takes(client)[-1]["model"] == "second"
    client.send("model", name="third", at=0)
    assert client.receive("error")["code"] == "unknown"
