"""Train the models that write with given notes, and measure them.

    python docs/measured/writing.py --train chorales --output CHORALES [--minutes N]
    python docs/measured/writing.py --train chorales-plain --output PLAIN [--minutes N]
    python docs/measured/writing.py --train piano --output PIANO --start BEFORE \\
        --maestro FOLDER --asap FOLDER [--minutes N]

train the model of four-part chorales, the same without given notes, and the pretrained one, which
starts from a model of the piano that knows no given notes, or has been fine-tuned before. An
interrupted run continues with the same command. Then

    python docs/measured/writing.py --chorales CHORALES --plain PLAIN
    python docs/measured/writing.py --piano PIANO --before BEFORE --maestro FOLDER

measure nats per note on held-out pieces: of the other voices given the soprano, and of the notes in
gaps given what follows them, with the nats of no further note in the gap. Each is beside the same
model that is given nothing and reads all notes before, and beside n-grams and repetition. What free
continuation costs is measured, too. The figures are written
to ``writing.json`` beside this script, and the tables to ``writing.md``. ``--table`` rewrites the
tables without measuring.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pretrained import TRAINED, TUNED, num_targets, save, without_leaks
from torch import nn

import notelstm
from notelstm import tree
from notelstm.batch import columns
from notelstm.bundle import Bundle, DataCard, load
from notelstm.cli.music import open_music
from notelstm.cli.runs import EpochLines, run_folder
from notelstm.data import Corpus, GivenMixture
from notelstm.encoders import AnticipatingEncoder, LogTimeEncoder
from notelstm.encoders.rows import part_map_of
from notelstm.evaluation import fit_ngrams, fit_unigram, nats_per_note
from notelstm.evaluation.baselines import Baseline, RepeatLast
from notelstm.evaluation.grid import CELL, places_of
from notelstm.evaluation.nats import contexts
from notelstm.fields import Rows, note_rows, written_rows
from notelstm.files import atomic_write
from notelstm.generation.writing import read_first
from notelstm.models.inference import in_use
from notelstm.notes import Notes
from notelstm.protocols import HasLikelihood
from notelstm.recipes import chorales
from notelstm.sampling.masking import Constraints, rows_before
from notelstm.training import BestCheckpoint, JSONLogger, TimeBudget

RESULTS: Final = Path(__file__).with_name("writing.json")
TABLE: Final = RESULTS.with_suffix(".md")

HELD_OUT: Final = 0.1
"""The share of the chorales that is held out, by their content."""
VALIDATION: Final = 6
"""The number of MAESTRO's validation pieces that are scored in training."""
PIANO_MIXTURE: Final = GivenMixture(
    nothing=0.25, spans=0.65, parts=0.0, notes=0.1, gap=(1.0, 12.0), span=(2.0, 8.0), variants=2
)
GAPS: Final = (2.0, 4.0, 8.0)
"""Seconds of the gaps that are measured."""
NUM_GAPS: Final = 100
"""The number of gaps of each length."""
CONTEXT: Final = 60.0
"""The most seconds of music before a gap, and after it, that are read."""
AFTER: Final = 10.0
"""The least seconds of music after a gap."""
SIZE: Final = 8_000_000
"""The greatest size of the piano model's file, in bytes."""


# Training.


def train_chorales(output: Path, minutes: float | None, *, plain: bool) -> None:
    """Train the model of chorales; without given notes if `plain`."""
    recipe = chorales()
    if plain:
        # As many rows in an epoch as with its copies.
        copies = 0 if recipe.given is None else recipe.given.variants
        recipe = replace(
            recipe, given=GivenMixture(nothing=1, spans=0, parts=0, notes=0, variants=copies)
        )
    music = open_music("bach", recipe.read_policy, share=HELD_OUT)
    if minutes is not None:
        recipe = replace(recipe, training=replace(recipe.training, epochs=None))
    bundle = recipe.train(
        list(music.side("train")),
        validation=list(music.side("validation")),
        folder=run_folder(output),
        resume=run_folder(output).exists(),
        callbacks=[
            JSONLogger(),
            EpochLines(),
            BestCheckpoint(),
            *([] if minutes is None else [TimeBudget(minutes=minutes)]),
        ],
        data=DataCard(name="chorales by J. S. Bach", license=music.corpus.license),
    )
    bundle.save(output, half_precision=True)


