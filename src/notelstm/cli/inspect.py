"""``notelstm inspect``."""

from __future__ import annotations

import io
import json as json_format
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, final

import numpy as np
import tyro
from numpy.typing import NDArray
from tyro.conf import arg

from notelstm.cli.music import open_music
from notelstm.cli.options import Flag, shown
from notelstm.cli.reading_options import (
    Reading,
    for_command_line,
    left_out_of_corpus,
    left_out_of_file,
)
from notelstm.data.leaks import Leak, find_leaks
from notelstm.data.summary import Distribution, summarise
from notelstm.errors import EncodingError, counted
from notelstm.midi import ReadPolicy, ReadReport, read_midi, read_midi_with_report
from notelstm.midi.reading import MAX_BYTES
from notelstm.notes import Notes, TempoMap
from notelstm.programs import PROGRAMS

if TYPE_CHECKING:
    from notelstm.bundle import Bundle

__all__ = ["inspect"]

_SHOWN: Final = 20
"""The number of entries of a long list that are printed; --json has all."""


def inspect(
    path: Annotated[Path, tyro.conf.Positional, arg(metavar="FILE|FOLDER|MODEL")],
    /,
    *,
    leaks: Flag = False,
    model: Annotated[Path | None, shown("MODEL")] = None,
    json: Flag = False,
    reading: Annotated[Reading, arg(name="")] = Reading(),  # noqa: B008 - it cannot change
) -> None:
    """Show the contents of a MIDI file, of a folder of MIDI files, or of a model.

    For a file: its tracks, tempo, time signatures and pedal, the notes that were left out, and the
    repairs. For a folder: totals, distributions, copies, and the files that were repaired or
    rejected, and the notes of each instrument. For both: the notes that the beat encoder would
    change. For a model: its parts, its data, the labels that it was trained with, and the
    instruments that it tells apart.

    Args:
        path: A MIDI file, a folder of them, or a model, which ends in .notelstm.
        leaks: For a folder: also look for pieces that share long passages, and for music on two
            sides of MAESTRO's split.
        model: Also count the notes that this model would merge, reject, or take for another
            instrument. Files are read as for the model.
        json: Print JSON.
        reading: How files are read.
    """
    if path.suffix == ".notelstm":
        _model(path, json=json)
        return
    bundle = None if model is None else _loaded(model)
    policy = reading.policy(ReadPolicy() if bundle is None else bundle.read_policy)
    if path.is_dir():
        _folder(path, policy, bundle, json=json, leaks=leaks)
        return
    source = _reusable(path)
    notes, report = read_midi_with_report(source(), policy)
    held = _held(source, notes, policy)
    beats, rounded = notes.tempo_map, _changes_in_beats(notes)
    left_out = left_out_of_file(notes, report)
    if json:
        pedal = {"held": len(held), "seconds": float(held.sum())}
        signatures = _signatures(beats)
        found = {
            **report.to_json(),
            "left_out_line": left_out,
            "pedal": pedal,
            "time_signatures": [{"beat": beat, "name": name} for beat, name in signatures],
            "changes_in_beats": dict(rounded),
            "model": None if bundle is None else _encoded(bundle, [notes]),
        }
        print(json_format.dumps(found, indent=2))
        return
    print(f"{path}: {notes!r}, read by {report.reader}")
    for track in report.tracks:
        kind = "drums" if track.drum else f"program {track.program}"
        line = f"  track {track.number}: {counted(track.notes, 'note')}, {kind} {track.name}"
        print(line.rstrip())
    if left_out:
        print(f"  {left_out}")
    if beats is not None:
        tempos = beats.tempos
        print(f"  tempo: {tempos.min():.4g} to {tempos.max():.4g} quarter notes a minute")
    if stated := [f"{name} from beat {beat:g}" for beat, name in _signatures(beats)]:
        rest = f" and {len(stated) - _SHOWN} more" if len(stated) > _SHOWN else ""
        print(f"  time signatures: {', '.join(stated[:_SHOWN])}{rest}")
    _beats_line(rounded)
    if bundle is not None:
        _encoded_line(bundle, _encoded(bundle, [notes]))
    if len(held):
        share = f"{len(held):,} of {counted(len(notes), 'note')}"
        print(f"  pedal: holds {share} beyond their keys, for {held.mean():.2f} s on average")
    else:
        print("  pedal: holds no note")
    _faults(report)


