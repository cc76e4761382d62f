"""The command line: a thin skin over the library.

Exit codes: 0 done, 1 an error that one line explains, 2 a wrong option, 130 Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

__all__ = ["main"]

_ABOUT = """Model and generate music note by note.

    notelstm demo                         train on Bach for a minute, write music
    notelstm inspect FOLDER               what is in these MIDI files?
    notelstm train FOLDER -o my.notelstm  train on them
    notelstm generate my.notelstm -o out.mid
    notelstm evaluate my.notelstm FOLDER  how good is it, in nats per note?
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name; None for those of this process.

    Returns:
        The exit code.
    """
    # Commands import what they need when they run, so that --help need not wait for torch.
    from tyro.extras import SubcommandApp

    from notelstm.cli import evaluate, generate, inspect, plugins, train
    from notelstm.errors import NotelstmError

    logging.basicConfig(format="notelstm: %(levelname)s: %(message)s", level=logging.WARNING)
    app = SubcommandApp()
    for command in (
        inspect.inspect,
        train.train,
        generate.generate,
        evaluate.evaluate,
        plugins.plugins,
        train.demo,
    ):
        app.command(command)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        app.cli(prog="notelstm", description=_ABOUT, args=arguments or ["--help"])
    except NotelstmError as error:
        print(f"notelstm: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("notelstm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output (head, less) has seen enough.
        sys.stderr.close()
        return 0
    return 0
