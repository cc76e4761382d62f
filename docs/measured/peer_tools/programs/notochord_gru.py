"""Train on a folder of MIDI files and write 500 new notes: FOLDER NEW.mid STEPS."""

import random
import sys
from pathlib import Path

import mido
import torch
from notochord import Notochord

pieces = []
for path in Path(sys.argv[1]).rglob("*.mid*"):
    pitch, time, velocity, passed = [128], [0.0], [0.0], 0.0
    for message in mido.MidiFile(path):
        passed += message.time
        if message.type in ("note_on", "note_off"):
            pitch.append(message.note)
            time.append(passed)
            velocity.append(float(message.velocity if message.type == "note_on" else 0))
            passed = 0.0
    pieces.append((torch.tensor(pitch), torch.tensor(time), torch.tensor(velocity)))
model = Notochord(emb_size=256, rnn_hidden=256)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(int(sys.argv[3])):
    windows = []
    for piece in random.choices(pieces, k=4):
        first = random.randrange(len(piece[0]) - 64)
        windows.append([column[first : first + 64] for column in piece])
    pitch, time, velocity = (torch.stack(column) for column in zip(*windows, strict=True))
    result = model((pitch < 128).long(), pitch, time, velocity, torch.zeros_like(pitch))
    parts = ("instrument", "pitch", "time", "velocity", "end")
    loss = -sum(result[f"{part}_log_probs"].mean() for part in parts)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
model.eval()
model.reset()
file, track, begun = mido.MidiFile(), mido.MidiTrack(), 0
file.tracks.append(track)
while begun < 500:
    event = model.query_vtip(note_on_map={1: range(21, 109)})
    model.feed(**event)
    begun += event["vel"] > 0
    seconds = mido.second2tick(event["time"], file.ticks_per_beat, 500_000)
    velocity = round(event["vel"])
    track.append(mido.Message("note_on", note=event["pitch"], velocity=velocity, time=seconds))
file.save(sys.argv[2])
