"""``Constraints``: the classes that an encoder allows, excluded from the predictions of a model.

Training, scoring and generation use it, so that one method of the encoder,
:meth:`~notelstm.protocols.ConstrainingEncoder.allowed_classes`, limits all of them alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, final

import torch
from torch import Tensor

from notelstm.batch import columns
from notelstm.fields import Field
from notelstm.protocols import ConstrainingEncoder, NoteEncoder, Prediction

__all__ = ["Constraints", "rows_before"]


def rows_before(rows: Tensor, fields: Sequence[Field]) -> Tensor:
    """The row before each row of sequences that start a piece.

    Args:
        rows: (..., T, F).
        fields: The F fields.

    Returns:
        (..., T, F), with :func:`~notelstm.fields.no_row` before the first.
    """
    # Filled on the device: a copy from the CPU would wait for a GPU.
    none = torch.full_like(rows[..., :1, :], -1)
    for i, field in enumerate(fields):
        if not field.is_categorical:
            none[..., i] = math.nan
    return torch.cat([none, rows[..., :-1, :]], dim=-2)


@final
class Constraints:
    """Limits the predictions of a model to the classes that an encoder allows.

    Args:
        encoder: The encoder; of one that does not limit the rows, all classes are allowed.
        field_order: The names of the fields in the order of prediction.
    """

    def __init__(self, encoder: NoteEncoder | None, field_order: Sequence[str]) -> None:
        self._encoder: Final = encoder if isinstance(encoder, ConstrainingEncoder) else None
        self._limited: Final = () if self._encoder is None else self._encoder.limited_fields
        self._fields: Final = () if encoder is None else encoder.fields
        self._earlier: Final = {name: field_order[:i] for i, name in enumerate(field_order)}

    def __bool__(self) -> bool:
        """Whether the encoder limits any field."""
        return bool(self._limited)

    def allowed(self, field: str, known: Mapping[str, Tensor], previous: Tensor) -> Tensor | None:
        """The allowed classes of a field, given other fields of its row.

        Args:
            field: The name of the field.
            known: (...) the entries of the row that are known, by name.
            previous: (..., F) the row before, see :func:`rows_before`.

        Returns:
            (..., C) bool; None if all classes are allowed.
        """
        if self._encoder is None or field not in self._limited:
            return None
        before = columns(previous, self._fields)
        mask: Tensor | None = self._encoder.allowed_classes(field, known, before)
        return mask

    def apply(
        self,
        field: str,
        prediction: Prediction,
        known: Mapping[str, Tensor],
        previous: Tensor,
        *,
        keep_own: bool = False,
    ) -> Prediction:
        """The prediction of rows that are known, limited to the allowed classes.

        Args:
            field: The name of the field.
            prediction: For (...) rows.
            known: (...) the entries of the field and of the earlier ones, by name; later ones are
                not used.
            previous: (..., F) the row before each.
            keep_own: Whether the class of each row remains even if it is not allowed. Augmentation
                can change the order of rows; their loss then stays finite.
        """
        if field not in self._limited:
            return prediction
        earlier = {name: known[name] for name in self._earlier[field]}
        allowed = self.allowed(field, earlier, previous)
        if allowed is None:
            return prediction
        if not keep_own:
            return prediction.constrained(allowed)
        allowed = allowed.scatter(-1, known[field].unsqueeze(-1), True)
        # `constrained` checks that some class is possible, which would wait for a GPU.
        none = torch.zeros((), device=allowed.device)
        return prediction.add_log_weights(torch.where(allowed, none, -math.inf))
