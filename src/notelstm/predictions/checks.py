"""Helpers of predictions: checks of shapes and intervals, and sampling of a class."""

from __future__ import annotations

import torch
from torch import Tensor

from notelstm.errors import ShapeError
from notelstm.protocols import Allowed

__all__ = ["bounds", "ordered", "same_shape", "sample_class"]


def same_shape(what: str, a: Tensor, b: Tensor) -> None:
    """Check that a target has the shape (...) of what was predicted.

    Raises:
        ShapeError: If it has not.
    """
    if a.shape != b.shape:
        raise ShapeError(
            f"{what} has shape {tuple(b.shape)}, the prediction has {tuple(a.shape)}",
            hint="squeeze or index one of them: shapes are not broadcast",
        )


def bounds(allowed: Allowed) -> tuple[Tensor, Tensor]:
    """The least and the greatest allowed value.

    Raises:
        ShapeError: If it is a mask of classes.
    """
    if isinstance(allowed, Tensor):
        raise ShapeError(
            "a mask of classes cannot constrain a prediction of numbers",
            hint="give the least and the greatest value, (...) each",
        )
    return allowed


def ordered(low: Tensor, high: Tensor) -> None:
    """Check that intervals are not empty.

    Raises:
        ShapeError: If one is.
    """
    if bool((low > high).any()):
        raise ShapeError(
            "the interval is empty: its low is above its high",
            hint="return the prediction unchanged where nothing is left",
        )


def sample_class(cdf: Tensor, noise: Tensor) -> Tensor:
    """(...) classes sampled with (...) uniforms.

    Args:
        cdf: (..., C) float64 sums of the classes' weights up to each, which need not end at 1.
        noise: (...) in [0, 1).
    """
    total = cdf[..., -1]
    # Rounding must not carry a sample past the last class that has any weight.
    at = torch.minimum(noise.double() * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cdf.contiguous(), at.unsqueeze(-1), right=True).squeeze(-1)
