"""Path traversal in URLs and file names. Uses plain sockets, because HTTP clients normalize the URLs they send."""

import asyncio
import json
import os
import re
from urllib.parse import quote

import pytest

from server.routes import PAGES, ROUTES
from tests.forms import CONTENT_TYPE, a_body, a_field, a_part, post, single
from tests.test_access import make_things as make_things
from tests.test_access import snapshot as snapshot  # fixtures

TEXT = b"what an artifact holds"
SECRET = b"what no artifact holds"  # of the same length
# Must not be in a refusal: the docs page, metrics, files of the machine or the server, and storage paths.
LEAKS = re.compile(rb"<!doctype|# HELP|root:x|what an artifact|what no artifact|Traceback|/artifacts/20\d\d/")

# `{file}` is the URL path of a download, `{id}` the id of its artifact, `{path}` its path in the storage folder.
NO_ROUTE = [
    *(
        "{file}/",
        "{file}//",
        "/{file}",
        "{file}/.",
        "{file}/..",
        "{file}/%2e%2e",
        "{file}/..%2f..",
        "{file}%00",
        "{file}.",
    ),
    *("{file}%20", "{file};a=b", "{file}%3f", "{file}%23", "{file}%0d%0aX:y", "{file}%5c", "{file}\\", "{file}%"),
    *(
        "{file}%c0%80",
        "{file}%ff",
        "{file}%u002e",
        "/x/..{file}",
        "/.{file}",
        "/%2e{file}",
        "/..{file}",
        "/%2e%2e{file}",
    ),
    *("/..;{file}", "/%2f{file}", "//x{file}", "/api/../..{file}", "/api%2fv1/reports/artifacts/{id}/download"),
    *("/api/v1/reports/artifacts/./{id}/download", "/api/v1/reports/artifacts/x/../{id}/download"),
    *("/api/v1/reports/artifacts//{id}/download", "/api/v1/reports/artifacts/{id}//download"),
    *("/api/v1/reports/artifacts/{id}/./download", "/api/v1/reports/artifacts/{id}/Download"),
    *("/api/v1/reports/artifacts\\{id}\\download", "/API/V1/reports/artifacts/{id}/download"),
    "/api/v1/reports/artifacts/../../../../../etc/passwd",
    *("/{path}", "/artifacts/{path}", "/_files/{path}", "/_files/../{path}", "/.content/", "/.staging/", "/.reportd"),
    *("/docs/", "/docs/.", "/docs/..", "/docs/../healthz", "/docs/..%2fhealthz", "/docs/%2e%2e/healthz", "/docs//"),
    *(
        "/docs%00",
        "/docs%00.html",
        "/docs.",
        "/docs..",
        "/docs%20",
        "/docs%09",
        "/docs;",
        "/docs;x=y",
        "/docs%3b",
        "/DOCS",
    ),
    *("/docs%2f", "/docs%5c", "/docs\\", "/docs/..\\..\\", "/docs%3f", "/docs%23", "/docs%", "/docs%2", "/docs%zz"),
    *("/docs%c0%80", "/docs%ff", "/%c0%ae%c0%ae/docs", "/%c0%af", "/%e0%80%af", "/%f0%80%80%af", "/%ef%bc%8e/docs"),
    *("//docs", "///docs", "//evil.example/docs", "/./docs", "/%2e/docs", "/../docs", "/..%2fdocs", "/%2e%2e%2fdocs"),
    *("/%252e%252e/docs", "/%25%32%66docs", "/..;/docs", "/docs.html", "/docs/docs.html", "/server/http/docs.html"),
    *(
        "/static/../server/app.py",
        "/etc/passwd",
        "/%2fetc%2fpasswd",
        "/..%5c..%5cetc%5cpasswd",
        "/healthz/%2e%2e/metrics",
    ),
    *("/a" * 4000, "/%2e%2e" * 1100, "/..%2f" * 1300, "http://x/../docs", "http://x//docs"),
]
NO_ARTIFACT = [
    *("{id}%2f", "{id}%00", "{id}%20", "{id}.", "{id}.png", "{id};a=b", "%20{id}", "..%2f{id}", "{id}%252f", "-{id}"),
    *(
        "..",
        "%2e%2e",
        "%2e%2e%2f" * 20 + "etc%2fpasswd",
        "..%5c..%5cetc%5cpasswd",
        "%00",
        "%ff",
        "%c0%ae%c0%ae",
        "x" * 7000,
    ),
    *("{path_quoted}", "%7b{id}%7d", "{id}%2fdownload%2f..", "*", "~", "%25", "%", "%0d%0aX-Accel-Redirect:%20x"),
]
NO_REQUEST = [
    *(
        "\\docs",
        "docs",
        "../docs",
        "",
        "?",
        "#",
        "*",
        "/docs\0",
        "/docs\x7f",
        "/do\tcs",
        "/docs\x01",
        "/docs\xff",
        "/docs\xc0\xae",
    ),
    *("{file}\0", "{file}\xff", "/\xef\xbc\x8e\xef\xbc\x8e/docs", "/..\x00/docs"),
    *(
        "http:docs",
        "http:/docs",
        "http:///docs",
        "http://",
        "http://x:99999/docs",
        "http://[::1/docs",
        "http://u:p@x/docs",
    ),
    *(
        "http://localhost@x/docs",
        "file:///etc/passwd",
        "file://x/etc/passwd",
        "ftp://x/docs",
        "javascript:alert(1)",
        "x:docs",
    ),
]
# Equivalent spellings of valid URLs (RFC 3986, 6.2.2).
SAME_PAGE = ["/d%6fcs", "/docs?../../etc/passwd", "/docs?%00", "http://x/docs", "HTTP://x/docs", "https://x/docs"]
SAME_FILE = ["{file}", "{file}?x=../..", "{FILE}", "http://x{file}"]


