"""Playwright's blob report: a zip for each shard with `report.jsonl` and the attachments, or such a zip unpacked."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Iterator, Optional

from reportd_client.formats.archive import Archive
from reportd_client.formats.files import file_of
from reportd_client.formats.playwright import result_of
from reportd_client.formats.playwright_events import Events, lines
from reportd_client.formats.result import Empty, File, Result, Source, Unreadable

NAME = "playwright-blob"
_FIRST = b'"onBlobReportMetadata"'
_ZIP = b"PK\x03\x04"
_REPORTS = ".jsonl"
_HEAD = 64 << 10
_IN_MEMORY = 4 << 20  # bytes that tests attach, and more on disk


def looks(head: bytes, path: Path) -> bool:
    """Whether this is a blob report: the first event comes at once; of a zip, in the report in it."""
    if not head.startswith(_ZIP):
        return head[:1] == b"{" and _FIRST in head.partition(b"\n")[0]
    try:
        with Archive(path) as archive:
            name = _report_in(archive)
            if name is None:
                return False
            with archive.open(name, whole=False) as stream:
                return _FIRST in stream.read(_HEAD).partition(b"\n")[0]
    except Unreadable:
        return False


def read(source: Source) -> Iterator[Result]:
    """The results of a shard, in the order in which they ended. Raises Unreadable, Empty."""
    count = 0
    with ExitStack() as stack:
        report = _Report(source, stack)
        events = Events(report.file, stack.enter_context(SpooledTemporaryFile(_IN_MEMORY)))
        for event, size in lines(report.stream):
            ended = events.take(event, size)
            if ended is not None:
                count += 1
                yield result_of(source, *ended)
        for case, attempt in events.rest():
            count += 1
            yield result_of(source, case, attempt)
        _judge(source, events, count)


def _judge(source: Source, events: Events, count: int) -> None:
    """Say what is missing. A run whose files could not be loaded has no test, and is still one."""
    path = source.path
    events.run.describe(source)
    if not events.count:
        raise Empty(f"{path} is empty")
    if not events.has_begun:
        raise Unreadable(f"{path} is no blob report of Playwright: it has no list of tests")
    if not count and events.damaged:
        raise Unreadable(f"{path}: {events.damaged:,} lines cannot be read, and the others have no test")
    if not count and not source.suite.get("status"):
        raise Empty(f"{path} is empty: it has no test")
    if not events.has_ended:
        source.note(f"{path} is cut: {count:,} results were read, and how the run ended is not known")
    if events.damaged:
        source.note(f"{path}: {events.damaged:,} lines cannot be read")
    if events.lost:
        source.note(f"{path}: {events.lost:,} steps, files and outputs are left out: the tests have too many at once")


class _Report:
    """The events, and the files that they name."""

    def __init__(self, source: Source, stack: ExitStack) -> None:
        self._source = source
        self._archive: Optional[Archive] = None
        self.stream: IO[bytes]
        path = source.path
        try:
            with path.open("rb") as file:
                is_zip = file.read(4) == _ZIP
        except OSError as error:
            raise Unreadable(f"Cannot read {path}: {error.strerror}") from None
        if not is_zip:
            self.stream = stack.enter_context(path.open("rb"))
            return
        self._archive = stack.enter_context(Archive(path))
        name = _report_in(self._archive)
        if name is None:
            raise Unreadable(f"{path} is no blob report of Playwright: there is no report.jsonl in it")
        self.stream = stack.enter_context(self._archive.open(name, whole=False))

    def file(self, name: str, fields: dict[str, Any]) -> File:
        """An attachment. In a folder as any report names it; in the zip by its whole name there."""
        archive = self._archive
        if archive is None:
            return file_of(self._source.path, name, fields, self._source.files)
        if name not in archive:
            return File(fields, refused="No such file")
        return File(fields, make=lambda: archive.unpack(name))


def _report_in(archive: Archive) -> Optional[str]:
    """Its name: `report.jsonl`, or what a command of its own has named it."""
    return next((name for name in sorted(archive.names()) if name.endswith(_REPORTS) and "/" not in name), None)
