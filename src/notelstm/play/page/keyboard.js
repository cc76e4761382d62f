// Three keyboards, which all call `press(pitch, velocity)` and `release(pitch)`: the keys on the
// screen, the keys of the computer, and those of a MIDI instrument.

import { isBlack, pitchName } from "./parts.js";

// Semitones above the lowest key, by the place of the key: the same on every keyboard layout.
const ROWS = [
  ["KeyZ", "KeyS", "KeyX", "KeyD", "KeyC", "KeyV", "KeyG", "KeyB", "KeyH", "KeyN", "KeyJ", "KeyM"],
  ["KeyQ", "Digit2", "KeyW", "Digit3", "KeyE", "KeyR", "Digit5", "KeyT", "Digit6", "KeyY", "Digit7", "KeyU"],
];
const PLACES = new Map(ROWS.flatMap((row, n) => row.map((code, k) => [code, 12 * n + k])));
// The pads of a drum kit: the key of General MIDI, the name, and the key of the computer.
const PADS = [
  [36, "Kick", "KeyZ"], [38, "Snare", "KeyX"], [42, "Closed hat", "KeyC"], [46, "Open hat", "KeyV"],
  [37, "Side stick", "KeyB"], [39, "Clap", "KeyN"], [54, "Tambourine", "KeyM"],
  [41, "Floor tom", "KeyQ"], [45, "Low tom", "KeyW"], [48, "Mid tom", "KeyE"], [50, "High tom", "KeyR"],
  [49, "Crash", "KeyT"], [51, "Ride", "KeyY"], [53, "Ride bell", "KeyU"],
];
const PAD_OF = new Map(PADS.map(([pitch, , code]) => [code, pitch]));
export const VELOCITY = 84;  // of keys that do not tell it
const WHITE = 34, SMALL = 26;  // the least width of a white key, pixels; on a phone
const STEPS = [0, 2, 4, 5, 7, 9, 11];  // semitones above C of the white keys

export class ScreenKeyboard {
  constructor(element, press, release, built) {
    this.element = element;
    this.built = built;
    this.press = press;
    this.release = release;
    this.low = 48;
    this.drums = false;  // pads instead of keys
    this.keys = new Map();
    this.pointers = new Map();  // the pitch that each finger holds
    this.focused = null;
    element.addEventListener("pointerdown", (event) => this.down(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    // A pointer may be lifted beside the keys.
    for (const name of ["pointerup", "pointercancel"]) addEventListener(name, (event) => this.up(event));
    element.addEventListener("keydown", (event) => this.keyDown(event));
    element.addEventListener("keyup", (event) => this.keyUp(event));
    // The focus also moves when a pointer presses the next key, which holds on.
    element.addEventListener("focusout", () => this.up({ pointerId: "key" }));
    addEventListener("blur", () => this.let());
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
    this.build(true);
  }

  showDrums(drums) {
    this.drums = drums;
    this.build(true);
  }

  // The pitch of a key of the computer; undefined if it has none.
  pitchOf(code) {
    if (this.drums) return PAD_OF.get(code);
    const pitch = this.low + PLACES.get(code);
    return pitch <= 127 ? pitch : undefined;
  }

  build(anew = false) {
    const shown = this.drums ? "pads" : this.whites;
    if (!anew && this.shown === shown) return;
    this.shown = shown;
    // A wider keyboard would have keys above the highest pitch.
    while (this.high > 127) this.low -= 12;
    this.let();
    const before = this.focused, had = this.element.contains(document.activeElement);
    this.keys.clear();
    this.element.replaceChildren();
    this.element.classList.toggle("pads", this.drums);
    if (this.drums) this.buildPads();
    else this.buildKeys();
    this.focus(this.keys.has(before) ? before : this.keys.has(60) ? 60 : this.keys.keys().next().value, had);
    this.built();
  }

  add(pitch, className, label) {
    const key = document.createElement("button");
    key.type = "button";
    key.dataset.pitch = pitch;
    key.className = `key ${className}`;
    key.setAttribute("aria-label", label);
    key.tabIndex = -1;
    this.element.append(key);
    this.keys.set(pitch, key);
    return key;
  }

  buildPads() {
    for (const [pitch, name, code] of PADS) {
      const letter = Object.assign(document.createElement("kbd"), { textContent: code.slice(3) });
      this.add(pitch, "pad", name).append(Object.assign(document.createElement("span"), { textContent: name }), letter);
    }
  }

  buildKeys() {
    const white = 100 / this.whites, high = this.high;
    let left = 0;
    for (let pitch = this.low; pitch <= high; pitch++) {
      const black = isBlack(pitch), key = this.add(pitch, black ? "black" : "white", pitchName(pitch));
      key.style.left = `${black ? left - 0.31 * white : left}%`;
      key.style.width = `${black ? 0.62 * white : white}%`;
      if (!black) left += white;
      if (pitch % 12 === 0) key.append(Object.assign(document.createElement("span"), { textContent: pitchName(pitch) }));
    }
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
      const order = [...this.keys.keys()];
      this.focus(order[order.indexOf(pitch) + moves[event.key]], true);
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
  constructor(pitchOf, press, release) {
    this.pitchOf = pitchOf;  // gives the pitch of a key
    this.enabled = true;
    this.held = new Map();
    this.press = press;
    this.release = release;
    addEventListener("keydown", (event) => this.down(event));
    addEventListener("keyup", (event) => this.up(event));
    addEventListener("blur", () => this.let());
  }

  down(event) {
    const pitch = this.pitchOf(event.code);
    if (!this.enabled || !(pitch >= 0) || event.repeat || this.held.has(event.code)) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
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
    this.let();  // the keys of one that is gone are never released
    this.pedal = false;
    this.changed(inputs.map((input) => input.name));
  }

  read([status, first, second]) {
    const kind = status & 0xf0;
    if (kind === 0x90 && second > 0) {
      // A key that still sounds is struck again.
      if (this.down.has(first) || this.sustained.delete(first)) this.release(first);
      this.down.add(first);
      this.press(first, second);
    } else if (kind === 0x80 || kind === 0x90) {
      if (!this.down.delete(first)) return;
      if (this.pedal) this.sustained.add(first);
      else this.release(first);
    } else if (kind === 0xb0 && first === 64) {
      this.pedal = second >= 64;
      if (this.pedal) return;
      for (const pitch of this.sustained) this.release(pitch);
      this.sustained.clear();
    } else if (kind === 0xb0 && (first === 120 || first === 123)) {
      this.let();
    }
  }

  let() {
    for (const pitch of [...this.down, ...this.sustained]) this.release(pitch);
    this.down.clear();
    this.sustained.clear();
  }
}
