"""`reportd verify` against `reportd up`, and against servers that are not what they should be."""

import asyncio
import contextlib
import io
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
S0, S1 = "/test-case-results/{case_s0}", "/test-case-results/{case_s1}"
NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/nothing"


def files(server: UpServer) -> list[Path]:
    return sorted(path for path in server.data.joinpath("artifacts").rglob("*") if path.is_file())


def rows_of(output: str) -> dict[str, tuple[str, str]]:
    """The table: (implemented, what came back) by endpoint; the last one where an endpoint occurs twice."""
    lines = output.partition("\n\n")[0].splitlines()
    split = [re.split(r"\s{2,}", line, maxsplit=2) for line in lines]
    assert split[0][1:] == ["IMPLEMENTED", "WHAT CAME BACK"]
    return {endpoint: (word, said) for endpoint, word, said in split[1:]}


@contextlib.asynccontextmanager
async def serving(handler) -> AsyncIterator[str]:
    """The address of a server on which everything is answered by `handler`."""
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
    """The address of a proxy to the server. What `change(request, body of the reply)` returns, if anything, is
    answered in place of the server's reply."""

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
def test_a_right_server_passes_and_nothing_is_left(up_server, shape, with_rows):
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
        f"POST {S0}/steps/bulk": "201 3 steps with ids",
        f"GET {S0}/steps?include_artifacts=true": "200 S0's array: 3 steps, 1 with its screenshot",
        f"POST {S1}/artifacts/batch": "201 2 artifacts, none refused",
        "PATCH /steps/{step_1}": "200 linked",
        f"GET {S1}/network-logs": "200 1, as sent",
    }
    assert {endpoint: table[endpoint][1] for endpoint in expected} == expected
    counted = [said for endpoint, (_, said) in table.items() if endpoint.startswith("rows in")]
    assert counted == (["5 rows, 5 sent", "3 rows, 3 sent"] if with_rows else [])
    for answer in ("test_step_results", "test_artifacts", "storage_path", f"{BASE}/artifacts/<id>/download"):
        assert answer in done.stdout.partition("\n\n")[2]
    assert up_server.ask_json("GET", f"{BASE}/suite-runs") == runs
    assert files(up_server) == stored


def test_its_pictures_are_whole():
    pictures = [verify.png(number) for number in (1, 2)]
    for picture in pictures:
        Image.open(io.BytesIO(picture)).load()
    assert pictures[0] != pictures[1]


async def test_a_server_without_the_api_misses_everything(capsys):
    async def nothing(request: web.Request) -> web.Response:
        return web.Response(status=404, text="404: Not Found")

    async with serving(nothing) as url:
        assert await verify.verify(url, "token", None) == 1
    table = rows_of(capsys.readouterr().out)
    assert table.pop("POST /suite-runs") == ("NO", "404 404: Not Found")
    assert {word for word, _ in table.values()} == {"not tried"}


async def test_a_server_that_answers_anything_passes_nothing(capsys):
    async def empty(request: web.Request) -> web.Response:
        return web.json_response([], status=201 if request.method == "POST" else 200)

    async with serving(empty) as url:
        assert await verify.verify(url, "token", None) == 1
    table = rows_of(capsys.readouterr().out)
    assert table["POST /suite-runs"][0] == "WRONG"
    assert "yes" not in {word for word, _ in table.values()}


