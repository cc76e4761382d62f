"""Model and generate music note by note.

Three lines make music with a trained model::

    bundle = notelstm.load("model.notelstm")
    music = notelstm.generate(bundle, 128)
    notelstm.write_midi(music, "out.mid")

Everything here is imported when it is first used, so ``import notelstm`` is quick. In a Jupyter
notebook, a piece at the end of a cell is displayed as a player.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from notelstm._version import __version__

if TYPE_CHECKING:
    from notelstm.bundle import Bundle, load, save
    from notelstm.data import StatefulBatches, SequenceDataset, WindowBatches
    from notelstm.encoders import (
        BeatEncoder,
        LogTimeEncoder,
        PerformanceEventEncoder,
        StepDurationEncoder,
    )
    from notelstm.errors import NotelstmError
    from notelstm.evaluation import nats_per_note
    from notelstm.fields import Field
    from notelstm.generation import Session, generate, generate_batch
    from notelstm.losses import CompositeLoss
    from notelstm.midi import ReadPolicy, read_midi, read_midi_with_report, write_midi
    from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
    from notelstm.notes import TempoMap, Notes
    from notelstm.protocols import NoteEncoder, NoteModel, Processor, Sampler
    from notelstm.recipes import Recipe, reference
    from notelstm.sampling import Ancestral, Greedy, Weighted
    from notelstm.training import Trainer, TrainingConfig

_HOMES = {
    "bundle": ("Bundle", "load", "save"),
    "data": ("LaneBatches", "SequenceDataset", "WindowBatches"),
    "encoders": (
        "BeatEncoder",
        "LogTimeEncoder",
        "PerformanceEventEncoder",
        "StepDurationEncoder",
    ),
    "errors": ("NotelstmError",),
    "evaluation": ("nats_per_note",),
    "fields": ("Field",),
    "generation": ("Session", "generate", "generate_batch"),
    "losses": ("CompositeLoss",),
    "midi": ("ReadPolicy", "read_midi", "read_midi_with_report", "write_midi"),
    "models": ("NoteLSTM", "ThreeHeadLSTM", "Windowed"),
    "notes": ("BeatMap", "Notes"),
    "protocols": ("NoteEncoder", "NoteModel", "Processor", "Sampler"),
    "recipes": ("Recipe", "reference"),
    "sampling": ("Ancestral", "Greedy", "Weighted"),
    "training": ("Trainer", "TrainingConfig"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Ancestral",
    "BeatEncoder",
    "TempoMap",
    "Bundle",
    "CompositeLoss",
    "Field",
    "Greedy",
    "StatefulBatches",
    "LogTimeEncoder",
    "NoteEncoder",
    "NoteLSTM",
    "NoteModel",
    "NotelstmError",
    "Notes",
    "PerformanceEventEncoder",
    "Processor",
    "ReadPolicy",
    "Recipe",
    "Sampler",
    "SequenceDataset",
    "Session",
    "StepDurationEncoder",
    "ThreeHeadLSTM",
    "Trainer",
    "TrainingConfig",
    "Weighted",
    "WindowBatches",
    "Windowed",
    "__version__",
    "generate",
    "generate_batch",
    "load",
    "nats_per_note",
    "read_midi",
    "read_midi_with_report",
    "reference",
    "save",
    "write_midi",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'notelstm' has no attribute {name!r}")
    return getattr(importlib.import_module(f"notelstm.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)


def _player(notes: Notes) -> str:
    """The HTML view of a piece."""
    from notelstm.listening.page import notebook_html

    return notebook_html(notes)


def _register_player() -> None:
    """Register the HTML view of pieces with IPython, if this is an IPython session.

    By the name of the class, so that nothing is imported before a piece is displayed. A method of
    ``Notes`` would have to import from a higher layer.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        html = shell.display_formatter.formatters["text/html"]
        html.for_type_by_name("notelstm.notes", "Notes", _player)


_register_player()