@pytest.fixture
async def artifact(client, case_url):
    status, got = await post(client, f"{await case_url()}/artifacts", single(TEXT, "a.txt", "text/plain"))
    assert status == 201, got
    return got | {"path": got["storage_path"].removeprefix("artifacts/")}


@pytest.fixture
def send(client):
    """await send(method, target, …): sends exactly this target. Returns status, head and body of the reply."""

    async def exchange(
        method: str, target: str, *headers: str, body: bytes = b"", client=client
    ) -> tuple[int, bytes, bytes]:
        bearer = f"Authorization: {client.session.headers['Authorization']}"
        lines = [f"{method} {target} HTTP/1.1", "Host: x", bearer, *headers, f"Content-Length: {len(body)}"]
        reader, writer = await asyncio.open_connection(client.host, client.port)
        try:
            writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body)
            async with asyncio.timeout(60):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        return int(head.split()[1]), head, body

    return exchange


def filled(target: str, artifact: dict) -> str:
    url = artifact["download_url"]
    upper = url.replace(artifact["id"], artifact["id"].upper())
    for name, value in {"id": artifact["id"], "file": url, "FILE": upper, "path": artifact["path"]}.items():
        target = target.replace("{" + name + "}", value)
    return target.replace("{path_quoted}", quote(artifact["path"], safe=""))


def check_refusal(reply: tuple[int, bytes, bytes], status: int, code: str, of: str) -> None:
    """Assert that the reply is this JSON error of the API, and that it leaks nothing."""
    found, head, body = reply
    assert (found, json.loads(body)["code"]) == (status, code), (of, reply)
    assert b"\r\nContent-Type: application/json" in head and b"nosniff" in head and b"X-Accel-Redirect" not in head, of
    assert not LEAKS.search(head + body) and b"\r\nX:" not in head and b"\r\nLocation" not in head, of


async def test_a_target_that_is_not_exactly_a_route_is_refused(send, artifact, snapshot, start):
    """Also with [artifacts] accel_redirect, where nginx would send any file that the server names."""
    before = snapshot()
    accelerated = await start(artifacts={"accel_redirect": "/_files/"})
    before = snapshot()
    below = [f"/api/v1/reports/artifacts/{each}/download" for each in NO_ARTIFACT]
    for client in ({}, {"client": accelerated}):
        for method in ("GET", "DELETE"):
            for targets, status, code in [
                (NO_ROUTE, 404, "route_not_found"),
                (below, 404, "artifact_not_found") if method == "GET" else ([], 0, ""),
                (NO_REQUEST, 400, "malformed_request"),
            ]:
                for target in targets:
                    reply = await send(method, filled(target, artifact), **client)
                    check_refusal(reply, status, code, f"{method} {target!r:.200}")
    for target in SAME_PAGE:
        status, _, body = await send("GET", filled(target, artifact))
        assert status == 200 and body.startswith(b"<!doctype html>"), target
    for target in SAME_FILE:
        assert (await send("GET", filled(target, artifact)))[::2] == (200, TEXT), target
        _, head, _ = await send("GET", filled(target, artifact), client=accelerated)
        assert f"\r\nX-Accel-Redirect: /_files/{artifact['path']}\r\n".encode() in head, target
    assert snapshot() == before


