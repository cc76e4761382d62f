// The piano roll that runs: the past to the left of the play head, what is to come to its right.

import { KEYS, drawKeys, drawRows, markRepeats, surface, theme, widthOf } from "./parts.js";

const PAST = 0.62;    // the share of the width that shows the past
const FORGET = 90;    // seconds after which a note is no longer drawn

// A view of all notes at once, with a line at `mark` seconds, or with a marked span.
export function overview(canvas, notes, seconds, mark, span) {
  const { pen, width, height } = surface(canvas);
  const pitches = notes.map((note) => note.pitch);
  const low = Math.min(...pitches.slice(0, 20000)) - 1, high = Math.max(...pitches.slice(0, 20000)) + 1;
  pen.fillStyle = theme("--panel");
  pen.fillRect(0, 0, width, height);
  if (span && notes.length) {
    const from = span.begin / seconds * width, to = span.end / seconds * width;
    pen.fillStyle = theme("--line");
    pen.fillRect(from, 0, to - from, height);
    pen.fillStyle = theme("--ink");
    for (const x of [from, to]) pen.fillRect(x - 1, 0, 2, height);
  }
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

  // Drop what would have been played from `from` on, and end what the model plays then.
  cut(from) {
    this.notes = this.notes.filter((note) => note.by === "you" ? note.start <= from : note.start < from);
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
    const shown = this.seconds, space = width - KEYS;
    // With less motion, the roll stands still and turns pages.
    if (this.still.matches && (now < this.page || now > this.page + shown * 0.75)) this.page = now - 0.1 * shown;
    const left = this.still.matches ? this.page : now - PAST * shown;
    const x = (second) => KEYS + (second - left) / shown * space;
    const visible = this.notes.filter((note) => note.start < left + shown && (note.end ?? now) > left);
    for (const { pitch } of visible) {
      this.low = Math.max(0, Math.min(this.low, pitch - 1));
      this.high = Math.min(127, Math.max(this.high, pitch + 1));
    }
    const row = height / (this.high - this.low + 1), y = (pitch) => (this.high - pitch) * row;
    pen.fillStyle = colours.panel;
    pen.fillRect(0, 0, width, height);
    const rows = { low: this.low, high: this.high, row };
    drawRows(pen, rows, KEYS, space);
    pen.fillStyle = colours.line;
    for (let second = Math.ceil(left); second < left + shown; second++) {
      if (x(second) >= KEYS) pen.fillRect(x(second), 0, 1, height);
    }
    pen.save();
    pen.beginPath();
    pen.rect(KEYS, 0, space, height);
    pen.clip();
    markRepeats(visible.sort((a, b) => a.start - b.start), ({ pitch, drum }) => drum ? -1 - pitch : pitch);
    for (const note of visible) {
      const from = x(note.start), long = widthOf(from, x(note.end ?? now), x(note.next), 3);
      const tall = Math.max(3, row - 1), top = y(note.pitch) + (row - tall) / 2;
      pen.fillStyle = pen.strokeStyle = colours[note.by];
      pen.globalAlpha = 0.55 + 0.45 * note.velocity / 127;
      pen.beginPath();
      // A drum is struck, not held.
      if (note.drum) pen.roundRect(from, top, tall, tall, tall / 2);
      else pen.roundRect(from, top, long, tall, Math.min(3, tall / 3));
      if (note.start > now) {
        pen.lineWidth = 1.5;
        pen.stroke();  // to come: an outline
      } else {
        pen.fill();
        // The model's notes have a light edge, so that they differ in more than colour.
        if (note.by === "model" && tall > 4 && !note.drum) {
          pen.fillStyle = colours.panel;
          pen.fillRect(from + 1.5, top + tall / 2 - 0.75, Math.max(0, Math.min(long - 3, x(now) - from)), 1.5);
        }
      }
    }
    pen.globalAlpha = 1;
    pen.restore();
    const sounding = visible.filter((note) => !note.drum && note.start <= now && (note.end ?? Infinity) > now);
    drawKeys(pen, rows, new Map(sounding.map((note) => [note.pitch, colours[note.by]])));
    pen.fillStyle = colours.ink;
    pen.fillRect(x(now) - 1, 0, 2, height);
  }
}
