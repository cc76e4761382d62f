// Three keyboards, which all call `press(pitch, velocity)` and `release(pitch)`: the keys on the
// screen, the keys of the computer, and those of a MIDI instrument.

import { isBlack, pitchName } from "./parts.js";

// Semitones above the lowest key, by the place of the key: the same on every keyboard layout.
const ROWS = [
  ["KeyZ", "KeyS", "KeyX", "KeyD", "KeyC", "KeyV", "KeyG", "KeyB", "KeyH", "KeyN", "KeyJ", "KeyM"],
  ["KeyQ", "Digit2", "KeyW", "Digit3", "KeyE", "KeyR", "Digit5", "KeyT", "Digit6", "KeyY", "Digit7", "KeyU"],
];
const PLACES = new Map(ROWS.flatMap((row, n) => row.map((code, k) => [code, 12 * n + k])));
const VELOCITY = 84;
const WHITE = 34, SMALL = 26;  // the least width of a white key, pixels; on a phone
const STEPS = [0, 2, 4, 5, 7, 9, 11];  // semitones above C of the white keys

export class ScreenKeyboard {
  constructor(element, press, release, built) {
    this.element = element;
    this.built = built;
    this.press = press;
    this.release = release;
    this.low = 48;
    this.keys = new Map();
    this.pointers = new Map();  // the pitch that each finger holds
    this.focused = null;
    element.addEventListener("pointerdown", (event) => this.down(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      element.addEventListener(name, (event) => this.up(event));
    }
    element.addEventListener("keydown", (event) => this.keyDown(event));
    element.addEventListener("keyup", (event) => this.keyUp(event));
    element.addEventListener("focusout", () => this.let());
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    new ResizeObserver(() => this.build()).observe(element);
  }

  // The number of white keys that fit.
  get whites() {
    const width = this.element.clientWidth;
    return Math.min(36, Math.max(8, Math.floor(width / (width < 700 ? SMALL : WHITE))));
  }

  get high() {
    const whites = this.whites - 1;
    return this.low + 12 * Math.floor(whites / 7) + STEPS[whites % 7];
  }

  // Keys from a C on.
  show(low) {
    this.low = Math.min(Math.max(12, low), 96);
    while (this.high > 127) this.low -= 12;
    this.build(true);
  }

  build(anew = false) {
    if (!anew && this.shown === this.whites) return;
    this.shown = this.whites;
    this.let();
    const before = this.focused, had = this.element.contains(document.activeElement);
    this.keys.clear();
    this.element.replaceChildren();
    const white = 100 / this.whites, high = this.high;
    let left = 0;
    for (let pitch = this.low; pitch <= high; pitch++) {
      const key = document.createElement("button"), black = isBlack(pitch);
      key.type = "button";
      key.dataset.pitch = pitch;
      key.className = black ? "key black" : "key white";
      key.setAttribute("aria-label", pitchName(pitch));
      key.tabIndex = -1;
      key.style.left = `${black ? left - 0.31 * white : left}%`;
      key.style.width = `${black ? 0.62 * white : white}%`;
      if (!black) left += white;
      if (pitch % 12 === 0) key.append(Object.assign(document.createElement("span"), { textContent: pitchName(pitch) }));
      this.element.append(key);
      this.keys.set(pitch, key);
    }
    this.focus(this.keys.has(before) ? before : this.keys.has(60) ? 60 : this.low, had);
    this.built();
  }

  // One key is in the tab order; arrow keys move to the others.
  focus(pitch, move) {
    const key = this.keys.get(pitch);
    if (!key) return;
    this.keys.get(this.focused)?.setAttribute("tabindex", "-1");
    this.focused = pitch;
    key.tabIndex = 0;
    if (move) key.focus();
  }

  pitchAt(event) {
    const key = document.elementFromPoint(event.clientX, event.clientY)?.closest(".key");
    return key && this.element.contains(key) ? Number(key.dataset.pitch) : null;
  }

  down(event) {
    const pitch = this.pitchAt(event);
    if (pitch === null || event.button) return;
    event.target.releasePointerCapture?.(event.pointerId);
    this.pointers.set(event.pointerId, pitch);
    this.press(pitch, this.velocity(event, pitch));
  }

  // Lower on the key is louder.
  velocity(event, pitch) {
    const box = this.keys.get(pitch).getBoundingClientRect();
    const depth = Math.min(1, Math.max(0, (event.clientY - box.top) / box.height));
    return Math.round(45 + 60 * depth);
  }

  move(event) {
    if (!this.pointers.has(event.pointerId)) return;
    const pitch = this.pitchAt(event), held = this.pointers.get(event.pointerId);
    if (pitch === held) return;
    if (held !== null) this.release(held);
    this.pointers.set(event.pointerId, pitch);
    if (pitch !== null) this.press(pitch, this.velocity(event, pitch));
  }

  up(event) {
    const held = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (held !== undefined && held !== null) this.release(held);
  }

  // Everything that is held on the screen.
  let() {
    for (const held of this.pointers.values()) if (held !== null) this.release(held);
    this.pointers.clear();
  }

  keyDown(event) {
    const pitch = Number(event.target.dataset.pitch);
    if (Number.isNaN(pitch)) return;
    const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    if (event.key in moves) {
      event.preventDefault();
      this.focus(pitch + moves[event.key], true);
    } else if ((event.key === " " || event.key === "Enter") && !event.repeat) {
      event.preventDefault();
      event.stopPropagation();
      this.pointers.set("key", pitch);
      this.press(pitch, VELOCITY);
    } else if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  keyUp(event) {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    this.up({ pointerId: "key" });
  }

  // Show which keys sound, and for whom.
  light(pitch, by, on) {
    this.keys.get(pitch)?.classList.toggle(by, on);
  }
}

export class ComputerKeyboard {
  constructor(lowest, press, release) {
    this.lowest = lowest;  // gives the pitch of the lowest key
    this.enabled = true;
    this.held = new Map();
    this.press = press;
    this.release = release;
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => this.up(event));
    addEventListener("blur", () => this.let());
  }

  down(event) {
    const place = PLACES.get(event.code);
    if (!this.enabled || place === undefined || event.repeat || this.held.has(event.code)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
    const pitch = this.lowest() + place;
    if (pitch > 127) return;
    event.preventDefault();
    this.held.set(event.code, pitch);
    this.press(pitch, VELOCITY);
  }

  up(event) {
    const pitch = this.held.get(event.code);
    this.held.delete(event.code);
    if (pitch !== undefined) this.release(pitch);
  }

  let() {
    for (const pitch of this.held.values()) this.release(pitch);
    this.held.clear();
  }
}

export class MidiKeyboard {
  // `changed` gets the names of the instruments.
  constructor(press, release, changed) {
    this.press = press;
    this.release = release;
    this.changed = changed;
    this.down = new Set();     // keys that are held
    this.sustained = new Set();  // notes that only the pedal holds
    this.pedal = false;
  }

  static get exists() {
    return "requestMIDIAccess" in navigator;
  }

  async connect() {
    const access = await navigator.requestMIDIAccess();
    access.onstatechange = () => this.listen(access);
    this.listen(access);
  }

  listen(access) {
    const inputs = [...access.inputs.values()].filter((input) => input.state === "connected");
    for (const input of inputs) input.onmidimessage = (event) => this.read(event.data);
    this.changed(inputs.map((input) => input.name));
  }

  read([status, first, second]) {
    const kind = status & 0xf0;
    if (kind === 0x90 && second > 0) {
      this.down.add(first);
      this.sustained.delete(first);
      this.press(first, second);
    } else if (kind === 0x80 || kind === 0x90) {
      this.down.delete(first);
      if (this.pedal) this.sustained.add(first);
      else this.release(first);
    } else if (kind === 0xb0 && first === 64) {
      this.pedal = second >= 64;
      if (this.pedal) return;
      for (const pitch of this.sustained) this.release(pitch);
      this.sustained.clear();
    } else if (kind === 0xb0 && (first === 120 || first === 123)) {
      for (const pitch of [...this.down, ...this.sustained]) this.release(pitch);
      this.down.clear();
      this.sustained.clear();
    }
  }
}
