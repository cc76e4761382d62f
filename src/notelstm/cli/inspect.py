"""``notelstm inspect``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import arg

if TYPE_CHECKING:
    from notelstm.midi import ReadReport

__all__ = ["inspect"]


def inspect(
    path: Annotated[Path, tyro.conf.Positional, arg(metavar="FILE|FOLDER")],
    /,
    *,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")] = False,
) -> None:
    """Say what is in a MIDI file, or in a folder of them.

    Of a file: its tracks, what was left out, what was repaired. Of a folder: totals, and the files
    that were repaired or refused.

    Args:
        path: A MIDI file, or a folder of them.
        json: Print JSON.
    """
    from notelstm.midi import read_midi_with_report

    if path.is_dir():
        _folder(path, json=json)
        return
    notes, report = read_midi_with_report(path)
    if json:
        print(json_format.dumps(report.to_json(), indent=2))
        return
    print(f"{path}: {notes!r}, read by {report.reader}")
    for track in report.tracks:
        kind = "percussion" if track.drum else f"program {track.program}"
        print(f"  track {track.number}: {track.notes} notes, {kind} {track.name}".rstrip())
    _faults(report)


def _faults(report: ReadReport) -> None:
    for setting, count in report.left_out.items():
        print(f"  left out by {setting}: {count} notes")
    for repair in report.repairs[:20]:
        where = "" if repair.byte is None else f" at byte {repair.byte}"
        print(f"  repaired: {repair.message}{where}")
    if report.repairs_total > 20:
        print(f"  and {report.repairs_total - 20} more repairs")
    for warning in report.warnings:
        print(f"  note: {warning}")


def _folder(path: Path, *, json: bool) -> None:
    """Totals of a folder, and the files in which something was wrong."""
    from notelstm.data.folder import midi_files
    from notelstm.errors import DataError, MidiError
    from notelstm.midi import read_midi_with_report

    files = midi_files(path)
    if not files:
        raise DataError("a folder has MIDI files", got="none", where=str(path))
    good: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    for file in files:
        try:
            _, report = read_midi_with_report(file)
        except MidiError as error:
            bad.append({"file": str(file.relative_to(path)), "reason": error.rule})
            continue
        good.append(
            {
                "file": str(file.relative_to(path)),
                "notes": report.notes,
                "seconds": report.seconds,
                "repairs": report.repairs_total,
            }
        )
    if json:
        print(json_format.dumps({"files": good, "refused": bad}, indent=2))
        return
    notes = sum(file["notes"] for file in good)
    hours = sum(file["seconds"] for file in good) / 3600
    print(f"{path}: {len(files)} files, {len(good)} read, {notes:,} notes, {hours:.2f} hours")
    for entry in sorted(good, key=lambda entry: -entry["repairs"]):
        if entry["repairs"]:
            print(f"  repaired {entry['repairs']} times: {entry['file']}")
    for refused in bad:
        print(f"  refused: {refused['file']}: {refused['reason']}")