def _loaded(model: Path) -> Bundle:
    from notelstm.bundle import load

    return load(model)


def _encoded(bundle: Bundle, pieces: Iterable[Notes]) -> dict[str, Any]:
    """The number of notes that the model's encoder changes, rejects, or has no instrument for."""
    from notelstm.encoders.rows import ReportingEncoder, part_map_of

    encoder, part_map = bundle.encoder, part_map_of(bundle.encoder)
    notes = unknown = rejected = 0
    changes = Counter[str]()
    for piece in pieces:
        notes += len(piece)
        try:
            encoder.encode(piece)
        except EncodingError:
            rejected += len(piece)
            continue
        if isinstance(encoder, ReportingEncoder):
            changes.update(encoder.changes(piece))
        if part_map is not None:
            unknown += part_map.count_unknown(piece)
    return {"notes": notes, "changes": dict(changes), "unknown": unknown, "rejected": rejected}


def _encoded_line(bundle: Bundle, found: Mapping[str, Any]) -> None:
    """Print the counts of :func:`_encoded`."""
    from notelstm.encoders.rows import describe_changes, part_map_of

    parts = [f"{counted(found['notes'], 'note')} for the model"]
    if found["changes"]:
        parts.append(describe_changes(found["changes"]))
    if part_map := part_map_of(bundle.encoder):
        parts.append(f"{found['unknown']:,} of unknown instruments ({part_map.unknown})")
    parts.append(f"{found['rejected']:,} in pieces that it rejects")
    print(f"  {'; '.join(parts)}")


def _model(path: Path, *, json: bool) -> None:
    """The parts of a bundle, its labels and its instruments."""
    from notelstm.encoders.rows import label_map_of, part_map_of

    bundle = _loaded(path)
    part_map, label_map = part_map_of(bundle.encoder), label_map_of(bundle.encoder)
    ends = any(field.role == "end" for field in bundle.encoder.fields)
    if json:
        found = {
            "bundle": repr(bundle),
            "instruments": None if part_map is None else part_map.to_json(),
            "labels": None if label_map is None else label_map.to_json()["labels"],
            "ends": ends,
        }
        print(json_format.dumps(found, indent=2))
        return
    print(f"{path}: {bundle!r}")
    for label in () if label_map is None else label_map.labels:
        kind = "about " if label.edges else ""
        print(f"  label {label.name}: {kind}{', '.join(label.values)}")
    if ends:
        print("  predicts the end of a piece")
    if part_map is None:
        print("  instruments: none, all notes are of one instrument")
        return
    print(f"  instruments by {part_map.by}; notes of others: {part_map.unknown}")
    for number, part in enumerate(part_map.classes):
        kind = "drums" if part.drum else f"program {part.program} ({PROGRAMS[part.program]})"
        print(f"  class {number}: {part.name}, {kind}")


def _signatures(beats: TempoMap | None) -> list[tuple[float, str]]:
    """The beat of each time signature, and the time signature."""
    from notelstm.encoders.time_signatures import names_of

    if beats is None:
        return []
    return [*zip(beats.time_signature_beats.tolist(), names_of(beats), strict=True)]


def _changes_in_beats(notes: Notes) -> Mapping[str, int]:
    """The notes that a beat encoder with its default settings changes, by reason."""
    from notelstm.encoders import BeatEncoder

    return BeatEncoder().changes(notes) if notes.tempo_map is not None else {}


def _beats_line(changes: Mapping[str, int]) -> None:
    from notelstm.encoders.rows import describe_changes

    if changes:
        print(f"  changed by the beat encoder: {describe_changes(changes)}")


