// Standard output and error of a test as console entries.
"use strict";

const { StringDecoder } = require("string_decoder");

const { MAX_OUTPUT, MAX_OUTPUT_LINES } = require("./limits");
const { cut, given, plain } = require("./texts");

const KEPT = 8 << 20; // characters of a result's output
const MAX_LINES = 10_000; // that are kept apart, those that are blank, too
const LEVELS = { stdout: "info", stderr: "warning" };

/** Gathers what a result prints, in the order in which it comes: the first lines, and all of each stream. */
class Output {
  constructor() {
    this._lines = []; // a line stands where its first chunk came
    this._open = {}; // the line of each stream that has no end yet
    this._whole = {};
    this._length = 0;
    this._decoders = { stdout: new StringDecoder("utf8"), stderr: new StringDecoder("utf8") };
  }

  /** `time` in milliseconds, null when it is not known. */
  add(stream, chunk, time) {
    const text = Buffer.isBuffer(chunk) ? this._decoders[stream].write(chunk) : String(chunk);
    const kept = text.slice(0, Math.max(0, KEPT - this._length));
    this._length += text.length;
    (this._whole[stream] ||= []).push(kept);
    if (this._lines.length > MAX_LINES) return;
    kept.split("\n").forEach((part, number) => {
      if (number) this._open[stream] = null;
      if (!part) return;
      if (!this._open[stream]) this._lines.push((this._open[stream] = { stream, text: "", time }));
      this._open[stream].text += part;
    });
  }

  /** The entries; and when there is too much for entries, each stream as a file. `clean` removes secrets. */
  entries(clean) {
    const entries = [];
    let size = 0;
    for (const { stream, text, time } of this._lines) {
      const line = plain(text).replace(/\r+$/, "");
      if (!line.trim()) continue;
      size += line.length;
      if (entries.length >= MAX_OUTPUT_LINES || size > MAX_OUTPUT) return { entries, files: this._files(clean) };
      entries.push(given({ level: LEVELS[stream], message: cut(clean(line)), source_url: stream, logged_at: time }));
    }
    return { entries, files: this._lines.length > MAX_LINES ? this._files(clean) : [] };
  }

  _files(clean) {
    const streams = Object.keys(LEVELS).filter((stream) => this._whole[stream]);
    return streams.map((stream) => ({
      fields: { file_name: `${stream}.log`, artifact_type: "log" },
      source: Buffer.from(clean(plain(this._whole[stream].join("")))),
    }));
  }
}

module.exports = { Output };
