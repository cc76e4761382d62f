"""The comparison with other tools: its tables, and the scores of models that are not ours."""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from notelstm.notes import Notes

MEASURED = Path(__file__).parents[1] / "docs" / "measured"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(MEASURED)


@pytest.fixture
def peers() -> Any:
    return importlib.import_module("peers")


@pytest.fixture
def tokens() -> Any:
    pytest.importorskip("miditok")
    return importlib.import_module("peer_tools.miditok_gpt2").Tokens()


def tools(name: str) -> Any:
    return importlib.import_module(f"peer_tools.{name}")


def random_piece(count: int, seed: int = 0) -> Notes:
    """Chords, rests and repeated notes, not on the grid."""
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.choice([0.0, 0.004, 0.131, 2.3], size=count, p=[0.3, 0.2, 0.45, 0.05]))
    return Notes(
        start=start,
        end=start + rng.exponential(0.5, count) + 0.001,
        pitch=rng.integers(40, 60, count),
        velocity=rng.integers(1, 128, count),
    )


def cells(notes: Notes) -> list[tuple[int, int, int, int]]:
    columns = (np.rint(notes.start * 100), np.rint(notes.end * 100), notes.pitch, notes.velocity)
    return sorted(zip(*(c.astype(int).tolist() for c in columns), strict=True))


# The tables.


@pytest.mark.parametrize("name", ["peers", "peers_two_cores"])
def test_tables_are_those_of_the_results(peers: Any, name: str) -> None:
    results = peers.Results.open(MEASURED / f"{name}.json")
    table = (MEASURED / f"{name}.md").read_text(encoding="utf-8")
    assert table == peers.tables(results.found), (
        f"run python docs/measured/peers.py --results docs/measured/{name}.json --table"
    )


def results_of(ours: Sequence[float], theirs: Sequence[float], legal: Sequence[float]) -> Any:
    """Results of two tools on pieces of 10 notes."""

    def tool(seeds: Sequence[dict[str, list[float]]]) -> dict[str, Any]:
        runs = {
            str(seed): {
                "rate": 0.01,
                "batch": 4,
                "parameters": 2_500_000,
                "notes_per_second": 1234.5,
                "marks": [{"fraction": f, "nats": nats} for f in (1 / 6, 1 / 2, 1.0)],
            }
            for seed, nats in enumerate(seeds)
        }
        trials = [
            {"rate": 0.1, "batch": 4, "nats_per_note": None},
            {"rate": 0.01, "batch": 4, "nats_per_note": 5.0},
            {"rate": 0.001, "batch": 4, "nats_per_note": 6.0},
        ]
        size = {"packages": 3, "all": 1200.0, "without_torch": 200.0}
        speed = {
            "1": {"notes_per_second": 1300.0, "generating": 1.25},
            "2": {"notes_per_second": 2100.0, "generating": 1.5},
        }
        return {"trials": trials, "runs": runs, "installed": size, "importing": 0.5, "speed": speed}

    roles = ("pitch", "step", "duration", "velocity")
    mine = {role: [nats / 4 for nats in ours] for role in roles}
    worse = {"event": [2 * n for n in theirs], "legal": [2 * n for n in legal]}
    none = {"event": [0.0 for _ in theirs], "legal": [0.0 for _ in legal]}
    return {
        "protocol": {"minutes": 30},
        "scored": [10] * len(ours),
        "tools": {"expressive": tool([mine]), "miditok": tool([worse, none])},
    }


def test_table_of_quality(peers: Any) -> None:
    results = results_of([100, 120, 140], [160, 170, 180], [150, 160, 170])
    ours, theirs = peers.quality(results).splitlines()[2:]
    assert ours == "| notelstm, `expressive` | 12.00 | - | 9.00 | 12.00 |  |  | 2.22 |"
    # The mean of the seeds is that of their nats; differences are without impossible events.
    assert theirs.startswith("| MidiTok + GPT-2 | 17.00 | 16.00 | - | 32.00, 0.00 | +4.00 (+3.")
    assert theirs.endswith(" | 0 of 3 | 2.22 |")


