// The list of samples, the piano roll with its play head, the controls, the mixer.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

const samples = data.samples.map((sample, number) => ({
  ...sample,
  title: sample.title || `Sample ${number + 1}`,
  notes: sample.pitch.map((pitch, n) => ({
    pitch, start: sample.start[n], seconds: sample.duration[n], velocity: sample.velocity[n],
    prompt: n < sample.prompt_notes, instrument: sample.instruments[sample.instrument[n]],
  })),
  ensemble: sample.instruments.length > 1,
}));
for (const sample of samples) {
  Object.assign(sample, extentOf(sample.notes));
  markRepeats(sample.notes, (note) => `${note.instrument.name}/${note.pitch}`);
}
const player = new Player(data, update);
const muted = new Set(), soloed = new Set();  // names of instruments
// Only instruments that the mixer shows are muted or soloed.
player.audible = (name) => {
  const { ensemble, instruments } = samples[chosen];
  if (!ensemble) return true;
  return instruments.some((one) => soloed.has(one.name)) ? soloed.has(name) : !muted.has(name);
};
let chosen = 0;
let page = 0;      // the second at the left edge of the roll
let span = null;   // the seconds that are shown; null for as many as are easily read
let moved = false; // the view was moved by hand, and does not follow the play head
let named = null;  // the note under the pointer or the focus
let resetFocus;    // to call when the notes are others

function facts(sample) {
  const many = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const prompt = sample.prompt_notes ? `, the first ${sample.prompt_notes}, ${promptColour(sample)}, are the prompt` : "";
  const [one] = sample.instruments;
  const played = sample.ensemble ? `, ${many(sample.instruments.length, "instrument")}`
    : one && one.timbre !== "piano" ? `, ${one.name}` : "";
  return `${many(sample.notes.length, "note")}, ${sample.seconds.toFixed(1)} s${played}${prompt}`;
}

const promptColour = (sample) => `${sample.ensemble ? "framed " : ""}in ${theme("--prompt-name")}`;

function described(note) {
  const name = isDrum(note) ? data.drums[note.pitch].name : pitchName(note.pitch);
  const player = samples[chosen].ensemble && !isDrum(note) ? `, ${note.instrument.name}` : "";
  const at = `${clock(note.start)}.${Math.floor(note.start * 10 % 10)}`;
  return `${name}${player}${note.prompt ? ", prompt" : ""}\nat ${at}, ${note.seconds.toFixed(2)} s, velocity ${note.velocity}`;
}

const channels = (hex) => [1, 3, 5].map((n) => parseInt(hex.slice(n, n + 2), 16));
let stops = [];  // note colours of the theme, from soft to loud

function colour(velocity) {
  const at = (velocity - 1) / 126 * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  const mixed = stops[low].map((c, i) => Math.round(c + (stops[low + 1][i] - c) * (at - low)));
  return `rgb(${mixed.join(",")})`;
}

function colourOf(note) {
  if (samples[chosen].ensemble) return ownColour(note.instrument);
  return note.prompt ? theme("--prompt-note") : colour(note.velocity);
}

const ownColour = (instrument) => data.colours[dark.matches ? "dark" : "light"][instrument.colour];

function isDrum(note) {
  return !note.instrument.timbre;
}

// The lowest and the highest pitch that are shown, and the drum keys, ascending.
function extentOf(notes) {
  const drums = [...new Set(notes.filter(isDrum).map((note) => note.pitch))].sort((a, b) => a - b);
  let low = 127, high = 0;
  for (const note of notes) {
    if (!isDrum(note)) { low = Math.min(low, note.pitch); high = Math.max(high, note.pitch); }
  }
  if (low > high) return drums.length ? { low: 0, high: -1, drums } : { low: 60, high: 72, drums };
  const more = Math.max(0, 20 - (high - low)) / 2;
  return { low: Math.max(0, Math.floor(low - 1 - more)), high: Math.min(127, Math.ceil(high + 1 + more)), drums };
}

// The rows of a roll of some height: pitches, and below them the drums, the lowest key at the bottom.
function rowsOf({ low, high, drums }, height, least) {
  const pitches = high - low + 1;
  const drum = pitches ? Math.min(Math.max(least, height / (pitches + drums.length)), height / 2 / (drums.length || 1))
    : height / drums.length;
  const floor = height - drum * drums.length, row = floor / (pitches || 1);
  const drumTop = (key) => height - drum * (drums.indexOf(key) + 1);
  return {
    low, high, row, drums, drum, floor, drumTop,
    top: (note) => isDrum(note) ? drumTop(note.pitch) : (high - note.pitch) * row,
    height: (note) => isDrum(note) ? drum : row,
  };
}

