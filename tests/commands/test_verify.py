"""`reportd verify` against `reportd up`, and against servers that misbehave."""

import asyncio
import contextlib
import io
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from PIL import Image

from server.commands import verify
from tests.up_server import CHECKOUT, ENVIRONMENT, PATIENCE, REPORTD, UpServer, reportd, up_server

__all__ = ["up_server"]  # a fixture

BASE = "/api/v1/reports"
CASE_1, CASE_2 = "/test-case-results/{case_1}", "/test-case-results/{case_2}"
NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/nothing"


def files(server: UpServer) -> list[Path]:
    return sorted(path for path in server.data.joinpath("artifacts").rglob("*") if path.is_file())


def rows_of(output: str) -> dict[str, tuple[str, str]]:
    """The table as {endpoint: (implemented, reply)}; the last row where an endpoint occurs twice."""
    lines = output.partition("\n\n")[0].splitlines()
    split = [re.split(r"\s{2,}", line, maxsplit=2) for line in lines]
    assert split[0][1:] == ["IMPLEMENTED", "REPLY"]
    return {endpoint: (word, reply) for endpoint, word, reply in split[1:]}


@contextlib.asynccontextmanager
async def serving(handler) -> AsyncIterator[str]:
    """The address of a server on which `handler` answers every request."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def in_front_of(server: UpServer, change) -> AsyncIterator[str]:
    """The address of a proxy to the server. `change(request, body of the reply)` may return a reply that replaces the
    server's."""

    async def forward(request: web.Request) -> web.Response:
        sent, names = await request.read(), ("Authorization", "Content-Type")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        url = server.url + request.path_qs
        async with session.request(request.method, url, data=sent, headers=headers) as reply:
            body, names = await reply.read(), ("Content-Type", "Content-Disposition")
        headers = {name: reply.headers[name] for name in names if name in reply.headers}
        return change(request, body) or web.Response(status=reply.status, body=body, headers=headers)

    async with aiohttp.ClientSession() as session, serving(forward) as url:
        yield url


@pytest.mark.parametrize("shape", ["object", "array"])
@pytest.mark.parametrize("with_rows", [False, True], ids=["over HTTP", "with the rows"])
def test_a_correct_server_passes_and_verify_removes_its_data(up_server, shape, with_rows):
    name = f"verify-{shape}-{with_rows}"
    given = ["--name", name, "--role", "admin", "--shape", shape]
    made = reportd("token", "create", "--data", str(up_server.data), *given)
    runs, stored = up_server.ask_json("GET", f"{BASE}/suite-runs"), files(up_server)
    dsn = ["--dsn", up_server.postgres.dsn()] if with_rows else []
    done = reportd("verify", "--url", f"{up_server.url}/", "--token", made.stdout.strip(), *dsn)
    assert (done.returncode, done.stderr) == (0, "")
    table = rows_of(done.stdout)
    assert {word for word, _ in table.values()} == {"yes"}
    assert list(table)[-1] == "DELETE /suite-runs/{run}"
    expected = {
        f"POST {CASE_1}/steps/bulk": "201 3 steps with ids",
        f"GET {CASE_1}/steps?include_artifacts=true": f"200 {shape} form: 3 steps, 1 with its screenshot",
        f"GET {CASE_2}/artifacts": f"200 {shape} form: 2 artifacts",
        f"GET {CASE_1}/artifacts?shape=array": "200 array form: 1 artifact",
        f"GET {CASE_2}/artifacts?shape=object": "200 object form: 2 artifacts",
        f"POST {CASE_2}/artifacts/batch": "201 2 artifacts, none refused",
        "PATCH /steps/{step_1}": "200 screenshot linked",
        f"GET {CASE_2}/network-logs": "200 1 entry, as sent",
    }
    assert {endpoint: table[endpoint][1] for endpoint in expected} == expected
    counted = [reply for endpoint, (_, reply) in table.items() if endpoint.startswith("rows in")]
    assert counted == (["5 rows, 5 sent", "3 rows, 3 sent"] if with_rows else [])
    for note in ("test_step_results", "test_artifacts", "storage_path", f"{BASE}/artifacts/<id>/download"):
        assert note in done.stdout.partition("\n\n")[2]
    other = {"object": "array", "array": "object"}[shape]
    assert f"this token gets lists as {shape}s" in done.stdout and f"--shape {other}`" in done.stdout
    assert done.stdout.endswith("\nAll checks passed.\n")
    assert up_server.ask_json("GET", f"{BASE}/suite-runs") == runs
    assert files(up_server) == stored


