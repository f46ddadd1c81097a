// Steps of Playwright as numbered steps of the API.
"use strict";

const { fieldsOf, secretsOf } = require("./errors");
const { MAX_STEPS } = require("./limits");
const { REDACTED, isPasswordField } = require("./mask");
const { cut, given, plain, plainJson } = require("./texts");

const ACTION = 100; // characters; a longer title is whole in the description
const LONG = 4; // characters of a value that is hidden wherever it is
const KEPT = ["test.step", "expect", "pw:api"];
const FRAMES = ["Before Hooks", "After Hooks", "Worker Cleanup"];
const VERBS = {
  navigate: ["goto", "navigate", "open", "visit", "reload", "go", "goback", "goforward"],
  click: ["click", "press", "tap", "check", "uncheck", "dblclick", "double"],
  type: ["fill", "type", "input", "enter", "presssequentially"],
  select: ["select", "selectoption"],
  hover: ["hover"],
  drag_drop: ["drag", "dragto", "draganddrop"],
  scroll: ["scroll", "scrollintoviewifneeded"],
  upload_file: ["upload", "setinputfiles", "drop"],
  wait: ["wait"],
  assert: ["expect", "assert", "should", "verify", "then"],
  screenshot: ["screenshot"],
  execute_script: ["evaluate", "evaluateall"],
};
const TYPE_OF_VERB = new Map(Object.entries(VERBS).flatMap(([type, verbs]) => verbs.map((verb) => [verb, type])));

const selectorOf = ({ params = {} }) => [params.locator, params.selector].find((each) => typeof each === "string");
const textOf = (value) => (typeof value === "string" ? plain(value) : JSON.stringify(plainJson(value)) || "");
const paramsOf = (step) => plainJson(step.params) || {};

/**
 * The steps of a result, and which of its attachments belong to which of them: a Map from attachment to step. `hide`
 * removes from a text what was typed into password fields.
 */
function stepsOf(result, hide) {
  const steps = [];
  const owners = new Map();
  const add = ({ step, children, attachments }, parent) => {
    if (steps.length >= MAX_STEPS) return;
    const row = rowOf(step, children, hide);
    row.step_number = steps.push(row);
    if (parent) row.parent_step_number = parent;
    for (const attachment of attachments) owners.set(attachment, row);
    for (const child of children) add(child, row.step_number);
  };
  for (const node of nodesOf(result.steps, false, true).nodes) add(node, null);
  return { steps, owners };
}

/** The steps that are kept, with those within; the kept ones within a step that is left out take its place. */
function nodesOf(steps, inFixture, isTop) {
  const [nodes, loose] = [[], []];
  for (const step of steps || []) {
    const within = nodesOf(step.steps, inFixture || step.category === "fixture", false);
    const attachments = [...(step.attachments || []), ...within.loose];
    if (isKept(step, inFixture, isTop, within.nodes)) nodes.push({ step, children: within.nodes, attachments });
    else {
      nodes.push(...within.nodes);
      loose.push(...attachments);
    }
  }
  return { nodes, loose };
}

function isKept(step, inFixture, isTop, children) {
  if (inFixture && !step.error) return false;
  if (KEPT.includes(step.category)) return true;
  if (!["hook", "fixture"].includes(step.category) || !step.error) return false;
  return !(isTop && FRAMES.includes(step.title) && hasError(children));
}

const hasError = (nodes) => nodes.some(({ step, children }) => step.error || hasError(children));

function rowOf(step, children, hide) {
  const params = paramsOf(step);
  const subtitle = step.subtitle && step.subtitle !== params.locator ? ` ${plain(step.subtitle)}` : "";
  const title = hide(plain(step.title) + subtitle).trim();
  const words = title.split(/\s+/).join(" ");
  const selector = selectorOf(step);
  return given({
    step_type: typeOf(step.category, title, children.length > 0),
    action: cut(words || "step", ACTION),
    description: words !== title || cut(words, ACTION) !== words ? title : undefined,
    status: statusOf(step),
    ...timesOf(step),
    element_selector: selector && cut(hide(plain(selector))),
    input_value: step.category === "pw:api" ? cut(hide(inputOf(params))) : null,
    expected_value: step.category === "expect" ? expectedValueOf(step, params, hide) : null,
    ...errorOf(step, children, hide),
  });
}

