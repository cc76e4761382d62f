"""One seed, three keys: processors control what is generated.

A processor changes a predicted distribution before a value is sampled from it. Here one allows
only the pitches of a scale, and another at most four notes at once; onsets, durations and
velocities are not constrained. ``keys.html`` shows and plays all three; the picture of the last one
needs the extra ``plot``.
"""

from notelstm import generate, load
from notelstm.listening import Sample, save_page, save_piano_roll
from notelstm.sampling import MaxPolyphony, Scale

bundle = load()
samples = []
for key in ("C major", "C minor", "A minor pentatonic"):
    processors = (Scale(name=key), MaxPolyphony(notes=4))
    music = generate(bundle, seconds=25, processors=processors, top_p=0.97, seed=11)
    samples.append(Sample(notes=music, title=key))
    print(f"{key}: {music}")

save_page(samples, "keys.html", title="One seed, three keys")
save_piano_roll(samples[-1].notes, "keys.svg", title=samples[-1].title)
