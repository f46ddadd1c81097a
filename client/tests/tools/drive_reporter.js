// Gives events to the Playwright reporter as Playwright's runner does: node drive_reporter.js PACKAGE OPTIONS. LIMITS
// in the environment replace numbers of lib/limits.js. Each line of the standard input is an event as JSON; a line is
// printed for each one when it has been taken.
"use strict";

const path = require("path");
const readline = require("readline");

const [, , folder, options] = process.argv;
const quick = { FIRST_RETRY: 0.02, LAST_RETRY: 0.1, GROUP_SECONDS: 0.1 };
Object.assign(require(path.join(folder, "lib/limits")), quick, JSON.parse(process.env.LIMITS || "{}"));
const Reporter = require(folder);
const reporter = new Reporter(JSON.parse(options));
const rootDir = process.cwd();
const tests = new Map();

function testOf(title) {
  if (!tests.has(title)) {
    const project = { name: "fake", use: {} };
    tests.set(title, {
      ...{ title, results: [], tags: [], annotations: [], repeatEachIndex: 0, expectedStatus: "passed" },
      location: { file: path.join(rootDir, "fake.spec.js"), line: 3 },
      parent: { project: () => project },
      titlePath: () => ["", "fake", "fake.spec.js", title],
    });
  }
  return tests.get(title);
}

const attachment = ({ body, ...fields }) =>
  body === undefined ? fields : { ...fields, body: Buffer.from(body, "base64") };

function begin({ title, retry = 0 }) {
  const test = testOf(title);
  const result = { retry, workerIndex: 0, status: "skipped", startTime: new Date(), duration: -1, steps: [] };
  Object.assign(result, { errors: [], annotations: [], attachments: [] });
  test.results.push(result);
  return [test, result, reporter.onTestBegin(test, result)];
}

const events = {
  begin({ titles = [], shard = null }) {
    titles.forEach(testOf);
    const suite = { allTests: () => [...tests.values()] };
    return reporter.onBegin({ rootDir, shard, projects: [{ name: "fake" }], version: "0", metadata: {} }, suite);
  },
  open(test) {
    return begin(test)[2];
  },
  test({ attachments = [], stdout = [], ...fields }) {
    const [test, result] = begin(fields);
    for (const chunk of stdout) reporter.onStdOut(chunk, test, result);
    Object.assign(result, { status: "passed", duration: 5 }, fields, { attachments: attachments.map(attachment) });
    return reporter.onTestEnd(test, result);
  },
  error: (error) => reporter.onError(error),
  end: (result) => reporter.onEnd({ startTime: new Date(), duration: 1, status: "passed", ...result }),
  exit: () => reporter.onExit(),
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [[name, value]] = Object.entries(JSON.parse(line));
    const began = process.hrtime.bigint();
    const returned = events[name](value);
    const awaited = returned !== undefined;
    const status = await returned;
    const milliseconds = Number(process.hrtime.bigint() - began) / 1e6;
    process.stdout.write(JSON.stringify({ name, awaited, status, milliseconds }) + "\n");
  }
})();
