"""``TensorBoard``: each epoch's metrics as curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from notelstm.errors import ConfigError, MissingExtraError
from notelstm.training.callbacks import Callback

if TYPE_CHECKING:
    from notelstm.training.trainer import Trainer

__all__ = ["TensorBoard"]


@final
class TensorBoard(Callback):
    """Writes all metrics of each epoch to ``tensorboard/`` in the run folder.

    Needs the extra ``tensorboard``; view them with ``tensorboard --logdir FOLDER``.
    """

    def __init__(self) -> None:
        self.config: Mapping[str, Any] = {}
        self._writer: Any = None

    @override
    def check(self, trainer: Trainer) -> None:
        """Check that there are a run folder and the extra."""
        if trainer.folder is None:
            raise ConfigError(
                "there is no run folder to write curves to", hint="train with folder=..."
            )
        _writer_class()

    @override
    def on_train_start(self, trainer: Trainer) -> None:
        """Open the curves; epochs that are repeated are removed from them."""
        self._close()
        folder = str(trainer.folder / "tensorboard") if trainer.folder else ""
        self._writer = _writer_class()(folder, purge_step=trainer.state.epoch + 1)

    @override
    def on_rollback(self, trainer: Trainer) -> None:
        """Remove the epochs that are repeated."""
        self.on_train_start(trainer)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Write the metrics."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, trainer.state.epoch)
        self._writer.flush()

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        """Close the curves."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            f"TensorBoard is not installed: {error}",
            hint="run pip install 'notelstm[tensorboard]'",
        ) from error
    return SummaryWriter
