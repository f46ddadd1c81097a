// Texts as the API takes them.
"use strict";

const { MAX_TEXT } = require("./limits");

const COLOURS = /\x1b\[[0-9;:?]*[ -/]*[@-~]/g;
const TYPES_OF_NAMES = {
  screenshot: [".png", ".jpg", ".jpeg", ".gif", ".webp"],
  video: [".webm", ".mp4", ".mov", ".mkv"],
  har: [".har"],
  log: [".log", ".txt", ".out", ".err"],
};

/** The text without colour codes of terminals, and without what a database or UTF-8 cannot have. */
function plain(text) {
  return String(text ?? "")
    .replace(COLOURS, "")
    .replace(/\0|\p{Surrogate}/gu, "\ufffd");
}

/** A JSON value whose texts are plain. */
function plainJson(value) {
  return JSON.parse(JSON.stringify(value ?? null), (_, item) => (typeof item === "string" ? plain(item) : item));
}

/** The text, with `…` at its end when it is too long. Counts characters as Python does. */
function cut(text, length = MAX_TEXT) {
  if (text.length <= length) return text;
  const characters = [...text];
  return characters.length <= length ? text : characters.slice(0, length - 1).join("") + "…";
}

function artifactTypeOf(fileName) {
  const name = fileName.toLowerCase();
  const found = Object.entries(TYPES_OF_NAMES).find(([, ends]) => ends.some((end) => name.endsWith(end)));
  return found ? found[0] : "other";
}

/** The object without the fields that are absent or empty. */
function given(values) {
  const isGiven = ([, value]) =>
    value !== undefined && value !== null && value !== "" && !(Array.isArray(value) && !value.length);
  return Object.fromEntries(Object.entries(values).filter(isGiven));
}

module.exports = { plain, plainJson, cut, artifactTypeOf, given };
