"""The page of one file of a result: text, JSON, recorded requests, page source, video, PDF, image, or what it is."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.background import aside
from server.http import html
from server.http.reply import Response
from server.reports import har, result_files, results, text_files
from server.reports.har import HarPage
from server.reports.result_files import ResultFile
from server.services import CALL, SERVICES
from server.storage.folder import Storage
from server.viewer import ansi, json_tree, render
from server.viewer.filters import FilteredAddress

_Number = Annotated[int, Meta(ge=1, le=10**12)]


class FileQuery(Struct):
    """The state of the page. `view`: another than the first one. `line`: to show the page with this line; `end`: the
    last page. `find`: to list the lines that have it. `entry`: the request of a HAR to show whole. `step`: where to
    seek in a video."""

    view: Literal["text", "rendered"] | None = None
    page: _Number = 1
    line: _Number | None = None
    end: bool = False
    find: Annotated[str, Meta(max_length=200)] | None = None
    wrap: Literal["no"] | None = None
    entry: _Number | None = None
    step: Annotated[str, Meta(max_length=50)] | None = None


@dataclass(slots=True)
class _Shown:
    """What of the file the page shows. `note`: why it is not shown as its type says."""

    kind: str
    missing: bool = False
    note: str = ""
    text: text_files.TextPage | None = None
    found: text_files.Found | None = None
    tree: json_tree.Node | None = None
    requests: HarPage | None = None
    steps: list[tuple[str, results.Row, float]] = field(default_factory=list)
    rows: int = 0


async def show(request: web.Request, case_id: UUID, artifact_id: UUID, query: FileQuery) -> Response:
    """The page of a file."""
    reads, storage = request[CALL].reads, request.app[SERVICES].storage
    head = await results.head_of(reads, case_id, request[CALL].scope)
    file = await result_files.of_case(reads, case_id, artifact_id)
    shown = await _of_kind(storage, file, query)
    if shown.kind == "video" and file.captured_at is not None and not shown.missing:
        shown.steps = _seekable(await results.rows_of(reads, case_id, file.iteration), file)
    here = FilteredAddress.of(request.path, request.query, query.__struct_fields__)
    values = {"head": head, "file": file, "shown": shown, "query": query, "here": here, "painter": ansi.Painter()}
    status = 410 if shown.missing else 200
    return await html.page(request, partial(render.page, "file.html", **values), rows=shown.rows, status=status)


async def _of_kind(storage: Storage, file: ResultFile, query: FileQuery) -> _Shown:
    shown = _Shown(file.kind)
    if await storage.read(file.storage_path, file.size, 0, 0) is None:
        return _Shown("missing", missing=True)
    if file.kind == "har" and query.view != "text":
        found = await har.page(storage, file, query.page, query.entry)
        if isinstance(found, HarPage):
            shown.requests, shown.rows = found, len(found.rows)
            return shown
        shown.note = found
    if file.kind in ("json", "har") and query.view != "text" and query.find is None and query.line is None:
        shown.tree = await _tree(storage, file)
        if shown.tree is not None:
            shown.kind, shown.note, shown.rows = "json", "", file.size >> 7
            return shown
        shown.note = shown.note or "This JSON is shown as text: it is wrong, or has more than 1 MiB or 5,000 values."
    if file.text_encoding is None or (file.kind == "html" and query.view == "rendered"):
        return shown
    return await _as_text(storage, file, query, shown)


async def _tree(storage: Storage, file: ResultFile) -> json_tree.Node | None:
    if file.size > json_tree.MOST_BYTES:
        return None
    raw = await storage.read(file.storage_path, file.size, 0, file.size)
    return await aside(file.size, _parse, raw or b"", file.text_encoding or "utf-8")


def _parse(raw: bytes, encoding: str) -> json_tree.Node | None:
    name = encoding if encoding.startswith("utf-16") else "utf-8"
    return json_tree.tree(raw.decode(name, "replace").removeprefix("\ufeff"))


async def _as_text(storage: Storage, file: ResultFile, query: FileQuery, shown: _Shown) -> _Shown:
    shown.kind = "html" if file.kind == "html" else "text"
    shown.text = await text_files.page(storage, file, query.page, query.line, query.end)
    if query.find is not None and shown.text is not None:
        shown.found = await text_files.find(storage, file, query.find, ansi.removed)
    if shown.text is None:
        return _Shown("missing", missing=True)
    shown.rows = len(shown.text.lines) + (sum(map(len, shown.text.lines)) >> 5)  # a line may have 512 KiB of colours
    return shown


def _seekable(rows: list[results.Row], file: ResultFile) -> list[tuple[str, results.Row, float]]:
    """The steps and when in the video they began, in seconds: if it began before the first of them. A time that lies
    later is that of its end."""
    began: datetime | None = file.captured_at
    timed: list[tuple[str, Any, Any]] = [(f"{file.iteration}.{row.number}", row, row.started_at) for row in rows]
    timed = [each for each in timed if each[2] is not None]
    if began is None or not timed or timed[0][2] < began:
        return []
    return [(at, row, (started - began).total_seconds()) for at, row, started in timed]
