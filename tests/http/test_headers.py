"""The security headers of every reply: they restrict what a browser may do with it."""

import asyncio
import re
import subprocess
import uuid

from server.database.queries import SQL
from server.http import html
from server.routes import PAGES, ROUTES
from server.viewer import assets
from tests.api.test_steps import send_png
from tests.chromium import chromium_path
from tests.up_server import up_server

__all__ = ["up_server"]  # a fixture

RUNS = "/api/v1/reports/suite-runs"
NOTHING_ALLOWED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
OWN_SCRIPTS = NOTHING_ALLOWED.replace("; base-uri", "; script-src 'self'; base-uri")


def check_security_headers(reply, policy=NOTHING_ALLOWED):
    """Assert that each security header is sent once, and that none reveals the software of the server."""
    values = reply.headers.getall
    assert values("X-Content-Type-Options") == ["nosniff"] and values("Referrer-Policy") == ["no-referrer"]
    assert values("Content-Security-Policy") == [policy], reply.url
    assert values("Cross-Origin-Resource-Policy") == ["same-origin"]
    assert "camera=()" in values("Permissions-Policy")[0] and len(values("Permissions-Policy")) == 1
    assert values("Server") == ["reportd"] and len(values("X-Request-Id")) == 1
    assert not re.search(r"(?i)aiohttp|python", str(reply.headers))


async def test_every_route_and_every_refusal_has_the_security_headers(client, start, monkeypatch):
    for route in ROUTES:
        if route.path == "/docs":
            continue
        url = re.sub(r"{\w+}", str(uuid.uuid4()), route.path)
        for method in {route.method, "HEAD", "DELETE", "OPTIONS"}:
            check_security_headers(await client.request(method, url))
            check_security_headers(await client.request(method, url, headers={"Authorization": "Bearer wrong"}))
    for url in ("/nothing", "/docs/", "/%00", "/healthz?x=\x01"):
        check_security_headers(await client.get(url))
    check_security_headers(await client.post(RUNS, data=b"{"))
    check_security_headers(await client.post(RUNS, json={"name": "x"}))
    monkeypatch.setattr(SQL.suite_runs, "page", "SELEKT 1")
    failed = await client.get(RUNS)
    assert failed.status == 500
    check_security_headers(failed)
    named = await start(server={"allowed_hosts": ["reports.example"]})
    check_security_headers(await named.get("/healthz"))


async def test_every_page_and_its_refusals_have_the_security_headers(client, nobody):
    for route in PAGES:
        url = re.sub(r"{\w+}", str(uuid.uuid4()), route.path)
        for asker in (client, nobody):
            for method in {route.method, "HEAD", "DELETE", "OPTIONS"}:
                for accepted in ("text/html", "application/json"):
                    reply = await asker.request(method, url, headers={"Accept": accepted}, allow_redirects=False)
                    is_page = reply.content_type == "text/html"
                    policy = html._OWN_FILES if is_page else NOTHING_ALLOWED
                    sent = reply.headers["Content-Security-Policy"]
                    if is_page and "/shared/" in url and "sha256" in sent:
                        policy = sent
                        assert re.sub(r"style-src( 'sha256-[\w+/=]+')+; ", "", policy) == NOTHING_ALLOWED
                    check_security_headers(reply, policy)
                    assert reply.headers["Cache-Control"].endswith("no-store"), (method, url)


async def test_the_reply_to_invalid_http_has_the_security_headers(client):
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"nonsense\r\n\r\n")
    async with asyncio.timeout(60):
        head = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
    writer.close()
    assert f"\r\nContent-Security-Policy: {NOTHING_ALLOWED}" in head and "\r\nReferrer-Policy: no-referrer" in head
    assert re.search("\r\nX-Request-Id: [0-9a-f]{32}", head) and "\r\nContent-Type: application/json" in head


async def test_a_download_keeps_its_own_policy(client, case_url):
    artifact = await send_png(client, await case_url())
    url = f"/api/v1/reports/artifacts/{artifact}/download"
    whole = await client.get(url)
    policy = whole.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox; ")
    for headers in ({}, {"Range": "bytes=0-3"}, {"If-None-Match": "*"}):
        check_security_headers(await client.get(url, headers=headers), policy)


async def test_the_policy_of_the_docs_page_allows_only_files_of_this_server(client):
    reply = await client.get("/docs")
    text = await reply.text()
    check_security_headers(
        reply,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )
    assert not re.search(r"(?i)<style|<img|<iframe|<form|<base|\son\w+=|\sstyle=|javascript:|<script>", text)
    assert reply.headers["Cache-Control"] == "no-cache"
    for asset in assets.by_name().values():
        reply = await client.get(f"/static/{asset.file}")
        imports = asset.media_type == "text/javascript"  # a worker has the policy of its script
        check_security_headers(reply, OWN_SCRIPTS if imports else NOTHING_ALLOWED)
        assert (reply.status, reply.content_type, await reply.read()) == (200, asset.media_type, asset.content)
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert (await client.head(f"/static/{asset.file}")).headers["Content-Length"] == str(len(asset.content))
    for name in ("docs.js", "LICENSE", "..%2fdocs.js", "vendor%2fREADME.md", "docs.0000000000000000.js"):
        assert (await client.get(f"/static/{name}")).status == 404


async def test_strict_transport_security_is_sent_only_over_tls(client):
    assert "Strict-Transport-Security" not in (await client.get("/docs")).headers
    for url in ("/docs", "/nothing", RUNS):
        reply = await client.get(url, headers={"X-Forwarded-Proto": "https"})
        assert reply.headers.getall("Strict-Transport-Security") == ["max-age=31536000"]


def test_a_browser_shows_the_docs_page_without_policy_violations(up_server, tmp_path):
    done = subprocess.run(
        [
            *(chromium_path(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *("--virtual-time-budget=30000", f"--user-data-dir={tmp_path}", "--dump-dom", f"{up_server.url}/docs"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'id="operations-tag-suite_runs"' in done.stdout, done.stderr
    assert "Content Security Policy" not in done.stderr and "Refused to" not in done.stderr