function thumbnail(canvas, sample) {
  const { pen, width, height } = surface(canvas);
  const rows = rowsOf(sample, height, 3), quiet = theme("--prompt-note");
  if (sample.ensemble && sample.prompt_notes) {
    pen.fillStyle = theme("--prompt");
    pen.fillRect(0, 0, borderOf(sample) / sample.seconds * width, height);
  }
  for (const note of sample.notes) {
    pen.fillStyle = sample.ensemble ? ownColour(note.instrument) : note.prompt ? quiet : colour(note.velocity);
    const x = (second) => second / sample.seconds * width, left = x(note.start);
    const long = widthOf(left, x(note.start + note.seconds), x(note.next), 1);
    pen.fillRect(left, rows.top(note), long, Math.max(1.5, rows.height(note)));
  }
}

// The second at which the continuation begins.
function borderOf(sample) {
  if (sample.prompt_notes >= sample.notes.length) return sample.seconds;
  return sample.prompt_notes ? sample.notes[sample.prompt_notes].start : 0;
}

const DRUM_FONT = "10px system-ui, sans-serif";
let edge = KEYS;  // pixels for the keyboard and the names of drums

// Room for the longest drum name, but at most a quarter of the roll.
function measureEdge() {
  const canvas = byId("roll"), pen = canvas.getContext("2d");
  pen.font = DRUM_FONT;
  const widths = samples[chosen].drums.map((key) => pen.measureText(data.drums[key].name).width + 9);
  edge = Math.round(Math.max(KEYS, Math.min(canvas.clientWidth / 4, Math.max(0, ...widths))));
}

// Pixels below the notes for the seconds, and above them for the numbers of the bars.
const rulers = () => samples[chosen].bars.length ? 32 : 18;

// Coordinates of the roll: seconds to the right, pitches upwards.
function geometry() {
  const sample = samples[chosen], { clientWidth: width, clientHeight: height } = byId("roll");
  const space = width - edge, whole = Math.max(sample.seconds, 1);
  const shown = Math.min(whole, span ?? Math.max(8, space / 40));  // seconds
  const x = (second) => edge + (second - page) / shown * space, rows = rowsOf(sample, height - rulers(), 11);
  const box = (note) => {
    const left = x(note.start), row = rows.height(note);
    return { left, top: rows.top(note), row, long: widthOf(left, x(note.start + note.seconds), x(note.next), 2.5) };
  };
  return { shown, rows, x, box, second: (at) => page + (at - edge) / space * shown };
}

function draw() {
  const sample = samples[chosen], { pen, width, height } = surface(byId("roll"));
  const position = player.position, { shown } = geometry();
  // Scroll by a page when the play head leaves it.
  if (!moved && (position < page || position > page + shown * 0.98)) page = position - shown * 0.04;
  page = Math.max(0, Math.min(page, sample.seconds - shown));
  const { x, rows, box } = geometry(), border = borderOf(sample), floor = height - rulers();
  pen.fillStyle = theme("--panel");
  pen.fillRect(0, 0, width, height);
  if (sample.prompt_notes) {
    pen.fillStyle = theme("--prompt");
    pen.fillRect(edge, 0, Math.max(0, x(border) - edge), floor);
  }
  grid(pen, rows, x, shown, width, height);
  pen.save();
  pen.beginPath();
  pen.rect(edge, 0, width - edge, floor);
  pen.clip();
  const quiet = theme("--prompt-note"), ink = theme("--ink"), lit = new Map();
  for (const note of sample.notes) {
    if (note.start > page + shown) break;
    if (note.start + note.seconds < page) continue;
    const { left, top, row, long } = box(note);
    if (sample.ensemble) {
      pen.globalAlpha = player.audible(note.instrument.name) ? 1 : 0.15;
      const loudness = 0.65 + 0.35 * note.velocity / 127, inside = Math.max(2, row - 1);
      shape(pen, note.instrument, left, top + row / 2, long, Math.max(1.2, inside / 2 * loudness));
      if (note.prompt) {
        pen.strokeStyle = quiet;
        pen.lineWidth = 1;
        pen.strokeRect(left, top + 0.5, long, inside);
      }
    } else {
      pen.fillStyle = colourOf(note);
      pen.fillRect(left, top + 0.5, long, Math.max(2, row - 1));
    }
    const sounding = player.playing && note.start <= position && position < note.start + note.seconds;
    if (sounding || note === named) {
      pen.strokeStyle = ink;
      pen.lineWidth = note === named ? 2 : 1.5;
      pen.strokeRect(left - 0.5, top, long + 1, Math.max(3, row));
    }
    if (sounding && !isDrum(note) && player.audible(note.instrument.name)) lit.set(note.pitch, colourOf(note));
    pen.globalAlpha = 1;
  }
  if (named && !isDrum(named)) lit.set(named.pitch, colourOf(named));
  if (sample.prompt_notes) mark(pen, x, border, border < sample.seconds, floor, ink);
  line(pen, x(position), floor, ink, [], 2);
  pen.beginPath();
  for (const [across, down] of [[-6, 0], [6, 0], [0, 9]]) pen.lineTo(x(position) + across, down);
  pen.fillStyle = ink;
  pen.fill();
  pen.restore();
  pen.translate(edge - KEYS, 0);
  drawKeys(pen, rows, lit);
}

