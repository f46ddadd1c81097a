// A reporter for Playwright Test: results are on a reportd server while the tests run.
//
//   reporter: [["list"], ["reportd-playwright", { screenshots: "failed" }]]
//
// Every event is written to a spool within the call, and sent from there in the background. No event is awaited, and
// nothing that goes wrong here reaches the tests.
"use strict";

const { lineOf } = require("./lib/errors");
const { Masks } = require("./lib/mask");
const { identityOf } = require("./lib/results");
const { openRun, sentence } = require("./lib/run");
const { given, plainJson } = require("./lib/texts");

const SHOWN = 5;
const MOST_ERRORS = 20;
const MAX_CONFIG = 8 << 10;
const NOT_OURS = ["actualWorkers", "ci", "gitCommit", "gitDiff"];

class ReportdReporter {
  constructor(options = {}) {
    this._options = options;
    this._isMerge = options._mode === "merge"; // events of earlier runs: their times are not now
    this._said = [];
    this._run = null;
    this._problems = new Set();
  }

  printsToStdio() {
    return false;
  }

  // --- events ---

  onBegin(config, suite) {
    this._guarded("onBegin", () => {
      if (["list", "watch"].includes(this._options._mode)) return;
      this._begun = { config, suite };
      // Of the results of earlier runs, the first tells when they began.
      if (!this._isMerge) this._open(new Date());
    });
  }

  onTestBegin(test, result) {
    this._guarded("onTestBegin", () => {
      if (this._isMerge) this._open(result.startTime);
      if (this._run) this._run.recorder.begin(result, this._identityOf(test));
    });
  }

  onTestEnd(test, result) {
    this._guarded("onTestEnd", () => {
      if (this._run) this._run.add(this._run.recorder.end(test, result, this._identityOf(test)));
    });
  }

  onStdOut(chunk, test, result) {
    this._print("stdout", chunk, result);
  }

  onStdErr(chunk, test, result) {
    this._print("stderr", chunk, result);
  }

  onError(error) {
    this._guarded("onError", () => {
      this._errors = (this._errors || 0) + 1;
      if (this._run && this._errors <= MOST_ERRORS) this._run.addError(lineOf(error));
    });
  }

  /** Settled within `drain` seconds, and never with a status: the exit code is that of the tests. */
  async onEnd(result) {
    const run = this._run;
    if (!run) return;
    this._guarded("onEnd", () => {
      for (const test of this._begun.suite.allTests())
        if (!test.results.length) run.add(run.recorder.addNotRun(test, this._identityOf(test)));
      if (endedEarly(result)) run.addMetadata({ outcome: result.status });
    });
    try {
      this._receipt = await run.close(endedEarly(result) ? "Failed" : undefined);
    } catch (error) {
      this._problem("onEnd", error);
    }
    this._run = null;
  }

  /** After the summaries of all reporters. On stderr, since stdout may be the report of another one. */
  async onExit() {
    const { _receipt: receipt, _said: said } = this;
    const lines = [...said];
    if (receipt && receipt.url) lines.push(sentence(receipt));
    if (receipt && receipt.refused) lines.push(...receipt.refused.slice(0, SHOWN).map((text) => `refused: ${text}`));
    if (receipt && receipt.problem) lines.push(receipt.problem);
    for (const line of lines) process.stderr.write(`reportd: ${line}\n`);
  }

  // --- the run ---

  _open(startedAt) {
    const { config, suite } = this._begun;
    if (this._run || this._isOpened) return;
    this._isOpened = true;
    const more = { ...runOf(config, suite), started_at: startedAt.toISOString() };
    const shard = config.shard ? `${config.shard.current}/${config.shard.total}` : null;
    this._run = openRun(this._options, process.env, more, shard, (text) => this._said.push(text));
  }

  _identityOf(test) {
    return identityOf(test, this._begun.config.rootDir);
  }

  _print(stream, chunk, result) {
    this._guarded("output", () => {
      if (this._run && result) this._run.recorder.print(result, stream, chunk, this._isMerge ? null : Date.now());
    });
  }

  _guarded(name, work) {
    try {
      work();
    } catch (error) {
      this._problem(name, error);
    }
  }

  /** A fault of the reporter is said once, and reaches no test. */
  _problem(name, error) {
    if (this._problems.has(name)) return;
    this._problems.add(name);
    this._said.push(new Masks().text(`${name}() failed: ${(error && error.stack) || error}`));
  }
}

/** The fields of the run that Playwright knows. */
function runOf(config, suite) {
  const { ci = {}, gitCommit = {} } = config.metadata || {};
  const own = plainJson(config.metadata || {});
  for (const name of NOT_OURS) delete own[name];
  const isKept = Object.keys(own).length && Buffer.byteLength(JSON.stringify(own)) <= MAX_CONFIG;
  const tests = suite.allTests().length;
  return {
    tests_expected: tests,
    branch: gitCommit.branch || ci.branch,
    commit_sha: gitCommit.hash || ci.commitHash,
    build_url: ci.buildHref,
    metadata: given({
      playwright: config.version,
      expected_tests: config.shard ? null : tests, // the server counts those of all shards
      projects: [...new Set(config.projects.map((project) => project.name).filter(Boolean))],
      config: isKept ? own : null,
    }),
  };
}

/** Whether tests may be missing: the run was stopped, or its time was up. */
function endedEarly(result) {
  return ["interrupted", "timedout"].includes(result.status);
}

module.exports = ReportdReporter;
