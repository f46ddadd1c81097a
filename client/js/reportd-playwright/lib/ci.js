// What the environment of a CI job says about the run: branch, commit, address, and what identifies the build.
"use strict";

const { execFileSync } = require("child_process");

const { SYSTEMS, SHA, environmentOf } = require("./ci-systems");

const GIT_SECONDS = 2;
const MAX_KEY = 500;

/** What the first CI whose sign is found says, completed by git in `folder`. Null: neither CI nor git. */
function detect(values, folder) {
  const env = environmentOf(values);
  const system = SYSTEMS.find((each) => each.sign(env));
  const build = system ? { system: system.name, identity: [], details: {}, ...system.read(env) } : null;
  if (build && build.commit && build.branch) return build;
  const { commit, branch } = git(folder);
  if (!build) return commit ? { system: "git", branch, commit, identity: [], details: {} } : null;
  return { ...build, commit: build.commit || commit, branch: build.branch || branch };
}

/** The key that all jobs of one attempt of the build share; null when the CI does not say which build it is. */
function runKey(build, name) {
  if (!build.identity.length || build.identity.some((part) => !part)) return null;
  return [...[build.system, ...build.identity, name].join(":")].slice(0, MAX_KEY).join("");
}

/** What the CI says, for the metadata of the run. */
function metadataOf(build) {
  const ci = { system: build.system, shard: build.shard, ...build.details };
  const found = { ci: Object.fromEntries(Object.entries(ci).filter(([, value]) => value)) };
  return build.rerunOf ? { ...found, rerun_of: build.rerunOf } : found;
}

/** Commit and branch of the checkout; null for what it does not say, such as the branch of a detached HEAD. */
function git(folder) {
  const nothing = { commit: null, branch: null };
  try {
    const output = execFileSync("git", ["-C", folder, "rev-parse", "HEAD", "--abbrev-ref", "HEAD"], {
      stdio: ["ignore", "pipe", "ignore"],
      timeout: GIT_SECONDS * 1000,
      encoding: "utf8",
      windowsHide: true,
    });
    const [commit, branch] = output.trim().split(/\s+/);
    return SHA.test(commit) && branch ? { commit, branch: branch === "HEAD" ? null : branch } : nothing;
  } catch {
    return nothing;
  }
}

module.exports = { detect, runKey, metadataOf };
