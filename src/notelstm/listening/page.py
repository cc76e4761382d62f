"""The player page: one HTML file with piano rolls and synthesised instruments, for offline use."""

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
from notelstm.listening.pianoroll import bar_starts
from notelstm.listening.styles import COLOURS, SHAPES, style_of
from notelstm.listening.timbres import TIMBRES, drum_sound_of, timbre_of
from notelstm.midi import midi_bytes_with_report
from notelstm.midi.writing import instrument_labels, instruments_of
from notelstm.notes import Notes
from notelstm.programs import drum_name

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

_MOST_NAMES: Final = 4
_NOTEBOOK_HEIGHT: Final = 500
_NOTEBOOK_INSTRUMENT: Final = 52
"""Pixels more for each of several instruments."""

_MOST_BARS: Final = 20_000

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
    numbers: dict[str, int] = {}
    shown = [_sample(sample, numbers) for sample in samples]
    parts = [part for sample in shown for part in sample["instruments"]]
    data = {
        # The piano's constants are those of the reverberation too.
        "timbres": {n: dict(TIMBRES[n]) for n in ("piano", *(p["timbre"] for p in parts)) if n},
        "drums": {
            key: {"name": drum_name(key), **drum_sound_of(key)}
            for key in sorted({key for sample in samples for key in _drum_keys(sample.notes)})
        },
        "colours": COLOURS,
        "shapes": SHAPES,
        "samples": shown,
        "details": {
            heading: {name: str(value) for name, value in table.items()}
            for heading, table in (details or {}).items()
        },
    }
    # The hashes of the policy are those of the exact text between the tags.
    style = f"\n{_shortened('page.css')}\n"
    scripts = "\n".join(map(_shortened, ("sound.js", "parts.js", "page.js")))
    # The modules are one script, because a page from disk cannot import any.
    script = f'\n"use strict";\n{re.sub("^export ", "", scripts, flags=re.MULTILINE)}\n'
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


def notebook_html(notes: Notes, title: str = "") -> str:
    """A player for a notebook cell, in an iframe.

    Args:
        notes: The piece.
        title: The title; "" for the names of the instruments.
    """
    groups = instruments_of(notes, None)
    names = instrument_labels(groups)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    title = title or ", ".join(names[:_MOST_NAMES]) + more or "No notes"
    page = page_html([Sample(notes=notes, title=title)], title=title, layout="compact")
    height = _NOTEBOOK_HEIGHT + (len(names) > 1) * len(names) * _NOTEBOOK_INSTRUMENT
    return (
        f'<iframe title="{html.escape(title)}" style="width:100%;height:{height}px;border:0" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def _section(charts: Sequence[Chart]) -> str:
    if not charts:
        return ""
    figures = "\n".join(chart.figure() for chart in charts)
    return f'<section class="charts" aria-label="Charts">\n{figures}\n</section>\n'


def _source_hash(text: str) -> str:
    """The CSP source expression of an inline block."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _text(name: str) -> str:
    return (files("notelstm.listening") / name).read_text(encoding="utf-8").strip()


def _shortened(name: str) -> str:
    """A script or style sheet without indentation and lines that are comments, a fifth of it."""
    return re.sub(r"^[ \t]*//.*\n|^[ \t]+", "", _text(name), flags=re.MULTILINE)


def _drum_keys(notes: Notes) -> list[int]:
    """The drum keys that are played, ascending."""
    return [] if notes.drum is None else np.unique(notes.pitch[notes.drum]).tolist()


def _sample(sample: Sample, numbers: dict[str, int]) -> dict[str, Any]:
    """A piece as JSON values.

    Args:
        sample: The piece.
        numbers: The numbers of the page's instruments by label, to which new ones are added, so
            that an instrument looks the same in all pieces.
    """
    notes = sample.notes
    # Not a warning: the command line writes the same notes to a file and warns there.
    data, report = midi_bytes_with_report(notes, short="lengthen")
    if report.changed:
        _log.info("the MIDI file of %r on the page: %s", sample.title, report)
    instruments, played = [], np.zeros(len(notes), np.int64)
    groups = instruments_of(notes, None)
    for place, (label, one) in enumerate(zip(instrument_labels(groups), groups, strict=True)):
        played[one.notes] = place
        style = style_of(numbers.setdefault(label, len(numbers)), drum=one.drum)
        timbre = "" if one.drum else timbre_of(one.program)
        instruments.append({"name": label, "timbre": timbre, **style._asdict()})
    return {
        "title": sample.title,
        "prompt_notes": min(sample.prompt_notes, len(notes)),
        "seconds": round(notes.end_time, 4),
        "start": np.round(notes.start, 4).tolist(),
        "duration": np.round(notes.duration, 4).tolist(),
        "pitch": notes.pitch.tolist(),
        "velocity": notes.velocity.tolist(),
        "instruments": instruments,  # percussion has the timbre ""
        "instrument": played.tolist(),
        "bars": _bars(notes),
        "midi": base64.b64encode(data).decode(),
    }


def _bars(notes: Notes) -> list[float]:
    """The second at which each bar begins; empty if the piece has no time signature."""
    beats = notes.tempo_map
    if beats is None or not beats.time_signature_beats.size:
        return []
    shortest, end = float((beats.numerators * 4 / beats.denominators).min()), notes.end_time
    # A tempo that no music has could make millions of bars.
    if float(beats.beats_at(end)) > _MOST_BARS * shortest:
        return []
    return [round(second, 3) for second in bar_starts(beats, end).tolist()]


def _json(data: object) -> str:
    """JSON for a script element, with escapes so that no tag or comment can begin in it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
