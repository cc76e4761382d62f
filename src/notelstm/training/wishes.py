"""``Wishes``: what callbacks and Ctrl-C have asked of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch

from notelstm.training.processes import Processes

__all__ = ["Wishes"]


@final
@dataclass(kw_only=True)
class Wishes:
    """What was asked of a run; of several processes, the first one's callbacks ask.

    A process goes by what all have agreed on, or some would end while others go on.

    Attributes:
        stop: Why it is to end after the epoch, "" if it is not.
        now: Whether the epoch is to end too, after the step.
        spent: Share of the run's time that is spent; None without a time budget.
        hold: Whether good states are held on to.
        back: What the learning rate is to be multiplied by when it goes back; None to go on.
        heard: Whether Ctrl-C came to this process.
        interrupted: Whether it came to any of them.
    """

    stop: str = ""
    now: bool = False
    spent: float | None = None
    hold: bool = False
    back: float | None = None
    heard: bool = False
    interrupted: bool = False

    def agree(self, processes: Processes) -> None:
        """Let all processes know everything; all of them call this."""
        asked = (self.stop, self.now, self.spent, self.hold, self.back)
        self.stop, self.now, self.spent, self.hold, self.back = processes.told(asked)
        self.interrupted = bool(processes.add(torch.tensor(int(self.heard))))

    def agree_on_urgent(self, lost: bool, processes: Processes) -> bool:
        """Let all processes know what cannot wait for the end of the epoch.

        Args:
            lost: Whether this process has seen a loss that is not finite.
            processes: All of which call this after each step.

        Returns:
            Whether any of them has.
        """
        if processes.count == 1:
            self.interrupted = self.heard
            return lost
        mine = self if processes.first else Wishes()
        asked = (lost, self.heard, mine.now, mine.spent is not None, mine.spent or 0.0)
        *flags, spent = processes.add(torch.tensor(asked, dtype=torch.float64)).tolist()
        anyone_lost, self.interrupted, self.now, timed = map(bool, flags)
        self.spent = spent if timed else None
        return anyone_lost
