"""``notelstm evaluate``, and its report as tables."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, get_args

import tyro
from tyro.conf import arg

from notelstm.cli.music import Music, Side, open_corpus, open_music
from notelstm.cli.options import Flag, shown
from notelstm.cli.reading_options import Reading, left_out_of_corpus
from notelstm.data.corpus import Corpus
from notelstm.errors import BundleError, ConfigError, DataError, counted
from notelstm.midi import ReadPolicy
from notelstm.notes import Notes

if TYPE_CHECKING:
    from notelstm.bundle import Bundle
    from notelstm.evaluation import RepetitionReport, Report, SampleReport, Scores

__all__ = ["evaluate"]


def evaluate(
    what: Annotated[tuple[str, ...], tyro.conf.Positional, arg(metavar="[MODEL] FOLDER")],
    /,
    *,
    split: Annotated[Side | None, shown("|".join(get_args(Side)), "see above")] = None,
    train: Annotated[str | None, shown("FOLDER")] = None,
    max_files: Annotated[int | None, shown("N", "all")] = None,
    samples: Annotated[tuple[int, ...] | None, shown("[N]", "none; 20 if given")] = None,
    samples_from: Annotated[str | None, shown("FOLDER")] = None,
    notes: Annotated[int, arg(metavar="N")] = 1000,
    prompt_notes: Annotated[int, arg(metavar="N")] = 0,
    seed: Annotated[int, arg(metavar="N")] = 0,
    adapt: Flag = False,
    json: Flag = False,
    reading: Annotated[Reading, arg(name="")] = Reading(),  # noqa: B008 - it cannot change
) -> None:
    """Measure a model on held-out music, in nats per note on a 10 ms grid.

    Lower is better; a uniform guess at 128 pitches costs 4.85. The figures do not depend on the
    encoder, so any two models can be compared. Scores start at the 26th note of each piece.
    `pitch_step_duration` is the sum of these fields; `total` adds velocity, and the instrument of
    models that have a field for it. For them, `without_instrument` sums the instrument out, which
    is comparable with the total of other models, and each part is scored apart; the pitch of a
    drum is its key. Baselines and confidence intervals are printed beside the figures. With
    --samples the model also generates music, which is compared with the same pieces: its
    similarity, symptoms of degenerate output, repetition of its own passages, and with --train,
    copies of training pieces.

    Args:
        what: A model file that `notelstm train` wrote (default: the pretrained model), and MIDI
            files that it was not trained on: a folder, a single file, or the name of a corpus such
            as `bach`.
        split: The pieces to measure. For MAESTRO, a side of its own table, validation by default.
            For other sources, validation is the part that `notelstm train --validation` set aside
            for this model; all is the default.
        train: The training pieces, a folder, file or corpus: n-gram baselines are counted in them,
            and samples are searched for their passages. If the source has a split, only its
            training side is read.
        max_files: Measure at most N pieces.
        samples: Generate N pieces with the model.
        samples_from: Compare these MIDI files in place of generated pieces.
        notes: Number of notes of each sample.
        prompt_notes: Generate continuations of the first N notes of different pieces; only the
            continuations are compared.
        seed: Random seed of the samples.
        adapt: Score the model a second time with dynamic evaluation: a copy adapts to each piece
            while it is scored.
        json: Print one line of JSON; a figure that the model does not have is null.
        reading: How files are read; settings that are not given are the model's own.
    """
    from notelstm.adaptation import Adaptation
    from notelstm.bundle import load
    from notelstm.evaluation import evaluate as measure
    from notelstm.evaluation import evaluate_samples
    from notelstm.generation import generate_batch

    if not 1 <= len(what) <= 2 or (len(what) == 1 and what[0].endswith(".notelstm")):
        problem = "no folder is given" if len(what) < 2 else f"{len(what)} names are given"
        raise ConfigError(problem, hint="run notelstm evaluate [MODEL] FOLDER")
    *model, folder = what
    bundle = load(*model)
    count = _count(samples, samples_from)
    if count and notes < 2:
        raise ConfigError(
            f"--notes {notes}: samples of fewer than 2 notes cannot be compared",
            hint="give 2 or more",
        )
    policy = reading.policy(bundle.read_policy)
    music = _music(folder, bundle, policy)
    pieces = music.side(split or ("validation" if music.by_table else "all"), max_files)
    if samples_from is not None:
        corpus = open_corpus(samples_from, policy)
        _print_left_out(samples_from, corpus)
        written = list(corpus)
    elif count and prompt_notes:
        written = _continued(bundle, pieces, count, prompt_notes, notes, seed)
    else:
        written = generate_batch(bundle, notes, batch_size=count, seed=seed) if count else []
    real = pieces.longer_than(1)
    training_music = None if train is None else _music(train, bundle, policy)
    known = None if training_music is None else training_music.side("train")
    _print_left_out(folder, music.corpus)
    if train is not None and training_music is not None and train != folder:
        _print_left_out(train, training_music.corpus)
    training = None if known is None else zip(known.names, known, strict=True)
    # Samples first: a piece that is too short ends the command before the long work.
    if written and len(real) < len(pieces):
        left = counted(len(pieces) - len(real), "piece")
        print(f"notelstm: not compared with samples: {left} of fewer than 2 notes", file=sys.stderr)
    found = evaluate_samples(written, real, training) if written else None
    settings = Adaptation() if adapt else None
    report = measure(bundle, pieces, names=pieces.names, training=known, adapt=settings)
    if json:
        more = {} if found is None else {"samples": found.to_json()}
        print(json_format.dumps({**report.to_json(), **more}, allow_nan=False))
        return
    print("\n".join(_report_lines(report)))
    if found is not None:
        print("\n".join(["", *_sample_lines(found)]))


def _print_left_out(where: str, corpus: Corpus) -> None:
    """Print the notes that the policy leaves out of a source, if there are any."""
    left_out = left_out_of_corpus(corpus.report)
    if left_out:
        # Standard output is for the figures: with --json it is one line.
        print(f"notelstm: {where}: {left_out}", file=sys.stderr)


def _count(samples: tuple[int, ...] | None, folder: str | None) -> int:
    """The number of samples to generate; ConfigError if the options are wrong."""
    if samples is None:
        return 0
    if folder is not None:
        raise ConfigError("--samples and --samples-from contradict each other", hint="give one")
    wanted = samples or (20,)
    if len(wanted) > 1 or wanted[0] < 2:
        given = " ".join(map(str, wanted))
        raise ConfigError(
            f"--samples {given} is not a number of at least 2", hint="give one, or none for 20"
        )
    return wanted[0]


def _continued(
    bundle: Bundle, pieces: Sequence[Notes], count: int, prompt: int, notes: int, seed: int
) -> list[Notes]:
    """Continuations of the first notes of pieces, spread over all of them."""
    from notelstm.generation import generate

    if prompt < 0:
        raise ConfigError(f"--prompt-notes {prompt} is below 0", hint="give 0 or more")
    long = [piece for piece in pieces if len(piece) > prompt]
    if not long:
        longest = counted(max(map(len, pieces), default=0), "note")
        raise DataError(
            f"no piece is longer than --prompt-notes {prompt}; the longest has {longest}",
            hint="lower --prompt-notes",
        )
    return [
        generate(bundle, notes, prompt=long[k * len(long) // count][:prompt], seed=seed + k)
        for k in range(count)
    ]


def _music(where: str, bundle: Bundle, policy: ReadPolicy) -> Music:
    """A source of music, read and split as it was for this model."""
    share = bundle.settings.get("held_out", 0.0)
    if not (isinstance(share, int | float) and 0 <= share < 1):
        raise BundleError(
            f"the model records {share!r} as the share of pieces that were set aside",
            hint="copy the file again",
        )
    return open_music(where, policy, share=share)


def _report_lines(report: Report) -> list[str]:
    """The figures of a model beside those of its baselines."""
    from notelstm.evaluation import FIGURES, intervals
    from notelstm.evaluation.grid import FIRST

    scores = report.model
    known = intervals(scores)
    rows = [["", "model", "95 % interval", *report.baselines]]
    has_instruments = bool(scores.parts)
    for figure in FIGURES:
        if "instrument" in figure and not has_instruments:
            continue
        estimate = known.get(figure)
        between = "" if estimate is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
        others = [_figure(baseline.of(figure)) for baseline in report.baselines.values()]
        rows.append([figure, _figure(scores.of(figure)), between, *others])
    size = f"{counted(len(scores.pieces), 'piece')}, {counted(scores.notes, 'note')}"
    lines = [f"{size}; nats per note:", *_aligned(rows), ""]
    if has_instruments:
        lines += [*_aligned(_part_rows(scores)), ""]
    if scores.merged:
        lines.append(f"merged by the encoder, and not scored: {counted(scores.merged, 'note')}")
    if scores.too_short:
        lines.append(f"left out: {counted(scores.too_short, 'piece')} of {FIRST} notes or fewer")
    if scores.rejected:
        lines.append(f"left out: {counted(len(scores.rejected), 'piece')} rejected by the encoder")
    if (end := scores.of("end")) is not None:
        lines.append(f"the end of a piece costs {end:.4f} more nats per note")
    if scores.bits_per_second is not None:
        lines.append(f"a second of music costs {scores.bits_per_second:.1f} bits")
    for role, made in scores.reliability.items():
        lines.append(
            f"{role}: top-1 accuracy {made.top1:.1%}, top-5 {made.top5:.1%}; calibration error "
            f"{made.error:.3f}"
        )
    return lines + _against(report) + _adapted(report)


def _part_rows(scores: Scores) -> list[list[str]]:
    """The figures of the notes of each part; a drum's pitch is its key."""
    from notelstm.evaluation import FIGURES

    rows = [["part", "notes", *(figure.replace("_", " ") for figure in FIGURES)]]
    for name, score in scores.parts.items():
        rows.append([name, f"{score.notes:,}", *(_figure(score.of(figure)) for figure in FIGURES)])
    return rows


