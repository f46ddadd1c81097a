// The spool: the folder in which a run is written down before it is sent, in the format of the Python client, so that
// `reportd-send resume` sends what the reporter could not. Everything here is done within the call and throws nothing.
"use strict";

const { createHash, randomBytes, randomUUID } = require("crypto");
const fs = require("fs");
const os = require("os");
const path = require("path");

const { COPY_BELOW, LOW_DISK, RESERVE } = require("./limits");

const FORMAT = 1;
const HEARTBEAT_SECONDS = 5;
const LESS = [
  "",
  "only screenshots of failures are kept",
  "no more files are kept",
  "only the results of tests are kept",
];
const [NO_PASSED_SCREENSHOTS, NO_SCREENSHOTS, ONLY_VERDICTS] = [1, 2, 3];

const CRC = new Int32Array(256).map((_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc32(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = CRC[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  return ((crc ^ -1) >>> 0).toString(16).padStart(8, "0");
}

/** The line of a record: `crc32 length json`. */
function encode(record) {
  // Nanoseconds are more than a number of JavaScript can hold: they are written from a text.
  const json = JSON.stringify(record).replace(/"mtime_ns":"(\d+)"/g, '"mtime_ns":$1');
  const body = Buffer.from(json);
  return Buffer.concat([Buffer.from(`${crc32(body)} ${body.length} `), body, Buffer.from("\n")]);
}

class Spool {
  /** A new spool below `root`. Throws what the file system throws. `warn` gets a sentence when less is kept. */
  constructor(root, about, warn) {
    this.id = randomUUID();
    const time = new Date().toISOString().replace(/[-:]/g, "").replace("T", "-").slice(0, 15);
    this.folder = path.join(root, `${time}-${this.id.slice(0, 8)}`);
    this.files = path.join(this.folder, "files");
    this.about = { format: FORMAT, spool_id: this.id, created_at: Date.now(), ...about };
    this._warn = warn;
    this._level = 0;
    this._opened = 0;
    this._fd = null;
    this._at = 0;
    this.lost = 0; // records that could not be written
    fs.mkdirSync(this.files, { recursive: true });
    this._lock();
    fs.writeFileSync(path.join(this.folder, "run.json.new"), JSON.stringify(this.about));
    fs.renameSync(path.join(this.folder, "run.json.new"), path.join(this.folder, "run.json"));
    this._reserve = path.join(this.folder, "reserve");
    attempt(() => fs.writeFileSync(this._reserve, Buffer.alloc(RESERVE)));
  }

  // --- the lock ---

  /** Node.js has no locks of the operating system: the lock is a file that says who sends, and is touched meanwhile. */
  _lock() {
    this._lockFile = path.join(this.folder, "lock");
    fs.writeFileSync(this._lockFile, `process ${process.pid} of Node.js on ${os.hostname()}\n`);
    const touch = () => attempt(() => fs.utimesSync(this._lockFile, new Date(), new Date()));
    this._heartbeat = setInterval(touch, HEARTBEAT_SECONDS * 1000).unref();
  }

  unlock() {
    clearInterval(this._heartbeat);
    attempt(() => fs.unlinkSync(this._lockFile));
  }

  // --- records ---

  /**
   * Append records by one write: where they are, or null when they are lost. `verdict`: the last one is a verdict,
   * which is written even when the disk is nearly full.
   */
  append(records, verdict = false) {
    const kept = this._level < ONLY_VERDICTS ? records : verdict ? records.slice(-1) : [];
    this.lost += records.length - kept.length;
    if (!kept.length) return null;
    try {
      return this._write(Buffer.concat(kept.map(encode)));
    } catch (error) {
      // The last line of the file may be torn: a verdict gets a new file, and the space of the reserve.
      this._less(ONLY_VERDICTS, error.code || String(error));
      attempt(() => fs.unlinkSync(this._reserve));
      this.close();
      const last = verdict ? attempt(() => this._write(encode(kept[kept.length - 1]))) : null;
      this.lost += kept.length - (last ? 1 : 0);
      return last;
    }
  }

  _write(data) {
    if (this._fd === null) this._open();
    if (fs.writeSync(this._fd, data) !== data.length) throw new Error("No space left on device");
    const start = this._at;
    this._at += data.length;
    return { file: this._file, start, end: this._at };
  }

  _open() {
    while (this._fd === null) {
      this._file = path.join(this.folder, `w-${process.pid}-${++this._opened}.jsonl`);
      this._fd = fs.openSync(this._file, "ax", 0o600);
      this._at = 0;
    }
  }

  /** Close the record file. A later record opens another one. */
  close() {
    if (this._fd !== null) attempt(() => fs.closeSync(this._fd));
    this._fd = null;
  }

  // --- files ---

  /** Decide by the free space how much is kept. */
  checkSpace() {
    const found = fs.statfsSync && attempt(() => fs.statfsSync(this.folder));
    if (!found) return;
    const free = found.bavail * found.bsize;
    this._less(LOW_DISK.filter((low) => free < low).length, `${Math.floor(free / 1048576)} MiB are free`);
  }

  _less(level, reason) {
    if (level > this._level)
      this._warn(`The disk of the spool ${this.folder} is nearly full (${reason}): ${LESS[level]}`);
    this._level = level;
  }

  /**
   * Keep bytes, or the file of a path: its fields `file`, `file_size` and `mtime_ns`, or `refused` with the reason.
   * Small files are copied, large ones hard-linked. `important`: the file is evidence of a failure.
   */
  store(source, important) {
    if (this._level >= (important ? NO_SCREENSHOTS : NO_PASSED_SCREENSHOTS))
      return { refused: "The disk of the client was nearly full" };
    try {
      return Buffer.isBuffer(source) ? this._storeBytes(source) : this._storePath(source);
    } catch (error) {
      return { refused: error.code === "ENOENT" ? "No such file" : `Cannot be read or kept: ${error.code || error}` };
    }
  }

  _storeBytes(data) {
    const name = createHash("sha256").update(data).digest("hex");
    const target = path.join(this.files, name);
    const known = fs.statSync(target, { throwIfNoEntry: false });
    if (!known || known.size !== data.length) {
      const unfinished = `${target}.${unique()}`;
      try {
        fs.writeFileSync(unfinished, data, { mode: 0o600, flag: "wx" });
        fs.renameSync(unfinished, target);
      } catch (error) {
        attempt(() => fs.unlinkSync(unfinished));
        throw error;
      }
    }
    return { file: name, file_size: data.length };
  }

  _storePath(source) {
    const found = fs.statSync(source, { bigint: true });
    if (!found.isFile()) return { refused: "Not a regular file" };
    if (found.size <= COPY_BELOW) return this._storeBytes(fs.readFileSync(source));
    const name = `link-${unique()}`;
    const target = path.join(this.files, name);
    if (attempt(() => fs.linkSync(source, target) || true))
      return { file: name, file_size: Number(found.size), mtime_ns: String(found.mtimeNs) };
    fs.copyFileSync(source, target, fs.constants.COPYFILE_EXCL | fs.constants.COPYFILE_FICLONE);
    return { file: name, file_size: fs.statSync(target).size };
  }
}

const unique = () => `${process.pid}-${randomBytes(6).toString("hex")}`;

/** What the function returns; null when it throws. */
function attempt(work) {
  try {
    return work();
  } catch {
    return null;
  }
}

/** The records between two positions that append() gave. */
async function readRange({ file, start, end }) {
  const handle = await fs.promises.open(file);
  try {
    const data = Buffer.alloc(end - start);
    let at = 0;
    while (at < data.length) {
      const { bytesRead } = await handle.read(data, at, data.length - at, start + at);
      if (!bytesRead) throw new Error(`${file} is shorter than it was`);
      at += bytesRead;
    }
    const lines = data.toString().split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line.slice(line.indexOf(" ", 9) + 1)));
  } finally {
    await handle.close();
  }
}

module.exports = { Spool, encode, readRange, attempt };
