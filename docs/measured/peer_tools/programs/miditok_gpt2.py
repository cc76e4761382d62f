"""Train on a folder of MIDI files and write 500 new notes: FOLDER NEW.mid STEPS."""

import random
import sys
from pathlib import Path

import torch
from miditok import MIDILike, TokenizerConfig
from transformers import GPT2Config, GPT2LMHeadModel

tokenizer = MIDILike(TokenizerConfig(beat_res={(0, 1): 100}, use_pitchdrum_tokens=False))
pieces = []
for path in Path(sys.argv[1]).rglob("*.mid*"):
    pieces.append(torch.tensor(tokenizer(path)[0].ids))
config = GPT2Config(
    vocab_size=len(tokenizer), n_positions=512, n_embd=192, n_layer=4, n_head=4,
    bos_token_id=tokenizer["BOS_None"], eos_token_id=tokenizer["EOS_None"],
)  # fmt: skip
model = GPT2LMHeadModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(int(sys.argv[3])):
    windows = []
    for piece in random.choices(pieces, k=4):
        first = random.randrange(len(piece) - 512)
        windows.append(piece[first : first + 512])
    batch = torch.stack(windows)
    optimizer.zero_grad()
    model(input_ids=batch, labels=batch).loss.backward()
    optimizer.step()
model.eval()
onsets = torch.tensor([number for token, number in tokenizer.vocab.items() if "NoteOn" in token])
ids = pieces[0][:256][None]
while torch.isin(ids[:, 256:], onsets).sum() < 500:
    known = ids[:, -256:]
    made = model.generate(known, do_sample=True, top_k=0, max_new_tokens=256)
    ids = torch.cat([ids, made[:, 256:]], dim=1)
tokenizer.decode(ids[:, 256:]).dump_midi(sys.argv[2])
