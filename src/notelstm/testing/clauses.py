"""Runs contract checks: each clause is a function, whose name is in the error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

__all__ = ["for_all", "require", "run"]

T = TypeVar("T")


def require(holds: object, message: str) -> None:
    """Raise an AssertionError unless a condition holds, also under ``python -O``."""
    if not holds:
        raise AssertionError(message)


def run(check: str, clauses: Sequence[Callable[[T], None]], case: T) -> None:
    """Run the clauses of the contract `check` in order: functions that raise if they are broken.

    Raises:
        AssertionError: At the first broken clause: its name, its docstring and the failure.
    """
    for clause in clauses:
        try:
            clause(case)
        except Exception as error:  # any exception of a broken part breaks the clause
            summary = (inspect.getdoc(clause) or "").splitlines()[0]
            kind = type(error).__name__
            found = str(error) if isinstance(error, AssertionError) else f"Raised {kind}: {error}"
            name = clause.__name__.lstrip("_")
            raise AssertionError(f"{check}, {name}: {summary} {found}") from error


def for_all(strategy: SearchStrategy[T], examples: int, holds: Callable[[T], None]) -> None:
    """Test a property on a number of Hypothesis's examples, the same ones each time."""
    run_on_examples = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],  # explaining traces every line, which is slow
        suppress_health_check=list(HealthCheck),
    )
    run_on_examples(given(strategy)(holds))()
