// Connections to the server, with the certificates and the proxy of the site. Node's fetch knows neither.
"use strict";

const fs = require("fs");
const http = require("http");
const https = require("https");
const tls = require("tls");

const { CONNECT_SECONDS, REQUESTS } = require("./limits");
const { Masks } = require("./mask");
const { SettingsError, flag } = require("./settings");

/** A function that begins a request to the API at `url`, and one that closes all connections. Throws SettingsError. */
function connectionsTo(url, values, say) {
  const target = new URL(url);
  const secure = target.protocol === "https:";
  const options = { keepAlive: true, maxSockets: REQUESTS, timeout: CONNECT_SECONDS * 1000 };
  if (secure) Object.assign(options, certificates(values, say));
  const proxy = proxyOf(target, values);
  const agent = secure ? new https.Agent(options) : new http.Agent(options);
  if (proxy && secure) agent.createConnection = tunnel(proxy, target, options);
  const direct = { agent, host: target.hostname.replace(/^\[|\]$/g, ""), port: target.port || (secure ? 443 : 80) };
  const place = proxy && !secure ? { agent, host: proxy.host, port: proxy.port } : direct;
  const prefix = proxy && !secure ? `http://${target.host}` : "";
  const begin = (method, path, headers) => {
    const sent = { Host: target.host, ...headers, ...(proxy && !secure ? proxy.headers : {}) };
    return (secure ? https : http).request({ ...place, method, path: prefix + target.pathname + path, headers: sent });
  };
  return { begin, close: () => agent.destroy(), proxied: proxy !== null };
}

/** The proxy of the environment for this address: host, port and headers; null without one. */
function proxyOf(target, values) {
  const value = (name) => (values[name] || values[name.toUpperCase()] || "").trim();
  const text = value(`${target.protocol.slice(0, -1)}_proxy`) || value("all_proxy");
  if (!text || isDirect(target, value("no_proxy"))) return null;
  let url;
  try {
    url = new URL(text.includes("//") ? text : `http://${text}`);
  } catch {
    url = { protocol: "" };
  }
  if (url.protocol !== "http:")
    throw new SettingsError(`The proxy ${new Masks().url(text)} is none that reportd-playwright can use: http`);
  const user = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  const basic = `Basic ${Buffer.from(user).toString("base64")}`;
  return {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: Number(url.port) || 80,
    headers: url.username ? { "Proxy-Authorization": basic } : {},
  };
}

/** Whether NO_PROXY names the host, with or without its port, or a domain that it is in. */
function isDirect(target, noProxy) {
  const names = noProxy.split(",").map((each) => each.trim().toLowerCase().replace(/^\*?\./, "")).filter(Boolean);
  const hosts = [target.hostname, target.host];
  return names.some((name) => name === "*" || hosts.some((host) => host === name || host.endsWith(`.${name}`)));
}

/** Connects through a tunnel that a proxy makes on CONNECT. */
const tunnel = (proxy, target, options) => (_, done) => {
  const address = `${target.hostname}:${target.port || 443}`;
  const headers = { Host: address, ...proxy.headers };
  const request = http.request({ host: proxy.host, port: proxy.port, method: "CONNECT", path: address, headers });
  request.setTimeout(CONNECT_SECONDS * 1000, () => request.destroy(new Error("The proxy does not answer")));
  request.on("error", done);
  request.on("connect", (reply, socket) => {
    if (reply.statusCode === 200) {
      done(null, tls.connect({ ...options, socket, servername: target.hostname }));
      return;
    }
    socket.destroy();
    done(new Error(`The proxy answers ${reply.statusCode} to CONNECT`));
  });
  request.end();
};

/** The TLS settings of the site: its own authority, or no check at all. */
function certificates(values, say) {
  if (flag("REPORTD_INSECURE", values)) {
    say("REPORTD_INSECURE=1: the certificate of the server is not checked, anybody between may read the report");
    return { rejectUnauthorized: false };
  }
  const name = ["REPORTD_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"].find((each) => values[each]);
  if (!name) return {};
  try {
    const ca = fs.readFileSync(values[name]);
    tls.createSecureContext({ ca });
    return { ca };
  } catch (error) {
    throw new SettingsError(`${name} (${values[name]}) is no file of certificates: ${error.message}`);
  }
}

const CERTIFICATE = /^(?:CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(?:GET_ISSUER|VERIFY)|ERR_TLS_CERT)/;

/** One line about a request without an answer, and whether a setting must be changed. */
function explain(error, url, proxied) {
  if (CERTIFICATE.test(error.code || "")) {
    const what = `${url}: its certificate is not accepted (${error.message}).`;
    return { text: `${what} Set REPORTD_CA_FILE to the file of the authority that signed it`, fatal: true };
  }
  if (/answers 407/.test(error.message))
    return { text: "The proxy wants a password. Put it into the proxy's address", fatal: true };
  const reason = new Masks().text(error.message || error.code || String(error)).slice(0, 300);
  return { text: `${url} cannot be reached ${proxied ? "through the proxy " : ""}(${reason})`, fatal: false };
}

module.exports = { connectionsTo, explain };
