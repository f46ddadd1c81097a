"""`reportd verify`: sends the requests of the two specification documents to a running server and checks the replies.

CHECKS lists each request, as the documents' clients send it, and its expected reply. The module uses none of the
server's own types: a mistake in a type would otherwise occur on both sides and stay hidden.
"""

import json
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import asyncpg

from server.database.queries import SQL

BASE = "/api/v1/reports"
IDENTITY = "/api/v1/auth/session"
ROLES = ["viewer", "uploader", "admin"]
TIMEOUT = aiohttp.ClientTimeout(total=60, connect=10)
REPORTED_HEADERS = ("Location", "X-Request-Id")  # of an unexpected reply: they help to find the cause
DATABASE_ERRORS = (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError)
NOTES = f"""
Steps are rows of the table test_step_results, artifacts are rows of test_artifacts; --dsn counts both.
Files are on the server's local disk, below its [artifacts] storage_path; no cloud storage is involved.
The download_url of an artifact is {BASE}/artifacts/<id>/download.
The server logs each request and each error to its standard error, with the X-Request-Id of the reply.
"""
ABOUT_SHAPES = {
    "object": """\
Without ?shape= this token gets lists as objects, as the specification describes. A client of the sync document expects
arrays: create a token for it with `reportd token create --shape array`, or set [api] collection_shape = "array".""",
    "array": """\
Without ?shape= this token gets lists as arrays, as the sync document describes. A client of the specification expects
objects: create a token for it with `reportd token create --shape object`.""",
}


class CannotContinue(Exception):
    """No further check is possible; the message gives the reason."""


class Miss(Exception):
    """A check failed. The message says how, `word` goes into the column IMPLEMENTED."""

    def __init__(self, text: str, word: str = "WRONG") -> None:
        super().__init__(text)
        self.word = word


class Ids(dict[str, str]):
    """The ids that the server has assigned so far, by their names in CHECKS."""

    def __missing__(self, name: str) -> str:
        raise Miss(f"needs {{{name}}}, which was not created", "not tried")


@dataclass(frozen=True)
class New:
    """Matches any string, and stores it in Ids under this name."""

    name: str


