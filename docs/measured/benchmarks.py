"""Run the benchmarks and record their figures together with the machine.

    NOTELSTM_MAESTRO=MAESTRO_FOLDER python docs/measured/benchmarks.py [NAME ...]

runs each script ``bench_NAME.py`` of ``tests/benchmarks`` in a process of its own, and writes the
figures to ``benchmarks.json`` beside this script and, as tables, to ``benchmarks.md``. Without
names, it runs all; with names, the figures of the others keep their date and machine. ``--table``
rewrites the tables without measuring. It takes about half an hour on an idle machine.
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
    """The names of all benchmarks."""
    return sorted(path.stem.removeprefix("bench_") for path in SCRIPTS.glob("bench_*.py"))


def script(name: str) -> ModuleType:
    """A benchmark as a module."""
    path = SCRIPTS / f"bench_{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look up their module there
    spec.loader.exec_module(module)
    return module


def measured(name: str) -> dict[str, Any]:
    """The figures of a benchmark, run in a process of its own with one thread."""
    command = [sys.executable, __file__, "--figures", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine() -> dict[str, str]:
    """The machine and the versions that the figures were measured with."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load average": f"{os.getloadavg()[0]:.1f} at the start",
    }


def figure(value: float | None) -> str:
    """A number with about three significant digits."""
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def tables(results: dict[str, Any]) -> str:
    """All results as Markdown, a section per benchmark."""
    blocks: list[str] = []
    for name, result in results.items():
        machine = "; ".join(f"{key}: {value}" for key, value in result["machine"].items())
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows(result["figures"]))
        blocks += [f"## {name.capitalize()}", result["what"], table, f"Machine: {machine}."]
    return "\n\n".join(blocks) + "\n"


def rows(figures: dict[str, float]) -> list[list[str]]:
    """The rows of a table; names of the form ``subject: figure`` give a column per subject."""
    subjects = list(dict.fromkeys(name.rpartition(": ")[0] for name in figures))
    labels = list(dict.fromkeys(name.rpartition(": ")[2] for name in figures))
    body = [
        [label, *(figure(figures.get(f"{s}: {label}" if s else label)) for s in subjects)]
        for label in labels
    ]
    head = ["", *(subject or "figure" for subject in subjects)]
    return [head, ["---"] * len(head), *body]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--table", action="store_true", help="rewrite the tables and exit")
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
