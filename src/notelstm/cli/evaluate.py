"""``notelstm evaluate``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, tyro.conf.Positional],
    folder: Annotated[str, tyro.conf.Positional],
    /,
    *,
    max_files: int | None = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Measure a model on held-out music, in nats per note on a 10 ms grid.

    Lower is better. Any model can be compared with any other: the figures do not depend on how a
    model writes notes down.

    Args:
        model: A model file that `notelstm train` wrote.
        folder: A folder of MIDI files that the model was not trained on, or a corpus's name.
        max_files: Read at most so many files.
        json: Print JSON.
    """
    from notelstm.bundle import load
    from notelstm.cli.sources import open_source, read_pieces
    from notelstm.evaluation import nats_per_note

    bundle = load(model)
    pieces = [notes for _, notes in read_pieces(open_source(folder, bundle.policy), max_files)]
    scores = nats_per_note(bundle.player, bundle.encoder, pieces, sigmas=bundle.sigmas)
    figures = scores.to_json()
    if json:
        print(json_format.dumps(figures))
        return
    print(f"{len(scores.pieces)} pieces, {figures['notes']:,} notes; nats per note:")
    for name in ("pitch", "step", "duration", "psd", "velocity", "total"):
        value = figures[name]
        print(f"  {name:<9} {'-' if value is None else f'{value:6.3f}'}")
