"""What the reports of Playwright share: from its tests and results to the fields of the API."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Optional

from reportd_client.formats.junit_case import shortened
from reportd_client.formats.playwright_error import dicts, error_fields, one_line, secrets_of, text_of
from reportd_client.formats.playwright_files import KEPT_OUTPUT, Output, hidden
from reportd_client.formats.playwright_steps import Step, keep
from reportd_client.formats.playwright_values import iso, milliseconds, number, texts
from reportd_client.formats.result import File, Result, Source
from reportd_client.formats.tree import place, place_screenshots
from reportd_client.texts import cut

BROWSERS = ("chromium", "chrome", "firefox", "webkit", "safari", "edge")
_SEPARATOR = " › "
_ISSUES = ("issue", "bug", "ticket", "jira")
_OWN_METADATA = ("actualWorkers", "ci", "gitCommit", "gitDiff")
_MAX_METADATA = 8 << 10
_NOT_RUN = {"status": "Pending", "error_message": "Did not run"}
_NOT_FINISHED = {"status": "Pending", "error_message": "The test did not finish"}


@dataclass
class Case:
    """A test. `repeat` counts from 0 what `repeatEach` repeats."""

    project: str
    file: str
    titles: tuple[str, ...]
    line: int = 0
    tags: list[str] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    repeat: int = 0
    browser: Optional[str] = None
    shard: Optional[str] = None


@dataclass
class Attempt:
    """A result of a test. `files` by the position of the attachment. Without a status it has not ended."""

    retry: int = 0
    worker: int = -1
    started: Optional[float] = None
    duration: Optional[float] = None
    status: Optional[str] = None
    expected: str = "passed"
    errors: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    files: dict[int, File] = field(default_factory=dict)
    attachments: list[dict[str, Any]] = field(default_factory=list)
    output: Output = field(default_factory=Output)


def result_of(source: Source, case: Case, attempt: Optional[Attempt]) -> Result:
    """The result of an attempt, of None for a test that has not run."""
    test = _identity(case)
    metadata: dict[str, Any] = {"project": case.project, "location": f"{case.file}:{case.line}", "shard": case.shard}
    result = Result(test)
    annotations = (attempt.annotations if attempt is not None else []) or case.annotations
    metadata.update(_of_annotations(annotations))
    if attempt is None:
        test.update(_NOT_RUN)
        metadata["outcome"] = "did not run"
    else:
        verdict, outcome = _verdict(attempt, annotations)
        test.update(attempt=max(1, attempt.retry + 1), **verdict)
        if outcome != "did not run":
            duration = milliseconds(attempt.duration)
            test.update(duration_ms=duration, started_at=iso(attempt.started))
            test["completed_at"] = iso(attempt.started, duration) if duration is not None else None
        if outcome == "expected failure" and attempt.errors:
            metadata["expected_error"] = cut(one_line(attempt.errors[0]), 2_000)
        metadata.update(outcome=outcome, worker=attempt.worker if attempt.worker >= 0 else None)
        _add_evidence(source, result, attempt)
    test["metadata"] = {key: value for key, value in metadata.items() if value not in (None, "", [])}
    result.test = {name: value for name, value in test.items() if value not in (None, "", [], {})}
    return result


def _identity(case: Case) -> dict[str, Any]:
    titles = list(filter(None, (text_of(title).strip() for title in case.titles)))
    copy = f" #{case.repeat + 1}" if case.repeat > 0 else ""
    name = _SEPARATOR.join(titles) or "(without a name)"
    identity = _SEPARATOR.join(filter(None, (text_of(case.project).strip(), case.file, *titles)))
    return {
        "name": cut(name, 480 if copy else 500) + copy,
        "test_id": shortened((identity or name) + copy),
        "attempt": 1,
        "browser": next((name for name in BROWSERS if name in case.project.lower()), case.browser),
        "tags": texts([text_of(tag)[1:] if tag[:1] == "@" else text_of(tag) for tag in case.tags], 100, 500),
    }


def _of_annotations(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    found, issues = [], []
    for annotation in annotations[:50]:
        kind, description = (
            cut(text_of(annotation.get("type")), 200),
            cut(text_of(annotation.get("description")), 1_000),
        )
        found.append({"type": kind, "description": description} if description else {"type": kind})
        if kind.lower() in _ISSUES and description:
            issues.append(description)
    return {"annotations": found, "issues": list(dict.fromkeys(issues))}


def _verdict(attempt: Attempt, annotations: list[dict[str, Any]]) -> tuple[dict[str, Any], Optional[str]]:
    """Status and error, and Playwright's word where it is none of ours."""
    status, expected, errors = attempt.status, attempt.expected, attempt.errors
    if status is None:
        return dict(_NOT_FINISHED), None
    if status == "interrupted":
        return {"error_message": "Interrupted", **(error_fields(errors) if errors else {}), "status": "Pending"}, status
    if status == "skipped" and expected != "skipped":
        return dict(_NOT_RUN), "did not run"
    if status == "skipped":
        kinds = [annotation.get("type") for annotation in annotations]
        reasons = [text_of(each.get("description")) for each in annotations if each.get("type") in ("skip", "fixme")]
        reason = next(filter(None, reversed(reasons)), None)
        return {"status": "Skipped", "error_message": cut(reason) if reason else None}, (
            "fixme" if "fixme" in kinds else None
        )
    if status == expected:
        return {"status": "Passed"}, None if status == "passed" else "expected failure"
    if status == "passed":
        return {"status": "Failed", "error_message": "Expected to fail, but passed"}, "unexpected pass"
    return {"status": "Failed", **error_fields(errors)}, None if status == "failed" else text_of(status)[:50]


