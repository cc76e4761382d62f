"""The page of a training run: its curves, what it played as it learnt, its settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from notelstm.errors import DataError, NoNotesError
from notelstm.listening.chart import Chart
from notelstm.listening.charts import epochs_of
from notelstm.listening.page import Details, Sample, save_page
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
    """Write the page of a run, from what is in its folder: one file, whole or not at all.

    On it are the losses by epoch, whole and by field; what the callback
    :class:`~notelstm.training.samples.Samples` wrote, the newest first and at most twelve, to be
    seen and heard; and the settings.

    Args:
        folder: The run's folder.
        path: Where to; ``.html``.
        title: The page's heading; "" for the folder's name.
        running: Whether the run goes on, so that the page says that there will be more.

    Raises:
        DataError: If there is no such run, or its log cannot be read.
        ConfigError: If the suffix is another.
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
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise DataError(
            "a run's folder has its settings",
            got=str(error),
            where=str(path),
            hint="name the folder of a run, such as my.notelstm.run",
        ) from error


def _lead(epochs: Sequence[Mapping[str, float]], settings: Mapping[str, Any], running: bool) -> str:
    """Where the run stands."""
    asked = settings.get("training", {}).get("epochs")
    of = "" if asked is None else f" of {asked}"
    if not epochs:
        more = " yet: reload this page to see the first" if running else ""
        return f"No epoch is done{more}."
    seconds = sum(epoch["seconds"] for epoch in epochs)
    time = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    done = f"{epochs[-1]['epoch']:g}{of} epochs in {time}"
    return f"{done} so far: reload this page to see how it goes on." if running else f"{done}."


def _charts(epochs: Sequence[Mapping[str, float]]) -> list[Chart]:
    """The whole loss, and where there are several fields, that of each."""
    if not epochs:
        return []
    fields = [name[len("loss") :] for name in epochs[0] if name.startswith("loss/")]
    shown = ["", *fields] if len(fields) > 1 else [""]
    return [
        Chart(
            title=f"Loss of {field[1:]}" if field else "Loss",
            lines={
                label: [(epoch["epoch"], epoch[name + field]) for epoch in epochs if name in epoch]
                for label, name in (("training", "loss"), ("validation", "validation"))
            },
        )
        for field in shown
    ]


def _samples(folder: Path, last: int) -> list[Sample]:
    """What was played after some of the epochs, the newest first."""
    found = sorted(folder.glob("epoch-*.mid"), reverse=True)
    # What a run wrote that was killed before it could note the epoch is not told of yet.
    found = [path for path in found if _epoch(path) <= last]
    if len(found) > _MOST_SAMPLES:
        apart = (len(found) - 1) / (_MOST_SAMPLES - 1)
        found = [found[round(n * apart)] for n in range(_MOST_SAMPLES)]
    samples = []
    for path in found:
        try:
            notes = read_midi(path)
        except NoNotesError:
            continue  # a model may have played nothing
        samples.append(Sample(notes=notes, title=f"After epoch {_epoch(path)}"))
    return samples


def _epoch(path: Path) -> int:
    number = path.stem.partition("-")[2]
    return int(number) if number.isdecimal() else 0


def _details(settings: Mapping[str, Any]) -> Details:
    """The settings as tables: one for each part, one for what stands by itself."""
    tables: dict[str, dict[str, object]] = {"Recipe and training": {}}
    for name, value in settings.items():
        if isinstance(value, Mapping) and "config" in value:
            part = value.get("name", value.get("missing"))
            tables[name.capitalize()] = dict(_flat({"name": part, **value["config"]}))
        elif isinstance(value, Mapping):
            tables[name.capitalize()] = dict(_flat(value))
        else:
            tables["Recipe and training"][name] = _told(value)
    return tables


def _flat(tree: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """The leaves of a tree, each with the names that lead to it."""
    leaves = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves += _flat(value, f"{before}{name}.")
        else:
            leaves.append((before + name, _told(value)))
    return leaves


def _told(value: object) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
