// Requests to the server: repeated until they are answered, a few at once.
"use strict";

const { Readable, pipeline } = require("stream");

const { Changed } = require("./body");
const { connectionsTo, explain } = require("./connections");
const limits = require("./limits");
const { version } = require("../package.json");

const BUSY = [429, 503];
const FAULTS = 5; // repetitions after 500, which is a fault of the server and may be one of this very request

/** The time to send is over. What is not sent stays in the spool. */
class Stopped extends Error {}

/** Nothing more can be sent until somebody acts. The text says what to do. */
class Fatal extends Error {}

class Answer {
  constructor(status, headers, body) {
    this.status = status;
    this.headers = headers;
    this.hasBody = body.length > 0;
    this.value = objectOf(body);
    this.code = String(this.value.code || "");
    /** The `errors` of a 422: `path` and `message` of each wrong value. */
    this.problems = Array.isArray(this.value.errors) ? this.value.errors.filter((each) => each && each.path) : [];
  }

  /** A list of the JSON object. Throws Fatal when it has none: the answer is not that of a reportd server. */
  items(name) {
    if (Array.isArray(this.value[name])) return this.value[name];
    throw new Fatal(`The answer is not that of a reportd server (${this.text()}): a proxy may have given it`);
  }

  /** What a person reads of it. */
  text() {
    const problems = this.problems.map((each) => `${each.path}: ${each.message}`);
    if (this.value.detail) return [String(this.value.detail), ...problems].join("; ").slice(0, 1000);
    const page = this.hasBody ? " with a page that is not the server's: a proxy may have answered" : "";
    return `HTTP ${this.status}${page}`;
  }

  /** Whether a repetition may get another answer. With `failed` it is a bundle, where each file has its reason. */
  get again() {
    if (this.status === 409) return this.code === "idempotency_in_progress";
    const later = [408, 425, 429].includes(this.status) || (this.status >= 502 && this.status !== 505);
    return later && !this.value.failed;
  }
}

function objectOf(body) {
  try {
    const value = JSON.parse(body.toString());
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};
  } catch {
    return {}; // such as the page of a proxy
  }
}

/** How long requests are repeated: without end until drain() is called, then for a while, shorter when none was ever
 * answered. Then `signal` aborts what is under way. */
class Patience {
  constructor(seconds) {
    this._seconds = seconds;
    this._stop = new AbortController();
    this.signal = this._stop.signal;
    this.reached = false;
  }

  drain() {
    const end = Date.now() + this._seconds * 1000;
    const unreached = Date.now() + Math.min(this._seconds, limits.UNREACHED_SECONDS) * 1000;
    const check = () => {
      const left = (this.reached ? end : unreached) - Date.now();
      if (left <= 0) this.stop();
      else this._timer = setTimeout(check, Math.min(left, 100));
    };
    check();
  }

  stop() {
    clearTimeout(this._timer);
    this._stop.abort();
  }

  check() {
    if (this.signal.aborted) throw new Stopped();
  }

  /** Wait, unless the time is over before. */
  async sleep(seconds) {
    this.check();
    await new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, seconds * 1000);
      this.signal.addEventListener("abort", done);
    });
    this.check();
  }
}

class Server {
  /** Throws SettingsError. */
  constructor(url, token, patience, values, say) {
    Object.assign(this, { url, patience, lastProblem: "", busy: false, bytesSent: 0, requests: 0 });
    this._token = token;
    this._connections = connectionsTo(url, values, say);
    this._good = 0;
    this._tooLarge = null; // the shortest body that got 413
  }

  close() {
    this._connections.close();
  }

  /** How many requests may be under way: fewer while the server says that it is busy. */
  get most() {
    return this.busy ? limits.REQUESTS_WHEN_BUSY : limits.REQUESTS;
  }

  /** How many bytes of files a request should have: half of a size that was refused leaves space for JSON. */
  get mostFileBytes() {
    return Math.min(limits.GROUP_FILE_BYTES, this._tooLarge === null ? Infinity : Math.floor(this._tooLarge / 2));
  }

