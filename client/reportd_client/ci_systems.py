"""The CI systems that are recognised, and the variables in which each says what is needed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

from reportd_client import shards

_MAX_KEY = 500
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Environment:
    """Environment variables, where an empty value counts as absent."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __call__(self, *names: str) -> str | None:
        """The first of these variables that has a value."""
        return next((value for name in names if (value := self._values.get(name, "").strip())), None)

    def shard(self, index: str, total: str, first: int = 1) -> str | None:
        """`2/5`, when there are several; `first` is the index of the first shard in this CI."""
        number, of = self(index), self(total)
        if number is None or of is None or not number.isdecimal():
            return None
        found = shards.parse(f"{int(number) - first + 1}/{of}")
        return f"{found[0]}/{found[1]}" if found and found[1] > 1 else None


@dataclass
class Build:
    """What a CI says. `identity` is the same in all jobs of one attempt of a build."""

    system: str
    branch: Optional[str] = None
    commit: Optional[str] = None
    build_url: Optional[str] = None
    identity: tuple[Optional[str], ...] = ()
    name: Optional[str] = None
    shard: Optional[str] = None
    rerun_of: Optional[str] = None
    details: dict[str, Optional[str]] = field(default_factory=dict)

    def run_key(self, name: str) -> str | None:
        if not self.identity or None in self.identity:
            return None
        return ":".join([self.system, *map(str, self.identity), name])[:_MAX_KEY]

    def metadata(self) -> dict[str, Any]:
        ci = {"system": self.system, "shard": self.shard, **self.details}
        found: dict[str, Any] = {"ci": {key: value for key, value in ci.items() if value is not None}}
        if self.rerun_of is not None:
            found["rerun_of"] = self.rerun_of
        return found


def _without(text: str | None, *starts: str) -> str | None:
    for start in starts:
        if text is not None and text.startswith(start):
            return text[len(start) :]
    return text


def _joined(*parts: str | None) -> str | None:
    return None if None in parts else "".join(map(str, parts))


def _github(env: Environment) -> Build:
    number, attempt = env("GITHUB_RUN_ID"), env("GITHUB_RUN_ATTEMPT")
    address = _joined(env("GITHUB_SERVER_URL"), "/", env("GITHUB_REPOSITORY"), "/actions/runs/", number)
    pull = _event(env("GITHUB_EVENT_PATH")).get("pull_request")
    pull = pull if isinstance(pull, dict) else {}
    ref = env("GITHUB_REF_NAME") if env("GITHUB_REF_TYPE") == "tag" else None
    head = pull.get("head")
    return Build(
        "github",
        env("GITHUB_HEAD_REF") or ref or _without(env("GITHUB_REF"), "refs/heads/", "refs/tags/"),
        (head.get("sha") if isinstance(head, dict) else None) or env("GITHUB_SHA"),
        _joined(address, "/attempts/", attempt) or address,
        (env("GITHUB_REPOSITORY"), number, attempt or "1"),
        _named(env("GITHUB_WORKFLOW"), env("GITHUB_JOB")),
        rerun_of=_joined(address, "/attempts/", _before(attempt)),
        details={"pull_request": _text(pull.get("number")), "job": env("GITHUB_JOB"), "actor": env("GITHUB_ACTOR")},
    )


def _before(attempt: str | None) -> str | None:
    return str(int(attempt) - 1) if attempt and attempt.isdecimal() and int(attempt) > 1 else None


