"""Robot Framework's output.xml, and its output.json of version 7.2 and newer.

XML is read test by test, also when it is cut. Robot Framework itself is not used: its model of a file is whole in
memory, in which it is much larger than the file, and it reads no file that is cut.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Iterator

from reportd_client.formats import json_file, markup
from reportd_client.formats.result import Empty, Result, Source, Unreadable, plain
from reportd_client.formats.robot_message import text_of_html
from reportd_client.formats.robot_test import Suite, result_of
from reportd_client.formats.robot_xml import Output, Teardowns
from reportd_client.texts import cut

NAME = "robot"
_JSON = re.compile(rb'"generator"\s*:\s*"(?:Robot|Rebot) ')
_MOST = 100  # suites with metadata, and errors, of a run


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    text = json_file.ascii_of(head)
    if text[:1] == b"{":
        return _JSON.search(text) is not None
    return markup.first_tag(head) == "robot"


def read(source: Source) -> Iterator[Result]:
    """The results of a file, one after the other. Raises Unreadable, Empty."""
    run, count = _Run(source), 0
    for suite, test in _tests_of_json(run) if _is_json(source.path) else _tests_of_xml(run):
        count += 1
        result = result_of(source, suite, test)
        run.began(result)
        yield result
    if not count and run.is_cut:
        raise Unreadable(f"{source.path} is cut or damaged before the end of its first test")
    if not count:
        raise Empty(f"{source.path} is empty: it has no test")
    if run.is_cut:
        source.note(f"{source.path} is cut or damaged: {count:,} whole results were read")
    if run.lost:
        source.note(f"{source.path}: {run.lost:,} keywords and messages of very large tests have no place")


def _is_json(path: Path) -> bool:
    with path.open("rb") as file:
        return json_file.begins_json(file.read(1 << 10))


class _Run:
    """What a file says of the run."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.is_cut = False
        self.lost = 0
        self._errors: list[str] = []

    @property
    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self.source.suite.setdefault("metadata", {})
        return metadata

    def generator(self, value: Any) -> None:
        if isinstance(value, str) and value:
            self._metadata["robot"] = cut(plain(value), 200)

    def suite(self, suite: Suite) -> None:
        """A suite whose metadata is known."""
        if suite.is_root and suite.full_name:
            self.source.names.add(cut(plain(suite.full_name), 500))
        if suite.metadata:
            of_suites = self._metadata.setdefault("suites", {})
            if len(of_suites) < _MOST:
                of_suites[cut(plain(suite.full_name), 500)] = plain(suite.metadata)

    def teardown(self, suite: str, status: str, message: str) -> None:
        """The teardown of a suite, which is over when its tests have been read."""
        if status == "FAIL":
            failed = self._metadata.setdefault("failed_teardowns", {})
            if len(failed) < _MOST:
                failed[cut(suite, 500)] = cut(plain(message), 2_000)

    def error(self, message: dict[str, Any]) -> None:
        """What Robot Framework says of the files, such as a library that cannot be imported."""
        if len(self._errors) < _MOST:
            text = str(message.get("message") or "")
            text = text_of_html(text) if message.get("html") in (True, "true", "yes") else text
            line = f"{message.get('level') or 'ERROR'}: {text}"
            self._errors.append(cut(plain(line), 1_000))
            self._metadata["errors"] = self._errors

    def began(self, result: Result) -> None:
        began = result.test.get("started_at")
        if began is not None:
            self.source.suite["started_at"] = min(began, self.source.suite.get("started_at", began))


# --- XML ---


def _tests_of_xml(run: _Run) -> Iterator[tuple[Suite, dict[str, Any]]]:
    teardowns = Teardowns()
    for _ in markup.read(run.source.path, teardowns):
        pass  # a test has failed when the teardown of its suite fails, which is written after it
    output = Output(teardowns.failed)
    for _ in markup.read(run.source.path, output):
        run.generator(output.generator)
        yield from output.found
        output.found.clear()
        for suite in output.ended:
            run.suite(suite)
        output.ended.clear()
        for message in output.errors:
            run.error(message)
        output.errors.clear()
    if not output.is_known:
        raise Unreadable(f"{run.source.path} is no output.xml of Robot Framework: its first element must be <robot>")
    for name, told in teardowns.failed.items():
        run.teardown(name, *told)
    run.is_cut, run.lost = output.is_cut, output.lost


# --- JSON ---


def _tests_of_json(run: _Run) -> Iterator[tuple[Suite, dict[str, Any]]]:
    value, run.is_cut = json_file.read(run.source.path)
    root = value.get("suite") if isinstance(value, dict) else None
    if not isinstance(root, dict):
        raise Unreadable(f"{run.source.path} is no output.json of Robot Framework: it has no `suite`")
    run.generator(value.get("generator"))
    errors = value.get("errors")
    for message in errors if isinstance(errors, list) else []:
        if isinstance(message, dict):
            run.error(message)
    waiting = [(root, Suite())]
    while waiting:
        node, parent = waiting.pop()
        suite = Suite.of(node, parent)
        run.suite(suite)
        if suite.teardown is not None:
            run.teardown(suite.full_name, *suite.teardown)
        tests, suites = ([each for each in _list(node.get(name)) if isinstance(each, dict)] for name in _INNER)
        for test in tests:
            if json_file.CUT not in test:
                yield suite.copy(), test
        waiting += [(each, suite) for each in reversed(suites)]


_INNER = ("tests", "suites")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
