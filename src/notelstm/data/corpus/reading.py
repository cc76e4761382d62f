"""Reading one file into an entry of a corpus."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass
from typing import NamedTuple, final

from notelstm.data.corpus.report import FileReport
from notelstm.data.piece_file import Entry, entry_of
from notelstm.errors import DataError, MidiError
from notelstm.files import out_of_resources
from notelstm.midi import ReadPolicy, read_midi_with_report
from notelstm.midi.reading import MAX_BYTES

__all__ = ["FileToRead", "Job", "read_file", "rejected_entry"]

_log = logging.getLogger(__name__)


class FileToRead(NamedTuple):
    """A file to read.

    Attributes:
        name: Its name in the corpus.
        path: Where it is.
        size: Bytes, when it was listed.
    """

    name: str
    path: str
    size: int


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """How files are read.

    Attributes:
        policy: The choices of reading.
        reader: The reader's name, or ``"auto"``.
    """

    policy: ReadPolicy
    reader: str = "auto"


def read_file(file: FileToRead, job: Job) -> Entry:
    """Read a file; one that cannot be read becomes an entry with the reason.

    Args:
        file: The file.
        job: How it is read.

    Raises:
        DataError: If the process runs out of descriptors or memory, which is no fault of the file.
    """
    try:
        with open(file.path, "rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        named = io.BytesIO(data)
        named.name = file.path
        notes, report = read_midi_with_report(named, job.policy, reader=job.reader)
    except MidiError as error:
        return rejected_entry(file, error.problem, str(error))
    except OSError as error:
        if out_of_resources(error):
            raise DataError(
                f"cannot read the corpus: {error.strerror}",
                where=file.path,
                hint="close other files, or raise the limit with ulimit -n",
            ) from error
        return rejected_entry(file, f"cannot read the file: {error.strerror or error}")
    except Exception as error:  # a reader may be another's, and one file must not stop the rest
        _log.exception("%s: the reader failed", file.path)
        problem = f"the reader failed with {type(error).__name__}"
        return rejected_entry(file, problem, f"{problem}: {error} ({file.path})")
    made = FileReport.of_read(file.name, report)
    return entry_of(file.name, notes, json.dumps(made.to_json()))


def rejected_entry(file: FileToRead, problem: str, error: str = "") -> Entry:
    """An entry of a file that cannot be read.

    Args:
        file: The file.
        problem: The problem, in words that all files with it share.
        error: The whole message; ``""`` for the problem and the path.
    """
    error = error or f"{problem} ({file.path})"
    report = FileReport(name=file.name, error=error, problem=problem)
    return Entry(name=file.name, report=json.dumps(report.to_json()))
