// The CI systems that are recognised, and the variables in which each says what is needed: the table of the Python
// client, in its order. A test runs both on the same recorded environments.
"use strict";

const fs = require("fs");

const SHA = /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/;

/** A function that gives the first of these variables that has a value; an empty value counts as absent. */
const environmentOf =
  (values) =>
  (...names) =>
    names.map((name) => (values[name] || "").trim()).find(Boolean) || null;

/** `2/5`, when there are several; `first` is the index of the first shard in this CI. */
function shard(env, index, total, first = 1) {
  const [number, of] = [env(index) || "", env(total) || ""];
  if (!/^\d+$/.test(number) || !/^\d+$/.test(of) || Number(of) < 2) return null;
  return `${Number(number) - first + 1}/${Number(of)}`;
}

const joined = (...parts) => (parts.every(Boolean) ? parts.join("") : null);
const named = (...parts) => parts.filter(Boolean).join(" / ") || null;
const unless = (word, text) => (text === word ? null : text);

function without(text, ...starts) {
  for (const start of starts) if (text && text.startsWith(start)) return text.slice(start.length);
  return text;
}

function github(env) {
  const [number, attempt] = [env("GITHUB_RUN_ID"), env("GITHUB_RUN_ATTEMPT")];
  const address = joined(env("GITHUB_SERVER_URL"), "/", env("GITHUB_REPOSITORY"), "/actions/runs/", number);
  const pull = pullRequestOf(env("GITHUB_EVENT_PATH"));
  const tag = env("GITHUB_REF_TYPE") === "tag" ? env("GITHUB_REF_NAME") : null;
  const before = attempt && /^\d+$/.test(attempt) && Number(attempt) > 1 ? String(Number(attempt) - 1) : null;
  return {
    branch: env("GITHUB_HEAD_REF") || tag || without(env("GITHUB_REF"), "refs/heads/", "refs/tags/"),
    commit: (pull.head && pull.head.sha) || env("GITHUB_SHA"),
    buildUrl: joined(address, "/attempts/", attempt) || address,
    identity: [env("GITHUB_REPOSITORY"), number, attempt || "1"],
    name: named(env("GITHUB_WORKFLOW"), env("GITHUB_JOB")),
    rerunOf: joined(address, "/attempts/", before),
    details: {
      pull_request: pull.number === undefined || pull.number === null ? null : String(pull.number),
      job: env("GITHUB_JOB"),
      actor: env("GITHUB_ACTOR"),
    },
  };
}

/** Of the event that started the workflow: it has the commit that was pushed, while GITHUB_SHA is that of a merge
 * which nobody made. */
function pullRequestOf(path) {
  try {
    return JSON.parse(fs.readFileSync(path || "", "utf8")).pull_request || {};
  } catch {
    return {};
  }
}

