"""Train on a folder of MIDI files and write 500 new notes: FOLDER NEW.mid EPOCHS."""

import sys

import notelstm
from notelstm.data import Folder
from notelstm.recipes import expressive

bundle = expressive(epochs=int(sys.argv[3])).train(Folder(path=sys.argv[1]).pieces())
notelstm.write_midi(notelstm.generate(bundle, num_notes=500), sys.argv[2])