def test_tools_without_velocities_are_compared_in_pitch_step_and_duration(peers: Any) -> None:
    results = results_of([100, 120, 140], [160, 170, 180], [150, 160, 170])
    tools = results["tools"]
    for run in tools["miditok"]["runs"].values():
        for mark in run["marks"]:
            mark["nats"] = {role: [20.0, 30.0, 70.0] for role in ("pitch", "step", "duration")}
    tools["reference"] = tools.pop("miditok")
    row = peers.quality(results).splitlines()[3]
    # Of 60, 90 and 210 nats those of our recipe are 75, 90 and 105.
    assert row.startswith(
        "| notelstm, `reference` | - | - | 12.00 | 12.00, 12.00 (P+S+D) | +3.00 ("
    )
    assert row.endswith(" | 1 of 3 | 2.22 |")


def test_other_tables(peers: Any) -> None:
    results = results_of([100, 120], [160, 170], [150, 160])
    assert peers.curve(results).splitlines() == [
        "|  | nats of | 5 min | 15 min | 30 min |",
        "|---|---|---|---|---|",
        "| notelstm, `expressive` | a note | 11.00 | 11.00 | 11.00 |",
        "| notelstm, `expressive` | P+S+D | 8.25 | 8.25 | 8.25 |",
        "| MidiTok + GPT-2 | a note, without impossible events | 15.50 | 15.50 | 15.50 |",
    ]
    assert "0.1, 4: diverged; **0.01, 4: 5.00**; 0.001, 4: 6.00 |" in peers.tried(results)
    row = peers.effort(results).splitlines()[2]
    lines = peers.lines_of("notelstm_expressive.py")
    assert f"| 2.50 M | 1,300 | 2,100 | 1.25 | 1,200 | 200 | 3 | 0.50 | {lines} |" in row


def test_trials_are_of_rates_up_to_those_beside_the_best_and_then_of_another_batch(
    peers: Any,
) -> None:
    class Some:
        rates, batches = (3.0, 1.0, 9.0), (16, 4)

    of_rate = {9: None, 3: 2.5, 1: 2.0, 0.3: 1.5, 0.1: 1.46}
    trials: list[dict[str, Any]] = [{"rate": 1.0, "batch": 16, "nats_per_note": 2.0}]
    tried = []
    for rate, batch in peers.settings_to_try(Some, trials):
        tried.append((rate, batch))
        nats = of_rate[rate] if batch == 16 else 1.48
        trials.append({"rate": rate, "batch": batch, "nats_per_note": nats})
    # The trial that was already made is not repeated; .1 is better by too little to go on.
    assert tried == [(3, 16), (9, 16), (0.3, 16), (0.1, 16), (0.3, 4)]
    # The other batch is better by too little to count, until it is better by more.
    assert peers.best_of(trials) == {"rate": 0.3, "batch": 16, "nats_per_note": 1.5}
    trials[-1]["nats_per_note"] = 1.4
    assert peers.best_of(trials) == trials[-1]


def test_settings_are_chosen_by_all_trials_of_which_one_did_not_diverge(peers: Any) -> None:
    class Some:
        rates, batches = (3.0, 1.0, 9.0), (16, 4)

    of = {(1, 16): 3.0, (3, 16): 2.0, (9, 16): None, (3, 4): 2.5}
    trials = [{"rate": r, "batch": b, "nats_per_note": nats} for (r, b), nats in of.items()]
    assert peers.is_chosen(Some, trials)
    assert not any(peers.is_chosen(Some, trials[:count]) for count in range(4))
    assert not peers.is_chosen(Some, [{**trial, "nats_per_note": None} for trial in trials])


def test_rates_are_tried_above_the_highest_until_one_diverges(peers: Any) -> None:
    trials: list[dict[str, Any]] = [
        {"rate": 1.0, "nats_per_note": 2.0},
        {"rate": 0.3, "nats_per_note": 3.0},
    ]
    assert peers.beyond(trials) == 3
    trials.append({"rate": 3.0, "nats_per_note": None})
    assert peers.beyond(trials) is None