function gitlab(env) {
  // `rspec 2/5` and `test: [a, b]` are legs of the same job.
  const job = (env("CI_JOB_NAME") || "").replace(/(?: \d+\/\d+|: \[.*\])+$/, "") || null;
  return {
    branch: env("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_REF_NAME"),
    commit: env("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "CI_COMMIT_SHA"),
    buildUrl: env("CI_JOB_URL"),
    identity: [env("CI_SERVER_HOST"), env("CI_PIPELINE_ID")],
    name: named(env("CI_PROJECT_NAME"), job),
    shard: shard(env, "CI_NODE_INDEX", "CI_NODE_TOTAL"),
    details: { pull_request: env("CI_MERGE_REQUEST_IID"), job, actor: env("GITLAB_USER_LOGIN") },
  };
}

function jenkins(env) {
  return {
    branch: env("CHANGE_BRANCH", "BRANCH_NAME") || without(env("GIT_BRANCH"), "origin/"),
    commit: env("GIT_COMMIT"),
    buildUrl: env("BUILD_URL"),
    identity: [env("BUILD_TAG")],
    name: env("JOB_NAME"),
    details: { pull_request: env("CHANGE_ID"), job: env("JOB_NAME"), actor: env("CHANGE_AUTHOR") },
  };
}

function azure(env) {
  const branch = env("SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH");
  const project = joined(env("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI"), env("SYSTEM_TEAMPROJECT"));
  return {
    branch: without(branch, "refs/heads/", "refs/"),
    commit: env("SYSTEM_PULLREQUEST_SOURCECOMMITID", "BUILD_SOURCEVERSION"),
    buildUrl: joined(project, "/_build/results?buildId=", env("BUILD_BUILDID")),
    identity: [env("BUILD_BUILDID"), env("SYSTEM_STAGEATTEMPT") || "1"],
    name: named(env("BUILD_DEFINITIONNAME"), env("SYSTEM_PHASENAME")),
    shard: shard(env, "SYSTEM_JOBPOSITIONINPHASE", "SYSTEM_TOTALJOBSINPHASE"),
    details: {
      pull_request: env("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"),
      job: env("SYSTEM_JOBNAME"),
      actor: env("BUILD_REQUESTEDFOR"),
    },
  };
}

function circleci(env) {
  return {
    branch: env("CIRCLE_BRANCH"),
    commit: env("CIRCLE_SHA1"),
    buildUrl: env("CIRCLE_BUILD_URL"),
    identity: [env("CIRCLE_WORKFLOW_ID")],
    name: named(env("CIRCLE_PROJECT_REPONAME"), env("CIRCLE_JOB")),
    shard: shard(env, "CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 0),
    details: { pull_request: env("CIRCLE_PR_NUMBER"), job: env("CIRCLE_JOB"), actor: env("CIRCLE_USERNAME") },
  };
}

function buildkite(env) {
  const commit = env("BUILDKITE_COMMIT"); // it may be the word HEAD
  return {
    branch: env("BUILDKITE_BRANCH"),
    commit: commit && SHA.test(commit) ? commit : null,
    buildUrl: joined(env("BUILDKITE_BUILD_URL"), "#", env("BUILDKITE_JOB_ID")) || env("BUILDKITE_BUILD_URL"),
    identity: [env("BUILDKITE_BUILD_ID")],
    name: named(env("BUILDKITE_PIPELINE_SLUG"), env("BUILDKITE_STEP_KEY")),
    shard: shard(env, "BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 0),
    details: {
      pull_request: unless("false", env("BUILDKITE_PULL_REQUEST")),
      job: env("BUILDKITE_LABEL"),
      actor: env("BUILDKITE_BUILD_CREATOR"),
    },
  };
}

function teamcity(env) {
  const properties = propertiesOf(env("TEAMCITY_BUILD_PROPERTIES_FILE"));
  Object.assign(properties, propertiesOf(properties["teamcity.configuration.properties.file"]));
  const [buildId, configuration] = [properties["teamcity.build.id"], env("TEAMCITY_BUILDCONF_NAME")];
  return {
    branch: without(properties["teamcity.build.branch"] || null, "refs/heads/"),
    commit: env("BUILD_VCS_NUMBER"),
    buildUrl: joined(properties["teamcity.serverUrl"], "/viewLog.html?buildId=", buildId),
    identity: buildId ? [buildId] : [configuration, env("BUILD_NUMBER")],
    name: named(env("TEAMCITY_PROJECT_NAME"), configuration),
    details: { job: configuration },
  };
}

/** The entries of a Java properties file. */
function propertiesOf(path) {
  const unescaped = (text) =>
    text.replace(/\\(u[0-9a-fA-F]{4}|.)/g, (_, found) =>
      found.length === 5 ? String.fromCharCode(parseInt(found.slice(1), 16)) : found,
    );
  let lines = [];
  try {
    lines = fs.readFileSync(path || "", "latin1").split(/\r?\n|\r/);
  } catch {
    return {};
  }
  const pairs = lines.map((line) => /^\s*([^#!=:\s](?:\\.|[^=:\s\\])*)\s*[=:]\s*(.*)/.exec(line)).filter(Boolean);
  return Object.fromEntries(pairs.map((pair) => [unescaped(pair[1]), unescaped(pair[2]).trim()]));
}

function bitbucket(env) {
  const number = env("BITBUCKET_BUILD_NUMBER");
  return {
    branch: env("BITBUCKET_BRANCH"),
    commit: env("BITBUCKET_COMMIT"),
    buildUrl: joined(env("BITBUCKET_GIT_HTTP_ORIGIN"), "/pipelines/results/", number),
    identity: [env("BITBUCKET_REPO_FULL_NAME"), number],
    name: env("BITBUCKET_REPO_SLUG"),
    shard: shard(env, "BITBUCKET_PARALLEL_STEP", "BITBUCKET_PARALLEL_STEP_COUNT", 0),
    details: { pull_request: env("BITBUCKET_PR_ID") },
  };
}

function drone(env) {
  return {
    branch: env("DRONE_SOURCE_BRANCH", "DRONE_BRANCH"),
    commit: env("DRONE_COMMIT_SHA"),
    buildUrl: env("DRONE_BUILD_LINK"),
    identity: [env("DRONE_REPO"), env("DRONE_BUILD_NUMBER")],
    name: named(env("DRONE_REPO_NAME"), env("DRONE_STAGE_NAME")),
    details: { pull_request: env("DRONE_PULL_REQUEST"), actor: env("DRONE_COMMIT_AUTHOR") },
  };
}

function woodpecker(env) {
  return {
    branch: env("CI_COMMIT_SOURCE_BRANCH", "CI_COMMIT_BRANCH"),
    commit: env("CI_COMMIT_SHA"),
    buildUrl: env("CI_PIPELINE_URL"),
    identity: [env("CI_REPO"), env("CI_PIPELINE_NUMBER")],
    name: named(env("CI_REPO_NAME"), env("CI_WORKFLOW_NAME")),
    details: { pull_request: env("CI_COMMIT_PULL_REQUEST"), actor: env("CI_COMMIT_AUTHOR") },
  };
}

function travis(env) {
  return {
    branch: env("TRAVIS_PULL_REQUEST_BRANCH", "TRAVIS_BRANCH"),
    commit: env("TRAVIS_PULL_REQUEST_SHA", "TRAVIS_COMMIT"),
    buildUrl: env("TRAVIS_BUILD_WEB_URL"),
    identity: [env("TRAVIS_BUILD_ID")],
    name: env("TRAVIS_REPO_SLUG"),
    details: { pull_request: unless("false", env("TRAVIS_PULL_REQUEST")), job: env("TRAVIS_JOB_NUMBER") },
  };
}

const sign = (name, read, variable) => ({ name, read, sign: (env) => env(variable) !== null });

const SYSTEMS = [
  sign("github", github, "GITHUB_ACTIONS"),
  sign("gitlab", gitlab, "GITLAB_CI"),
  sign("jenkins", jenkins, "JENKINS_URL"),
  sign("azure", azure, "TF_BUILD"),
  sign("circleci", circleci, "CIRCLECI"),
  sign("buildkite", buildkite, "BUILDKITE"),
  sign("teamcity", teamcity, "TEAMCITY_VERSION"),
  sign("bitbucket", bitbucket, "BITBUCKET_BUILD_NUMBER"),
  { name: "woodpecker", read: woodpecker, sign: (env) => env("CI") === "woodpecker" },
  sign("drone", drone, "DRONE"),
  sign("travis", travis, "TRAVIS"),
];

module.exports = { SYSTEMS, SHA, environmentOf };
