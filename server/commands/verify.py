"""`reportd verify`: plays the documents' own steps against a running server and prints what came back.

CHECKS says what is asked and expected. None of the server's own types is used: their mistakes would hide themselves.
"""

import json
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg

from server.database.queries import SQL

BASE = "/api/v1/reports"
TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
NOTED = ("Location", "X-Request-Id")  # headers that help to find out why
DATABASE_ERRORS = (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError)
ANSWERS = f"""
Steps are rows of the table test_step_results, artifacts rows of test_artifacts; --dsn counts them.
Files are on the server's local disk, below its [artifacts] storage_path; no cloud is involved.
The download_url of an artifact is {BASE}/artifacts/<id>/download.
The server logs each request, and what went wrong, to its standard error, with the reply's X-Request-Id.
"""


class Away(Exception):
    """No further check makes sense; the text says why."""


class Miss(Exception):
    """An endpoint did not do what it should: what came back instead, and the word for it."""

    def __init__(self, said: str, word: str = "WRONG") -> None:
        super().__init__(said)
        self.word = word


class Made(dict[str, str]):
    """The ids that the server gave out so far, by their names in CHECKS."""

    def __missing__(self, name: str) -> str:
        raise Miss(f"needs {{{name}}}, which was not made", "not tried")


@dataclass(frozen=True)
class New:
    """Expects an id, which has this name from then on."""

    name: str


@dataclass
class Play:
    """One run through the checks."""

    url: str
    http: aiohttp.ClientSession
    database: Any
    made: Made = field(default_factory=Made)
    status: int | str = ""  # of the reply to the check in progress

    async def fetch(self, endpoint: str, status: int, **options: Any) -> tuple[aiohttp.ClientResponse, bytes]:
        """The reply and its body. Raises Miss for another status."""
        method, _, path = filled(endpoint, self.made).partition(" ")
        try:
            url = self.url + BASE + path
            async with self.http.request(method, url, allow_redirects=False, **options) as reply:
                body = await reply.read()
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise Away(f"{self.url or 'the empty word'} is no --url like http://127.0.0.1:8000") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Away(f"{self.url} does not answer: {_said(error)}") from None
        self.status = reply.status
        if reply.status == 401:
            raise Away(f"{self.url} does not take this token: {_detail(body)}")
        if reply.status != status:
            notes = [f"({name}: {reply.headers[name]})" for name in NOTED if name in reply.headers]
            raise Miss(" ".join([_detail(body), *notes]), "NO" if reply.status in (404, 405, 501) else "WRONG")
        return reply, body

    async def show(self, endpoint: str, check: "Check") -> bool:
        """Makes one check and prints its row; whether it found what it should."""
        self.status, word = "", "yes"
        try:
            said = await check(self, endpoint)
        except Miss as miss:
            word, said = miss.word, str(miss)
        except Away as away:
            _print_row(endpoint, "?", str(away))
            raise
        _print_row(endpoint, word, f"{self.status} {said}".strip())
        return word == "yes"


Check = Callable[[Play, str], Awaitable[str]]


def call(status: int, fact: str, expected: Any = None, form: Callable[[], Any] | None = None, **options: Any) -> Check:
    """Sends a request; the reply is JSON as `expected`, see `compare`. `{name}` in strings is an id made before."""

    async def check(play: Play, endpoint: str) -> str:
        sent, wanted = {"data": form()} if form else filled(options, play.made), filled(expected, play.made)
        _, body = await play.fetch(endpoint, status, **sent)
        try:
            found = json.loads(body or b"null")
        except (ValueError, RecursionError):
            raise Miss(f"no JSON: {_detail(body)}") from None
        compare(found, wanted, play.made)
        return str(filled(fact, play.made))

    return check


def download(number: int) -> Check:
    async def check(play: Play, endpoint: str) -> str:
        reply, body = await play.fetch(endpoint, 200)
        if body != png(number):
            raise Miss(f"{len(body)} bytes that are not the {len(png(number))} sent")
        names = {"Content-Type": "image/png", "Content-Disposition": f'inline; filename="step_00{number}.png"'}
        compare({name: reply.headers.get(name) for name in names}, names, play.made)
        return f"{len(body)} bytes, as sent"

    return check


def count(table: str, sent: int) -> Check:
    async def check(play: Play, _: str) -> str:
        queries = SQL.verify
        query = queries.test_artifacts if table == "test_artifacts" else queries.test_step_results
        try:
            found = await play.database.fetchval(query, [play.made["case_s0"], play.made["case_s1"]])
        except DATABASE_ERRORS as error:
            raise Miss(_said(error)) from None
        if found != sent:
            raise Miss(f"{found} rows, {sent} sent")
        return f"{found} rows, {sent} sent"

    return check


