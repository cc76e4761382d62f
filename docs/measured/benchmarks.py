"""Run the benchmarks, and write down what they found and on which machine.

    NOTELSTM_MAESTRO=MAESTRO_FOLDER python docs/measured/benchmarks.py [NAME ...]

asks each script ``bench_NAME.py`` of ``tests/benchmarks`` for its figures, in a process of its own,
and puts them into ``benchmarks.json`` beside this script and as tables into ``benchmarks.md``.
Without names, all are run; with names, the figures of the others stay as they were, with the day
and the machine that they are from. ``--table`` writes the tables again without measuring. A quiet
machine takes about half an hour.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

RESULTS = Path(__file__).with_name("benchmarks.json")
TABLE = RESULTS.with_suffix(".md")
SCRIPTS = Path(__file__).parents[2] / "tests" / "benchmarks"
PACKAGES = ("notelstm", "torch", "numpy", "pretty_midi", "symusic")


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem.removeprefix("bench_") for path in SCRIPTS.glob("bench_*.py"))


def script(name: str) -> ModuleType:
    """A benchmark as a module."""
    path = SCRIPTS / f"bench_{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where what it defines looks itself up
    spec.loader.exec_module(module)
    return module


def measured(name: str) -> dict[str, Any]:
    """What a benchmark says in a process of its own, one thread for its arithmetic."""
    command = [sys.executable, __file__, "--figures", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processes that wanted a core": f"{os.getloadavg()[0]:.1f} at the beginning",
    }


def figure(value: float | None) -> str:
    """A number as one reads it."""
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def tables(results: dict[str, Any]) -> str:
    """Everything as Markdown."""
    blocks: list[str] = []
    for name, told in results.items():
        where = "; ".join(f"{key}: {value}" for key, value in told["machine"].items())
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows(told["figures"]))
        blocks += [f"## {name.capitalize()}", told["what"], table, f"Measured on {where}."]
    return "\n\n".join(blocks) + "\n"


def rows(figures: dict[str, float]) -> list[list[str]]:
    """A table's rows; where names are ``thing: figure``, each thing has a column."""
    things = list(dict.fromkeys(name.rpartition(": ")[0] for name in figures))
    lines = list(dict.fromkeys(name.rpartition(": ")[2] for name in figures))
    found = [
        [line, *(figure(figures.get(f"{thing}: {line}" if thing else line)) for thing in things)]
        for line in lines
    ]
    head = ["", *(thing or "figure" for thing in things)]
    return [head, ["---"] * len(head), *found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--table", action="store_true", help="write the tables again and stop")
    parser.add_argument("--figures", metavar="NAME", help="print a benchmark's figures as JSON")
    args = parser.parse_args()
    if args.figures:
        module = script(args.figures)
        what = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
        print(json.dumps({"what": what, "figures": module.figures()}))
        return
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in [] if args.table else args.names or names():
        print(name, flush=True)
        before = machine()
        results[name] = {**measured(name), "machine": before}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(tables(dict(sorted(results.items()))), encoding="utf-8")


if __name__ == "__main__":
    main()
