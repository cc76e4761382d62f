"""The music of the page on writing: a gap before and after it is filled, and two altos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from making.frames import frame
from notelstm import Notes
from notelstm.data.bach import BachChorales
from notelstm.listening import Sample, page_html, save_audio, save_piano_roll
from notelstm.midi import ReadPolicy

__all__ = ["make"]


def make(examples: Path, folder: Path) -> None:
    """Write the players, the sound and the pictures.

    Args:
        examples: The JSON file that ``docs/measured/written.py`` writes.
        folder: The folder to write to.
    """
    found = json.loads(examples.read_text(encoding="utf-8"))
    source = BachChorales(policy=ReadPolicy(tracks="all"))
    piece = next(notes for name, notes in source.pieces() if name == found["piece"])
    made = {key: _with_new(piece, example) for key, example in found["examples"].items()}
    before, after = made["gap"]
    alto = list(piece.track_names or ()).index("Alto")
    save_piano_roll(before, folder / "before.svg")
    save_piano_roll(after, folder / "after.svg")
    players = {
        "gap": [
            Sample(notes=before, title="With a gap"),
            Sample(notes=after, title="The gap is filled by the model"),
            Sample(notes=piece, title="Bach"),
        ],
        "alto": [
            Sample(notes=piece, title="Bach"),
            Sample(notes=made["alto"][1], title="With the model's alto"),
            Sample(notes=_track(piece, alto), title="Bach's alto alone"),
            Sample(notes=_track(made["alto"][1], alto), title="The model's alto alone"),
            Sample(
                notes=made["voices"][1], title="Three voices by the model, under Bach's soprano"
            ),
        ],
    }
    titles = {
        "gap": "A chorale with a gap, before and after",
        "alto": "Bach's and the model's alto",
    }
    for name, samples in players.items():
        page = page_html(samples, title=titles[name], layout="compact")
        (folder / f"{name}.md").write_text(frame(page, titles[name]) + "\n", encoding="utf-8")
    (folder / "sound").mkdir()
    save_audio(after, folder / "sound" / "filled.wav", rate=22_050)


def _with_new(piece: Notes, example: dict[str, Any]) -> tuple[Notes, Notes]:
    """The notes of a piece that are given in an example, and the same with the new ones."""
    names, track = list(piece.track_names or ()), piece.track
    assert track is not None
    parts = names if example["parts"] is None else example["parts"]
    written = np.isin(track, [names.index(name) for name in parts])
    written &= (piece.start >= example["start"]) & (piece.start < example["end"])
    given = replace(piece[~written], length=piece.end_time)
    new = Notes(**example["new"], track_names=piece.track_names)
    return given, Notes.merge([given, new.in_tracks_of(piece)])


def _track(piece: Notes, track: int) -> Notes:
    return piece[np.isin(piece.track if piece.track is not None else (), (track,))]
