"""The report of ``notelstm evaluate`` in words and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from notelstm.errors import counted

if TYPE_CHECKING:
    from notelstm.evaluation import Report, SampleReport

__all__ = ["report_lines", "sample_lines"]


def report_lines(report: Report) -> list[str]:
    """The figures of a model beside those of its baselines."""
    from notelstm.evaluation import FIGURES, intervals
    from notelstm.evaluation.grid import FIRST

    scores = report.model
    known = intervals(scores)
    rows = [["", "model", "95 % interval", *report.baselines]]
    for figure in FIGURES:
        estimate = known.get(figure)
        between = "" if estimate is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
        others = [_figure(baseline.of(figure)) for baseline in report.baselines.values()]
        rows.append([figure, _figure(scores.of(figure)), between, *others])
    size = f"{counted(len(scores.pieces), 'piece')}, {counted(scores.notes, 'note')}"
    lines = [f"{size}; nats per note:", *_aligned(rows), ""]
    if scores.too_short:
        lines.append(f"left out: {counted(scores.too_short, 'piece')} of {FIRST} notes or fewer")
    if scores.refused:
        lines.append(f"left out: {counted(len(scores.refused), 'piece')} refused by the encoder")
    if scores.bits_per_second is not None:
        lines.append(f"a second of music costs {scores.bits_per_second:.1f} bits")
    for role, made in scores.reliability.items():
        lines.append(
            f"{role}: top-1 accuracy {made.top1:.1%}, top-5 {made.top5:.1%}; calibration error "
            f"{made.error:.3f}"
        )
    return lines + _against(report)


def sample_lines(report: SampleReport) -> list[str]:
    """Likeness, symptoms and copies of samples."""
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
    ]
    if copies is None:
        return [*lines, "copies: not searched for without --train"]
    return [*lines, f"copies: {copies.sentence}"]


def _against(report: Report) -> list[str]:
    """Whether the model is surely better than the best of its baselines."""
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