def _event(path: str | None) -> dict[str, Any]:
    """The event that started the workflow: of a pull request it has the commit that was pushed, while GITHUB_SHA is
    that of a merge which nobody made."""
    try:
        event = json.loads(Path(path or "").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return event if isinstance(event, dict) else {}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _named(workflow: str | None, job: str | None) -> str | None:
    return " / ".join(filter(None, (workflow, job))) or None


def _gitlab(env: Environment) -> Build:
    # `rspec 2/5` and `test: [a, b]` are legs of the same job.
    job = re.sub(r"(?: \d+/\d+|: \[.*\])+$", "", env("CI_JOB_NAME") or "") or None
    return Build(
        "gitlab",
        env("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_REF_NAME"),
        env("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "CI_COMMIT_SHA"),
        env("CI_JOB_URL"),
        (env("CI_SERVER_HOST"), env("CI_PIPELINE_ID")),
        _named(env("CI_PROJECT_NAME"), job),
        env.shard("CI_NODE_INDEX", "CI_NODE_TOTAL"),
        details={"pull_request": env("CI_MERGE_REQUEST_IID"), "job": job, "actor": env("GITLAB_USER_LOGIN")},
    )


def _jenkins(env: Environment) -> Build:
    return Build(
        "jenkins",
        env("CHANGE_BRANCH", "BRANCH_NAME") or _without(env("GIT_BRANCH"), "origin/"),
        env("GIT_COMMIT"),
        env("BUILD_URL"),
        (env("BUILD_TAG"),),
        env("JOB_NAME"),
        details={"pull_request": env("CHANGE_ID"), "job": env("JOB_NAME"), "actor": env("CHANGE_AUTHOR")},
    )


def _azure(env: Environment) -> Build:
    branch = env("SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH")
    project = _joined(env("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI"), env("SYSTEM_TEAMPROJECT"))
    return Build(
        "azure",
        _without(branch, "refs/heads/", "refs/"),
        env("SYSTEM_PULLREQUEST_SOURCECOMMITID", "BUILD_SOURCEVERSION"),
        _joined(project, "/_build/results?buildId=", env("BUILD_BUILDID")),
        (env("BUILD_BUILDID"), env("SYSTEM_STAGEATTEMPT") or "1"),
        _named(env("BUILD_DEFINITIONNAME"), env("SYSTEM_PHASENAME")),
        env.shard("SYSTEM_JOBPOSITIONINPHASE", "SYSTEM_TOTALJOBSINPHASE"),
        details={
            "pull_request": env("SYSTEM_PULLREQUEST_PULLREQUESTNUMBER", "SYSTEM_PULLREQUEST_PULLREQUESTID"),
            "job": env("SYSTEM_JOBNAME"),
            "actor": env("BUILD_REQUESTEDFOR"),
        },
    )


def _circleci(env: Environment) -> Build:
    return Build(
        "circleci",
        env("CIRCLE_BRANCH"),
        env("CIRCLE_SHA1"),
        env("CIRCLE_BUILD_URL"),
        (env("CIRCLE_WORKFLOW_ID"),),
        _named(env("CIRCLE_PROJECT_REPONAME"), env("CIRCLE_JOB")),
        env.shard("CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", first=0),
        details={"pull_request": env("CIRCLE_PR_NUMBER"), "job": env("CIRCLE_JOB"), "actor": env("CIRCLE_USERNAME")},
    )


def _buildkite(env: Environment) -> Build:
    commit = env("BUILDKITE_COMMIT")  # it may be the word HEAD
    pull = env("BUILDKITE_PULL_REQUEST")
    return Build(
        "buildkite",
        env("BUILDKITE_BRANCH"),
        commit if commit and _SHA.fullmatch(commit) else None,
        _joined(env("BUILDKITE_BUILD_URL"), "#", env("BUILDKITE_JOB_ID")) or env("BUILDKITE_BUILD_URL"),
        (env("BUILDKITE_BUILD_ID"),),
        _named(env("BUILDKITE_PIPELINE_SLUG"), env("BUILDKITE_STEP_KEY")),
        env.shard("BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", first=0),
        details={
            "pull_request": None if pull == "false" else pull,
            "job": env("BUILDKITE_LABEL"),
            "actor": env("BUILDKITE_BUILD_CREATOR"),
        },
    )


def _teamcity(env: Environment) -> Build:
    properties = _properties(env("TEAMCITY_BUILD_PROPERTIES_FILE"))
    properties.update(_properties(properties.get("teamcity.configuration.properties.file")))
    build_id, configuration = properties.get("teamcity.build.id"), env("TEAMCITY_BUILDCONF_NAME")
    return Build(
        "teamcity",
        _without(properties.get("teamcity.build.branch"), "refs/heads/"),
        env("BUILD_VCS_NUMBER"),
        _joined(properties.get("teamcity.serverUrl"), "/viewLog.html?buildId=", build_id),
        (build_id,) if build_id else (configuration, env("BUILD_NUMBER")),
        _named(env("TEAMCITY_PROJECT_NAME"), configuration),
        details={"job": configuration},
    )


_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")


def _properties(path: str | None) -> dict[str, str]:
    """The entries of a Java properties file."""
    try:
        lines = Path(path or "").read_text("latin-1").splitlines()
    except OSError:
        return {}
    pairs = (re.match(r"\s*([^#!=:\s](?:\\.|[^=:\s\\])*)\s*[=:]\s*(.*)", line) for line in lines)
    return {_unescaped(pair[1]): _unescaped(pair[2]).strip() for pair in pairs if pair}


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1][1:], 16)) if len(found[1]) == 5 else found[1], text)


