// A run: what its fields are, its spool, and the sender.
"use strict";

const { randomUUID } = require("crypto");
const os = require("os");
const path = require("path");

const { detect, metadataOf, runKey } = require("./ci");
const { Masks } = require("./mask");
const { Recorder } = require("./recorder");
const { Sender } = require("./sender");
const { read, tokenOf } = require("./settings");
const { Spool } = require("./spool");
const { given } = require("./texts");

const DEFAULT_SPOOL = ".reportd-spool";
const MAX_NAME = 500;
const NO_KEY = "needs a run_key that the others have, too: set REPORTD_RUN_KEY, or the shards do not meet in one run";
const MACHINES = { x64: "x86_64", arm64: os.type() === "Linux" ? "aarch64" : "arm64", ia32: "i686" };

/** What Playwright and settings say of the run, else the CI, else git. `more`: fields that only Playwright knows. */
function describe(settings, values, more, playwrightShard) {
  const build = detect(values, process.cwd());
  const name = settings.name || (build && build.name) || path.basename(process.cwd()) || "tests";
  const key = settings.runKey || (build && runKey(build, name));
  const ci = build && build.system !== "git" ? build : {}; // what Playwright has noted is of the tests, git is of today
  const shard = playwrightShard || settings.shard || (build && build.shard);
  const metadata = build ? metadataOf(build) : {};
  if (shard) metadata.ci = { ...metadata.ci, shard };
  const system = { Windows_NT: "Windows" }[os.type()] || os.type();
  const fields = {
    name: name.slice(0, MAX_NAME),
    run_key: key || randomUUID(),
    project: settings.project,
    environment: settings.environment,
    branch: settings.branch || ci.branch || more.branch || (build && build.branch),
    commit_sha: settings.commit || ci.commit || more.commit_sha || (build && build.commit),
    build_url: settings.buildUrl || ci.buildUrl || more.build_url,
    platform: `${system} ${os.machine ? os.machine() : MACHINES[os.arch()] || os.arch()}`,
    triggered_by: build && build.details.actor,
    tags: settings.tags,
    metadata: { ...metadata, ...more.metadata },
    started_at: more.started_at,
  };
  return { fields: given(fields), shard: shard && !shard.endsWith("/1") ? shard : null, isShared: Boolean(key) };
}

class Run {
  /** `shard`: `2/5`, as Playwright says it; `say` gets sentences. Throws an error with a sentence for people. */
  constructor(settings, values, more, shard, say) {
    const masks = new Masks(values.REPORTD_MASK);
    const token = tokenOf(values);
    const described = describe(settings, values, more, shard);
    if (described.shard && !described.isShared) {
      say(`Shard ${described.shard} ${NO_KEY}. It is a run of its own`);
      described.shard = null;
    }
    const about = { url: settings.url, run: masks.anything(described.fields), shard: described.shard };
    const root = path.resolve(settings.spool || DEFAULT_SPOOL);
    try {
      this.spool = new Spool(root, about, say);
    } catch (error) {
      throw new Error(`Cannot write to the spool ${root}: ${error.code || error.message}`);
    }
    this.spool.append([{ kind: "run", tests_expected: more.tests_expected }], true);
    this._masks = masks;
    this._errors = []; // outside of tests
    this.recorder = new Recorder(this.spool, masks, shard, settings.screenshots);
    this._sender = settings.sends ? new Sender(this.spool, token, settings, values, say) : null;
    if (this._sender) this._sender.begin(more.tests_expected);
  }

  add(test) {
    if (test && this._sender) this._sender.add(test);
  }

  /** Something that went wrong outside of tests. */
  addError(text) {
    const error = this._masks.text(text);
    this.spool.append([{ kind: "run", errors: [error] }], true);
    this._errors.push(error);
  }

  addMetadata(metadata) {
    this.spool.append([{ kind: "run", metadata }], true);
    if (this._sender) Object.assign(this._sender.metadata, metadata);
  }

  /** Write the end of the run, and send what is left: the receipt, within `drain` seconds. Without `status` the run is
   * Failed when a test or something outside of tests has failed. */
  async close(status) {
    const end = { finished_at: Date.now(), ...(status && { status }) };
    if (this._errors.length) this.addMetadata({ errors: this._errors });
    this.spool.append([{ kind: "end", ...end }], true);
    this.spool.close();
    const { folder, lost } = this.spool;
    const receipt = this._sender ? await this._sender.finish(end, this._errors) : { spooled: folder };
    if (!this._sender) this.spool.unlock();
    if (lost) receipt.refused = [...(receipt.refused || []), `${lost} records that the spool had no space for`];
    return receipt;
  }
}

/** The run that options, environment and CI describe; null when nothing is to be recorded. */
function openRun(options, values, more, shard, say) {
  try {
    const settings = read(options, values);
    return settings.on ? new Run(settings, values, more, shard, say) : null;
  } catch (error) {
    say(`${error.message}. Nothing is recorded`);
    return null;
  }
}

/** `118 tests, 342 files (61 new) sent in 4.1 s · 1 refused · address of the run`. */
function sentence(receipt) {
  const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
  const files = `${counted(receipt.files, "file")} (${receipt.newFiles} new)`;
  const refused = receipt.refused.length ? [`${receipt.refused.length} refused`] : [];
  const sent = `${counted(receipt.tests, "test")}, ${files} sent in ${receipt.seconds.toFixed(1)} s`;
  return [sent, ...refused, receipt.url].join(" · ");
}

module.exports = { openRun, sentence };
