"""Playwright's JSON report: tests with their attempts, files by path. Of the steps it has only those of `test.step`."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from dataclasses import replace
from typing import Any, Iterator, Optional

from reportd_client.formats import json_file
from reportd_client.formats.files import file_of
from reportd_client.formats.playwright import Attempt, Case, Run, result_of, shard_of
from reportd_client.formats.playwright_error import dicts, of_text, text_of, without_source
from reportd_client.formats.playwright_files import fields_of, is_shown, text_of_chunk
from reportd_client.formats.playwright_steps import Step
from reportd_client.formats.playwright_values import number, time_of, whole
from reportd_client.formats.result import Empty, File, Result, Source, Unreadable

NAME = "playwright-json"
_MORE = "Playwright's blob report and the reporter reportd-playwright have its clicks, expects and times of steps, too"


def looks(head: bytes, path: Any) -> bool:
    """Whether a file that begins with these bytes is of this format: the configuration comes first."""
    text = json_file.ascii_of(head)
    return text[:1] == b"{" and b'"config"' in text[:200] and b'"rootDir"' in text


def read(source: Source) -> Iterator[Result]:
    """The results, in the order of the report. Raises Unreadable, Empty."""
    report, is_cut = json_file.read(source.path)
    if not isinstance(report, dict) or not isinstance(report.get("config"), dict) or "suites" not in report:
        what = "is cut before its first test" if is_cut else "is no JSON report of Playwright: it needs `suites`"
        raise Unreadable(f"{source.path} {what}")
    config = report["config"]
    reader = _Reader(source, config, is_cut)
    count = 0
    for suite in dicts(report["suites"]):
        outer = Case("", text_of(suite.get("file")) or text_of(suite.get("title")), (), shard=shard_of(config))
        for result in reader.suite(suite, outer):
            count += 1
            yield result
    stats = report["stats"] if isinstance(report.get("stats"), dict) else {}
    run = Run(config, reader.projects, reader.tests, dicts(report.get("errors")), None, time_of(stats.get("startTime")))
    run.describe(source)
    if is_cut:
        if not count:
            raise Unreadable(f"{source.path} is cut before the end of its first test")
        source.note(f"{source.path} is cut: {count:,} whole results were read")
    elif not count and not source.suite.get("status"):
        raise Empty(f"{source.path} is empty: it has no test")
    if count:
        source.remark(f"{source.path}: {_MORE}")


class _Reader:
    def __init__(self, source: Source, config: dict[str, Any], is_cut: bool) -> None:
        self._source, self._is_cut = source, is_cut
        self._browsers = {text_of(each.get("name")): _browser(each) for each in dicts(config.get("filteredProjects"))}
        self.projects = [text_of(each.get("name")) for each in dicts(config.get("projects"))]
        self.tests = 0

    def suite(self, suite: dict[str, Any], outer: Case) -> Iterator[Result]:
        for spec in dicts(suite.get("specs")):
            yield from self._spec(spec, outer)
        for inner in dicts(suite.get("suites")):
            yield from self.suite(inner, replace(outer, titles=(*outer.titles, text_of(inner.get("title")))))

    def _spec(self, spec: dict[str, Any], outer: Case) -> Iterator[Result]:
        repeats: Counter[str] = Counter()  # of each project
        for test in dicts(spec.get("tests")):
            project = text_of(test.get("projectName"))
            case = replace(outer, project=project, titles=(*outer.titles, text_of(spec.get("title"))))
            case.line, case.tags = whole(spec.get("line")), [text_of(tag) for tag in spec.get("tags") or ()]
            case.annotations, case.browser = dicts(test.get("annotations")), self._browsers.get(project)
            case.repeat = repeats[project]
            repeats[project] += 1
            results = dicts(test.get("results"))
            whole_results = [result for result in results if json_file.CUT not in result]
            if not whole_results and json_file.CUT in test:
                continue
            self.tests += 1
            for given in whole_results:
                yield result_of(self._source, case, self._attempt(test, given))
            if not results:
                yield result_of(self._source, case, None)

    def _attempt(self, test: dict[str, Any], given: dict[str, Any]) -> Attempt:
        attempt = Attempt(whole(given.get("retry")), whole(given.get("workerIndex"), -1))
        attempt.started, attempt.duration = time_of(given.get("startTime")), number(given.get("duration"))
        attempt.status = text_of(given.get("status")) or "interrupted"
        attempt.expected = text_of(test.get("expectedStatus")) or "passed"
        attempt.errors = _errors(given)
        attempt.annotations = dicts(given.get("annotations"))
        attempt.steps = [_step(step) for step in dicts(given.get("steps"))]
        for name in ("stdout", "stderr"):
            for chunk in dicts(given.get(name)):
                attempt.output.add(name, text_of_chunk(chunk.get("text"), _bytes(chunk.get("buffer"))))
        for attachment in dicts(given.get("attachments")):
            attempt.attachments.append(attachment)
            if is_shown(attachment):
                attempt.files[len(attempt.attachments) - 1] = self._file(attachment)
        return attempt

    def _file(self, attachment: dict[str, Any]) -> File:
        fields, path = fields_of(attachment), attachment.get("path")
        if isinstance(path, str) and path:
            return file_of(self._source.path, path, fields, self._source.files)
        return File(fields, data=_bytes(attachment.get("body")) or b"")


def _browser(project: dict[str, Any]) -> Optional[str]:
    use = project["use"] if isinstance(project.get("use"), dict) else {}
    return text_of(use.get("browserName")) or text_of(use.get("defaultBrowserType")) or None


def _step(given: dict[str, Any], depth: int = 0) -> Step:
    step = Step(text_of(given.get("title")), text_of(given.get("subtitle")))
    step.duration, step.error = number(given.get("duration")), without_source(given.get("error"))
    if depth < json_file.MAX_DEPTH:
        step.steps = [_step(inner, depth + 1) for inner in dicts(given.get("steps"))]
    return step


def _errors(given: dict[str, Any]) -> list[dict[str, Any]]:
    """The first as Playwright had it; of the others only a text, in which is an excerpt of the source."""
    first, others = given.get("error"), dicts(given.get("errors"))
    errors = []
    for error in others:
        errors.append(of_text(text_of(error.get("message"))))
    return [first, *errors[1:]] if isinstance(first, dict) else errors


def _bytes(text: Any) -> Optional[bytes]:
    try:
        return base64.b64decode(text) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        return None