def pictures(name: str, *numbers: int, **fields: str) -> Callable[[], aiohttp.FormData]:
    """A form with files; a function, as a form can be sent only once."""

    def form() -> aiohttp.FormData:
        data = aiohttp.FormData(fields)
        for number in numbers:
            data.add_field(name, png(number), filename=f"step_00{number}.png", content_type="image/png")
        return data

    return form


def png(number: int) -> bytes:
    """A small picture in one colour, another one for each number."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size, pixels = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0), (b"\0" + bytes([number * 60, 120, 180]) * 32) * 32
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def filled(value: Any, made: Made) -> Any:
    """`value` with ids in place of their names."""
    if isinstance(value, dict):
        return {key: filled(item, made) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, made) for item in value]
    return value.format_map(made) if isinstance(value, str) else value


def compare(found: Any, expected: Any, made: Made, place: str = "the reply") -> None:
    """Raises Miss where `found` is not as expected. Further keys are fine; a type stands for any value of it."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            compare(found.get(key), value, made, f"{place}.{key}".removeprefix("the reply."))
    elif isinstance(expected, list) and isinstance(found, list):
        if len(found) != len(expected):
            raise Miss(f"{place} has {len(found)} entries, not {len(expected)}")
        for i, value in enumerate(expected):
            compare(found[i], value, made, f"{place}[{i}]")
    elif isinstance(expected, New) and isinstance(found, str):
        made[expected.name] = found
    elif found != expected and not (isinstance(expected, type) and isinstance(found, expected)):
        raise Miss(f"{place} is {found!r:.80}, not {expected!r:.80}")


def _picture(name: str | New, number: int) -> dict[str, Any]:
    """What a reply says of an uploaded png(number)."""
    of_file = {"file_name": f"step_00{number}.png", "file_size": len(png(number)), "mime_type": "image/png"}
    return {"id": name, "artifact_type": "screenshot", "step_number": number, **of_file, "download_url": str}


RUN = {"name": "reportd verify", "tags": ["verify"]}
CASE = {"name": "log in", "status": "Failed", "duration_ms": 1850}
STEPS_S0: list[dict[str, Any]] = [
    {"step_number": 1, "action": "navigate", "status": "Passed", "screenshot_path": "step_001.png"},
    {"step_number": 2, "action": "click", "status": "Passed", "duration_ms": 250},
    {"step_number": 3, "action": "fill", "status": "Failed", "error_message": "Element not found: #username"},
]
STEPS_S1: list[dict[str, Any]] = [
    {"step_number": 1, "step_type": "navigate", "status": "Passed", "started_at": "2026-01-24T12:00:00.000Z"},
    {"step_number": 2, "step_type": "click", "status": "Failed", "stack_trace": "Traceback:\n  File"},
]
METADATA = json.dumps([{"file_index": i, "artifact_type": "screenshot", "step_number": i + 1} for i in (0, 1)])
FORM_S0 = pictures("file", 1, artifact_type="screenshot", step_number="1")
FORM_S1 = pictures("files", 1, 2, metadata=METADATA)
CHECKPOINT = {"checkpoint_number": 1, "name": "Logged in", "status": "Failed"}
CONSOLE = {"level": "error", "message": "Uncaught TypeError", "step_number": 2}
NETWORK = {"method": "GET", "url": "https://example.com/login", "status_code": 200}
# Step 1 is linked to the picture of step 2: what the server links by itself cannot pass for it.
LINK = {"screenshot_artifact_id": "{artifact_2}"}

MADE_S0 = {"created": 3, "steps": [{"id": str, "test_case_result_id": "{case_s0}", **step} for step in STEPS_S0]}
READ_S0 = [{**STEPS_S0[0], "screenshot_artifact_id": "{artifact}", "artifacts": [{"id": "{artifact}"}]}, *STEPS_S0[1:]]
MADE_S1 = {"message": str, "step_ids": [New("step_1"), New("step_2")], "test_case_result_id": "{case_s1}"}
BATCH = {"message": str, "artifacts": [_picture(New(f"artifact_{i}"), i) for i in (1, 2)], "failed": []}
SHOWN_S1 = {"screenshot": {"id": "{artifact_2}", "url": BASE + "/artifacts/{artifact_2}/download"}, **LINK}
COUNTS_S1 = {"total_steps": 2, "passed_steps": 1, "failed_steps": 1, "skipped_steps": 0}
READ_S1 = {**COUNTS_S1, "steps": [{**step, **SHOWN_S1} for step in STEPS_S1]}
LIST_S1 = {"total": 2, "page": 1, "per_page": 100, "items": [_picture(f"{{artifact_{i}}}", i) for i in (1, 2)]}
SHOWN = {**_picture("{artifact_2}", 2), "checksum": str, "download_url": BASE + "/artifacts/{artifact_2}/download"}

