"""Downloads through nginx: the X-Accel headers of the server, and the replies of a real nginx."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector

from server.http.middleware import SAFE_HEADERS
from server.services import SERVICES
from tests.api.test_downloads import SANDBOX
from tests.forms import PATIENCE, post, single
from tests.makers import html, png
from tests.up_server import wait_for

PREFIX = "/_files/"
PAGE = (Path(__file__).parent.parent.parent / "docs/scaling.md").read_text("utf-8")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
TEXT = b"0123456789" * 1000


@pytest.fixture
async def accelerated(start):
    """A client of a server with `accel_redirect` set. The client sees the X-Accel headers: there is no nginx here."""
    return await start(artifacts={"accel_redirect": PREFIX})


@pytest.fixture
def send(client, case_url):
    """await send(content, name, declared): a new artifact in a new test case, with its `path` in the storage folder."""

    async def sent(content: bytes = TEXT, name: str = "a.txt", declared: str = "text/plain"):
        status, got = await post(client, f"{await case_url()}/artifacts", single(content, name, declared))
        assert status == 201, got
        return {**got, "path": got["storage_path"].removeprefix("artifacts/")}

    return sent


async def fetch(client, artifact, method="GET", query="", **headers):
    """Status, headers and body. Underscores in the names of `headers` become hyphens."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, artifact["download_url"] + query, headers=extra, timeout=PATIENCE) as reply:
        return reply.status, reply.headers, await reply.read()


# --- the reply of the server to nginx -----------------------------------------------------------------------


async def test_the_reply_has_the_path_and_the_headers_for_nginx_and_no_body(accelerated, send):
    artifact = await send(html(), "größe.html", "text/html")
    for method in ("GET", "HEAD"):
        status, headers, body = await fetch(accelerated, artifact, method, "?download=1")
        found = {name.lower(): value for name, value in headers.items()}
        assert found.pop("date") and found.pop("x-request-id")
        assert (status, body, found.pop("content-length", "0")) == (200, b"", "0")
        assert found == {
            "x-accel-redirect": PREFIX + artifact["path"],
            "x-accel-cache-control": "public, max-age=31536000",
            "content-type": "text/html; charset=utf-8",
            "content-disposition": "attachment; filename=\"gr__e.html\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.html",
            "etag": f'"{artifact["checksum"]}"',
            "vary": "Authorization, Cookie",
            "x-content-type-options": "nosniff",
            "cross-origin-resource-policy": "same-origin",
            "content-security-policy": SANDBOX,
            "referrer-policy": "no-referrer",
            "permissions-policy": SAFE_HEADERS["Permissions-Policy"],
            "server": "reportd",
        }


async def test_the_server_ignores_ranges_which_nginx_handles(accelerated, send):
    artifact = await send()
    for asked in ("bytes=0-9", "bytes=0-1,5-6", "nonsense"):
        status, headers, body = await fetch(accelerated, artifact, Range=asked)
        assert (status, body) == (200, b"") and "Content-Range" not in headers
        assert headers["X-Accel-Redirect"] == PREFIX + artifact["path"]


async def test_the_server_does_not_access_the_file(accelerated, send, storage, monkeypatch):
    artifact = await send()

    async def fail(*_):
        raise AssertionError

    monkeypatch.setattr(accelerated.app[SERVICES].storage, "run", fail)
    (storage / artifact["path"]).unlink()
    assert (await fetch(accelerated, artifact))[0] == 200
    status, headers, _ = await fetch(accelerated, artifact, If_None_Match=f'"{artifact["checksum"]}"')
    assert status == 304 and "X-Accel-Redirect" not in headers
    assert headers["Cache-Control"] == "public, max-age=31536000"


async def test_a_refused_request_gets_no_path_for_nginx(accelerated, send, rows):
    artifact = await send()
    assert (await fetch(accelerated, artifact, Authorization="Bearer rpt_wrong"))[0] == 401
    rows("DELETE FROM test_artifacts")
    status, headers, _ = await fetch(accelerated, artifact)
    assert status == 404 and "X-Accel-Redirect" not in headers


async def test_the_server_sends_the_file_itself_for_conditions_that_nginx_does_not_support(accelerated, send):
    artifact = await send()
    tag = f'"{artifact["checksum"]}"'
    for asked in (
        {"If_Match": tag},
        {"If_Unmodified_Since": "Sat, 24 Jan 2026 12:00:00 GMT"},
        {"X_Accel_Redirect": "off"},
    ):
        status, headers, body = await fetch(accelerated, artifact, Range="bytes=0-9", **asked)
        assert (status, body) == (206, TEXT[:10]), asked
        assert "X-Accel-Redirect" not in headers and headers["Cache-Control"] == "public, max-age=31536000"


