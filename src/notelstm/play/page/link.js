// The connection to the server: one socket, which connects again when it is lost.

const VERSION = 1;
const RETRIES = [0.2, 0.5, 1, 2, 4, 8];  // seconds between attempts, then the last of them
const FINAL = new Set([1008, 4001]);  // refused, or opened elsewhere: the server wants no other attempt

export class Link {
  // `clock` gives the time in seconds; `receive` gets each message; `changed` the state of the connection.
  constructor(clock, receive, changed) {
    this.clock = clock;
    this.receive = receive;
    this.changed = changed;
    // A reload has another clock, which the server has to know.
    this.clockName = Array.from(crypto.getRandomValues(new Uint8Array(12)), (x) => x.toString(36)).join("");
    this.token = new URLSearchParams(location.hash.slice(1)).get("token");
    this.attempts = 0;
    this.open = false;
    this.refused = null;
  }

  get session() {
    return sessionStorage.getItem("notelstm-session");
  }

  connect() {
    const address = new URL("socket", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.hash = "";
    this.socket = new WebSocket(address);
    this.socket.onopen = () => this.write({ type: "hello", version: VERSION, clock: this.clockName,
      at: this.clock(), session: this.session, token: this.token });
    this.socket.onmessage = (event) => this.read(JSON.parse(event.data));
    this.socket.onclose = (event) => this.closed(event);
  }

  read(message) {
    if (message.type === "welcome") {
      sessionStorage.setItem("notelstm-session", message.session);
      this.attempts = 0;
      this.refused = null;
      this.open = true;
      this.changed("connected", "");
    } else if (message.type === "error" && !this.open) {
      this.refused = message.message;
    }
    this.receive(message);
  }

  closed(event) {
    this.open = false;
    if (FINAL.has(event.code)) {
      this.changed("refused", this.refused || event.reason || "The server refused the connection.");
      return;
    }
    this.changed("lost", this.refused || "The connection is lost; connecting again …");
    const wait = RETRIES[Math.min(this.attempts++, RETRIES.length - 1)];
    setTimeout(() => this.connect(), 1000 * wait);
  }

  // Messages are not kept while the connection is lost: they would come too late.
  send(type, values = {}) {
    if (!this.open) return false;
    this.write({ type, ...values });
    return true;
  }

  write(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // The address of a file of this session.
  address(path) {
    return new URL(`sessions/${this.session}/${path}`, document.baseURI).href;
  }
}
