"""What predictions share: checks of shapes and intervals, and the draw of a class."""

from __future__ import annotations

import torch
from torch import Tensor

from notelstm.errors import ShapeError
from notelstm.protocols import Legal

__all__ = ["bounds", "drawn", "ordered", "same_shape"]


def same_shape(what: str, a: Tensor, b: Tensor) -> None:
    """Check that a target has the shape (...) of what was predicted.

    Raises:
        ShapeError: If it has not.
    """
    if a.shape != b.shape:
        raise ShapeError(
            f"{what} has the shape of the prediction, {tuple(a.shape)}",
            got=f"{tuple(b.shape)}",
            hint="squeeze or select so that both are equal; nothing is broadcast",
        )


def bounds(legal: Legal) -> tuple[Tensor, Tensor]:
    """The least and the greatest legal value.

    Raises:
        ShapeError: If it is a mask of classes.
    """
    if isinstance(legal, Tensor):
        raise ShapeError("a continuous field is confined to an interval", got="a mask of classes")
    return legal


def ordered(low: Tensor, high: Tensor) -> None:
    """Check that intervals are not empty.

    Raises:
        ShapeError: If one is.
    """
    if bool((low > high).any()):
        raise ShapeError(
            "an interval leaves at least one value",
            got="one whose low is above its high",
            hint="let the processor leave the prediction as it is there",
        )


def drawn(cdf: Tensor, noise: Tensor) -> Tensor:
    """(...) classes drawn with (...) uniforms.

    Args:
        cdf: (..., C) float64 sums of the classes' weights up to each, which need not end at 1.
        noise: (...) in [0, 1).
    """
    total = cdf[..., -1]
    # Rounding must not carry a draw past the last class that has any weight.
    at = torch.minimum(noise.double() * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cdf.contiguous(), at.unsqueeze(-1), right=True).squeeze(-1)