TRICKS = {
    "a slash": lambda path: f"{path}/",
    "a slash, encoded": lambda path: f"{path}%2f",
    "the last slash, encoded": lambda path: "%2F".join(path.rsplit("/", 1)),
    "the last slash twice": lambda path: "//".join(path.rsplit("/", 1)),
    "the last slash the other way": lambda path: "\\".join(path.rsplit("/", 1)),
    "down and up": lambda path: f"{path}/x/..",
    "up and down": lambda path: f"/x/..{path}",
    "up from the top": lambda path: f"/..{path}",
    "up from the top, encoded": lambda path: f"/%2e%2e{path}",
    "encoded twice": lambda path: path.replace("/", "%252f"),
    "here": lambda path: f"/.{path}",
    "two slashes": lambda path: f"/{path}",
    "NUL": lambda path: f"{path}%00",
    "NUL and an ending": lambda path: f"{path}%00.png",
    "a dot": lambda path: f"{path}.",
    "a space": lambda path: f"{path}%20",
    "a parameter": lambda path: f"{path};x=y",
    "a parameter in the middle": lambda path: ";x=y/".join(path.rsplit("/", 1)),
    "capitals": lambda path: path.upper(),
    "overlong": lambda path: "%c0%af".join(path.rsplit("/", 1)),
    "no UTF-8": lambda path: f"{path}%ff",
    "no ASCII": lambda path: f"{path}\xff",
    "long": lambda path: path + "x" * 7000,
}


async def test_no_route_is_reached_by_a_manipulated_path(send, make_things, snapshot):
    """No request changes data, although its token would be allowed to do so on the real route."""
    ids = await make_things()
    before, requests = snapshot(), 0
    for route in ROUTES:
        path = route.path.format_map(ids)
        for name, trick in TRICKS.items():
            reply = await send(route.method, trick(path), "Content-Type: application/json", body=b'{"name": "x"}')
            requests += 1
            status, head, body = reply
            # An index is a value: what is wrong with it is said together with what is wrong in the body.
            refused = (400, 404, 405, 415, 422) if "{index}" in route.path else (400, 404, 405, 415)
            assert status in refused and json.loads(body)["request_id"], (route.path, name, reply)
            assert b"\r\nContent-Type: application/json" in head and not LEAKS.search(body), (route.path, name)
    assert requests == len(ROUTES) * len(TRICKS) and snapshot() == before


async def test_no_page_is_reached_by_a_manipulated_path(send, make_things, snapshot):
    """Such an address is refused by JSON, or by a page where an id in it is wrong."""
    ids = {**await make_things(), "at": "1.1", "project": "default"}
    before, pages = snapshot(), [route for route in PAGES if route.path != "/"]
    for route in pages:
        path = route.path.format_map(ids)
        for name, trick in TRICKS.items():
            form = "Content-Type: application/x-www-form-urlencoded"
            status, _, body = await send(route.method, trick(path), form, body=b"theme=dark")
            assert status in (400, 404, 405), (route.path, name, status)
            assert not LEAKS.search(body.removeprefix(b"<!doctype")), (route.path, name)
    assert snapshot() == before


WRITTEN = [
    *(
        '"../../../../etc/passwd"',
        '"..\\..\\..\\evil.png"',
        '"/etc/passwd"',
        '"C:\\evil.png"',
        '".."',
        '"."',
        '""',
        "../../evil",
    ),
    *(
        '"a/../../evil.png"',
        '"....//....//evil.png"',
        '"%2e%2e%2f%2e%2e%2fevil.png"',
        '"..%c0%af..%c0%afevil.png"',
        '"~/evil"',
    ),
    *(
        '"evil.png\0.txt"',
        '"evil.png."',
        '"evil.png "',
        '"evil.png;.txt"',
        '"CON"',
        '"evil::$DATA"',
        '"-rf"',
        '"$(id)`id`"',
    ),
    *(
        "\"x\"; filename*=UTF-8''..%2f..%2fevil.png",
        "\"x\"; filename*=UTF-8''%00..%2fevil.png",
        '"' + "../" * 1000 + 'evil.png"',
    ),
    *(
        '"\xff\xfe/../evil.png"',
        '"\xc0\xae\xc0\xae/evil.png"',
        '"\xef\xbc\x8e\xef\xbc\x8e\xef\xbc\x8fevil.png"',
        '".reportd"',
    ),
    *('".staging/evil.png"', '".content/evil.png"', '"2026/01/01/evil.png"', '"evil\n../x.png"', '"<script>.png"'),
]


