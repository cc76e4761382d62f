"""The same model with three encoders, compared by one measure.

Only the encoder changes: the model builds its inputs and heads from the encoder's fields, and nats
per note do not depend on them. So short a training does not show which encoder is best. Needs the
extra ``bach``.
"""

import functools
from dataclasses import replace

from notelstm import (
    Ancestral,
    LogTimeEncoder,
    NoteEncoder,
    NoteLSTM,
    PerformanceEventEncoder,
    Recipe,
    StepDurationEncoder,
    TrainingConfig,
    generate,
    nats_per_note,
)
from notelstm.data.bach import BachChorales

pieces = [notes for _, notes in BachChorales().pieces(limit=16)]
recipe = Recipe(
    name="mine",
    encoder=StepDurationEncoder(),
    model=functools.partial(NoteLSTM, hidden_size=64),
    sampler=Ancestral(),
    stateful=True,
    batch_size=4,
    training=TrainingConfig(epochs=4, optimizer="adamw", learning_rate=0.01, max_grad_norm=1.0),
)

encoders: list[NoteEncoder] = [
    StepDurationEncoder(),  # a pitch, and two numbers in seconds
    LogTimeEncoder(),  # four classes
    PerformanceEventEncoder(),  # note-on, note-off, wait, velocity: several rows per note
]
for encoder in encoders:
    rows = encoder.encode(pieces[0])
    bundle = replace(recipe, encoder=encoder).train(pieces[:12])
    scores = nats_per_note(bundle.generation_model, encoder, pieces[12:])
    nats = {"without velocity": scores.pitch_step_duration, "with velocity": scores.total}
    figures = ", ".join(f"{name} {n:.2f}" for name, n in nats.items() if n is not None)
    size = f"{len(rows)} rows of {len(encoder.fields)} for {len(pieces[0])} notes"
    print(f"{type(encoder).__name__}: {size}")
    print(f"  nats per note: {figures}; sample: {generate(bundle, num_notes=50, seed=1)}")
