// Request bodies: JSON, and JSON with files that are read from the spool while they are sent.
"use strict";

const { createHash, randomBytes } = require("crypto");
const fs = require("fs");

/** A file of the spool has other bytes than when it was attached, or cannot be read: the message says which. */
class Changed extends Error {
  constructor(path, text = "Its bytes have changed since it was attached") {
    super(text);
    this.path = path;
  }
}

const asJson = (value) => Buffer.from(JSON.stringify(value));

/** A JSON body. */
class Json {
  constructor(value) {
    this.contentType = "application/json";
    this.data = asJson(value);
    this.length = this.data.length;
  }

  async *chunks() {
    yield this.data;
  }
}

/** A part with JSON and parts with files: each with `name`, `path` and `size`. Nothing of them is kept in memory. */
class Upload {
  constructor(name, value, files) {
    const boundary = `reportd-${randomBytes(16).toString("hex")}`; // a file may contain the parts of an earlier request
    const disposition = `--${boundary}\r\nContent-Disposition: form-data; name=`;
    this.contentType = `multipart/form-data; boundary=${boundary}`;
    this.data = asJson(value);
    this._head = Buffer.from(`${disposition}"${name}"\r\nContent-Type: application/json\r\n\r\n`);
    this._parts = files.map((file) => [
      Buffer.from(
        `${disposition}"files"; filename="${escaped(file.name)}"\r\nContent-Type: application/octet-stream\r\n\r\n`,
      ),
      file,
    ]);
    this._last = Buffer.from(`--${boundary}--\r\n`);
    this.length = this._head.length + this.data.length + 2 + this._last.length;
    for (const [header, file] of this._parts) this.length += header.length + file.size + 2;
  }

  /** Throws Changed. */
  async *chunks() {
    yield Buffer.concat([this._head, this.data, Buffer.from("\r\n")]);
    for (const [header, file] of this._parts) {
      yield header;
      yield* bytesOf(file.path, file.size);
      yield Buffer.from("\r\n");
    }
    yield this._last;
  }
}

const ESCAPES = { "\r": "%0D", "\n": "%0A", '"': "%22", "\0": "" };
const escaped = (fileName) => fileName.replace(/[\r\n"\0]/g, (found) => ESCAPES[found]);

/** Throws Changed: another error would look like one of the connection, and be tried again without end. */
async function* bytesOf(path, size) {
  try {
    if (size) for await (const chunk of fs.createReadStream(path, { end: size - 1 })) {
      size -= chunk.length;
      yield chunk;
    }
  } catch (error) {
    throw new Changed(path, `Cannot be read: ${error.code || error.message}`);
  }
  if (size) throw new Changed(path);
}

/**
 * The Idempotency-Key of a request: the same for the same request, and for no other one. `data`: its JSON, which has
 * the checksums of its files; `names`: those of the files.
 */
function keyOf(spoolId, path, data, names = []) {
  const digest = createHash("sha256").update(data).update(asJson([path, ...names]));
  return `${spoolId}-${digest.digest("hex").slice(0, 32)}`;
}

/** The SHA-256 of a file in the spool. Throws Changed when a linked file is not what was attached. */
async function checksumOf(path, entry) {
  if (!entry.file.startsWith("link-")) return entry.file;
  await check(path, entry);
  const digest = createHash("sha256");
  for await (const chunk of bytesOf(path, entry.file_size)) digest.update(chunk);
  await check(path, entry);
  return digest.digest("hex");
}

async function check(path, entry) {
  let found;
  try {
    found = await fs.promises.stat(path, { bigint: true });
  } catch (error) {
    throw new Changed(path, `Cannot be read: ${error.code}`);
  }
  const isOld = entry.mtime_ns === undefined || Number(found.mtimeNs) === Number(entry.mtime_ns);
  if (Number(found.size) !== entry.file_size || !isOld) throw new Changed(path);
}

module.exports = { Changed, Json, Upload, keyOf, checksumOf };