def train_piano(
    output: Path,
    maestro: Path,
    asap: Path,
    minutes: float | None,
    limit: int | None,
    start: Path,
) -> None:
    """Fine-tune the pretrained model, so that it reads given notes and composers, and ends."""
    bundle = load(start)
    encoder = bundle.encoder
    again = isinstance(encoder, AnticipatingEncoder)
    if not again:
        encoder = AnticipatingEncoder(inner=replace(cast(LogTimeEncoder, encoder), ends=True))
    recipe = bundle.recipe(
        epochs=1,
        lr_divisor=4.0 if again else 2.0,
        encoder=encoder,
        conditions=("composer",),
        given=PIANO_MIXTURE,
    )
    training = replace(
        recipe.training,
        epochs=1 if minutes is None else None,
        warmup_steps=50,
        precision="auto",
        seed=3 if again else 2,
    )
    recipe = replace(recipe, training=training, batch_size=16, min_steps_per_epoch=0)
    music = open_music(str(maestro), recipe.read_policy)
    validation = music.side("validation")
    pieces: list[Notes] = list(music.side("train")[:limit])
    held_out = [validation, *([music.side("test")] if music.split.test else [])]
    more = without_leaks(Corpus.open(asap, policy=recipe.read_policy), held_out, limit)
    pieces += with_composers(more, pieces)
    print(f"{len(pieces)} pieces, {sum(map(len, pieces)):,} notes", flush=True)
    tuned = recipe.train(
        pieces,
        validation=validation[:VALIDATION],
        folder=run_folder(output),
        resume=run_folder(output).exists(),
        callbacks=[
            JSONLogger(),
            EpochLines(),
            *([] if minutes is None else [TimeBudget(minutes=minutes)]),
        ],
        init_from=bundle,
    )
    # The music, and what a recipe starts from, are those of the pretrained model.
    settings = bundle.settings
    kept = {name: settings[name] for name in ("held_out", "training", "batch_size")}
    notes = num_targets(run_folder(output))
    counts = {TRAINED: settings[TRAINED] + notes, TUNED: settings.get(TUNED, 0) + notes}
    save(replace(tuned, data=bundle.data, settings={**tuned.settings, **kept, **counts}), output)
    size = output.stat().st_size
    print(f"{output}: {size:,} bytes{', too many' if size > SIZE else ''}", flush=True)


def with_composers(pieces: Sequence[Notes], named: Sequence[Notes]) -> list[Notes]:
    """Pieces in folders of the last names of composers, with the full names that others have."""
    names = {piece.labels["composer"] for piece in named if "composer" in piece.labels}
    full = {name.split()[-1]: name for name in names if "/" not in name}
    composers = [full.get(piece.labels.get("folder", "")) for piece in pieces]
    return [
        replace(piece, labels={} if composer is None else {"composer": composer})
        for piece, composer in zip(pieces, composers, strict=True)
    ]


# Scoring of single notes.