async def test_a_server_that_never_answers_is_given_up(capsys, monkeypatch):
    async def hang(request: web.Request) -> web.Response:
        await given_up.wait()
        return web.Response()

    given_up = asyncio.Event()
    assert verify.TIMEOUT.total and verify.TIMEOUT.total <= 60
    monkeypatch.setattr(verify, "TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    async with serving(hang) as url:
        try:
            assert await asyncio.wait_for(verify.verify(url, "token", None), PATIENCE) == 1
        finally:
            given_up.set()
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(rf"reportd: {url} does not answer: .+\n", said.err)


# Which endpoint lies, how, and what verify says of it.
LIES = {
    "S0's complaint": (
        lambda r, body: r.path.endswith("/steps") and r.method == "GET" and web.json_response([]),
        {
            f"GET {S0}/steps?include_artifacts=true": "200 the reply has 0 entries, not 3",
            f"GET {S1}/steps?include_artifacts=true": "200 the reply is [], not {",
        },
    ),
    "no batch": (
        lambda r, body: r.path.endswith("/batch") and web.json_response({"detail": "no such thing"}, status=404),
        {
            f"POST {S1}/artifacts/batch": "404 no such thing",
            "PATCH /steps/{step_1}": "needs {artifact_2}",
            f"GET {S1}/steps?include_artifacts=true": "needs {artifact_2}",
            f"GET {S1}/artifacts": "needs {artifact_1}",
            "GET /artifacts/{artifact_2}": "needs {artifact_2}",
            "GET /artifacts/{artifact_2}/download": "needs {artifact_2}",
        },
    ),
    "one bit": (
        lambda r, body: (
            r.path.endswith("/download")
            and web.Response(body=body[:-1] + b"x", content_type="image/png", headers={"Content-Disposition": "inline"})
        ),
        {
            "GET /artifacts/{artifact}/download": "200 99 bytes that are not the 99 sent",
            "GET /artifacts/{artifact_2}/download": "200 98 bytes that are not the 98 sent",
        },
    ),
    "a page in place of JSON": (
        lambda r, body: r.path.endswith("/checkpoints") and r.method == "GET" and web.Response(text="<html>\n<body>"),
        {f"GET {S1}/checkpoints": "200 no JSON: <html> <body>"},
    ),
    "trouble": (
        lambda r, body: (
            r.path.endswith("/steps/bulk")
            and web.json_response({"detail": "Oh no"}, status=500, headers={"X-Request-Id": "r1"})
        ),
        {f"POST {S0}/steps/bulk": "500 Oh no (X-Request-Id: r1)"},
    ),
    "another status": (
        lambda r, body: r.path.endswith("/console-logs") and r.method == "POST" and web.Response(body=body),
        {
            f"POST {S1}/console-logs": '200 {"created":1}',
        },
    ),
    "a link that is not kept": (
        lambda r, body: (
            r.path.startswith(f"{BASE}/steps/")
            and web.Response(body=body.replace(re.findall(rb'screenshot_artifact_id":"([^"]*)', body)[0], b"null"))
        ),
        {"PATCH /steps/{step_1}": "200 screenshot_artifact_id is 'null', not "},
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_server_that_lies_is_found_out_and_left_clean(up_server, capsys, lie):
    change, expected = LIES[lie]
    runs, stored = up_server.ask_json("GET", f"{BASE}/suite-runs"), files(up_server)
    async with in_front_of(up_server, change) as url:
        assert await verify.verify(url, up_server.token, None) == 1
    output = capsys.readouterr().out
    table = rows_of(output)
    missed = {endpoint: said for endpoint, (word, said) in table.items() if word != "yes"}
    assert set(missed) == set(expected)
    for endpoint, said in expected.items():
        assert missed[endpoint].startswith(said)
    assert f"\n{len(expected)} of these rows are not as they should be." in output
    assert up_server.ask_json("GET", f"{BASE}/suite-runs") == runs
    assert files(up_server) == stored


def test_a_database_of_another_server_is_found_out(up_server, dsn):
    done = reportd("verify", "--url", up_server.url, "--token", up_server.token, "--dsn", dsn)
    assert (done.returncode, done.stderr) == (1, "")
    missed = {endpoint: row for endpoint, row in rows_of(done.stdout).items() if row[0] != "yes"}
    assert missed == {
        "rows in test_step_results": ("WRONG", "0 rows, 5 sent"),
        "rows in test_artifacts": ("WRONG", "0 rows, 3 sent"),
    }


async def test_a_server_that_goes_away_is_said(up_server, capsys):
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
    said = capsys.readouterr()
    table = rows_of(said.out)
    assert list(table)[-2:] == [f"POST {S0}/steps/bulk", "DELETE /suite-runs/{run}"]
    assert table[f"POST {S0}/steps/bulk"][0] == "?"
    assert said.err.startswith(f"reportd: {url} does not answer") and said.err.count("\n") == 1
    assert up_server.ask_json("GET", f"{BASE}/suite-runs") == runs


async def test_ctrl_c_leaves_nothing(up_server):
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
    ("options", "said"),
    [
        ({"--token": "wrong"}, "does not take this token: A valid token is needed"),
        ({"--token": "€\n"}, "does not answer: "),
        ({"--url": "http://127.0.0.1:1"}, "does not answer: Cannot connect to host 127.0.0.1"),
        ({"--url": "http://nowhere.invalid"}, "http://nowhere.invalid does not answer: Cannot connect"),
        ({"--url": "127.0.0.1:8000"}, "127.0.0.1:8000 is no --url like http://127.0.0.1:8000"),
        ({"--url": ""}, "the empty word is no --url like http://"),
        ({"--dsn": NOWHERE}, "The database of --dsn does not answer: "),
        ({"--dsn": "nonsense"}, "The database of --dsn does not answer: invalid DSN"),
    ],
    ids=str,
)
def test_what_cannot_work_is_said_in_one_line(up_server, options, said):
    given = {"--url": up_server.url, "--token": up_server.token, **options}
    done = reportd("verify", *(word for option in given.items() for word in option))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("reportd: ") and said in done.stderr
    assert done.stderr.count("\n") == 1 and "secret" not in done.stderr