def _sample_lines(report: SampleReport) -> list[str]:
    """Similarity, symptoms, repetition and copies of samples."""
    alike, health, copies = report.similarity, report.health, report.memorisation
    rows = [["", "overlap", "KL", "within real", "within samples", "between"]]
    for made in alike.features:
        distances = (made.within_real, made.within_generated, made.between)
        rows.append(
            [made.feature, f"{made.overlap:.3f}", f"{made.kl:.3f}", *map(_figure, distances)]
        )
    lines = [
        f"{counted(alike.generated, 'sample')} beside {counted(alike.real, 'real piece')}, "
        f"{counted(alike.notes, 'note')} of each; an overlap of 1 is as alike as real pieces are, "
        "0 not at all:",
        *_aligned(rows),
        "",
        f"degenerate: {len(health.flagged):,} of {counted(alike.generated, 'sample')}, beyond all "
        f"of {counted(health.excerpts, 'real excerpt')}:",
        *(f"  {made.symptom.name:<12} {made.sentence}" for made in health.diagnoses),
        "",
        *_repetition_lines(report.repetition),
        "",
    ]
    if copies is None:
        return [*lines, "copies: not searched for without --train"]
    return [*lines, f"copies: {copies.sentence}"]


def _repetition_lines(report: RepetitionReport) -> list[str]:
    """The shares of notes that repeat an earlier passage."""
    from notelstm.evaluation.repetition import DISTANT, SHARES, SHORTEST

    names = {
        "same_key": "in the same key",
        "transposed": "transposed",
        "distant": f"in the same key, {DISTANT:.0f} s later",
    }
    rows = [["", "samples", "real pieces", "most real pieces", "samples with less", "with more"]]
    for share in SHARES:
        mean, real = report.mean(share)
        low, high = report.usual(share)
        less, more = report.outside(share)
        between = f"{low:.1%} to {high:.1%}"
        rows.append([names[share], f"{mean:.1%}", f"{real:.1%}", between, f"{less:,}", f"{more:,}"])
    return [
        f"notes that repeat an earlier passage of {SHORTEST} notes or more, in the first "
        f"{counted(report.notes, 'note')} of each; as many as in real pieces are best:",
        *_aligned(rows),
    ]


