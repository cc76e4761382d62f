"""A run's state as plain tensors and numbers, whole whatever number of processes it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from notelstm.protocols import NoteModel
from notelstm.training.position import Position
from notelstm.training.processes import Processes
from notelstm.tree import flatten, leaf, move, unflatten

__all__ = ["put_state", "take_state"]


def take_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, at: Position, processes: Processes
) -> dict[str, Any]:
    """What is needed to go on from here; of several processes, the first one gets it.

    Args:
        model: The model.
        optimizer: Its optimizer.
        at: Where the run stands.
        processes: All of which call this.
    """
    sums = None if at.sums is None else processes.add(at.sums.clone())
    carried = {} if at.carried is None else flatten(at.carried)
    rng = torch.get_rng_state()
    device = leaf(cast(NoteModel, model).initial_state(1)[1]).device
    device_rng = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    parts = processes.gathered(({k: v.cpu() for k, v in carried.items()}, rng, device_rng))
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


def put_state(
    saved: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    at: Position,
    processes: Processes,
) -> None:
    """Go on from what :func:`take_state` gave, with as many processes or others.

    Args:
        saved: The same in every process.
        model: The model.
        optimizer: Its optimizer.
        at: Where the run stands; changed in place.
        processes: Of which this is one.
    """
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    at.epoch, at.batch, at.steps = saved["epoch"], saved["batch"], saved["steps"]
    at.rate_scale = saved["rate_scale"]
    named = cast(NoteModel, model)
    device = leaf(named.initial_state(1)[1]).device
    at.carried = _carried(saved["carried"], named, device, processes)
    # What all have added up is counted once.
    sums = saved["sums"]
    at.sums = sums.to(device) if sums is not None and processes.first else None
    if len(saved["rng"]) == processes.count:
        torch.set_rng_state(saved["rng"][processes.rank].cpu())
        device_rng = saved["device_rng"][processes.rank]
        if device_rng is not None and device.type == "cuda":
            torch.cuda.set_rng_state(device_rng.cpu(), device)


def _carried(
    saved: Mapping[str, Tensor], model: NoteModel, device: torch.device, processes: Processes
) -> Any:
    """This process's lanes of what was carried."""
    if not saved:
        return None
    mine = processes.lanes(len(next(iter(saved.values()))))
    if mine.start == mine.stop:
        return None
    template = model.initial_state(mine.stop - mine.start)[1]
    return move(unflatten(template, {k: v[mine] for k, v in saved.items()}), device)
