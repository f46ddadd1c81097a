// What the sender writes down, in the format of the Python client: before a request what it will send together, after
// it what the server has stored. So `reportd-send resume` can go on where the reporter stopped.
"use strict";

const fs = require("fs");
const path = require("path");

class Receipts {
  constructor(folder) {
    this._folder = folder;
    this._handle = null;
    this._last = Promise.resolve();
    this._groups = 0;
    this.run = null; // id
    this.finished = false;
    this.refused = new Set(); // sentences
  }

  /** Append a line and sync it. */
  write(line) {
    this._last = this._last.then(async () => {
      this._handle ||= await fs.promises.open(path.join(this._folder, "receipts.jsonl"), "a");
      await this._handle.appendFile(JSON.stringify(line) + "\n");
      await this._handle.sync();
    });
    return this._last;
  }

  newGroup(refs) {
    return this.write({ group: ++this._groups, refs });
  }

  /** Write down what will never be sent. */
  async refuse(testId, what, reason) {
    const text = `${testId ? `${testId}: ` : ""}${what}: ${reason}`;
    if (this.refused.has(text)) return;
    this.refused.add(text);
    const line = JSON.stringify({ test_id: testId, what, reason, text });
    await fs.promises.appendFile(path.join(this._folder, "refused.jsonl"), line + "\n");
  }

  async close() {
    await this._last.catch(() => {});
    if (this._handle) await this._handle.close();
  }
}

module.exports = { Receipts };
