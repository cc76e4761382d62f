"""One seed, three keys: what is steered is what may be drawn.

Processors stand between what the model predicts and the draw. Here a scale holds the pitches, and
at most four notes sound at once; when, how long and how loud is the model's own affair.
``steered.html`` shows and plays all three; the picture of one needs the extra ``plot``.
"""

from notelstm import Ancestral, generate, load
from notelstm.listening import Sample, save_page, save_piano_roll
from notelstm.sampling import MaxPolyphony, Scale, TopP

bundle = load()
samples = []
for key in ("C major", "C minor", "A minor pentatonic"):
    steps = (Scale(name=key), MaxPolyphony(notes=4), TopP(p=0.97))
    music = generate(bundle, seconds=25, sampler=Ancestral(processors=steps), seed=11)
    samples.append(Sample(notes=music, title=key))
    print(f"{key}: {music}")

save_page(samples, "steered.html", title="One seed, three keys")
save_piano_roll(samples[-1].notes, "steered.svg", title=samples[-1].title)
