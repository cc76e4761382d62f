// The piano of synthesis.py in the browser: the same partials, decays, pan and reverb.

const LAYERS = [30, 60, 85, 110];  // a string is rendered for the nearest of these velocities
const MOST_SAMPLES = 24e6;         // of cached strings, about 96 MB

function partials(piano, pitch, velocity, highest) {
  const first = 440 * 2 ** ((pitch - 69) / 12);
  const stiffness = piano.stiffness * (1 + 2 ** ((pitch - piano.stiffness_pitch) / piano.stiffness_doubles));
  const slow = piano.decay * 2 ** ((60 - pitch) / piano.decay_halves);
  const force = (velocity / 127) ** piano.loudness_power;
  const found = [];
  for (let k = 1; k <= piano.partials; k++) {
    const frequency = first * k * Math.sqrt((1 + stiffness * k * k) / (1 + stiffness));
    if (k > 1 && frequency >= highest) break;
    const brightness = Math.exp((first - frequency) / (piano.dark + piano.bright * force));
    found.push({
      frequency,
      decay: slow / (1 + piano.damping * (k - 1)),
      amplitude: Math.sin(Math.PI * piano.strike * k) * k ** -piano.slope * brightness,
    });
  }
  const size = Math.sqrt(found.reduce((sum, p) => sum + p.amplitude ** 2, 0));
  for (const p of found) p.amplitude *= piano.volume * force / size;
  return found;
}

function renderNote(piano, pitch, velocity, seconds, rate) {
  const found = partials(piano, pitch, velocity, Math.min(piano.highest, 0.45 * rate));
  const size = Math.ceil((Math.min(seconds, piano.longest * found[0].decay) + piano.release) * rate);
  const sound = new Float32Array(size);
  const add = (frequency, decay, amplitude) => {
    const turn = 2 * Math.PI * frequency / rate, shrink = Math.exp(-1 / (decay * rate));
    const a = 2 * shrink * Math.cos(turn), b = shrink * shrink;
    const end = Math.min(size, Math.ceil(decay * rate * 11));
    let before = 0, now = amplitude * shrink * Math.sin(turn);
    for (let n = 1; n < end; n++) {
      sound[n] += now;
      const next = a * now - b * before;
      before = now;
      now = next;
    }
  };
  for (const p of found) {
    add(p.frequency, p.decay * piano.first_decay, p.amplitude * piano.first);
    add(p.frequency * piano.beating, p.decay, p.amplitude * (1 - piano.first));
  }
  const rise = Math.round((piano.attack + piano.attack_soft * (1 - velocity / 127)) * rate);
  for (let n = 0; n < rise; n++) sound[n] *= Math.sin(Math.PI / 2 * n / rise) ** 2;
  return sound;
}

function reverbOf(context, piano) {
  const rate = context.sampleRate, size = Math.round(piano.reverb_seconds * rate);
  const buffer = new AudioBuffer({ numberOfChannels: 2, length: size, sampleRate: rate });
  let seed = 7;
  const chance = () => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 31 - 1;
  const high = 1 - Math.exp(-2 * Math.PI * 2500 / rate), low = 1 - Math.exp(-2 * Math.PI * 200 / rate);
  for (let side = 0; side < 2; side++) {
    const sound = buffer.getChannelData(side);
    let smooth = 0, bass = 0, energy = 0;
    for (let n = 0; n < size; n++) {
      smooth += high * (chance() - smooth);
      bass += low * (smooth - bass);
      sound[n] = (smooth - bass) * Math.exp(-n / rate / piano.reverb_decay) * (1 - n / size);
      energy += sound[n] ** 2;
    }
    for (let n = 0; n < size; n++) sound[n] *= piano.reverb / Math.sqrt(energy);
  }
  return buffer;
}

class Piano {
  constructor(context, constants) {
    this.context = context;
    this.constants = constants;
    this.strings = new Map();  // in the order of use, the oldest first
    this.samples = 0;
    this.sounding = new Set();
    this.volume = new GainNode(context, { gain: 0.8 });
    const limiter = new DynamicsCompressorNode(context, {
      threshold: -8, knee: 6, ratio: 16, attack: 0.002, release: 0.2,
    });
    this.reverb = new ConvolverNode(context, { disableNormalization: true, buffer: reverbOf(context, constants) });
    this.meter = new AnalyserNode(context, { fftSize: 2048 });
    this.volume.connect(limiter);
    this.reverb.connect(this.volume);
    limiter.connect(this.meter).connect(context.destination);
  }

  // A string is rendered for the longest note of its key.
  string(pitch, velocity, seconds) {
    const layer = LAYERS.reduce((a, b) => Math.abs(b - velocity) < Math.abs(a - velocity) ? b : a);
    const key = `${pitch}/${layer}`;
    let made = this.strings.get(key);
    if (made && made.seconds >= seconds) {
      this.strings.delete(key);
    } else {
      if (made) this.samples -= made.buffer.length;
      const sound = renderNote(this.constants, pitch, layer, seconds, this.context.sampleRate);
      const buffer = new AudioBuffer({ length: sound.length, sampleRate: this.context.sampleRate });
      buffer.copyToChannel(sound, 0);
      made = { buffer, seconds, layer };
      this.samples += buffer.length;
    }
    this.strings.set(key, made);
    for (const [old, string] of this.strings) {
      if (this.samples <= MOST_SAMPLES || old === key) break;
      this.samples -= string.buffer.length;
      this.strings.delete(old);
    }
    return made;
  }

