"""Downloads: headers, conditional requests, ranges, access, and the replies when the stored file is missing."""

import asyncio
import errno
import io
import os
import re
import threading
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, DummyCookieJar

from server.http.middleware import SAFE_HEADERS
from server.storage.disk import Disk
from tests import makers
from tests.forms import CONTENT_TYPE, PATIENCE, a_body, a_field, a_file, post, single
from tests.makers import png

SANDBOX = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'self'"
)
big_png = cache(makers.big_png)


@pytest.fixture
def send(client, case_url):
    """await send(content, name, declared): a new artifact in a new test case."""

    async def sent(content: bytes, name: str = "step_001.png", declared: str = "image/png"):
        status, got = await post(client, f"{await case_url()}/artifacts", single(content, name, declared))
        assert status == 201, got
        return got

    return sent


async def fetch(client, artifact, method="GET", query="", **headers):
    """Status, headers and body. Underscores in the names of `headers` become hyphens."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, artifact["download_url"] + query, headers=extra, timeout=PATIENCE) as reply:
        return reply.status, reply.headers, await reply.read()


async def test_a_download_has_these_headers_and_no_others(client, send):
    content = png(20, 20)
    artifact = await send(content)
    status, headers, body = await fetch(client, artifact)
    assert (status, body) == (200, content)
    expected = {
        "Content-Type": "image/png",
        "Content-Disposition": 'inline; filename="step_001.png"',
        "Content-Length": str(len(content)),
        "Cache-Control": "public, max-age=31536000",
        "ETag": f'"{artifact["checksum"]}"',
        "Accept-Ranges": "bytes",
        "Vary": "Authorization, Cookie",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Content-Security-Policy": SANDBOX,
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": SAFE_HEADERS["Permissions-Policy"],
        "Server": "reportd",
    }
    found = {name.lower(): value for name, value in headers.items()}
    assert found.pop("date") and found.pop("x-request-id")
    assert found == {name.lower(): value for name, value in expected.items()}


async def test_head_has_the_headers_of_get_and_no_body(client, send):
    artifact = await send(png(20, 20))
    for query, extra in [("", {}), ("?download=1", {}), ("", {"Range": "bytes=0-9"})]:
        _, of_get, _ = await fetch(client, artifact, "GET", query)
        status, of_head, body = await fetch(client, artifact, "HEAD", query, **extra)
        assert body == b"" and status in (200, 206)
        for name in ("Content-Type", "Content-Disposition", "ETag", "Cache-Control", "Content-Security-Policy"):
            assert of_head[name] == of_get[name]
    _, of_head, _ = await fetch(client, artifact, "HEAD")
    assert of_head["Content-Length"] == str(len(png(20, 20)))


async def test_cache_control_can_be_configured(client, start, send):
    artifact = await send(png())
    private = await start(artifacts={"cache_control": "private, no-cache"})
    assert (await fetch(private, artifact))[1]["Cache-Control"] == "private, no-cache"


async def test_each_type_has_its_policy_and_text_its_charset(client, send):
    files = [
        (makers.pdf(), "a.pdf", "application/pdf", "frame-ancestors 'self'"),
        (makers.html(), "a.html", "text/html; charset=utf-8", SANDBOX),
        (makers.text(), "a.log", "text/plain; charset=utf-8", SANDBOX),
        (makers.json(), "a.har", "application/json", SANDBOX),
        (makers.jpeg(), "a.jpg", "image/jpeg", SANDBOX),
        (b"<!DOCTYPE html><script>alert(1)</script>", "evil.png", "text/html; charset=utf-8", SANDBOX),
    ]
    for content, name, content_type, policy in files:
        _, headers, body = await fetch(client, await send(content, name, "application/octet-stream"))
        assert body == content
        assert (headers["Content-Type"], headers["Content-Security-Policy"]) == (content_type, policy), name
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("query", ["?download=1", "?download=true", "?download=TRUE"])
async def test_download_in_the_query_makes_it_an_attachment(client, send, query):
    _, headers, body = await fetch(client, await send(png()), query=query)
    assert headers["Content-Disposition"] == 'attachment; filename="step_001.png"' and body == png()


async def test_a_download_is_inline_by_default(client, send):
    artifact = await send(png())
    for query in ("?download=0", "?download=false", "?download=", "?other=1"):
        _, headers, _ = await fetch(client, artifact, query=query)
        assert headers["Content-Disposition"].startswith("inline;")
    assert (await fetch(client, artifact, query="?download=maybe"))[0] == 422


async def test_file_names_are_quoted_safely(client, case_url):
    names = {
        'say "hi".png': 'inline; filename="say \\"hi\\".png"',
        "a; filename=b.png": 'inline; filename="a; filename=b.png"',
        "größe ✓.png": "inline; filename=\"gr__e _.png\"; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%E2%9C%93.png",
        "日本'%\"*.png": "inline; filename=\"__'%\\\"*.png\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%27%25%22%2A.png",
        "a\r\nSet-Cookie: x=1\r\n\r\n.png": 'inline; filename="aSet-Cookie: x=1.png"',
        "100%.png": 'inline; filename="100%.png"',
    }
    case = await case_url()
    for name, disposition in names.items():
        _, artifact = await post(client, f"{case}/artifacts", single(png(), name))
        _, headers, body = await fetch(client, artifact)
        assert headers["Content-Disposition"] == disposition
        assert body == png() and "Set-Cookie" not in headers


async def test_a_bad_file_name_in_the_database_cannot_inject_a_header(client, send, rows):
    artifact = await send(png())
    rows("UPDATE test_artifacts SET file_name = %s", 'a\r\nSet-Cookie: x=1\r\n\r\n\x7f\\".png')
    status, headers, body = await fetch(client, artifact)
    assert (status, body) == (200, png()) and "Set-Cookie" not in headers
    plain = re.search(r'filename="((?:[^"\\]|\\.)*)"', headers["Content-Disposition"])[1]
    assert plain == 'a__Set-Cookie: x=1_____\\\\\\".png'


# --- conditional requests -----------------------------------------------------------------------------------


async def test_if_none_match_with_the_same_etag_is_a_304(client, send):
    artifact = await send(png())
    tag = f'"{artifact["checksum"]}"'
    for condition in (tag, f"W/{tag}", f'"other", {tag}', f'"a,b",W/{tag} , "c"', "*", f" {tag} "):
        for method in ("GET", "HEAD"):
            status, headers, body = await fetch(client, artifact, method, If_None_Match=condition)
            assert (status, body) == (304, b""), condition
            assert headers["ETag"] == tag and headers["Cache-Control"] == "public, max-age=31536000"
            assert headers["Vary"] == "Authorization, Cookie"
    for condition in ('"other"', 'W/"other"', '""', artifact["checksum"], tag[:-2] + '"', "nonsense", ""):
        status, _, body = await fetch(client, artifact, If_None_Match=condition)
        assert (status, body) == (200, png()), condition


async def test_if_none_match_is_checked_before_the_range(client, send):
    artifact = await send(png())
    status, _, _ = await fetch(client, artifact, If_None_Match="*", Range="bytes=0-9")
    assert status == 304


async def test_a_range_gets_a_206_with_its_bytes(client, send):
    content = bytes(range(65, 91)) * 100
    artifact, size = await send(content, "a.txt", "text/plain"), len(content)
    for asked, first, last in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-9", 0, 9),
        ("bytes=10-", 10, size - 1),
        ("bytes=-10", size - 10, size - 1),
        (f"bytes=-{size + 1}", 0, size - 1),
        (f"bytes=0-{size * 2}", 0, size - 1),
        (f"bytes={size - 1}-", size - 1, size - 1),
        (f"bytes=0-{size - 1}", 0, size - 1),
        (" bytes=5-6 ", 5, 6),
    ]:
        status, headers, body = await fetch(client, artifact, Range=asked)
        assert (status, body) == (206, content[first : last + 1]), asked
        assert headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert headers["Content-Length"] == str(last - first + 1)
        assert headers["ETag"] == f'"{artifact["checksum"]}"'


async def test_ranges_outside_of_the_file_are_a_416(client, send):
    artifact = await send(b"0123456789", "a.txt", "text/plain")
    for asked in ("bytes=10-", "bytes=10-20", "bytes=99-", "bytes=-0", f"bytes={2**70}-"):
        status, headers, body = await fetch(client, artifact, Range=asked)
        assert status == 416 and b"range_not_satisfiable" in body, asked
        assert headers["Content-Range"] == "bytes */10"
        assert headers["Cache-Control"] == "no-store" and headers["Content-Type"] == "application/json"
    assert (await fetch(client, artifact))[::2] == (200, b"0123456789")


MALFORMED = ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=--5", "bytes=1-2-3", "lines=1-2", "bytes 1-2", "1-2"]


async def test_several_and_malformed_ranges_get_the_whole_file(client, send):
    artifact = await send(b"0123456789", "a.txt", "text/plain")
    for asked in ["bytes=0-1,4-5", "bytes=0-1, 2-", *MALFORMED]:
        status, headers, body = await fetch(client, artifact, Range=asked)
        assert (status, body) == (200, b"0123456789"), asked
        assert "Content-Range" not in headers


async def test_huge_numbers_and_other_digits_in_ranges_are_handled(client, send):
    artifact = await send(b"0123456789", "a.txt", "text/plain")
    for asked, status in [
        (f"bytes={'9' * 5000}-", 416),
        (f"bytes=0-{'9' * 5000}", 206),
        (f"bytes=-{'9' * 5000}", 206),
        ("bytes=٣-٥", 200),
    ]:
        assert (await fetch(client, artifact, Range=asked))[0] == status, asked[:20]


async def test_a_range_counts_only_if_if_range_has_the_same_etag(client, send):
    artifact = await send(b"0123456789", "a.txt", "text/plain")
    tag = f'"{artifact["checksum"]}"'
    assert (await fetch(client, artifact, Range="bytes=0-1", If_Range=tag))[::2] == (206, b"01")
    for other in ('"other"', f"W/{tag}", "Sat, 24 Jan 2026 12:00:00 GMT", artifact["checksum"]):
        status, _, body = await fetch(client, artifact, Range="bytes=0-1", If_Range=other)
        assert (status, body) == (200, b"0123456789"), other
    assert (await fetch(client, artifact, Range="bytes=99-", If_Range='"other"'))[0] == 200


# --- the bytes ----------------------------------------------------------------------------------------------


async def test_large_files_can_be_downloaded_whole_and_in_ranges(client, send):
    content = big_png()
    artifact = await send(content)
    assert (await fetch(client, artifact))[2] == content
    start, end = 3_000_001, 7_654_321
    status, _, body = await fetch(client, artifact, Range=f"bytes={start}-{end}")
    assert (status, body) == (206, content[start : end + 1])
    assert (await fetch(client, artifact, Range="bytes=0-0"))[2] == content[:1]
    status, headers, body = await fetch(client, artifact, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(content)), b"")
    bodies = await asyncio.gather(*(fetch(client, artifact) for _ in range(5)))
    assert all(body == content for _, _, body in bodies)


async def test_a_client_that_disconnects_during_a_download_causes_no_error(client, send, caplog):
    content = big_png()
    artifact = await send(content)
    for _ in range(5):
        reply = await client.get(artifact["download_url"])
        assert await reply.content.readexactly(100_000) == content[:100_000]
        reply.close()
    assert (await fetch(client, artifact))[2] == content
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def open_copies(path) -> int:
    """The number of file descriptors that this process has for the file. The server runs in the same process."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += descriptor.samefile(path)
    return found


