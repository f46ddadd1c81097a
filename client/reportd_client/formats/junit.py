"""JUnit's XML, in the dialects of Surefire, Gradle, pytest, Jest, Vitest, Mocha, Go, node, Playwright and PHPUnit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Iterator, Optional

from reportd_client.formats import markup
from reportd_client.formats.junit_case import Case, Text, Verdict, iso
from reportd_client.formats.result import Empty, Result, Source, Unreadable

NAME = "junit"
_SUITES = ("testsuites", "testsuite")
_OWN = ("failure", "error", "skipped")
_AFTER = ("rerunFailure", "rerunError")  # Surefire: the attempts that followed the first
_BEFORE = ("flakyFailure", "flakyError")  # and those that preceded the one that passed


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    return markup.first_tag(head) in _SUITES


def read(source: Source) -> Iterator[Result]:
    """The results of a file, one after the other. Raises Unreadable, Empty."""
    reader, count = _Reader(source), 0
    for _ in markup.read(source.path, reader):
        count += len(reader.found)
        yield from reader.found
        reader.found.clear()
    if not count and reader.is_cut:
        raise Unreadable(f"{source.path} is cut or damaged before the end of its first test")
    if not count:
        raise Empty(f"{source.path} is empty: it has no test")
    if reader.is_cut:
        source.note(f"{source.path} is cut or damaged: {count:,} whole results were read")
    if reader.lost_output:
        source.note(f"{source.path}: output of suites has no place, {reader.lost_output:,} characters")
    reader.finish()


class _Reader:
    """Makes results of elements. Nothing is kept but the test that is being read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.found: list[Result] = []
        self.lost_output = 0
        self.is_cut = False
        self._suites: list[dict[str, str]] = []
        self._case: Optional[Case] = None
        self._verdict: Optional[Verdict] = None
        self._texts: list[Optional[Text]] = []  # of each open element, where its text goes
        self._is_of_pytest = False
        self._expected = 0  # tests, as pytest counts them
        # Of pytest's files: how often each test comes, and those that failed, whose teardown may have its own entry.
        self._counts: dict[bytes, int] = {}
        self._failed: set[bytes] = set()

    # --- elements ---

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._texts and tag not in _SUITES:
            raise Unreadable(f"{self._source.path} is no JUnit file: its first element is {tag[:100]}")
        self._texts.append(self._text_of(tag, attributes))

    def _text_of(self, tag: str, attributes: dict[str, str]) -> Optional[Text]:
        """Take an element: where its text goes."""
        case = self._case
        if tag in _SUITES:
            self._begin_suite(tag, attributes)
        elif tag == "testcase":
            self._case = Case(attributes, [suite.get("name", "").strip() for suite in self._suites])
        elif tag in ("system-out", "system-err"):
            return Text(0) if case is None else case.output(tag, self._verdict)
        elif case is None:
            return None
        elif tag == "property":
            return case.property(attributes.get("name", ""), attributes.get("value"))
        elif tag in (*_OWN, *_AFTER, *_BEFORE):
            self._verdict = case.verdict(tag, attributes)
            return self._verdict.text
        elif tag == "stackTrace" and self._verdict is not None:
            return self._verdict.begin_trace()
        return None

    def data(self, text: str) -> None:
        if self._texts and self._texts[-1] is not None:
            self._texts[-1].add(text)

    def end(self, tag: str) -> None:
        text = self._texts.pop()
        if tag in _SUITES:
            self._suites.pop()
        elif tag == "testcase" and self._case is not None:
            self._end_case(self._case)
            self._case = None
        elif tag in ("system-out", "system-err") and self._case is None and text is not None:
            self.lost_output += text.length
        elif self._verdict is not None and tag == self._verdict.tag:
            self._verdict = None

    def cut(self) -> None:
        self.is_cut = True

    # --- suites ---

    def _begin_suite(self, tag: str, attributes: dict[str, str]) -> None:
        name = attributes.get("name", "").strip()
        self._suites.append(attributes)
        if tag == "testsuite" and attributes.get("tests", "").isdecimal():
            self._expected += int(attributes["tests"])
        self._is_of_pytest |= name in ("pytest", "pytest tests")
        root = self._suites[0].get("name", "").strip()
        if root or len(self._suites) == 2:
            self._source.names.add(root or name)
        began, suite = iso(attributes.get("timestamp")), self._source.suite
        if began is not None:
            suite["started_at"] = min(began, suite.get("started_at", began))
        host = attributes.get("hostname", "").strip()
        if host:
            suite.setdefault("metadata", {}).setdefault("hostname", host[:200])

    # --- results ---

    def _end_case(self, case: Case) -> None:
        """The attempts of a test, in their order."""
        own = [verdict for verdict in case.verdicts if verdict.tag in _OWN]
        before = [[verdict] for verdict in case.verdicts if verdict.tag in _BEFORE]
        after = [[verdict] for verdict in case.verdicts if verdict.tag in _AFTER]
        times = (iso(each.get("timestamp")) for each in (case.attributes, *reversed(self._suites)))
        time = next(filter(None, times), None)
        for verdicts in (*before, own, *after):
            result = case.result(self._source, verdicts, verdicts is own)
            if result.told is not None:
                result.told.time = time
            self.found.append(result)
            if self._is_of_pytest:
                self._count(result)

    def _count(self, result: Result) -> None:
        key = hashlib.blake2b(str(result.test["test_id"]).encode("utf-8", "replace"), digest_size=8).digest()
        of_teardown = result.told is not None and result.told.of_teardown
        if not (of_teardown and key in self._failed):
            self._counts[key] = self._counts.get(key, 0) + 1
        if result.test["status"] == "Failed" and not of_teardown:
            self._failed.add(key)

    def finish(self) -> None:
        """With xdist's `--dist each` every test comes once for each worker, and pytest has counted them all."""
        if self._is_of_pytest:
            often = set(self._counts.values())
            once_each_worker = len(often) == 1 and often != {1} and sum(self._counts.values()) <= self._expected
            self._source.has_reruns = not once_each_worker