// Fill the shape of an instrument's notes.
function shape(pen, instrument, left, middle, long, half) {
  pen.fillStyle = ownColour(instrument);
  pen.beginPath();
  for (const polygon of data.shapes[instrument.shape]) {
    polygon.forEach(([across, up], n) =>
      pen[n ? "lineTo" : "moveTo"](left + across * long, middle - up * half));
  }
  pen.fill();
}

// Label the prompt and the continuation at the border between them.
function mark(pen, x, border, ends, height, ink) {
  pen.font = "600 11px system-ui, sans-serif";
  pen.textBaseline = "top";
  pen.fillStyle = theme("--quiet");
  pen.textAlign = "left";
  // Labels stay visible while any of their side is.
  const at = Math.max(edge + 8, x(0)), wide = pen.measureText("prompt").width + 16;
  pen.fillText("prompt", Math.min(at, x(border) - wide), 6);
  if (!ends) return;
  line(pen, x(border), height, ink, [5, 4], 1);
  const left = Math.max(x(border) + 8, edge + 8), end = left + pen.measureText("continuation").width;
  if (end < pen.canvas.clientWidth) pen.fillText("continuation", left, 6);
}

function line(pen, x, height, colour, dashes, width) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dashes);
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, height);
  pen.stroke();
  pen.setLineDash([]);
}

function grid(pen, rows, x, shown, width, height) {
  const { low, high, drums, drum, drumTop } = rows;
  drawRows(pen, rows, edge, width);
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  pen.font = DRUM_FONT;
  for (const key of drums) {
    const top = drumTop(key);
    pen.fillStyle = theme("--line");
    pen.fillRect(edge, top + drum - 0.5, width, 1);
    pen.fillStyle = theme("--quiet");
    pen.fillText(data.drums[key].name, edge - 5, top + drum / 2, edge - 8);
  }
  if (drums.length && high >= low) {
    pen.fillStyle = theme("--quiet");
    pen.fillRect(0, rows.floor - 0.5, width, 1);
  }
  pen.font = "11px system-ui, sans-serif";
  const { bars } = samples[chosen], floor = height - rulers();
  const every = [1, 2, 5, 10, 15, 30, 60].find((n) => shown / n * 46 < width) || 120;
  pen.textAlign = "center";
  for (let second = Math.ceil(page / every) * every; second <= page + shown; second += every) {
    pen.fillStyle = theme("--line");
    if (bars.length) pen.fillRect(x(second), floor, 1, 4);
    else pen.fillRect(x(second), 0, 1, floor);
    pen.fillStyle = theme("--quiet");
    if (x(second) < width - 14) pen.fillText(clock(second), Math.max(x(second), edge), height - 8);
  }
  drawBars(pen, x, floor, width);
}

// A line at the beginning of each bar, and as many numbers as there is room for.
function drawBars(pen, x, floor, width) {
  const visible = samples[chosen].bars.map((second, n) => [x(second), n + 1]).filter(([at]) => at >= edge && at < width);
  const each = visible.length > 1 ? (visible.at(-1)[0] - visible[0][0]) / (visible.length - 1) : width;
  const every = [1, 2, 4, 8, 16, 32, 64].find((n) => n * each >= 30) || 128;
  pen.font = "600 11px system-ui, sans-serif";
  for (const [at, number] of visible) {
    const numbered = (number - 1) % every === 0;
    pen.fillStyle = theme("--line");
    if (numbered || each > 6) pen.fillRect(at, 0, 1, floor + 12);
    pen.fillStyle = theme("--quiet");
    if (numbered && at < width - 20) pen.fillText(number, at + (String(number).length * 3 + 6), floor + 7);
  }
  if (!visible.length) return;
  pen.textAlign = "right";
  pen.fillText("bar", edge - 6, floor + 7);
}

