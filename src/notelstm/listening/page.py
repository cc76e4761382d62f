"""A page to listen to: one HTML file with piano rolls and a piano, which needs no network."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np

from notelstm._version import __version__
from notelstm.errors import ConfigError
from notelstm.files import written_whole
from notelstm.listening.chart import Chart
from notelstm.listening.piano import PIANO
from notelstm.midi import midi_bytes
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

Layout: TypeAlias = Literal["page", "compact"]
"""A page of its own, or a player inside another page, without heading and help."""

_NOTEBOOK_HEIGHT: Final = 400


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """A piece on a page.

    Args:
        notes: The piece.
        title: What it is called; "" for a number.
        prompt_notes: How many of the first notes are the prompt, which the others go on from.

    Raises:
        ConfigError: If the prompt's length is below 0.
    """

    notes: Notes
    title: str = ""
    prompt_notes: int = 0

    def __post_init__(self) -> None:
        """Check the prompt."""
        if self.prompt_notes < 0:
            raise ConfigError("a prompt has 0 notes or more", got=f"{self.prompt_notes}")


def save_page(
    samples: Sequence[Sample],
    path: str | os.PathLike[str],
    *,
    title: str = "Music",
    lead: str = "",
    charts: Sequence[Chart] = (),
    details: Details | None = None,
) -> None:
    """Write a page that shows and plays pieces: one file, whole or not at all.

    Args:
        samples: The pieces; none only where there are charts or details.
        path: Where to; ``.html``.
        title: The page's heading.
        lead: A sentence below the heading.
        charts: Charts above the player.
        details: Tables below the player: a model's card, its settings.

    Raises:
        ConfigError: If the suffix is another, or there is nothing to show.
        OutputError: If the file cannot be written.
    """
    check_page_path(path)
    page = page_html(samples, title=title, lead=lead, charts=charts, details=details)
    with written_whole(path) as beside:
        beside.write_text(page, encoding="utf-8")


def check_page_path(path: str | os.PathLike[str]) -> None:
    """Refuse what is no page's name, before the work is done that the page is about.

    Raises:
        ConfigError: If the suffix is not ``.html`` or ``.htm``.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".html", ".htm"):
        raise ConfigError("a page ends in .html", got=repr(suffix), where=str(path))


def page_html(
    samples: Sequence[Sample],
    *,
    title: str = "Music",
    lead: str = "",
    charts: Sequence[Chart] = (),
    details: Details | None = None,
    layout: Layout = "page",
) -> str:
    """The text of such a page.

    Args:
        samples: The pieces; none only where there are charts or details.
        title: The page's heading.
        lead: A sentence below the heading.
        charts: Charts above the player.
        details: Tables below the player.
        layout: ``"page"``, or ``"compact"`` for inside another page.

    Raises:
        ConfigError: If there is nothing to show.
    """
    if not (samples or charts or details):
        raise ConfigError("a page has at least one piece, chart or table", got="none")
    data = {
        "piano": dict(PIANO),
        "samples": [_sample(sample) for sample in samples],
        "details": {
            heading: {name: str(value) for name, value in table.items()}
            for heading, table in (details or {}).items()
        },
    }
    several = "several" if len(samples) > 1 else "single"
    filled = {
        "version": html.escape(__version__),
        "title": html.escape(title),
        "lead": f'<p class="lead">{html.escape(lead)}</p>' if lead else "",
        "charts": _section(charts),
        "layout": f"{layout} {several}",
        "css": _text("page.css"),
        "sound": _text("sound.js"),
        "script": _text("page.js"),
        "data": _json(data),
    }
    # In one go: what is filled in is not looked through again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _text("page.html"))


def notebook_html(notes: Notes) -> str:
    """A small player for a notebook's cell, in a frame of its own.

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


def _text(name: str) -> str:
    return (files("notelstm.listening") / name).read_text(encoding="utf-8").strip()


def _sample(sample: Sample) -> dict[str, Any]:
    pitched = np.ones(len(sample.notes), np.bool_)
    if sample.notes.drum is not None:
        # A piano has no percussion; the MIDI file keeps it.
        pitched = ~sample.notes.drum
    notes = sample.notes[pitched]
    return {
        "title": sample.title,
        "prompt_notes": int(pitched[: sample.prompt_notes].sum()),
        "seconds": round(notes.seconds, 4),
        "start": np.round(notes.start, 4).tolist(),
        "duration": np.round(notes.duration, 4).tolist(),
        "pitch": notes.pitch.tolist(),
        "velocity": notes.velocity.tolist(),
        "midi": base64.b64encode(midi_bytes(sample.notes, short="lengthen")).decode(),
    }


def _json(data: object) -> str:
    """JSON that nothing inside can break out of: no tag and no comment can begin in it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