S0, S1 = "/test-case-results/{case_s0}", "/test-case-results/{case_s1}"
ARRAY, OBJECT = {"shape": "array"}, {"shape": "object"}  # whatever this server's default is
CHECKS: list[tuple[str, Check]] = [
    ("POST /suite-runs", call(201, "suite run {run}", {"id": New("run"), **RUN}, json=RUN)),
    ("POST /suite-runs/{run}/test-cases", call(201, "a test case", {"id": New("case_s0"), **CASE}, json=CASE)),
    ("POST /suite-runs/{run}/test-cases", call(201, "a second one", {"id": New("case_s1"), **CASE}, json=CASE)),
    (f"POST {S0}/steps/bulk", call(201, "3 steps with ids", MADE_S0, json={"steps": STEPS_S0})),
    (f"POST {S0}/artifacts", call(201, "an artifact", _picture(New("artifact"), 1), FORM_S0)),
    (
        f"GET {S0}/steps?include_artifacts=true",
        call(200, "S0's array: 3 steps, 1 with its screenshot", READ_S0, params=ARRAY),
    ),
    (f"GET {S0}/artifacts", call(200, "S0's array: 1 artifact", [_picture("{artifact}", 1)], params=ARRAY)),
    ("GET /artifacts/{artifact}/download", download(1)),
    (f"POST {S1}/steps", call(201, "2 step ids", MADE_S1, json={"steps": STEPS_S1})),
    (f"POST {S1}/artifacts/batch", call(201, "2 artifacts, none refused", BATCH, FORM_S1)),
    ("PATCH /steps/{step_1}", call(200, "linked", {"id": "{step_1}", "message": str, **LINK}, json=LINK)),
    (
        f"GET {S1}/steps?include_artifacts=true",
        call(200, "S1's object: 2 steps, 2 with screenshots", READ_S1, params=OBJECT),
    ),
    (f"GET {S1}/artifacts", call(200, "S1's page: 2 artifacts", LIST_S1, params=OBJECT)),
    ("GET /artifacts/{artifact_2}", call(200, "its metadata", SHOWN)),
    ("GET /artifacts/{artifact_2}/download", download(2)),
    (f"POST {S1}/checkpoints", call(201, "1 created", {"created": 1}, json={"checkpoints": [CHECKPOINT]})),
    (f"GET {S1}/checkpoints", call(200, "1, as sent", {"total": 1, "items": [CHECKPOINT]})),
    (f"POST {S1}/console-logs", call(201, "1 created", {"created": 1}, json={"entries": [CONSOLE]})),
    (f"GET {S1}/console-logs", call(200, "1, as sent", {"total": 1, "items": [CONSOLE]})),
    (f"POST {S1}/network-logs", call(201, "1 created", {"created": 1}, json={"entries": [NETWORK]})),
    (f"GET {S1}/network-logs", call(200, "1, as sent", {"total": 1, "items": [NETWORK]})),
]
ROWS = [
    ("rows in test_step_results", count("test_step_results", 5)),
    ("rows in test_artifacts", count("test_artifacts", 3)),
]
REMOVAL = ("DELETE /suite-runs/{run}", call(204, "all of this is removed, rows and files"))


async def verify(url: str, token: str, dsn: str | None) -> int:
    """0 when every endpoint did what it should, else 1. Prints a table; removes what it made."""
    try:
        async with AsyncExitStack() as stack:
            database = None
            if dsn is not None:
                database = await _connect(dsn)
                stack.callback(database.terminate)
            headers = {"Authorization": f"Bearer {token}"}
            http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers, timeout=TIMEOUT))
            missed = await _play(Play(url, http, database))
    except Away as away:
        print(f"reportd: {_clean(str(away))}", file=sys.stderr)
        return 1
    print(ANSWERS)
    print(f"{missed} of these rows are not as they should be." if missed else "Every endpoint does what it should.")
    return 1 if missed else 0


async def _connect(dsn: str) -> Any:
    try:
        return await asyncpg.connect(dsn, timeout=10, command_timeout=30, statement_cache_size=0)
    except DATABASE_ERRORS as error:
        raise Away(f"The database of --dsn does not answer: {_said(error)}") from None


async def _play(play: Play) -> int:
    """How many checks missed. Raises Away; if from the first request on, without a table."""
    with suppress(Miss):  # a knock at the door; what is wrong behind it, the table says
        await play.fetch("GET /suite-runs?limit=1", 200)
    _print_row(f"ENDPOINT, below {BASE}", "IMPLEMENTED", "WHAT CAME BACK")
    missed = 0
    try:
        for endpoint, check in [*CHECKS, *(ROWS if play.database else [])]:
            missed += not await play.show(endpoint, check)
    finally:
        missed += not await play.show(*REMOVAL)
    return missed


def _print_row(endpoint: str, word: str, said: str) -> None:
    print(f"{endpoint:62}  {word:11}  {_clean(said)}", flush=True)


def _detail(body: bytes) -> str:
    """The sentence of an error reply, or the beginning of what is none."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return str(json.loads(body)["detail"])
    return body[:80].decode(errors="replace")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _clean(text: str) -> str:
    """One line that a terminal can show."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]