// The note at a point of the roll, the last one if there are several.
function noteAt(across, down) {
  const { box, second } = geometry(), { notes } = samples[chosen];
  if (across < edge) return null;
  const from = second(across - 5), to = second(across + 1);
  return notes.findLast((note) => {
    if (note.start > to || note.start + note.seconds < from) return false;
    const { left, top, row, long } = box(note), spare = Math.max(0, 3 - row / 2);
    return across >= left - 1 && across <= left + Math.max(long, 5) && down >= top - spare && down <= top + row + spare;
  }) || null;
}

// Name a note beside it; null for none.
function nameNote(note) {
  named = note;
  draw();
  const { left, top, row } = note ? geometry().box(note) : { left: 0, top: 0, row: 0 };
  showTip(byId("tip"), note ? described(note) : "", Math.max(left, edge), top + row / 2);
}

// Show more or fewer seconds, of which one stays at its place on the screen.
function zoom(factor, fixed) {
  const { shown } = geometry(), whole = Math.max(samples[chosen].seconds, 1);
  moved ||= fixed !== undefined;
  fixed ??= moved ? page + shown / 2 : player.position;
  span = Math.min(whole, Math.max(1, shown * factor));
  page = fixed - (fixed - page) / shown * span;
  draw();
  announce(span === whole ? "The whole piece is shown" : `${span.toFixed(1)} seconds are shown`);
}

function pan(seconds) {
  page += seconds;
  moved = true;
  draw();
}

function seek(second) {
  moved = false;
  player.seek(second);
}

// The pointer on the roll: a note is named, a click plays from there, dragging moves the view.
function watchPointer(roll) {
  let from = null, dragged = false;
  roll.addEventListener("pointerdown", (event) => { from = { x: event.offsetX, page }; dragged = false; });
  roll.addEventListener("pointermove", (event) => {
    const moves = from && event.buttons & 1;
    if (moves && Math.abs(event.offsetX - from.x) > 6) dragged = true;
    if (moves && dragged) {
      const { second } = geometry();
      roll.setPointerCapture(event.pointerId);
      nameNote(null);
      pan(from.page - page + second(from.x) - second(event.offsetX));
    } else {
      const note = noteAt(event.offsetX, event.offsetY);
      if (note !== named) nameNote(note);
    }
  });
  roll.addEventListener("pointerleave", () => { if (named) nameNote(null); });
  roll.addEventListener("click", (event) => {
    if (!dragged) {
      seek(Math.max(0, geometry().second(event.offsetX)));
      nameNote(noteAt(event.offsetX, event.offsetY));  // on a touch screen no pointer hovers
    }
    dragged = false;
    from = null;
  });
  roll.addEventListener("wheel", (event) => {
    const { second } = geometry(), across = event.shiftKey ? event.deltaY : event.deltaX;
    if (event.ctrlKey) zoom(Math.exp(event.deltaY / 300), second(event.offsetX));
    else if (Math.abs(across) > (event.shiftKey ? 0 : Math.abs(event.deltaY))) pan(second(across) - second(0));
    else return;  // the page scrolls
    event.preventDefault();
  }, { passive: false });
}

function update() {
  const sample = samples[chosen], position = Math.min(player.position, sample.seconds);
  byId("play").textContent = player.playing ? "Pause" : "Play";
  byId("seek").value = position;
  byId("seek").setAttribute("aria-valuetext", `${clock(position)} of ${clock(sample.seconds)}`);
  byId("time").textContent = `${clock(position)} / ${clock(sample.seconds)}`;
  draw();
}

function announce(text) {
  byId("status").textContent = text;
}

