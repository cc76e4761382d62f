"""The reference recipe: the original design, with a switch for each of its faults."""

from __future__ import annotations

import inspect
from typing import Final

from notelstm.encoders import StepDurationEncoder
from notelstm.losses import AllPairs, CompositeLoss, Likelihood, PositivePressure
from notelstm.midi.policy import ReadPolicy
from notelstm.models import ThreeHeadLSTM
from notelstm.protocols import LossTerm
from notelstm.recipes.recipe import ModelSpec, Recipe
from notelstm.sampling import MinDuration, RawPitch, Weighted
from notelstm.training import TrainingConfig

__all__ = ["FAULTS", "reference"]


def reference(
    *,
    as_printed: bool = False,
    epochs: int = 200,
    sigmoid: bool = True,
    last_only: bool = True,
    point_estimates: bool = True,
    in_order: bool = True,
    broadcast: bool = False,
    raw_feedback: bool = False,
    crossing: bool = False,
    chord_order: bool = False,
    first_instrument: bool = False,
    zero_duration: bool = False,
) -> Recipe:
    """The recipe of the original: pitch, step, duration, windows of 25, an LSTM with three heads.

    Args:
        as_printed: Whether all faults are on, as in the article, in place of the other switches.
        epochs: Passes over the training set.
        sigmoid: A sigmoid confines pitch logits to (0, 1), and sampling uses them as weights.
        last_only: Each window of 25 has one target.
        point_estimates: Step and duration are point estimates; if False, censored normals, trained
            by likelihood with all weights 1.
        in_order: Windows are in the order of the files.
        broadcast: The losses of point estimates compare every prediction with every target.
        raw_feedback: Sampled pitches are fed back without scaling.
        crossing: Windows may run from one piece into the next.
        chord_order: Simultaneous notes keep the order of the file.
        first_instrument: The first instrument of a file is read, also drums, and tempo changes are
            read from the first chunk only, as in pretty_midi.
        zero_duration: Sampled notes may have a duration of 0.

    Returns:
        A recipe of 200 epochs of SGD, as the article's.

    Example:
        >>> reference().training.learning_rate
        0.005
        >>> reference(as_printed=True).cross_piece_boundaries
        True
    """
    if as_printed:
        return reference(epochs=epochs, **dict.fromkeys(FAULTS, True))
    times: LossTerm = AllPairs() if broadcast else PositivePressure()
    if point_estimates:
        loss = CompositeLoss(
            terms={"pitch": (Likelihood(), 0.1), "step": (times, 20.0), "duration": (times, 1.0)}
        )
    else:
        loss = CompositeLoss.for_fields(StepDurationEncoder().fields)
    return Recipe(
        name="reference",
        encoder=StepDurationEncoder(),
        model=ModelSpec(ThreeHeadLSTM, {"sigmoid": sigmoid, "point_estimates": point_estimates}),
        loss=loss,
        read_policy=ReadPolicy(
            tracks="first-instrument" if first_instrument else "first",
            drums=first_instrument,
            simultaneous_order="file" if chord_order else "pitch",
            tempos="first" if first_instrument else "all",
        ),
        sequence_length=25,
        targets="last" if last_only else "every",
        cross_piece_boundaries=crossing,
        batch_size=64,
        shuffle=not in_order,
        training=TrainingConfig(epochs=epochs, optimizer="sgd", learning_rate=0.005),
        sampler=Weighted(processors=() if zero_duration else (MinDuration(),)),
        context_length=25,
        input_transform=RawPitch() if raw_feedback else None,
    )


FAULTS: Final[dict[str, bool]] = {
    name: parameter.default
    for name, parameter in inspect.signature(reference).parameters.items()
    if name not in ("as_printed", "epochs")
}
"""The faults of the original and their defaults; False for those that are repaired."""