async def test_files_are_closed_after_a_download(client, send, storage):
    artifact = await send(big_png())
    path = storage / artifact["storage_path"].removeprefix("artifacts/")
    for headers in ({}, {"Range": "bytes=5-9"}, {"Range": f"bytes={10**9}-"}, {"If_None_Match": "*"}):
        await fetch(client, artifact, **headers)
    await fetch(client, artifact, "HEAD")
    reply = await client.get(artifact["download_url"])
    reply.close()
    await closed(path)


async def closed(path) -> None:
    """Waits until no file descriptor is for the file any more."""
    for _ in range(500):
        if not open_copies(path):
            return
        await asyncio.sleep(0.01)
    pytest.fail("the file is still open")


async def test_a_file_is_closed_when_its_client_leaves_before_the_first_byte(client, send, storage, monkeypatch):
    artifact, real, left = await send(big_png()), Disk.send, threading.Event()

    def late(*arguments):
        left.wait(60)
        return real(*arguments)

    monkeypatch.setattr(Disk, "send", late)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await client.get(artifact["download_url"])
    await asyncio.sleep(0.1)  # the server notices
    left.set()
    await asyncio.sleep(0.1)
    await closed(storage / artifact["storage_path"].removeprefix("artifacts/"))


def no_more_descriptors(self):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture(params=["the kernel", "reads"])
def files_are(request, monkeypatch):
    """files_are(kind): stored files are opened as a kind of FileIO. The kernel sends their beginning, or it is read."""

    def opened(kind):
        monkeypatch.setattr("server.storage.disk.FileIO", kind)
        monkeypatch.setattr(
            "aiofiles.threadpool.sync_open", lambda path, mode, *_, opener, **__: kind(path, opener=opener)
        )
        if request.param == "reads":
            monkeypatch.setattr("asyncio.trsock.TransportSocket.dup", no_more_descriptors)

    return opened


