// A test and its result as a test case of the API, in the same fields as `reportd-send` makes of a blob report.
"use strict";

const { createHash } = require("crypto");
const path = require("path");

const { fieldsOf, lineOf } = require("./errors");
const { timesOf } = require("./steps");
const { cut, given, plain } = require("./texts");

const MAX_NAME = 500;
const BROWSERS = ["chromium", "chrome", "firefox", "webkit", "safari", "edge"];
const ISSUES = ["issue", "bug", "ticket", "jira"];

/** What names a test: `name`, `test_id`, `browser`, `project`, and `location`. */
function identityOf(test, rootDir) {
  const [, project, file, ...parts] = test.titlePath();
  const titles = parts.map((title) => plain(title).trim()).filter(Boolean).join(" › ");
  const number = test.repeatEachIndex > 0 ? ` #${test.repeatEachIndex + 1}` : "";
  const whole = [plain(project), slashes(plain(file)), titles].filter(Boolean).join(" › ");
  const { location } = test;
  return {
    name: cut(titles || "(without a name)", number ? MAX_NAME - 20 : MAX_NAME) + number,
    test_id: shortened(whole + number),
    browser: browserOf(test, project),
    project: plain(project),
    location: location && `${slashes(path.relative(rootDir, location.file))}:${location.line}`,
  };
}

const slashes = (text) => (path.sep === "\\" ? text.replaceAll("\\", "/") : text);

/** Cut when too long, but still unique. */
function shortened(identity) {
  const characters = [...identity];
  if (characters.length <= MAX_NAME) return identity;
  const digest = createHash("sha256").update(identity).digest("hex").slice(0, 8);
  return `${characters.slice(0, MAX_NAME - 9).join("")}…${digest}`;
}

function browserOf(test, project) {
  const name = (project || "").toLowerCase();
  const { use = {} } = test.parent.project() || {};
  return BROWSERS.find((each) => name.includes(each)) || use.browserName || use.defaultBrowserType || null;
}

/** The fields of a test case. `identity`: of identityOf(); `shard`: `2/5`, if there are several; `hide`: secrets. */
function testOf(test, result, identity, shard, hide) {
  const { status, outcome, expected_error: expected, error } = verdictOf(test, result);
  const annotations = annotationsOf(test, result);
  const issues = annotations.filter((each) => ISSUES.includes(each.type.toLowerCase())).map((each) => each.description);
  const hasRun = outcome !== "did not run";
  const metadata = given({
    project: identity.project,
    location: identity.location,
    outcome,
    expected_error: expected,
    annotations,
    issues: [...new Set(issues.filter(Boolean))],
    worker: result.workerIndex >= 0 ? result.workerIndex : null,
    shard,
  });
  return given({
    name: identity.name,
    test_id: identity.test_id,
    attempt: result.retry + 1,
    browser: identity.browser,
    tags: tagsOf(test),
    status,
    ...(hasRun ? timesOf(result) : {}),
    ...hiddenIn(error || {}, hide),
    metadata: hiddenIn(metadata, hide),
  });
}

/** The row of a test of which no attempt began. */
function notRun(test, identity, shard) {
  const result = { status: "skipped", retry: 0, workerIndex: -1, errors: [], annotations: [] };
  const { tags, annotations } = test;
  return testOf({ tags, annotations, expectedStatus: "" }, result, identity, shard, (text) => text);
}

function verdictOf(test, result) {
  const { status } = result;
  const { expectedStatus } = test;
  const errors = result.errors || [];
  if (status === "interrupted") {
    const error = errors.length ? fieldsOf(errors) : { error_message: "Interrupted" };
    return { status: "Pending", outcome: "interrupted", error };
  }
  if (status === "skipped") return skipped(test, result, expectedStatus === "skipped");
  if (status === expectedStatus && status === "passed") return { status: "Passed" };
  if (status === expectedStatus)
    return { status: "Passed", outcome: "expected failure", expected_error: errors.length ? lineOf(errors[0]) : null };
  if (status === "passed")
    return { status: "Failed", outcome: "unexpected pass", error: { error_message: "Expected to fail, but passed" } };
  return { status: "Failed", outcome: status === "timedOut" ? "timedOut" : null, error: fieldsOf(errors) };
}

function skipped(test, result, isExpected) {
  if (!isExpected) return { status: "Pending", outcome: "did not run", error: { error_message: "Did not run" } };
  const annotations = annotationsOf(test, result);
  const reasons = annotations.filter((each) => ["skip", "fixme"].includes(each.type) && each.description);
  const outcome = annotations.some((each) => each.type === "fixme") ? "fixme" : null;
  return { status: "Skipped", outcome, error: { error_message: reasons.length ? reasons.pop().description : null } };
}

function annotationsOf(test, result) {
  const annotations = result.annotations && result.annotations.length ? result.annotations : test.annotations;
  return annotations.slice(0, 50).map(({ type, description }) =>
    given({ type: cut(plain(type), 200), description: description ? cut(plain(description), 1000) : null }),
  );
}

function tagsOf(test) {
  const tags = (test.tags || []).map((tag) => cut(plain(tag).replace(/^@/, ""), 500)).filter(Boolean);
  return [...new Set(tags)].slice(0, 100);
}

/** A JSON value with `hide` applied to all of its texts. */
function hiddenIn(value, hide) {
  return JSON.parse(JSON.stringify(value), (_, item) => (typeof item === "string" ? hide(item) : item));
}

module.exports = { identityOf, notRun, testOf };
