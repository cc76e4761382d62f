"""The command line: a thin layer over the library.

Exit codes: 0 success; 1 an error, explained on one line; 2 a wrong option; 130 Ctrl-C; 141 the
command succeeded, but its standard output was closed before everything was printed.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final, final

from typing_extensions import override

from notelstm._version import __version__
from notelstm.cli.streams import lasting_streams
from notelstm.errors import NotelstmError

__all__ = ["main"]

_OUTPUT_LOST: Final = 141
"""The exit code of a command that is ended by a closed pipe: 128 + SIGPIPE."""

_COMMANDS: Final = {
    "demo": "Train on Bach chorales for a minute, and generate music",
    "inspect": "Show the contents of a MIDI file, or of a folder",
    "train": "Train a model on MIDI files",
    "report": "Write a page on a training run, or on two",
    "generate": "Write new music as a MIDI file",
    "write": "Write new notes between those of a MIDI file",
    "play": "Play with a model in the browser",
    "render": "Render a MIDI file as sound, page or picture",
    "evaluate": "Measure a model on held-out music",
    "corpora": "List named corpora and the cache",
    "plugins": "List the installed encoders, models, recipes, ...",
}

_EXAMPLES: Final = """\
examples:
  notelstm demo
  notelstm inspect FOLDER
  notelstm train FOLDER -o my.notelstm
  notelstm generate my.notelstm -o out.mid
  notelstm write my.notelstm song.mid -o out.mid --gap 12 20
  notelstm play my.notelstm
  notelstm render out.mid -o out.wav
  notelstm evaluate my.notelstm OTHER_FOLDER

The options of a command: notelstm train --help
The version: notelstm --version
Existing files are not replaced without --overwrite."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; None for those of this process.

    Returns:
        The exit code.
    """
    _let_threads_sleep()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files can be any bytes
    with lasting_streams() as streams:
        code = _guarded(list(sys.argv[1:] if argv is None else argv))
    error = streams.output_error
    if error is None or code != 0:
        return code
    if isinstance(error, BrokenPipeError):
        return _OUTPUT_LOST
    return _failed(f"cannot write to standard output: {error.strerror or error}")


def _guarded(arguments: list[str]) -> int:
    """Run a command; returns its exit code, after one line on standard error if it failed."""
    try:
        _run(arguments)
        sys.stdout.flush()
    except NotelstmError as error:
        return _failed(str(error))
    except SystemExit as stopped:
        # The parser exits with 0 after a help text, with 2 after a wrong option.
        return int(stopped.code or 0)
    except KeyboardInterrupt:
        print("notelstm: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        where = f" ({error.filename})" if error.filename is not None else ""
        return _failed(f"{error.strerror or error}{where}")
    return 0


def _let_threads_sleep() -> None:
    """Make torch's threads sleep, not spin, while they wait for each other.

    On a busy machine, a spinning thread takes time from the thread that it waits for: beside a
    browser a training step can take twenty times as long. This works only before torch is loaded.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _failed(message: str) -> int:
    """Print an error on one line; the exit code."""
    from notelstm.cli.reading_options import for_command_line

    print(f"notelstm: error: {for_command_line(' '.join(message.split()))}", file=sys.stderr)
    return 1


@final
class _Messages(logging.Formatter):
    """Messages of the library, with options in place of settings."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        from notelstm.cli.reading_options import for_command_line

        level = "warning: " if record.levelno >= logging.WARNING else ""
        return f"notelstm: {level}{for_command_line(super().format(record))}"


def _run(arguments: list[str]) -> None:
    """Run the command that the arguments name."""
    if arguments == ["--version"]:
        print(f"notelstm {__version__}")
        return
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_help()
        return
    from notelstm.cli.usage import check_command

    check_command(arguments[0], _COMMANDS)
    name, *rest = arguments
    # A command is imported when it is run, and it imports torch when it needs it.
    module = "listing" if name in ("corpora", "plugins") else name
    command = getattr(importlib.import_module(f"notelstm.cli.{module}"), name)
    import tyro

    from notelstm.cli.streams import silent_unless_main
    from notelstm.cli.usage import explained, rewrap, wrapped_help

    handler = logging.StreamHandler()
    handler.setFormatter(_Messages("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    if not sys.stderr.isatty():
        # Progress of reading; a terminal has a bar instead.
        logging.getLogger("notelstm.data.corpus.corpus.progress").setLevel(logging.INFO)
    rewrap(command)
    helping = any(word in ("-h", "--help") for word in rest)
    with (
        silent_unless_main(),
        explained(command, rest),
        wrapped_help() if helping else nullcontext(),
    ):
        tyro.cli(command, prog=f"notelstm {name}", args=rest)


def _print_help() -> None:
    print("usage: notelstm COMMAND [OPTIONS]\n\nModel and generate music note by note.\n")
    print("commands:")
    for name, summary in _COMMANDS.items():
        print(f"  {name:<10} {summary}")
    print(f"\n{_EXAMPLES}")