async def test_every_path_is_percent_encoded(accelerated, send, rows):
    artifact = await send()
    rows("UPDATE test_artifacts SET storage_path = %s", "2026/a b%2F?#\u00e4\r\nX: y.txt")
    _, headers, _ = await fetch(accelerated, artifact)
    assert headers["X-Accel-Redirect"] == f"{PREFIX}2026/a%20b%252F%3F%23%C3%A4%0D%0AX%3A%20y.txt"


# --- the reply of nginx to the client -----------------------------------------------------------------------


@pytest.fixture
async def nginx(accelerated, storage):
    """A client of an nginx that runs in front of the server with the settings in docs/scaling.md."""
    if not NGINX:
        pytest.skip("nginx is not installed")
    (locations,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    locations = locations.replace("127.0.0.1:8000", f"127.0.0.1:{accelerated.port}")
    locations = locations.replace("/var/data/test-artifacts/", f"{storage}/")
    with tempfile.TemporaryDirectory(prefix="reportd-tests-") as folder:  # tmp_path is too long for a socket
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        settings = f"""
            daemon off; pid {folder}/pid; error_log {folder}/error.log; {user}
            events {{}}
            http {{ access_log off; {temporary} server {{ listen unix:{folder}/socket; {locations} }} }}
        """
        (Path(folder) / "nginx.conf").write_text(settings)
        log = Path(folder) / "error.log"
        process = subprocess.Popen([NGINX, "-e", str(log), "-c", f"{folder}/nginx.conf", "-p", folder])
        try:
            wait_for(lambda: (Path(folder) / "pid").exists() and (Path(folder) / "pid").read_text(), log.read_text)
            connector = UnixConnector(f"{folder}/socket")
            headers = {"Authorization": accelerated.session.headers["Authorization"]}
            async with ClientSession("http://nginx", connector=connector, headers=headers) as session:
                yield session
        finally:
            process.terminate()
            process.wait()


async def test_a_download_through_nginx_equals_one_from_the_server(nginx, client, send):
    for content, name, declared in [(png(30, 30), "a.png", "image/png"), (html(), "größe.html", "text/html")]:
        artifact = await send(content, name, declared)
        for method, query, status, asked in [
            ("GET", "", 200, {}),
            ("HEAD", "", 200, {}),
            ("GET", "?download=1", 200, {}),
            ("GET", "", 206, {"Range": "bytes=5-9"}),
            ("GET", "", 206, {"Range": "bytes=-7"}),
            ("GET", "", 206, {"Range": "bytes=5-9", "If_Range": f'"{artifact["checksum"]}"'}),
            ("GET", "", 200, {"Range": "bytes=5-9", "If_Range": '"other"'}),
            ("GET", "", 206, {"Range": "bytes=5-9", "If_Match": f'"{artifact["checksum"]}"'}),
            ("GET", "", 200, {"If_None_Match": '"other"'}),
            ("GET", "", 200, {"If_Modified_Since": "Sat, 24 Jan 2037 12:00:00 GMT"}),
            ("GET", "", 304, {"If_None_Match": f'"{artifact["checksum"]}"'}),
        ]:
            theirs = await fetch(nginx, artifact, method, query, **asked)
            ours = await fetch(client, artifact, method, query, **asked)
            assert theirs[0] == ours[0] == status, asked
            assert theirs[2] == ours[2]
            different = {"Date", "Server", "X-Request-Id", "Connection", *(["Accept-Ranges"] if status == 206 else [])}
            kept = [
                sorted((key.title(), value) for key, value in headers.items() if key.title() not in different)
                for headers in (theirs[1], ours[1])
            ]
            assert kept[0] == kept[1], asked
            assert len(theirs[1].getall("X-Request-Id")) == 1


async def test_nginx_refuses_a_range_outside_of_the_file(nginx, send):
    artifact = await send()
    status, headers, body = await fetch(nginx, artifact, Range="bytes=99999-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(TEXT)}")
    assert headers.getall("Cache-Control") == ["no-store"] and b'"range_not_satisfiable"' in body
    assert (await fetch(nginx, artifact))[::2] == (200, TEXT)


async def test_a_missing_file_behind_nginx_is_reported_logged_and_not_cached(nginx, send, storage, caplog):
    artifact = await send()
    (storage / artifact["path"]).unlink()
    for method in ("GET", "HEAD"):
        status, headers, body = await fetch(nginx, artifact, method, Range="bytes=0-9")
        assert (status, headers.getall("Cache-Control")) == (410, ["no-store"])
        assert "ETag" not in headers and (b'"artifact_content_missing"' in body or method == "HEAD")
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2 and artifact["id"] in errors[0]


async def test_clients_cannot_request_stored_files_from_nginx_directly(nginx, send):
    artifact = await send()
    for path in (f"{PREFIX}{artifact['path']}", f"{PREFIX}.staging/", PREFIX):
        async with nginx.get(path, timeout=PATIENCE) as reply:
            assert reply.status == 404 and TEXT not in await reply.read()
    async with nginx.get(artifact["download_url"], headers={"Authorization": "Bearer rpt_wrong"}) as reply:
        assert reply.status == 401