async def test_a_disk_error_during_a_download_closes_the_connection(client, send, monkeypatch, files_are):
    artifact = await send(b"0123456789" * 1_000_000, "a.txt", "text/plain")

    class Broken(io.FileIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    files_are(Broken)
    async with asyncio.timeout(3):
        reply = await client.get(artifact["download_url"])
        with pytest.raises(ClientPayloadError):
            body = await reply.read()
            assert b"HTTP/1.1" not in body
    monkeypatch.undo()
    assert (await fetch(client, artifact))[2] == b"0123456789" * 1_000_000


@pytest.mark.parametrize("sent", [0, 10, 1_000_000, None])
async def test_what_the_socket_does_not_take_at_once_is_sent_afterwards(client, send, monkeypatch, sent):
    """0 and 10: not even the head of the reply. None: everything."""
    content = os.urandom(75_000).hex().encode()
    artifact, real, calls = await send(content, "a.txt", "text/plain"), os.sendfile, []

    def send_head_only(self, path, size, start, count, head, to, may_begin):
        assert may_begin()
        done = to.send((head + content[start : start + count])[: min(sent, len(head) + 5)])
        file = io.FileIO(self.open(path, size))
        file.seek(start + max(0, done - len(head)))
        return done, file

    def sendfile(*arguments):
        calls.append(arguments)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "sendfile", sendfile)
        if sent is not None:
            patch.setattr(Disk, "send", send_head_only)
        assert (await fetch(client, artifact))[2] == content
        status, headers, body = await fetch(client, artifact, Range="bytes=1000-99999")
        assert (status, headers["Content-Range"], body) == (206, "bytes 1000-99999/150000", content[1000:100_000])
    assert bool(calls) == (sent is None)


