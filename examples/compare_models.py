"""Compare a model with and without sounding-note features, and with n-gram baselines.

Scores are in nats per note on one grid, so they are comparable across models. Comparing piece by
piece cancels the difference between hard and easy pieces; the interval has a confidence of 95 %. So
short a training learns harmony, but not yet that all notes of a chorale have the same velocity.
Needs the extra ``bach``.
"""

from notelstm import expressive
from notelstm.data.bach import BachChorales
from notelstm.evaluation import compare, evaluate
from notelstm.recipes import with_settings

pieces = [notes for _, notes in BachChorales().pieces(limit=60)]
train, held_out = pieces[:45], pieces[45:]

settings = {
    "sequence_length": 32,
    "batch_size": 16,
    "training": {"learning_rate": 0.01, "warmup_steps": 20},
}
full = with_settings(expressive(hidden_size=64, epochs=6), settings)
recipes = {
    "with": full,
    "without": with_settings(full, {"model": {"sounding_features": False}}),
}
reports = {
    name: evaluate(recipe.train(train), held_out, training=train)
    for name, recipe in recipes.items()
}

scores = {f"{name} features": report.model for name, report in reports.items()}
scores |= reports["with"].baselines
print("nats per note: pitch, total")
for name, score in sorted(scores.items(), key=lambda item: item[1].of("pitch") or 0):
    print(f"{name:16} {score.of('pitch'):6.2f} {score.total:6.2f}")

found = compare(scores["with features"], scores["without features"])
value, low, high = found.differences["pitch"]
print(f"the features improve pitch by {-value:.2f} nats, 95 % interval {-high:.2f} to {-low:.2f};")
print(f"pitch is better on {found.better['pitch']} of {found.pieces} chorales")