function statusOf(step) {
  if (step.error) return "Failed";
  if ((step.annotations || []).some((each) => ["skip", "fixme"].includes(each.type))) return "Skipped";
  return step.duration < 0 ? "Pending" : "Passed";
}

/** Begin, end and duration of a step or a result, in whole milliseconds. */
function timesOf({ startTime, duration }) {
  const start = startTime instanceof Date && !Number.isNaN(+startTime) ? startTime : null;
  const milliseconds = duration >= 0 ? Math.floor(duration + 0.5) : null;
  const end = start && milliseconds !== null ? new Date(+start + milliseconds).toISOString() : null;
  return { started_at: start && start.toISOString(), completed_at: end, duration_ms: milliseconds };
}

function inputOf(params) {
  const value = [params.value, params.text, params.key, params.url].find((each) => each !== undefined && each !== null);
  if (value !== undefined || !Array.isArray(params.options)) return value === undefined ? "" : textOf(value);
  const option = (each) => each?.valueOrLabel ?? each?.value ?? each?.label ?? each?.index;
  return params.options.map((each) => textOf(option(each) ?? each)).join(", ");
}

function expectedOf({ expected }) {
  const text = expected === undefined || expected === null ? "" : textOf(expected);
  return text === "{}" ? "" : text; // a regular expression
}

function expectedValueOf(step, params, hide) {
  const text = expectedOf(params);
  return text && isSecretExpectation(step) ? REDACTED : cut(hide(text));
}

function errorOf(step, children, hide) {
  if (!step.error) return {};
  const fields = fieldsOf([step.error]);
  const isSame = ({ step: { error } }) => error && fieldsOf([error]).error_message === fields.error_message;
  if (children.some(isSame)) delete fields.stack_trace; // the innermost has it
  return Object.fromEntries(Object.entries(fields).map(([name, text]) => [name, hide(text)]));
}

function typeOf(category, title, hasChildren) {
  if (category === "expect") return "assert";
  if (category === "hook" || category === "fixture") return "group";
  let [word] = title.toLowerCase().split(/\s/, 1);
  const at = word.indexOf("(");
  // Older versions of Playwright name the call: page.goto(https://…).
  if (at >= 0 && word.slice(0, at).includes(".")) word = word.slice(0, at).split(".").pop();
  if (word === "set" && /^set input files/i.test(title)) return "upload_file";
  return TYPE_OF_VERB.get(word) || (word.startsWith("waitfor") ? "wait" : hasChildren ? "group" : "other");
}

// --- what was typed into password fields ---

const isSecret = (step) => isPasswordField(selectorOf(step));
const isSecretExpectation = (step) =>
  step.category === "expect" && step.title.includes("toHaveValue") && isSecret(step);

/** A function that removes from a text what the steps of a result typed into password fields. */
function hiderOf(result) {
  const secrets = new Set(result.errors.flatMap(secretsOf));
  const visit = (step) => {
    if (step.category === "pw:api" && isSecret(step)) secrets.add(inputOf(paramsOf(step)));
    if (isSecretExpectation(step)) secrets.add(expectedOf(paramsOf(step)));
    if (step.error) secretsOf(step.error).forEach((text) => secrets.add(text));
    (step.steps || []).forEach(visit);
  };
  result.steps.forEach(visit);
  const long = [...secrets].filter((text) => text.length >= LONG).sort((a, b) => b.length - a.length);
  return (text) => long.reduce((left, secret) => left.replaceAll(secret, REDACTED), text);
}

module.exports = { hiderOf, stepsOf, timesOf };