async def test_a_file_that_is_deleted_while_it_is_sent_is_sent_to_its_end(client, send, storage, monkeypatch):
    """From the same descriptor: not that of another file, which has got its name."""
    content = os.urandom(1_000_000).hex().encode()
    artifact, real = await send(content, "a.txt", "text/plain"), os.sendfile
    path = storage / artifact["storage_path"].removeprefix("artifacts/")

    def sendfile(to, descriptor, start, count):
        if path.exists():
            path.unlink()
            return real(to, descriptor, start, 1000)
        raise BlockingIOError

    monkeypatch.setattr(os, "sendfile", sendfile)
    assert (await fetch(client, artifact))[2] == content


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EIO, errno.EINVAL])
@pytest.mark.parametrize("before", [0, 70_000])
async def test_a_file_that_the_kernel_cannot_send_is_read(client, send, monkeypatch, error, before):
    content = os.urandom(75_000).hex().encode()
    artifact, real = await send(content, "a.txt", "text/plain"), os.sendfile

    def sendfile(to, descriptor, start, count):
        if start >= before:
            raise OSError(error, os.strerror(error))
        return real(to, descriptor, start, min(count, before - start))

    monkeypatch.setattr(os, "sendfile", sendfile)
    for _ in range(2):
        assert (await fetch(client, artifact))[2] == content


