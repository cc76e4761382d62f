"""What processors and samplers check of their settings."""

from __future__ import annotations

import numbers
from collections.abc import Iterable

from notelstm.errors import ConfigError
from notelstm.protocols import Processor

__all__ = ["as_processors", "check_number", "check_whole"]


def check_whole(
    what: str, value: object, least: int = 0, most: int | None = None, hint: str = ""
) -> None:
    """Refuse what is no whole number in a range.

    Args:
        what: The name of the setting.
        value: Its value.
        least: The least that it can be.
        most: The greatest, None for no end.
        hint: What to do instead.

    Raises:
        ConfigError: If it is none.
    """
    if isinstance(value, numbers.Integral) and least <= int(value) <= (
        int(value) if most is None else most
    ):
        return
    domain = f", at least {least}" if most is None else f" from {least} to {most}"
    raise ConfigError(f"{what} {value!r} is not a whole number{domain}", hint=hint)


def check_number(what: str, value: object, least: float, most: float, hint: str = "") -> None:
    """Refuse what is no number in a range; the arguments are those of :func:`check_whole`.

    Raises:
        ConfigError: If it is none.
    """
    if not isinstance(value, numbers.Real) or not least <= float(value) <= most:
        raise ConfigError(f"{what} {value!r} is not a number from {least:g} to {most:g}", hint=hint)


def as_processors(given: object) -> tuple[Processor, ...]:
    """The processors of a sampler.

    Raises:
        ConfigError: If they are not several things that can be called.
    """
    several = tuple(given) if isinstance(given, Iterable) else None
    if several is None or not all(map(callable, several)):
        raise ConfigError(
            f"{given!r} is not a sequence of processors",
            hint="give a tuple, (Scale(name='D dorian'),)",
        )
    return several
