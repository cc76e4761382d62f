"""``check_encoder``: the contract of :class:`notelstm.protocols.NoteEncoder`, clause by clause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from hypothesis.strategies import SearchStrategy

from notelstm import plugins
from notelstm.encoders.rows import snapped
from notelstm.errors import EncodingError
from notelstm.fields import Field
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder
from notelstm.testing import strategies
from notelstm.testing.clauses import for_all, require, run
from notelstm.testing.constraint_checks import (
    CONSTRAINT_CLAUSES,
    SNAPPING_CLAUSES,
    allowed_rows_can_be_completed,
)
from notelstm.testing.makers import long_piece
from notelstm.testing.round_trips import PIECE_CLAUSES, TIME_CLAUSES, Promise, Tolerance, Trip
from notelstm.testing.tracker_checks import TRACKER_CLAUSES, allowed_rows_can_be_decoded

__all__ = ["EncoderCase", "check_encoder"]

_NAME = "check_encoder"


@final
@dataclass(frozen=True)
class EncoderCase:
    """The arguments of :func:`check_encoder`, and some notes of the encoder's domain."""

    encoder: NoteEncoder
    refuses: Sequence[Notes]
    entry_point: bool
    some: Notes


def check_encoder(
    encoder: NoteEncoder,
    *,
    onset_tolerance: Tolerance = 1e-3,
    duration_tolerance: Tolerance = 1e-3,
    velocity_tolerance: int = 0,
    keeps_order: bool = True,
    pieces: SearchStrategy[Notes] | None = None,
    hour: Notes | None = None,
    refuses: Sequence[Notes] = (),
    entry_point: bool = True,
    examples: int = 50,
) -> None:
    """Check that an encoder keeps the contract, and the accuracy of its docstring.

    The tolerances of a :class:`~notelstm.protocols.SnappingEncoder` are those of its snapped notes.

    Args:
        encoder: The encoder.
        onset_tolerance: The greatest error of an onset, counted from the first, in seconds: a
            number, or a function from the piece (N notes) to (N,) numbers.
        duration_tolerance: The greatest error of a duration in seconds, likewise.
        velocity_tolerance: The greatest error of a velocity, where the fields have one; 127 for
            an encoder with fields of the role ``other`` that does not keep velocities.
        keeps_order: Whether notes that start together keep their order.
        pieces: Pieces of the encoder's domain; any piece by default.
        hour: A long piece of its domain; 20,000 notes in an hour by default.
        refuses: Pieces outside its domain.
        entry_point: Whether it has an entry point, and can be rebuilt from its description.
        examples: The number of pieces to try.

    Raises:
        AssertionError: At the first broken clause, with its name.

    Example:
        >>> from notelstm.encoders import StepDurationEncoder
        >>> check_encoder(StepDurationEncoder(), examples=5)
    """
    long = long_piece(np.random.default_rng(0)) if hour is None else hour
    case = EncoderCase(encoder, refuses, entry_point, long[:50])
    run(_NAME, ENCODER_CLAUSES, case)
    promise = Promise(
        onset=onset_tolerance,
        duration=duration_tolerance,
        velocity=velocity_tolerance,
        keeps_order=keeps_order,
    )

    def holds(piece: Notes) -> None:
        run(_NAME, SNAPPING_CLAUSES, Trip(encoder, promise, piece))
        trip = Trip(encoder, promise, snapped(encoder, piece))
        run(_NAME, (*PIECE_CLAUSES, *CONSTRAINT_CLAUSES, *TRACKER_CLAUSES), trip)

    for_all(strategies.notes() if pieces is None else pieces, examples, holds)
    run(_NAME, HOUR_CLAUSES, Trip(encoder, promise, snapped(encoder, long)))


def _fields_have_unique_names(case: EncoderCase) -> None:
    """The fields have different names and stay the same."""
    fields = case.encoder.fields
    require(isinstance(fields, tuple) and fields, f"Got {fields!r}.")
    require(all(isinstance(field, Field) for field in fields), f"Got {fields!r}.")
    names = [field.name for field in fields]
    require(len(set(names)) == len(names), f"Got {names}.")
    require(case.encoder.fields == fields, "They differ the second time.")


def _values_lie_in_their_classes(case: EncoderCase) -> None:
    """The value of a class lies between its edges, except for that of a rest."""
    for field in case.encoder.fields:
        if field.values and field.edges:
            value, edges = np.array(field.values), np.array(field.edges)
            outside = (value < edges[:-1]) | (value > edges[1:])
            outside[[] if field.rest is None else [field.rest]] = False
            bad = np.flatnonzero(outside)
            require(not bad.size, f"Field {field.name!r}, class {bad[:1]}.")


def _empty_pieces_round_trip(case: EncoderCase) -> None:
    """A piece without notes, and a table without rows, decode to no notes."""
    rows = case.encoder.encode(Notes.empty())
    require(rows.ndim == 2, f"The rows have shape {rows.shape}.")
    require(len(case.encoder.decode(rows)) == 0, "The empty piece was decoded with notes.")
    none = np.zeros((0, len(case.encoder.fields)), dtype=np.float32)
    require(len(case.encoder.decode(none)) == 0, "A table without rows was decoded with notes.")


def _pieces_outside_the_domain_are_rejected(case: EncoderCase) -> None:
    """Pieces outside the domain are rejected with an EncodingError with the note and the reason."""
    for number, piece in enumerate(case.refuses):
        try:
            case.encoder.encode(piece)
        except EncodingError as error:
            require(error.problem, f"Piece {number}: the error has no reason.")
            require(error.where, f"Piece {number}: the error does not name the note.")
        else:
            raise AssertionError(f"Piece {number} was encoded.")


def _description_rebuilds_the_encoder(case: EncoderCase) -> None:
    """Rebuilt from its JSON description, the encoder has the same fields and rows."""
    if not case.entry_point:
        return
    rebuilt = plugins.build(plugins.describe(case.encoder))
    require(rebuilt.fields == case.encoder.fields, "The fields differ.")
    rows = case.encoder.encode(case.some)
    require(np.array_equal(rebuilt.encode(case.some), rows), "The rows differ.")


def _onsets_do_not_drift(trip: Trip) -> None:
    """Onsets are within the tolerance after 20,000 notes and an hour."""
    for clause in TIME_CLAUSES:
        clause(trip)


ENCODER_CLAUSES = (
    _fields_have_unique_names,
    _values_lie_in_their_classes,
    _empty_pieces_round_trip,
    _pieces_outside_the_domain_are_rejected,
    _description_rebuilds_the_encoder,
)

HOUR_CLAUSES = (_onsets_do_not_drift, allowed_rows_can_be_completed, allowed_rows_can_be_decoded)
