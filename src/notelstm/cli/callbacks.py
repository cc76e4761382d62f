"""The callbacks of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notelstm.training import Callback

__all__ = ["chosen_callbacks"]


def chosen_callbacks(
    named: Sequence[str],
    *,
    minutes: float | None = None,
    profile: bool = False,
    report: Path | None = None,
    title: str = "",
) -> list[Callback]:
    """Build the callbacks that the command line names.

    Args:
        named: ``name`` or ``name:key=value,key=value`` of each, as entry points name them.
        minutes: The time budget; None for none.
        profile: Whether to profile operations.
        report: The page to write on the run, with samples; None for none.
        title: The page's heading.

    Raises:
        PluginError: If there is no such callback.
        ConfigError: If a setting does not exist or cannot have that value.
    """
    from notelstm.recipes.overrides import part
    from notelstm.training import Profile, Report, Samples, TimeBudget

    chosen: list[Callback] = []
    for text in named:
        name, _, settings = text.partition(":")
        chosen.append(part("callbacks", name, settings.split(",") if settings else ()))
    if minutes is not None:
        chosen.append(TimeBudget(minutes=minutes))
    if profile:
        chosen.append(Profile())
    if report is not None:
        if not any(isinstance(callback, Samples) for callback in chosen):
            chosen.append(Samples())
        # Last, since it shows the output of the others.
        chosen.append(Report(path=str(report), title=title))
    return chosen
