// Standard output and error of a test as console entries.
"use strict";

const { StringDecoder } = require("string_decoder");

const { MAX_OUTPUT, MAX_OUTPUT_LINES } = require("./limits");
const { cut, given, plain } = require("./texts");

const LEVELS = { stdout: "info", stderr: "warning" };

/** Gathers what a result prints, in the order in which it comes. */
class Output {
  constructor() {
    this._lines = []; // a line stands where its first chunk came
    this._open = {}; // the line of each stream that has no end yet
    this._decoders = { stdout: new StringDecoder("utf8"), stderr: new StringDecoder("utf8") };
  }

  /** `time` in milliseconds, null when it is not known. */
  add(stream, chunk, time) {
    const text = Buffer.isBuffer(chunk) ? this._decoders[stream].write(chunk) : String(chunk);
    const [first, ...others] = text.split("\n");
    this._append(stream, first, time);
    for (const line of others) {
      this._open[stream] = null;
      if (line) this._append(stream, line, time);
    }
  }

  _append(stream, text, time) {
    if (!this._open[stream]) this._lines.push((this._open[stream] = { stream, text: "", time }));
    this._open[stream].text += text;
  }

  /** The entries; and when there is too much for entries, both streams as files. `hide` removes secrets from a text. */
  entries(hide) {
    const [entries, files] = [[], []];
    let size = 0;
    for (const { stream, text, time } of this._lines) {
      const line = hide(plain(text.replace(/\r$/, "")));
      if (!line.trim()) continue;
      if (entries.length >= MAX_OUTPUT_LINES || size + line.length > MAX_OUTPUT) {
        files.push(...this._files(hide));
        break;
      }
      size += line.length;
      entries.push(given({ level: LEVELS[stream], message: cut(line), source_url: stream, logged_at: time }));
    }
    return { entries, files };
  }

  _files(hide) {
    return Object.keys(LEVELS).flatMap((stream) => {
      const lines = this._lines.filter((line) => line.stream === stream).map((line) => line.text);
      const fields = { file_name: `${stream}.log`, artifact_type: "log" };
      return lines.length ? [{ fields, source: Buffer.from(hide(`${lines.join("\n")}\n`)) }] : [];
    });
  }
}

module.exports = { Output };