def _against(report: Report) -> list[str]:
    """The difference to the best of the baselines, with its confidence interval."""
    from notelstm.evaluation import compare

    figure = "pitch_step_duration" if report.model.total is None else "total"
    costs = {name: scores.of(figure) for name, scores in report.baselines.items()}
    best = min(costs, key=lambda name: costs[name] or 0.0)
    if len(report.model.pieces) < 2 or report.model.of(figure) is None:
        return []
    found = compare(report.model, report.baselines[best])
    value, low, high = found.differences[figure]
    return [
        f"{figure}: {abs(value):.3f} nats per note {'less' if value < 0 else 'more'} than {best} "
        f"({low:+.3f} to {high:+.3f}), better on {found.better[figure]:,} of "
        f"{counted(found.pieces, 'piece')}"
    ]


def _adapted(report: Report) -> list[str]:
    """The figures with dynamic evaluation, and its cost."""
    adapted = report.adapted
    if adapted is None:
        return []
    figure = "pitch_step_duration" if report.model.total is None else "total"
    fixed, made = report.model.of(figure), adapted.scores.of(figure)
    change = "" if made is None or fixed is None else f" ({made - fixed:+.3f})"
    return [
        f"adapted to each piece every {counted(adapted.settings.segment, 'row')}: {figure} "
        f"{_figure(made)}{change}; {1e3 * adapted.seconds_per_note:.2f} ms per note in place of "
        f"{1e3 * adapted.fixed_seconds_per_note:.2f}"
    ]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            ["", row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