async def test_requests_are_those_of_the_documents(up_server, capsys):
    """No query or header is sent that a row does not show, and each list is also requested without `shape`."""
    sent = set()

    def change(request: web.Request, body: bytes) -> None:
        path = re.sub(r"[0-9a-f-]{36}", "{id}", request.path_qs.removeprefix(BASE))
        sent.add(f"{request.method} {path}")

    async with in_front_of(up_server, change) as url:
        assert await verify.verify(url, up_server.token, None) == 0
    shown = {re.sub(r"{\w+}", "{id}", endpoint) for endpoint in rows_of(capsys.readouterr().out)}
    assert sent == shown | {"GET /api/v1/auth/session"}
    assert {f"GET {CASE_1}/artifacts".replace("case_1", "id"), "POST /test-case-results/{id}/steps/bulk"} <= sent


def test_an_uploader_checks_everything_but_the_removal(up_server):
    token = reportd("token", "create", "--data", str(up_server.data), "--name", "verify-uploader").stdout.strip()
    done = reportd("verify", "--url", up_server.url, "--token", token)
    assert (done.returncode, done.stderr) == (0, "")
    table = rows_of(done.stdout)
    word, reply = table.pop("DELETE /suite-runs/{run}")
    (run,) = re.findall(r"may delete the run (\S+), so it stays", reply)
    assert word == "skipped" and {word for word, _ in table.values()} == {"yes"}
    assert f"All checks passed.\n1 check was skipped: {reply}.\n" in done.stdout
    assert up_server.ask("DELETE", f"{BASE}/suite-runs/{run}").status == 204


def test_a_viewer_cannot_verify(up_server):
    made = reportd("token", "create", "--data", str(up_server.data), "--name", "verify-viewer", "--role", "viewer")
    done = reportd("verify", "--url", up_server.url, "--token", made.stdout.strip())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "This token has the role viewer and may only read." in done.stderr


