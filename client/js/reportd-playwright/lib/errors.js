// Errors of Playwright as type, message and stack trace. Their snippets are left out: these are source code, with what
// a test types in it.
"use strict";

const { isPasswordField } = require("./mask");
const { cut, given, plain } = require("./texts");

const TYPE = /^((?:[A-Za-z_$][\w$.]*)?(?:Error|Exception))(?:: |$)/;
const LOCATOR = /^Locator: +(.+)$/m;
const VALUE = /^ *(?:Expected|Received|- unexpected value)[^:"\n]*:? *"(.+)"$/gm;
const MOST_CAUSES = 5;
const MOST_ERRORS = 50;

const textOf = (error) => plain(error.message ?? error.value ?? "").trim();

/** Type and message of an error. */
function wordsOf(error) {
  const text = textOf(error);
  const found = TYPE.exec(text);
  const message = (found ? text.slice(found[0].length) : text).trim();
  const type = found ? found[1] : undefined;
  return { error_type: type && cut(type, 100), error_message: cut(message || type || "Failed") };
}

function traceOf(error, causes = MOST_CAUSES) {
  const own = error.stack ? plain(error.stack).trimEnd() : textOf(error);
  return error.cause && causes ? `${own}\n[cause]: ${traceOf(error.cause, causes - 1)}` : own;
}

/** Type, message and stack trace of a list of errors. */
function fieldsOf(errors) {
  if (!errors.length) return { error_message: "Failed" };
  const [first, ...others] = errors.slice(0, MOST_ERRORS);
  const traces = first.stack || first.cause ? [traceOf(first)] : [];
  traces.push(...others.map((error) => traceOf(error)));
  return given({ ...wordsOf(first), stack_trace: cut(traces.join("\n\n")) });
}

/** One line about an error: its type and its message. */
function lineOf(error, length = 2000) {
  const { error_type: type, error_message: message } = wordsOf(error);
  return cut(type && type !== message ? `${type}: ${message}` : message, length);
}

/** What an error quotes of the value of a password field. */
function secretsOf(error) {
  const text = textOf(error);
  const [, field] = LOCATOR.exec(text) || [];
  const isSecret = text.includes("toHaveValue") && isPasswordField(field);
  return isSecret ? [...text.matchAll(VALUE)].map((found) => found[1]) : [];
}

module.exports = { fieldsOf, lineOf, secretsOf };
