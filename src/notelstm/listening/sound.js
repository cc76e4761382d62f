// The instruments of synthesis.py in the browser: the same partials, decays, drums, pan and reverb.

const LAYERS = [30, 60, 85, 110];  // a string is rendered for the nearest of these velocities
const MOST_SAMPLES = 24e6;         // of cached strings, about 96 MB
const NOISE_PEAK = 2.5;            // of noise, as a multiple of its root mean square
const DRUM_SILENT = 7;             // time constants after which a drum is silent
const LINEAR = 0.85, HEADROOM = 4; // levels up to the first are not changed, the second is the largest expected

function partials(timbre, pitch, velocity, highest) {
  const first = 440 * 2 ** ((pitch - 69) / 12);
  const stiffness = timbre.stiffness * (1 + 2 ** ((pitch - timbre.stiffness_pitch) / timbre.stiffness_doubles));
  const slow = timbre.decay * 2 ** ((60 - pitch) / timbre.decay_halves);
  const force = (velocity / 127) ** timbre.loudness_power;
  const found = [];
  for (let k = 1; k <= timbre.partials; k++) {
    const frequency = first * k ** timbre.stretch * Math.sqrt((1 + stiffness * k * k) / (1 + stiffness));
    if (k > 1 && frequency >= highest) break;
    const brightness = Math.exp((first - frequency) / (timbre.dark + timbre.bright * force));
    const off = (frequency - timbre.formant) / timbre.formant_width;
    const body = 1 + timbre.formant_gain * Math.exp(-off * off);
    found.push({
      frequency,
      decay: slow / (1 + timbre.damping * (k - 1)),
      amplitude: Math.sin(Math.PI * timbre.strike * k) * k ** -timbre.slope * brightness * body,
    });
  }
  const size = Math.sqrt(found.reduce((sum, p) => sum + p.amplitude ** 2, 0));
  for (const p of found) p.amplitude *= timbre.volume * force / size;
  return found;
}

function renderNote(timbre, pitch, velocity, seconds, rate) {
  const found = partials(timbre, pitch, velocity, Math.min(timbre.highest, 0.45 * rate));
  const size = Math.ceil((Math.min(seconds, timbre.longest * found[0].decay) + timbre.release) * rate);
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
    add(p.frequency, p.decay * timbre.first_decay, p.amplitude * timbre.first);
    add(p.frequency * timbre.beating, p.decay, p.amplitude * (1 - timbre.first));
  }
  const rise = Math.round((timbre.attack + timbre.attack_soft * (1 - velocity / 127)) * rate);
  for (let n = 0; n < rise; n++) sound[n] *= Math.sin(Math.PI / 2 * n / rise) ** 2;
  return sound;
}

// White noise, the same each time.
function noiseOf() {
  let seed = 7;
  return () => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 31 - 1;
}

function renderDrum(drum, rate) {
  const seconds = DRUM_SILENT * Math.max(drum.tone_level ? drum.tone_decay : 0, drum.noise_decay)
    + (drum.bursts - 1) * drum.burst_seconds;
  const size = Math.round(seconds * rate), sound = new Float32Array(size), chance = noiseOf();
  const share = (hertz) => 1 - Math.exp(-2 * Math.PI * Math.min(hertz, 0.45 * rate) / rate);
  const low = share(drum.noise_low), high = share(drum.noise_high);
  const smooth = [0, 0], bass = [0, 0];  // two filters of each kind, one after the other
  let energy = 0;
  for (let n = 0; n < size; n++) {
    smooth[0] += high * (chance() - smooth[0]);
    smooth[1] += high * (smooth[0] - smooth[1]);
    bass[0] += low * (smooth[1] - bass[0]);
    bass[1] += low * (smooth[1] - bass[0] - bass[1]);
    sound[n] = smooth[1] - bass[0] - bass[1];
    energy += sound[n] ** 2;
  }
  const level = drum.noise / Math.sqrt(energy / size);
  const fall = (drum.bend - 1) * drum.bend_seconds;
  const second = drum.tone * drum.second < 0.45 * rate ? drum.second_level : 0;
  const volume = drum.volume / (drum.tone_level * (1 + drum.second_level) + NOISE_PEAK * drum.noise);
  for (let n = 0; n < size; n++) {
    const time = n / rate;
    const burst = Math.min(Math.floor(time / drum.burst_seconds), drum.bursts - 1);
    sound[n] *= level * Math.exp(-(time - burst * drum.burst_seconds) / drum.noise_decay);
    if (drum.tone_level) {
      const turns = 2 * Math.PI * drum.tone * (time + fall * (1 - Math.exp(-time / drum.bend_seconds)));
      const tones = Math.sin(turns) + second * Math.sin(drum.second * turns);
      sound[n] += drum.tone_level * tones * Math.exp(-time / drum.tone_decay);
    }
    sound[n] *= volume * Math.min(1, time / drum.attack);
  }
  return sound;
}

