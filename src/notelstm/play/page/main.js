// The page: what is pressed is heard at once and sent; what the model plays is scheduled ahead.

import { SOUNDS, Synthesizer } from "./sound.js";
import { ComputerKeyboard, MidiKeyboard, ScreenKeyboard, VELOCITY } from "./keyboard.js";
import { Files } from "./files.js";
import { Link } from "./link.js";
import { pitchName, shortcuts } from "./parts.js";
import { Roll } from "./roll.js";
import { Span } from "./span.js";
import { Steering, possible } from "./steering.js";
import { Takes } from "./takes.js";

const HELD = 6;           // seconds that a pressed key sounds at most
const LEAD = 0.15;        // seconds from a request to the first note, at least
const LONGEST_LEAD = 1.5; // and at most, however slow the server is
const LEAD_SPARE = 1.5;   // the lead as a multiple of the time in which the server has answered
const HEAD = 250;         // milliseconds between messages of the play head
const SCHEDULE = 60;      // and between looks at the notes of a take that is played again
const SHORTEST = 3;       // seconds of an answer that is as long as the phrase
const COMING = 0.5;       // seconds for which a take that is played again is scheduled ahead
const COMING_HIDDEN = 2.5; // and in hidden tabs, whose timers are throttled
const RELEASE = 0.09;     // seconds in which a released key falls silent
const PHRASE = [          // the beginning of Bach's prelude in C major, for the first visit
  [60, 64, 67, 72, 76, 67, 72, 76], [60, 64, 67, 72, 76, 67, 72, 76],
  [60, 62, 69, 74, 77, 69, 74, 77], [60, 62, 69, 74, 77, 69, 74, 77],
];
const SIXTEENTH = 0.21;
const PIANO = { part: "", program: 0, drum: false };
const SETTINGS = ["rest", "length", "volume"];

// The phrase from a time on.
const phraseFrom = (begin) => PHRASE.flatMap((chord, half) => chord.map((pitch, n) => {
  const start = begin + SIXTEENTH * (8 * half + n), long = n === 0 ? 7.6 : n === 1 ? 6.6 : 1;
  return { pitch, velocity: n < 2 ? 66 : 56, start, end: start + long * SIXTEENTH, ...PIANO };
}));

// Call a function when nothing else is to be done.
const whenIdle = globalThis.requestIdleCallback || ((act) => setTimeout(act, 50));

const byId = (id) => document.getElementById(id);

