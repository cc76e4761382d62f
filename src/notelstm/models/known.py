"""Rows as a model's heads and a loss know them: a tensor for each field."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from notelstm.fields import Field

__all__ = ["columns"]


def columns(rows: Tensor, fields: Sequence[Field]) -> dict[str, Tensor]:
    """The columns of rows by field name.

    Args:
        rows: (..., F).
        fields: The F fields.

    Returns:
        (...) each: class ids (int64) of categorical fields, values of the others.
    """
    return {
        field.name: rows[..., i].long() if field.is_categorical else rows[..., i]
        for i, field in enumerate(fields)
    }