async def test_a_download_without_a_descriptor_for_the_kernel_is_read(client, send, monkeypatch):
    content = os.urandom(75_000).hex().encode()
    artifact = await send(content, "a.txt", "text/plain")

    monkeypatch.setattr("asyncio.trsock.TransportSocket.dup", no_more_descriptors)
    assert (await fetch(client, artifact))[2] == content


@pytest.mark.parametrize("stalls", ["open", "sendfile"])
async def test_a_disk_that_stalls_before_and_after_the_head_of_a_reply_was_sent(
    start, send, client, storage, monkeypatch, stalls
):
    """A thread that wakes up later must send nothing: the connection may carry another reply by then."""
    content = os.urandom(75_000).hex().encode()
    artifact, over, ended = (
        await send(content, "a.txt", "text/plain"),
        threading.Event(),
        threading.Event(),
    )
    impatient = await start(artifacts={"file_timeout": 0.5})
    where, name = (os, "sendfile") if stalls == "sendfile" else (Disk, "open")
    real, send_now = getattr(where, name), Disk.send

    def stalled(*arguments):
        over.wait(60)
        return real(*arguments)

    def noted(*arguments):
        try:
            return send_now(*arguments)
        finally:
            ended.set()

    with monkeypatch.context() as patch:
        patch.setattr(where, name, stalled)
        patch.setattr(Disk, "send", noted)
        try:
            if stalls == "open":
                assert (await fetch(impatient, artifact))[0] == 503
            else:
                with pytest.raises((ClientPayloadError, ClientConnectionError)):
                    await fetch(impatient, artifact)
            other = asyncio.create_task(impatient.get("/healthz"))
            await asyncio.sleep(0)
        finally:
            over.set()
        assert await asyncio.to_thread(ended.wait, 30)
        assert (await other).status == 200
    assert await (await impatient.get("/healthz")).json() == {"status": "ok"}
    assert (await fetch(impatient, artifact))[2] == content
    await closed(storage / artifact["storage_path"].removeprefix("artifacts/"))


async def test_a_file_that_shrinks_during_a_download_closes_the_connection(client, send, storage):
    artifact = await send(b"0123456789" * 1_000_000, "a.txt", "text/plain")
    path = storage / artifact["storage_path"].removeprefix("artifacts/")
    async with asyncio.timeout(3):
        reply = await client.get(artifact["download_url"])
        os.truncate(path, 9_000_000)
        with pytest.raises(ClientPayloadError):
            await reply.read()


# --- missing files and ids ----------------------------------------------------------------------------------


def damages(path):
    """Ways to damage a stored file, to be applied one after the other."""
    content = path.read_bytes()
    return {
        "short": lambda: path.write_bytes(content[:-1]),
        "empty": lambda: path.write_bytes(b""),
        "longer": lambda: path.write_bytes(content + b"x"),
        "gone": path.unlink,
        "gone with its folder": path.parent.rmdir,
    }


@pytest.fixture
def soon(monkeypatch):
    """A size that looks wrong is looked at again soon, not after a second."""
    monkeypatch.setattr("server.storage.folder._LOOK_AGAIN_SECONDS", 0.01)


async def test_missing_content_is_a_410_logged_and_counted(soon, client, send, storage, caplog):
    artifact = await send(png())
    path = storage / artifact["storage_path"].removeprefix("artifacts/")

    async def counted() -> float:
        text = await (await client.get("/metrics")).text()
        return float(re.search(r"^reportd_content_missing_total (\S+)", text, re.MULTILINE)[1])

    for what, damage in damages(path).items():
        damage()
        caplog.clear()
        before = await counted()
        for method in ("GET", "HEAD"):
            status, headers, body = await fetch(client, artifact, method)
            assert status == 410, what
            assert headers["Cache-Control"] == "no-store" and "ETag" not in headers
            if method == "GET":
                assert b'"Artifact content is missing"' in body and b'"artifact_content_missing"' in body
                assert str(storage).encode() not in body and b"step_001" not in body
        assert await counted() == before + 2, what
        errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert len(errors) == 2 and artifact["id"] in errors[0], what
    # Its metadata can still be read.
    async with client.get(f"/api/v1/reports/artifacts/{artifact['id']}") as reply:
        assert reply.status == 200


