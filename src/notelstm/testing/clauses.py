"""How contract checks run: one small function a clause, whose name is in the error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

__all__ = ["for_all", "require", "run"]

T = TypeVar("T")


def require(holds: object, message: str) -> None:
    """Fail a clause unless it holds; unlike ``assert`` also under ``python -O``.

    Raises:
        AssertionError: With the message.
    """
    if not holds:
        raise AssertionError(message)


def run(check: str, clauses: Sequence[Callable[[T], None]], case: T) -> None:
    """Try every clause in turn on what is checked.

    Args:
        check: The name of the contract.
        clauses: Functions that raise where the clause is broken.
        case: What they look at.

    Raises:
        AssertionError: At the first clause that is broken: its name, what it says, what was found.
    """
    for clause in clauses:
        try:
            clause(case)
        except Exception as error:  # whatever a broken part raises, it breaks this clause
            said = (inspect.getdoc(clause) or "").splitlines()[0]
            kind = type(error).__name__
            found = str(error) if isinstance(error, AssertionError) else f"Raised {kind}: {error}"
            name = clause.__name__.lstrip("_")
            raise AssertionError(f"{check}, {name}: {said} {found}") from error


def for_all(strategy: SearchStrategy[T], examples: int, holds: Callable[[T], None]) -> None:
    """Try a property on examples that Hypothesis makes, the same ones each time.

    Args:
        strategy: What to make.
        examples: How many.
        holds: Raises where the property is broken; Hypothesis then looks for the smallest example.
    """

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],  # explaining traces every line, which is slow
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def property_holds(value: T) -> None:
        holds(value)

    property_holds()
