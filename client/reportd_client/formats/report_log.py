"""The report log of pytest (pytest-reportlog, `--report-log`): a line of JSON for each report of a phase."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Iterator

from reportd_client.formats import json_file, json_lines
from reportd_client.formats.report_log_test import Attempt, collected
from reportd_client.formats.result import Empty, Result, Source, Unreadable, plain
from reportd_client.texts import cut

NAME = "report-log"
_KEY = b'"$report_type"'
_MOST_OPEN, _MOST_HELD = 256, 64 << 20  # tests at once, of which pytest has one for each worker; their characters
_MOST_WARNINGS = 100
_INTERRUPTED = 2
_INTERNAL_ERROR = 3
_EXITS = {_INTERRUPTED: "interrupted", _INTERNAL_ERROR: "internal error", 4: "usage error"}


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format."""
    text = json_file.ascii_of(head)
    return text[:1] == b"{" and _KEY in text


def read(source: Source) -> Iterator[Result]:
    """The results of a file, in the order in which they ended. Raises Unreadable, Empty."""
    reader, count, damaged, known = _Reader(source), 0, 0, False
    for value in json_lines.read(source.path):
        kind = value.get("$report_type") if value is not None else None
        known |= isinstance(kind, str)
        damaged += value is None
        for result in reader.take(str(kind), value) if value is not None and kind else ():
            count += 1
            yield result
    if not known:
        raise Unreadable(f"{source.path} is no report log of pytest: no line has a $report_type")
    unfinished = list(reader.finish())
    yield from unfinished
    if damaged or not reader.is_whole:
        told = f"{count:,} whole results were read, {len(unfinished):,} tests did not finish"
        source.note(f"{source.path} is cut or damaged: {told}")
    if not count and not unfinished:
        raise Empty(f"{source.path} is empty: it has no test")


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: dict[tuple[str, str], Attempt] = {}  # by worker and node id
        # Of tests that ended and may be run again: their sections come again.
        self._sections: dict[tuple[str, str], list[int]] = {}
        self._workers: dict[bytes, list[str]] = {}  # in which a test ran, with xdist
        self._warnings: list[str] = []
        self.is_whole = False

    def take(self, kind: str, value: dict[str, Any]) -> Iterator[Result]:
        """Take a line: the results that end with it."""
        if kind == "SessionStart":
            self._metadata()["pytest"] = cut(str(value.get("pytest_version")), 100)
        elif kind == "SessionFinish":
            self.is_whole = True
            self._exit(value.get("exitstatus"))
        elif kind == "CollectReport":
            if value.get("outcome") != "passed":
                yield collected(value)
        elif kind == "WarningMessage":
            self._warn(value)
        elif isinstance(value.get("nodeid"), str) and isinstance(value.get("when"), str):
            yield from self._take_phase(value)

    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self._source.suite.setdefault("metadata", {})
        return metadata

    def _exit(self, status: Any) -> None:
        if isinstance(status, int) and status in _EXITS:
            self._metadata()["pytest_exit"] = _EXITS[status]
        if status in (_INTERRUPTED, _INTERNAL_ERROR):
            self._source.suite["status"] = "Failed"

    def _warn(self, value: dict[str, Any]) -> None:
        """The file does not say which test a warning is of."""
        if len(self._warnings) < _MOST_WARNINGS:
            text = f"{value.get('category')}: {value.get('message')} ({value.get('filename')}:{value.get('lineno')})"
            self._warnings.append(cut(plain(text), 300))
            self._metadata()["warnings"] = self._warnings

    # --- phases ---

    def _take_phase(self, value: dict[str, Any]) -> Iterator[Result]:
        key = str(value.get("worker_id") or ""), value["nodeid"]
        attempt = self._open.get(key)
        is_crash = value["when"] == "???"  # of xdist's controller, which does not name the worker
        if is_crash and attempt is None:
            key = next((other for other in self._open if other[1] == key[1]), key)
            attempt = self._open.get(key)
        if attempt is None or (value["when"] == "setup" and attempt.has_begun):
            if attempt is not None:  # of an older pytest-rerunfailures, which does not report the last teardown
                yield self._end(key)
            attempt = self._begin(key, value)
        attempt.take(value)
        if value["when"] == "teardown" or is_crash:
            yield self._end(key)
        elif len(self._open) > _MOST_OPEN or (attempt.size > 1 << 20 and self._held() > _MOST_HELD):
            yield self._end(next(iter(self._open)))

    def _held(self) -> int:
        return sum(attempt.size for attempt in self._open.values())

    def _begin(self, key: tuple[str, str], value: dict[str, Any]) -> Attempt:
        copy = 1
        if key[0]:  # with `--dist each` every worker of xdist runs every test
            digest = hashlib.blake2b(key[1].encode("utf-8", "replace"), digest_size=8).digest()
            workers = self._workers.setdefault(digest, [])
            if key[0] not in workers and not value.get("rerun"):  # a rerun may be in a new worker
                workers.append(key[0])
            copy = workers.index(key[0]) + 1 if key[0] in workers else 1
        attempt = self._open[key] = Attempt(self._source, key[1], copy, self._sections.pop(key, []))
        return attempt

    def _end(self, key: tuple[str, str]) -> Result:
        attempt = self._open.pop(key)
        self._sections[key] = attempt.fingerprints
        if len(self._sections) > _MOST_OPEN:
            self._sections.pop(next(iter(self._sections)))
        result = attempt.result(self.is_whole)
        began = result.test.get("started_at")
        if began is not None:
            self._source.suite["started_at"] = min(began, self._source.suite.get("started_at", began))
        return result

    def finish(self) -> Iterator[Result]:
        """Tests that have begun and never ended."""
        for key in list(self._open):
            yield self._end(key)