@dataclass
class Session:
    """One run of all checks."""

    url: str
    http: aiohttp.ClientSession
    database: Any
    ids: Ids = field(default_factory=Ids)
    status: int | str = ""  # of the latest reply
    shape: str | None = None  # the form of lists that were requested without ?shape=: array or object
    skipped: str | None = None  # why the created run is not removed

    async def fetch(
        self, endpoint: str, status: int, base: str = BASE, **options: Any
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """The reply and its body. Raises Miss for another status, CannotContinue when no reply arrives or it is 401."""
        method, _, path = filled(endpoint, self.ids).partition(" ")
        try:
            url = self.url + base + path
            async with self.http.request(method, url, allow_redirects=False, **options) as reply:
                body = await reply.read()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CannotContinue(f"{self.url} does not answer: {_reason(error)}") from None
        self.status = reply.status
        if reply.status == 401:
            raise CannotContinue(f"{self.url} rejects this token: {_detail(body)}")
        if reply.status != status:
            headers = [f"({name}: {reply.headers[name]})" for name in REPORTED_HEADERS if name in reply.headers]
            raise Miss(" ".join([_detail(body), *headers]), "NO" if reply.status in (404, 405, 501) else "WRONG")
        return reply, body

    async def fetch_json(self, endpoint: str, status: int, **options: Any) -> Any:
        _, body = await self.fetch(endpoint, status, **options)
        try:
            return json.loads(body or b"null")
        except (ValueError, RecursionError):
            raise Miss(f"not JSON: {_detail(body)}") from None

    async def run(self, endpoint: str, check: "Check") -> bool:
        """Run one check and print its row; whether it passed."""
        self.status, word = "", "yes"
        try:
            result = await check(self, endpoint)
        except Miss as miss:
            word, result = miss.word, str(miss)
        except CannotContinue as error:
            _print_row(endpoint, "?", str(error))
            raise
        _print_row(endpoint, word, f"{self.status} {result}".strip())
        return word == "yes"


Check = Callable[[Session, str], Awaitable[str]]


def call(status: int, fact: str, expected: Any = None, form: Callable[[], Any] | None = None, **options: Any) -> Check:
    """A check that sends a request and compares its JSON reply. `{name}` in a string stands for an id of Ids."""

    async def check(session: Session, endpoint: str) -> str:
        sent, wanted = {"data": form()} if form else filled(options, session.ids), filled(expected, session.ids)
        compare(await session.fetch_json(endpoint, status, **sent), wanted, session.ids)
        return str(filled(fact, session.ids))

    return check


def either(fact: str, array: list[Any], whole: dict[str, Any]) -> Check:
    """A check of a list that is requested without `?shape=`, as both documents do: token and configuration decide which
    form it has, and it must be the same form each time."""

    async def check(session: Session, endpoint: str) -> str:
        wanted = {"array": filled(array, session.ids), "object": filled(whole, session.ids)}
        found = await session.fetch_json(endpoint, 200)
        shape = "array" if isinstance(found, list) else "object"
        compare(found, wanted[shape], session.ids)
        session.shape = session.shape or shape
        if shape != session.shape:
            raise Miss(f"{shape} form, but the list before it had the {session.shape} form")
        return f"{shape} form: {fact}"

    return check


def download(number: int) -> Check:
    async def check(session: Session, endpoint: str) -> str:
        reply, body = await session.fetch(endpoint, 200)
        if body != png(number):
            raise Miss(f"{len(body)} bytes that differ from the {len(png(number))} sent")
        names = {"Content-Type": "image/png", "Content-Disposition": f'inline; filename="step_00{number}.png"'}
        compare({name: reply.headers.get(name) for name in names}, names, session.ids)
        return f"{len(body)} bytes, as sent"

    return check


def count(table: str, sent: int) -> Check:
    async def check(session: Session, _: str) -> str:
        queries = SQL.verify
        query = queries.test_artifacts if table == "test_artifacts" else queries.test_step_results
        try:
            found = await session.database.fetchval(query, [session.ids["case_1"], session.ids["case_2"]])
        except DATABASE_ERRORS as error:
            raise Miss(_reason(error)) from None
        if found != sent:
            raise Miss(f"{found} rows, {sent} sent")
        return f"{found} rows, {sent} sent"

    return check


def pictures(name: str, *numbers: int, **fields: str) -> Callable[[], aiohttp.FormData]:
    """A function that makes a form with files: aiohttp can send a form only once."""

    def form() -> aiohttp.FormData:
        data = aiohttp.FormData(fields)
        for number in numbers:
            data.add_field(name, png(number), filename=f"step_00{number}.png", content_type="image/png")
        return data

    return form


def png(number: int) -> bytes:
    """A small PNG image of one colour, different for each number."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size, pixels = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0), (b"\0" + bytes([number * 60, 120, 180]) * 32) * 32
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def filled(value: Any, ids: Ids) -> Any:
    """`value` with each `{name}` replaced by its id."""
    if isinstance(value, dict):
        return {key: filled(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, ids) for item in value]
    return value.format_map(ids) if isinstance(value, str) else value


def compare(found: Any, expected: Any, ids: Ids, place: str = "the reply") -> None:
    """Raise Miss where `found` differs from `expected`. Additional keys are ignored; a type matches any value of it."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            compare(found.get(key), value, ids, f"{place}.{key}".removeprefix("the reply."))
    elif isinstance(expected, list) and isinstance(found, list):
        if len(found) != len(expected):
            raise Miss(f"{place} has {len(found)} entries, not {len(expected)}")
        for i, value in enumerate(expected):
            compare(found[i], value, ids, f"{place}[{i}]")
    elif isinstance(expected, New) and isinstance(found, str):
        ids[expected.name] = found
    elif found != expected and not (isinstance(expected, type) and isinstance(found, expected)):
        raise Miss(f"{place} is {found!r:.80}, not {expected!r:.80}")


def _picture(name: str | New, number: int) -> dict[str, Any]:
    """The expected metadata of an uploaded png(number)."""
    of_file = {"file_name": f"step_00{number}.png", "file_size": len(png(number)), "mime_type": "image/png"}
    return {"id": name, "artifact_type": "screenshot", "step_number": number, **of_file, "download_url": str}


RUN = {"name": "reportd verify", "tags": ["verify"]}
CASE = {"name": "log in", "status": "Failed", "duration_ms": 1850}
STEPS_1: list[dict[str, Any]] = [
    {"step_number": 1, "action": "navigate", "status": "Passed", "screenshot_path": "step_001.png"},
    {"step_number": 2, "action": "click", "status": "Passed", "duration_ms": 250},
    {"step_number": 3, "action": "fill", "status": "Failed", "error_message": "Element not found: #username"},
]
STEPS_2: list[dict[str, Any]] = [
    {"step_number": 1, "step_type": "navigate", "status": "Passed", "started_at": "2026-01-24T12:00:00.000Z"},
    {"step_number": 2, "step_type": "click", "status": "Failed", "stack_trace": "Traceback:\n  File"},
]
METADATA = json.dumps([{"file_index": i, "artifact_type": "screenshot", "step_number": i + 1} for i in (0, 1)])
FORM_1 = pictures("file", 1, artifact_type="screenshot", step_number="1")
FORM_2 = pictures("files", 1, 2, metadata=METADATA)
CHECKPOINT = {"checkpoint_number": 1, "name": "Logged in", "status": "Failed"}
CONSOLE = {"level": "error", "message": "Uncaught TypeError", "step_number": 2}
NETWORK = {"method": "GET", "url": "https://example.com/login", "status_code": 200}
# Links step 1 to the image of step 2: the server itself would only link each step to its own image.
LINK = {"screenshot_artifact_id": "{artifact_2}"}

CREATED_1 = {"created": 3, "steps": [{"id": str, "test_case_result_id": "{case_1}", **step} for step in STEPS_1]}
READ_1 = [{**STEPS_1[0], "screenshot_artifact_id": "{artifact}", "artifacts": [{"id": "{artifact}"}]}, *STEPS_1[1:]]
WHOLE_1 = {"total_steps": 3, "passed_steps": 2, "failed_steps": 1, "steps": READ_1}
LIST_1 = [_picture("{artifact}", 1)]
CREATED_2 = {"message": str, "step_ids": [New("step_1"), New("step_2")], "test_case_result_id": "{case_2}"}
BATCH = {"message": str, "artifacts": [_picture(New(f"artifact_{i}"), i) for i in (1, 2)], "failed": []}
SHOWN_2 = {"screenshot": {"id": "{artifact_2}", "url": BASE + "/artifacts/{artifact_2}/download"}, **LINK}
COUNTS_2 = {"total_steps": 2, "passed_steps": 1, "failed_steps": 1, "skipped_steps": 0}
STEPS_READ_2 = [{**step, **SHOWN_2} for step in STEPS_2]
READ_2 = {**COUNTS_2, "steps": STEPS_READ_2}
ITEMS_2 = [_picture(f"{{artifact_{i}}}", i) for i in (1, 2)]
LIST_2 = {"total": 2, "page": 1, "per_page": 100, "items": ITEMS_2}
SHOWN = {**_picture("{artifact_2}", 2), "checksum": str, "download_url": BASE + "/artifacts/{artifact_2}/download"}

# Test case 1 follows the sync document, test case 2 the specification.
CASE_1, CASE_2 = "/test-case-results/{case_1}", "/test-case-results/{case_2}"
WITH_ARTIFACTS = "steps?include_artifacts=true"
CHECKS: list[tuple[str, Check]] = [
    ("POST /suite-runs", call(201, "suite run {run}", {"id": New("run"), **RUN}, json=RUN)),
    ("POST /suite-runs/{run}/test-cases", call(201, "a test case", {"id": New("case_1"), **CASE}, json=CASE)),
    ("POST /suite-runs/{run}/test-cases", call(201, "another test case", {"id": New("case_2"), **CASE}, json=CASE)),
    (f"POST {CASE_1}/steps/bulk", call(201, "3 steps with ids", CREATED_1, json={"steps": STEPS_1})),
    (f"POST {CASE_1}/artifacts", call(201, "an artifact", _picture(New("artifact"), 1), FORM_1)),
    (f"GET {CASE_1}/{WITH_ARTIFACTS}", either("3 steps, 1 with its screenshot", READ_1, WHOLE_1)),
    (f"GET {CASE_1}/artifacts", either("1 artifact", LIST_1, {"total": 1, "items": LIST_1})),
    (f"GET {CASE_1}/{WITH_ARTIFACTS}&shape=array", call(200, "array form: 3 steps", READ_1)),
    (f"GET {CASE_1}/artifacts?shape=array", call(200, "array form: 1 artifact", LIST_1)),
    ("GET /artifacts/{artifact}/download", download(1)),
    (f"POST {CASE_2}/steps", call(201, "2 step ids", CREATED_2, json={"steps": STEPS_2})),
    (f"POST {CASE_2}/artifacts/batch", call(201, "2 artifacts, none refused", BATCH, FORM_2)),
    ("PATCH /steps/{step_1}", call(200, "screenshot linked", {"id": "{step_1}", "message": str, **LINK}, json=LINK)),
    (f"GET {CASE_2}/{WITH_ARTIFACTS}", either("2 steps, 2 with screenshots", STEPS_READ_2, READ_2)),
    (f"GET {CASE_2}/artifacts", either("2 artifacts", ITEMS_2, LIST_2)),
    (f"GET {CASE_2}/{WITH_ARTIFACTS}&shape=object", call(200, "object form: 2 steps", READ_2)),
    (f"GET {CASE_2}/artifacts?shape=object", call(200, "object form: 2 artifacts", LIST_2)),
    ("GET /artifacts/{artifact_2}", call(200, "metadata of the artifact", SHOWN)),
    ("GET /artifacts/{artifact_2}/download", download(2)),
    (f"POST {CASE_2}/checkpoints", call(201, "1 created", {"created": 1}, json={"checkpoints": [CHECKPOINT]})),
    (f"GET {CASE_2}/checkpoints", call(200, "1 checkpoint, as sent", {"total": 1, "items": [CHECKPOINT]})),
    (f"POST {CASE_2}/console-logs", call(201, "1 created", {"created": 1}, json={"entries": [CONSOLE]})),
    (f"GET {CASE_2}/console-logs", call(200, "1 entry, as sent", {"total": 1, "items": [CONSOLE]})),
    (f"POST {CASE_2}/network-logs", call(201, "1 created", {"created": 1}, json={"entries": [NETWORK]})),
    (f"GET {CASE_2}/network-logs", call(200, "1 entry, as sent", {"total": 1, "items": [NETWORK]})),
]
ROWS = [
    ("rows in test_step_results", count("test_step_results", 5)),
    ("rows in test_artifacts", count("test_artifacts", 3)),
]
REMOVAL = ("DELETE /suite-runs/{run}", call(204, "the run, its rows and its files are removed"))


async def verify(url: str, token: str, dsn: str | None) -> int:
    """Run all checks, print a table and delete the created run; 0 when every check passed, else 1.

    Only an admin may delete the run. With an uploader's token it stays, and the last line of the output says so.
    """
    try:
        address = server_address(url)
        async with AsyncExitStack() as stack:
            database = None
            if dsn is not None:
                database = await _connect(dsn)
                stack.callback(database.terminate)
            headers = {"Authorization": f"Bearer {token}"}
            http = await stack.enter_async_context(aiohttp.ClientSession(headers=headers, timeout=TIMEOUT))
            session = Session(address, http, database)
            failed = await _run_checks(session)
    except CannotContinue as error:
        print(f"reportd: {_clean(str(error))}", file=sys.stderr)
        return 1
    print(NOTES)
    if session.shape is not None:
        print(f"{ABOUT_SHAPES[session.shape]}\n")
    print(f"{failed} checks failed." if failed else "All checks passed.")
    if session.skipped:
        print(f"1 check was skipped: {session.skipped}.")
    return 1 if failed else 0


def server_address(url: str) -> str:
    """The address without a slash at its end. Raises CannotContinue for anything but an address."""
    example = "--url must be like http://127.0.0.1:8000"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise CannotContinue(f"{example}, not '{url}'.")
    if "@" in parts.netloc:
        raise CannotContinue(f"{example}, without a name and password: the token is given with --token.")
    if rest := url.partition("//")[2].removeprefix(parts.netloc).strip("/"):
        raise CannotContinue(f"{example}, without a path: remove '/{rest}'. The command adds the paths itself.")
    return f"{parts.scheme}://{parts.netloc}"


async def _connect(dsn: str) -> Any:
    try:
        return await asyncpg.connect(dsn, timeout=10, command_timeout=30, statement_cache_size=0)
    except DATABASE_ERRORS as error:
        raise CannotContinue(f"The database of --dsn does not answer: {_reason(error)}") from None


async def _run_checks(session: Session) -> int:
    """The number of failed checks. Raises CannotContinue, before any output when the first request fails already."""
    role = await _role(session)
    _print_row(f"ENDPOINT, below {BASE}", "IMPLEMENTED", "REPLY")
    failed = 0
    try:
        for endpoint, check in [*CHECKS, *(ROWS if session.database else [])]:
            failed += not await session.run(endpoint, check)
    finally:
        if role == "uploader" and "run" in session.ids:
            session.skipped = f"only an admin's token may delete the run {session.ids['run']}, so it stays"
            _print_row(REMOVAL[0], "skipped", session.skipped)
        else:
            failed += not await session.run(*REMOVAL)
    return failed


async def _role(session: Session) -> str | None:
    """The token's role, the highest if it has several; None when the server does not say it, and the checks will show
    what the token may do. Raises CannotContinue for a wrong address or token, and for a token that may only read."""
    try:
        identity = await session.fetch_json("GET ", 200, base=IDENTITY)
        role = max((grant["role"] for grant in identity["roles"]), key=ROLES.index)
    except (Miss, TypeError, KeyError, ValueError):
        return None
    if role == "viewer":
        raise CannotContinue("This token has the role viewer and may only read. verify needs an uploader's or admin's.")
    return str(role)


def _print_row(endpoint: str, word: str, result: str) -> None:
    print(f"{endpoint:62}  {word:11}  {_clean(result)}", flush=True)


def _detail(body: bytes) -> str:
    """The `detail` of an error reply, else the beginning of the body."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return str(json.loads(body)["detail"])
    return body[:80].decode(errors="replace")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _clean(text: str) -> str:
    """One printable line, at most 300 characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]