def _add_evidence(source: Source, result: Result, attempt: Attempt) -> None:
    files = {at: hidden(attempt.attachments[at], file) for at, file in attempt.files.items()}
    kept = keep(attempt.steps, files)
    place(result, kept.nodes)
    result.files = _in_order(files, [*result.files, *(file for at, file in files.items() if at not in kept.placed)])
    place_screenshots(result)
    result.secrets = kept.secrets.union(*map(secrets_of, attempt.errors))
    attempt.output.place(result)
    if attempt.output.length > KEPT_OUTPUT:
        name = result.test["name"][:100]
        source.note(f"{source.path}: more than {KEPT_OUTPUT >> 20} MiB of output of {name} are cut")


def _in_order(files: dict[int, File], found: list[File]) -> list[File]:
    places = {id(file): at for at, file in files.items()}
    return sorted(found, key=lambda file: places[id(file)])


# --- the run ---


@dataclass
class Run:
    """What a report says of the run."""

    config: dict[str, Any] = field(default_factory=dict)
    projects: list[str] = field(default_factory=list)
    tests: int = 0
    errors: list[Any] = field(default_factory=list)
    status: Any = None
    started: Optional[float] = None

    def describe(self, source: Source) -> None:
        """Fields of the run. Errors outside of tests, as of a file that cannot be loaded, make it Failed, and
        so does an end before its time."""
        given = _dict(self.config.get("metadata"))
        ci, commit = _dict(given.get("ci")), _dict(given.get("gitCommit"))
        own = {name: value for name, value in given.items() if name not in _OWN_METADATA}
        errors = [cut(one_line(error), 2_000) for error in dicts(self.errors[:20])]
        ended_early = self.status in ("interrupted", "timedout")
        metadata = {
            "playwright": text_of(self.config.get("version"))[:100],
            "expected_tests": self.tests,
            "projects": texts(self.projects, 100, 500),
            "shards": texts([shard_of(self.config)], 1, 50),
            "config": own if len(json.dumps(own)) <= _MAX_METADATA else None,
            "errors": errors,
            "outcome": self.status if ended_early else None,
        }
        checkout = {
            "branch": text_of(commit.get("branch")) or text_of(ci.get("branch")),
            "commit_sha": text_of(commit.get("hash")) or text_of(ci.get("commitHash")),
            "build_url": text_of(ci.get("buildHref")),
        }
        fields = {
            "checkout": {name: value for name, value in checkout.items() if value},
            "metadata": {name: value for name, value in metadata.items() if value},
            "status": "Failed" if errors or ended_early else None,
            "started_at": iso(self.started),
        }
        source.suite.update({name: value for name, value in fields.items() if value})


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def shard_of(config: dict[str, Any]) -> Optional[str]:
    """`2/5`"""
    shard = _dict(config.get("shard"))
    current, total = number(shard.get("current")), number(shard.get("total"))
    return None if current is None or total is None else f"{current:.0f}/{total:.0f}"