def _bitbucket(env: Environment) -> Build:
    number = env("BITBUCKET_BUILD_NUMBER")
    return Build(
        "bitbucket",
        env("BITBUCKET_BRANCH"),
        env("BITBUCKET_COMMIT"),
        _joined(env("BITBUCKET_GIT_HTTP_ORIGIN"), "/pipelines/results/", number),
        (env("BITBUCKET_REPO_FULL_NAME"), number),
        _named(env("BITBUCKET_REPO_SLUG"), None),
        env.shard("BITBUCKET_PARALLEL_STEP", "BITBUCKET_PARALLEL_STEP_COUNT", first=0),
        details={"pull_request": env("BITBUCKET_PR_ID")},
    )


def _drone(env: Environment) -> Build:
    return Build(
        "drone",
        env("DRONE_SOURCE_BRANCH", "DRONE_BRANCH"),
        env("DRONE_COMMIT_SHA"),
        env("DRONE_BUILD_LINK"),
        (env("DRONE_REPO"), env("DRONE_BUILD_NUMBER")),
        _named(env("DRONE_REPO_NAME"), env("DRONE_STAGE_NAME")),
        details={"pull_request": env("DRONE_PULL_REQUEST"), "actor": env("DRONE_COMMIT_AUTHOR")},
    )


def _woodpecker(env: Environment) -> Build:
    return Build(
        "woodpecker",
        env("CI_COMMIT_SOURCE_BRANCH", "CI_COMMIT_BRANCH"),
        env("CI_COMMIT_SHA"),
        env("CI_PIPELINE_URL"),
        (env("CI_REPO"), env("CI_PIPELINE_NUMBER")),
        _named(env("CI_REPO_NAME"), env("CI_WORKFLOW_NAME")),
        details={"pull_request": env("CI_COMMIT_PULL_REQUEST"), "actor": env("CI_COMMIT_AUTHOR")},
    )


def _travis(env: Environment) -> Build:
    pull = env("TRAVIS_PULL_REQUEST")
    return Build(
        "travis",
        env("TRAVIS_PULL_REQUEST_BRANCH", "TRAVIS_BRANCH"),
        env("TRAVIS_PULL_REQUEST_SHA", "TRAVIS_COMMIT"),
        env("TRAVIS_BUILD_WEB_URL"),
        (env("TRAVIS_BUILD_ID"),),
        _named(env("TRAVIS_REPO_SLUG"), None),
        details={"pull_request": None if pull == "false" else pull, "job": env("TRAVIS_JOB_NUMBER")},
    )


def _sign(name: str) -> Callable[[Environment], bool]:
    return lambda env: env(name) is not None


SYSTEMS: list[tuple[Callable[[Environment], bool], Callable[[Environment], Build]]] = [
    (_sign("GITHUB_ACTIONS"), _github),
    (_sign("GITLAB_CI"), _gitlab),
    (_sign("JENKINS_URL"), _jenkins),
    (_sign("TF_BUILD"), _azure),
    (_sign("CIRCLECI"), _circleci),
    (_sign("BUILDKITE"), _buildkite),
    (_sign("TEAMCITY_VERSION"), _teamcity),
    (_sign("BITBUCKET_BUILD_NUMBER"), _bitbucket),
    (lambda env: env("CI") == "woodpecker", _woodpecker),
    (_sign("DRONE"), _drone),
    (_sign("TRAVIS"), _travis),
]
