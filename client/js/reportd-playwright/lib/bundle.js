// The body of a bundle: tests with everything that belongs to them, in one request.
"use strict";

const { Json, Upload } = require("./body");

const MOST_KNOWN = 500; // in one request
const MOST_ENTRIES = 1000; // for files of one test
const ROWS = {
  // What belongs to a test: what people call one of each, and the fields without which it is refused.
  steps: ["step", ["step_number"]],
  console_logs: ["console entry", ["level", "message"]],
};
const PATH = /^tests\[(\d+)\]\.(?:(test)|(steps|console_logs|artifacts)\[(\d+)\])(?:\.(\w+))?/;
const NEEDED_OF_TEST = ["name"];
const NEEDED_OF_FILE = ["artifact_type", "checksum"];

/** A test, and what of it is still to be sent. */
class Packed {
  constructor(ref, test, steps, consoleLogs) {
    this.ref = ref;
    this.test = test;
    this.testId = test.test_id;
    this.steps = steps;
    this.console_logs = consoleLogs;
    this.files = [];
    this.missing = []; // entries for files that will not come
    this.stored = false;
    this.withoutFiles = false; // the next bundle: its rows alone are large
    // What the next bundle has of the files; the others follow.
    this.named = []; // in the order in which the test has them, which is that of its result
    this.inside = new Map(); // of these: with their bytes, by their index
    this.known = []; // of these: whose bytes the server has
  }

  get hasRows() {
    return this.steps.length + this.console_logs.length > 0;
  }

  /** As the bundle has it. `withMissing`: also with the files that it does not bring. */
  value(withMissing) {
    const indices = new Map([...this.inside].map(([index, file]) => [file, index]));
    const artifacts = this.named.map((file) =>
      indices.has(file) ? { file_index: indices.get(file), ...file.fields } : file.known(),
    );
    if (withMissing) {
      const later = this.stored ? [] : this.files.filter((file) => file.size && !this.named.includes(file));
      const missing = [...later.map((file) => file.later()), ...this.missing];
      artifacts.push(...missing.slice(0, MOST_ENTRIES - artifacts.length));
    }
    const value = { client_ref: this.ref, test: this.test, artifacts };
    for (const name of Object.keys(ROWS)) if (this[name].length) value[name] = this[name];
    return value;
  }

  /** The server has the test, its rows, and the names of files that are missing. */
  isTaken() {
    this.stored = true;
    this.missing = [];
    for (const name of Object.keys(ROWS)) this[name] = [];
  }
}

function bodyOf(packed, withMissing) {
  const value = { tests: packed.map((one) => one.value(withMissing)) };
  const files = packed.flatMap((one) => [...one.inside.values()]);
  return files.length ? new Upload("bundle", value, files) : new Json(value);
}

/** Choose the files of the next bundle, at least one if any is left. The same bytes are sent once: the second time they
 * are known, in the bundle that follows. A file that waits lets those after it wait that belong to the same step: a
 * result shows the files of a step in the order in which they arrive. */
function chooseFiles(packed, isThere, maxFiles, maxBytes) {
  let [index, size, known] = [0, 0, 0];
  const chosen = new Set();
  const hasSpace = (file) =>
    !chosen.size || (!chosen.has(file.checksum) && chosen.size < maxFiles && size + file.size <= maxBytes);
  for (const one of packed) {
    Object.assign(one, { named: [], known: [], inside: new Map() });
    const waiting = new Set();
    for (const file of one.withoutFiles ? [] : one.files) {
      if (waiting.has(file.step)) continue;
      const there = isThere(file);
      if (there && known < MOST_KNOWN) {
        one.known.push(file);
        known++;
      } else if (!there && hasSpace(file)) {
        one.inside.set(index++, file);
        chosen.add(file.checksum);
        size += file.size;
      } else {
        waiting.add(file.step);
        continue;
      }
      one.named.push(file);
    }
    one.withoutFiles = false;
  }
}

/** Leave out the fields and rows that a 422 names: what was left out, as [test, what, message, file or null]. */
function repair(packed, problems) {
  const found = [];
  const gone = new Set();
  for (const problem of problems) {
    const [, number, isTest, list, index, field] = PATH.exec(problem.path) || [];
    const one = packed[Number(number)];
    const file = one && list === "artifacts" ? one.named[Number(index)] : null;
    const row = one && (isTest ? one.test : file || (list && one[list] && one[list][Number(index)]));
    if (!row || gone.has(row)) continue;
    const [kind, needed] = isTest ? ["test", NEEDED_OF_TEST] : file ? [file.name, NEEDED_OF_FILE] : ROWS[list];
    const fields = file ? file.fields : row;
    if (field && !needed.includes(field) && field in fields) {
      delete fields[field];
      found.push([one, `${kind} field ${field}`, problem.message, null]);
    } else if (!isTest) {
      gone.add(row);
      found.push([one, kind, field ? `${field}: ${problem.message}` : problem.message, file]);
    }
  }
  for (const one of packed) for (const name of Object.keys(ROWS)) one[name] = one[name].filter((row) => !gone.has(row));
  return found;
}

module.exports = { Packed, bodyOf, chooseFiles, repair };
