"""``Keeper``: the states of a run that it may come back to."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from torch import Tensor, nn

from notelstm.errors import ConfigError, TrainingError
from notelstm.training.callbacks import Callback, Stateful
from notelstm.training.checkpoint import put_state, take_state
from notelstm.training.processes import Processes
from notelstm.training.run_folder import RunFolder
from notelstm.training.stepper import Stepper

__all__ = ["Keeper"]


@final
class Keeper:
    """Keeps the newest checkpoint, the best model, and the last good state.

    Of several processes all call its methods together, but for those on the best model; the first
    one has the states, and the folder.

    Args:
        model: What is trained.
        stepper: Which trains it.
        processes: Of the run.
        callbacks: Those that remember anything are kept too.
        folder: The run folder, None to keep nothing on disk.
    """

    def __init__(
        self,
        model: nn.Module,
        stepper: Stepper,
        *,
        processes: Processes,
        callbacks: Sequence[Callback],
        folder: RunFolder | None,
    ) -> None:
        self._model: Final = model
        self._stepper: Final = stepper
        self._processes: Final = processes
        self._remember: Final = [c for c in callbacks if isinstance(c, Stateful)]
        self._folder: Final = folder
        self._best: dict[str, Tensor] | None = None
        self._good: dict[str, Any] | None = None

    def forget(self) -> None:
        """Begin a run: there is no good state yet."""
        self._good = None

    def keep_best(self) -> None:
        """Keep the model as it is now as the best so far."""
        model = self._model.state_dict()
        self._best = {name: tensor.detach().cpu().clone() for name, tensor in model.items()}
        if self._folder is not None:
            self._folder.save("best", self._best)

    def restore_best(self) -> None:
        """Put the best model back in place, if one was kept."""
        if self._best is not None:
            self._model.load_state_dict(self._best)

    def hold(self) -> None:
        """Keep the state as it is now, to go back to; in the middle of an epoch, an older one."""
        has_older = self._good is not None and self._stepper.at.batch > 0
        if not self._processes.told(has_older):
            self._good = copy.deepcopy(self._state())

    def go_back(self) -> None:
        """Go back to the state that was held.

        Raises:
            ConfigError: If there is none.
        """
        good = self._processes.told(self._good)
        if good is None:
            raise ConfigError(
                "a run goes back to a state that it holds on to",
                got="none",
                hint="call run.hold() when the run starts",
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
                "precision": self._stepper.precision,
                "best": self._best,
                # In the middle of an epoch, the last good state is not this one.
                "good": self._good if self._stepper.at.batch else None,
                "callbacks": [(type(c).__name__, c.state_dict()) for c in self._remember],
            },
        )

    def load(self) -> None:
        """Go back to the newest checkpoint.

        Raises:
            TrainingError: If there is none, or it is of another run.
        """
        saved: dict[str, Any] = {}
        if self._processes.first:
            if self._folder is None:
                raise TrainingError(
                    "a resumed run has a folder", hint="pass folder= to the Trainer"
                )
            saved = self._folder.load("last")
        saved = self._processes.told(saved)
        try:
            self._restore(saved)
            self._stepper.precision = saved["precision"]
            if self._processes.first:
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
        stepper = self._stepper
        return take_state(self._model, stepper.optimizer, stepper.at, self._processes)

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what :meth:`_state` gave."""
        stepper = self._stepper
        put_state(saved, self._model, stepper.optimizer, stepper.at, self._processes)

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
