// The list of takes, each to play, keep, download and delete.

const make = (name, values = {}) => Object.assign(document.createElement(name), values);

export class Takes {
  // `send` sends a message, `address` gives the address of a file, `play` plays a take in the page.
  constructor(list, empty, { send, address, play }) {
    this.list = list;
    this.empty = empty;
    this.send = send;
    this.address = address;
    this.play = play;
    this.takes = [];
  }

  get latest() {
    return this.takes.at(-1);
  }

  show(takes) {
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    this.takes = takes;
    this.empty.hidden = takes.length > 0;
    this.list.replaceChildren(...takes.toReversed().map((take) => this.item(take)));
    if (focused) this.list.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  item(take) {
    const item = make("li", { className: take.kept ? "take kept" : "take" }), number = take.take;
    const steered = Object.entries(take.controls).map(([name, value]) => `${name} ${value}`).join(", ");
    const title = make("p", { className: "name", textContent: `Take ${number}` });
    const about = make("p", { className: "quiet", textContent: [`${take.notes} notes`,
      `${take.seconds.toFixed(1)} s`, take.model, steered].filter(Boolean).join(" · ") });
    const keep = this.button(number, "keep", take.kept ? "Kept" : "Keep", () => this.send("keep", { take: number }));
    keep.setAttribute("aria-pressed", String(take.kept));
    keep.disabled = take.kept;
    const actions = make("div", { className: "actions" });
    actions.append(
      this.button(number, "play", "Play", () => this.play(number)), keep,
      this.link(number, "mid", "MIDI"), this.link(number, "wav", "WAV"), this.link(number, "html", "Page"),
      this.button(number, "delete", "Delete", () => this.send("delete", { take: number })));
    item.append(title, about, actions);
    return item;
  }

  button(number, action, text, act) {
    const made = make("button", { type: "button", textContent: text, className: "small" });
    made.dataset.action = `${action}-${number}`;
    made.setAttribute("aria-label", `${text} take ${number}`);
    made.addEventListener("click", act);
    return made;
  }

  link(number, kind, text) {
    const made = make("a", { href: this.address(`takes/${number}.${kind}`), textContent: text, className: "button small" });
    made.setAttribute("aria-label", kind === "html" ? `Page of take ${number}` : `Download take ${number} as ${text}`);
    if (kind === "html") Object.assign(made, { target: "_blank", rel: "noopener" });
    else made.download = `take ${number}.${kind}`;
    return made;
  }
}
