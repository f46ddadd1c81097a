// Sends what is in the spool, from the beginning of the run: groups of tests, a few requests at once.
"use strict";

const fs = require("fs");

const { Json, keyOf } = require("./body");
const { Delivery, Offers } = require("./delivery");
const { Fatal, Patience, Server, Stopped } = require("./http");
const limits = require("./limits");
const { Receipts } = require("./receipts");

const GRACE_MS = 200; // for what is under way when the time is over
const COUNTS = {
  tests: limits.GROUP_TESTS,
  files: limits.GROUP_FILES,
  size: limits.GROUP_BYTES,
  steps: limits.GROUP_STEPS,
  entries: limits.GROUP_ENTRIES,
  fileBytes: limits.GROUP_FILE_BYTES,
};

class Sender {
  /** Throws SettingsError. */
  constructor(spool, token, settings, values, say) {
    this._spool = spool;
    this._patience = new Patience(settings.drain);
    this._server = new Server(settings.url, token, this._patience, values, say);
    this._receipts = new Receipts(spool.folder);
    this._began = Date.now();
    this._ready = []; // tests that have no group yet
    this._load = {};
    this._queue = []; // groups
    this._active = 0;
    this._sent = 0;
    this._fatal = null;
    this._last = new Map(); // attempt and status of the last attempt, by test_id
    this._idle = () => {};
    this.metadata = {}; // known only at the end
    this.expected = null;
  }

  /** Make the run, so that it is there from the beginning. */
  begin(expected) {
    this.expected = expected;
    this._queue.push([]);
    this._pump();
  }

  /** Take a test that has ended: `ref`, `testId`, `attempt`, `status`, `ranges` in the spool, and counts. */
  add(test) {
    const [before] = this._last.get(test.testId) || [0];
    if (before <= test.attempt) this._last.set(test.testId, [test.attempt, test.status]);
    const isFull = (load) => Object.keys(COUNTS).some((name) => load[name] > COUNTS[name]);
    const withIt = (load) =>
      Object.fromEntries(Object.keys(COUNTS).map((name) => [name, (load[name] || 0) + test.counts[name]]));
    if (this._ready.length && isFull(withIt(this._load))) this._flush();
    this._load = withIt(this._load);
    this._ready.push(test);
    // A failed test does not wait.
    if (test.status === "Failed" || this._load.tests >= COUNTS.tests) this._flush();
    else this._timer ||= setTimeout(() => this._flush(), limits.GROUP_SECONDS * 1000);
  }

  _flush() {
    clearTimeout(this._timer);
    this._timer = null;
    const group = this._ready;
    [this._ready, this._load] = [[], {}];
    if (!group.length) return;
    const isFailed = (each) => each.some((test) => test.status === "Failed");
    const place = isFailed(group) ? this._queue.findIndex((each) => !isFailed(each)) : -1;
    this._queue.splice(place < 0 ? this._queue.length : place, 0, group);
    this._pump();
  }

  _pump() {
    while (this._queue.length && this._active < this._server.most && !this._over()) {
      const group = this._queue.shift();
      this._active++;
      this._guarded(() => this._deliver(group)).then((done) => {
        this._active--;
        if (!done) this._queue.unshift(group);
        this._pump();
      });
    }
    if (this._over() || (!this._queue.length && !this._active)) this._idle();
  }

  _over() {
    return this._fatal !== null || this._patience.signal.aborted;
  }

  /** Whether the work has been done. */
  async _guarded(work) {
    try {
      await work();
      return true;
    } catch (error) {
      if (error instanceof Stopped) return false;
      this._fatal ||= error instanceof Fatal ? error : new Fatal(faultOf(error));
      this._patience.stop();
      return false;
    }
  }

  async _deliver(group) {
    const delivery = await (this._opening ||= this._open());
    if (!group.length) return;
    await this._receipts.newGroup(group.map((test) => test.ref));
    await delivery.deliver(group);
    this._sent += group.length;
  }

