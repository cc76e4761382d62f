"""The report of a training run: a page with its loss curves, samples and settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from notelstm.errors import DataError, DataNotFoundError, NoNotesError, counted
from notelstm.listening.chart import Chart
from notelstm.listening.page import Details, Sample, save_page
from notelstm.listening.plots import epochs_of
from notelstm.midi import read_midi

__all__ = ["save_report"]

_MOST_SAMPLES: Final = 12


def save_report(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    running: bool = False,
) -> None:
    """Write the report of a run from the files in its folder, whole or not at all.

    The page has the losses by epoch, in total and by field; the samples that the callback
    :class:`~notelstm.training.Samples` wrote, the newest first and at most twelve; and the
    settings. Damaged lines of the log are left out with a warning.

    Args:
        folder: The run's folder.
        path: The page to write, ``.html`` or ``.htm``.
        title: The heading; "" for the folder's name.
        running: Whether the run is not finished, which the page then states.

    Raises:
        DataNotFoundError: If there is no such run.
        DataError: If its settings or its log cannot be read.
        MidiError: If a sample is damaged.
        ConfigError: If the page has another suffix.
        OutputError: If the page cannot be written.
    """
    folder = Path(folder)
    settings = _settings(folder / "settings.json")
    epochs = epochs_of(folder / "log.jsonl")
    last = int(epochs[-1]["epoch"]) if epochs else 0
    save_page(
        _samples(folder / "samples", last),
        path,
        title=title or folder.name.removesuffix(".run"),
        lead=_lead(epochs, settings, running),
        charts=_charts(epochs),
        details=_details(settings),
    )


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


def _lead(epochs: Sequence[Mapping[str, float]], settings: Mapping[str, Any], running: bool) -> str:
    """The state of the run."""
    asked = settings.get("training", {}).get("epochs")
    of = "" if asked is None else f" of {asked}"
    if not epochs:
        more = " yet: reload this page to see the first" if running else ""
        return f"No epoch is done{more}."
    seconds = sum(epoch.get("seconds", 0.0) for epoch in epochs)
    whole = round(seconds)
    time = counted(whole, "second") if whole < 120 else f"{whole / 60:.0f} minutes"
    last = int(epochs[-1]["epoch"])
    done = f"{last}{of} {'epoch' if (asked or last) == 1 else 'epochs'} in {time}"
    return f"{done} so far: reload this page to follow the run." if running else f"{done}."


def _charts(epochs: Sequence[Mapping[str, float]]) -> list[Chart]:
    """The total loss, and the loss of each field if there are several."""
    if not epochs:
        return []
    names = dict.fromkeys(name for epoch in epochs for name in epoch if name.startswith("loss/"))
    fields = [name[len("loss") :] for name in names]
    charts = []
    for field in ["", *fields] if len(fields) > 1 else [""]:
        lines = {
            label: [(e["epoch"], e[name + field]) for e in epochs if name + field in e]
            for label, name in (("training", "loss"), ("validation", "validation"))
        }
        if any(lines.values()):
            title = f"Loss of {field[1:]}" if field else "Loss"
            charts.append(Chart(title=title, lines=lines))
    return charts


def _samples(folder: Path, last: int) -> list[Sample]:
    """The samples of some of the epochs, the newest first."""
    found = sorted(folder.glob("epoch-*.mid"), reverse=True)
    # A run that was killed may have written a sample of an epoch that its log does not have.
    found = [path for path in found if _epoch(path) <= last]
    if len(found) > _MOST_SAMPLES:
        apart = (len(found) - 1) / (_MOST_SAMPLES - 1)
        found = [found[round(n * apart)] for n in range(_MOST_SAMPLES)]
    samples = []
    for path in found:
        try:
            notes = read_midi(path)
        except NoNotesError:
            continue  # the model may have generated no notes
        samples.append(Sample(notes=notes, title=f"After epoch {_epoch(path)}"))
    return samples


def _epoch(path: Path) -> int:
    number = path.stem.partition("-")[2]
    return int(number) if number.isdecimal() else 0


def _details(settings: Mapping[str, Any]) -> Details:
    """The settings as tables: one for each part, and one for the other values."""
    tables: dict[str, dict[str, object]] = {"Recipe and training": {}}
    for name, value in settings.items():
        if isinstance(value, Mapping) and "config" in value:
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