@pytest.mark.parametrize("some_id", [uuid.UUID(int=0), uuid.UUID("e8a1f4c2-7b1d-4c3e-9f00-5d2a6b7c8d9e")])
async def test_missing_content_is_a_410_whatever_the_id(client, send, storage, rows, some_id):
    """Ids of rows that reportd did not make, as the column's default: their time may lie after the year 9999."""
    artifact = await send(b"x", "a.txt", "text/plain")
    (storage / artifact["storage_path"].removeprefix("artifacts/")).unlink()
    rows("UPDATE test_artifacts SET id = %s WHERE id = %s", some_id, artifact["id"])
    url = artifact["download_url"].replace(artifact["id"], str(some_id))
    assert (await fetch(client, {"download_url": url}))[0] == 410


async def made(client, url: str) -> int:
    """The status of a GET, not that of a thumbnail which is still being made."""
    while (status := (await client.get(url)).status) == 202:
        await asyncio.sleep(0.05)
    return status


@pytest.mark.parametrize("fresh", ["at once", "after a pause"])
@pytest.mark.parametrize("path", ["download_url", "thumbnail"])
async def test_a_size_that_is_not_fresh_is_looked_at_again(soon, client, send, storage, monkeypatch, fresh, path):
    """As on a network file system, where another host has just written the file."""
    artifact = await send(png())
    url = artifact["download_url"] if path == "download_url" else f"/thumbs/{artifact['id']}-320.webp"
    stored = storage / artifact["storage_path"].removeprefix("artifacts/")
    content = stored.read_bytes()
    stored.write_bytes(b"")
    real, looks = Disk.stat, []

    def stat(disk: Disk, storage_path: str) -> os.stat_result | None:
        before = real(disk, storage_path)
        stored.write_bytes(content)
        looks.append(before.st_size)
        return before if fresh == "after a pause" else real(disk, storage_path)

    monkeypatch.setattr(Disk, "stat", stat)
    assert await made(client, url) == 200 and looks == [0]
    assert await made(client, url) == 200 and looks == [0], "a size that is right needs no second look"


@pytest.mark.parametrize("damage", ["missing", "truncated long ago", "a folder"])
async def test_a_file_that_nobody_is_writing_is_not_waited_for(client, send, storage, monkeypatch, damage):
    artifact = await send(png())
    stored = storage / artifact["storage_path"].removeprefix("artifacts/")
    stored.unlink()
    if damage == "a folder":
        stored.mkdir()
    elif damage == "truncated long ago":
        stored.write_bytes(b"")
        ctime = stored.stat().st_ctime
        monkeypatch.setattr("server.storage.folder.time", SimpleNamespace(time=lambda: ctime + 3601))
    monkeypatch.setattr("server.storage.folder._LOOK_AGAIN_SECONDS", 3600)
    for url in (artifact["download_url"], f"/thumbs/{artifact['id']}-320.webp"):
        assert await made(client, url) == 410


async def test_unknown_and_malformed_ids_are_a_404(client):
    for unknown in (str(uuid.uuid4()), "nonsense", "%00", uuid.uuid4().hex, "..%2f..%2fetc"):
        artifact = {"download_url": f"/api/v1/reports/artifacts/{unknown}/download"}
        for method in ("GET", "HEAD"):
            assert (await fetch(client, artifact, method))[0] == 404
        _, headers, body = await fetch(client, artifact)
        assert b'"Artifact not found"' in body and headers["Cache-Control"] == "no-store"


