"""Train on Bach chorales for a few seconds, generate music, and score the model.

More epochs and more pieces give better music: ``notelstm demo`` trains for a minute. Needs the
extra ``bach``.
"""

import notelstm
from notelstm.data.bach import BachChorales
from notelstm.recipes import with_settings

pieces = [notes for _, notes in BachChorales().pieces(limit=24)]

# Train. A recipe is a choice of parts, and each of their settings can be changed.
recipe = with_settings(notelstm.expressive(hidden_size=64, epochs=4), {"batch_size": 4})
recipe.train(pieces[:20]).save("bach.notelstm")

# Generate unconditionally, and as a continuation of a chorale that was not trained on.
bundle = notelstm.load("bach.notelstm")
notelstm.write_midi(notelstm.generate(bundle, num_notes=100, seed=1), "free.mid")
prompt = pieces[-1][:40]
whole = prompt.continued(notelstm.generate(bundle, num_notes=100, prompt=prompt, seed=1))
notelstm.write_midi(whole, "continued.mid")

# Score the chorales that were not trained on.
scores = notelstm.nats_per_note(bundle.generation_model, bundle.encoder, pieces[20:])
print(f"{scores.total:.2f} nats per note; the music is in free.mid and continued.mid")
