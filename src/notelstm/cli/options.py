"""Types of options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import tyro
from tyro.conf import arg

__all__ = ["Flag", "shown"]

Flag: TypeAlias = Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(help_behavior_hint="")]
"""An option without a value."""


def shown(metavar: str, default: str = "", **settings: Any) -> Any:
    """An option as the help shows it: the name of its value, and its default in words."""
    return arg(metavar=metavar, help_behavior_hint=default and f"(default: {default})", **settings)