async def test_only_get_and_head_are_allowed(client, send):
    artifact = await send(png())
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        status, headers, _ = await fetch(client, artifact, method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


# --- access -------------------------------------------------------------------------------------------------


async def test_a_token_of_another_project_gets_404(client, start, make_token, send):
    artifact = await send(png())
    theirs, ours = await start(token=make_token(project="theirs")), await start(token=make_token(project="default"))
    for method, extra in [("GET", {}), ("HEAD", {}), ("GET", {"If_None_Match": "*"}), ("GET", {"Range": "bytes=0-"})]:
        assert (await fetch(theirs, artifact, method, **extra))[0] == 404
    assert (await fetch(ours, artifact))[::2] == (200, png())


@pytest.fixture
async def browser(client):
    """await browser(method, path, cookie=…): sends a request without a token. Returns status, headers and body."""
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:

        async def ask(method, path, cookie=None, **options):
            headers = {**options.pop("headers", {}), **({"Cookie": cookie} if cookie else {})}
            async with session.request(method, client.make_url(path), headers=headers, **options) as reply:
                return reply.status, reply.headers, await reply.read()

        yield ask


async def test_a_session_cookie_allows_only_reading(client, browser, send, case_url):
    artifact, case = await send(png()), await case_url()
    url = artifact["download_url"]
    reply = await client.post("/api/v1/auth/session")
    assert reply.status == 201
    cookie, *attributes = reply.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
    status, headers, body = await browser("GET", url, cookie)
    assert (status, body) == (200, png()) and headers["Vary"] == "Authorization, Cookie"
    assert (await browser("HEAD", url, cookie))[0] == 200
    for wrong in (None, f"{cookie}x", cookie.partition("=")[0] + "=", "other=1"):
        status, headers, _ = await browser("GET", url, wrong)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer"), wrong
    form = a_body(a_field("artifact_type", "log"), a_file(png()))
    kind = {"Content-Type": "multipart/form-data; boundary=" + form[2:].partition(b"\r\n")[0].decode()}
    assert (await browser("POST", f"{case}/artifacts", cookie, data=form, headers=kind))[0] == 401
    assert (await browser("POST", "/api/v1/auth/session", cookie))[0] == 401
    assert (await browser("DELETE", url.removesuffix("/download"), cookie))[0] == 401
    assert (await browser("GET", url, cookie))[::2] == (200, png())


async def test_a_session_is_limited_to_the_project_of_its_token(client, start, make_token, browser, send):
    artifact = await send(png())
    theirs = await start(token=make_token(project="theirs"))
    cookie = (await theirs.post("/api/v1/auth/session")).headers["Set-Cookie"].partition(";")[0]
    assert (await browser("GET", artifact["download_url"], cookie))[0] == 404


async def test_a_token_is_not_accepted_as_a_cookie_or_the_other_way_round(client, make_token, browser, send):
    artifact, token = await send(png()), make_token()
    cookie = (await client.post("/api/v1/auth/session")).headers["Set-Cookie"].partition(";")[0]
    name, _, secret = cookie.partition("=")
    url, as_bearer = artifact["download_url"], {"Authorization": f"Bearer {secret}"}
    # Valid requests first fill the cache of callers, which must not mix up the two kinds of secrets.
    assert (await browser("GET", url, cookie))[0] == 200
    assert (await browser("GET", url, headers={"Authorization": f"Bearer {token}"}))[0] == 200
    assert (await browser("GET", url, headers=as_bearer))[0] == 401
    assert (await browser("GET", url, f"{name}={token}"))[0] == 401


async def test_a_disk_that_stalls_during_a_download_ends_the_reply(start, files_are):
    """The blocked thread holds only its own file, and closes it once the disk responds."""
    client = await start(artifacts={"file_timeout": 1.0})
    over, closed = threading.Event(), threading.Event()

    class Stalled(io.FileIO):
        def read(self, size=-1):
            over.wait(60)
            return super().read(size)

        def close(self):
            super().close()
            closed.set()

    run = (await (await client.post("/api/v1/reports/suite-runs", json={"name": "x"})).json())["id"]
    cases = f"/api/v1/reports/suite-runs/{run}/test-cases"
    case = (await (await client.post(cases, json={"name": "x"})).json())["id"]
    body = single(b"0123456789" * 1_000_000, "a.txt", "text/plain", artifact_type="log")
    url = f"/api/v1/reports/test-case-results/{case}/artifacts"
    sent = await (await client.post(url, data=body, headers={"Content-Type": CONTENT_TYPE})).json()

    files_are(Stalled)
    try:
        async with asyncio.timeout(10):
            reply = await client.get(sent["download_url"])
            with pytest.raises(ClientPayloadError):
                await reply.read()
        assert not closed.is_set()
    finally:
        over.set()
    assert await asyncio.to_thread(closed.wait, 10)
