"""Output of the first of several processes only."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator

__all__ = ["first_talks"]


@contextlib.contextmanager
def first_talks() -> Iterator[None]:
    """Silence what this process prints and warns of, if it is not the first one of a run.

    Errors are for the error stream, and every process may have one.

    Yields:
        Nothing.
    """
    # Only a launched process need wait for torch to know which one it is.
    if "MASTER_ADDR" not in os.environ:
        yield
        return
    from notelstm.training.distributed import DistributedGroup

    if DistributedGroup().is_main_process:
        yield
        return
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