@final
class _Kept(io.BytesIO):
    """The bytes of a file under its name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def _reusable(path: Path) -> Callable[[], Path | _Kept]:
    """A source that can be read several times, also for a pipe: ``<(cat x.mid)``."""
    if not (path.is_fifo() and path.parts[:2] in (("/", "dev"), ("/", "proc"))):
        return lambda: path
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    return lambda: _Kept(data, str(path))


def _held(
    source: Callable[[], Path | _Kept], notes: Notes, policy: ReadPolicy
) -> NDArray[np.float64]:
    """The seconds by which the sustain pedal extends each note that it holds."""
    # Both are ordered by start, pitch and end, so equal starts and pitches may be paired otherwise.
    released = notes
    if policy.pedal != "ignore":
        released = read_midi(source(), replace(policy, pedal="ignore"))
    longer = read_midi(source(), replace(policy, pedal="extend")).end - released.end
    return longer[longer > 0]


def _faults(report: ReadReport) -> None:
    for repair in report.repairs[:_SHOWN]:
        print(f"  repaired: {repair}")
    if report.repairs_total > _SHOWN:
        print(f"  and {counted(report.repairs_total - _SHOWN, 'more repair')}")
    if report.saved or report.lost:
        saved = counted(report.saved, "note")
        print(f"  {saved} saved from damaged tracks, {report.lost:,} known to be lost")
    for warning in report.warnings[:_SHOWN]:
        print(f"  warning: {warning}")
    if len(report.warnings) > _SHOWN:
        print(f"  and {counted(len(report.warnings) - _SHOWN, 'more warning')}")


def _folder(
    path: Path, policy: ReadPolicy, bundle: Bundle | None, *, json: bool, leaks: bool
) -> None:
    """Totals and distributions of a folder, and its damaged files."""
    music = open_music(str(path), policy)
    summary = summarise(music.corpus, passages=leaks)
    left_out = left_out_of_corpus(music.corpus.report)
    crossing = find_leaks(music.corpus.pieces(), music.split) if leaks and music.by_table else []
    encoded = None if bundle is None else _encoded(bundle, music.corpus)
    if json:
        leaking = [leak.to_json() for leak in crossing]
        extra = {"left_out_line": left_out, "leaks": leaking, "model": encoded}
        found = {**summary.to_json(), **extra}
        print(json_format.dumps(found, indent=2))
        return
    print(
        f"{path}: {counted(summary.files, 'file')}, {summary.pieces:,} read, "
        f"{counted(summary.notes, 'note')}, {summary.seconds / 3600:.2f} hours; "
        f"{summary.repaired:,} repaired, {summary.rejected:,} rejected"
    )
    if left_out:
        print(f"  {left_out}")
    if bundle is not None and encoded is not None:
        _encoded_line(bundle, encoded)
    if summary.instruments:
        shares = [f"{name} {n:,}" for name, n in summary.instruments.items()]
        rest = f" and {len(shares) - _SHOWN} more" if len(shares) > _SHOWN else ""
        print(f"  notes by instrument: {', '.join(shares[:_SHOWN])}{rest}")
    for name in ("pitch", "step", "duration", "velocity"):
        if getattr(summary, name).quantiles:
            _distribution(name, getattr(summary, name))
    if summary.time_signatures:
        shares = [f"{name} in {n:,}" for name, n in summary.time_signatures.items()]
        rest = f" and {len(shares) - _SHOWN} more" if len(shares) > _SHOWN else ""
        print(f"  pieces by time signature: {', '.join(shares[:_SHOWN])}{rest}")
    _beats_line(summary.changes_in_beats)
    for file in summary.worst:
        repairs = f"{counted(file.repairs_total, 'repair')}, {counted(file.lost, 'note')} lost"
        what = for_command_line(file.error or repairs)
        print(f"  {'rejected' if file.error else 'repaired'}: {file.name}: {what}")
    if summary.rejected > sum(1 for file in summary.worst if file.error):
        for reason, count in summary.reasons.items():
            print(f"  {count:,} rejected: {reason}")
    _pairs("the same music twice", summary.duplicates)
    if leaks and music.by_table:
        _pairs("on two sides of the split", crossing)
    elif leaks:
        print("  leaks between sides: not looked for, since no table splits this folder")


def _distribution(name: str, found: Distribution) -> None:
    quantiles = "  ".join(f"{value:8.4g}" for value in found.quantiles)
    print(
        f"  {name:<9} {found.least:.4g} to {found.most:.4g} {found.unit}, mean {found.mean:.4g}; "
        f"5, 25, 50, 75, 95 %: {quantiles}"
    )


def _pairs(title: str, found: Sequence[Leak]) -> None:
    print(f"  {title}: {counted(len(found), 'pair')}")
    for leak in found[:_SHOWN]:
        moved = ""
        if leak.semitones:
            unit = "semitone" if abs(leak.semitones) == 1 else "semitones"
            moved = f" by {leak.semitones:+d} {unit}"
        print(f"    {leak.kind}{moved}, {leak.share:.0%}: {leak.left} = {leak.right}")
    if len(found) > _SHOWN:
        print(f"    and {len(found) - _SHOWN} more, which --json lists")