class App {
  constructor() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.synth = new Synthesizer(this.context, SOUNDS);
    this.voices = [];         // of the model: {voice, start}
    this.held = new Map();    // pressed keys: {voice, note, count}
    this.phrase = null;       // the times of the player's phrase: {from, to}
    this.answered = null;     // those of the phrase that an answer was asked for
    this.take = null;         // the number of the take that the model plays
    this.replayed = null;     // the time of the end of a take that is played again
    this.coming = [];         // its notes that are not scheduled yet
    this.late = 0;            // notes that came after their time
    this.lead = LEAD;
    this.asked = null;        // the time of the last request for a take
    this.prompted = false;    // whether a file is to be continued as soon as it is the piece
    this.models = [];
    this.instruments = [];    // that the player can choose from
    this.instrument = PIANO;  // of the player
    this.link = new Link(() => this.now, (message) => this.receive(message), (state, text) => this.connection(state, text));
    this.roll = new Roll(byId("roll"), () => this.now);
    const press = (pitch, velocity) => this.press(pitch, velocity), release = (pitch) => this.release(pitch);
    this.screen = new ScreenKeyboard(byId("keyboard"), press, release, () => this.showRange());
    this.computer = new ComputerKeyboard((code) => this.screen.pitchOf(code), press, release);
    this.midi = new MidiKeyboard(press, release, (names) => {
      byId("midi-state").textContent = names.length ? `Connected: ${names.join(", ")}` : "No MIDI keyboard is connected.";
    });
    this.steering = new Steering(byId("steering"), (controls) => this.steer(controls));
    this.takes = new Takes(byId("takes"), byId("no-takes"), {
      send: (type, values) => this.link.send(type, values),
      address: (path) => this.link.address(path),
      play: (take) => this.hear(take),
    });
    this.files = new Files(byId("drop"), {
      address: (path) => this.link.address(path),
      use: (until) => this.useFile(until),
    });
    this.span = new Span(byId("span"), {
      refresh: () => this.askForPiece(),
      fill: (start, end) => this.fill(start, end),
    });
    this.listen();
    this.restore();
    this.link.connect();
    setInterval(() => { if (this.take !== null) this.link.send("head", { at: this.now }); }, HEAD);
    requestAnimationFrame(() => this.frame());
  }

  // The clock of the session is that of the sound: nothing is played while it stands still.
  get now() {
    return this.context.currentTime;
  }

  // Browsers allow sound only after a touch.
  async wake() {
    if (this.context.state !== "running") await this.context.resume();
  }

  // Messages of the server.

  receive(message) {
    const act = {
      welcome: () => this.welcome(message),
      controls: () => this.controlled(message),
      takes: () => this.listTakes(message.takes),
      piece: () => this.showPiece(message),
      playing: () => this.begin(message),
      notes: () => this.schedule(message.notes, message.take),
      cut: () => this.cut(message.from),
      end: () => this.ended(message),
      take: () => this.playTake(message),
      filled: () => this.filled(message),
      error: () => this.failed(message),
    }[message.type];
    act?.();
  }

  welcome(message) {
    this.models = message.models;
    this.limits = message.limits;
    this.model = undefined;   // the server may have been started with others
    this.prompted = false;
    this.resumed = message.resumed;
    this.asking = false;
    this.span.wait(false);
    byId("model").replaceChildren(...this.models.map(({ name }) => Object.assign(document.createElement("option"), { value: name, textContent: name })));
    if (message.resumed) byId("welcome").hidden = true;
    else this.files.clear();
  }

  controlled({ controls, model }) {
    if (model !== this.model) {
      this.model = model;
      byId("model").value = model;
      this.showCard(this.models.find(({ name }) => name === model));
    }
    const last = JSON.parse(localStorage.getItem("notelstm-controls") || "{}");
    const saved = possible(last, this.steering.controls);
    // A new session takes over the controls of the last one.
    if (this.resumed === false && Object.keys(saved).length) {
      this.resumed = true;
      this.link.send("steer", { at: this.now, controls: saved });
    }
    // A control that was moved meanwhile is sent soon.
    if (!this.steering.timer) this.steering.show(controls);
  }

  // The player has the parts of the model to choose from, if there are several.
  showInstruments(parts) {
    this.instruments = parts.map(({ name, program, drum }) => ({ part: name, program, drum }));
    byId("instrument").replaceChildren(...parts.map(({ name }) => Object.assign(document.createElement("option"), { value: name, textContent: name })));
    byId("instrument-field").hidden = parts.length < 2;
    const saved = localStorage.getItem("notelstm-instrument");
    this.choose(this.instruments.find(({ part }) => part === saved) || this.instruments[0] || PIANO);
  }

  choose(instrument) {
    this.computer.let();
    this.midi.let();
    this.instrument = instrument;
    byId("instrument").value = instrument.part;
    for (const id of ["octave-down", "octave-up"]) byId(id).hidden = instrument.drum;
    this.screen.showDrums(instrument.drum);
  }

  showCard({ license, card, controls, parts, fills }) {
    this.showInstruments(parts);
    this.span.enable(fills, this.limits.fill_seconds);
    byId("license").textContent = `License of the model's data: ${license}`;
    byId("card").replaceChildren(...Object.entries(card).map(([heading, entries]) => {
      const table = document.createElement("table");
      table.createCaption().textContent = heading;
      for (const [name, value] of Object.entries(entries)) {
        const row = table.insertRow(), head = document.createElement("th");
        head.scope = "row";
        head.textContent = name;
        row.append(head);
        row.insertCell().textContent = value;
      }
      return table;
    }));
    this.steering.build(controls);
  }

  listTakes(takes) {
    const before = this.takes.latest?.take;
    this.takes.show(takes);
    const latest = this.takes.latest;
    if (latest && latest.take !== before && this.take === null) this.announce(`Take ${latest.take} is in the list`);
    this.update();
  }

  showPiece({ notes, playing }) {
    this.span.show(notes);
    // The roll shows waits that are no part of the piece: it stays as it is.
    const asked = this.asking && playing === undefined;
    this.asking = false;
    if (asked) return;
    this.roll.replace(notes);
    if (this.prompted) {
      this.prompted = false;
      this.ask("continue", { seconds: this.length });
    }
    if (playing !== undefined) this.take = playing;
    if (playing) {
      // The connection was lost for a moment: what it lost is scheduled now.
      this.cut(this.now);
      this.schedule(notes.filter((note) => note.by === "model" && note.start > this.now), playing);
    }
    this.update();
  }

  begin({ take }) {
    this.take = take;
    this.answered = null;
    this.announce("The model plays");
    this.update();
  }

  schedule(notes, take) {
    if (take !== this.take) return;
    this.measureLead();
    for (const note of notes) {
      // A time that has passed cannot be scheduled; counted, since it should not happen.
      if (note.start < this.now && this.context.state === "running") this.late++;
      this.roll.add(note);
      this.sound(note, note.start);
    }
    this.update();
  }

  // Sounds are rendered while nothing else is to be done: the first phrase, and the keys of the
  // player. Otherwise, a key would be heard late when it is pressed for the first time.
  prepare() {
    const instrument = { name: "you", timbre: this.instrument.drum ? "" : SOUNDS.timbre_of[this.instrument.program] };
    const piano = { name: "you", timbre: "piano" };
    const phrase = byId("welcome").hidden ? [] : phraseFrom(0).map((note) => [{ ...note, instrument: piano }, Math.max(1, note.end - note.start)]);
    const keys = [...this.screen.keys.keys()].map((pitch) => [{ pitch, velocity: VELOCITY, instrument }, HELD]);
    const waiting = this.waiting = [...phrase, ...keys];
    const next = () => {
      if (waiting !== this.waiting || !waiting.length) return;
      this.synth.string(...waiting.shift());
      whenIdle(next);
    };
    whenIdle(next);
  }

  // A server that answers slowly gets more time; that of a quick one falls back by and by.
  measureLead() {
    if (this.asked === null) return;
    const answered = LEAD_SPARE * (this.now - this.asked);
    this.asked = null;
    this.lead = Math.min(LONGEST_LEAD, Math.max(LEAD, answered, 0.8 * this.lead));
  }

  // Ask for a take that begins as soon as its notes can be here.
  ask(type, values) {
    this.asked = this.now;
    // What is pressed from here on is another phrase; this one comes back if it is refused.
    if (!this.link.send(type, { at: this.now + this.lead, ...values })) return;
    this.answered = this.phrase;
    this.phrase = null;
  }

  // A note for the synthesizer, and the seconds of its string.
  played(note) {
    const seconds = note.end - note.start;
    const instrument = { name: note.by, timbre: note.drum ? "" : SOUNDS.timbre_of[note.program] };
    return [{ ...note, seconds, instrument }, Math.max(seconds, 1)];
  }

  sound(note, when) {
    const seconds = note.end - note.start, voice = this.synth.playNote(...this.played(note), when, 0);
    if (voice) this.voices.push({ voice, start: when, end: when + seconds, pitch: note.pitch, drum: note.drum });
  }

  // What the model would play from a time on is dropped; sounding notes end if its turn ends.
  cut(from) {
    this.voices = this.voices.filter(({ voice, start }) => {
      if (start <= from) return true;
      this.synth.end(voice, from, 0.03);
      return false;
    });
    this.roll.replaceFrom(from);
  }

  ended({ at, reason, take }) {
    if (take !== this.take) return;
    this.take = null;
    this.announce({ length: "Your turn", stopped: "Stopped", interrupted: "Your turn",
      stalled: "The model has nothing more to play" }[reason]);
    this.update();
    this.askForPiece();
  }

  // The piece as the server has it, for the roll on which a span is marked.
  askForPiece() {
    if (byId("span").hidden || this.asking || this.span.busy) return;
    this.asking = this.link.send("piece", { at: this.now });
  }

  fill(start, end) {
    if (this.take !== null) this.link.send("stop", { at: this.now });
    this.quiet(this.now);
    this.phrase = null;
    this.span.wait(true);
    this.link.send("fill", { start, end, at: this.now });
  }

  filled({ take, notes }) {
    this.span.wait(false);
    this.announce(`The model wrote ${notes} ${notes === 1 ? "note" : "notes"}: take ${take} is the whole piece`);
    this.update();
  }

  failed({ message, about }) {
    // Of a message that the server could not read, it does not say which one it was.
    const concerns = (type) => about === type || about === null;
    if (concerns("fill")) this.span.wait(false);
    if (concerns("piece")) this.asking = false;
    if (concerns("prompt")) this.prompted = false;
    if (concerns("continue")) this.phrase ??= this.answered;
    if (about === "model") byId("model").value = this.model;
    this.announce(message, true);
  }

  // End everything that the model plays; what it still sends of this take is ignored.
  quiet(from) {
    if (this.take !== null) this.announce("Your turn");
    this.take = null;
    this.replayed = null;
    this.coming = [];
    this.prompted = false;
    clearTimeout(this.resting);
    for (const { voice } of this.voices) this.synth.end(voice, from, 0.06);
    this.voices = [];
    this.roll.cut(from);
  }

  // The player.

  press(pitch, velocity) {
    this.wake();
    if (this.held.has(pitch)) {
      this.held.get(pitch).count++;
      return;
    }
    const at = this.now;
    this.quiet(at);
    const { program, drum } = this.instrument;
    const note = { pitch, velocity, start: at, end: null, by: "you", ...this.instrument };
    const instrument = { name: "you", timbre: drum ? "" : SOUNDS.timbre_of[program] };
    const voice = this.synth.playNote({ ...note, seconds: HELD, instrument }, HELD, at, 0);
    this.held.set(pitch, { voice, note: this.roll.add(note), count: 1 });
    this.phrase ??= { from: at, to: at };
    this.link.send("note-on", { pitch, velocity, at, ...this.instrument });
    this.hideWelcome();
    this.update();
  }

  release(pitch) {
    const held = this.held.get(pitch);
    if (!held || --held.count > 0) return;
    this.held.delete(pitch);
    const at = this.now, { program, drum, part } = held.note;
    if (held.voice && !drum) this.synth.end(held.voice, at, RELEASE);
    held.note.end = at;
    if (this.phrase) this.phrase.to = at;
    this.link.send("note-off", { pitch, at, program, drum, part });
    const rest = Number(byId("rest").value);
    // A phrase that has been answered or dropped meanwhile has no answer.
    if (rest && !this.held.size && this.phrase) this.resting = setTimeout(() => this.answer(), 1000 * rest);
    this.update();
  }

  get length() {
    const chosen = byId("length").value;
    if (chosen !== "same") return chosen ? Number(chosen) : null;
    return this.phrase ? Math.max(SHORTEST, this.phrase.to - this.phrase.from) : 8;
  }

  async answer(seconds = this.length) {
    await this.wake();
    this.hideWelcome();
    if (this.take === null) this.quiet(this.now);
    if (this.take === null) this.ask("continue", { seconds });
    else this.link.send("continue", { at: this.now, seconds });
  }

  stop() {
    if (this.take !== null) this.link.send("stop", { at: this.now });
    this.quiet(this.now);
    this.update();
  }

  async again() {
    await this.wake();
    this.quiet(this.now);
    this.ask("again", { seconds: this.length });
  }

  undo() {
    this.quiet(this.now);
    this.phrase = null;
    this.link.send("undo", { at: this.now });
  }

  // Something good to begin with: a phrase that everybody knows, and where the model takes it.
  async something() {
    await this.wake();
    this.hideWelcome();
    const begin = this.now + LEAD;
    const notes = phraseFrom(begin);
    this.link.send("notes", { notes });
    for (const note of notes) {
      const shown = { ...note, by: "you" };
      this.roll.add(shown);
      this.sound(shown, note.start);
    }
    this.link.send("continue", { at: begin + SIXTEENTH * 8 * PHRASE.length, seconds: null, seed: 7 });
  }

  steer(controls) {
    localStorage.setItem("notelstm-controls", JSON.stringify(controls));
    // At most ten times a second, and the last value always.
    this.wanted = controls;
    this.steering.timer ??= setTimeout(() => this.sendControls(), 100);
  }

  sendControls() {
    clearTimeout(this.steering.timer);
    this.steering.timer = null;
    this.link.send("steer", { at: this.now, controls: this.wanted });
  }

  async hear(take) {
    await this.wake();
    this.stop();
    this.link.send("take", { take });
  }

  playTake({ take, all_notes: notes }) {
    this.quiet(this.now);
    const first = notes.filter((note) => note.start < COMING);
    for (const note of first) this.synth.string(...this.played(note));
    const begin = this.now + LEAD;
    this.coming = notes.map((note) => ({ ...note, start: note.start + begin, end: note.end + begin }))
      .sort((a, b) => a.start - b.start);
    for (const note of this.coming) this.roll.add(note);
    this.replayed = Math.max(begin, ...this.coming.map((note) => note.end));
    this.scheduleTake();
    this.announce(`Playing take ${take}`);
    this.update();
  }

  // A little ahead, since the sounds of a long take need seconds to be rendered.
  scheduleTake() {
    const until = this.now + (document.hidden ? COMING_HIDDEN : COMING);
    while (this.coming.length && this.coming[0].start < until) {
      const note = this.coming.shift();
      this.sound(note, note.start);
    }
    clearTimeout(this.scheduling);
    if (this.coming.length) this.scheduling = setTimeout(() => this.scheduleTake(), SCHEDULE);
  }

  async useFile(until) {
    await this.wake();
    this.hideWelcome();
    if (this.take !== null) this.link.send("stop", { at: this.now });
    this.quiet(this.now);
    this.phrase = null;
    this.prompted = this.link.send("prompt", { until, at: this.now });
  }

  // The model changes; what it has no controls for is dropped, since the server would refuse it.
  changeModel(name) {
    if (this.take !== null) this.link.send("stop", { at: this.now });
    this.quiet(this.now);
    const { controls } = this.models.find((model) => model.name === name);
    const values = possible(this.steering.values, controls);
    if (JSON.stringify(values) !== JSON.stringify(this.steering.values)) {
      this.steering.show(values);
      this.steer(values);
      this.sendControls();
    }
    this.link.send("model", { name, at: this.now });
  }

  // The state of the page.

  listen() {
    const click = (id, act) => byId(id).addEventListener("click", act);
    const toggle = () => this.playing ? this.stop() : this.answer();
    click("something", () => this.something());
    click("answer", toggle);
    click("go-on", () => this.answer(null));
    click("again", () => this.again());
    click("undo", () => this.undo());
    click("keep", () => this.link.send("keep", { take: this.takes.latest.take }));
    click("clear", () => { this.quiet(this.now); this.phrase = null; this.link.send("clear", { at: this.now }); });
    click("octave-down", () => this.octave(-12));
    click("octave-up", () => this.octave(12));
    click("as-model", () => { this.steering.show({}); this.steer({}); });
    click("midi", () => this.connectMidi());
    byId("midi").hidden = !MidiKeyboard.exists;
    if (!MidiKeyboard.exists) byId("midi-state").textContent = "This browser has no Web MIDI.";
    byId("model").addEventListener("change", (event) => this.changeModel(event.target.value));
    byId("instrument").addEventListener("change", (event) => {
      localStorage.setItem("notelstm-instrument", event.target.value);
      this.choose(this.instruments.find(({ part }) => part === event.target.value));
    });
    byId("volume").addEventListener("input", () => this.setVolume());
    byId("typing").addEventListener("change", (event) => { this.computer.enabled = event.target.checked; });
    for (const id of SETTINGS) byId(id).addEventListener("change", () => this.save());
    shortcuts({ " ": toggle, Enter: () => this.answer(null), Backspace: () => this.undo(),
      PageDown: () => this.octave(-12), PageUp: () => this.octave(12) });
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.computer.let(); });
  }

  async connectMidi() {
    try {
      await this.midi.connect();
    } catch {
      byId("midi-state").textContent = "The browser did not allow MIDI.";
    }
  }

  octave(change) {
    this.screen.show(this.screen.low + change);
    localStorage.setItem("notelstm-low", this.screen.low);
  }

  setVolume() {
    this.synth.volume.gain.setTargetAtTime(Number(byId("volume").value), this.now, 0.02);
  }

  save() {
    localStorage.setItem("notelstm-settings", JSON.stringify(Object.fromEntries(SETTINGS.map((id) => [id, byId(id).value]))));
  }

  restore() {
    const saved = JSON.parse(localStorage.getItem("notelstm-settings") || "{}");
    for (const id of SETTINGS) if (id in saved) byId(id).value = saved[id];
    this.screen.show(Number(localStorage.getItem("notelstm-low") ?? (innerWidth < 700 ? 60 : 48)));
    this.synth.volume.gain.value = Number(byId("volume").value);
  }

  hideWelcome() {
    const welcome = byId("welcome");
    if (welcome.contains(document.activeElement)) byId("answer").focus();
    welcome.hidden = true;
  }

  // Problems are shown as well; the rest can be seen.
  announce(text, shown = false) {
    byId("status").textContent = text;
    byId("facts").textContent = shown ? text[0].toUpperCase() + text.slice(1) : "";
    byId("facts").classList.toggle("bad", shown);
  }

  connection(state, text) {
    const shown = byId("connection");
    shown.textContent = { connected: "Connected", lost: text, refused: text }[state];
    shown.classList.toggle("bad", state !== "connected");
  }

  get playing() {
    return this.take !== null || this.replayed !== null;
  }

  update() {
    const playing = this.playing;
    byId("stage").textContent = this.take !== null ? "The model plays" : playing ? "A take plays" : "Your turn";
    byId("answer").textContent = playing ? "Stop" : "Answer me";
    byId("again").disabled = !playing && !this.takes.latest;
    byId("undo").disabled = !this.roll.notes.length;
    byId("keep").disabled = playing || !this.takes.latest || this.takes.latest.kept;
  }

  showRange() {
    this.prepare();
    byId("octave").textContent = this.screen.drums ? "Drums" : `${pitchName(this.screen.low)} to ${pitchName(this.screen.high)}`;
  }

  frame() {
    const now = this.now, lit = new Map();
    if (this.replayed !== null && now > this.replayed) {
      this.replayed = null;
      this.update();
    }
    this.voices = this.voices.filter(({ end }) => end > now - 1);
    for (const { start, end, pitch, drum } of this.voices) {
      if (start <= now && end > now && drum === this.screen.drums) lit.set(pitch, "model");
    }
    for (const pitch of this.held.keys()) lit.set(pitch, "you");
    for (const pitch of this.screen.keys.keys()) {
      for (const by of ["you", "model"]) this.screen.light(pitch, by, lit.get(pitch) === by);
    }
    this.roll.draw();
    const text = this.roll.description;
    if (text !== this.described) byId("roll").setAttribute("aria-label", this.described = text);
    if (this.roll.still.matches) setTimeout(() => this.frame(), 250);
    else requestAnimationFrame(() => this.frame());
  }
}

// For pages that embed this one, and for tests.
globalThis.notelstm = new App();
