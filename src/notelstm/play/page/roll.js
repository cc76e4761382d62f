// The piano roll that runs: the past to the left of the play head, what is to come to its right.

import { pitchName } from "./keyboard.js";

const PAST = 0.62;    // the share of the width that shows the past
const EDGE = 30;      // pixels for the names of the keys
const FORGET = 90;    // seconds after which a note is no longer drawn

const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A canvas at the resolution of the screen, drawn on in CSS pixels.
export function surface(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, dense = devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  return { pen, width, height };
}

// A view of all notes at once, with a line at `mark` seconds.
export function overview(canvas, notes, seconds, mark) {
  const { pen, width, height } = surface(canvas);
  const pitches = notes.map((note) => note.pitch);
  const low = Math.min(...pitches.slice(0, 20000)) - 1, high = Math.max(...pitches.slice(0, 20000)) + 1;
  pen.fillStyle = theme("--panel");
  pen.fillRect(0, 0, width, height);
  const row = height / (high - low + 1);
  for (const note of notes) {
    pen.fillStyle = theme(note.by === "model" ? "--model" : "--you");
    pen.globalAlpha = mark !== undefined && note.start > mark ? 0.3 : 1;
    pen.fillRect(note.start / seconds * width, (high - note.pitch) * row,
      Math.max(1.2, (note.end - note.start) / seconds * width), Math.max(1.5, row - 0.5));
  }
  pen.globalAlpha = 1;
  if (mark === undefined) return;
  pen.fillStyle = theme("--ink");
  pen.fillRect(mark / seconds * width - 1, 0, 2, height);
}

export class Roll {
  constructor(canvas, clock) {
    this.canvas = canvas;
    this.clock = clock;
    this.notes = [];      // {start, end, pitch, velocity, by}; a held note has no end
    this.low = 48;
    this.high = 84;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.page = 0;
    this.readTheme();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readTheme());
  }

  readTheme() {
    const names = ["panel", "line", "quiet", "ink", "you", "model"];
    this.colours = Object.fromEntries(names.map((name) => [name, theme(`--${name}`)]));
  }

  replace(notes) {
    this.notes = notes.map((note) => ({ ...note }));
  }

  add(note) {
    this.notes.push(note);
    return note;
  }

  // Drop what the model would have played from `from` on, and end what sounds then.
  cut(from) {
    this.notes = this.notes.filter((note) => note.by === "you" || note.start < from);
    for (const note of this.notes) if (note.by === "model") note.end = Math.min(note.end, Math.max(from, note.start));
  }

  // Drop what the model would have played later, but let sounding notes end.
  replaceFrom(from) {
    this.notes = this.notes.filter((note) => note.by === "you" || note.start <= from);
  }

  get seconds() {
    return Math.min(12, Math.max(5, this.canvas.clientWidth / 90));
  }

  get description() {
    const count = (by) => this.notes.filter((note) => note.by === by).length;
    if (!this.notes.length) return "Piano roll: no notes yet";
    return `Piano roll: ${count("you")} recent notes of yours, ${count("model")} of the model`;
  }

  draw() {
    const now = this.clock(), { pen, width, height } = surface(this.canvas), colours = this.colours;
    this.notes = this.notes.filter((note) => now - (note.end ?? now) < FORGET);
    const shown = this.seconds, space = width - EDGE;
    // With less motion, the roll stands still and turns pages.
    if (this.still.matches && (now < this.page || now > this.page + shown * 0.75)) this.page = now - 0.1 * shown;
    const left = this.still.matches ? this.page : now - PAST * shown;
    const x = (second) => EDGE + (second - left) / shown * space;
    const visible = this.notes.filter((note) => note.start < left + shown && (note.end ?? now) > left);
    for (const { pitch } of visible) {
      this.low = Math.min(this.low, pitch - 1);
      this.high = Math.max(this.high, pitch + 1);
    }
    const row = height / (this.high - this.low + 1), y = (pitch) => (this.high - pitch) * row;
    pen.fillStyle = colours.panel;
    pen.fillRect(0, 0, width, height);
    this.grid(pen, width, height, row, y, x, left, shown);
    pen.save();
    pen.beginPath();
    pen.rect(EDGE, 0, space, height);
    pen.clip();
    for (const note of visible) {
      const from = x(note.start), long = Math.max(3, x(note.end ?? now) - from - 1);
      const tall = Math.max(3, row - 1), top = y(note.pitch) + (row - tall) / 2;
      pen.fillStyle = pen.strokeStyle = colours[note.by];
      pen.globalAlpha = 0.55 + 0.45 * note.velocity / 127;
      pen.beginPath();
      pen.roundRect(from, top, long, tall, Math.min(3, tall / 3));
      if (note.start > now) {
        pen.lineWidth = 1.5;
        pen.stroke();  // to come: an outline
      } else {
        pen.fill();
        // The model's notes have a light edge, so that they differ in more than colour.
        if (note.by === "model" && tall > 4) {
          pen.fillStyle = colours.panel;
          pen.fillRect(from + 1.5, top + tall / 2 - 0.75, Math.max(0, Math.min(long - 3, x(now) - from)), 1.5);
        }
      }
    }
    pen.globalAlpha = 1;
    pen.restore();
    pen.fillStyle = colours.ink;
    pen.fillRect(x(now) - 1, 0, 2, height);
  }

  grid(pen, width, height, row, y, x, left, shown) {
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (let pitch = this.low; pitch <= this.high; pitch++) {
      if (pitch % 12) continue;
      pen.fillStyle = this.colours.line;
      pen.fillRect(EDGE, y(pitch) + row - 0.5, width, 1);
      pen.fillStyle = this.colours.quiet;
      pen.fillText(pitchName(pitch), EDGE - 4, Math.min(height - 7, Math.max(7, y(pitch) + row / 2)));
    }
    pen.fillStyle = this.colours.line;
    for (let second = Math.ceil(left); second < left + shown; second++) {
      if (x(second) >= EDGE) pen.fillRect(x(second), 0, 1, height);
    }
  }
}
