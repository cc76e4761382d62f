"""Every error that notelstm raises on purpose, in one tree.

.. code-block:: text

   NotelstmError
   ├── NotesError        (ValueError)   columns that are not a piece of music
   ├── EncodingError     (ValueError)   notes or rows outside an encoder's domain
   ├── MidiError         (ValueError)   a MIDI file that cannot be read or written as asked
   │   ├── NoNotesError                 a MIDI file that holds no notes under the policy
   │   └── MidiNotFoundError            no such MIDI file, also a FileNotFoundError
   ├── FieldError        (ValueError)   fields that do not fit the part they are given to
   ├── ShapeError        (ValueError)   tensors whose shapes do not match
   ├── DataError         (ValueError)   pieces from which nothing can be trained or scored
   │   └── DataNotFoundError            no such folder or data file, also a FileNotFoundError
   ├── PluginError       (LookupError)  a part's name that is unknown, claimed twice or broken
   ├── ConfigError       (ValueError)   a setting that does not exist or cannot have that value
   │   └── ConfigNotFoundError          no such recipe file, also a FileNotFoundError
   ├── BundleError       (ValueError)   a model file that is truncated, foreign or too new
   │   └── BundleNotFoundError          no such model file, also a FileNotFoundError
   ├── TrainingError     (RuntimeError) a run that cannot start, continue or be resumed
   ├── OutputError       (OSError)      a result that could not be written
   └── MissingExtraError (ImportError)  an optional package that is not installed

Each message states the problem, then where it is, then what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from typing_extensions import override

__all__ = [
    "BundleError",
    "BundleNotFoundError",
    "ConfigError",
    "ConfigNotFoundError",
    "DataError",
    "DataNotFoundError",
    "EncodingError",
    "FieldError",
    "MidiError",
    "MidiNotFoundError",
    "MissingExtraError",
    "NoNotesError",
    "NotelstmError",
    "NotesError",
    "OutputError",
    "PluginError",
    "ShapeError",
    "TrainingError",
    "counted",
    "did_you_mean",
]


def counted(number: int, noun: str) -> str:
    """A number and the noun it counts, for messages; the noun's plural takes an s.

    Example:
        >>> counted(1, "note"), counted(1200, "note")
        ('1 note', '1,200 notes')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion to append to a message about an unknown name, "" if no known one is close.

    Example:
        >>> did_you_mean("expresive", ["expressive", "reference"])
        ": did you mean 'expressive'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


class NotelstmError(Exception):
    """The base class of all errors that the library raises on purpose.

    Args:
        problem: What is wrong, without a full stop.
        where: The file, row, column or part in question, unless `problem` names it.
        hint: A way to solve it, as an imperative without a full stop.

    Example:
        >>> print(NotelstmError("pitch 130 is not 0 to 127", where="row 4", hint="clip it"))
        pitch 130 is not 0 to 127 (row 4). Clip it
    """

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.hint = hint

    @override
    def __str__(self) -> str:
        """The whole message on one line."""
        text = self.problem
        if self.where:
            text += f" ({self.where})"
        if self.hint:
            stop = "" if text.endswith(("?", ".")) else "."
            text += f"{stop} {self.hint[0].upper()}{self.hint[1:]}"
        return text

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword arguments, so that errors cross process boundaries whole."""
        return _rebuild, (type(self), self.problem, self.where, self.hint)


def _rebuild(kind: type[NotelstmError], problem: str, where: str, hint: str) -> NotelstmError:
    return kind(problem, where=where, hint=hint)


class NotesError(NotelstmError, ValueError):
    """Columns that are not a piece of music."""


class EncodingError(NotelstmError, ValueError):
    """Notes or rows outside an encoder's domain."""


class MidiError(NotelstmError, ValueError):
    """A MIDI file that cannot be read or written as asked."""


class MidiNotFoundError(MidiError, FileNotFoundError):
    """A MIDI file that does not exist."""


class NoNotesError(MidiError):
    """A MIDI file that holds no notes under the policy it was read with."""


class FieldError(NotelstmError, ValueError):
    """Fields that do not fit the part they are given to."""


class ShapeError(NotelstmError, ValueError):
    """Tensors whose shapes do not match; they are not broadcast silently."""


class DataError(NotelstmError, ValueError):
    """Pieces from which nothing can be trained or scored."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A folder or data file that does not exist."""


class PluginError(NotelstmError, LookupError):
    """A part's name that is unknown, claimed twice, or whose package is broken."""


class ConfigError(NotelstmError, ValueError):
    """A setting that does not exist or cannot have the value it was given."""


class ConfigNotFoundError(ConfigError, FileNotFoundError):
    """A recipe file that does not exist."""


class BundleError(NotelstmError, ValueError):
    """A model file that is truncated, foreign, or newer than this library."""


class BundleNotFoundError(BundleError, FileNotFoundError):
    """A model file that does not exist."""


class TrainingError(NotelstmError, RuntimeError):
    """A training run that cannot start, continue or be resumed."""


class OutputError(NotelstmError, OSError):
    """A result that could not be written: no space, no permission, no such folder."""


class MissingExtraError(NotelstmError, ImportError):
    """An optional package that is needed here and not installed."""
