"""What ``notelstm evaluate`` says in words and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notelstm.evaluation import Report, SampleReport

__all__ = ["report_lines", "sample_lines"]


def report_lines(report: Report) -> list[str]:
    """The figures of a model beside those of its baselines."""
    from notelstm.evaluation import FIGURES, intervals

    scores = report.model
    known = intervals(scores)
    rows = [["", "model", "95 % interval", *report.baselines]]
    for figure in FIGURES:
        estimate = known.get(figure)
        between = "" if estimate is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
        others = [_figure(baseline.of(figure)) for baseline in report.baselines.values()]
        rows.append([figure, _figure(scores.of(figure)), between, *others])
    pieces = len(scores.pieces)
    lines = [f"{pieces} pieces, {scores.notes:,} notes; nats per note:", *_aligned(rows), ""]
    if scores.bits_per_second is not None:
        lines.append(f"a second of music costs {scores.bits_per_second:.1f} bits")
    for role, made in scores.reliability.items():
        lines.append(
            f"{role}: the most likely is right {made.top1:.1%} of the time, the right one among "
            f"five {made.top5:.1%}; calibration error {made.error:.3f}"
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
        f"{alike.generated} samples beside {alike.real} real pieces, {alike.notes:,} notes of "
        "each; an overlap of 1 is as alike as real pieces are, 0 not at all:",
        *_aligned(rows),
        "",
        f"{len(health.ill)} of {alike.generated} samples are ill, beyond all of {health.excerpts} "
        "real excerpts:",
        *(f"  {made.symptom.name:<12} {made.sentence}" for made in health.diagnoses),
        "",
    ]
    if copies is None:
        return [*lines, "copies: not looked for without --train"]
    return [*lines, f"copies: {copies.sentence}"]


def _against(report: Report) -> list[str]:
    """Whether the model is surely better than the best of its baselines."""
    from notelstm.evaluation import compare

    figure = "psd" if report.model.total is None else "total"
    costs = {name: scores.of(figure) for name, scores in report.baselines.items()}
    best = min(costs, key=lambda name: costs[name] or 0.0)
    if len(report.model.pieces) < 2 or report.model.of(figure) is None:
        return []
    found = compare(report.model, report.baselines[best])
    value, low, high = found.differences[figure]
    return [
        f"{figure}: {abs(value):.3f} nats per note {'less' if value < 0 else 'more'} than {best} "
        f"({low:+.3f} to {high:+.3f}), better on {found.better[figure]} of {found.pieces} pieces"
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
