"""A player page embedded in a page of the site."""

from __future__ import annotations

import html

__all__ = ["frame"]

# The frame takes the height of its content. Scripts may read that height in a ``srcdoc`` frame, but
# not in one that names a file if the site is opened from disk.
_FIT = "this.style.height = this.contentDocument.body.offsetHeight + 'px'"


def frame(page: str, title: str) -> str:
    """Markdown that shows a page in a frame.

    Args:
        page: The page's HTML.
        title: A description for screen readers.
    """
    inside = f'class="player" title="{html.escape(title)}" onload="{_FIT}"'
    return f'```{{raw}} html\n<iframe {inside} srcdoc="{html.escape(page)}"></iframe>\n```'