def test_only_runs_that_are_missing_or_of_other_settings_are_made(
    peers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_of([100, 120], [160, 170], [150, 160])
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(peers, "settings_to_try", lambda tool, trials: [])

    def apart(run: dict[str, Any]) -> dict[str, Any]:
        made.append(run)
        return dict(run)

    monkeypatch.setattr(peers, "apart", apart)
    tool = results["tools"]["expressive"]
    (best,) = (t for t in tool["trials"] if t["nats_per_note"] == 5)
    tool["runs"] = {"0": {"rate": best["rate"], "batch": best["batch"]}, "1": {"rate": 7.0}}
    found = Unwritten(results)
    peers.measure(dict, "expressive", found, 3)
    assert [run["seed"] for run in made] == [1, 2]
    assert all(run["rate"] == best["rate"] for run in tool["runs"].values())
    # Runs of other settings do not stay, even if they are not made again.
    with found.changed():
        tool["runs"]["2"] = {"rate": 7.0, "batch": best["batch"]}
    peers.measure(dict, "expressive", found, 2)
    assert sorted(tool["runs"]) == ["0", "1"]
    # Other results, of other cores: no trials and no costs of their own.
    monkeypatch.delattr(peers, "settings_to_try")
    other = Unwritten({"tools": {}})
    peers.measure(dict, "expressive", other, 1, results["tools"])
    assert [run["seed"] for run in made] == [1, 2, 0]
    settings = {"key": "expressive", "seed": 0, "rate": best["rate"], "batch": best["batch"]}
    assert other.found == {"tools": {"expressive": {"runs": {"0": settings}}}}
    for of in (found, other):
        of.assert_written()


class Unwritten:
    """Results that are not written; they can be changed only where they would be."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found
        self.kept = copy.deepcopy(found)

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        assert self.found == self.kept
        yield
        self.kept = copy.deepcopy(self.found)

    def assert_written(self) -> None:
        assert self.found == self.kept


def test_results_with_the_choices_of_others(
    peers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of([100, 120], [160, 170], [150, 160])
    protocol = {"minutes": 30.0, "clock": "cpu", "threads": 1, "pieces": 200, "validation": 40}
    results |= {"protocol": protocol, "training_notes": 9, "exact_in_miditok": 2, "versions": {}}
    results["tools"]["notochord"] = {"trials": [], "runs": {}}
    first = peers.Results(path=tmp_path / "first.json", found=results)
    first.write()
    assert "### Rates and batches" in first.path.with_suffix(".md").read_text()
    made: list[Any] = []

    def measure(run: Any, key: str, results: Any, seeds: int, choices: Any) -> None:
        assert choices == first.found["tools"]
        runs = choices[key]["runs"]
        with results.changed():
            results.found["tools"][key] = {"runs": runs}
        made.append((key, seeds, run.keywords["protocol"].threads))

    class Tokens:
        def __init__(self, cache: Path) -> None:
            self.tokens = self

        def is_exact(self, piece: Notes) -> bool:
            return True

    data = peers.Data(train=[], tuning=[], validation=[random_piece(30)] * 2)
    monkeypatch.setattr(peers.Data, "open", lambda maestro, protocol: data)
    monkeypatch.setattr(peers, "MidiTokGpt2", Tokens)
    monkeypatch.setattr(peers, "measure", measure)
    monkeypatch.setattr(peers, "is_chosen", lambda tool, trials: bool(trials))
    monkeypatch.setattr(peers, "versions", dict)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    second = tmp_path / "second.json"

    def call(*words: str) -> str:
        common = [str(tmp_path), "--cache", str(tmp_path / "cache"), "--results", str(second)]
        monkeypatch.setattr("sys.argv", ["peers.py", *common, *words])
        with contextlib.suppress(SystemExit):
            peers.main()
        return capsys.readouterr().err

    of = ("--choices", str(first.path), "--tools", "expressive", "miditok")
    assert "there is no " in call("--table")
    assert "first.json lacks trials of notochord" in call(*of, "notochord")
    assert not second.exists()
    assert not call(*of, "--seeds", "1")
    assert made == [("expressive", 1, 2), ("miditok", 1, 2)]
    text = second.with_suffix(".md").read_text()
    assert "30 minutes of wall-clock time on 2 cores" in text
    assert "chosen by trials of CPU time on 1 core" in text
    assert "### Learning curve" in text
    assert "### Cost" not in text
    assert "second.json is of another protocol" in call(*of, "--clock", "cpu")
    assert "second.json were chosen otherwise" in call("--tools", "expressive")
    second.with_suffix(".md").write_text("")
    assert not call("--table")
    assert second.with_suffix(".md").read_text() == text


def test_speeds_are_measured_of_tools_with_a_run_at_the_settings_of_their_runs(
    peers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = results_of([100, 120], [160, 170], [150, 160])
    results["protocol"] = {
        "minutes": 30,
        "clock": "cpu",
        "threads": 1,
        "pieces": 3,
        "validation": 2,
    }
    results["tools"]["notochord"] = {"trials": [], "runs": {}}
    made: list[Any] = []

    def apart(speed: Any) -> dict[str, float]:
        made.append((speed.__self__, os.environ["OMP_NUM_THREADS"]))
        return {"notes_per_second": 100.0 * len(made)}

    monkeypatch.setattr(peers, "apart", apart)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    paths = {"maestro": tmp_path, "cache": tmp_path}
    measure = functools.partial(peers.Run, **paths)
    for run in results["tools"]["miditok"]["runs"].values():
        run |= {"rate": 0.02, "batch": 8}  # not those of the best trial
    found = Unwritten(results)
    peers.measure_speed(measure, ["miditok", "notochord"], found)
    assert [(run.key, run.rate, run.batch) for run, _ in made] == [("miditok", 0.02, 8)] * 2
    assert [(run.protocol.threads, cores) for run, cores in made] == [(1, "1"), (2, "2")]
    speed = results["tools"]["miditok"]["speed"]
    assert speed == {"1": {"notes_per_second": 100}, "2": {"notes_per_second": 200}}
    found.assert_written()


class Twenty:
    """A tool that reads twenty notes in a second, and generates more than it should."""

    trial, threads, parameters = 1 / 8, 1, 7

    def __init__(self, cache: Path) -> None:
        self.seen = 0

    def train(self, pieces: Sequence[Notes], *, budget: Any, **settings: object) -> None:
        self.trained = (len(pieces), settings)
        budget.start()
        while budget.stepped() < 1:
            time.perf_counter.now += 1  # type: ignore[attr-defined]
            self.seen += 20

    def score(self, pieces: Sequence[Notes]) -> list[dict[str, float]]:
        assert self.trained == (1, {"rate": 0.01, "batch": 5, "seed": 3 if len(pieces) > 1 else 0})
        return [{"event": 2.0 * self.seen, "legal": 1.0 * self.seen} for _ in pieces]

    def generate(self, prompt: Notes, count: int) -> int:
        assert (len(prompt), count) == (25, 500)
        time.process_time.now += 3  # type: ignore[attr-defined]
        return 750


@pytest.fixture
def runs(peers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes runs of the tool above, and the numbers of threads that were set."""
    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(time, name, Clock())
    monkeypatch.setitem(peers.TOOLS, "reference", Twenty)
    train, tuning, *validation = (random_piece(40, seed) for seed in range(4))
    data = peers.Data(train=[train], tuning=[tuning], validation=validation)
    monkeypatch.setattr(peers.Data, "open", lambda maestro, protocol: data)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    protocol = peers.Protocol(minutes=4, clock="wall", threads=2, pieces=1, validation=2)
    common = {"maestro": tmp_path, "cache": tmp_path, "protocol": protocol}
    run = functools.partial(peers.Run, key="reference", rate=0.01, batch=5, **common)
    return SimpleNamespace(of=run, threads=threads)


def test_a_run_is_scored_at_the_marks_of_its_time_and_a_trial_at_its_end(runs: Any) -> None:
    found = runs.of(seed=3)()
    marks = found.pop("marks")
    of = {"rate": 0.01, "batch": 5, "notes_per_second": 20, "parameters": 7}
    assert found == of
    assert [mark["fraction"] for mark in marks] == [1 / 6, 1 / 2, 1]
    assert [mark["nats"]["legal"] for mark in marks] == [[800] * 2, [2400] * 2, [4800] * 2]
    trial = runs.of(seed=None)()
    # An eighth of the time; 15 notes are scored, with impossible events.
    assert trial == {"rate": 0.01, "batch": 5, "nats_per_note": 2 * 20 * 30 / 15}
    assert runs.threads == [1, 1]


def test_speed_is_of_a_short_training_and_of_a_generation(runs: Any) -> None:
    assert runs.of(seed=0).speed() == {"notes_per_second": 20, "generating": 2}
    assert runs.threads == [2]


def test_figures_without_velocities_are_named(peers: Any) -> None:
    results = results_of([100, 120], [160, 170], [150, 160])
    for run in results["tools"]["expressive"]["runs"].values():
        for mark in run["marks"]:
            mark["nats"] = {role: n for role, n in mark["nats"].items() if role != "velocity"}
    assert peers.spread(results, "expressive") == "8.25 (P+S+D)"
    assert "| notelstm, `expressive` | P+S+D | 8.25 |" in peers.curve(results)
    assert "| notelstm, `expressive` | a note |" not in peers.curve(results)


def test_lines_of_programs(peers: Any) -> None:
    for tool in peers.TOOLS.values():
        if tool.program:
            ast.parse((peers.PROGRAMS / tool.program).read_text(encoding="utf-8"))
    assert peers.lines_of("notelstm_expressive.py") == 6
    assert peers.lines_of("") is None


# The pieces.


@given(st.integers(1, 60), st.integers(0, 100))
def test_prepared_notes_do_not_overlap(count: int, seed: int) -> None:
    piece = tools("common").prepared(random_piece(count, seed))
    assert tools("common").prepared(piece) == piece
    assert piece.start[0] == 0
    for pitch in np.unique(piece.pitch):
        own = piece[piece.pitch == pitch]
        onset, end = np.rint(own.start * 100), np.rint(own.end * 100)
        assert (end > onset).all()
        assert (end[:-1] <= onset[1:]).all()
        np.testing.assert_allclose(own.start * 100, onset, atol=1e-6)


def test_prepared_keeps_the_longest_of_one_cell_and_ends_a_note_at_the_next() -> None:
    piece = Notes(start=[5.0, 5.001, 5.2], end=[5.1, 6.0, 5.3], pitch=60, velocity=[10, 20, 30])
    assert cells(tools("common").prepared(piece)) == [(0, 20, 60, 20), (20, 30, 60, 30)]


def test_events_are_those_of_the_notes() -> None:
    common = tools("common")
    piece = common.prepared(random_piece(80))
    events = common.Events.of(piece)
    onsets = events.velocity > 0
    found = np.stack([events.cell, events.pitch, events.velocity], axis=1)
    assert found[onsets].tolist() == sorted([a, p, v] for a, _, p, v in cells(piece))
    assert sorted(found[~onsets].tolist()) == sorted([b, p, 0] for _, b, p, _ in cells(piece))
    assert (np.diff(events.cell) >= 0).all()
    held: set[int] = set()
    for pitch, onset, sounding in zip(events.pitch, onsets, events.sounding, strict=True):
        assert {*np.flatnonzero(sounding)} == held
        assert (pitch in held) != onset
        held ^= {int(pitch)}
    assert piece.pitch[events.note].tolist() == events.pitch.tolist()


# The budget.


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.process_time", clock)
    return clock


def test_scoring_does_not_use_the_budget(clock: Clock) -> None:
    marks: list[tuple[float, float]] = []

    def at_mark(fraction: float) -> None:
        marks.append((fraction, clock.now))
        clock.now += 100

    budget = tools("common").Budget(12.0, "cpu", [0.25, 0.5, 1.0], at_mark)
    clock.now = 7.0
    budget.start()
    fractions = []
    for _ in range(4):
        clock.now += 4
        fractions.append(budget.stepped())
    # Two marks that one step passes are both scored.
    assert fractions == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert marks == [(0.25, 11), (0.5, 115), (1.0, 219)]


def seconds_of_steps(
    clock: Clock, count: int, marks: Sequence[float], at_mark: Callable[[float], None]
) -> Any:
    """A budget of so many steps, each of a second."""

    class Steps(tools("common").Budget):  # type: ignore[misc]
        def stepped(self) -> float:
            clock.now += 1
            done: float = super().stepped()
            return done

    return Steps(count, "cpu", marks, at_mark)


def test_a_recipe_is_trained_until_its_budget_is_used(clock: Clock, tmp_path: Path) -> None:
    common = tools("common")
    pieces = [common.prepared(random_piece(60, seed)) for seed in range(2)]
    tool, scored = tools("ours").Reference(tmp_path), []

    def at_mark(fraction: float) -> None:
        scored.append((fraction, tool.score(pieces)))

    budget = seconds_of_steps(clock, 4, [0.5, 1.0], at_mark)
    tool.train(pieces, rate=0.01, batch=5, seed=0, budget=budget)
    assert [fraction for fraction, _ in scored] == [0.5, 1.0]
    assert tool.seen == 4 * 5
    before, after = (nats for _, nats in scored)
    assert [{*piece} for piece in after] == [{"pitch", "step", "duration"}] * 2
    assert before != after
    assert tool.generate(pieces[0][:30], 10) == 10


def test_the_tutorial_is_scored_with_the_weights_of_its_best_epoch(
    clock: Clock, tmp_path: Path
) -> None:
    common = tools("common")
    pieces = [common.prepared(random_piece(60, seed)) for seed in range(2)]
    tool, scored = tools("ours").Tutorial(tmp_path), []

    def at_mark(fraction: float) -> None:
        lowest = {name: tensor.clone() for name, tensor in tool._lowest.weights.items()}
        current = {name: t.clone() for name, t in tool.bundle.model.state_dict().items()}
        scored.append((lowest, current, tool.score(pieces)))
        after = tool.bundle.model.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in current.items())

    steps = -(-2 * (60 - 25) // 5)  # of an epoch
    budget = seconds_of_steps(clock, 3 * steps, [1 / 6, 1.0], at_mark)
    tool.train(pieces, rate=0.01, batch=5, seed=0, budget=budget)
    (none, early, first), (lowest, last, final) = scored
    assert not none  # no epoch has ended
    assert any((lowest[name] != last[name]).any() for name in last)
    model = tool.bundle.model
    for weights, nats in ((early, first), (lowest, final)):
        model.load_state_dict(weights)
        tool._lowest.weights = {}
        assert tool.score(pieces) == nats


def test_the_weights_after_the_epoch_with_the_lowest_loss_are_kept() -> None:
    layer = torch.nn.Linear(1, 1)
    trainer = SimpleNamespace(module=SimpleNamespace(model=layer))
    kept = tools("ours")._LowestLoss()
    for value, loss in ((1.0, 3.0), (2.0, 2.0), (3.0, 2.5)):
        layer.weight.data.fill_(value)
        kept.on_epoch_end(trainer, {"loss": loss})
    assert kept.weights["weight"].item() == 2


# MidiTok with GPT-2.


def seen_through(tokens: Any, count: int = 60, seed: int = 0) -> tuple[Notes, NDArray[np.int64]]:
    piece = tools("common").prepared(random_piece(count, seed))
    return piece, tokens.encode(piece)


@pytest.mark.parametrize("seed", range(5))
def test_tokens_represent_the_cells_of_a_piece(tokens: Any, seed: int) -> None:
    piece, ids = seen_through(tokens, seed=seed)
    assert tokens.is_exact(piece)
    shortened = Notes(
        start=piece.start, end=piece.end - 0.01 * (piece.duration > 0.015), pitch=piece.pitch
    )
    assert tokens.encode(shortened).tolist() != ids.tolist()
    possible = tokens.possible(ids)[1:]
    assert possible[np.arange(len(ids) - 1), ids[1:]].all()


def test_impossible_tokens(tokens: Any) -> None:
    piece = tools("common").prepared(
        Notes(start=[0, 0.5, 1], end=[0.8, 0.7, 1.2], pitch=[60, 64, 67], velocity=64)
    )
    ids = tokens.encode(piece)
    vocabulary = tokens.tokenizer.vocab
    names = {number: name for name, number in vocabulary.items()}
    at = next(k for k, number in enumerate(ids) if names[number] == "NoteOff_64")
    allowed = {names[number] for number in np.flatnonzero(tokens.possible(ids)[at])}
    # 60 and 64 sound: only these can end, and all others can begin.
    assert {n for n in allowed if n.startswith("NoteOff")} == {"NoteOff_60", "NoteOff_64"}
    assert "NoteOn_61" in allowed
    assert not allowed & {"NoteOn_60", "NoteOn_64", "Velocity_63", "PAD_None", "TimeSig_4/4"}
    velocities = tokens.possible(ids)[[k for k, n in enumerate(ids) if "Vel" in names[n]]]
    assert (tokens.kind[np.flatnonzero(velocities.any(axis=0))] == "Velocity").all()


def test_probabilities_of_the_next_token_sum_to_one(tokens: Any) -> None:
    miditok_gpt2 = tools("miditok_gpt2")
    _, ids = seen_through(tokens)
    torch.manual_seed(0)
    table = torch.randn(len(ids) + 1, tokens.size) * 2

    def logits(some: NDArray[np.int64]) -> Tensor:
        return table[: len(some) - 1]

    counted = tokens.counted(ids)
    # After the last onset, only ends of later notes are left, and all of them are scored.
    last = int(np.flatnonzero(tokens.kind[ids] == "Velocity")[-1])
    assert counted[last:].all()
    before = miditok_gpt2.piece_nats(logits, tokens, ids[: last + 1])
    possible = np.flatnonzero(tokens.possible(np.append(ids[: last + 1], 0))[-1])
    sums = {"event": 0.0, "legal": 0.0}
    for number in possible:
        after = miditok_gpt2.piece_nats(logits, tokens, np.append(ids[: last + 1], number))
        for figure in sums:
            sums[figure] += float(np.exp(before[figure] - after[figure]))
    everything = table[last].double().softmax(-1).numpy()
    assert sums["legal"] == pytest.approx(1.0, abs=1e-6)
    assert sums["event"] == pytest.approx(everything[possible].sum(), abs=1e-6)
    assert sums["event"] < 0.99


def test_tokens_that_are_scored(tokens: Any) -> None:
    piece, ids = seen_through(tokens)
    counted, kind = tokens.counted(ids), tokens.kind[ids]
    assert counted[kind == "NoteOn"].sum() == len(piece) - 25
    assert counted[kind == "Velocity"].sum() == len(piece) - 25
    assert counted[kind == "NoteOff"].sum() == len(piece) - 25
    place = int(np.flatnonzero(kind == "NoteOn")[24])
    assert not counted[: place + 1].any()
    assert counted[place:][kind[place:] == "TimeShift"].all()


def test_transposed_tokens_are_those_of_the_transposed_piece(tokens: Any) -> None:
    piece, ids = seen_through(tokens)
    higher = Notes(start=piece.start, end=piece.end, pitch=piece.pitch + 3, velocity=piece.velocity)
    assert tokens.transposed(ids, 3).tolist() == tokens.encode(higher).tolist()
    # As far as the keys of the piano allow.
    highest = tokens.pitch[tokens.transposed(ids, 100)].max()
    assert highest == 108


@pytest.mark.parametrize("length", [2, 511, 512, 513, 768, 769, 1500])
def test_windows_join_at_every_length(tokens: Any, length: int, tmp_path: Path) -> None:
    miditok_gpt2 = tools("miditok_gpt2")
    tool = miditok_gpt2.MidiTokGpt2(tmp_path)
    table, seen = torch.randn(tokens.size, 7), []

    class Last(torch.nn.Module):
        """Logits that depend on the last token, and on how many were before it."""

        def forward(self, input_ids: Tensor) -> Any:
            seen.append(input_ids.shape[1])
            before = torch.arange(input_ids.shape[1]).expand(input_ids.shape)[..., None]
            return SimpleNamespace(logits=torch.cat([table[input_ids], before], -1))

    tool.model = Last()
    ids = np.random.default_rng(0).integers(0, tokens.size, length)
    logits, before = tool.logits(ids).split([7, 1], -1)
    assert torch.equal(logits, table[ids[:-1]])
    assert max(seen) <= miditok_gpt2.WINDOW
    half = miditok_gpt2.WINDOW // 2
    known = torch.arange(length - 1).clamp_max(half - 1)
    assert (before[:, 0] >= known).all()


# Notochord.


class Mixture:
    """A mixture of logistics, as those of Notochord."""

    def __init__(self, count: int, scale: float) -> None:
        self._count, self._scale = count, scale

    def cdf(self, params: Tensor, x: Tensor) -> Tensor:
        weights, place, width = params.chunk(3, -1)
        inside = (x[..., None] - self._scale * place) / width.exp()
        return (weights.softmax(-1) * inside.sigmoid()).sum(-1)


def test_mass_of_all_cells_is_one() -> None:
    notochord_gru = tools("notochord_gru")
    torch.manual_seed(0)
    params = torch.randn(1, 15)
    times = np.arange(3001)
    spread = params.expand(len(times), -1)
    mass = notochord_gru.cell_mass(Mixture(5, 2.0), spread, times)
    assert mass.sum() == pytest.approx(1.0, abs=1e-9)
    assert (mass >= 0).all()
    # From 10 s on, the mass of all is shared.
    assert mass[1000] == mass[3000]
    classes = np.array([0, *range(1, 128, 4)])
    of_class, of_end = notochord_gru.velocity_mass(
        Mixture(5, 60.0), params.expand(len(classes), -1), classes
    )
    assert of_class.sum() == pytest.approx(1.0, abs=1e-9)
    assert of_class[0] == of_end[0]
    for low in (4, 60, 124):
        spread = params.expand(4, -1)
        same, _ = notochord_gru.velocity_mass(Mixture(5, 60.0), spread, np.arange(low, low + 4))
        assert len({*same.tolist()}) == 1


@pytest.fixture
def notochord() -> Any:
    package = pytest.importorskip("notochord")
    torch.manual_seed(0)
    return package.Notochord(emb_size=16, rnn_hidden=24, mlp_layers=1).eval()


def test_notochord_is_scored_as_it_is_trained(notochord: Any) -> None:
    common, notochord_gru = tools("common"), tools("notochord_gru")
    piece = common.prepared(random_piece(60))
    events = common.Events.of(piece)
    pitch, time, velocity = map(torch.from_numpy, notochord_gru.Sequences.of(events))
    # Rows are what is known, columns what is predicted: instrument, pitch, time, velocity.
    order = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]]).bool()
    instrument = torch.where(pitch == 128, 0, 1)
    with torch.inference_mode():
        result = notochord(
            *(column[None] for column in (instrument, pitch, time, velocity)),
            torch.zeros_like(pitch)[None],
            ar_mask=order,
        )
        nats = notochord_gru.event_nats(notochord, events)
        of_piece = notochord_gru.piece_nats(notochord, piece)
    log_p = {part: result[f"{part}_log_probs"][0].numpy() for part in ("pitch", "time", "velocity")}
    np.testing.assert_allclose(nats.pitch, -log_p["pitch"], rtol=1e-3)
    np.testing.assert_allclose(nats.time, -log_p["time"], rtol=1e-2)
    ends = events.velocity == 0
    np.testing.assert_allclose(nats.velocity[ends], -log_p["velocity"][ends], rtol=1e-3)
    # Its loss is of each velocity; the score of a note is of its class, with its neighbours.
    assert (nats.velocity[~ends] < -log_p["velocity"][~ends]).all()
    params = torch.randn(1, notochord.vel_dist.n_params).expand(128, -1)
    each = notochord.vel_dist(params, torch.arange(128.0))["log_prob"].exp().detach().numpy()
    with torch.inference_mode():
        of_class, _ = notochord_gru.velocity_mass(notochord.vel_dist, params, np.arange(128))
    assert of_class[0] == pytest.approx(each[0], rel=1e-3)
    for low in (4, 60, 124):
        assert of_class[low] == pytest.approx(each[low : low + 4].sum(), rel=1e-3)
    assert of_class[1] == pytest.approx(each[1:4].sum(), rel=1e-3)
    counted = events.note >= 25
    every = nats.pitch + nats.time + nats.velocity
    assert of_piece["event"] == pytest.approx(every[counted].sum())
    assert of_piece["legal"] < of_piece["event"]


