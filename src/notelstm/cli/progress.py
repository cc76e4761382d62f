"""Progress of a training run on the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import final

from tqdm.std import tqdm
from typing_extensions import override

from notelstm.errors import counted
from notelstm.training.trainer import Callback, Trainer

__all__ = ["EpochLines", "peak_memory"]


@final
class EpochLines(Callback):
    """Writes a line for each epoch on the error stream, so that a log shows them too."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._epochs = 0
        self._targets = 0.0
        self._seconds = 0.0
        self._precision = ""
        self._laps = dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0)

    @override
    def on_train_end(self, trainer: Trainer) -> None:
        """Write why the run ended before its epochs were done."""
        self._precision = trainer.precision
        if trainer.stopped:
            tqdm.write(f"stopped: {trainer.stopped}", file=sys.stderr)

    @override
    def on_epoch_end(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Write the losses and the speed of the epoch."""
        speed, seconds = metrics["targets_per_second"], metrics["seconds"]
        self._epochs += 1
        self._targets += speed * seconds
        self._seconds += seconds
        for name in self._laps:
            self._laps[name] += metrics[f"seconds/{name}"]
        parts = [_losses(metrics, "loss"), _losses(metrics, "validation")]
        shown = ", ".join([*filter(None, parts), f"{speed:,.0f} targets/s", f"{seconds:.1f} s"])
        epoch, epochs = trainer.state.epoch, trainer.config.epochs
        number = f"{epoch}" if epochs is None else f"{epoch}/{epochs}"
        # Written around the progress bar, if there is one.
        tqdm.write(f"epoch {number}: {shown}", file=sys.stderr)

    def summary(self) -> str:
        """One line on the whole run: epochs done here, time, speed and where it goes, memory."""
        parts = [f"{counted(self._epochs, 'epoch')} in {time.perf_counter() - self._began:.1f} s"]
        if self._seconds:
            shares = (f"{name} {s / self._seconds:.0%}" for name, s in self._laps.items())
            parts.append(f"{self._targets / self._seconds:,.0f} targets/s ({', '.join(shares)})")
        if self._precision:
            parts.append(self._precision)
        memory = peak_memory()
        if memory is not None:
            parts.append(f"peak memory {memory / 2**20:,.0f} MiB")
        return ", ".join(parts)


def _losses(values: Mapping[str, float], name: str) -> str:
    """``loss 4.1 (pitch 3.2, step 0.9)``, or nothing where there is no such value."""
    if name not in values:
        return ""
    terms = [
        f"{key.partition('/')[2]} {value:.4g}"
        for key, value in values.items()
        if key.startswith(f"{name}/")
    ]
    return f"{name} {values[name]:.4g}" + (f" ({', '.join(terms)})" if terms else "")


def peak_memory() -> int | None:
    """The most memory that this process has held, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
