"""``notelstm inspect``."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import tyro
from tyro.conf import arg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from notelstm.data.leaks import Leak
    from notelstm.data.summary import Distribution
    from notelstm.midi import ReadReport
    from notelstm.notes import Notes

__all__ = ["inspect"]

_SHOWN: Final = 20
"""Of a long list; --json has all of it."""


def inspect(
    path: Annotated[Path, tyro.conf.Positional, arg(metavar="FILE|FOLDER")],
    /,
    *,
    leaks: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """Say what is in a MIDI file, or in a folder of them.

    Of a file: its tracks, tempo, pedal, what was left out, what was repaired. Of a folder: totals,
    distributions, copies, and the files that were repaired or refused.

    Args:
        path: A MIDI file, or a folder of them.
        leaks: Of a folder: also look for pieces that share long passages, and for music on two
            sides of MAESTRO's split.
        json: Print JSON.
    """
    from notelstm.midi import read_midi_with_report

    if path.is_dir():
        _folder(path, json=json, leaks=leaks)
        return
    notes, report = read_midi_with_report(path)
    held = _held(path, notes)
    if json:
        pedal = {"held": len(held), "seconds": float(held.sum())}
        print(json_format.dumps({**report.to_json(), "pedal": pedal}, indent=2))
        return
    print(f"{path}: {notes!r}, read by {report.reader}")
    for track in report.tracks:
        kind = "percussion" if track.drum else f"program {track.program}"
        print(f"  track {track.number}: {track.notes} notes, {kind} {track.name}".rstrip())
    if notes.beats is not None:
        tempi = notes.beats.tempi
        print(f"  tempo: {tempi.min():.4g} to {tempi.max():.4g} quarter notes a minute")
    if len(held):
        share = f"{len(held):,} of {len(notes):,} notes"
        print(f"  pedal: holds {share} beyond their keys, for {held.mean():.2f} s on average")
    else:
        print("  pedal: holds no note")
    _faults(report)


def _held(path: Path, notes: Notes) -> NDArray[np.float64]:
    """For how many seconds the sustain pedal holds each note that it holds."""
    from notelstm.midi import ReadPolicy, read_midi

    # Both are ordered by start and pitch; ends settle ties, so ties may be paired otherwise.
    longer = read_midi(path, ReadPolicy(pedal="extend")).end - notes.end
    return longer[longer > 0]


def _faults(report: ReadReport) -> None:
    for setting, count in report.left_out.items():
        print(f"  left out by {setting}: {count} notes")
    for repair in report.repairs[:_SHOWN]:
        where = f" ({repair.place})" if repair.place else ""
        print(f"  repaired: {repair.message}{where}")
    if report.repairs_total > _SHOWN:
        print(f"  and {report.repairs_total - _SHOWN} more repairs")
    if report.saved or report.lost:
        print(f"  {report.saved} notes saved from damaged tracks, {report.lost} known to be lost")
    for warning in report.warnings[:_SHOWN]:
        print(f"  note: {warning}")
    if len(report.warnings) > _SHOWN:
        print(f"  and {len(report.warnings) - _SHOWN} more notes")


def _folder(path: Path, *, json: bool, leaks: bool) -> None:
    """Totals and distributions of a folder, and the files in which something was wrong."""
    from notelstm.cli.sources import open_music
    from notelstm.data.leaks import find_leaks
    from notelstm.data.summary import summarise
    from notelstm.midi import ReadPolicy

    music = open_music(str(path), ReadPolicy())
    summary = summarise(music.corpus, passages=leaks)
    crossing = find_leaks(music.corpus.pieces(), music.split) if leaks and music.by_table else []
    if json:
        leaking = [leak.to_json() for leak in crossing]
        print(json_format.dumps({**summary.to_json(), "leaks": leaking}, indent=2))
        return
    print(
        f"{path}: {summary.files} files, {summary.pieces} read, {summary.notes:,} notes, "
        f"{summary.seconds / 3600:.2f} hours; {summary.repaired} repaired, "
        f"{summary.refused} refused"
    )
    for name in ("pitch", "step", "duration", "velocity"):
        _distribution(name, getattr(summary, name))
    for file in summary.worst:
        what = file.error or f"{file.repairs_total} repairs, {file.lost} notes lost"
        print(f"  {'refused' if file.error else 'repaired'}: {file.name}: {what}")
    for count, rule in ((n, rule) for rule, n in summary.reasons.items()):
        print(f"  {count} refused because: {rule}")
    _pairs("the same music twice", summary.duplicates)
    if leaks and music.by_table:
        _pairs("on two sides of the split", crossing)
    elif leaks:
        print("  no table splits this folder, so that no side can leak to another")


def _distribution(name: str, found: Distribution) -> None:
    quantiles = "  ".join(f"{value:8.4g}" for value in found.quantiles)
    print(
        f"  {name:<9} {found.least:.4g} to {found.most:.4g} {found.unit}, mean {found.mean:.4g}; "
        f"5, 25, 50, 75, 95 %: {quantiles}"
    )


def _pairs(title: str, found: Sequence[Leak]) -> None:
    print(f"  {title}: {len(found)} pairs")
    for leak in found[:_SHOWN]:
        moved = f" by {leak.semitones:+d} semitones" if leak.semitones else ""
        print(f"    {leak.kind}{moved}, {leak.share:.0%}: {leak.left} = {leak.right}")
    if len(found) > _SHOWN:
        print(f"    and {len(found) - _SHOWN} more, which --json lists")
