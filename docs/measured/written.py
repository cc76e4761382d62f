"""Write the examples of the page "Writing between given notes".

    python docs/measured/written.py CHORALES [--piece NAME]

takes a model of the recipe ``chorales`` that was trained by ``docs/measured/writing.py``, and a
held-out chorale, and writes ``written.json`` beside this script: the settings of each example, and
its new notes. The documentation build merges them with the chorale, and makes pictures and sound.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

from notelstm.bundle import load
from notelstm.cli.music import open_music
from notelstm.files import atomic_write
from notelstm.generation import WritingTask, write_batch
from notelstm.notes import Notes

RESULTS: Final = Path(__file__).with_name("written.json")
HELD_OUT: Final = 0.1
"""The share of the chorales that is held out by ``writing.py``."""
LENGTHS: Final = (20.0, 40.0)
"""Seconds of a chorale that is fit for an example."""
GAP: Final = (8.0, 12.0)
SETTINGS: Final[dict[str, Any]] = {"seed": 1, "best_of": 8, "temperature": 0.9}
VOICES: Final = ("Soprano", "Alto", "Tenor", "Bass")


def main() -> None:
    """Write the examples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--piece", help="a held-out chorale, the first that is fit by default")
    arguments = parser.parse_args()
    bundle = load(arguments.model)
    pieces = open_music("bach", bundle.read_policy, share=HELD_OUT).side("validation")
    fit = [
        (name, piece)
        for name, piece in zip(pieces.names, pieces, strict=True)
        if piece.track_names == VOICES
        and LENGTHS[0] <= piece.end_time <= LENGTHS[1]
        and arguments.piece in (None, name)
    ]
    name, piece = fit[0]
    examples = {
        "gap": {"start": GAP[0], "end": GAP[1], "parts": None},
        "alto": {"start": 0.0, "end": piece.end_time, "parts": ["Alto"]},
        "voices": {"start": 0.0, "end": piece.end_time, "parts": ["Alto", "Tenor", "Bass"]},
    }
    tasks = [WritingTask(notes=piece, replace=True, **task) for task in examples.values()]
    written = write_batch(bundle, tasks, **SETTINGS)
    results = {
        "piece": name,
        "settings": SETTINGS,
        "training": {"pieces": bundle.data.pieces, "notes": bundle.data.notes},
        "examples": {
            key: {**task, "new": _columns(made.notes[made.new])}
            for (key, task), made in zip(examples.items(), written, strict=True)
        },
    }
    with atomic_write(RESULTS) as beside:
        beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for key, made in zip(examples, written, strict=True):
        print(f"{key}: {int(made.new.sum())} new notes of {len(made.notes)}")


def _columns(notes: Notes) -> dict[str, list[float]]:
    track = notes.track
    assert track is not None
    return {
        "start": notes.start.round(4).tolist(),
        "end": notes.end.round(4).tolist(),
        "pitch": notes.pitch.tolist(),
        "velocity": notes.velocity.tolist(),
        "track": track.tolist(),
    }


if __name__ == "__main__":
    main()
