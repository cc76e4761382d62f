"""``check_encoder``: the contract of :class:`notelstm.protocols.NoteEncoder`, clause by clause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from hypothesis.strategies import SearchStrategy

from notelstm import plugins
from notelstm.errors import EncodingError
from notelstm.fields import Field
from notelstm.notes import Notes
from notelstm.protocols import NoteEncoder
from notelstm.testing import strategies
from notelstm.testing.clauses import for_all, require, run
from notelstm.testing.makers import long_piece
from notelstm.testing.measure_checks import MEASURE_CLAUSES
from notelstm.testing.round_trips import PIECE_CLAUSES, TIME_CLAUSES, Promise, Tolerance, Trip
from notelstm.testing.tracker_checks import TRACKER_CLAUSES, allowed_rows_can_be_decoded

__all__ = ["ENCODER_CLAUSES", "HOUR_CLAUSES", "EncoderCase", "check_encoder"]

_NAME = "check_encoder"


@final
@dataclass(frozen=True)
class EncoderCase:
    """An encoder on trial, and what is needed to look at it without a piece.

    Attributes:
        encoder: The encoder.
        refuses: Pieces outside its domain.
        entry_point: Whether it has one.
        some: A few notes of its domain.
    """

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
    """Check that an encoder keeps the contract, and what its docstring promises.

    Args:
        encoder: The encoder.
        onset_tolerance: Seconds by which an onset, counted from the first, may be off: a number,
            or a function from the piece (N notes) to (N,) numbers.
        duration_tolerance: Seconds by which a duration may be off, likewise.
        velocity_tolerance: By how much a velocity may be off, where the fields have one; 127 for
            an encoder with fields of the role ``other`` that does not keep velocities.
        keeps_order: Whether notes that start together come back in the order given.
        pieces: Pieces of the encoder's domain; any piece by default.
        hour: A long piece of its domain; 20,000 notes in an hour by default.
        refuses: Pieces outside its domain.
        entry_point: Whether it has an entry point, so that it must be saved and rebuilt alike.
        examples: How many pieces to try.

    Raises:
        AssertionError: At the first clause that is broken, with its name.

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
        run(
            _NAME,
            (*PIECE_CLAUSES, *MEASURE_CLAUSES, *TRACKER_CLAUSES),
            Trip(encoder, promise, piece),
        )

    for_all(strategies.notes() if pieces is None else pieces, examples, holds)
    run(_NAME, HOUR_CLAUSES, Trip(encoder, promise, long))


def _fields_have_unique_names(case: EncoderCase) -> None:
    """An encoder has fields with names of their own, the same each time it is asked."""
    fields = case.encoder.fields
    require(isinstance(fields, tuple) and fields, f"Got {fields!r}.")
    require(all(isinstance(field, Field) for field in fields), f"Got {fields!r}.")
    names = [field.name for field in fields]
    require(len(set(names)) == len(names), f"Got {names}.")
    require(case.encoder.fields == fields, "The second time they differed.")


def _values_lie_in_their_classes(case: EncoderCase) -> None:
    """What a class decodes to lies between the edges of that class."""
    for field in case.encoder.fields:
        if field.values and field.edges:
            value, edges = np.array(field.values), np.array(field.edges)
            bad = np.flatnonzero((value < edges[:-1]) | (value > edges[1:]))
            require(not bad.size, f"Field {field.name!r}, class {bad[:1]}.")


def _empty_pieces_round_trip(case: EncoderCase) -> None:
    """A piece without notes, and a table without rows, decode to no notes."""
    rows = case.encoder.encode(Notes.empty())
    require(rows.ndim == 2, f"Its rows have shape {rows.shape}.")
    require(len(case.encoder.decode(rows)) == 0, "The empty piece came back with notes.")
    none = np.zeros((0, len(case.encoder.fields)), dtype=np.float32)
    require(len(case.encoder.decode(none)) == 0, "No rows gave notes.")


def _pieces_outside_the_domain_are_rejected(case: EncoderCase) -> None:
    """A piece outside the domain is refused with an EncodingError that says which note and why."""
    for number, piece in enumerate(case.refuses):
        try:
            case.encoder.encode(piece)
        except EncodingError as error:
            require(error.problem, f"Piece {number}: the error gives no reason.")
            require(error.where, f"Piece {number}: the error does not say which note.")
        else:
            raise AssertionError(f"Piece {number} was encoded.")


def _description_rebuilds_the_encoder(case: EncoderCase) -> None:
    """Described as JSON and rebuilt, it has the same fields and gives the same rows."""
    if not case.entry_point:
        return
    rebuilt = plugins.build(plugins.describe(case.encoder))
    require(rebuilt.fields == case.encoder.fields, "The fields differ.")
    rows = case.encoder.encode(case.some)
    require(np.array_equal(rebuilt.encode(case.some), rows), "The rows differ.")


def _onsets_do_not_drift(trip: Trip) -> None:
    """After 20,000 notes in an hour onsets are still within the tolerance."""
    for clause in TIME_CLAUSES:
        clause(trip)


ENCODER_CLAUSES: tuple[Callable[[EncoderCase], None], ...] = (
    _fields_have_unique_names,
    _values_lie_in_their_classes,
    _empty_pieces_round_trip,
    _pieces_outside_the_domain_are_rejected,
    _description_rebuilds_the_encoder,
)
"""What holds without a piece."""

HOUR_CLAUSES: tuple[Callable[[Trip], None], ...] = (
    _onsets_do_not_drift,
    allowed_rows_can_be_decoded,
)
"""What holds for one long piece."""