  async _open() {
    const body = new Json(this._spool.about.run);
    const key = keyOf(this._spool.id, "/suite-runs", body.data);
    const answer = await this._server.call("POST", "/suite-runs", body, key);
    if (answer.status >= 300 || !answer.value.id) throw new Fatal(`The server refuses the run: ${answer.text()}`);
    this._receipts.run = answer.value.id;
    await this._receipts.write({ run: answer.value.id });
    this._offers = await Offers.of(this._server);
    if (this._speaks()) {
      await this._putShard({ status: "Running", tests_expected: this.expected });
      await this._receipts.write({ shard: { expected: this.expected } });
    }
    return (this._delivery = new Delivery(this._spool, this._server, this._receipts, answer.value.id, this._offers));
  }

  // --- the end ---

  /** What has become of the run, once all is sent or `drain` is over. `errors`: outside of tests. */
  async finish(end, errors) {
    this._flush();
    this._patience.drain();
    await new Promise((resolve) => {
      this._idle = resolve;
      const soon = () => setTimeout(resolve, GRACE_MS);
      if (this._patience.signal.aborted) soon();
      else this._patience.signal.addEventListener("abort", soon);
      this._pump();
    });
    if (!this._over() && !this._delivery.left) await this._guarded(() => this._sayEnd(end, errors));
    this._patience.stop();
    this._server.close();
    await this._receipts.close();
    return this._receipt();
  }

  /** The status and the end of a run follow from its shards, if the server has them. */
  async _sayEnd(end, errors) {
    const failed = [...this._last.values()].some(([, status]) => status === "Failed");
    const status = end.status || (failed || errors.length ? "Failed" : "Passed");
    const speaks = this._speaks();
    const values = speaks ? {} : { status, finished_at: end.finished_at };
    if (Object.keys(this.metadata).length) values.metadata = this.metadata;
    if (Object.keys(values).length) {
      const answer = await this._server.call("PATCH", `/suite-runs/${this._receipts.run}`, new Json(values));
      if (answer.status >= 300) throw new Fatal(`The server refuses the end of the run: ${answer.text()}`);
    }
    if (speaks) {
      const fields = { status, tests_expected: this.expected, finished_at: end.finished_at };
      await this._putShard(errors.length ? { ...fields, errors } : fields);
    }
    this._receipts.finished = true;
    await this._receipts.write({ finished: 1 });
  }

  /** Whether the server hears of the shard. A run that is not split is shard 1 of 1. */
  _speaks() {
    return this._offers.features.has("shards");
  }

  /** What the server refuses, such as another total, is written down: it costs nothing else. */
  async _putShard(fields) {
    const [index, total] = (this._spool.about.shard || "1/1").split("/").map(Number);
    const value = { total, started_at: this._spool.about.run.started_at, ...fields };
    const answer = await this._server.call("PUT", `/suite-runs/${this._receipts.run}/shards/${index}`, new Json(value));
    if (answer.status === 404) throw new Fatal("The run has been deleted on the server, or belongs to another project");
    if (answer.status >= 300) await this._receipts.refuse(null, `shard ${index}/${total}`, answer.text());
  }

  /** What has become of the run. The spool is removed when all of it has arrived. */
  async _receipt() {
    const { run, finished } = this._receipts;
    const refused = [...this._receipts.refused];
    const receipt = { tests: this._sent, files: 0, newFiles: 0, seconds: (Date.now() - this._began) / 1000, refused };
    receipt.url = run && `${this._server.url.replace(/\/api\/v1\/reports$/, "")}/runs/${run}`;
    if (this._delivery) {
      const { arrived, new: fresh } = this._delivery.files;
      Object.assign(receipt, { files: arrived, newFiles: fresh });
    }
    this._spool.unlock();
    if (finished) {
      await fs.promises.rm(this._spool.folder, { recursive: true, force: true, maxRetries: 3 }).catch(() => {});
      return receipt;
    }
    const { left = 0 } = this._delivery || {};
    const large = left ? `Too large for a request: ${left} test${left === 1 ? "" : "s"}` : "";
    const known = (this._fatal && this._fatal.message) || large || this._server.lastProblem;
    const problem = known || "The time to send was over";
    const { folder } = this._spool;
    receipt.problem = `${problem}. What is left is in ${folder}. Send it with: reportd-send resume ${folder}`;
    return receipt;
  }
}

/** What an unexpected error is called: of the file system, which somebody else may have changed, or ours. */
function faultOf(error) {
  return error.code && error.path ? error.message : `A fault of reportd-playwright (${error.stack || error})`;
}

module.exports = { Sender };
