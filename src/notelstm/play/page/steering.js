// The controls of the model. One that is not touched leaves the music to the model.

import { pitchName } from "./parts.js";

const LABELS = { temperature: "Temperature", top_p: "Top-p", density: "Notes per second", low: "Lowest note",
  high: "Highest note", scale: "Scale", polyphony: "Notes at a time", instruments: "Instruments" };
const HINTS = { temperature: "low: predictable, high: random", top_p: "only the most likely values, up to this share" };
const TONICS = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
const PITCHES = new Set(["low", "high"]);

const make = (name, values = {}) => Object.assign(document.createElement(name), values);

// Those of some values that a model with these controls has.
export function possible(values, controls) {
  const found = {};
  for (const [name, value] of Object.entries(values)) {
    const control = controls.find((one) => one.name === name), choices = control?.choices;
    const chosen = choices?.filter((choice) => value.includes(choice));
    // All instruments are those of the model alone.
    if (chosen ? chosen.length && chosen.length < choices.length : control) found[name] = chosen || value;
  }
  return found;
}

export class Steering {
  // `changed` is called with the controls that are set, by name.
  constructor(element, changed) {
    this.element = element;
    this.changed = changed;
    this.values = {};
  }

  // Build the controls of a model.
  build(controls) {
    this.controls = controls;
    this.element.replaceChildren(...controls.map((control) =>
      control.name === "scale" ? this.scale(control)
        : control.name === "instruments" ? this.instruments(control) : this.slider(control)));
    this.show(this.values);
  }

  slider(control) {
    const { name, min, max, step, own } = control, row = make("div", { className: "control" });
    const id = `control-${name}`;
    const label = make("label", { htmlFor: id, textContent: LABELS[name] });
    const input = make("input", { type: "range", id, min, max, step });
    const output = make("output");
    output.setAttribute("for", id);
    const reset = make("button", { type: "button", textContent: "reset", className: "small" });
    reset.setAttribute("aria-label", `${LABELS[name]}: as the model alone`);
    const note = own === null ? HINTS[name] || "" :
      `alone: ${PITCHES.has(name) ? pitchName(own) : own}${HINTS[name] ? `; ${HINTS[name]}` : ""}`;
    const hint = make("span", { className: "quiet hint", id: `${id}-hint`, textContent: note });
    input.setAttribute("aria-describedby", hint.id);
    input.addEventListener("input", () => this.set(name, Number(input.value)));
    reset.addEventListener("click", () => { this.set(name, null); input.focus(); });
    row.append(label, input, output, hint, reset);
    row.dataset.control = name;
    return row;
  }

  scale(control) {
    const row = make("div", { className: "control" });
    const tonic = make("select", { id: "control-scale" }), mode = make("select", { id: "control-mode" });
    tonic.append(make("option", { value: "", textContent: "any" }),
      ...TONICS.map((name) => make("option", { value: name, textContent: name.replace("#", "♯").replace(/b$/, "♭") })));
    mode.append(...control.modes.map((name) => make("option", { value: name, textContent: name })));
    mode.setAttribute("aria-label", "Mode of the scale");
    const update = () => this.set("scale", tonic.value ? `${tonic.value} ${mode.value}` : null);
    tonic.addEventListener("change", update);
    mode.addEventListener("change", update);
    row.append(make("label", { htmlFor: "control-scale", textContent: LABELS.scale }), tonic, mode,
      make("span", { className: "quiet hint", textContent: "alone: any" }));
    row.dataset.control = "scale";
    return row;
  }

  // All instruments are those of the model alone; one at least plays.
  instruments(control) {
    const row = make("fieldset", { className: "control instruments" });
    row.append(make("legend", { textContent: LABELS.instruments }));
    for (const name of control.choices) {
      const label = make("label", { className: "check" }), box = make("input", { type: "checkbox", value: name });
      box.addEventListener("change", () => {
        const chosen = [...row.querySelectorAll(":checked")].map((one) => one.value);
        if (chosen.length) this.set("instruments", chosen.length < control.choices.length ? chosen : null);
        else box.checked = true;
      });
      label.append(box, ` ${name}`);
      row.append(label);
    }
    row.dataset.control = "instruments";
    return row;
  }

  set(name, value) {
    const values = { ...this.values };
    if (value === null) delete values[name];
    else values[name] = value;
    // A register that would be empty moves its other end.
    if (name === "low" && values.high < value) values.high = value;
    if (name === "high" && values.low > value) values.low = value;
    this.show(values);
    this.changed(values);
  }

  // Show the controls that are set.
  show(values) {
    this.values = values;
    for (const { name, own, min, max, choices } of this.controls || []) {
      const row = this.element.querySelector(`[data-control="${name}"]`), set = name in values;
      row.classList.toggle("set", set);
      if (name === "instruments") {
        const chosen = new Set(set ? values.instruments : choices);
        for (const box of row.querySelectorAll("input")) box.checked = chosen.has(box.value);
        continue;
      }
      if (name === "scale") {
        const [tonic, ...mode] = (values.scale || "").split(" ");
        row.querySelector("#control-scale").value = tonic;
        if (set) row.querySelector("#control-mode").value = mode.join(" ");
        continue;
      }
      const middle = name === "low" ? min : max, value = set ? values[name] : own ?? middle;
      const input = row.querySelector("input"), shown = PITCHES.has(name) ? pitchName(value) : String(value);
      input.value = value;
      row.querySelector("output").textContent = set ? shown : "as the model";
      input.setAttribute("aria-valuetext", set ? shown : "as the model alone");
      row.querySelector("button").disabled = !set;
    }
  }
}
