// Settings: an option of the reporter, else the environment, else the default. The token is in the environment alone.
"use strict";

const fs = require("fs");

const { DRAIN_SECONDS } = require("./limits");

const API = "/api/v1/reports";
const TEXTS = ["project", "name", "runKey", "branch", "commit", "buildUrl", "environment", "spool"];
const SCREENSHOTS = ["all", "failed"];
const MOST_SHARDS = 1000; // that the server takes
const SENDERS = ["process", "thread", "none"];

/** A setting that cannot be used. The text names the setting and what is allowed. */
class SettingsError extends Error {}

/** The settings. Throws SettingsError. */
function read(options, values) {
  const text = (name) => {
    const variable = `REPORTD_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
    const given = options[name];
    return given === undefined || given === null ? (values[variable] || "").trim() || null : String(given);
  };
  const url = text("url");
  const settings = Object.fromEntries(TEXTS.map((name) => [name, text(name)]));
  Object.assign(settings, {
    url: url && baseUrl(url),
    shard: shardOf((values.REPORTD_SHARD || "").trim()),
    drain: seconds(text("drain")),
    screenshots: oneOf("screenshots", options.screenshots || "all", SCREENSHOTS),
    tags: Array.isArray(options.tags) ? options.tags.map(String) : [],
    sends: oneOf("REPORTD_SENDER", (values.REPORTD_SENDER || "").trim() || "process", SENDERS) !== "none",
  });
  settings.on = url !== null || (!settings.sends && settings.spool !== null);
  return settings;
}

/** The address of the API, from that of the server with or without the path of the API. Throws SettingsError. */
function baseUrl(text) {
  let url;
  try {
    url = new URL(text.trim());
  } catch {
    url = null;
  }
  if (!url || !["http:", "https:"].includes(url.protocol) || !url.hostname)
    throw new SettingsError("REPORTD_URL must be an address like https://reports.example.com");
  if (url.username || url.password)
    throw new SettingsError("REPORTD_URL must not contain a password: put the token into REPORTD_TOKEN");
  const path = url.pathname.replace(/\/+$/, "");
  return `${url.protocol}//${url.host}${path.endsWith(API) ? path : path + API}`;
}

/** The token, from REPORTD_TOKEN or the file REPORTD_TOKEN_FILE. Throws SettingsError. */
function tokenOf(values) {
  let token = (values.REPORTD_TOKEN || "").trim();
  const path = (values.REPORTD_TOKEN_FILE || "").trim();
  if (!token && path) {
    try {
      token = fs.readFileSync(path, "utf8").trim();
    } catch (error) {
      throw new SettingsError(`Cannot read REPORTD_TOKEN_FILE (${path}): ${error.code}`);
    }
  }
  if (!/^[!-~]*$/.test(token))
    throw new SettingsError(
      "The token has characters that no token has. Check REPORTD_TOKEN or REPORTD_TOKEN_FILE",
    );
  return token || null;
}

/** Whether a setting is on. Throws SettingsError. */
function flag(name, values) {
  const word = (values[name] || "").trim().toLowerCase();
  if (["1", "true", "yes", "on"].includes(word)) return true;
  if (["0", "false", "no", "off", ""].includes(word)) return false;
  throw new SettingsError(`${name} must be 1 or 0, not ${JSON.stringify(word)}`);
}

/** The shard `2/5`; null without one. */
function shardOf(text) {
  if (!text) return null;
  const [, index, total] = /^(\d{1,9})\s*\/\s*(\d{1,9})$/.exec(text) || [];
  if (index >= 1 && Number(index) <= Number(total) && total <= MOST_SHARDS) return `${Number(index)}/${Number(total)}`;
  throw new SettingsError(
    `REPORTD_SHARD must be like 2/5, the second of five and at most ${MOST_SHARDS}, not ${JSON.stringify(text)}`,
  );
}

function seconds(text) {
  if (text === null) return DRAIN_SECONDS;
  const number = Number(text);
  if (text.trim() && number >= 0 && number <= 86_400) return number;
  throw new SettingsError(`REPORTD_DRAIN must be a number of seconds from 0 to 86400, not ${JSON.stringify(text)}`);
}

function oneOf(name, text, allowed) {
  if (allowed.includes(text)) return text;
  throw new SettingsError(`${name} must be one of ${allowed.join(", ")}, not ${JSON.stringify(text)}`);
}

module.exports = { API, SettingsError, read, tokenOf, flag };