def row_scores(
    bundle: Bundle, rows: Rows, wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The nats of rows, in cells of the encoder, and whether their most likely pitch is right.

    The probability of a class of several cells is spread evenly over them, as in nats per note.

    Args:
        bundle: The model.
        rows: (N, F) a piece from its beginning.
        wanted: (N,) the rows to score.

    Returns:
        (M, K) nats of the predicted fields in their order, 0 for the end of the piece, which not
        all models predict; and (M,) bool.
    """
    model, encoder = bundle.generation_model, bundle.encoder
    constraints = Constraints(encoder, model.field_order)
    named = {field.name: field for field in encoder.fields}
    table = torch.from_numpy(rows)
    previous = rows_before(table, encoder.fields)
    nats, right = [], []
    with in_use(model):
        for here, context in contexts(model, table):
            chosen = torch.from_numpy(wanted[here])
            known = columns(table[here], encoder.fields)
            chunk = []
            for name in model.field_order:
                prediction = model.predict(name, context, known)
                prediction = constraints.apply(name, prediction, known, previous[here])
                cost = cast(HasLikelihood, prediction).nll(known[name]).double()
                field = named[name]
                if field.role in ("step", "duration"):
                    cost = cost + torch.log(cells_of_classes(field)[known[name]])
                chunk.append(cost[chosen] * (field.role != "end"))
                if field.role == "pitch":
                    right.append((prediction.mode() == known[name])[chosen].numpy())
            nats.append(torch.stack(chunk, dim=1).numpy())
    return np.concatenate(nats), np.concatenate(right)


def nats_of_end(bundle: Bundle, rows: Rows, wanted: NDArray[np.bool_], seconds: float) -> float:
    """The nats of no further written note before a time, after the last of the wanted rows.

    Without them, the notes of a gap would be compared without their number. A model that is given
    what follows has to foresee the end of the gap, and one that is given nothing does not.

    Args:
        bundle: The model.
        rows: (N, F) a piece from its beginning.
        wanted: (N,) the rows of the notes in a gap.
        seconds: The end of the gap, from the onset of the first note of the piece.
    """
    model, encoder = bundle.generation_model, bundle.encoder
    column = next(k for k, f in enumerate(encoder.fields) if f.role == "step" and not f.given)
    step = encoder.fields[column]
    written = written_rows(rows, encoder.fields)
    written = np.ones(len(rows), np.bool_) if written is None else np.asarray(written)
    times = np.array(step.values)
    moved = np.where(written, times[rows[:, column].astype(np.int64)], 0.0)
    last = int(np.flatnonzero(wanted)[-1])
    passed = float(moved[: last + 1].sum())
    # The next written row, or one behind all others, has a context in which all is known that is
    # given until then.
    later = np.flatnonzero(written[last + 1 :])
    at = last + 1 + int(later[0]) if len(later) else len(rows)
    table = torch.from_numpy(np.concatenate([rows, rows[last : last + 1]]))
    constraints = Constraints(encoder, model.field_order)
    previous = rows_before(table, encoder.fields)
    with in_use(model):
        for here, context in contexts(model, table[: at + 1]):
            if not here.start <= at < here.stop:
                continue
            one = tree.index(context, slice(at - here.start, at - here.start + 1))
            known = columns(table[at : at + 1], encoder.fields)
            prediction = model.predict(step.name, one, known)
            prediction = constraints.apply(step.name, prediction, known, previous[at : at + 1])
            share = torch.softmax(cast(Any, prediction).log_weights()[0].double(), dim=-1)
            beyond = torch.from_numpy(passed + times >= seconds - 1e-6)
            return float(-torch.log(share[beyond].sum().clamp_min(1e-12)))
    raise AssertionError("there is no such row")


def cells_of_classes(field: notelstm.fields.Field) -> torch.Tensor:
    """(C,) the number of cells of each class of a time; 1 for a rest, which is a single time."""
    first = 1 if field.values[0] == 0 else 0
    edges = np.array(field.edges)
    cells = np.rint(np.diff(edges) / (edges[first + 1] - edges[first]))
    if field.rest is not None:
        cells[field.rest] = 1
    return torch.from_numpy(cells)


def baseline_nats(
    baseline: Baseline, encoder: AnticipatingEncoder, piece: Notes
) -> NDArray[np.float64]:
    """(N,) nats of the snapped notes of a piece, in cells of the encoder."""
    notes = in_cells(encoder, piece)
    found = baseline.probabilities(places_of(notes, encoder.parts))
    return np.asarray(-np.log(np.stack(list(found.values())) + 1e-12).sum(axis=0))


def in_cells(encoder: AnticipatingEncoder, piece: Notes) -> Notes:
    """The snapped notes, with the cells of the encoder as those of the grid of baselines."""
    notes = encoder.snapped(piece)
    scale = CELL / encoder.cell
    return replace(notes, start=notes.start * scale, end=notes.end * scale, tempo_map=None)


def baselines_of(encoder: AnticipatingEncoder, pieces: Sequence[Notes]) -> dict[str, Baseline]:
    """The baselines by name, counted in training pieces."""
    counted = _Parts(encoder)
    scaled = [in_cells(encoder, piece) for piece in pieces]
    grams = fit_ngrams(scaled, order=4, encoder=counted)
    return {
        "copy of the note before": RepeatLast(unigram=fit_unigram(scaled, encoder=counted)),
        "bigram": grams.up_to(2),
        "4-gram": grams,
    }


class _Parts:
    """An encoder of parts that leaves notes as they are, for baselines."""

    def __init__(self, encoder: AnticipatingEncoder) -> None:
        self.fields = encoder.fields
        self.parts = part_map_of(encoder)

    def encode(self, _notes: Notes) -> Rows:
        raise NotImplementedError

    def decode(self, _rows: Rows) -> Notes:
        raise NotImplementedError


# Voices given the soprano.


def voices(bundle: Bundle, pieces: Sequence[Notes], training: Sequence[Notes]) -> dict[str, Any]:
    """The figures of the alto, the tenor and the bass, given the soprano or not."""
    encoder = cast(AnticipatingEncoder, bundle.encoder)
    parts = part_map_of(encoder)
    assert parts is not None
    names = [part.name for part in parts.classes]
    column = next(k for k, f in enumerate(encoder.fields) if f.role == "instrument")
    roles = {field.name: field.role for field in encoder.fields}
    order = [roles[name] for name in bundle.model.field_order]
    scores: dict[str, dict[str, list[Any]]] = {}
    counted = baselines_of(encoder, training)
    for piece in pieces:
        notes = encoder.snapped(piece)
        soprano = parts.classes_of(notes) == 0
        for name, given in (("given", soprano), ("left", np.zeros_like(soprano))):
            rows = encoder.encode_given(notes, given)
            written = np.asarray(written_rows(rows, encoder.fields))
            voice = rows[:, column].astype(np.int64)
            note = note_rows(rows, encoder.fields)
            wanted = written & note & (voice > 0)
            nats, right = row_scores(bundle, rows, wanted)
            found = scores.setdefault(name, {})
            columns = {
                "total": nats.sum(axis=1),
                "pitch": nats[:, order.index("pitch")],
                "duration": nats[:, order.index("duration")],
                "right": right,
                "voice": voice[wanted],
            }
            for figure, values in columns.items():
                found.setdefault(figure, []).append(values)
        for name, baseline in counted.items():
            found = scores.setdefault(name, {"total": [], "voice": []})
            classes = parts.classes_of(notes)
            found["total"].append(baseline_nats(baseline, encoder, notes)[classes > 0])
            found["voice"].append(classes[classes > 0])
    result: dict[str, Any] = {"notes": sum(map(len, scores["given"]["voice"]))}
    for name, lists in scores.items():
        joined = {figure: np.concatenate(values) for figure, values in lists.items()}
        voice = joined.pop("voice")
        result[name] = {
            "all": {figure: float(values.mean()) for figure, values in joined.items()},
            **{
                names[k]: {f: float(values[voice == k].mean()) for f, values in joined.items()}
                for k in sorted(set(voice.tolist()))
            },
        }
    return result


def parallels(notes: Notes) -> dict[str, int]:
    """The parallel fifths and octaves between the voices of a piece, unisons among the latter.

    Two voices are parallel if both begin a note at the same time, move in the same direction, and
    have the same interval, a fifth or an octave and any number of octaves, before and after.
    """
    assert notes.track is not None
    found = {"fifths": 0, "octaves": 0}
    lines: list[dict[int, int]] = []
    for track in np.unique(notes.track):
        of = notes.track == track
        onset = np.rint(notes.start[of] * 1000).astype(int).tolist()
        lines.append(dict(zip(onset, notes.pitch[of].tolist(), strict=True)))
    for pair in itertools.combinations(lines, 2):
        before: list[int] | None = None
        last: list[int | None] = [None, None]
        for onset in sorted({*pair[0], *pair[1]}):
            last = [line.get(onset, pitch) for line, pitch in zip(pair, last, strict=True)]
            now = [pitch for pitch in last if pitch is not None]
            if len(now) < len(pair):
                continue
            if before is not None:
                moved = [b - a for a, b in zip(before, now, strict=True)]
                # From the lower note to the higher one, also where voices cross.
                interval = abs(now[1] - now[0]) % 12
                kind = {0: "octaves", 7: "fifths"}.get(interval)
                same = abs(before[1] - before[0]) % 12 == interval
                if kind is not None and same and moved[0] * moved[1] > 0:
                    found[kind] += 1
            before = now
    return found


def harmonised(
    bundle: Bundle, pieces: Sequence[Notes], accompany: Callable[..., Notes]
) -> dict[str, Any]:
    """Parallels per piece of the voices under held-out sopranos, beside those of Bach."""
    counts: dict[str, dict[str, list[float]]] = {}
    encoder = cast(AnticipatingEncoder, bundle.encoder)
    for seed, piece in enumerate(pieces):
        bach = encoder.snapped(piece)
        assert bach.track is not None
        melody = bach[bach.track == 0]
        written = accompany(bundle, melody, parts=["Alto", "Tenor", "Bass"], seed=seed)
        for name, notes in (("Bach", bach), ("the model", written)):
            found = counts.setdefault(name, {})
            for kind, count in parallels(notes).items():
                found.setdefault(kind, []).append(count)
            found.setdefault("notes", []).append(len(notes))
            below = notes[np.asarray(notes.track != 0)]
            found.setdefault("sounding", []).append(below.duration.sum() / notes.end_time / 3)
    return {
        name: {kind: float(np.mean(values)) for kind, values in found.items()}
        for name, found in counts.items()
    }


# Gaps.


def gaps_of(pieces: Sequence[Notes], seconds: float, count: int) -> Iterator[tuple[Notes, float]]:
    """Excerpts around gaps, and the start of each gap; the gaps are the same for every model."""
    rng = np.random.default_rng([int(1000 * seconds)])
    made = 0
    while made < count:
        piece = pieces[int(rng.integers(len(pieces)))]
        last = float(piece.start[-1]) - seconds - AFTER
        if last <= 10:
            continue
        start = float(rng.uniform(10, last))
        inside = (piece.start >= start) & (piece.start < start + seconds)
        if not inside.any():
            continue
        near = (piece.start >= start - CONTEXT) & (piece.start < start + seconds + CONTEXT)
        made += 1
        yield piece[near], start


def gaps(
    bundle: Bundle,
    pieces: Sequence[Notes],
    training: Sequence[Notes],
    count: int,
    left: Bundle | None = None,
) -> dict[str, Any]:
    """Nats per note in gaps, given both sides or the left side alone.

    `left` is another model that reads the left side, such as the pretrained one.
    """
    encoder = cast(AnticipatingEncoder, bundle.encoder)
    counted = baselines_of(encoder, training)
    result: dict[str, Any] = {}
    for seconds in GAPS:
        sums: dict[str, list[float]] = {}
        ends: dict[str, float] = {}
        for excerpt, start in gaps_of(pieces, seconds, count):
            notes = encoder.snapped(excerpt)
            inside = (notes.start >= start) & (notes.start < start + seconds)
            if not inside.any():
                continue
            follows = notes.start >= start + seconds
            nothing = notes[:0]
            for name, given, front in (
                ("given", follows, notes[follows]),
                ("ahead", follows, nothing),
                ("left", np.zeros(len(notes), dtype=np.bool_), nothing),
            ):
                first, moved = read_first(front, encoder.cell)
                piece = notes.shifted(moved - float(notes.start[0]))
                if len(first):
                    piece = replace(Notes.merge([first, piece]), truncated=True)
                in_front = np.zeros(len(first), dtype=np.bool_)
                rows = encoder.encode_given(piece, np.concatenate([in_front, given]))
                wanted = in_gap(encoder, rows, np.concatenate([in_front, inside[~given]]))
                sums.setdefault(name, []).extend(row_scores(bundle, rows, wanted)[0].sum(axis=1))
                end = start + seconds - float(notes.start[0]) + moved
                ends[name] = ends.get(name, 0.0) + nats_of_end(bundle, rows, wanted, end)
            for name, baseline in counted.items():
                sums.setdefault(name, []).extend(baseline_nats(baseline, encoder, notes)[inside])
            if left is not None:
                rows = left.encoder.encode(notes)
                sums.setdefault("pretrained", []).extend(
                    row_scores(left, rows, inside)[0].sum(axis=1)
                )
                ends["pretrained"] = ends.get("pretrained", 0.0) + nats_of_end(
                    left, rows, inside, start + seconds - float(notes.start[0])
                )
        number = int(sum(1 for _ in sums["4-gram"]))
        result[f"{seconds:g}"] = {
            "notes": number,
            **{
                name: float((np.sum(values) + ends.get(name, 0.0)) / number)
                for name, values in sums.items()
            },
            "ends": {name: nats / number for name, nats in ends.items()},
        }
    return result


def in_gap(
    encoder: AnticipatingEncoder, rows: Rows, inside: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(M,) the rows of the written notes that are inside, and of the rests in front of them."""
    written = np.asarray(written_rows(rows, encoder.fields))
    note = written & note_rows(rows, encoder.fields)
    number: NDArray[np.int64] = np.cumsum(note) - note
    wanted = np.append(inside, False)[np.minimum(number, len(inside))]
    return np.asarray(written & wanted)


# Results.


def measure_chorales(path: Path, plain: Path | None) -> dict[str, Any]:
    """The figures of the model of chorales."""
    bundle = load(path)
    music = open_music("bach", bundle.read_policy, share=HELD_OUT)
    pieces, training = list(music.side("validation")), list(music.side("train"))
    found: dict[str, Any] = {
        "pieces": len(pieces),
        "parameters": parameters(bundle),
        "voices": voices(bundle, pieces, training),
        "gaps": gaps(bundle, pieces, training, NUM_GAPS),
        "continuation": {"given": continuation(bundle, pieces)},
    }
    if plain is not None:
        found["continuation"]["plain"] = continuation(load(plain), pieces)
    accompany = getattr(notelstm, "accompany", None)
    if accompany is not None:
        found["parallels"] = harmonised(bundle, pieces, accompany)
    return found


def measure_piano(path: Path, start: Path, maestro: Path, number: int) -> dict[str, Any]:
    """The figures of the piano model, beside the one before its fine-tuning."""
    bundle, before = load(path), load(start)
    music = open_music(str(maestro), bundle.read_policy)
    pieces, training = list(music.side("validation")), list(music.side("train"))
    some = pieces[:: max(1, len(pieces) // 20)]
    return {
        "parameters": parameters(bundle),
        "bytes": path.stat().st_size,
        "gaps": gaps(bundle, pieces, training, number, before),
        "continuation": {
            "pieces": len(some),
            "given": continuation(bundle, some),
            "plain": continuation(before, some),
        },
    }


def parameters(bundle: Bundle) -> int:
    """The number of parameters of a model."""
    return sum(p.numel() for p in cast(nn.Module, bundle.model).parameters())


def continuation(bundle: Bundle, pieces: Sequence[Notes]) -> float:
    """Nats per note of whole pieces without given notes."""
    total = nats_per_note(bundle.generation_model, bundle.encoder, pieces).of("total")
    assert total is not None
    return total


ROWS: Final = {
    "given": "the model, given the others",
    "ahead": "the same model, which does not read first what follows",
    "left": "the same model, given nothing",
    "pretrained": "the model before fine-tuning",
    "4-gram": "4-gram",
    "bigram": "bigram",
    "copy of the note before": "copy of the note before",
}


def tables(results: Mapping[str, Any]) -> str:
    """The tables of what is measured."""
    lines: list[str] = []
    if "chorales" in results:
        lines += chorale_tables(results["chorales"])
    if "piano" in results:
        piano = results["piano"]
        lines += ["", *gap_table(piano["gaps"])]
        free = piano["continuation"]
        lines += ["", f"Free continuation of {free['pieces']} pieces, nats per note:", ""]
        lines += ["| before fine-tuning | after it | more |", "|---|---|---|"]
        lines += [cost_row(free)]
    return "\n".join(lines).strip() + "\n"


def chorale_tables(found: Mapping[str, Any]) -> list[str]:
    """The tables of the model of chorales."""
    by_name = found["voices"]
    names = [name for name in by_name["given"] if name != "all"]
    lines = ["| pitch and duration, nats per note | alto, tenor and bass | " + " | ".join(names)]
    lines = [f"{lines[0]} | pitch alone |", "|---" * (len(names) + 3) + "|"]
    for key in ("given", "left"):
        row = by_name[key]
        cells = [f"{row[n]['pitch'] + row[n]['duration']:.2f}" for n in ("all", *names)]
        lines.append(f"| {ROWS[key]} | {' | '.join(cells)} | {row['all']['pitch']:.2f} |")
    lines += ["", f"| right pitches | alto, tenor and bass | {' | '.join(names)} |"]
    lines += ["|---" * (len(names) + 2) + "|"]
    for key in ("given", "left"):
        cells = [f"{by_name[key][name]['right']:.1%}" for name in ("all", *names)]
        lines.append(f"| {ROWS[key]} | {' | '.join(cells)} |")
    lines += ["", f"| all fields, nats per note | alto, tenor and bass | {' | '.join(names)} |"]
    lines += ["|---" * (len(names) + 2) + "|"]
    for key, label in ROWS.items():
        # Without given notes, the soprano comes first in a chord, with the time of the others.
        if key in by_name and key != "left":
            cells = [f"{by_name[key][name]['total']:.2f}" for name in ("all", *names)]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", *gap_table(found["gaps"])]
    if "parallels" in found:
        head = ("parallel fifths", "parallel octaves", "notes", "time that a lower voice sounds")
        lines += ["", f"| in a piece, on average | {' | '.join(head)} |", "|---|---|---|---|---|"]
        lines += [
            f"| {name} | {row['fifths']:.2f} | {row['octaves']:.2f} | {row['notes']:.0f} "
            f"| {row['sounding']:.0%} |"
            for name, row in found["parallels"].items()
        ]
    free = found["continuation"]
    if "plain" in free:
        lines += ["", f"Free continuation of {found['pieces']} pieces, nats per note:", ""]
        lines += ["| trained without given notes | with them | more |", "|---|---|---|"]
        lines += [cost_row(free)]
    return lines


def cost_row(free: Mapping[str, float]) -> str:
    """What given notes cost free continuation."""
    more = free["given"] - free["plain"]
    return f"| {free['plain']:.2f} | {free['given']:.2f} | {more:+.3f} |"


def gap_table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A table of gaps."""
    lengths = list(found)
    head = " | ".join(f"gap of {seconds} s" for seconds in lengths)
    lines = [f"| nats per note | {head} |", "|---" * (len(lengths) + 1) + "|"]
    for key, label in ROWS.items():
        if all(key in row for row in found.values()):
            cells = " | ".join(f"{found[seconds][key]:.2f}" for seconds in lengths)
            lines.append(f"| {label} | {cells} |")
    notes = " | ".join(f"{found[seconds]['notes']:.0f}" for seconds in lengths)
    return [*lines, f"| notes | {notes} |"]


def main() -> None:
    """Train a model, or measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", choices=["chorales", "chorales-plain", "piano"])
    parser.add_argument("--output", type=Path, help="the model file of --train")
    parser.add_argument("--minutes", type=float, help="the time of training by the clock")
    parser.add_argument("--start", type=Path, help="the model that --train piano starts from")
    parser.add_argument("--limit", type=int, help="the most pieces of each corpus")
    parser.add_argument("--maestro", type=Path)
    parser.add_argument("--asap", type=Path)
    parser.add_argument("--chorales", type=Path, help="the model of chorales to measure")
    parser.add_argument("--plain", type=Path, help="the one that was trained without given notes")
    parser.add_argument("--piano", type=Path, help="the piano model to measure")
    parser.add_argument("--before", type=Path, help="the one before its fine-tuning")
    parser.add_argument("--gaps", type=int, default=NUM_GAPS, help="the number of piano gaps")
    parser.add_argument("--table", action="store_true", help="only rewrite the tables")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.train is not None:
        if given.output is None:
            parser.error("--output is missing")
        if given.train != "piano":
            train_chorales(given.output, given.minutes, plain=given.train == "chorales-plain")
            return
        if given.maestro is None or given.asap is None or given.start is None:
            parser.error("--maestro, --asap or --start is missing")
        train_piano(
            given.output, given.maestro, given.asap, given.minutes, given.limit, given.start
        )
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if given.chorales is not None:
        results["chorales"] = measure_chorales(given.chorales, given.plain)
    if given.piano is not None:
        if given.maestro is None or given.before is None:
            parser.error("--maestro or --before is missing")
        results["piano"] = measure_piano(given.piano, given.before, given.maestro, given.gaps)
    with atomic_write(RESULTS) as beside:
        beside.write_text(json.dumps(results, indent=1) + "\n")
    with atomic_write(TABLE) as beside:
        beside.write_text(tables(results))


if __name__ == "__main__":
    main()
