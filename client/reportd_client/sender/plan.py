"""From records to groups of tests that are sent together."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional, Sequence

from reportd_client import limits
from reportd_client.spool import Located, read_range

UNFINISHED = "The test did not finish"


@dataclass
class Waiting:
    """A test that is not complete: where its records are, and how much they are. Their content is read when sent."""

    ref: str
    test_id: str
    attempt: int
    ranges: list[tuple[Path, int, int]] = field(default_factory=list)
    ended: bool = False
    status: str = "Pending"
    verdict: Optional[dict[str, Any]] = None  # given by another process than that of the test
    files: int = 0
    steps: int = 0
    entries: int = 0
    file_bytes: int = 0
    size: int = 0

    def add(self, found: Located) -> None:
        """Take a record. Ranges that touch become one, so that a test is mostly one range."""
        self.size += found.end - found.start
        if self.ranges and self.ranges[-1][0] == found.file and self.ranges[-1][2] == found.start:
            self.ranges[-1] = (found.file, self.ranges[-1][1], found.end)
        else:
            self.ranges.append((found.file, found.start, found.end))


@dataclass
class Parcel:
    """A test with everything that belongs to it, as it is sent."""

    ref: str
    test: dict[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    console_logs: list[dict[str, Any]] = field(default_factory=list)
    network_logs: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)  # files that are not sent, which the server is to hear

    @property
    def test_id(self) -> str:
        return str(self.test.get("test_id") or self.test.get("name"))


def load(waiting: Waiting) -> Parcel:
    """Read a test from the spool."""
    parcel = Parcel(waiting.ref, {"status": "Pending", "error_message": UNFINISHED})
    for file, start, end in waiting.ranges:
        for record in read_range(file, start, end):
            if record.get("ref") != waiting.ref:
                continue
            if record["kind"] == "add":
                getattr(parcel, record["to"]).append(record["entry"])
            elif record["kind"] == "test":
                parcel.test = {**parcel.test, "error_message": None, **record["test"]}
            else:
                parcel.test.update(record["test"])
    parcel.steps.sort(key=_position)  # they were written when they ended, a parent after its children
    parcel.test.update(waiting.verdict or {})
    parcel.test = {name: value for name, value in parcel.test.items() if value is not None}
    return parcel


def _position(step: dict[str, Any]) -> tuple[int, int]:
    iteration, number = step.get("iteration_number", 1), step.get("step_number", 0)
    return (iteration if isinstance(iteration, int) else 1, number if isinstance(number, int) else 0)


class Tests:
    """The tests of a run that are known and not complete."""

    __test__ = False

    def __init__(self, complete: Iterable[str]) -> None:
        self._complete = set(complete)
        self._tests: dict[str, Waiting] = {}
        self._crashes: list[dict[str, Any]] = []
        self._last: dict[str, tuple[int, str]] = {}  # attempt and status of the last attempt, by test_id
        self._ready: list[Waiting] = []
        self._since = 0.0
        self.metadata: dict[str, Any] = {}
        self.expected: Optional[int] = None  # how many tests there are
        self.errors: list[str] = []  # outside of tests
        self.end: Optional[dict[str, Any]] = None
        self.count = 0

    def take(self, records: Iterable[Located]) -> None:
        """Take new records."""
        for found in records:
            record = found.record
            kind = record.get("kind")
            if kind == "end":
                self.end = record
            elif kind == "run":
                self._take_run(record)
            elif kind == "crash":
                self._crashes.append(record)
            elif kind in ("begin", "add", "test"):
                self._take_test(found, kind)

    def _take_run(self, record: dict[str, Any]) -> None:
        self.metadata.update(record.get("metadata") or {})
        self.expected = record.get("tests_expected", self.expected)
        self.errors += [str(error) for error in record.get("errors") or () if error not in self.errors]

    def _take_test(self, found: Located, kind: str) -> None:
        record, ref = found.record, found.record["ref"]
        test = self._tests.get(ref)
        if kind == "begin":
            test = Waiting(ref, record["test"]["test_id"], record["test"].get("attempt", 1))
            self._tests[ref] = test
            self.count += 1
        if test is None or test.ended:
            return
        test.add(found)
        if kind == "add":
            _count(test, record)
        elif kind == "test":
            self._end(test, record["test"].get("status", "Passed"))

    def take_crashes(self) -> None:
        """End the tests during which a process died. To be called when everything that the process wrote is taken."""
        crashes, self._crashes = self._crashes, []
        for crash in crashes:
            for test in self._tests.values():
                if test.test_id == crash["test_id"] and not test.ended:
                    test.verdict = crash["test"]
                    self._end(test, crash["test"]["status"])

    def _end(self, test: Waiting, status: str) -> None:
        test.ended, test.status = True, status
        if self._last.get(test.test_id, (0, ""))[0] <= test.attempt:
            self._last[test.test_id] = (test.attempt, status)
        if test.ref in self._complete:
            del self._tests[test.ref]
        else:
            if not self._ready:
                self._since = time.monotonic()
            self._ready.append(test)

    def give_up_waiting(self) -> None:
        """The run has ended: tests that have not are sent as Pending."""
        for test in [test for test in self._tests.values() if not test.ended]:
            self._end(test, "Pending")

    def ready(self, now: bool) -> list[list[Waiting]]:
        """Groups of tests to send. `now`: also one that is not full. A failed test does not wait."""
        groups: list[list[Waiting]] = []
        group: list[Waiting] = []
        load = _Load()
        for test in self._ready:
            if group and not load.has_space_for(test):
                groups.append(group)
                group, load = [], _Load()
            group.append(test)
            load.add(test)
        due = now or time.monotonic() - self._since > limits.GROUP_SECONDS
        if group and (due or load.full or any(test.status == "Failed" for test in group)):
            groups.append(group)
            group = []
        self._ready = group
        return groups

    def again(self, refs: list[str]) -> list[Waiting]:
        """The tests of a group that an earlier sender made, and that is not complete."""
        tests = [self._tests[ref] for ref in refs if ref in self._tests and self._tests[ref].ended]
        taken = {test.ref for test in tests}
        self._ready = [test for test in self._ready if test.ref not in taken]
        return tests

    def completed(self, refs: Iterable[str]) -> None:
        for ref in refs:
            self._tests.pop(ref, None)

    @property
    def left(self) -> int:
        return len(self._tests)

    def status(self) -> str:
        """The status of the run: Failed when the last attempt of any test is, or something outside of tests failed."""
        failed = any(status == "Failed" for _, status in self._last.values())
        return "Failed" if failed or self.errors else "Passed"


def _count(test: Waiting, record: dict[str, Any]) -> None:
    if record["to"] == "artifacts":
        test.files += 1
        test.file_bytes += record["entry"].get("file_size") or 0
    elif record["to"] == "steps":
        test.steps += 1
    else:
        test.entries += 1


_MOST = (
    limits.GROUP_TESTS,
    limits.GROUP_FILES,
    limits.GROUP_BYTES,
    limits.GROUP_STEPS,
    limits.GROUP_ENTRIES,
    limits.GROUP_FILE_BYTES,
)


class _Load:
    """How much a group has of everything that is limited. A single test may exceed each limit."""

    def __init__(self) -> None:
        self._sums = [0] * len(_MOST)

    def has_space_for(self, test: Waiting) -> bool:
        return all(have + more <= most for have, more, most in zip(self._sums, _load_of(test), _MOST))

    def add(self, test: Waiting) -> None:
        self._sums = [have + more for have, more in zip(self._sums, _load_of(test))]

    @property
    def full(self) -> bool:
        return any(have >= most for have, most in zip(self._sums, _MOST))


def _load_of(test: Waiting) -> tuple[int, ...]:
    return 1, test.files, test.size, test.steps, test.entries, test.file_bytes


class Room:
    """Memory for groups of tests whose records are read. Large ones wait for each other, so that four at once do not
    take hundreds of MiB. One that is larger than the room gets all of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = 0

    @contextmanager
    def taken_by(self, group: Sequence[Waiting]) -> Iterator[None]:
        size = sum(test.size for test in group)
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= limits.LOADED_BYTES)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()
