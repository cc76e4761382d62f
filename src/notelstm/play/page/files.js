// A MIDI file: dropped or chosen, read by the server, shown, and continued after a mark.

import { overview } from "./roll.js";

// In tenths of a second, and not before a time: the note at that time counts.
function tenthAfter(seconds) {
  const tenth = Number(seconds.toFixed(1));
  return (tenth < seconds ? tenth + 0.1 : tenth).toFixed(1);
}

export class Files {
  // `address` gives the address to send it to; `use` is called with the time of the mark.
  constructor(panel, { address, use }) {
    this.find = (id) => panel.querySelector(`#${id}`);
    this.address = address;
    const chooser = this.find("file");
    chooser.addEventListener("change", () => { if (chooser.files[0]) this.read(chooser.files[0]); chooser.value = ""; });
    for (const name of ["dragover", "dragenter"]) {
      addEventListener(name, (event) => { event.preventDefault(); panel.classList.add("over"); });
    }
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) panel.classList.remove("over"); });
    addEventListener("drop", (event) => {
      event.preventDefault();
      panel.classList.remove("over");
      const [file] = event.dataTransfer.files;
      if (file) this.read(file);
    });
    this.find("mark").addEventListener("input", () => this.mark());
    this.find("use-file").addEventListener("click", () => use(Number(this.find("mark").value)));
    addEventListener("resize", () => this.mark());
  }

  async read(file) {
    const state = this.find("file-state");
    state.textContent = `Reading ${file.name} …`;
    let answer;
    try {
      const response = await fetch(this.address("midi"), { method: "POST", body: file });
      answer = await response.json();
    } catch {
      answer = { error: "The file did not reach the server." };
    }
    if (answer.error) {
      state.textContent = `${file.name}: ${answer.error}`;
      return;
    }
    state.textContent = `${file.name}: ${answer.summary}.`;
    const { start, end, pitch } = answer.notes;
    this.notes = start.map((second, n) => ({ start: second, end: end[n], pitch: pitch[n], by: "you" }));
    this.seconds = Math.max(...[answer.report.seconds, 0.1]);
    const mark = this.find("mark");
    mark.min = tenthAfter(start[0]);
    mark.max = tenthAfter(this.seconds);
    mark.value = tenthAfter(Math.min(this.seconds, Math.max(start[0], 20)));
    this.find("marker").hidden = false;
    this.mark();
  }

  // The server has no file any more.
  clear() {
    this.notes = null;
    this.find("marker").hidden = true;
    this.find("file-state").textContent = "";
  }

  mark() {
    if (!this.notes) return;
    const at = Number(this.find("mark").value), text = `${at.toFixed(1)} s`;
    this.find("mark-time").textContent = text;
    this.find("mark").setAttribute("aria-valuetext", `${text} of ${this.seconds.toFixed(1)} s`);
    overview(this.find("overview"), this.notes, this.seconds, at);
  }
}
