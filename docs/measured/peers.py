"""Compare this library with the tools that a user would pick instead, on equal terms.

    python docs/measured/peers.py MAESTRO_FOLDER

trains each tool on the same pieces of MAESTRO for the same time on the same cores, and scores it in
nats per note on the beginnings of the same validation pieces. The learning rate and the batch of
each tool are chosen by short trials on other training pieces. The figures are written to
``peers.json`` beside this script and the tables to ``peers.md``. Each run has a process of its own,
and is written as soon as it is finished, so that the same command continues an interrupted one.
``--speed`` measures only how fast each tool trains and generates on one core and on two, on a
machine that does nothing else. ``--results`` names another file for the figures, which those of
another time or of other cores need, and ``--choices`` the results whose trials are used instead of
new ones. ``--table`` rewrites the tables without measuring.

The tools are in the folder ``peer_tools``, with the packages that they need: see
``peer_tools/requirements.txt``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from peer_tools.common import Budget, Clock, Nats, Tool, prepared, scored_notes
from peer_tools.miditok_gpt2 import MidiTokGpt2
from peer_tools.notochord_gru import NotochordGru, SmallNotochord
from peer_tools.ours import Expressive, Reference, Tutorial

from notelstm.cli.music import open_music
from notelstm.errors import DataError, TrainingError, counted
from notelstm.evaluation import PieceScore, Scores, compare
from notelstm.files import atomic_write
from notelstm.notes import Notes
from notelstm.recipes import expressive

RESULTS = Path(__file__).with_name("peers.json")
PROGRAMS = Path(__file__).parent / "peer_tools" / "programs"
OURS = "expressive"
"""The tool that the others are compared with."""
TOOLS: Mapping[str, type[Tool]] = {
    OURS: Expressive,
    "miditok": MidiTokGpt2,
    "notochord": NotochordGru,
    "notochord_small": SmallNotochord,
    "reference": Reference,
    "tutorial": Tutorial,
}
BEGINNING = 2000
"""The number of notes of a validation piece that are read; the first 25 are not scored."""
MARKS = (1 / 6, 1 / 2, 1.0)
"""Fractions of the time at which a model is scored: 5, 15 and 30 minutes of 30."""
TUNED_ON, TUNED_NOTES = 8, 1000
"""Training pieces that a trial is scored on, and how many of their notes."""
RATIO = 3
"""The next rate beyond the lowest or the highest."""
ALIKE = 0.05
"""The difference in nats per note up to which trials are taken as equally good."""
GENERATED, PROMPT = 500, 25
CORES, SPEED_SECONDS = (1, 2), 30.0
"""Numbers of cores with which the speed of training is measured, and for how long."""
WITHOUT_IMPOSSIBLE = "legal"
CHANGING = threading.Lock()
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What all tools have in common.

    Attributes:
        minutes: The time of training.
        clock: Whether it is CPU time or wall-clock time.
        threads: The number of cores.
        pieces: The number of training pieces.
        validation: The number of validation pieces.
    """

    minutes: float
    clock: Clock
    threads: int
    pieces: int
    validation: int


