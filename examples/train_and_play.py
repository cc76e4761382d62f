"""Train on Bach chorales for a few seconds, write music, and say how good the model is.

More epochs and more pieces make better music: ``notelstm demo`` trains for a minute. Needs the
extra ``bach``.
"""

import notelstm
from notelstm.data.bach import BachChorales
from notelstm.recipes import expressive, with_settings

pieces = [notes for _, notes in BachChorales().pieces(limit=24)]

# Train. A recipe is one choice of parts; any of its settings can be changed.
recipe = with_settings(expressive(hidden_size=64), {"batch_size": 4, "training": {"epochs": 4}})
notelstm.save(recipe.train(pieces[:20]), "bach.notelstm")

# Play: from nothing, and going on from the beginning of a chorale that it has not heard.
bundle = notelstm.load("bach.notelstm")
notelstm.write_midi(notelstm.generate(bundle, 100, seed=1), "free.mid")
prompt = pieces[-1][:40]
after = notelstm.generate(bundle, 100, prompt=prompt, seed=1)
whole = prompt.continued(after)
notelstm.write_midi(whole, "continued.mid")

# Measure, on chorales that it was not trained on.
scores = notelstm.nats_per_note(bundle.generation_model, bundle.encoder, pieces[20:])
print(f"{scores.total:.2f} nats per note; the music is in free.mid and continued.mid")
