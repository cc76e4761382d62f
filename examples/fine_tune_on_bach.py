"""The model that comes along knows concerts; some seconds with Bach, and it knows chorales.

Fine-tuning goes on with a trained model, by its own recipe but gentler. Chorales that it was not
tuned on say what it has learnt: nats per note, lower is better. Much of it is that a score is
played in time and at one loudness; pitch says how much is harmony. Needs the extra ``bach``.
"""

from notelstm import generate, load, nats_per_note, save, write_midi
from notelstm.data.bach import BachChorales
from notelstm.recipes import with_settings

pieces = [notes for _, notes in BachChorales().pieces(limit=70)]
train, unheard = pieces[:60], pieces[60:]

before = load()
# Music of quite another kind: bolder than the default, and small batches of few pieces.
recipe = with_settings(before.recipe(epochs=2, lr_divisor=4), {"batch": 8})
after = recipe.train(train, init_from=before)

for name, bundle in {"before": before, "after": after}.items():
    scores = nats_per_note(bundle.player, bundle.encoder, unheard)
    music = generate(bundle, 100, prompt=unheard[0][:40], seed=1)
    write_midi(music, f"{name}.mid")
    print(f"{name}: {scores.total:.2f} nats per note, {scores.of('pitch'):.2f} of them for pitch")

save(after, "bach.notelstm", half=True)
print("what it was trained on:", after.data.licence)