  // Play a note at a time of the context's clock, starting `from` seconds into it.
  playNote(note, longest, when, from) {
    const { buffer, layer } = this.string(note.pitch, note.velocity, longest);
    if (from >= buffer.duration) return;
    const level = (note.velocity / layer) ** this.constants.loudness_power;
    const at = Math.max(when, this.context.currentTime);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    const gain = new GainNode(this.context, { gain: from > 0 ? 0 : level });
    const side = Math.min(1, Math.max(-1, (note.pitch - 64) / 44));
    const pan = new StereoPannerNode(this.context, { pan: this.constants.pan * side });
    if (from > 0) {
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(level, at + 0.01);
    }
    const end = Math.max(at + note.seconds - from, at + 0.011);
    gain.gain.setValueCurveAtTime(fall(level), end, this.constants.release);
    source.connect(gain).connect(pan);
    pan.connect(this.volume);
    pan.connect(this.reverb);
    source.start(at, from);
    source.stop(end + this.constants.release);
    const voice = { source, pan };
    this.sounding.add(voice);
    source.onended = () => { pan.disconnect(); this.sounding.delete(voice); };
  }

  // Stop without a click: fade out sounding notes, cancel scheduled ones.
  silence() {
    const now = this.context.currentTime;
    for (const { source, pan } of this.sounding) {
      const fade = new GainNode(this.context);
      pan.disconnect();
      pan.connect(fade).connect(this.volume);
      fade.gain.setValueAtTime(1, now);
      fade.gain.linearRampToValueAtTime(0, now + 0.03);
      source.stop(now + 0.04);
      source.onended = () => fade.disconnect();
    }
    this.sounding.clear();
  }
}

const falls = Float32Array.from({ length: 64 }, (_, n) => (1 - n / 63) ** 4);

function fall(level) {
  return falls.map((x) => x * level);
}

class Player {
  constructor(constants, changed) {
    this.constants = constants;
    this.changed = changed;
    this.piano = null;  // browsers allow sound only after a click or a key press
    this.level = 0.8;
    this.loop = false;
    this.playing = false;
    this.rest = 0;
    this.load({ notes: [], seconds: 0 });
  }

  load(sample) {
    this.pause();
    this.sample = sample;
    this.longest = new Map();
    for (const note of sample.notes) {
      this.longest.set(note.pitch, Math.max(this.longest.get(note.pitch) || 0, note.seconds));
    }
    this.rest = 0;
    this.prepare();
  }

  get position() {
    if (!this.playing) return this.rest;
    return Math.max(this.rest, this.rest + this.piano.context.currentTime - this.began);
  }

  setVolume(level) {
    this.level = level;
    if (this.piano) this.piano.volume.gain.setTargetAtTime(level, this.piano.context.currentTime, 0.02);
  }

  async play() {
    if (this.playing || !this.sample.notes.length) return;
    if (!this.piano) this.piano = new Piano(new AudioContext({ latencyHint: "playback" }), this.constants);
    this.piano.volume.gain.value = this.level;
    if (this.rest >= this.sample.seconds) this.rest = 0;
    this.playing = true;
    this.changed();
    await this.piano.context.resume();
    if (this.playing) this.begin();
  }

  begin() {
    this.began = this.piano.context.currentTime + 0.06;
    this.next = 0;
    this.schedule();
    clearInterval(this.timer);
    this.timer = setInterval(() => this.schedule(), 60);
    this.prepare();
  }

  // Notes are scheduled a little ahead, more in hidden tabs, whose timers are throttled.
  schedule() {
    const { notes, seconds } = this.sample;
    const until = this.position + (document.hidden ? 2.5 : 0.5);
    for (; this.next < notes.length && notes[this.next].start < until; this.next++) {
      const note = notes[this.next];
      if (note.start + note.seconds < this.rest || (note.start < this.rest && note.seconds === 0)) continue;
      const late = Math.max(0, this.rest - note.start);
      this.piano.playNote(note, this.longest.get(note.pitch), this.began + note.start - this.rest + late, late);
    }
    if (this.position >= seconds + (this.loop ? 0.15 : 1)) {
      if (this.loop) return this.seek(0);
      this.pause();
      this.rest = 0;
      this.changed();
    }
  }

  pause() {
    if (!this.playing) return;
    this.rest = Math.min(this.position, this.sample.seconds);
    this.playing = false;
    clearInterval(this.timer);
    this.piano.silence();
    this.changed();
  }

  seek(second) {
    const again = this.playing;
    this.pause();
    this.rest = Math.min(Math.max(0, second), this.sample.seconds);
    if (again) this.play();
    this.changed();
  }

  // Render the strings of the next notes while idle.
  prepare() {
    clearTimeout(this.preparing);
    if (!this.piano) return;
    const sample = this.sample;
    const later = sample.notes.filter((note) => note.start >= this.rest);
    const step = () => {
      const stop = performance.now() + 8;
      while (later.length && performance.now() < stop && this.piano.samples < MOST_SAMPLES / 2) {
        const note = later.shift();
        this.piano.string(note.pitch, note.velocity, this.longest.get(note.pitch));
      }
      if (later.length && this.piano.samples < MOST_SAMPLES / 2) this.preparing = setTimeout(step, 12);
    };
    this.preparing = setTimeout(step, 0);
  }
}
