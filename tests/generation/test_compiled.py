"""Sessions whose rows are drawn and read by machine code play what the others play."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from notelstm.bundle import Bundle
from notelstm.encoders import LogTimeEncoder, PerformanceEventEncoder, StepDurationEncoder
from notelstm.errors import ConfigError
from notelstm.generation import Session, generate, generate_batch, stream
from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder, NoteModel, Precision, Sampler
from notelstm.sampling import Ancestral, Greedy, RawPitch, ShortestDuration, Temperature, Weighted
from notelstm.testing.makers import long_piece

ENCODER = StepDurationEncoder()
SHORTEST = (ShortestDuration(seconds=0.2), ShortestDuration(seconds=0.1))
SAMPLERS = [Weighted(), Ancestral(), Greedy(), Weighted(processors=SHORTEST)]


def model(*, faults: bool = True) -> ThreeHeadLSTM:
    torch.manual_seed(0)
    made = ThreeHeadLSTM(fields=ENCODER.fields, hidden=24, sigmoid=faults, point_times=faults)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def bundle(sampler: Sampler | None = None, *, faults: bool = True) -> Bundle:
    return Bundle(model=model(faults=faults), encoder=ENCODER, sampler=sampler or Weighted())


def session(lanes: int = 1, compiled: Precision | None = "float32", **settings: Any) -> Session:
    return Session(model(), ENCODER, Weighted(), lanes=lanes, compiled=compiled, **settings)


def assert_same(got: Notes, want: Notes) -> None:
    np.testing.assert_array_equal(got.pitch, want.pitch)
    np.testing.assert_allclose(got.start, want.start, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(got.end, want.end, rtol=1e-5, atol=1e-4)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("faults", [True, False])
def test_music_is_the_same(sampler: Sampler, faults: bool) -> None:
    prompt = long_piece(np.random.default_rng(0), count=30, seconds=10)
    for start in (None, prompt):
        plain, compiled = (
            generate(bundle(sampler, faults=faults), 200, prompt=start, seed=3, compiled=how)
            for how in (None, "float32")
        )
        assert_same(compiled, plain)


def test_a_lane_is_the_same_in_a_batch_on_any_threads(threads: int) -> None:
    alone = [generate(bundle(), 150, seed=5, compiled="float32")]
    for lanes in (2, 31, 97):
        many = generate_batch(bundle(), 150, batch=lanes, seed=5, compiled="float32")
        assert_same(many[0], alone[0])
        for now, before in zip(many, alone, strict=False):
            assert_same(now, before)
        alone = many
    assert torch.get_num_threads() == threads


def test_torchs_threads_stay_as_they_are(threads: int) -> None:
    playing = session(97, undoable=0)
    playing.run(notes=3)
    seen: list[int] = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert [*seen, torch.get_num_threads()] == [threads, threads]
    pool = playing._engine._compiled and playing._engine._compiled._pool
    assert (pool is None) == (threads == 1)
    if pool is not None:
        asked = [pool.submit(torch.get_num_threads).result() for _ in range(8)]
        assert set(asked) == {1}, "a thread of several shares its products out"


def test_the_same_seed_is_the_same_music_to_the_last_bit(threads: int) -> None:
    for precision in ("float32", "int8"):
        first, second = (
            generate_batch(bundle(), 150, batch=97, seed=5, compiled=precision) for _ in range(2)
        )
        assert first == second


def test_a_run_goes_on_where_another_ended() -> None:
    for precision in ("float32", "int8"):
        for lanes in (1, 97):
            whole, parted = (session(lanes, precision, undoable=0) for _ in range(2))
            notes = whole.run(notes=300)
            parts = [parted.run(notes=n) for n in (1, 130, 0, 169)]
            for lane in range(lanes):
                want = notes[lane].pitch.tolist()
                assert [p for part in parts for p in part[lane].pitch.tolist()] == want
            for ours, theirs in zip(whole.trackers, parted.trackers, strict=True):
                assert ours.notes() == theirs.notes()


def test_every_way_to_play_is_the_same() -> None:
    made = bundle()
    plain = generate(made, 100, seed=2)
    streamed = list(stream(made, notes=100, seed=2, compiled="float32"))
    assert [note.pitch for note in streamed] == plain.pitch.tolist()
    timed = generate(made, seconds=3, seed=2, compiled="float32")
    assert_same(timed, generate(made, seconds=3, seed=2))
    best = generate(made, 40, best_of=1, until=lambda played: played.n > 20, compiled="float32")
    assert_same(best, generate(made, 40, until=lambda played: played.n > 20))


def test_fields_are_forced_and_notes_taken_back() -> None:
    plain, compiled = session(compiled=None), session()
    for one in (plain, compiled):
        one.run(notes=10)
        one.next(pitch=60)
        one.next()
        one.undo(3)
        kept = one.snapshot()
        one.run(notes=5)
        one.restore(kept)
        one.run(notes=20)
    assert_same(compiled.trackers[0].notes(), plain.trackers[0].notes())


class Odd:
    """A sampler of one's own."""

    def __call__(self, field: Any, prediction: Any, noise: Any, views: Any) -> Any:
        return prediction.mode()


@pytest.mark.parametrize(
    ("made", "encoder", "sampler", "feedback"),
    [
        (Windowed(model(), 5), ENCODER, Weighted(), None),
        (ThreeHeadLSTM(fields=ENCODER.fields, hidden=4, layers=2), ENCODER, Weighted(), None),
        (NoteLSTM(fields=LogTimeEncoder().fields, hidden=4), LogTimeEncoder(), Ancestral(), None),
        (
            NoteLSTM(fields=PerformanceEventEncoder().fields, hidden=4),
            PerformanceEventEncoder(),
            Ancestral(),
            None,
        ),
        (model(), ENCODER, Weighted(processors=(Temperature(temperature=0.5),)), None),
        (model(), ENCODER, Odd(), None),
        (model(), ENCODER, Weighted(), RawPitch()),
        (model().double(), ENCODER, Weighted(), None),
    ],
)
def test_what_cannot_be_compiled_is_refused(
    made: NoteModel, encoder: NoteEncoder, sampler: Sampler, feedback: Any
) -> None:
    with pytest.raises(ConfigError, match=r"what can be compiled .* leave out `compiled`"):
        Session(made, encoder, sampler, feedback=feedback, compiled="float32")


def test_the_best_of_several_is_weighed_and_so_not_compiled() -> None:
    with pytest.raises(ConfigError, match="what can be compiled"):
        generate(bundle(), 10, best_of=2, compiled="float32")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="float32 or int8"):
        session(compiled="float16")  # type: ignore[arg-type]
