"""The command line: a thin skin over the library.

Exit codes: 0 done, 1 an error that one line explains, 2 a wrong option, 130 Ctrl-C.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence

from notelstm._version import __version__
from notelstm.errors import NotelstmError

__all__ = ["main"]

_ABOUT = """Model and generate music note by note.

    notelstm demo                           train on Bach for a minute, hear what it learnt
    notelstm inspect FOLDER                 what is in these MIDI files?
    notelstm train FOLDER -o my.notelstm --recipe expressive    train on them
    notelstm generate my.notelstm -o out.mid
    notelstm render out.mid -o out.wav      hear it; .html a page that plays it, .png a picture
    notelstm evaluate my.notelstm FOLDER    how good is it, in nats per note?
    notelstm plugins                        which encoders, models, recipes ... are there?

Each command explains itself: notelstm train --help. The version: notelstm --version
"""


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
    try:
        _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except NotelstmError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        print("notelstm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output (head, less) has seen enough; nothing is left to be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _failed(str(error))
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
    """Say what went wrong on one line, and give the exit code."""
    print(f"notelstm: error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _run(arguments: list[str]) -> None:
    """Find the command and run it."""
    if arguments == ["--version"]:
        print(f"notelstm {__version__}")
        return
    # Commands import what they need when they run, so that --help need not wait for torch.
    from tyro.extras import SubcommandApp

    from notelstm.cli import corpora, demo, evaluate, generate, inspect, plugins, render, train
    from notelstm.cli.processes import first_talks

    logging.basicConfig(format="notelstm: warning: %(message)s", level=logging.WARNING)
    app = SubcommandApp()
    for command in (
        demo.demo,
        inspect.inspect,
        train.train,
        generate.generate,
        render.render,
        evaluate.evaluate,
        corpora.corpora,
        plugins.plugins,
    ):
        app.command(command)
    with first_talks():
        app.cli(prog="notelstm", description=_ABOUT, args=arguments or ["--help"])
