"""The player page: one HTML file with piano rolls and a synthesised piano, for offline use."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np

from notelstm._version import __version__
from notelstm.errors import ConfigError
from notelstm.files import atomic_write, checked_suffix, displayable
from notelstm.listening.chart import Chart
from notelstm.listening.synthesis import PIANO
from notelstm.midi import midi_bytes_with_report
from notelstm.notes import Notes

__all__ = [
    "Details",
    "Layout",
    "Sample",
    "check_page_path",
    "notebook_html",
    "page_html",
    "save_page",
]

Details: TypeAlias = Mapping[str, Mapping[str, object]]
"""Tables by heading, such as ``{"Model": {"encoder": "log-time"}}``."""

_log = logging.getLogger(__name__)

Layout: TypeAlias = Literal["page", "compact"]
"""A whole page, or a player to embed in another page, without heading and help."""

_NOTEBOOK_HEIGHT: Final = 400

_POLICY: Final = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""Allows the page's own script and style, by hash, and no request. The icon is an empty data URL;
sound is synthesised and the MIDI file is a link, so neither needs a directive."""


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """One piece on a page.

    Args:
        notes: The piece.
        title: Its title; "" for a number.
        prompt_notes: The number of notes at the beginning that are the prompt.

    Raises:
        ConfigError: If `prompt_notes` is negative.
    """

    notes: Notes
    title: str = ""
    prompt_notes: int = 0

    def __post_init__(self) -> None:
        """Check the prompt."""
        if self.prompt_notes < 0:
            raise ConfigError(
                f"negative prompt length {self.prompt_notes}", hint="use 0 for no prompt"
            )


def save_page(
    samples: Sequence[Sample],
    path: str | os.PathLike[str],
    *,
    title: str = "Music",
    lead: str = "",
    charts: Sequence[Chart] = (),
    details: Details | None = None,
) -> None:
    """Write a page that shows and plays pieces, whole or not at all.

    The page is one file. Its content security policy allows the scripts and styles that it
    contains, and no others, and no connection to any host.

    Args:
        samples: The pieces; may be empty if there are charts or details.
        path: The file to write, ``.html`` or ``.htm``.
        title: The heading. Bytes of a file name that are not UTF-8 are shown as U+FFFD, here as in
            every text of the page.
        lead: A sentence below the heading.
        charts: Charts above the player.
        details: Tables below the player, such as a model card or its settings.

    Raises:
        ConfigError: If the file has another suffix, or there is nothing to show.
        OutputError: If the file cannot be written.
    """
    check_page_path(path)
    page = page_html(samples, title=title, lead=lead, charts=charts, details=details)
    with atomic_write(path) as beside:
        beside.write_text(page, encoding="utf-8")


def check_page_path(path: str | os.PathLike[str]) -> None:
    """Raise ConfigError unless the name of a page ends in ``.html`` or ``.htm``."""
    checked_suffix(path, (".html", ".htm"), "page")


def page_html(
    samples: Sequence[Sample],
    *,
    title: str = "Music",
    lead: str = "",
    charts: Sequence[Chart] = (),
    details: Details | None = None,
    layout: Layout = "page",
) -> str:
    """The HTML of a page; :func:`save_page` writes it.

    Args:
        samples: The pieces; may be empty if there are charts or details.
        title: The heading.
        lead: A sentence below the heading.
        charts: Charts above the player.
        details: Tables below the player.
        layout: ``"page"``, or ``"compact"`` to embed it in another page.

    Raises:
        ConfigError: If there is nothing to show.
    """
    if not (samples or charts or details):
        raise ConfigError("nothing to show", hint="give a sample, a chart or a table of details")
    data = {
        "piano": dict(PIANO),
        "samples": [_sample(sample) for sample in samples],
        "details": {
            heading: {name: str(value) for name, value in table.items()}
            for heading, table in (details or {}).items()
        },
    }
    # The hashes of the policy are those of the exact text between the tags.
    style = f"\n{_text('page.css')}\n"
    script = f'\n"use strict";\n{_text("sound.js")}\n{_text("page.js")}\n'
    several = "several" if len(samples) > 1 else "single"
    filled = {
        "version": html.escape(__version__),
        "title": html.escape(title),
        "lead": f'<p class="lead">{html.escape(lead)}</p>' if lead else "",
        "charts": _section(charts),
        "layout": f"{layout} {several}",
        "policy": _POLICY.format(style=_source_hash(style), script=_source_hash(script)),
        "style": style,
        "script": script,
        "data": _json(data),
    }
    # One substitution: placeholders inside the inserted texts are left alone.
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _text("page.html"))
    return displayable(page)


def notebook_html(notes: Notes) -> str:
    """A small player for a notebook cell, in an iframe.

    Args:
        notes: The piece.
    """
    page = page_html([Sample(notes=notes, title=repr(notes))], layout="compact")
    return (
        f'<iframe title="Music" style="width:100%;height:{_NOTEBOOK_HEIGHT}px;border:0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def _section(charts: Sequence[Chart]) -> str:
    if not charts:
        return ""
    figures = "\n".join(chart.figure() for chart in charts)
    return f'<section class="charts" aria-label="Charts" tabindex="0">\n{figures}\n</section>\n'


def _source_hash(text: str) -> str:
    """The CSP source expression of an inline block."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _text(name: str) -> str:
    return (files("notelstm.listening") / name).read_text(encoding="utf-8").strip()


def _sample(sample: Sample) -> dict[str, Any]:
    pitched = np.ones(len(sample.notes), np.bool_)
    if sample.notes.drum is not None:
        # The page has no percussion sounds; the MIDI file keeps the drums.
        pitched = ~sample.notes.drum
    notes = sample.notes[pitched]
    # Not a warning: the command line writes the same notes to a file and warns there.
    data, report = midi_bytes_with_report(sample.notes, short="lengthen")
    if report.changed:
        _log.info("the MIDI file of %r on the page: %s", sample.title, report)
    return {
        "title": sample.title,
        "prompt_notes": int(pitched[: sample.prompt_notes].sum()),
        "seconds": round(notes.end_time, 4),
        "start": np.round(notes.start, 4).tolist(),
        "duration": np.round(notes.duration, 4).tolist(),
        "pitch": notes.pitch.tolist(),
        "velocity": notes.velocity.tolist(),
        "midi": base64.b64encode(data).decode(),
    }


def _json(data: object) -> str:
    """JSON for a script element, with escapes so that no tag or comment can begin in it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
