"""Cucumber's messages, NDJSON: read line by line. A scenario is kept while it runs, and of features what names it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Optional

from reportd_client.formats import json_file, json_lines
from reportd_client.formats.cucumber import Attachment, Step, result_of
from reportd_client.formats.cucumber_cases import Cases
from reportd_client.formats.embedded import MOST, TOO_LARGE, decoded
from reportd_client.formats.result import Empty, Result, Source, Unreadable, plain
from reportd_client.formats.values import dict_of, duration, moment, text_of
from reportd_client.texts import cut

NAME = "cucumber-messages"
_WHAT = "file of Cucumber's messages"
_FIRST = re.compile(rb'\{\s*"(?:meta|source|gherkinDocument|pickle|testRunStarted|parseError)"\s*:\s*\{')
_WORDS = (b'"protocolVersion"', b'"gherkinDocument"', b'"testRunStarted"', b'"testCase"')
MAX_OPEN_STEPS = 200_000  # of the scenarios that run at the same time
MAX_ATTACHMENTS = 10_000  # of an attempt
_ERRORS = 20  # of the run, each of at most so many characters:
_ERROR = 2_000


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    text = json_file.ascii_of(head)
    return _FIRST.match(text) is not None and any(word in text for word in _WORDS)


def read(source: Source) -> Iterator[Result]:
    """The results of a file, one after the other. Raises Unreadable, Empty."""
    reader, count, known = _Reader(source), 0, False
    for envelope in json_lines.objects(source.path, _WHAT, source.note):
        for name, value in envelope.items():
            take = getattr(reader, f"on_{name}", None)
            known |= take is not None
            result = take(value) if take is not None and isinstance(value, dict) else None
            if result is not None:
                count += 1
                yield result
    if not known:
        raise Unreadable(f"{source.path} is no {_WHAT}: it has none of them")
    if not count and not reader.ended:
        raise Unreadable(f"{source.path} is cut before the end of its first scenario")
    reader.finish()
    if not count:
        raise Empty(f"{source.path} is empty: no scenario was run")


@dataclass
class _Running:
    """An attempt that has begun."""

    case: str
    attempt: int
    started: Optional[str]
    began: float
    steps: dict[str, Step]  # by the id of the step
    loose: list[Attachment] = field(default_factory=list)
    attachments: int = 0
    size: int = 0  # bytes of the attachments


class _Reader:
    """Takes each message by its name; on_testCaseFinished gives a result."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cases = Cases(source.path)
        self._running: dict[str, _Running] = {}
        self._open_steps = 0  # of those that run
        self._errors: list[str] = []
        self._lost = 0  # attachments of the run
        self.ended = False

    # --- before the tests ---

    def on_meta(self, value: dict[str, Any]) -> None:
        names = {}
        for name in ("implementation", "runtime", "os", "cpu"):
            of = dict_of(value, name)
            names[name] = f"{text_of(of, 'name')} {text_of(of, 'version')}".strip()[:200]
        suite = self._source.suite
        suite.setdefault("metadata", {})["cucumber"] = {name: text for name, text in names.items() if text}
        ci = dict_of(value, "ci")
        found = {"branch": text_of(dict_of(ci, "git"), "branch"), "commit_sha": text_of(dict_of(ci, "git"), "revision")}
        found["build_url"] = text_of(ci, "url")
        suite.update({name: text[:500] for name, text in found.items() if text})

    def on_gherkinDocument(self, value: dict[str, Any]) -> None:
        self._cases.add_document(value)

    def on_pickle(self, value: dict[str, Any]) -> None:
        self._cases.add_pickle(value)

    def on_hook(self, value: dict[str, Any]) -> None:
        self._cases.add_hook(value)

    def on_testCase(self, value: dict[str, Any]) -> None:
        self._cases.add_case(value)

    def on_parseError(self, value: dict[str, Any]) -> None:
        self._add_error(f"{text_of(dict_of(value, 'source'), 'uri')}: {text_of(value, 'message')}")

    # --- tests ---

    def on_testCaseStarted(self, value: dict[str, Any]) -> None:
        case, attempt = text_of(value, "testCaseId"), value.get("attempt")
        began = _milliseconds(value.get("timestamp"))
        steps = self._cases.steps(case)
        self._open_steps += len(steps) + 1
        if self._open_steps > MAX_OPEN_STEPS:
            raise Unreadable(f"{self._source.path} has more than {MAX_OPEN_STEPS:,} steps of scenarios that do not end")
        attempt = attempt if isinstance(attempt, int) else 0
        self._running[text_of(value, "id")] = _Running(case, attempt, moment(began), began, steps)

    def _step(self, value: dict[str, Any]) -> Optional[Step]:
        running = self._running.get(text_of(value, "testCaseStartedId"))
        return running.steps.get(text_of(value, "testStepId")) if running else None

    def on_testStepStarted(self, value: dict[str, Any]) -> None:
        step = self._step(value)
        if step is not None:
            step.started_at = moment(_milliseconds(value.get("timestamp")))

    def on_testStepFinished(self, value: dict[str, Any]) -> None:
        step, result = self._step(value), dict_of(value, "testStepResult")
        if step is not None:
            step.status = text_of(result, "status").lower() or "unknown"
            step.message = text_of(result, "message")
            exception = dict_of(result, "exception")
            step.exception = text_of(exception, "type"), text_of(exception, "message")
            step.duration_ms = duration(_milliseconds(result.get("duration")))

    def on_attachment(self, value: dict[str, Any]) -> None:
        running, step = self._running.get(text_of(value, "testCaseStartedId")), self._step(value)
        if running is None or running.attachments == MAX_ATTACHMENTS:
            self._lost += 1
            return
        text = text_of(value, "body")
        is_base64 = text_of(value, "contentEncoding") == "BASE64"
        running.attachments += 1
        running.size += len(text) * 3 // 4 if is_base64 else len(text)
        attachment = Attachment(text_of(value, "mediaType"), name=text_of(value, "fileName"))
        if running.size > MOST:
            attachment.refused = TOO_LARGE
        else:
            attachment.data = decoded(text) if is_base64 else text.encode("utf-8", "replace")
        attachment.url = "" if text else text_of(value, "url")
        (running.loose if step is None else step.attachments).append(attachment)

    on_externalAttachment = on_attachment

    def on_testCaseFinished(self, value: dict[str, Any]) -> Optional[Result]:
        running = self._running.pop(text_of(value, "testCaseStartedId"), None)
        if running is None:
            return None
        self._open_steps -= len(running.steps) + 1
        ended = _milliseconds(value.get("timestamp"))
        more = {"started_at": running.started, "completed_at": moment(ended), "attempt": running.attempt + 1}
        more["duration_ms"] = duration(ended - running.began) if running.began and ended else None
        scenario = self._cases.scenario(running.case)
        return result_of(self._source, scenario, list(running.steps.values()), more, running.loose)

    # --- the run ---

    def on_testRunStarted(self, value: dict[str, Any]) -> None:
        began = moment(_milliseconds(value.get("timestamp")))
        if began is not None:
            self._source.suite.setdefault("started_at", began)

    def on_testRunHookFinished(self, value: dict[str, Any]) -> None:
        result = dict_of(value, "result")
        if text_of(result, "status") == "FAILED":
            self._add_error(text_of(result, "message") or "A hook of the run failed")

    def on_testRunFinished(self, value: dict[str, Any]) -> None:
        self.ended = True
        message = text_of(dict_of(value, "exception"), "message") or text_of(value, "message")
        if message:
            self._add_error(message)

    def _add_error(self, text: str) -> None:
        if len(self._errors) < _ERRORS:
            self._errors.append(cut(plain(text), _ERROR))

    def finish(self) -> None:
        """Say what is missing, and what failed outside of tests."""
        path, suite = self._source.path, self._source.suite
        if not self.ended:
            names = [self._cases.scenario(each.case).name for each in self._running.values()]
            running = f"; not ended: {', '.join(names)[:300]}" if names else ""
            self._source.note(f"{path} ends before the run did{running}")
        if self._lost:
            self._source.note(
                f"{path}: {self._lost:,} attachments are left out: they are of the run itself, or too many"
            )
        if self._errors:
            suite["status"] = "Failed"
            suite.setdefault("metadata", {})["errors"] = self._errors


def _milliseconds(value: Any) -> float:
    """Of `{"seconds", "nanos"}`; 0 when it is none."""
    if not isinstance(value, dict):
        return 0.0
    try:
        return float(value.get("seconds") or 0) * 1000 + float(value.get("nanos") or 0) / 1e6
    except (TypeError, ValueError, OverflowError):
        return 0.0
