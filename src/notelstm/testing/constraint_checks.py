"""The clauses of ``check_encoder`` about encoders that limit rows, and that snap notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from notelstm.batch import columns
from notelstm.encoders.rows import TrackingEncoder, snapped, tracker_of
from notelstm.fields import Field, Rows, no_row
from notelstm.protocols import ConstrainingEncoder, SnappingEncoder
from notelstm.sampling.masking import rows_before
from notelstm.testing.clauses import require
from notelstm.testing.round_trips import EXACT, Trip

__all__ = ["allowed_rows_can_be_completed"]


def _limited(encoder: ConstrainingEncoder) -> list[Field]:
    """The limited fields, checked."""
    named = {field.name: field for field in encoder.fields}
    for name in encoder.limited_fields:
        known = name in named and named[name].is_categorical
        require(known, f"limited_fields: {name!r} is no field of classes.")
    return [named[name] for name in encoder.limited_fields]


def _mask(
    encoder: ConstrainingEncoder,
    field: Field,
    known: Mapping[str, Tensor],
    previous: Mapping[str, Tensor],
) -> Tensor:
    """(N, C) the allowed classes of N rows, checked."""
    (count,) = previous[field.name].shape
    shape = (count, field.classes or 0)
    mask = encoder.allowed_classes(field.name, known, previous)
    if mask is None:
        return torch.ones(shape, dtype=torch.bool)
    require(isinstance(mask, Tensor), f"{field.name!r}: {type(mask).__name__} for tensors.")
    same = mask.shape == shape and mask.dtype == torch.bool
    require(same, f"{field.name!r}: {mask.dtype} {tuple(mask.shape)} instead of bool {shape}.")
    found: Tensor = mask
    return found


def _encoded_classes_are_allowed(trip: Trip) -> None:
    """The classes of encoded rows are allowed, whatever entries of the row are known."""
    encoder = trip.encoder
    if not isinstance(encoder, ConstrainingEncoder) or not len(trip.rows):
        return
    rows = torch.from_numpy(trip.rows)
    entries = columns(rows, encoder.fields)
    previous = columns(rows_before(rows, encoder.fields), encoder.fields)
    for field in _limited(encoder):
        others = [name for name in entries if name != field.name]
        for names in ([], others, *([name] for name in others)):
            mask = _mask(encoder, field, {name: entries[name] for name in names}, previous)
            allowed = mask.gather(1, entries[field.name].unsqueeze(1))[:, 0]
            row = int((~allowed).long().argmax())
            require(allowed.all(), f"Row {row}: {trip.rows[row]}, field {field.name!r}.")


def _allowed_classes_agree(trip: Trip) -> None:
    """Tensors of all rows, arrays of one, and the tracker have the same allowed classes.

    A tracker of the encoder's own may allow fewer. It also has the row before.
    """
    encoder = trip.encoder
    if not isinstance(encoder, ConstrainingEncoder) or not len(trip.rows):
        return
    rows = torch.from_numpy(trip.rows)
    entries = columns(rows, encoder.fields)
    previous = columns(rows_before(rows, encoder.fields), encoder.fields)
    own_tracker = isinstance(encoder, TrackingEncoder)
    for field in _limited(encoder):
        others = [name for name in entries if name != field.name]
        for names in ([], others):
            masks = _mask(encoder, field, {name: entries[name] for name in names}, previous).numpy()
            tracker, before = tracker_of(encoder), no_row(encoder.fields)
            for i, (mask, row) in enumerate(zip(masks, trip.rows, strict=True)):
                by_name = {f.name: x for f, x in zip(encoder.fields, row, strict=True)}
                known = {name: by_name[name] for name in names}
                last = {f.name: x for f, x in zip(encoder.fields, before, strict=True)}
                one = encoder.allowed_classes(field.name, known, last)
                alone = np.ones_like(mask) if one is None else one
                same = isinstance(alone, np.ndarray) and np.array_equal(alone, mask)
                require(same, f"Row {i}, field {field.name!r}: alone, other classes are allowed.")
                given = tracker.allowed(field, {name: float(x) for name, x in known.items()})
                by_tracker = np.ones_like(mask) if given is None else np.asarray(given)
                fits = not (by_tracker & ~mask).any()
                fits = fits and (own_tracker or np.array_equal(by_tracker, mask))
                require(fits, f"Row {i}, field {field.name!r}: the tracker allows other classes.")
                same = np.array_equal(tracker.previous, before, equal_nan=True)
                require(same, f"Row {i}: before it, the tracker has the row {tracker.previous}.")
                tracker.push(row)
                before = row


def allowed_rows_can_be_completed(trip: Trip) -> None:
    """Whatever allowed entries are chosen, in any order, some class of each field is allowed."""
    encoder = trip.encoder
    if not isinstance(encoder, ConstrainingEncoder):
        return
    fields, limited = encoder.fields, {field.name for field in _limited(encoder)}
    rng = np.random.default_rng(0)
    for _ in range(20):
        before: dict[str, Any] = dict(zip((f.name for f in fields), no_row(fields), strict=True))
        order = [fields[k] for k in rng.permutation(len(fields))]
        for _ in range(40):
            row: dict[str, Any] = {}
            for field in order:
                if field.classes is None:
                    row[field.name] = np.float32(np.clip(0.0, *field.interval))
                    continue
                mask = None
                if field.name in limited:
                    mask = encoder.allowed_classes(field.name, row, before)
                classes = np.arange(field.classes) if mask is None else np.flatnonzero(mask)
                require(classes.size, f"{field.name!r}: no class is allowed, {row} after {before}.")
                # Dead ends are at the extremes.
                chosen = classes[[0, -1, int(rng.integers(len(classes)))][int(rng.integers(3))]]
                row[field.name] = np.float32(chosen)
            before = row


def _snapped_notes_have_the_same_rows(trip: Trip) -> None:
    """Snapped notes have one row each, the same as the piece, and are those of the piece."""
    encoder, piece = trip.encoder, trip.piece
    if not isinstance(encoder, SnappingEncoder):
        return
    found = snapped(encoder, piece)
    rows: Rows = encoder.encode(found)
    require(np.array_equal(rows, encoder.encode(piece)), "They have other rows.")
    require(len(rows) == len(found), f"{len(rows)} rows of {len(found)} snapped notes.")
    again = snapped(encoder, found)
    same = len(again) == len(found) and np.array_equal(again.pitch, found.pitch)
    same = same and np.allclose(again.start, found.start, rtol=0, atol=EXACT)
    require(same, "Snapped again, they are other notes.")
    require(len(found) <= len(piece), f"{len(piece)} notes became {len(found)}.")
    pitches = set(piece.pitch.tolist())
    require(set(found.pitch.tolist()) == pitches, "Some pitches of the piece are lost, or added.")


CONSTRAINT_CLAUSES = (_encoded_classes_are_allowed, _allowed_classes_agree)

SNAPPING_CLAUSES = (_snapped_notes_have_the_same_rows,)
