"""Docstrings as plain text."""

from __future__ import annotations

import re

__all__ = ["plain"]


def plain(text: str) -> str:
    """A line of a docstring without its markup.

    Args:
        text: The line, in reStructuredText.

    Example:
        >>> plain("Like :class:`~notelstm.notes.Notes`, ``sorted``.")
        'Like Notes, sorted.'
    """
    text = re.sub(r":(?:\w+:)+`~(?:[\w.]*\.)?(\w+)`", r"\1", text)
    text = re.sub(r":(?:\w+:)+`([^`]*)`", r"\1", text)
    return re.sub(r"`+([^`]*)`+_*", r"\1", text)
