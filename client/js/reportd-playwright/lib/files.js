// The files of tests: which of them the server has already, and what becomes of those that it does not take.
"use strict";

const path = require("path");

const { Changed, Json, checksumOf } = require("./body");
const { FIRST_RETRY } = require("./limits");
const { cut } = require("./texts");

const FIELDS = [
  ...["artifact_type", "artifact_category", "step_number", "iteration_number", "description", "captured_at"],
];
const LATER = ["storage_full", "storage_unavailable", "try_again", "overloaded"]; // a repetition may succeed
const ASKED = 1000; // files in one question
const MAX_REASON = 2000;

/** A file of a test that can be sent. */
class Ready {
  constructor(entry, filePath, checksum) {
    this.name = String(entry.file_name);
    this.path = filePath;
    this.size = entry.file_size;
    this.checksum = checksum;
    this.fields = Object.fromEntries(FIELDS.filter((name) => name in entry).map((name) => [name, entry[name]]));
    this.fields.checksum = checksum;
    this.step = `${entry.iteration_number} ${entry.step_number}`;
  }

  /** The entry for bytes that the server has. */
  known() {
    return { known: true, file_name: this.name, file_size: this.size, ...this.fields };
  }

  /** The entry for a file that comes in another request. */
  later() {
    return { later: true, ...named(this.name, this.size, this.checksum) };
  }
}

/** The entry for a file that a request does not bring: only what the server remembers of it. */
function named(name, size, checksum) {
  const entry = { artifact_type: "other", file_name: name };
  if (size > 0) entry.file_size = size;
  return checksum ? { ...entry, checksum } : entry;
}

class Files {
  constructor(spool, server, receipts, offers) {
    Object.assign(this, { _spool: spool, _server: server, _receipts: receipts, _offers: offers });
    this._there = new Set(); // checksums of bytes that the project has
    this.arrived = 0;
    this.new = 0;
  }

  /** The files of a test that can be sent. The others are refused: not found when attached, or changed since. */
  async ready(one, entries) {
    for (const entry of entries) {
      const filePath = path.join(this._spool.files, String(entry.file));
      try {
        const refused = entry.refused || this._offers.refusal(entry.file_size || 0);
        if (refused) throw new Changed(filePath, refused);
        one.files.push(new Ready(entry, filePath, await checksumOf(filePath, entry)));
      } catch (error) {
        if (!(error instanceof Changed)) throw error;
        await this._refuse(one, { name: String(entry.file_name), size: entry.file_size }, error.message);
      }
    }
  }

  /** Find out which bytes the project has. Only a hint: bytes that are gone when they are linked are sent then. */
  async ask(files) {
    if (!this._offers.features.has("known")) return;
    const unknown = [...new Map(files.map((file) => [file.checksum, file.size]))];
    const asked = unknown.filter(([checksum, size]) => size > 0 && !this._there.has(checksum));
    const project = this._spool.about.run.project;
    for (let at = 0; at < asked.length; at += ASKED) {
      const portion = asked.slice(at, at + ASKED);
      const value = { files: portion.map(([checksum, size]) => ({ checksum, file_size: size })) };
      if (project) value.project = project;
      const answer = await this._server.call("POST", "/artifacts/missing", new Json(value), null, true);
      if (answer.status !== 200 || !Array.isArray(answer.value.missing)) continue;
      const missing = new Set(answer.value.missing);
      for (const [checksum] of portion) if (!missing.has(checksum)) this._there.add(checksum);
    }
  }

  isThere(file) {
    return this._there.has(file.checksum);
  }

  /** Refuse and remove the file that could not be sent. */
  async leaveOut(error, packed) {
    for (const one of packed) {
      const gone = one.files.filter((file) => file.path === error.path);
      for (const file of gone) await this.drop(one, file, error.message);
    }
  }

  async drop(one, file, reason) {
    one.files = one.files.filter((each) => each !== file);
    await this._refuse(one, file, reason);
  }

  async _refuse(one, file, reason) {
    one.missing.push({ refused: cut(reason, MAX_REASON), ...named(file.name, file.size, file.checksum) });
    await this._receipts.refuse(one.testId, file.name, reason);
  }

  /** Take the reply for one test. What is left of its files: those of a failure of the server, those whose bytes it did
   * not have after all, and those that were not in the request. Whether to wait a while before these. */
  async take(one, test, replayed) {
    this.arrived += test.artifacts.length;
    if (!replayed) this.new += test.artifacts.filter((artifact) => !artifact.duplicate).length;
    const sent = new Set(one.named);
    for (const failure of test.failed) {
      const file = one.inside.get(failure.file_index) || one.known[failure.known_index];
      if (!file) continue;
      sent.delete(file);
      if (LATER.includes(failure.code) || failure.code === "content_missing") this._there.delete(file.checksum);
      // The server has its name and the reason.
      else {
        one.files = one.files.filter((each) => each !== file);
        await this._receipts.refuse(one.testId, file.name, String(failure.error));
      }
    }
    if (this._offers.features.has("known")) for (const file of sent) this._there.add(file.checksum);
    one.files = one.files.filter((file) => !sent.has(file));
    return test.failed.some((failure) => LATER.includes(failure.code));
  }

  wait() {
    return this._server.patience.sleep(10 * FIRST_RETRY);
  }
}

module.exports = { Files };
