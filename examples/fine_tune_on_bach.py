"""Fine-tune the pretrained model, which was trained on concerts, on chorales by Bach.

Fine-tuning continues with the recipe that the bundle records, at a lower learning rate. The result
is measured on chorales that it was not tuned on, in nats per note; lower is better. Much of the
gain is that a score is in strict time and at one loudness; the pitches show the harmony. Needs the
extra ``bach``.
"""

from notelstm import generate, load, nats_per_note, save, write_midi
from notelstm.data.bach import BachChorales
from notelstm.recipes import with_settings

pieces = [notes for _, notes in BachChorales().pieces(limit=70)]
train, unheard = pieces[:60], pieces[60:]

before = load()
# The music is of another kind, so the learning rate is higher than the default; few pieces, so the
# batches are small.
recipe = with_settings(before.recipe(epochs=2, lr_divisor=4), {"batch_size": 8})
after = recipe.train(train, init_from=before)

for name, bundle in {"before": before, "after": after}.items():
    scores = nats_per_note(bundle.generation_model, bundle.encoder, unheard)
    music = generate(bundle, 100, prompt=unheard[0][:40], seed=1)
    write_midi(music, f"{name}.mid")
    print(f"{name}: {scores.total:.2f} nats per note, {scores.of('pitch'):.2f} of them for pitch")

save(after, "bach.notelstm", half_precision=True)
print("what it was trained on:", after.data.license)
