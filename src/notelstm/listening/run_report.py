"""The report of a training run, or of two: a page with curves, samples and settings."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from notelstm.errors import DataError, DataNotFoundError, NoNotesError, counted
from notelstm.listening.chart import Chart
from notelstm.listening.page import Details, Sample, save_page
from notelstm.listening.plots import epochs_of
from notelstm.midi import read_midi

__all__ = ["save_report"]

_MOST_SAMPLES: Final = 12
_MOST_BASELINES: Final = 2
_LONGEST: Final = 60.0
"""The length that is shown of a sample, seconds: an untrained model may rest for minutes."""
_LARGEST: Final = 1e100
_OTHER_METRICS: Final = (
    ("learning_rate", "Learning rate", "learning rate"),
    ("targets_per_second", "Throughput (targets per second)", "targets per second"),
)
"""The metrics besides the losses, with the title of their chart and the name of their line."""

_log = logging.getLogger(__name__)


def save_report(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    compare_to: str | os.PathLike[str] | None = None,
    title: str = "",
    running: bool = False,
) -> None:
    """Write the report of a run from the files in its folder, whole or not at all.

    The page has the losses by epoch, in total and by field, with those of simple predictions where
    they are known; the learning rate and the throughput; the samples that the callback
    :class:`~notelstm.training.Samples` wrote, the newest first, at most twelve, and at most 60 s of
    each, from its first note on; and the settings. With another run, both are in the same charts,
    and the settings that differ are in a table. Damaged lines of the log are left out with a
    warning.

    Args:
        folder: The run's folder.
        path: The page to write, ``.html`` or ``.htm``.
        compare_to: The folder of another run; None for one run.
        title: The heading; "" for the name of the folder, or of both.
        running: Whether the run is not finished, which the page then states.

    Raises:
        DataNotFoundError: If there is no such run.
        DataError: If its settings or its log cannot be read.
        MidiError: If a sample is damaged.
        ConfigError: If the page has another suffix.
        OutputError: If the page cannot be written.
    """
    run = _Run.read(Path(folder))
    if compare_to is None:
        save_page(
            run.samples(_MOST_SAMPLES),
            path,
            title=title or run.name,
            lead=f"{run.state(running)}.",
            charts=_charts(run),
            details=_details(run.settings),
        )
        return
    first, second = _distinct(run, _Run.read(Path(compare_to)))
    samples = [
        replace(sample, title=f"{one.name}: {sample.title[0].lower()}{sample.title[1:]}")
        for one in (first, second)
        for sample in one.samples(_MOST_SAMPLES // 2)
    ]
    save_page(
        samples,
        path,
        title=title or f"{first.name} and {second.name}",
        lead=f"{first.name}: {first.state(running)}. {second.name}: {second.state(running)}.",
        charts=_compared(first, second),
        details=_differences(first, second),
    )


@final
@dataclass(frozen=True, kw_only=True)
class _Run:
    """The files of a run.

    Attributes:
        folder: Its folder.
        name: The name that the page shows.
        settings: Its settings.
        epochs: The metrics of each epoch.
        baselines: The losses of simple predictions, by their name and the name of the loss.
    """

    folder: Path
    name: str
    settings: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    baselines: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, folder: Path) -> _Run:
        """Read a run."""
        return cls(
            folder=folder,
            name=folder.name.removesuffix(".run"),
            settings=_settings(folder / "settings.json"),
            epochs=epochs_of(folder / "log.jsonl"),
            baselines=_baselines(folder / "baselines.json"),
        )

    def state(self, running: bool) -> str:
        """A clause on how far the run is."""
        training = self.settings.get("training")
        asked = training.get("epochs") if isinstance(training, Mapping) else None
        of = "" if asked is None else f" of {asked}"
        if not self.epochs:
            more = " yet: reload this page to see the first" if running else ""
            return f"No epoch is done{more}"
        seconds = sum(epoch.get("seconds", 0.0) for epoch in self.epochs)
        whole = round(seconds)
        time = counted(whole, "second") if whole < 120 else f"{whole / 60:.0f} minutes"
        last = int(self.epochs[-1]["epoch"])
        done = f"{last}{of} {'epoch' if (asked or last) == 1 else 'epochs'} in {time}"
        return f"{done} so far: reload this page to follow the run" if running else done

    def line(self, metric: str) -> list[tuple[float, float]]:
        """The value of a metric at each epoch that has it."""
        return [(epoch["epoch"], epoch[metric]) for epoch in self.epochs if metric in epoch]

    def levels(self, loss: str) -> dict[str, float]:
        """The values of the baselines for a loss, by name."""
        return {name: losses[loss] for name, losses in self.baselines.items() if loss in losses}

    def fields(self) -> list[str]:
        """The endings of the names of the losses: "", and one for each field of several."""
        names = dict.fromkeys(n for epoch in self.epochs for n in epoch if n.startswith("loss/"))
        fields = [name[len("loss") :] for name in names]
        return ["", *fields] if len(fields) > 1 else [""]

    def samples(self, most: int) -> list[Sample]:
        """The samples of some of the epochs, the newest first."""
        # A run that was killed may have written a sample of an epoch that its log does not have.
        last = int(self.epochs[-1]["epoch"]) if self.epochs else 0
        found = sorted((self.folder / "samples").glob("epoch-*.mid"), reverse=True)
        found = [path for path in found if _epoch(path) <= last]
        if len(found) > most:
            apart = (len(found) - 1) / (most - 1)
            found = [found[round(n * apart)] for n in range(most)]
        samples = []
        for path in found:
            try:
                notes = read_midi(path)
            except NoNotesError:
                continue  # the model may have generated no notes
            title = f"After epoch {_epoch(path)}"
            if notes.end_time > _LONGEST:
                title += f", {_LONGEST:.0f} of {notes.end_time:.0f} s"
                notes = notes.shifted(-float(notes.start[0])).first(seconds=_LONGEST)
                notes = replace(notes, end=np.minimum(notes.end, _LONGEST))
            samples.append(Sample(notes=notes, title=title))
        return samples


def _distinct(first: _Run, second: _Run) -> tuple[_Run, _Run]:
    """The runs with different names."""
    if first.name != second.name:
        return first, second
    folders = [run.folder.resolve().parent.name for run in (first, second)]
    if folders[0] != folders[1]:
        a, b = (f"{folder}/{first.name}" for folder in folders)
    else:
        a, b = f"{first.name} (1)", f"{first.name} (2)"
    return replace(first, name=a), replace(second, name=b)


def _baselines(path: Path) -> dict[str, dict[str, float]]:
    """The losses of simple predictions; empty if the run has none, or they cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {str(loss): float(value) for loss, value in losses.items()}
            for name, losses in list(found.items())[:_MOST_BASELINES]
            if all(abs(float(value)) <= _LARGEST for value in losses.values())
        }
    except FileNotFoundError:
        return {}
    except (
        OSError,
        ArithmeticError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        _log.warning("%s: the baselines cannot be read: %s", path, error)
        return {}


def _settings(path: Path) -> dict[str, Any]:
    hint = "name the folder of a run, such as my.notelstm.run"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataNotFoundError(f"no such file: {path}", hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            "the settings of the run cannot be read", where=str(path), hint=hint
        ) from error
    if not isinstance(settings, dict):
        raise DataError("the settings of the run are not a JSON object", where=str(path), hint=hint)
    return settings


def _charts(run: _Run) -> list[Chart]:
    """The total loss, that of each field if there are several, learning rate and throughput."""
    charts = []
    for field in run.fields():
        lines = {"training": run.line(f"loss{field}"), "validation": run.line(f"validation{field}")}
        if any(lines.values()):
            title = f"Loss of {field[1:]}" if field else "Loss"
            charts.append(Chart(title=title, lines=lines, baselines=run.levels(f"loss{field}")))
    for metric, title, name in _OTHER_METRICS:
        if points := run.line(metric):
            charts.append(Chart(title=title, lines={name: points}, lowest=False))
    return charts


def _compared(first: _Run, second: _Run) -> list[Chart]:
    """The validation losses of two runs, their training losses, learning rates and throughputs.

    The baselines are those of the same data; those of runs on different data are left out.
    """
    same = first.baselines == second.baselines
    fields = dict.fromkeys([*first.fields(), *second.fields()])
    charts = []
    for metric, title in (("validation", "Validation loss"), ("loss", "Training loss")):
        for field in fields:
            lines = {run.name: run.line(metric + field) for run in (first, second)}
            if any(lines.values()):
                levels = first.levels(f"loss{field}") if same else {}
                of = f"{title} of {field[1:]}" if field else title
                charts.append(Chart(title=of, lines=lines, baselines=levels))
    for metric, title, _ in _OTHER_METRICS:
        lines = {run.name: run.line(metric) for run in (first, second)}
        if any(lines.values()):
            charts.append(Chart(title=title, lines=lines, lowest=False))
    return charts


def _differences(first: _Run, second: _Run) -> Details:
    """The settings that differ, with the value of each run, and those that both runs share."""
    mine, other = (
        {
            (heading, name): str(value)
            for heading, table in _details(run.settings).items()
            for name, value in table.items()
        }
        for run in (first, second)
    )
    tables: dict[str, dict[str, object]] = {"Settings that differ": {}}
    for heading, name in dict.fromkeys([*mine, *other]):
        a, b = mine.get((heading, name), "none"), other.get((heading, name), "none")
        if a == b:
            tables.setdefault(f"{heading} of both", {})[name] = a
        else:
            shown = f"{a} ({first.name}), {b} ({second.name})"
            tables["Settings that differ"][f"{heading}: {name}"] = shown
    return tables


def _epoch(path: Path) -> int:
    number = path.stem.partition("-")[2]
    return int(number) if number.isdecimal() else 0


def _details(settings: Mapping[str, Any]) -> Details:
    """The settings as tables: one for each part, and one for the other values."""
    tables: dict[str, dict[str, object]] = {"Recipe and training": {}}
    for name, value in settings.items():
        if isinstance(value, Mapping) and isinstance(value.get("config"), Mapping):
            part = value.get("name", value.get("missing"))
            tables[name.capitalize()] = dict(_flat({"name": part, **value["config"]}))
        elif isinstance(value, Mapping):
            tables[name.capitalize()] = dict(_flat(value))
        else:
            tables["Recipe and training"][name] = _as_text(value)
    return tables


def _flat(tree: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """The leaves of a tree by their dotted names."""
    leaves = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += _flat(value, f"{before}{name}.")
        else:
            leaves.append((before + name, _as_text(value)))
    return leaves


def _as_text(value: object) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
