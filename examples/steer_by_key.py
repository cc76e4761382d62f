"""One seed, three keys: processors limit the entries that are sampled.

Here a scale limits the pitches, and at most four notes sound at once; onsets, durations and
velocities are sampled freely.
``steered.html`` shows and plays all three; the picture of one needs the extra ``plot``.
"""

from notelstm import generate, load
from notelstm.listening import Sample, save_page, save_piano_roll
from notelstm.sampling import MaxPolyphony, Scale

bundle = load()
samples = []
for key in ("C major", "C minor", "A minor pentatonic"):
    constraints = (Scale(name=key), MaxPolyphony(notes=4))
    music = generate(bundle, seconds=25, processors=constraints, top_p=0.97, seed=11)
    samples.append(Sample(notes=music, title=key))
    print(f"{key}: {music}")

save_page(samples, "steered.html", title="One seed, three keys")
save_piano_roll(samples[-1].notes, "steered.svg", title=samples[-1].title)
