"""``Checkpoints``: the checkpoints of a run, on disk and in memory.

A checkpoint is of the whole run, whatever number of processes it has, as plain tensors and numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast, final

import torch
from torch import Tensor, nn

from notelstm.errors import ConfigError, TrainingError
from notelstm.protocols import NoteModel
from notelstm.training.callbacks import Callback, has_state
from notelstm.training.distributed import DistributedGroup
from notelstm.training.run_folder import RunFolder
from notelstm.training.state import TrainerState
from notelstm.tree import flatten, leaf, move, unflatten

if TYPE_CHECKING:
    from notelstm.training.trainer import Trainer

__all__ = ["Checkpoints"]


@final
class Checkpoints:
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
        self._stateful: Final = [c for c in callbacks if has_state(c)]
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
                "callbacks": [(type(c).__name__, c.state_dict()) for c in self._stateful],
            },
        )

    def load(self) -> None:
        """Load the newest checkpoint; the one before it where the newest is damaged.

        Raises:
            TrainingError: If there is none, or it is of another run.
        """
        saved: dict[str, Any] = {}
        if self._group.is_main_process:
            if self._folder is None:
                raise TrainingError(
                    "there is no run folder to resume from", hint="pass folder= to the Trainer"
                )
            saved = self._folder.load("last")
        saved = self._group.broadcast_object(saved)
        try:
            self._restore(saved)
            self._trainer.precision = saved["precision"]
            if self._group.is_main_process:
                self._best, self._good = saved["best"], saved["good"]
                self._restore_callbacks(saved["callbacks"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(
                "the checkpoint is of another model, optimizer or callbacks: "
                f"{str(error).strip().splitlines()[-1].strip()}",
                where="" if self._folder is None else str(self._folder.path),
                hint="resume with the parts that the run was started with",
            ) from error

    def _state(self) -> dict[str, Any]:
        """The current state, in the main process."""
        trainer = self._trainer
        return _state_dict(self._model, trainer.optimizer, trainer.state, self._group)

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Load what :meth:`_state` returned."""
        trainer = self._trainer
        _load_state_dict(saved, self._model, trainer.optimizer, trainer.state, self._group)

    def _restore_callbacks(self, saved: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Load the states of the callbacks."""
        now, then = [type(c).__name__ for c in self._stateful], [name for name, _ in saved]
        if now != then:
            raise TrainingError(
                f"the callbacks are {', '.join(now) or 'none'}; the run was started with "
                f"{', '.join(then) or 'none'}",
                hint="resume with the callbacks that the run was started with",
            )
        for callback, (_, state) in zip(self._stateful, saved, strict=True):
            callback.load_state_dict(state)


def _state_dict(
    model: nn.Module, optimizer: torch.optim.Optimizer, at: TrainerState, group: DistributedGroup
) -> dict[str, Any]:
    """The state of a run, in the main process; the others get nothing.

    Args:
        model: The model.
        optimizer: Its optimizer.
        at: Where the run stands.
        group: The processes, all of which call this.
    """
    sums = None if at.sums is None else group.all_reduce_sum(at.sums.clone())
    carried = {} if at.carried is None else flatten(at.carried)
    rng = torch.get_rng_state()
    device = leaf(cast(NoteModel, model).initial_state(1)[1]).device
    device_rng = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    parts = group.gather_object(({k: v.cpu() for k, v in carried.items()}, rng, device_rng))
    if not parts:
        return {}
    lanes = [carried for carried, _, _ in parts if carried]
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": at.epoch,
        "batch": at.batch,
        "steps": at.steps,
        "rate_scale": at.rate_scale,
        "carried": {k: torch.cat([part[k] for part in lanes]) for k in (lanes or [{}])[0]},
        "sums": sums,
        "rng": [rng for _, rng, _ in parts],
        "device_rng": [rng for _, _, rng in parts],
    }


def _load_state_dict(
    saved: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    at: TrainerState,
    group: DistributedGroup,
) -> None:
    """The inverse of :func:`_state_dict`, with the same number of processes or another.

    Args:
        saved: The same in every process.
        model: The model.
        optimizer: Its optimizer.
        at: Where the run stands; changed in place.
        group: The processes of the run.
    """
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    at.epoch, at.batch, at.steps = saved["epoch"], saved["batch"], saved["steps"]
    at.rate_scale = saved["rate_scale"]
    named = cast(NoteModel, model)
    device = leaf(named.initial_state(1)[1]).device
    at.carried = _carried(saved["carried"], named, device, group)
    # What all have added up is counted once.
    sums = saved["sums"]
    at.sums = sums.to(device) if sums is not None and group.is_main_process else None
    if len(saved["rng"]) == group.world_size:
        torch.set_rng_state(saved["rng"][group.rank].cpu())
        device_rng = saved["device_rng"][group.rank]
        if device_rng is not None and device.type == "cuda":
            torch.cuda.set_rng_state(device_rng.cpu(), device)


def _carried(
    saved: Mapping[str, Tensor], model: NoteModel, device: torch.device, group: DistributedGroup
) -> Any:
    """This process's lanes of what was carried."""
    if not saved:
        return None
    mine = group.shard_slice(len(next(iter(saved.values()))))
    if mine.start == mine.stop:
        return None
    template = model.initial_state(mine.stop - mine.start)[1]
    return move(unflatten(template, {k: v[mine] for k, v in saved.items()}), device)
