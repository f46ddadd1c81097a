"""The report files of one command: found, recognised, and read twice, so that nothing of them is kept in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, Optional, Sequence

from reportd_client.formats import (
    allure,
    ctrf,
    cucumber_json,
    cucumber_messages,
    har,
    json_file,
    junit,
    nunit,
    paths,
    playwright_blob,
    playwright_json,
    report_log,
    result_json,
    robot,
    tap,
    trx,
    xunit,
)
from reportd_client.formats.attempts import Attempts
from reportd_client.formats.overlap import Titles, poorer
from reportd_client.formats.result import Empty, Result, Source, Unreadable

# The richest first: of two files with the same tests, the one whose format comes first is taken. A file is of the first
# format whose looks() says so; result.json, which others resemble, is asked last.
FORMATS: dict[str, ModuleType] = {
    format.NAME: format
    for format in (
        result_json,
        playwright_blob,
        allure,
        robot,
        report_log,
        cucumber_messages,
        playwright_json,
        ctrf,
        cucumber_json,
        trx,
        nunit,
        xunit,
        junit,
        tap,
        har,
    )
}
_ASKED = (*(format for format in FORMATS.values() if format is not result_json), result_json)


@dataclass
class _Read:
    """A report that has been read: `first`, how many entries of all were before it."""

    source: Source
    format: ModuleType
    first: int
    count: int = 0
    titles: Titles = field(default_factory=Titles)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class Reports:
    """What the paths have. First look(), then results()."""

    def __init__(self, format: Optional[str] = None, files: Optional[Path] = None, keep_har: bool = False) -> None:
        self.count = 0
        self.suite: dict[str, Any] = {}
        self.notes: list[str] = []  # what is missing
        self.unreadable: list[str] = []
        self.empty: list[str] = []
        self.remarks: list[str] = []  # what is worth to know, and no loss
        self.written_at: Optional[int] = None  # when the oldest of the files was, in milliseconds
        self._format = FORMATS[format] if format else None
        self._files, self._keep_har = files, keep_har
        self._read: list[_Read] = []
        self._attempts = Attempts()
        self._digest = hashlib.sha256()

    def look(self, given: Sequence[str], wanted: Callable[[Path], bool] = lambda path: True) -> None:
        """Read all files once, of those that are found only the `wanted`."""
        seen: set[Path] = set()
        for path in paths.find(given, self.empty.append, self._may_be_report):
            if not wanted(path):
                continue
            try:
                format = self._format or _format_of(path)
                unit = format.unit(path) if hasattr(format, "unit") else path
                if unit.resolve() not in seen:
                    seen.add(unit.resolve())
                    self._look(unit, format)
            except Empty as error:
                self.empty.append(str(error))
            except Unreadable as error:
                self.unreadable.append(str(error))
        self._skip_poorer()
        self._skip_hars({Path(text).resolve() for text in given})
        self._attempts.settle([read.source for read in self._read])
        self.remarks += filter(None, [self._attempts.note()])
        for read in self._read:
            self._take(read)
        names = {name for read in self._read for name in read.source.names}
        if len(names) == 1:
            self.suite.setdefault("name", names.pop()[:500])

    def _look(self, path: Path, format: ModuleType) -> None:
        notes: list[str] = []
        remarks: list[str] = []
        source = Source(path, self._files, notes.append, remarks.append, self._keep_har)
        read = _Read(source, format, self._attempts.number, remarks=remarks)
        try:
            for result in format.read(read.source):
                read.count += 1
                read.titles.add(result.test["name"])
                self._attempts.see(read.source, result)
        finally:
            if read.count or source.suite.get("status") == "Failed":  # those before an error are read again, too
                self._read.append(read)
                read.notes = notes
            else:
                self.notes += notes

    def _skip_poorer(self) -> None:
        """Two reports of the same tests in one command: a runner often writes JUnit beside its own format."""
        ranks = {format.NAME: rank for rank, format in enumerate(FORMATS.values())}
        found = poorer([(ranks[read.format.NAME], read.titles) for read in self._read])
        for at, other in found.items():
            skipped, kept = self._read[at].source.path, self._read[other]
            self.remarks.append(f"{skipped} is skipped: {kept.source.path} has the same tests as {kept.format.NAME}")
        self._read = [read for at, read in enumerate(self._read) if at not in found]

    def _skip_hars(self, named: set[Path]) -> None:
        """In a folder with reports, a HAR file is of one of their tests, and no test of its own."""
        if all(read.format is har for read in self._read):
            return
        skipped = [read for read in self._read if read.format is har and read.source.path.resolve() not in named]
        for read in skipped:
            self.remarks.append(f"{read.source.path} is skipped: it is beside reports. --test-case adds it to a result")
        self._read = [read for read in self._read if read not in skipped]

    def _take(self, read: _Read) -> None:
        """Fields of the run, of the report that has them first; the earliest time."""
        source = read.source
        began = [each["started_at"] for each in (source.suite, self.suite) if each.get("started_at") is not None]
        self.suite = _joined(self.suite, source.suite)
        if began and all(isinstance(each, str) for each in began):
            self.suite["started_at"] = min(began)
        self.count += read.count
        self.notes += read.notes
        written_at = source.path.stat().st_mtime_ns // 1_000_000
        self.written_at = min(written_at, self.written_at or written_at)
        self.remarks += read.remarks
        source.note = source.remark = lambda text: None
        files = read.format.files(source.path) if hasattr(read.format, "files") else [source.path]
        for path in files:
            self._digest.update(_digest_of(path))

    @property
    def failed(self) -> bool:
        """Whether a report says that something failed outside of the tests; then there may be no test at all."""
        return self.suite.get("status") == "Failed"

    def results(self) -> Iterator[Result]:
        """All results, each with its attempt."""
        for read in self._read:
            self._attempts.number = read.first
            try:
                for result in read.format.read(read.source):
                    placed = self._attempts.place(read.source, result)
                    if placed is not None:
                        yield placed
            except Unreadable:
                pass  # as the first time, which has said it

    def key(self) -> str:
        """Outside of a CI the same files meet in the same run."""
        return f"files:{self._digest.hexdigest()[:40]}"

    def _may_be_report(self, path: Path) -> bool:
        try:
            return self._format is not None or _looks(paths.head(path), path) is not None
        except Unreadable:
            return True  # reading it says why


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The fields of a run of two reports: the first has them first. One that failed makes the run Failed; lists in the
    metadata are joined, and numbers of tests that were expected added."""
    joined = {**second, **first}
    if "Failed" in (first.get("status"), second.get("status")):
        joined["status"] = "Failed"
    one, other = first.get("metadata"), second.get("metadata")
    if isinstance(one, dict) and isinstance(other, dict):
        metadata = {**other, **one}
        for name in one.keys() & other.keys():
            if isinstance(one[name], list) and isinstance(other[name], list):
                metadata[name] = [*one[name], *(item for item in other[name] if item not in one[name])]
            elif name == "expected_tests" and isinstance(one[name], int) and isinstance(other[name], int):
                metadata[name] = one[name] + other[name]
        joined["metadata"] = metadata
    return joined


def _looks(head: bytes, path: Path) -> Optional[ModuleType]:
    return next((format for format in _ASKED if format.looks(head, path)), None)


def _format_of(path: Path) -> ModuleType:
    """The format of a file. Raises Unreadable, Empty."""
    head = paths.head(path)
    if not head.strip():
        raise Empty(f"{path} is empty")
    found = _looks(head, path)
    if found is None and (json_file.begins_json(head) or path.suffix.lower() == ".json"):
        return result_json  # which says what is wrong
    if found is None:
        raise Unreadable(f"{path} is of no format that is known: {', '.join(FORMATS)}")
    return found


def _digest_of(path: Path) -> bytes:
    file = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            file.update(chunk)
    return file.digest()
