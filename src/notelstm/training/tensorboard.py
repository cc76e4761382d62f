"""``TensorBoard``: each epoch's losses as curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from notelstm.errors import ConfigError, MissingExtraError
from notelstm.training.callbacks import Event, Run

__all__ = ["TensorBoard"]


@final
class TensorBoard:
    """Writes every value of each epoch to ``tensorboard/`` in the run folder.

    Needs the extra ``tensorboard``; look at it with ``tensorboard --logdir FOLDER``.
    """

    def __init__(self) -> None:
        self.config: Mapping[str, Any] = {}
        self._writer: Any = None

    def handle(self, event: Event, run: Run) -> None:
        """Write the values of an epoch."""
        if event.name in ("start", "back"):
            self._close()
            self._writer = _writer(event, run)
        elif event.name == "epoch":
            for name, value in event.values.items():
                self._writer.add_scalar(name, value, event.epoch)
            self._writer.flush()
        elif event.name == "end":
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _writer(event: Event, run: Run) -> Any:
    if run.folder is None:
        raise ConfigError("TensorBoard's curves are in a run folder", got="no folder")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            "TensorBoard's curves need the extra tensorboard",
            got=str(error),
            hint="run pip install 'notelstm[tensorboard]'",
        ) from error
    # Epochs that will be done again are taken out of the curves.
    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=event.epoch + 1)