function choose(number) {
  const before = player.playing;
  chosen = (number + samples.length) % samples.length;
  const sample = samples[chosen];
  page = 0;
  span = null;
  moved = false;
  named = null;
  byId("tip").hidden = true;
  player.load(sample);
  byId("now").textContent = sample.title;
  byId("seek").max = sample.seconds;
  byId("midi").href = `data:audio/midi;base64,${sample.midi}`;
  byId("midi").download = `${sample.title.replace(/[^\p{L}\p{N} ._-]/gu, "_")}.mid`;
  document.body.classList.toggle("has-prompt", sample.prompt_notes > 0);
  document.body.classList.toggle("ensemble", sample.ensemble);
  document.body.classList.toggle("with-drums", sample.drums.length > 0);
  measureEdge();
  listInstruments();
  byId("notes").hidden = !sample.notes.length;
  byId("notes").setAttribute("aria-label", `Notes of ${sample.title}`);
  resetFocus();
  tell();
  byId("samples").querySelectorAll("button").forEach((button, n) =>
    button.setAttribute("aria-current", String(n === chosen)));
  update();
  if (before) player.play();
}

// The texts that name a colour of the theme.
function tell() {
  const sample = samples[chosen];
  byId("facts").textContent = facts(sample);
  byId("roll").setAttribute("aria-label", `Piano roll of ${sample.title}: ${facts(sample)}`);
  byId("prompt-name").textContent = `prompt (${theme("--prompt-name")})`;
  byId("samples").querySelectorAll(".size").forEach((size, n) => { size.textContent = facts(samples[n]); });
}

function toggle() {
  moved = false;
  const sample = samples[chosen];
  if (player.playing) {
    player.pause();
    announce(`Paused at ${clock(player.position)}`);
  } else {
    player.play().then(frame);
    announce(`Playing ${sample.title}`);
  }
}

function frame() {
  if (!player.playing) return;
  update();
  requestAnimationFrame(frame);
}

function loop() {
  player.loop = !player.loop;
  byId("loop").setAttribute("aria-pressed", String(player.loop));
}

const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

function listSamples() {
  document.querySelector(".player").hidden = !samples.length;
  document.querySelector(".samples").hidden = samples.length < 2;
  samples.forEach((sample, number) => {
    const button = element("button"), canvas = element("canvas");
    button.type = "button";
    canvas.setAttribute("aria-hidden", "true");
    button.append(element("span", sample.title, "name"), element("span", facts(sample), "size"), canvas);
    button.addEventListener("click", () => choose(number));
    const item = element("li");
    item.append(button);
    byId("samples").append(item);
  });
}

// The mixer, which is the legend too: a note of each instrument, its name, and its buttons.
function listInstruments() {
  const sample = samples[chosen], list = byId("mixer");
  list.hidden = !sample.ensemble;
  list.replaceChildren(...(sample.ensemble ? sample.instruments : []).map((instrument) => {
    const item = element("li"), canvas = element("canvas");
    canvas.setAttribute("aria-hidden", "true");
    item.append(canvas, element("span", instrument.name, "name"));
    for (const [text, chosenOnes] of [["Mute", muted], ["Solo", soloed]]) {
      const button = element("button", text);
      button.type = "button";
      button.append(element("span", ` ${instrument.name}`, "unseen"));
      button.addEventListener("click", () => {
        if (!chosenOnes.delete(instrument.name)) chosenOnes.add(instrument.name);
        mixed();
      });
      item.append(button);
    }
    return item;
  }));
  showMix();
}

// After a change of what is muted.
function mixed() {
  player.mix();
  showMix();
  update();
  const names = samples[chosen].instruments.map((instrument) => instrument.name);
  const sounding = names.filter(player.audible);
  announce(sounding.length === names.length ? "All instruments sound" : `Sounding: ${sounding.join(", ") || "none"}`);
}

function showMix() {
  samples[chosen].instruments.forEach((instrument, n) => {
    const item = byId("mixer").children[n];
    if (!item) return;
    const [mute, solo] = item.querySelectorAll("button");
    mute.setAttribute("aria-pressed", String(muted.has(instrument.name)));
    solo.setAttribute("aria-pressed", String(soloed.has(instrument.name)));
    item.querySelector(".name").classList.toggle("quiet", !player.audible(instrument.name));
    const { pen, width, height } = surface(item.querySelector("canvas"));
    shape(pen, instrument, 0, height / 2, width, height / 2);
  });
}

function listDetails() {
  for (const [heading, entries] of Object.entries(data.details)) {
    const table = element("table");
    table.append(element("caption", heading));
    for (const [name, value] of Object.entries(entries)) {
      const row = element("tr"), head = element("th", name);
      head.scope = "row";
      row.append(head, element("td", value));
      table.append(row);
    }
    byId("details").append(table);
  }
}

