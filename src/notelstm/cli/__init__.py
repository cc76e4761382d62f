"""The command line: a thin layer over the library.

Exit codes: 0 success, 1 an error that one line explains, 2 a wrong option, 130 Ctrl-C, 141 the
command has done its work, but its standard output was closed before everything was printed.
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
"""The exit code of a shell's command that a closed pipe ends: 128 + SIGPIPE."""

_COMMANDS: Final = {
    "demo": "Train on Bach chorales for a minute, and generate music",
    "inspect": "Show the contents of a MIDI file, or of a folder",
    "train": "Train a model on MIDI files",
    "generate": "Write new music as a MIDI file",
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
    """Run a command; its exit code, after one line on standard error if it failed."""
    try:
        _run(arguments)
        sys.stdout.flush()
    except NotelstmError as error:
        return _failed(str(error))
    except SystemExit as stopped:
        # The parser of the command line ends so: 0 after a help, 2 after a wrong option.
        return int(stopped.code or 0)
    except KeyboardInterrupt:
        print("notelstm: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        where = f" ({error.filename})" if error.filename is not None else ""
        return _failed(f"{error.strerror or error}{where}")
    return 0


def _let_threads_sleep() -> None:
    """Let torch's threads sleep, not spin, while they wait for each other.

    Where other programs run too, spinning takes the time of the very thread that is waited for:
    beside a browser a training step can take twenty times as long. It must be said before torch is
    loaded; afterwards it is too late, and whoever loaded it has decided.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _failed(message: str) -> int:
    """Print an error on one line; the exit code."""
    from notelstm.cli.reading import for_command_line

    print(f"notelstm: error: {for_command_line(' '.join(message.split()))}", file=sys.stderr)
    return 1


@final
class _Warnings(logging.Formatter):
    """Warnings of the library, in the terms of the command line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        from notelstm.cli.reading import for_command_line

        return f"notelstm: warning: {for_command_line(super().format(record))}"


def _run(arguments: list[str]) -> None:
    """Find the command and run it."""
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
    command = getattr(importlib.import_module(f"notelstm.cli.{name}"), name)
    import tyro

    from notelstm.cli.processes import first_talks
    from notelstm.cli.usage import explained, rewrap, wrapped_help

    handler = logging.StreamHandler()
    handler.setFormatter(_Warnings("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    rewrap(command)
    helping = any(word in ("-h", "--help") for word in rest)
    with first_talks(), explained(command, rest), wrapped_help() if helping else nullcontext():
        tyro.cli(command, prog=f"notelstm {name}", args=rest)


def _print_help() -> None:
    print("usage: notelstm COMMAND [OPTIONS]\n\nModel and generate music note by note.\n")
    print("commands:")
    for name, summary in _COMMANDS.items():
        print(f"  {name:<10} {summary}")
    print(f"\n{_EXAMPLES}")