  /**
   * The answer, when it is one that a repetition would not change. `question`: it stores nothing, and a 2xx that says
   * nothing is an answer, too. Throws Stopped, Fatal, Changed.
   */
  async call(method, path, body = null, key = null, question = false) {
    for (let delay = limits.FIRST_RETRY, faults = 0; ; delay = Math.min(delay * 2, limits.LAST_RETRY)) {
      this.patience.check();
      const answer = await this._once(method, path, body, key);
      if (answer) {
        this._count(answer);
        check(answer, this.url, this._token);
        if (answer.status < 300 && !question && !Object.keys(answer.value).length)
          throw new Fatal(
            `${this.url} does not answer as a reportd server: a proxy may have answered, or REPORTD_URL is wrong`,
          );
        if (answer.status === 500) faults++;
        if (!answer.again && (answer.status !== 500 || faults > FAULTS)) {
          this.patience.reached = true;
          if (answer.status === 413 && body) this._tooLarge = Math.min(this._tooLarge || Infinity, body.length);
          return answer;
        }
        this.lastProblem = `${this.url} answers: ${answer.text()}`;
      }
      await this.patience.sleep(retryAfter(answer) || delay * (0.5 + Math.random()));
    }
  }

  _count(answer) {
    const busy = BUSY.includes(answer.status);
    this._good = busy ? 0 : this._good + 1;
    this.busy = busy || (this.busy && this._good < limits.GOOD_REPLIES);
  }

  /** One request: its answer, or null when there was none. */
  async _once(method, path, body, key) {
    const headers = { "User-Agent": `reportd-playwright/${version}`, Accept: "application/json" };
    if (this._token) headers.Authorization = `Bearer ${this._token}`;
    if (key) headers["Idempotency-Key"] = key;
    if (body) Object.assign(headers, { "Content-Type": body.contentType, "Content-Length": body.length });
    try {
      const answer = await exchange(this._connections.begin(method, path, headers), body, this.patience.signal);
      this.requests++;
      this.bytesSent += body ? body.length : 0;
      return answer;
    } catch (error) {
      if (error instanceof Changed) throw error;
      this.patience.check();
      const { text, fatal } = explain(error, this.url, this._connections.proxied);
      if (fatal) throw new Fatal(text);
      this.lastProblem = text;
      return null;
    }
  }
}

/** Send a body, and read the answer, which may come before all is sent. */
function exchange(request, body, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => request.destroy(new Stopped());
    signal.addEventListener("abort", stop);
    const settle = (act) => (value) => {
      signal.removeEventListener("abort", stop);
      act(value);
    };
    const [done, failed] = [settle(resolve), settle(reject)];
    let replied = false;
    request.setTimeout(limits.READ_SECONDS * 1000, () => request.destroy(new Error("no answer in time")));
    request.on("error", (error) => replied || failed(error));
    request.on("response", (reply) => {
      replied = true;
      const parts = [];
      let size = 0;
      reply.on("data", (part) => ((size += part.length) > limits.MAX_REPLY ? request.destroy() : parts.push(part)));
      reply.on("error", failed);
      reply.on("aborted", () => failed(new Error("the answer was cut")));
      reply.on("end", () => {
        done(new Answer(reply.statusCode, reply.headers, Buffer.concat(parts)));
        if (!request.writableFinished) request.destroy(); // the rest of the body is not wanted
      });
    });
    if (!body) request.end();
    else pipeline(Readable.from(body.chunks()), request, (error) => error && !replied && failed(error));
    if (signal.aborted) stop();
  });
}

/** Throws Fatal for what no repetition changes and concerns every request. */
function check(answer, url, token) {
  const named = token ? `the token ${token.slice(0, 8)}…` : "no token: set REPORTD_TOKEN";
  if (answer.status === 401)
    throw new Fatal(`${url} does not accept ${named}. It needs a token with the role uploader`);
  if (answer.status === 403) {
    const needed = answer.text().includes("needs the role") ? "" : ". It needs the role uploader";
    throw new Fatal(`${url} refuses ${named}: ${answer.text()}${needed}`);
  }
  if (answer.status === 407)
    throw new Fatal("The proxy wants a password. Put it into the proxy's address, or the server into NO_PROXY");
  if (answer.status >= 300 && answer.status < 400)
    throw new Fatal(`${url} redirects to ${answer.headers.location}: set REPORTD_URL to the right address`);
  if (answer.code === "idempotency_key_reused")
    throw new Fatal("A fault of reportd-playwright, which used an Idempotency-Key twice. Please report it");
}

/** The seconds of Retry-After, at most five minutes; 0 without one. */
function retryAfter(answer) {
  const text = ((answer && answer.headers["retry-after"]) || "").trim();
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Math.min(Math.max(seconds || 0, 0), 300);
}

module.exports = { Fatal, Patience, Server, Stopped };
