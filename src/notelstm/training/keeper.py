"""``Keeper``: the checkpoints of a run, on disk and in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

from torch import Tensor, nn

from notelstm.errors import ConfigError, TrainingError
from notelstm.training.callbacks import Callback, has_state
from notelstm.training.checkpoint import put_state, take_state
from notelstm.training.distributed import DistributedGroup
from notelstm.training.run_folder import RunFolder

if TYPE_CHECKING:
    from notelstm.training.trainer import Trainer

__all__ = ["Keeper"]


@final
class Keeper:
    """Keeps the newest checkpoint, the best model, and the last good state.

    All processes call its methods together, except those of the best model; the main process has
    the states and the folder.

    Args:
        model: The model that is trained.
        trainer: The trainer, of whose optimizer, state and precision checkpoints are made.
        group: The processes of the run.
        callbacks: Their states are saved too.
        folder: The run folder, None to keep nothing on disk.
    """

    def __init__(
        self,
        model: nn.Module,
        trainer: Trainer,
        *,
        group: DistributedGroup,
        callbacks: Sequence[Callback],
        folder: RunFolder | None,
    ) -> None:
        self._model: Final = model
        self._trainer: Final = trainer
        self._group: Final = group
        self._remember: Final = [c for c in callbacks if has_state(c)]
        self._folder: Final = folder
        self._best: dict[str, Tensor] | None = None
        self._good: dict[str, Any] | None = None

    def save_best(self) -> None:
        """Keep the current weights as the best so far."""
        model = self._model.state_dict()
        self._best = {name: tensor.detach().cpu().clone() for name, tensor in model.items()}
        if self._folder is not None:
            self._folder.save("best", self._best)

    def load_best(self) -> None:
        """Load the best weights, if some were kept."""
        if self._best is not None:
            self._model.load_state_dict(self._best)

    def snapshot(self) -> None:
        """Keep the current state for a rollback; in the middle of an epoch, the one before it."""
        has_older = self._good is not None and self._trainer.state.batch > 0
        if not self._group.broadcast_object(has_older):
            self._good = copy.deepcopy(self._state())

    def rollback(self) -> None:
        """Restore the last snapshot.

        Raises:
            ConfigError: If there is none.
        """
        good = self._group.broadcast_object(self._good)
        if good is None:
            raise ConfigError(
                "there is no snapshot to roll back to",
                hint="call trainer.snapshot() in on_train_start",
            )
        # The optimizer goes on with the very tensors that it is given.
        self._restore(copy.deepcopy(good))

    def save(self, name: str | None = None) -> None:
        """Write the newest checkpoint, and a copy of the model under `name`.

        Raises:
            OutputError: If it cannot be written; the old one is still there.
        """
        state = self._state()
        if self._folder is None:
            return
        if name is not None:
            self._folder.save(name, self._model.state_dict())
            self._folder.thin()
        self._folder.save(
            "last",
            {
                **state,
                "precision": self._trainer.precision,
                "best": self._best,
                # In the middle of an epoch, the last good state is not this one.
                "good": self._good if self._trainer.state.batch else None,
                "callbacks": [(type(c).__name__, c.state_dict()) for c in self._remember],
            },
        )

    def load(self) -> None:
        """Go back to the newest checkpoint.

        Raises:
            TrainingError: If there is none, or it is of another run.
        """
        saved: dict[str, Any] = {}
        if self._group.is_main_process:
            if self._folder is None:
                raise TrainingError(
                    "a resumed run has a folder", hint="pass folder= to the Trainer"
                )
            saved = self._folder.load("last")
        saved = self._group.broadcast_object(saved)
        try:
            self._restore(saved)
            self._trainer.precision = saved["precision"]
            if self._group.is_main_process:
                self._best, self._good = saved["best"], saved["good"]
                self._remind(saved["callbacks"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(
                "a checkpoint is of this model, optimizer and callbacks",
                got=str(error).strip().splitlines()[-1].strip(),
                where="" if self._folder is None else str(self._folder.path),
                hint="resume with the parts the run was started with",
            ) from error

    def _state(self) -> dict[str, Any]:
        """All that is needed to go on from here; in the first process."""
        trainer = self._trainer
        return take_state(self._model, trainer.optimizer, trainer.state, self._group)

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what :meth:`_state` gave."""
        trainer = self._trainer
        put_state(saved, self._model, trainer.optimizer, trainer.state, self._group)

    def _remind(self, saved: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Give the callbacks back what they knew."""
        now, then = [type(c).__name__ for c in self._remember], [name for name, _ in saved]
        if now != then:
            raise TrainingError(
                "a run is resumed with the callbacks it was started with",
                got=f"{', '.join(now) or 'none'}; it had {', '.join(then) or 'none'}",
            )
        for callback, (_, state) in zip(self._remember, saved, strict=True):
            callback.load_state_dict(state)