def test_the_folder_of_a_server_names_its_address_and_token(up_server, tmp_path):
    done = reportd("verify", "--data", str(up_server.data))
    assert (done.returncode, done.stderr) == (0, "") and "All checks passed." in done.stdout
    done = reportd("verify", "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"reportd: No `reportd up` serves in {tmp_path}. ")
    done = reportd("verify", "--data", str(up_server.data), "--url", up_server.url)
    assert done.returncode == 2 and "--url: not allowed with argument --data" in done.stderr


def test_the_uploaded_images_are_valid_png():
    pictures = [verify.png(number) for number in (1, 2)]
    for picture in pictures:
        Image.open(io.BytesIO(picture)).load()
    assert pictures[0] != pictures[1]


async def test_without_the_api_every_check_fails(capsys):
    async def nothing(request: web.Request) -> web.Response:
        return web.Response(status=404, text="404: Not Found")

    async with serving(nothing) as url:
        assert await verify.verify(url, "token", None) == 1
    table = rows_of(capsys.readouterr().out)
    assert table.pop("POST /suite-runs") == ("NO", "404 404: Not Found")
    assert {word for word, _ in table.values()} == {"not tried"}


async def test_a_server_that_always_replies_an_empty_list_passes_no_check(capsys):
    async def empty(request: web.Request) -> web.Response:
        return web.json_response([], status=201 if request.method == "POST" else 200)

    async with serving(empty) as url:
        assert await verify.verify(url, "token", None) == 1
    table = rows_of(capsys.readouterr().out)
    assert table["POST /suite-runs"][0] == "WRONG"
    assert "yes" not in {word for word, _ in table.values()}


async def test_a_server_that_never_replies_runs_into_the_timeout(capsys, monkeypatch):
    async def hang(request: web.Request) -> web.Response:
        await finished.wait()
        return web.Response()

    finished = asyncio.Event()
    assert verify.TIMEOUT.total and verify.TIMEOUT.total <= 60
    monkeypatch.setattr(verify, "TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    async with serving(hang) as url:
        try:
            assert await asyncio.wait_for(verify.verify(url, "token", None), PATIENCE) == 1
        finally:
            finished.set()
    printed = capsys.readouterr()
    assert printed.out == "" and re.fullmatch(rf"reportd: {url} does not answer: .+\n", printed.err)


# By name: how the proxy falsifies replies, and the failed rows that verify must print.
LIES = {
    "steps are always empty": (
        lambda r, body: r.path.endswith("/steps") and r.method == "GET" and web.json_response([]),
        {
            f"GET {CASE_1}/steps?include_artifacts=true": "200 the reply has 0 entries, not 3",
            f"GET {CASE_1}/steps?include_artifacts=true&shape=array": "200 the reply has 0 entries, not 3",
            f"GET {CASE_2}/steps?include_artifacts=true": "200 the reply has 0 entries, not 2",
            f"GET {CASE_2}/steps?include_artifacts=true&shape=object": "200 the reply is [], not {",
        },
    ),
    "one list has the other form": (
        lambda r, body: (
            r.path_qs.endswith("/artifacts") and r.method == "GET" and web.json_response(json.loads(body)["items"])
        ),
        {
            f"GET {CASE_1}/artifacts": "200 array form, but the list before it had the object form",
            f"GET {CASE_2}/artifacts": "200 array form, but the list before it had the object form",
        },
    ),
    "the shape is ignored": (
        lambda r, body: (
            r.path_qs.endswith("shape=array") and r.path.endswith("/artifacts") and web.json_response({"items": []})
        ),
        {f"GET {CASE_1}/artifacts?shape=array": "200 the reply is {'items': []}, not ["},
    ),
    "no batch endpoint": (
        lambda r, body: r.path.endswith("/batch") and web.json_response({"detail": "no such thing"}, status=404),
        {
            f"POST {CASE_2}/artifacts/batch": "404 no such thing",
            "PATCH /steps/{step_1}": "needs {artifact_2}",
            f"GET {CASE_2}/steps?include_artifacts=true": "needs {artifact_2}",
            f"GET {CASE_2}/steps?include_artifacts=true&shape=object": "needs {artifact_2}",
            f"GET {CASE_2}/artifacts": "needs {artifact_1}",
            f"GET {CASE_2}/artifacts?shape=object": "needs {artifact_1}",
            "GET /artifacts/{artifact_2}": "needs {artifact_2}",
            "GET /artifacts/{artifact_2}/download": "needs {artifact_2}",
        },
    ),
    "a wrong byte": (
        lambda r, body: (
            r.path.endswith("/download")
            and web.Response(body=body[:-1] + b"x", content_type="image/png", headers={"Content-Disposition": "inline"})
        ),
        {
            "GET /artifacts/{artifact}/download": "200 99 bytes that differ from the 99 sent",
            "GET /artifacts/{artifact_2}/download": "200 98 bytes that differ from the 98 sent",
        },
    ),
    "HTML instead of JSON": (
        lambda r, body: r.path.endswith("/checkpoints") and r.method == "GET" and web.Response(text="<html>\n<body>"),
        {f"GET {CASE_2}/checkpoints": "200 not JSON: <html> <body>"},
    ),
    "an internal error": (
        lambda r, body: (
            r.path.endswith("/steps/bulk")
            and web.json_response({"detail": "Oh no"}, status=500, headers={"X-Request-Id": "r1"})
        ),
        {f"POST {CASE_1}/steps/bulk": "500 Oh no (X-Request-Id: r1)"},
    ),
    "a wrong status": (
        lambda r, body: r.path.endswith("/console-logs") and r.method == "POST" and web.Response(body=body),
        {
            f"POST {CASE_2}/console-logs": '200 {"created":1}',
        },
    ),
    "a link that is not stored": (
        lambda r, body: (
            r.path.startswith(f"{BASE}/steps/")
            and web.Response(body=body.replace(re.findall(rb'screenshot_artifact_id":"([^"]*)', body)[0], b"null"))
        ),
        {"PATCH /steps/{step_1}": "200 screenshot_artifact_id is 'null', not "},
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_wrong_replies_are_found_and_the_run_is_removed(up_server, capsys, lie):
    change, expected = LIES[lie]
    runs, stored = up_server.ask_json("GET", f"{BASE}/suite-runs"), files(up_server)
    async with in_front_of(up_server, change) as url:
        assert await verify.verify(url, up_server.token, None) == 1
    output = capsys.readouterr().out
    table = rows_of(output)
    failed = {endpoint: reply for endpoint, (word, reply) in table.items() if word != "yes"}
    assert set(failed) == set(expected)
    for endpoint, reply in expected.items():
        assert failed[endpoint].startswith(reply)
    assert f"\n{len(expected)} checks failed." in output
    assert up_server.ask_json("GET", f"{BASE}/suite-runs") == runs
    assert files(up_server) == stored


def test_the_database_of_another_server_fails_the_row_counts(up_server, dsn):
    done = reportd("verify", "--url", up_server.url, "--token", up_server.token, "--dsn", dsn)
    assert (done.returncode, done.stderr) == (1, "")
    failed = {endpoint: row for endpoint, row in rows_of(done.stdout).items() if row[0] != "yes"}
    assert failed == {
        "rows in test_step_results": ("WRONG", "0 rows, 5 sent"),
        "rows in test_artifacts": ("WRONG", "0 rows, 3 sent"),
    }


async def test_a_lost_connection_is_reported_and_the_run_is_removed(up_server, capsys):
    gone = False

    def change(request: web.Request, body: bytes) -> web.Response | None:
        nonlocal gone
        gone = gone or request.path.endswith("/steps/bulk")
        if gone and request.method != "DELETE":
            request.transport.abort()
        return None

    runs = up_server.ask_json("GET", f"{BASE}/suite-runs")
    async with in_front_of(up_server, change) as url:
        assert await verify.verify(url, up_server.token, None) == 1
    printed = capsys.readouterr()
    table = rows_of(printed.out)
    assert list(table)[-2:] == [f"POST {CASE_1}/steps/bulk", "DELETE /suite-runs/{run}"]
    assert table[f"POST {CASE_1}/steps/bulk"][0] == "?"
    assert printed.err.startswith(f"reportd: {url} does not answer") and printed.err.count("\n") == 1
    assert up_server.ask_json("GET", f"{BASE}/suite-runs") == runs


async def test_ctrl_c_removes_the_run(up_server):
    def change(request: web.Request, body: bytes) -> None:
        if request.path.endswith("/steps/bulk"):
            process.send_signal(signal.SIGINT)

    runs = up_server.ask_json("GET", f"{BASE}/suite-runs")
    async with in_front_of(up_server, change) as url:
        command = [*REPORTD, "verify", "--url", url, "--token", up_server.token]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, env=ENVIRONMENT, **pipes)
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert (process.returncode, err) == (130, b"")
    assert "/network-logs" not in out.decode()
    assert out.decode().splitlines()[-1].startswith("DELETE /suite-runs/{run}")
    assert up_server.ask_json("GET", f"{BASE}/suite-runs") == runs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"--token": "wrong"}, "rejects this token: A valid token is needed"),
        ({"--token": "€\n"}, "does not answer: "),
        ({"--url": "http://127.0.0.1:1"}, "does not answer: Cannot connect to host 127.0.0.1"),
        ({"--url": "http://nowhere.invalid"}, "http://nowhere.invalid does not answer: Cannot connect"),
        ({"--url": "127.0.0.1:8000"}, "--url must be like http://127.0.0.1:8000, not '127.0.0.1:8000'."),
        ({"--url": ""}, "--url must be like http://127.0.0.1:8000, not ''."),
        ({"--url": "ftp://localhost"}, "--url must be like http://127.0.0.1:8000, not 'ftp://localhost'."),
        (
            {"--url": "http://localhost:99999"},
            "--url must be like http://127.0.0.1:8000, not 'http://localhost:99999'.",
        ),
        ({"--url": "http://[::1"}, "--url must be like http://127.0.0.1:8000, not 'http://[::1'."),
        (
            {"--url": f"http://127.0.0.1:1{BASE}/"},
            f"--url must be like http://127.0.0.1:8000, without a path: remove '{BASE}'. The command adds the paths "
            "itself.",
        ),
        ({"--url": "http://127.0.0.1:1/?x=1"}, "without a path: remove '/?x=1'."),
        ({"--url": "http://anna:secret@127.0.0.1:1"}, "without a name and password: the token is given with --token."),
        ({"--dsn": NOWHERE}, "The database of --dsn does not answer: "),
        ({"--dsn": "nonsense"}, "The database of --dsn does not answer: invalid DSN"),
    ],
    ids=str,
)
def test_errors_are_one_line(up_server, options, message):
    given = {"--url": up_server.url, "--token": up_server.token, **options}
    done = reportd("verify", *(word for option in given.items() for word in option))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("reportd: ") and message in done.stderr
    assert done.stderr.count("\n") == 1 and "secret" not in done.stderr
