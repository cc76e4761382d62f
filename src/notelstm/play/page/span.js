// A span of the piece, marked on a roll of the whole piece, which the model writes anew.

import { overview } from "./roll.js";

const LEAST = 0.1;  // seconds

export class Span {
  // `refresh` asks for the piece; `fill` is called with the begin and the end of the span.
  constructor(panel, { refresh, fill }) {
    const find = (id) => panel.querySelector(`#${id}`);
    this.panel = panel;
    this.canvas = find("span-roll");
    this.begin = find("span-begin");
    this.end = find("span-end");
    this.button = find("fill");
    this.notes = [];
    this.most = Infinity;
    this.busy = false;
    this.chosen = false;
    panel.addEventListener("pointerenter", refresh);
    panel.addEventListener("focusin", (event) => { if (!panel.contains(event.relatedTarget)) refresh(); });
    this.begin.addEventListener("input", () => this.mark(Number(this.begin.value), Math.max(Number(this.end.value), Number(this.begin.value) + LEAST)));
    this.end.addEventListener("input", () => this.mark(Math.min(Number(this.begin.value), Number(this.end.value) - LEAST), Number(this.end.value)));
    this.button.addEventListener("click", () => fill(this.zero + Number(this.begin.value), this.zero + Number(this.end.value)));
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    addEventListener("resize", () => this.draw());
  }

  enable(can, most) {
    this.panel.hidden = !can;
    this.most = most;
    this.draw();
  }

  // The piece: notes with the times of the clock.
  show(notes) {
    this.notes = notes;
    this.zero = Math.min(...notes.map((note) => note.start));
    this.seconds = Math.max(LEAST, ...notes.map((note) => note.end - this.zero));
    for (const input of [this.begin, this.end]) input.max = this.seconds.toFixed(1);
    // Until a span is marked, it is the middle of the piece.
    if (!this.chosen) this.set(this.seconds / 3, Math.min(2 * this.seconds / 3, this.seconds / 3 + this.most));
    this.draw();
  }

  mark(begin, end) {
    this.chosen = true;
    this.set(begin, end);
    this.draw();
  }

  set(begin, end) {
    this.begin.value = Math.max(0, begin).toFixed(1);
    this.end.value = Math.min(this.seconds ?? end, end).toFixed(1);
  }

  press(event) {
    if (!this.notes.length || this.busy) return;
    const box = this.canvas.getBoundingClientRect();
    const at = (x) => Math.min(this.seconds, Math.max(0, (x - box.left) / box.width * this.seconds));
    const first = at(event.clientX);
    const drag = ({ clientX }) => this.mark(Math.min(first, at(clientX)), Math.max(first, at(clientX)));
    const done = () => {
      this.canvas.removeEventListener("pointermove", drag);
      this.chosen = true;
    };
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.addEventListener("pointermove", drag);
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, done, { once: true });
  }

  wait(busy) {
    this.busy = busy;
    this.draw();
  }

  draw() {
    const begin = Number(this.begin.value), end = Number(this.end.value), long = end - begin;
    for (const [input, at] of [[this.begin, begin], [this.end, end]]) {
      const text = `${at.toFixed(1)} s`;
      this.panel.querySelector(`[for="${input.id}"]`).textContent = text;
      input.setAttribute("aria-valuetext", `${text} of ${(this.seconds ?? 0).toFixed(1)} s`);
      input.disabled = !this.notes.length;
    }
    this.button.disabled = this.busy || !this.notes.length || long < LEAST / 2 || long > this.most;
    this.button.textContent = this.busy ? "Filling …" : "Fill";
    this.canvas.setAttribute("aria-label", this.notes.length
      ? `The piece: ${this.notes.length} notes in ${this.seconds.toFixed(1)} s, the span is from ${begin.toFixed(1)} to ${end.toFixed(1)} s`
      : "The piece has no notes yet");
    const shown = this.notes.map((note) => ({ ...note, start: note.start - this.zero, end: note.end - this.zero }));
    if (!this.panel.hidden) overview(this.canvas, shown, this.seconds ?? 1, undefined, { begin, end });
  }
}