def test_notochord_possible_events_sum_to_one(notochord: Any) -> None:
    common, notochord_gru = tools("common"), tools("notochord_gru")
    events = common.Events.of(common.prepared(random_piece(40)))
    sounding = events.sounding
    quiet = [k for k in range(1, len(sounding)) if not sounding[k].any()]
    some = [k for k in range(1, len(sounding)) if sounding[k].sum() > 1]

    def nats(k: int, pitch: int, velocity: int) -> Any:
        """The nats of another event in place of event k, which is the last."""
        changed = {
            name: np.append(getattr(events, name)[:k], getattr(events, name)[k])
            for name in ("cell", "pitch", "velocity", "note")
        }
        changed["pitch"][k], changed["velocity"][k] = pitch, velocity
        with torch.inference_mode():
            found = notochord_gru.event_nats(notochord, common.Events(**changed))
        return SimpleNamespace(
            **{name: float(np.exp(-of[k])) for name, of in found._asdict().items()}
        )

    classes = [nats(quiet[0], 60, velocity) for velocity in range(1, 128, 4)]
    assert sum(c.legal_velocity for c in classes) == pytest.approx(1.0, abs=1e-6)
    end = nats(some[0], int(np.flatnonzero(sounding[some[0]])[0]), 0)
    classes = [nats(some[0], 60, velocity) for velocity in range(1, 128, 4)]
    for part in ("velocity", "legal_velocity"):
        everything = [getattr(c, part) for c in (*classes, end)]
        assert sum(everything) == pytest.approx(1.0, abs=1e-6)
    for velocity in (0, 64):
        wanted = sounding[some[0]] == (velocity == 0)
        possible = [nats(some[0], int(p), velocity) for p in np.flatnonzero(wanted)]
        assert sum(p.legal_pitch for p in possible) == pytest.approx(1.0, abs=1e-6)
        assert sum(p.pitch for p in possible) < 0.999
