// Hides credentials before anything is written to the spool, as the Python client does.
"use strict";

const { LONG_NAMES, LONG_WORDS, SHORT_NAMES, SHORT_WORDS } = require("./secret-words");

const REDACTED = "[redacted]";
const USER_INFO = /(\/\/[^/?#@:\s]*):[^/?#&\s]*@/g;
const PARAMETER = /(?<=[?&;#])([^=&;#?\s]+)=/g;
const URL_VALUE = /[^&#;]*(?:;(?![^=&#;]*=)[^&#;]*)*/y;
const TEXT_VALUE = /[^&#;\s"'<>]*/y;
const SHORT_NAME = new RegExp(`(?:^|[_.\\[-]|%5b)(?:${SHORT_NAMES.join("|")})$|^key$`);
const INDEX = /(?:\[\d{0,9}\]|\]|%5b\d{0,9}%5d|%5d)$/;
const NAME_END = 64;
const LONG = 4; // characters of a value that is hidden inside of words, too

const title = (word) => word[0].toUpperCase() + word.slice(1);
const LONG_WORD = new RegExp(LONG_WORDS.join("|"));
const SHORT_WORD = new RegExp(
  `(?<![A-Za-z])(?:${SHORT_WORDS.join("|")})(?![a-z])` +
    `|(?<![A-Z])(?:${SHORT_WORDS.map(title).join("|")})(?![a-z])` +
    `|(?<![A-Z])(?:${SHORT_WORDS.join("|").toUpperCase()})(?![a-z]|[A-Z](?![a-z]))`,
);
const TOKEN = /rpt_[0-9A-Za-z]{43,}/g; // of reportd, which a test prints with its environment
const QUOTED = /(["'`])(?:(?!\1).)*\1/g;
const STEP_TEXTS = [
  ...["action", "description", "input_value", "expected_value", "actual_value", "error_message", "stack_trace"],
  ...["element_selector", "element_name"],
];

/** Whether one of the names is that of a field for a password, a PIN or a one-time code. */
const isPasswordField = (...names) =>
  names.some((name) => name && (LONG_WORD.test(name.toLowerCase()) || SHORT_WORD.test(name)));

const withoutTokens = (text) => text.replace(TOKEN, REDACTED);

/** Hides credentials by their place, and what the patterns of REPORTD_MASK match anywhere. */
class Masks {
  /** `patterns` has one regular expression a line. Throws for one that cannot be used. */
  constructor(patterns = "") {
    this._patterns = [];
    for (const line of patterns.split(/\r?\n/).map((each) => each.trim()).filter(Boolean)) {
      const [, ignoresCase, source] = /^(\(\?i\))?(.*)$/s.exec(line);
      try {
        this._patterns.push(new RegExp(source, ignoresCase ? "gi" : "g"));
      } catch (error) {
        throw new Error(`REPORTD_MASK: ${JSON.stringify(line)} is not a regular expression: ${error.message}`);
      }
    }
  }

  /** The text without the credentials of URLs in it, and without tokens of reportd. */
  text(text) {
    return this._own(redacted(text, TEXT_VALUE));
  }

  url(url) {
    return this._own(redacted(url, URL_VALUE));
  }

  _own(text) {
    return this._patterns.reduce((left, pattern) => left.replace(pattern, REDACTED), withoutTokens(text));
  }

  /** The fields of a step. What was typed into a password field is hidden everywhere in the step. */
  step(step) {
    return this.fields(isSecretStep(step) ? withoutTyped(step) : step, STEP_TEXTS);
  }

  /** The same values, with the texts of these names hidden where needed. */
  fields(values, names) {
    const changed = { ...values };
    for (const name of names) if (typeof values[name] === "string") changed[name] = this.text(values[name]);
    return changed;
  }

  /** A JSON value with all of its texts hidden where needed. */
  anything(value) {
    if (typeof value === "string") return this.text(value);
    if (Array.isArray(value)) return value.map((item) => this.anything(item));
    if (value === null || typeof value !== "object") return value;
    const hidden = ([name, item]) =>
      typeof item === "string" && isPasswordField(name) ? [name, REDACTED] : [name, this.anything(item)];
    return Object.fromEntries(Object.entries(value).map(hidden));
  }
}

/** What a step typed into a password field, when it is long enough to be told from other text. */
function typedSecret(step) {
  const typed = step.input_value;
  return typed && typed.length >= LONG && isSecretStep(step) ? typed : null;
}

function isSecretStep(step) {
  return isPasswordField(step.element_selector, step.element_name) || step.element_type === "password";
}

function withoutTyped(step) {
  const typed = step.input_value;
  const changed = typed ? { ...step, input_value: REDACTED } : { ...step };
  for (const name of ["action", "description", "expected_value", "actual_value", "error_message", "stack_trace"]) {
    const text = changed[name];
    if (!text) continue;
    if (typed) changed[name] = without(typed, text);
    // The value is not known: every quoted part of the title is hidden, except the names of the field.
    else if (name === "action" || name === "description")
      changed[name] = withoutQuoted(text, [changed.element_selector, changed.element_name]);
  }
  return changed;
}

function withoutQuoted(text, known) {
  return text.replace(QUOTED, (found) => (known.includes(found.slice(1, -1)) ? found : `"${REDACTED}"`));
}

/** The text without what was typed. A short value is hidden only as a word of its own: `1` is in most texts. */
function without(typed, text) {
  if (typed.length >= LONG) return text.replaceAll(typed, REDACTED);
  const escaped = typed.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
  return text.replace(new RegExp(`(?<![\\p{L}\\p{N}_])${escaped}(?![\\p{L}\\p{N}_])`, "gu"), REDACTED);
}

function redacted(text, value) {
  if (text.includes("//") && text.includes("@")) text = text.replace(USER_INFO, `$1:${REDACTED}@`);
  if (!text.includes("=")) return text;
  const parts = [];
  let at = 0;
  for (const parameter of text.matchAll(PARAMETER)) {
    if (parameter.index < at || !isSecret(parameter[1])) continue; // the former: inside of a value that is hidden
    const end = parameter.index + parameter[0].length;
    parts.push(text.slice(at, end), REDACTED);
    value.lastIndex = end;
    value.test(text);
    at = Math.max(end, value.lastIndex);
  }
  return parts.join("") + text.slice(at);
}

/** Whether a parameter with this name carries a credential. */
function isSecret(name) {
  const end = name.slice(-NAME_END).toLowerCase().replace(INDEX, "").replace(INDEX, "");
  return LONG_NAMES.some((word) => end.endsWith(word)) || SHORT_NAME.test(end);
}

module.exports = { REDACTED, Masks, isPasswordField, typedSecret, withoutTokens };
