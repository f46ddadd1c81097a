"""HAR files (HTTP Archive 1.2): requests that a browser recorded, as a table, and one of them whole."""

import math
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw, Struct

from server.background import aside
from server.reports.result_files import ResultFile
from server.storage.folder import Storage

MOST_BYTES = 10 << 20
ROWS = 500  # a page
_LONGEST = 20_000  # characters of a body
_READING = threading.Lock()  # of this process: a file of 10 MiB takes several times as much memory


class _Pair(Struct):
    name: str = ""
    value: str = ""


class _Body(Struct, rename="camel"):
    mime_type: str | None = None
    text: str | None = None
    size: float | None = None


class _Request(Struct, rename="camel"):
    method: str = ""
    url: str = ""
    headers: list[_Pair] = []
    query_string: list[_Pair] = []
    post_data: _Body | None = None


class _Response(Struct, rename="camel"):
    status: float | None = None
    status_text: str | None = None
    headers: list[_Pair] = []
    content: _Body | None = None


class _Entry(Struct, rename="camel"):
    """What is large stays as it is until it is shown."""

    request: Raw
    response: Raw
    started_date_time: str | None = None
    time: float | None = None
    timings: Raw = Raw(b"{}")


class _Log(Struct):
    entries: list[_Entry]


class _Har(Struct):
    log: _Log


@dataclass(frozen=True, slots=True)
class Row:
    """One request. `number`: from 1. Numbers are None when they are unknown; `url` is empty when the entry is none."""

    number: int
    method: str
    url: str
    status: int | None
    mime_type: str | None
    size: int | None
    milliseconds: int | None
    started: str | None

    @property
    def failed(self) -> bool:
        return self.status is not None and (self.status >= 400 or self.status <= 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, whole. Bodies are cut."""

    row: Row
    status_text: str
    query: list[_Pair]
    request_headers: list[_Pair]
    response_headers: list[_Pair]
    sent: str
    received: str
    timings: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class HarPage:
    rows: list[Row]
    total: int
    page: int
    entry: Entry | None


async def page(storage: Storage, file: ResultFile, number: int, entry: int | None) -> HarPage | str:
    """A page of a file's requests, and the one with this number. Or why there is none, as a sentence."""
    if file.size > MOST_BYTES:
        return "A HAR file of more than 10 MiB is shown as text."
    if not _READING.acquire(blocking=False):
        return "Another HAR file is being read, so this one is shown as text. Reload the page for its requests."
    try:
        raw = await storage.read(file.storage_path, file.size, 0, file.size)
        return await aside(len(raw or b""), read, raw or b"", number, entry)
    finally:
        _READING.release()


def read(raw: bytes, number: int, entry: int | None) -> HarPage | str:
    try:
        entries = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf"), type=_Har).log.entries
    except (msgspec.DecodeError, RecursionError):
        return "This file is no HAR, so it is shown as text."
    number = max(1, min(number, -(-len(entries) // ROWS)))
    first = (number - 1) * ROWS
    rows = [_row(at, each) for at, each in enumerate(entries[first : first + ROWS], first + 1)]
    chosen = _whole(entry, entries[entry - 1]) if entry is not None and entry <= len(entries) else None
    return HarPage(rows, len(entries), number, chosen)


def _row(number: int, entry: _Entry) -> Row:
    request, response = _decoded(entry.request, _Request), _decoded(entry.response, _Response)
    body = response.content or _Body()
    return Row(
        number,
        request.method[:50],
        request.url[:2000],
        _integer(response.status),
        body.mime_type[:100] if body.mime_type else None,
        _integer(body.size),
        _integer(entry.time),
        entry.started_date_time[:50] if entry.started_date_time else None,
    )


def _whole(number: int, entry: _Entry) -> Entry:
    request, response = _decoded(entry.request, _Request), _decoded(entry.response, _Response)
    try:
        timings = msgspec.json.decode(entry.timings, type=dict[str, Any])
    except msgspec.DecodeError:
        timings = {}
    known = {name[:50]: _integer(value) for name, value in list(timings.items())[:20]}
    return Entry(
        _row(number, entry),
        (response.status_text or "")[:200],
        request.query_string[:200],
        request.headers[:200],
        response.headers[:200],
        ((request.post_data and request.post_data.text) or "")[: _LONGEST + 1],
        ((response.content and response.content.text) or "")[: _LONGEST + 1],
        [(name, value) for name, value in known.items() if value is not None and value >= 0],
    )


def _decoded(raw: Raw, kind: Any) -> Any:
    """A part of an entry; an empty one when it has other types."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        return kind()


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if abs(value) < 2**53 else None
