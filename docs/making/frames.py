"""A player's page inside a page of the site."""

from __future__ import annotations

import html

__all__ = ["frame"]

# As high as what is in it. A frame that brings its page along may be asked how high that is, one
# that names a file may not where the site is opened from the disk.
_FIT = "this.style.height = this.contentDocument.body.offsetHeight + 'px'"


def frame(page: str, title: str) -> str:
    """Markdown that shows a page in a frame.

    Args:
        page: The page's HTML.
        title: What is in it, for those who cannot see it.
    """
    inside = f'class="player" title="{html.escape(title)}" onload="{_FIT}"'
    return f'```{{raw}} html\n<iframe {inside} srcdoc="{html.escape(page)}"></iframe>\n```'
