"""Fine-tune the pretrained model, which was trained on concert performances, on Bach chorales.

Fine-tuning starts from the recipe in the bundle, with a lower learning rate. Held-out chorales show
the effect in nats per note, lower is better. Much of it comes from timing and velocity, since the
chorales are exactly in time and at one velocity; pitch shows the harmony. Needs the extra ``bach``.
"""

from notelstm import generate, load, nats_per_note, write_midi
from notelstm.data.bach import BachChorales
from notelstm.recipes import with_settings

pieces = [notes for _, notes in BachChorales().pieces(limit=70)]
train, held_out = pieces[:60], pieces[60:]

before = load()
# The music differs a lot, so use a higher learning rate than the default, and small batches.
recipe = with_settings(before.recipe(epochs=2, lr_divisor=4), {"batch_size": 8})
after = recipe.train(train, init_from=before)

for name, bundle in {"before": before, "after": after}.items():
    scores = nats_per_note(bundle.generation_model, bundle.encoder, held_out)
    music = generate(bundle, num_notes=100, prompt=held_out[0][:40], seed=1)
    write_midi(music, f"{name}.mid")
    print(f"{name}: {scores.total:.2f} nats per note, {scores.of('pitch'):.2f} of them for pitch")

after.save("bach.notelstm", half_precision=True)
print("license of the training data:", after.data.license)