function redraw() {
  stops = theme("--notes").split(",").map((hex) => channels(hex.trim()));
  byId("samples").querySelectorAll("canvas").forEach((canvas, n) => thumbnail(canvas, samples[n]));
  measureEdge();
  showMix();
  tell();
  update();
}

const keys = {
  " ": toggle,
  "l": loop,
  "n": () => choose(chosen + 1),
  "p": () => choose(chosen - 1),
  "+": () => zoom(1 / 1.5),
  "-": () => zoom(1.5),
  "0": () => zoom(Infinity),
  "Home": () => seek(0),
  "ArrowLeft": () => seek(player.position - 5),
  "ArrowRight": () => seek(player.position + 5),
};

// The focus on the roll: the arrow keys go from note to note, Enter plays from there.
function watchFocus(notes) {
  const all = () => samples[chosen].notes;
  resetFocus = stepper(notes, {
    count: () => all().length,
    text: (number) => all().length ? described(all()[number]) : "",
    first: () => named ? all().indexOf(named) : Math.max(0, all().findIndex((note) => note.start >= player.position - 0.01)),
    show: (number) => {
      const note = number === null ? null : all()[number], { shown } = geometry();
      if (note && (note.start < page || note.start > page + shown * 0.95)) pan(note.start - page - shown * 0.1);
      nameNote(note);
    },
  });
  notes.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && named) seek(named.start);
  });
}

function start() {
  byId("play").addEventListener("click", toggle);
  byId("loop").addEventListener("click", loop);
  byId("seek").addEventListener("input", (event) => seek(Number(event.target.value)));
  byId("volume").addEventListener("input", (event) => player.setVolume(Number(event.target.value)));
  for (const [id, key] of [["zoom-out", "-"], ["zoom-in", "+"], ["zoom-all", "0"]]) byId(id).addEventListener("click", keys[key]);
  watchPointer(byId("roll"));
  watchFocus(byId("notes"));
  shortcuts(keys);
  addEventListener("resize", redraw);
  dark.addEventListener("change", redraw);
  redraw();
  choose(0);
}

// The pointer and the arrow keys show the values of a chart's lines at each x.
function watchChart(figure) {
  const svg = figure.querySelector(":scope > svg"), places = new Map();
  for (const path of svg.querySelectorAll("[data-x]")) {
    const { name, x, y } = path.dataset, values = y.split(" ");
    const points = path.getAttribute("d").slice(1).split("L").map((point) => point.split(" ").map(Number));
    x.split(" ").forEach((at, n) => {
      if (!places.has(at)) places.set(at, { at, x: points[n][0], points: [], texts: [] });
      places.get(at).points.push(points[n]);
      places.get(at).texts.push(`${name} ${values[n]}`);
    });
  }
  const all = [...places.values()].sort((a, b) => a.x - b.x);
  const over = element("div", undefined, "over"), tip = element("p", undefined, "tip");
  const marks = document.createElementNS(svg.namespaceURI, "g"), { width } = svg.viewBox.baseVal;
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  over.append(tip);
  svg.append(marks);
  svg.after(over);
  over.setAttribute("aria-label", `Values: ${figure.querySelector("figcaption").textContent}`);
  const mark = (kind, values) => {
    const made = document.createElementNS(svg.namespaceURI, kind);
    for (const [name, value] of Object.entries({ class: "at", ...values })) made.setAttribute(name, value);
    return made;
  };
  const text = (number) => [`${svg.dataset.label} ${all[number].at}`, ...all[number].texts].join("\n");
  const show = (number) => {
    const place = all[number];
    marks.replaceChildren(...(place ? [mark("path", { d: `M${place.x} 12V190` }),
      ...place.points.map(([cx, cy]) => mark("circle", { cx, cy, r: 4.5 }))] : []));
    const scale = over.clientWidth / width;
    if (place) showTip(tip, text(number), place.x * scale, Math.min(...place.points.map((point) => point[1])) * scale);
    else tip.hidden = true;
  };
  stepper(over, { count: () => all.length, text, show });
  svg.addEventListener("pointermove", (event) => {
    const at = (event.clientX - svg.getBoundingClientRect().left) / svg.clientWidth * width;
    const far = (place) => Math.abs(place.x - at);
    show(all.indexOf(all.reduce((a, b) => far(b) < far(a) ? b : a)));
  });
  svg.addEventListener("pointerleave", () => show(null));
}

document.querySelectorAll(".chart").forEach(watchChart);
listSamples();
listDetails();
if (samples.length) start();