function reverbOf(context, piano) {
  const rate = context.sampleRate, size = Math.round(piano.reverb_seconds * rate);
  const buffer = new AudioBuffer({ numberOfChannels: 2, length: size, sampleRate: rate });
  const chance = noiseOf();
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

// Levels above LINEAR approach full scale and do not reach it, however loud the input.
function softLimit(level) {
  const over = Math.max(0, Math.abs(level) - LINEAR), room = 0.99 - LINEAR;
  return Math.sign(level) * (Math.min(Math.abs(level), LINEAR) + room * Math.tanh(over / room));
}

export class Synthesizer {
  // `sounds` has the constants of timbres by name and of drums by key.
  constructor(context, sounds) {
    this.context = context;
    this.sounds = sounds;
    this.strings = new Map();  // in the order of use, the oldest first
    this.samples = 0;
    this.sounding = new Set();
    this.buses = new Map();    // an instrument's notes pass through its own gain
    this.volume = new GainNode(context, { gain: 0.8 });
    const limiter = new DynamicsCompressorNode(context, {
      threshold: -8, knee: 6, ratio: 16, attack: 0.002, release: 0.2,
    });
    const points = 8193, middle = (points - 1) / 2;
    const scaled = new GainNode(context, { gain: 1 / HEADROOM });
    const shaper = new WaveShaperNode(context, {
      curve: Float32Array.from({ length: points }, (_, n) => softLimit(HEADROOM * (n / middle - 1))),
    });
    const reverb = reverbOf(context, sounds.timbres.piano);
    this.reverb = new ConvolverNode(context, { disableNormalization: true, buffer: reverb });
    this.meter = new AnalyserNode(context, { fftSize: 2048 });
    this.volume.connect(limiter);
    this.reverb.connect(this.volume);
    limiter.connect(scaled).connect(shaper).connect(this.meter).connect(context.destination);
  }

  bus(name) {
    let bus = this.buses.get(name);
    if (!bus) {
      bus = new GainNode(this.context);
      bus.connect(this.volume);
      bus.connect(this.reverb);
      this.buses.set(name, bus);
    }
    return bus;
  }

  setAudible(name, audible) {
    this.bus(name).gain.setTargetAtTime(audible ? 1 : 0, this.context.currentTime, 0.015);
  }

  // A string is rendered for the longest note of its key, a drum once.
  string({ pitch, velocity, instrument }, seconds) {
    const drum = !instrument.timbre, rate = this.context.sampleRate;
    const layer = drum ? 127
      : LAYERS.reduce((a, b) => Math.abs(b - velocity) < Math.abs(a - velocity) ? b : a);
    const key = `${instrument.timbre}/${pitch}/${layer}`;
    let made = this.strings.get(key);
    if (made && (drum || made.seconds >= seconds)) {
      this.strings.delete(key);
    } else {
      if (made) this.samples -= made.buffer.length;
      const constants = drum ? this.sounds.drums[pitch] : this.sounds.timbres[instrument.timbre];
      const sound = drum ? renderDrum(constants, rate) : renderNote(constants, pitch, layer, seconds, rate);
      const buffer = new AudioBuffer({ length: sound.length, sampleRate: rate });
      buffer.copyToChannel(sound, 0);
      made = { buffer, seconds, layer, constants, drum };
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
    const { buffer, layer, constants, drum } = this.string(note, longest);
    if (from >= buffer.duration) return;
    const level = (note.velocity / layer) ** constants.loudness_power;
    const at = Math.max(when, this.context.currentTime);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    const gain = new GainNode(this.context, { gain: from > 0 ? 0 : level });
    const side = drum ? 1 : Math.min(1, Math.max(-1, (note.pitch - 64) / 44));
    const pan = new StereoPannerNode(this.context, { pan: constants.pan * side });
    if (from > 0) {
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(level, at + 0.01);
    }
    source.connect(gain).connect(pan).connect(this.bus(note.instrument.name));
    source.start(at, from);
    if (!drum) {  // a drum sounds to its end
      const end = Math.max(at + note.seconds - from, at + 0.011);
      gain.gain.setValueCurveAtTime(fall(level), end, constants.release);
      source.stop(end + constants.release);
    }
    const voice = { source, pan, bus: this.bus(note.instrument.name), at };
    this.sounding.add(voice);
    source.onended = () => { pan.disconnect(); this.sounding.delete(voice); };
    return voice;
  }

  // End a note at a time of the context's clock, without a click; cancel one that starts later.
  end(voice, when, seconds) {
    const { source, pan, bus, at } = voice;
    if (!this.sounding.delete(voice)) return;
    if (at >= when) {
      pan.disconnect();
      source.stop();
      return;
    }
    const from = Math.max(when, this.context.currentTime), fade = new GainNode(this.context);
    pan.disconnect();
    pan.connect(fade).connect(bus);
    fade.gain.setValueAtTime(1, from);
    fade.gain.linearRampToValueAtTime(0, from + seconds);
    source.stop(from + seconds + 0.01);
    source.onended = () => fade.disconnect();
  }

  // Stop: fade out sounding notes, cancel scheduled ones.
  silence() {
    for (const voice of this.sounding) this.end(voice, this.context.currentTime, 0.03);
  }
}

const falls = Float32Array.from({ length: 64 }, (_, n) => (1 - n / 63) ** 4);

function fall(level) {
  return falls.map((x) => x * level);
}

const keyOf = (note) => `${note.instrument.timbre}/${note.pitch}`;

class Player {
  constructor(sounds, changed) {
    this.sounds = sounds;
    this.changed = changed;
    this.synth = null;  // browsers allow sound only after a click or a key press
    this.level = 0.8;
    this.audible = () => true;  // by the name of an instrument
    this.loop = false;
    this.playing = false;
    this.rest = 0;
    this.began = null;  // the time of the context at which `rest` is played; null until it runs
    this.load({ notes: [], seconds: 0, instruments: [] });
  }

  load(sample) {
    this.pause();
    this.sample = sample;
    this.longest = new Map();
    for (const note of sample.notes) {
      this.longest.set(keyOf(note), Math.max(this.longest.get(keyOf(note)) || 0, note.seconds));
    }
    this.rest = 0;
    this.prepare();
  }

  get position() {
    if (!this.playing || this.began === null) return this.rest;
    return Math.max(this.rest, this.rest + this.synth.context.currentTime - this.began);
  }

  // Apply `audible`, at once if the piece is playing.
  mix() {
    if (!this.synth) return;
    for (const { name } of this.sample.instruments) this.synth.setAudible(name, this.audible(name));
  }

  setVolume(level) {
    this.level = level;
    if (this.synth) this.synth.volume.gain.setTargetAtTime(level, this.synth.context.currentTime, 0.02);
  }

  async play() {
    if (this.playing || !this.sample.notes.length) return;
    if (!this.synth) this.synth = new Synthesizer(new AudioContext({ latencyHint: "playback" }), this.sounds);
    this.synth.volume.gain.value = this.level;
    this.mix();
    if (this.rest >= this.sample.seconds) this.rest = 0;
    this.playing = true;
    this.changed();
    await this.synth.context.resume();
    // It may have been paused meanwhile, and begun again.
    if (this.playing && this.began === null) this.begin();
  }

  begin() {
    this.began = this.synth.context.currentTime + 0.06;
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
      this.synth.playNote(note, this.longest.get(keyOf(note)), this.began + note.start - this.rest + late, late);
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
    this.began = null;
    clearInterval(this.timer);
    this.synth.silence();
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
    if (!this.synth) return;
    const sample = this.sample;
    const later = sample.notes.filter((note) => note.start >= this.rest);
    const step = () => {
      const stop = performance.now() + 8;
      while (later.length && performance.now() < stop && this.synth.samples < MOST_SAMPLES / 2) {
        const note = later.shift();
        this.synth.string(note, this.longest.get(keyOf(note)));
      }
      if (later.length && this.synth.samples < MOST_SAMPLES / 2) this.preparing = setTimeout(step, 12);
    };
    this.preparing = setTimeout(step, 0);
  }
}
