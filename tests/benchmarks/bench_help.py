"""Time until the command line prints its help, compared with an empty Python script.

Run it with ``make bench``. The least of five turns counts: a busy machine adds time, it takes none.
"""

from __future__ import annotations

import subprocess
import sys
import time

TURNS = 5
MOST = 0.5


def seconds(*argv: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *argv], check=True, capture_output=True)
    return time.perf_counter() - began


def figures() -> dict[str, float]:
    """Seconds to each command's help."""
    asked = {"python -c pass": ["-c", "pass"], "notelstm --help": ["-m", "notelstm", "--help"]}
    asked |= {
        f"notelstm {command} --help": ["-m", "notelstm", command, "--help"]
        for command in ("train", "generate")
    }
    return {f"{name}, s": min(seconds(*argv) for _ in range(TURNS)) for name, argv in asked.items()}


def test_help_comes_in_half_a_second() -> None:
    least = figures()
    for name, value in least.items():
        print(f"{name}: {value:.3f}")
    assert max(least.values()) < MOST