@dataclass(frozen=True, kw_only=True)
class Data:
    """The pieces, prepared: those to train on, to choose settings by, and to score."""

    train: list[Notes]
    tuning: list[Notes]
    validation: list[Notes]

    @classmethod
    def open(cls, maestro: Path, protocol: Protocol) -> Data:
        """The pieces of a folder of MAESTRO."""
        music = open_music(str(maestro), expressive().read_policy)
        training, held_out = music.side("train"), music.side("validation")
        order = random.Random(0).sample(range(len(training)), protocol.pieces + TUNED_ON)
        places = [k * len(held_out) // protocol.validation for k in range(protocol.validation)]
        return cls(
            train=[prepared(training[k]) for k in order[: protocol.pieces]],
            tuning=[prepared(training[k])[:TUNED_NOTES] for k in order[protocol.pieces :]],
            validation=[prepared(held_out[k])[:BEGINNING] for k in places],
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings of one run; a seed of None is a trial."""

    key: str
    maestro: Path
    cache: Path
    protocol: Protocol
    rate: float
    batch: int
    seed: int | None

    def __call__(self) -> dict[str, Any]:
        """Train and score the tool in this process."""
        protocol, is_trial = self.protocol, self.seed is None
        torch.set_num_threads(min(protocol.threads, TOOLS[self.key].threads))
        data, tool = Data.open(self.maestro, protocol), TOOLS[self.key](self.cache)
        pieces = data.tuning if is_trial else data.validation
        marks: list[dict[str, Any]] = []

        def at_mark(fraction: float) -> None:
            marks.append({"fraction": fraction, "nats": by_figure(tool.score(pieces))})
            score = per_note(marks[-1]["nats"], pieces)
            settings = f"rate {self.rate:g}, batch {self.batch}, seed {self.seed}"
            print(f"{self.key}, {settings}, {fraction:.2f}: {score:.3f}", flush=True)

        seconds = 60 * protocol.minutes * (tool.trial if is_trial else 1)
        budget = Budget(seconds, protocol.clock, [1.0] if is_trial else MARKS, at_mark)
        seed = 0 if self.seed is None else self.seed
        settings = {"rate": self.rate, "batch": self.batch}
        try:
            tool.train(data.train, rate=self.rate, batch=self.batch, seed=seed, budget=budget)
        except (TrainingError, DataError) as error:
            if not is_trial:
                raise
            return {**settings, "nats_per_note": None, "diverged": str(error)}
        if is_trial:
            score = per_note(marks[-1]["nats"], pieces)
            return {**settings, "nats_per_note": score if math.isfinite(score) else None}
        settings["notes_per_second"] = tool.seen / seconds
        return {**settings, "parameters": tool.parameters, "marks": marks}

    def speed(self) -> dict[str, float]:
        """Measure a short training and a generation in this process.

        Returns:
            The notes per second of the training, and the CPU seconds of the generation.
        """
        torch.set_num_threads(self.protocol.threads)
        data, tool = Data.open(self.maestro, self.protocol), TOOLS[self.key](self.cache)
        budget = Budget(SPEED_SECONDS, "wall", [], lambda _: None)
        tool.train(data.train, rate=self.rate, batch=self.batch, seed=0, budget=budget)
        began = time.process_time()
        made = tool.generate(data.validation[0][:PROMPT], GENERATED)
        generating = (time.process_time() - began) * GENERATED / made
        return {"notes_per_second": tool.seen / SPEED_SECONDS, "generating": generating}


@dataclass(frozen=True, kw_only=True)
class Results:
    """The figures, which are written with their tables beside them.

    Attributes:
        path: The JSON file.
        found: The figures so far; empty if nothing has been measured.
    """

    path: Path
    found: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Results:
        """The figures of a file, if there is one."""
        exists = path.exists()
        return cls(path=path, found=json.loads(path.read_text("utf-8")) if exists else {})

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        """Change the figures, which are written afterwards; one tool at a time."""
        with CHANGING:
            yield
            self.write()

    def write(self) -> None:
        """Write the figures and the tables."""
        figures, table = json.dumps(self.found, indent=1) + "\n", tables(self.found)
        with atomic_write(self.path) as beside:
            beside.write_text(figures, encoding="utf-8")
        with atomic_write(self.path.with_suffix(".md")) as beside:
            beside.write_text(table, encoding="utf-8")


def by_figure(nats: Sequence[Nats]) -> dict[str, list[float]]:
    """By figure, the nats of each piece."""
    return {figure: [piece[figure] for piece in nats] for figure in nats[0]}


def per_note(nats: Mapping[str, Sequence[float]], pieces: Sequence[Notes]) -> float:
    """Nats per note of all that a tool predicts, impossible events included."""
    parts = (sum(of) for figure, of in nats.items() if figure != WITHOUT_IMPOSSIBLE)
    return float(sum(parts) / sum(map(scored_notes, pieces)))


def use_cores(count: int) -> None:
    """Let the processes that follow compute on so many cores."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(count)


def apart(run: Callable[[], Result]) -> Result:
    """The result of a run in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run)


def settings_to_try(tool: type[Tool], trials: list[dict[str, Any]]) -> Iterator[tuple[float, int]]:
    """Rate and batch of each trial that is missing.

    The rates of the tool come first, then those beyond as long as the best is the lowest or the
    highest, then the best rate with other batches.

    Args:
        tool: The tool.
        trials: Those that were made; each that is asked for is added by the caller.
    """
    first, *others = tool.batches
    done = [(trial["rate"], trial["batch"]) for trial in trials]
    yield from ((rate, first) for rate in tool.rates if (rate, first) not in done)
    while (rate := beyond([trial for trial in trials if trial["batch"] == first])) is not None:
        yield rate, first
    best = best_of(trials)["rate"]
    yield from ((best, batch) for batch in others if (best, batch) not in done)


def beyond(trials: Sequence[dict[str, Any]]) -> float | None:
    """The rate that follows if the best of these trials has the lowest or highest rate, or None."""
    rates, best = [trial["rate"] for trial in trials], best_of(trials)["rate"]
    if min(rates) < best < max(rates):
        return None
    return float(f"{best * (RATIO if best == max(rates) else 1 / RATIO):.1g}")


def best_of(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first trial that is about as good as the best; one that diverged has no nats.

    The first rate is the tool's own, which is kept if short trials hardly differ.
    """
    found = [trial for trial in trials if trial["nats_per_note"] is not None]
    least = min(trial["nats_per_note"] for trial in found)
    return next(trial for trial in found if trial["nats_per_note"] <= least + ALIKE)


def is_chosen(tool: type[Tool], trials: list[dict[str, Any]]) -> bool:
    """Whether no trial is missing, and one did not diverge."""
    scored = any(trial["nats_per_note"] is not None for trial in trials)
    return scored and next(settings_to_try(tool, trials), None) is None


def measure(
    run: Callable[..., Run],
    key: str,
    results: Results,
    seeds: int,
    choices: Mapping[str, Any] | None = None,
) -> None:
    """Measure what is missing of one tool; the results are written after each run.

    Args:
        run: Makes a run.
        key: The tool.
        results: The results so far.
        seeds: The number of runs.
        choices: The tools of other results, by whose trials rate and batch are chosen.
    """
    tool = TOOLS[key]
    with results.changed():
        found = results.found["tools"].setdefault(key, {"runs": {}})
    if choices is None:
        if "importing" not in found:
            sizes, seconds = installed(tool.distributions), importing(tool.imports)
            with results.changed():
                found |= {"trials": [], "importing": seconds, "installed": sizes}
        trials = found["trials"]
        for rate, batch in settings_to_try(tool, trials):
            trial = apart(run(key=key, rate=rate, batch=batch, seed=None))
            with results.changed():
                trials.append(trial)
    else:
        trials = choices[key]["trials"]
    best = {name: best_of(trials)[name] for name in ("rate", "batch")}
    with results.changed():
        found["runs"] = {
            s: made for s, made in found["runs"].items() if best.items() <= made.items()
        }
    for seed in range(seeds):
        if str(seed) not in found["runs"]:
            made = apart(run(key=key, seed=seed, **best))
            with results.changed():
                found["runs"][str(seed)] = made


def measure_speed(run: Callable[..., Run], keys: Sequence[str], results: Results) -> None:
    """Measure how fast the tools that have a run are trained, on each number of cores."""
    protocol = Protocol(**results.found["protocol"])
    for key, tool in measured(results.found):
        if key in keys:
            (made, *_) = tool["runs"].values()
            best = {name: made[name] for name in ("rate", "batch")}
            for cores in CORES:
                use_cores(cores)
                of = run(key=key, seed=0, protocol=replace(protocol, threads=cores), **best)
                speed = apart(of.speed)
                with results.changed():
                    tool.setdefault("speed", {})[str(cores)] = speed


def lines_of(program: str) -> int | None:
    """The lines of code of what a user writes; None without a program."""
    if not program:
        return None
    lines = (PROGRAMS / program).read_text(encoding="utf-8").split('"""', 2)[2].splitlines()
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


def importing(statement: str) -> float | None:
    """The CPU seconds of an import in a new process, the least of five."""
    if not statement:
        return None
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    command = [sys.executable, "-c", code]
    return min(float(subprocess.check_output(command, text=True)) for _ in range(5))


def installed(names: Sequence[str]) -> dict[str, float] | None:
    """The size of some packages and all that they require, in MB: all, and all but PyTorch."""
    if not names:
        return None
    from packaging.requirements import Requirement

    found: dict[str, float] = {}
    missing = list(names)
    while missing:
        name = missing.pop().lower().replace("_", "-")
        if name in found:
            continue
        package = importlib.metadata.distribution(name)
        paths = (Path(str(package.locate_file(file))) for file in package.files or ())
        found[name] = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
        for line in package.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                missing.append(requirement.name)
    size = sum(found.values())
    return {"packages": len(found), "all": size, "without_torch": size - found.get("torch", 0.0)}


def scores_of(results: Mapping[str, Any], key: str, figure: str | None = None) -> Scores:
    """The scores at the end of training, the mean of the seeds; of all that is predicted.

    Args:
        results: The results.
        key: The tool.
        figure: What the nats of an event are, ``"legal"`` without impossible ones.
    """
    runs = results["tools"][key]["runs"].values()
    ends = [run["marks"][-1]["nats"] for run in runs]
    pieces = []
    for k, notes in enumerate(results["scored"]):
        mean = {name: sum(end[name][k] for end in ends) / len(ends) for name in ends[0]}
        legal = mean.pop(WITHOUT_IMPOSSIBLE, None)
        if figure == WITHOUT_IMPOSSIBLE and legal is not None:
            mean["event"] = legal
        pieces.append(PieceScore(notes=notes, nats=mean, name=str(k)))
    return Scores(pieces=tuple(pieces))


def tables(results: Mapping[str, Any]) -> str:
    """What was measured, and all tables, as Markdown."""
    sections = {"Nats per note": quality(results), "Learning curve": curve(results)}
    if "choices" not in results:
        sections |= {"Cost": effort(results), "Rates and batches": tried(results)}
    texts = [f"### {title}\n\n{table}" for title, table in sections.items()]
    return "\n".join([conditions(results), *texts])


def conditions(results: Mapping[str, Any]) -> str:
    """What was measured, in words."""
    protocol, scored = results["protocol"], results["scored"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    pieces = counted(protocol["pieces"], "piece")
    taken = ""
    if "choices" in results:
        taken = f"Rates and batches were chosen by trials of {time_of(results['choices'])}. "
    return (
        f"Each model was trained for {protocol['minutes']:g} minutes of {time_of(protocol)}, on "
        f"the same {pieces} "
        f"({results['training_notes']:,} notes), and scored on the same "
        f"{counted(len(scored), 'piece')} of the validation split ({sum(scored):,} notes). MidiTok "
        f"encodes {results['exact_in_miditok']} of these pieces exactly. {taken}"
        f"Versions: {versions}.\n"
    )


def time_of(protocol: Mapping[str, Any]) -> str:
    """Whose time it is, and on how many cores."""
    clock = {"cpu": "CPU time", "wall": "wall-clock time"}[protocol["clock"]]
    return f"{clock} on {counted(protocol['threads'], 'core')}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in body)]) + "\n"


def quality(results: Mapping[str, Any]) -> str:
    """Nats per note at the end, and the difference to our recipe."""
    head = ["", "total", "without impossible events", "P+S+D", "seeds", "minus `expressive`"]
    rows = [[*head, "better on", "notes read, M"]]
    seconds = 60 * results["protocol"]["minutes"]
    for key, tool in measured(results):
        scores = scores_of(results, key)
        legal = scores_of(results, key, WITHOUT_IMPOSSIBLE) if has_legal(tool) else None
        row = [TOOLS[key].name, shown(scores.of("total"), 2)]
        row += [shown(None if legal is None else legal.of("total"), 2)]
        row += [shown(scores.of("pitch_step_duration"), 2), spread(results, key), "", ""]
        if key != OURS and results["tools"].get(OURS, {}).get("runs"):
            compared = compare(legal or scores, scores_of(results, OURS))
            figure = next(f for f in ("total", "pitch_step_duration") if f in compared.better)
            value, low, high = compared.differences[figure]
            row[-2] = f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
            row[-1] = f"{compared.better[figure]} of {compared.pieces}"
        speeds = (run["notes_per_second"] for run in tool["runs"].values())
        rows.append([*row, f"{mean(speeds) * seconds / 1e6:.2f}"])
    return markdown(rows)


def curve(results: Mapping[str, Any]) -> str:
    """Nats per note at the fractions of the time."""
    minutes, notes = results["protocol"]["minutes"], sum(results["scored"])
    rows = [["", "nats of", *(f"{fraction * minutes:.3g} min" for fraction in MARKS)]]
    for key, tool in measured(results):
        runs = tool["runs"].values()
        for of, figures in parts_of(tool).items():
            rows.append([TOOLS[key].name, of])
            for place in range(len(MARKS)):
                nats = [run["marks"][place]["nats"] for run in runs]
                rows[-1].append(
                    f"{mean(sum(sum(n[f]) for f in figures) for n in nats) / notes:.2f}"
                )
    return markdown(rows)


def parts_of(tool: Mapping[str, Any]) -> dict[str, list[str]]:
    """What can be compared of a tool, and the figures that it is the sum of."""
    if has_legal(tool):
        return {"a note, without impossible events": [WITHOUT_IMPOSSIBLE]}
    (run, *_) = tool["runs"].values()
    figures = list(run["marks"][-1]["nats"])
    without = [figure for figure in figures if figure != "velocity"]
    return {"a note": figures, "P+S+D": without} if without != figures else {"P+S+D": figures}


def effort(results: Mapping[str, Any]) -> str:
    """What a tool costs."""
    speeds = [f"notes per s, {counted(cores, 'core')}" for cores in CORES]
    head = ["", "parameters", *speeds, f"s for {GENERATED} notes"]
    rows = [[*head, "installed, MB", "without PyTorch", "packages", "import, s", "lines"]]
    for key, tool in measured(results):
        run = next(iter(tool["runs"].values()))
        size, speed = tool["installed"] or {}, tool.get("speed", {})
        rows.append(
            [
                TOOLS[key].name,
                f"{run['parameters'] / 1e6:.2f} M",
                *(shown(speed.get(str(n), {}).get("notes_per_second"), 0) for n in CORES),
                shown(speed.get("1", {}).get("generating"), 2),
                *(shown(size.get(name), 0) for name in ("all", "without_torch", "packages")),
                shown(tool["importing"], 2),
                shown(lines_of(TOOLS[key].program), 0),
            ]
        )
    return markdown(rows)


def tried(results: Mapping[str, Any]) -> str:
    """The trials of each tool; the one whose settings its runs have is bold."""
    rows = [["", "rate, batch: nats per note on training pieces set aside"]]
    for key, tool in measured(results):
        run = next(iter(tool["runs"].values()))
        cells = []
        for trial in tool["trials"]:
            nats = "diverged" if trial["nats_per_note"] is None else f"{trial['nats_per_note']:.2f}"
            cell = f"{trial['rate']:g}, {trial['batch']}: {nats}"
            chosen = (trial["rate"], trial["batch"]) == (run["rate"], run["batch"])
            cells.append(f"**{cell}**" if chosen else cell)
        rows.append([TOOLS[key].name, "; ".join(cells)])
    return markdown(rows)


def measured(results: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tools that have a run."""
    for key in TOOLS:
        if results["tools"].get(key, {}).get("runs"):
            yield key, results["tools"][key]


def has_legal(tool: Mapping[str, Any]) -> bool:
    """Whether a tool is also scored without impossible events."""
    return all(WITHOUT_IMPOSSIBLE in run["marks"][-1]["nats"] for run in tool["runs"].values())


def end_of(results: Mapping[str, Any], mark: Mapping[str, Any]) -> float:
    """The figure of a mark: all that is predicted, without impossible events where there is one."""
    nats = mark["nats"]
    figures = [WITHOUT_IMPOSSIBLE] if WITHOUT_IMPOSSIBLE in nats else list(nats)
    return float(sum(sum(nats[figure]) for figure in figures) / sum(results["scored"]))


def at_end(results: Mapping[str, Any], key: str) -> float:
    """The figure of a tool at the end of training, the mean of the seeds."""
    runs = results["tools"][key]["runs"].values()
    return mean(end_of(results, run["marks"][-1]) for run in runs)


def spread(results: Mapping[str, Any], key: str) -> str:
    """The figure of each seed at the end."""
    runs = results["tools"][key]["runs"].values()
    of = "" if any(part != "P+S+D" for part in parts_of(results["tools"][key])) else " (P+S+D)"
    return ", ".join(f"{end_of(results, run['marks'][-1]):.2f}" for run in runs) + of


def mean(values: Iterator[float]) -> float:
    """The mean."""
    found = list(values)
    return sum(found) / len(found)


def shown(value: float | None, digits: int) -> str:
    """A figure, a dash if there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def parser_of_arguments() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("maestro", type=Path, nargs="?", help="the MAESTRO v2.0.0 folder")
    parser.add_argument("--minutes", type=float, default=30.0, help="time of each training")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="whose time")
    parser.add_argument("--threads", type=int, default=2, help="cores of each training")
    parser.add_argument("--pieces", type=int, default=200, help="training pieces")
    parser.add_argument("--validation", type=int, default=40, help="validation pieces")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each tool")
    parser.add_argument("--jobs", type=int, default=1, help="tools at the same time")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--cache", type=Path, default=Path(".cache/peers"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the figures")
    parser.add_argument("--choices", type=Path, help="results whose trials choose the settings")
    parser.add_argument("--speed", action="store_true", help="measure only speeds of training")
    parser.add_argument("--table", action="store_true", help="rewrite the tables and exit")
    return parser


def main() -> None:
    """Measure what is missing."""
    parser = parser_of_arguments()
    args = parser.parse_args()
    results = Results.open(args.results)
    if args.table:
        if not results.found:
            parser.error(f"there is no {args.results}")
        results.write()
        return
    if args.maestro is None:
        parser.error("the MAESTRO folder is needed")
    names = ("minutes", "clock", "threads", "pieces", "validation")
    protocol = Protocol(**{name: getattr(args, name) for name in names})
    if results.found.get("protocol", asdict(protocol)) != asdict(protocol):
        other = f"{results.path.name} is of another protocol, {results.found['protocol']}"
        parser.error(f"{other}: name another file by --results")
    choices = None
    if args.choices is not None:
        others = Results.open(args.choices).found
        choices = others.get("tools", {})
        trials = {key: choices.get(key, {}).get("trials", []) for key in args.tools}
        if missing := [key for key, of in trials.items() if not is_chosen(TOOLS[key], of)]:
            parser.error(f"{args.choices} lacks trials of {', '.join(missing)}")
    chosen = None if choices is None else others["protocol"]
    if results.found and results.found.get("choices") != chosen:
        parser.error(f"the settings in {results.path.name} were chosen otherwise: see --choices")
    args.cache.mkdir(parents=True, exist_ok=True)
    if not results.found:
        results.found.update(common_figures(args.maestro, args.cache, protocol))
        if chosen is not None:
            results.found["choices"] = chosen
    paths = {"maestro": args.maestro, "cache": args.cache}
    if args.speed:
        measure_speed(functools.partial(Run, **paths), args.tools, results)
        return
    use_cores(protocol.threads)
    run = functools.partial(Run, **paths, protocol=protocol)
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(measure, run, key, results, args.seeds, choices) for key in args.tools]
        for job in jobs:
            job.result()


def common_figures(maestro: Path, cache: Path, protocol: Protocol) -> dict[str, Any]:
    """The figures before any tool has been measured."""
    data = Data.open(maestro, protocol)
    tokens = MidiTokGpt2(cache).tokens
    return {
        "protocol": asdict(protocol),
        "training_notes": sum(map(len, data.train)),
        "scored": [scored_notes(piece) for piece in data.validation],
        "exact_in_miditok": sum(map(tokens.is_exact, data.validation)),
        "versions": versions(),
        "tools": {},
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages."""
    names = ("torch", "numpy", "miditok", "symusic", "transformers", "notochord")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}


if __name__ == "__main__":
    main()
