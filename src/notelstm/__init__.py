"""Model and generate music note by note.

Three lines make music with a trained model::

    bundle = notelstm.load("model.notelstm")
    music = notelstm.generate(bundle, num_notes=128)
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
    from notelstm import (
        bundle,
        data,
        encoders,
        errors,
        evaluation,
        fields,
        generation,
        listening,
        losses,
        midi,
        models,
        notes,
        predictions,
        protocols,
        recipes,
        sampling,
        training,
    )
    from notelstm.bundle import Bundle, load
    from notelstm.data import Corpus, SequenceDataset, StatefulBatches, WindowBatches
    from notelstm.encoders import (
        BeatEncoder,
        LogTimeEncoder,
        PerformanceEventEncoder,
        StepDurationEncoder,
    )
    from notelstm.errors import NotelstmError
    from notelstm.evaluation import nats_per_note
    from notelstm.fields import Field
    from notelstm.generation import (
        Session,
        accompany,
        generate,
        generate_batch,
        infill,
        stream,
        vary,
    )
    from notelstm.losses import CompositeLoss
    from notelstm.midi import ReadPolicy, read_midi, read_midi_with_report, write_midi
    from notelstm.models import NoteLSTM, ThreeHeadLSTM, Windowed
    from notelstm.notes import Note, Notes, TempoMap
    from notelstm.parts import Part, PartMap
    from notelstm.protocols import NoteEncoder, NoteModel, Processor, Sampler
    from notelstm.recipes import Recipe, ensemble, expressive, reference, with_settings
    from notelstm.sampling import (
        Ancestral,
        Greedy,
        MaxPolyphony,
        MinP,
        PitchRange,
        Scale,
        Temperature,
        TopK,
        TopP,
        Weighted,
    )
    from notelstm.training import Callback, Trainer, TrainingConfig

_HOMES = {
    "bundle": ("Bundle", "load"),
    "data": ("Corpus", "SequenceDataset", "StatefulBatches", "WindowBatches"),
    "encoders": ("BeatEncoder", "LogTimeEncoder", "PerformanceEventEncoder", "StepDurationEncoder"),
    "errors": ("NotelstmError",),
    "evaluation": ("nats_per_note",),
    "fields": ("Field",),
    "generation": (
        "Session",
        "accompany",
        "generate",
        "generate_batch",
        "infill",
        "stream",
        "vary",
    ),
    "losses": ("CompositeLoss",),
    "midi": ("ReadPolicy", "read_midi", "read_midi_with_report", "write_midi"),
    "models": ("NoteLSTM", "ThreeHeadLSTM", "Windowed"),
    "notes": ("Note", "Notes", "TempoMap"),
    "parts": ("Part", "PartMap"),
    "protocols": ("NoteEncoder", "NoteModel", "Processor", "Sampler"),
    "recipes": ("Recipe", "ensemble", "expressive", "reference", "with_settings"),
    "sampling": (
        "Ancestral",
        "Greedy",
        "MaxPolyphony",
        "MinP",
        "PitchRange",
        "Scale",
        "Temperature",
        "TopK",
        "TopP",
        "Weighted",
    ),
    "training": ("Callback", "Trainer", "TrainingConfig"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "Ancestral",
    "BeatEncoder",
    "Bundle",
    "Callback",
    "CompositeLoss",
    "Corpus",
    "Field",
    "Greedy",
    "LogTimeEncoder",
    "MaxPolyphony",
    "MinP",
    "Note",
    "NoteEncoder",
    "NoteLSTM",
    "NoteModel",
    "NotelstmError",
    "Notes",
    "Part",
    "PartMap",
    "PerformanceEventEncoder",
    "PitchRange",
    "Processor",
    "ReadPolicy",
    "Recipe",
    "Sampler",
    "Scale",
    "SequenceDataset",
    "Session",
    "StatefulBatches",
    "StepDurationEncoder",
    "Temperature",
    "TempoMap",
    "ThreeHeadLSTM",
    "TopK",
    "TopP",
    "Trainer",
    "TrainingConfig",
    "Weighted",
    "WindowBatches",
    "Windowed",
    "__version__",
    "accompany",
    "bundle",
    "data",
    "encoders",
    "ensemble",
    "errors",
    "evaluation",
    "expressive",
    "fields",
    "generate",
    "generate_batch",
    "generation",
    "infill",
    "listening",
    "load",
    "losses",
    "midi",
    "models",
    "nats_per_note",
    "notes",
    "parts",
    "predictions",
    "protocols",
    "read_midi",
    "read_midi_with_report",
    "recipes",
    "reference",
    "sampling",
    "stream",
    "training",
    "vary",
    "with_settings",
    "write_midi",
]


def __getattr__(name: str) -> Any:
    """Import a public name, or a module, when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'notelstm' has no attribute {name!r}")
    if name not in _HOME_OF:
        return importlib.import_module(f"notelstm.{name}")
    value = getattr(importlib.import_module(f"notelstm.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the next access is a plain one
    return value


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
