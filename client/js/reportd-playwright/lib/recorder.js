// Writes results to the spool, hidden and bounded.
"use strict";

const { randomUUID } = require("crypto");

const { filesOf } = require("./attachments");
const limits = require("./limits");
const { Output } = require("./output");
const { notRun, testOf } = require("./results");
const { hiderOf, stepsOf } = require("./steps");
const { cut } = require("./texts");

const MOST = { steps: limits.MAX_STEPS, console_logs: limits.MAX_CONSOLE - 10, artifacts: limits.MAX_FILES };

/** A test in the spool: what the sender has to know of it. */
class Recorder {
  /** `shard`: `2/5`, if the run is split; `screenshots`: `all`, or `failed` for those of failed tests only. */
  constructor(spool, masks, shard, screenshots) {
    Object.assign(this, { _spool: spool, _masks: masks, _shard: shard, _screenshots: screenshots });
    this._open = new Map(); // of a result: what is known of it while it runs
  }

  /** A test has begun. If it never ends, it is Pending. */
  begin(result, identity) {
    const ref = randomUUID();
    const { name, test_id } = identity;
    const test = { name, test_id, attempt: result.retry + 1 };
    const range = this._spool.append([{ kind: "begin", ref, test }], true);
    const open = { ref, output: new Output(), ranges: range ? [range] : [] };
    this._open.set(result, open);
    return open;
  }

  print(result, stream, chunk, time) {
    const open = this._open.get(result);
    if (open) open.output.add(stream, chunk, time);
  }

  /** A test has ended: what the sender takes; null when it could not be written. */
  end(test, result, identity) {
    const open = this._open.get(result) || this.begin(result, identity);
    this._open.delete(result);
    const hide = hiderOf(result);
    const fields = testOf(test, result, identity, this._shard, hide);
    const isFailed = fields.status === "Failed";
    const placed = stepsOf(result, hide);
    const clean = (text) => this._masks.text(hide(text));
    const { entries, files } = open.output.entries(clean);
    files.unshift(...filesOf(result, isFailed, placed, clean));
    this._spool.checkSpace();
    const artifacts = files
      .filter((file) => fields.status !== "Passed" || this._screenshots === "all" || !isScreenshot(file))
      .map(({ fields, source, refused }) => ({
        ...fields,
        ...(refused ? { refused } : this._spool.store(source, isFailed)),
      }));
    const steps = placed.steps.map((step) => this._masks.step(step));
    return this._write(open, this._hidden(fields), { steps, console_logs: entries, artifacts });
  }

  /** A test of which no attempt began. */
  addNotRun(test, identity) {
    const result = { retry: 0 };
    const open = this.begin(result, identity);
    this._open.delete(result);
    const fields = this._hidden(notRun(test, identity, this._shard));
    return this._write(open, fields, { steps: [], console_logs: [], artifacts: [] });
  }

  _hidden(fields) {
    const test = this._masks.fields(fields, ["error_message", "stack_trace"]);
    const metadata = this._masks.anything(test.metadata || {});
    const text = JSON.stringify(metadata);
    return { ...test, metadata: text.length <= limits.MAX_METADATA ? metadata : { cut: cut(text, 10_000) } };
  }

  _write({ ref, ranges }, test, lists) {
    const [records, cuts] = [[], new Set()];
    const add = (to, entry) => records.push({ kind: "add", ref, to, entry });
    const cutOnce = (kind, message) => {
      if (cuts.has(kind)) return;
      cuts.add(kind);
      add("console_logs", { level: "warning", message, logged_at: Date.now() });
    };
    let size = 0;
    for (const [to, entries] of Object.entries(lists))
      entries.forEach((entry, number) => {
        if (number >= MOST[to]) cutOnce(to, `More than ${MOST[to]} ${to.replace("_", " ")}: the others were not kept`);
        else if ((size += JSON.stringify(entry).length) > limits.MAX_TEST_BYTES)
          cutOnce("bytes", `More than ${limits.MAX_TEST_BYTES >> 20} MiB of entries: the others were not kept`);
        else add(to, entry);
      });
    const range = this._spool.append([...records, { kind: "test", ref, test }], true);
    if (!range) return null;
    return {
      ref,
      testId: test.test_id,
      attempt: test.attempt,
      status: test.status,
      ranges: [...ranges, range],
      counts: {
        tests: 1,
        files: lists.artifacts.length,
        size: range.end - range.start,
        steps: lists.steps.length,
        entries: lists.console_logs.length,
        fileBytes: lists.artifacts.reduce((sum, entry) => sum + (entry.file_size || 0), 0),
      },
    };
  }
}

const isScreenshot = (file) => file.fields.artifact_type === "screenshot";

module.exports = { Recorder };
