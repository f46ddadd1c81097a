// Attachments of Playwright as files of the API.
"use strict";

const fs = require("fs");

const { REDACTED, isPasswordField } = require("./mask");
const { artifactTypeOf, cut, given, plain } = require("./texts");

const MAX_CONTEXT = 1 << 20;
const FIELD = /^(\s*- \w+ "((?:[^"\\\n]|\\.)*)"[^:\n]*: ).+$/gm; // of a page: its name, its value
const EXTENSIONS = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/gif": "gif",
  "image/webp": "webp",
  "image/svg+xml": "svg",
  "video/webm": "webm",
  "video/mp4": "mp4",
  "application/zip": "zip",
  "application/json": "json",
  "application/xml": "xml",
  "application/pdf": "pdf",
  "text/plain": "txt",
  "text/html": "html",
  "text/markdown": "md",
  "text/csv": "csv",
  "text/xml": "xml",
};

/**
 * The files of a result: `fields`, and `source`, bytes or a path, or `refused`. `owners`: the step of an attachment, if
 * it has one; `steps`: all steps of the result; `clean` removes what must not be sent from a text.
 */
function filesOf(result, isFailed, { steps, owners }, clean) {
  const deepest = isFailed ? deepestFailed(steps) : null;
  return result.attachments
    .filter((attachment) => !attachment.name.startsWith("_")) // Playwright's own, by its convention
    .map((attachment) => {
      const fileName = nameOf(attachment);
      const type = typeOf(attachment, fileName);
      const step = owners.get(attachment) || (type === "screenshot" ? deepest : null);
      const isError = step ? step.status === "Failed" : isFailed;
      const category = type === "screenshot" && (step || isFailed) ? (isError ? "error" : "after") : null;
      const fields = { file_name: fileName, artifact_type: type, artifact_category: category };
      if (step) fields.step_number = step.step_number;
      return { fields: given(fields), ...sourceOf(attachment, clean) };
    });
}

/** The failed step that is deepest within others, the last of them. */
function deepestFailed(steps) {
  const depths = new Map();
  let deepest = null;
  for (const step of steps) {
    depths.set(step.step_number, (depths.get(step.parent_step_number) || 0) + 1);
    const isDeeper = !deepest || depths.get(step.step_number) >= depths.get(deepest.step_number);
    if (step.status === "Failed" && isDeeper) deepest = step;
  }
  return deepest;
}

const mediaTypeOf = (attachment) => plain(attachment.contentType).split(";")[0].trim().toLowerCase();

function nameOf(attachment) {
  const name = cut(plain(attachment.name).replace(/[/\\]/g, "-").replace(/\p{Cc}/gu, "").trim() || "attachment", 200);
  const extension = EXTENSIONS[mediaTypeOf(attachment)];
  const lower = name.toLowerCase().replace(/\.jpeg$/, ".jpg");
  if (!extension || lower.endsWith(`.${extension}`) || artifactTypeOf(name) !== "other") return name;
  return `${name}.${extension}`;
}

function typeOf(attachment, fileName) {
  const mediaType = mediaTypeOf(attachment);
  if (mediaType.startsWith("image/")) return "screenshot";
  if (mediaType.startsWith("video/")) return "video";
  if (fileName.toLowerCase().endsWith(".har")) return "har";
  if (mediaType.startsWith("text/") && mediaType !== "text/html") return "log";
  return artifactTypeOf(fileName);
}

/**
 * Bytes or a path; or the reason why it is not sent. What Playwright writes for assistants is sent without the source
 * of the test, which has what the test types.
 */
function sourceOf(attachment, clean) {
  const { name, body, path } = attachment;
  const source = body ?? path ?? Buffer.alloc(0);
  if (name !== "error-context" || mediaTypeOf(attachment) !== "text/markdown") return { source };
  try {
    const size = Buffer.isBuffer(source) ? source.length : fs.statSync(source).size;
    if (size > MAX_CONTEXT) return { refused: "More than 1 MiB" };
    const text = (Buffer.isBuffer(source) ? source : fs.readFileSync(source)).toString().replaceAll("\r\n", "\n");
    const [shown] = text.split(/^# Test source[^\S\n]*$/m);
    const hidden = shown.replace(FIELD, (line, field, label) => (isPasswordField(label) ? field + REDACTED : line));
    return { source: Buffer.from(clean(`${hidden.trimEnd()}\n`)) };
  } catch {
    return { source }; // it does not exist
  }
}

module.exports = { filesOf };
