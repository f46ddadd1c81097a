// Delivers groups of tests, each in one request or a few. What is refused is repaired, or sent in smaller parts.
"use strict";

const { Changed, Json, keyOf } = require("./body");
const { Packed, bodyOf, chooseFiles, repair } = require("./bundle");
const { Files } = require("./files");
const { Fatal } = require("./http");
const { GROUP_FILES } = require("./limits");
const { readRange } = require("./spool");

const REPAIRS = 3; // of one request before it is halved
const MOST_REPAIRS = 50; // of a single test

/** What a server offers. */
class Offers {
  /** Asks the server. Throws Stopped, Fatal. */
  static async of(server) {
    const answer = await server.call("GET", "/limits", null, null, true);
    return new Offers(answer.status === 200 ? answer.value : {});
  }

  constructor(value) {
    const positive = (number) => (Number.isInteger(number) && number > 0 ? number : null);
    this.features = new Set(Array.isArray(value.features) ? value.features : []);
    this._maxFileSize = positive(value.max_file_size);
    this.maxFiles = Math.min(positive(value.batch_max_files) || GROUP_FILES, GROUP_FILES);
    if (!this.features.has("bundle"))
      throw new Fatal("The server is older than reportd-playwright, and only reportd-send knows how to send to it");
  }

  /** Why a file of this size need not be sent, in the words of the server; null when it may be. */
  refusal(size) {
    if (this._maxFileSize === null || size <= this._maxFileSize) return null;
    return `File size exceeds maximum allowed (${Number((this._maxFileSize / 1048576).toPrecision(6))}MB)`;
  }
}

class Delivery {
  constructor(spool, server, receipts, runId, offers) {
    Object.assign(this, { _spool: spool, _server: server, _receipts: receipts, _offers: offers });
    this._path = `/suite-runs/${runId}/bundle`;
    this._withMissing = offers.features.has("shards"); // the server remembers files that do not come
    this.files = new Files(spool, server, receipts, offers);
    this.newTests = 0;
    this.left = 0; // tests that only `reportd-send resume` can send
  }

  /** Send the tests of a group and everything that belongs to them. Throws Stopped, Fatal. */
  async deliver(group) {
    const packed = [];
    for (const test of group) packed.push(await this._load(test));
    await this.files.ask(packed.flatMap((one) => one.files));
    const kept = await this._create(packed);
    const done = packed.filter((one) => !kept.includes(one));
    await this._nameMissing(done.filter((one) => one.stored && one.missing.length));
    await this._receipts.write({ complete: done.map((one) => one.ref) });
    this.left += kept.length;
  }

  async _load({ ref, ranges }) {
    const [test, rows] = [{}, { steps: [], console_logs: [], artifacts: [] }];
    for (const range of ranges)
      for (const record of await readRange(range))
        if (record.ref === ref && record.kind === "add") rows[record.to].push(record.entry);
        else if (record.ref === ref) Object.assign(test, record.test);
    const one = new Packed(ref, test, rows.steps, rows.console_logs);
    await this.files.ready(one, rows.artifacts);
    return one;
  }

  /** Store tests. Those that are too large for one request are returned. */
  async _create(packed) {
    for (let repairs = 0; packed.length; ) {
      const answer = await this._send(packed);
      if (answer === null) continue; // a file could not be sent any more and is left out
      if (answer.status === 404)
        throw new Fatal("The run has been deleted on the server, or belongs to another project");
      if (answer.status < 300) packed = await this._take(answer, packed);
      else if (repairs < (packed.length > 1 ? REPAIRS : MOST_REPAIRS) && (await this._repaired(answer, packed)))
        repairs++;
      else if (packed.length > 1) {
        const half = packed.length >> 1;
        return [...(await this._create(packed.slice(0, half))), ...(await this._create(packed.slice(half)))];
      } else if (answer.status !== 413) {
        await this._receipts.refuse(packed[0].testId, "test", answer.text());
        return [];
      } else if (!(await this._smaller(answer, packed[0]))) return packed;
    }
    return [];
  }

  async _send(packed) {
    chooseFiles(packed, (file) => this.files.isThere(file), this._offers.maxFiles, this._server.mostFileBytes);
    const body = bodyOf(packed, this._withMissing);
    const names = packed.flatMap((one) => [...one.inside.values()].map((file) => file.name));
    try {
      return await this._server.call("POST", this._path, body, keyOf(this._spool.id, this._path, body.data, names));
    } catch (error) {
      if (!(error instanceof Changed)) throw error;
      await this.files.leaveOut(error, packed);
      return null;
    }
  }

  /** Write down what became of each file. The tests of which files are left: these go in another bundle. */
  async _take(answer, packed) {
    const byRef = new Map(packed.map((one) => [one.ref, one]));
    const replayed = "idempotent-replayed" in answer.headers;
    let waits = false;
    for (const test of answer.items("tests")) {
      const one = byRef.get(test.client_ref);
      if (test.created && !replayed) this.newTests++;
      one.isTaken();
      waits = (await this.files.take(one, test, replayed)) || waits;
    }
    if (waits) await this.files.wait();
    return packed.filter((one) => one.files.length);
  }

  async _repaired(answer, packed) {
    const found = answer.status === 422 ? repair(packed, answer.problems) : [];
    for (const [one, what, message, file] of found)
      if (file) await this.files.drop(one, file, message);
      else await this._receipts.refuse(one.testId, what, message);
    return found.length > 0;
  }

  /** After 413 for a single test: whether the next request is smaller. */
  async _smaller(answer, one) {
    if (one.inside.size > 1) return true; // the next one has fewer files
    if (one.inside.size && !one.hasRows) await this.files.drop(one, one.inside.values().next().value, answer.text());
    else if (one.inside.size) one.withoutFiles = true;
    else return false;
    return true;
  }

  /** Name the files that will not come and that no bundle has named, so that the server can say what is missing. */
  async _nameMissing(packed) {
    if (!packed.length || !this._withMissing) return;
    for (const one of packed) Object.assign(one, { named: [], known: [], inside: new Map() });
    const body = new Json({ tests: packed.map((one) => one.value(true)) });
    await this._server.call("POST", this._path, body, keyOf(this._spool.id, this._path, body.data));
  }
}

module.exports = { Delivery, Offers };
