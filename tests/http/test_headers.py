"""What every reply says to a browser: what it may do with it, which is next to nothing."""

import asyncio
import re
import subprocess
import uuid
from base64 import b64encode
from hashlib import sha256

from server.database.queries import SQL
from server.routes import ROUTES
from tests.api.test_steps import send_png
from tests.chromium import program
from tests.up_server import up_server

__all__ = ["up_server"]  # a fixture

RUNS = "/api/v1/reports/suite-runs"
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def check(reply, policy=NOTHING):
    """The headers, each once, and no word of what the server is made of."""
    told = reply.headers.getall
    assert told("X-Content-Type-Options") == ["nosniff"] and told("Referrer-Policy") == ["no-referrer"]
    assert told("Content-Security-Policy") == [policy], reply.url
    assert told("Cross-Origin-Resource-Policy") == ["same-origin"]
    assert "camera=()" in told("Permissions-Policy")[0] and len(told("Permissions-Policy")) == 1
    assert told("Server") == ["reportd"] and len(told("X-Request-Id")) == 1
    assert not re.search(r"(?i)aiohttp|python", str(reply.headers))


async def test_every_route_and_every_refusal_has_them(client, start, monkeypatch):
    for route in ROUTES:
        if route.path == "/docs":
            continue
        url = re.sub(r"{\w+}", str(uuid.uuid4()), route.path)
        for method in {route.method, "HEAD", "DELETE", "OPTIONS"}:
            check(await client.request(method, url))
            check(await client.request(method, url, headers={"Authorization": "Bearer wrong"}))
    for url in ("/nothing", "/docs/", "/%00", "/healthz?x=\x01"):
        check(await client.get(url))
    check(await client.post(RUNS, data=b"{"))
    check(await client.post(RUNS, json={"name": "x"}))
    monkeypatch.setattr(SQL.suite_runs, "page", "SELEKT 1")
    failed = await client.get(RUNS)
    assert failed.status == 500
    check(failed)
    named = await start(server={"allowed_hosts": ["reports.example"]})
    check(await named.get("/healthz"))


async def test_what_is_no_http_gets_them_too(client):
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"nonsense\r\n\r\n")
    async with asyncio.timeout(60):
        head = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
    writer.close()
    assert f"\r\nContent-Security-Policy: {NOTHING}" in head and "\r\nReferrer-Policy: no-referrer" in head
    assert re.search("\r\nX-Request-Id: [0-9a-f]{32}", head) and "\r\nContent-Type: application/json" in head


async def test_a_download_keeps_its_own_policy(client, case_url):
    artifact = await send_png(client, await case_url())
    url = f"/api/v1/reports/artifacts/{artifact}/download"
    whole = await client.get(url)
    policy = whole.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; ")
    for headers in ({}, {"Range": "bytes=0-3"}, {"If-None-Match": "*"}):
        check(await client.get(url, headers=headers), policy)


async def test_the_page_may_use_its_one_style_sheet_and_nothing_else(client):
    reply = await client.get("/docs")
    text = await reply.text()
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    check(
        reply,
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )
    assert not re.search(r"(?i)<script|<link|<img|<iframe|<form|<base|\son\w+=|\sstyle=|javascript:", text)


async def test_only_tls_is_told_to_stay_with_tls(client):
    assert "Strict-Transport-Security" not in (await client.get("/docs")).headers
    for url in ("/docs", "/nothing", RUNS):
        reply = await client.get(url, headers={"X-Forwarded-Proto": "https"})
        assert reply.headers.getall("Strict-Transport-Security") == ["max-age=31536000"]


def test_a_browser_shows_the_page_as_it_is_meant(up_server, tmp_path):
    """Its own style is let through: a summary's method stands in a box of its own."""
    done = subprocess.run(
        [
            *(program(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *(f"--user-data-dir={tmp_path}", "--dump-dom", f"{up_server.url}/docs"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert '<summary><span class="method">GET' in done.stdout, done.stderr
    assert "Content Security Policy" not in done.stderr and "Refused to" not in done.stderr