@pytest.mark.parametrize("step", [None, 7])
async def test_a_file_name_cannot_lead_to_another_folder(client, case_url, storage, stored_files, tmp_path, step):
    """Paths in other form fields are ignored, or stored as plain text."""
    (tmp_path / "evil.png").write_bytes(SECRET)
    case = await case_url()
    case_id = case.rpartition("/")[2]
    lies = {"storage_path": "../evil.png", "file_name": "../evil.png", "path": "/etc/passwd", "description": "../../x"}
    for number, written in enumerate(WRITTEN):
        fields = [a_field("artifact_type", "log"), *(a_field(*each) for each in lies.items())]
        fields += [a_field("step_number", str(step))] if step is not None else []
        disposition = f'Content-Disposition: form-data; name="file"; filename={written}'
        part = a_part(b"%d" % number, "X: y").replace(b"X: y", disposition.encode("latin-1"))
        async with client.post(
            f"{case}/artifacts", data=a_body(*fields, part), headers={"Content-Type": CONTENT_TYPE}
        ) as reply:
            got = await reply.json()
            assert reply.status == 201, (written, got)
        path = got["storage_path"].removeprefix("artifacts/")
        assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/{case_id}/[A-Za-z0-9_-][A-Za-z0-9._-]*\.txt", path), (written, path)
        assert not set(got["file_name"]) & set("/\\\0\n") and got["file_name"] not in (".", ".."), written
        assert (storage / path).read_bytes() == b"%d" % number
    assert len(stored_files()) == len(WRITTEN)
    assert (tmp_path / "evil.png").read_bytes() == SECRET
    assert {path.name for path in tmp_path.iterdir()} == {"artifacts", "evil.png"}


async def test_the_screenshot_path_of_a_step_is_not_opened(client, case_url, snapshot):
    case = await case_url()
    step = {"step_number": 1, "step_type": "click", "screenshot_path": "../../../../etc/passwd"}
    assert (await client.post(f"{case}/steps", json={"steps": [step]})).status == 201
    for url in (f"{case}/steps?include_artifacts=true", f"{case}/report"):
        text = await (await client.get(url)).text()
        assert "root:" not in text and '"screenshot":null' in text


# --- manipulated rows and files ---------------------------------------------------------------------------------


@pytest.fixture(params=["", "/_files/"], ids=["sent by the server", "sent by nginx"])
async def reader(start, request):
    """A client of a server that sends files itself, and of one that lets nginx send them."""
    return await start(artifacts={"accel_redirect": request.param})


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "2026/../../secret", "..", "a/..", "../artifacts/../secret"]
)
async def test_a_storage_path_outside_the_folder_is_neither_read_nor_deleted(
    reader, send, artifact, rows, tmp_path, path, caplog
):
    """Such a row could come from a restored backup or from another program."""
    (tmp_path / "secret").write_bytes(SECRET)
    rows("UPDATE test_artifacts SET storage_path = %s", path)
    check_refusal(await send("GET", artifact["download_url"], client=reader), 410, "artifact_content_missing", path)
    status, head, _ = await send("DELETE", f"/api/v1/reports/artifacts/{artifact['id']}", client=reader)
    assert status == 204 and b"secret" not in head and (tmp_path / "secret").read_bytes() == SECRET
    levels = [record.levelname for record in caplog.records if "cannot unlink" in record.getMessage()]
    assert levels == ["ERROR", "ERROR"]  # a DELETE tries once more


async def test_a_symlink_or_special_file_in_place_of_a_file_is_not_read(send, artifact, storage, tmp_path):
    """Otherwise an account that may write into the storage folder could read any file through the server."""
    (tmp_path / "secret").write_bytes(SECRET)
    file = storage / artifact["path"]
    for plant in (
        lambda: file.symlink_to(tmp_path / "secret"),
        lambda: file.symlink_to(file),
        lambda: os.mkfifo(file),
        lambda: file.mkdir(),
        lambda: os.mknod(file) if os.geteuid() else os.mknod(file, 0o020600, os.makedev(1, 5)),
    ):
        file.unlink()
        plant()
        check_refusal(await send("GET", artifact["download_url"]), 410, "artifact_content_missing", str(os.lstat(file)))
        if file.is_dir():
            file.rmdir()
            file.touch()
