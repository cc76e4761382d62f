"""Is a model better that hears what still sounds, and surely so? And what can counting alone do?

Figures of different models can be compared, since each is in nats per note on one grid. Compared
piece by piece, hard and easy pieces cancel; the interval is one of 95 %. So short a training has
learnt harmony, but not yet that all chorales are equally loud. Needs the extra ``bach``.
"""

from notelstm.data.bach import BachChorales
from notelstm.evaluation import compare, evaluate
from notelstm.recipes import expressive, with_settings

pieces = [notes for _, notes in BachChorales().pieces(limit=60)]
train, unheard = pieces[:45], pieces[45:]

settings = {"epochs": 6, "learning_rate": 0.01, "warmup_steps": 20}
small = with_settings(
    expressive(hidden_size=64), {"sequence_length": 32, "batch_size": 16, "training": settings}
)
recipes = {"hears": small, "hears nothing": with_settings(small, {"model": {"sounding": False}})}
reports = {
    name: evaluate(recipe.train(train), unheard, training=train) for name, recipe in recipes.items()
}

scores = {name: report.model for name, report in reports.items()}
scores |= reports["hears"].baselines
print("nats per note: pitch, and all of a note")
for name, score in sorted(scores.items(), key=lambda item: item[1].of("pitch") or 0):
    print(f"{name:13} {score.of('pitch'):6.2f} {score.total:6.2f}")

found = compare(scores["hears"], scores["hears nothing"])
value, low, high = found.differences["pitch"]
print(f"hearing is worth {-value:.2f} nats, surely between {-high:.2f} and {-low:.2f};")
print(f"it is better on {found.better['pitch']} of {found.pieces} chorales")
