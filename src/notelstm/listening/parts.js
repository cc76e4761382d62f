// Parts of every page that shows music: names, colours, shortcuts, and the ground of a piano roll.

const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
export const KEYS = 44;  // the width of the keyboard at the left edge of a piano roll, pixels
const APART = 1;         // pixels between a note and the next of its pitch

export const pitchName = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;

export const isBlack = (pitch) => NAMES[pitch % 12].length > 1;

// A custom property of the page's light or dark theme.
export const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// A canvas at the resolution of the screen, drawn on in CSS pixels.
export function surface(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, dense = devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  return { pen, width, height };
}

// The rows of the pitches from `low` to `high`, each `row` pixels high: those of black keys are
// darker, and a line is below each C.
export function drawRows(pen, { low, high, row }, left, width) {
  const line = theme("--line");
  for (let pitch = low; pitch <= high; pitch++) {
    const top = (high - pitch) * row;
    if (isBlack(pitch)) {
      pen.fillStyle = "rgba(128, 128, 128, .09)";
      pen.fillRect(left, top, width, row);
    }
    if (pitch % 12) continue;
    pen.fillStyle = line;
    pen.fillRect(left, top + row - 0.5, width, 1);
  }
}

// A keyboard along the left edge; `lit` has the colours of the keys that sound, by pitch.
export function drawKeys(pen, { low, high, row }, lit = new Map()) {
  const height = (high - low + 1) * row, short = Math.round(KEYS * 0.58);
  const white = theme("--white-key"), black = theme("--black-key"), edge = theme("--key-edge");
  pen.fillStyle = white;
  pen.fillRect(0, 0, KEYS, height);
  for (let pitch = low; pitch <= high; pitch++) {
    const top = (high - pitch) * row;
    if (isBlack(pitch)) {
      pen.fillStyle = edge;
      pen.fillRect(short, top + row / 2 - 0.5, KEYS - short, 1);
      pen.fillStyle = lit.get(pitch) || black;
      pen.fillRect(0, top, short, row);
    } else {
      pen.fillStyle = lit.get(pitch) || white;
      pen.fillRect(0, top, KEYS, row);
      pen.fillStyle = edge;
      if (!isBlack(pitch + 11)) pen.fillRect(0, top + row - 0.5, KEYS, 1);
    }
  }
  const onKey = theme("--key-name"), onLit = theme("--panel");
  pen.font = "600 10px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (let pitch = low; pitch <= high; pitch++) {
    if (pitch % 12) continue;
    pen.fillStyle = lit.has(pitch) ? onLit : onKey;
    pen.fillText(pitchName(pitch), KEYS - 3, Math.min(height - 6, Math.max(6, (high - pitch + 0.5) * row)));
  }
  pen.fillStyle = edge;
  pen.fillRect(KEYS - 1, 0, 1, height);
}

// Give notes, which are in the order of their starts, the start of the next of their pitch, or of
// any other key: `next`, or Infinity.
export function markRepeats(notes, keyOf = (note) => note.pitch) {
  const later = new Map();
  for (const note of notes.toReversed()) {
    const found = later.get(keyOf(note));
    note.next = !found ? Infinity : found.start > note.start ? found.start : found.next;
    later.set(keyOf(note), note);
  }
}

// The width of a note that is drawn from `left` to `right`, if the next of its pitch begins at
// `next`: at least `least` pixels, but so that the two stay apart at any scale.
export function widthOf(left, right, next, least) {
  const space = next - left;
  return Math.min(Math.max(least, right - left - APART), Math.max(space - APART, space / 2));
}

// Call the actions by the key that is pressed, unless the focused control has its own use of it.
export function shortcuts(actions) {
  addEventListener("keydown", (event) => {
    const { key, target } = event, action = actions[key.length === 1 ? key.toLowerCase() : key];
    const own = event.defaultPrevented || target.closest("input, select, summary, textarea")
      || (target.closest("button, a") && (key === " " || key === "Enter"));
    const held = event.repeat && !key.startsWith("Arrow");
    if (!action || own || held || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
}

// Make an element a slider over `count()` things: arrow keys go from one to the next, `text` names
// the one of a number from 0, `show` is called with that number, or with null when the focus leaves.
// Returns a function to call when the things are others.
export function stepper(element, { count, text, show, first = () => 0 }) {
  let at = 0;
  const go = (number) => {
    at = Math.max(0, Math.min(number, count() - 1));
    element.setAttribute("aria-valuemax", count());
    element.setAttribute("aria-valuenow", at + 1);
    element.setAttribute("aria-valuetext", text(at));
  };
  element.role = "slider";
  element.tabIndex = 0;
  element.setAttribute("aria-valuemin", 1);
  go(first());
  element.addEventListener("focus", () => { go(first()); show(at); });
  element.addEventListener("blur", () => show(null));
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10,
      Home: -Infinity, End: Infinity }[event.key];
    if (!steps || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(at + steps);
    show(at);
  });
  return () => go(first());
}

// Show a text in a box beside a point of the element around the box, and inside of it.
export function showTip(tip, text, x, y) {
  tip.textContent = text;
  tip.hidden = !text;
  if (!text) return;
  const { clientWidth: width, clientHeight: height } = tip.parentElement;
  tip.style.left = `${Math.max(4, Math.min(x + 12, width - tip.offsetWidth - 4))}px`;
  const below = y + 14, above = y - tip.offsetHeight - 8;
  tip.style.top = `${below + tip.offsetHeight < height ? below : Math.max(2, above)}px`;
}
