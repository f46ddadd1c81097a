"""Opening evidence links: a link shows its object and the object's images, nothing else, and only while it is valid."""

import asyncio
import logging
import re
import subprocess
import uuid
from base64 import b64encode
from hashlib import sha256

import psycopg
import pytest
from aiohttp import DummyCookieJar
from yarl import URL

from server.auth import evidence_links as links
from server.database.queries import SQL
from server.http.authenticate import COOKIE
from server.observe.log import JsonLines, TextLines
from server.viewer import assets
from server.viewer import render as viewer
from tests import makers
from tests.chromium import chromium_path
from tests.forms import CONTENT_TYPE, PATIENCE, single
from tests.http.test_headers import check_security_headers
from tests.http.test_openapi import Page
from tests.makers import jpeg, png
from tests.test_access import queries
from tests.up_server import up_server

__all__ = ["queries", "up_server"]  # fixtures

BASE = "/api/v1/reports"
ENDED = "This link is not valid, has expired or was revoked."
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}
HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"""
FILES = {
    "shot": (png(8, 8, 1), "shot.png", {"step_number": 1}),
    "photo": (jpeg(8, 8, 2), "photo.jpg", {"artifact_type": "other"}),
    "picture of a log": (png(8, 8, 3), "log.png", {"artifact_type": "log", "step_number": 1}),
    "page": (makers.html(), "a.html", {"step_number": 2}),
    "text": (makers.text(), "a.log", {"artifact_type": "log", "step_number": 1}),
    "har": (makers.json(), "a.har", {"artifact_type": "har"}),
    "document": (makers.pdf(), "a.pdf", {"artifact_type": "other"}),
}
IMAGES = {"shot", "photo", "picture of a log"}


async def post(client, url, body):
    reply = await client.post(url, json=body)
    assert reply.status == 201, await reply.text()
    return await reply.json()


@pytest.fixture
async def world(client, make_run, make_case):
    """Ids of runs and cases by name, and of artifacts by (case, name). One run has two cases, the other has one."""
    runs = {"ours": await make_run(project="default"), "next": await make_run(project="default")}
    cases = {
        "failed": await make_case(run=runs["ours"], status="Failed", error_message="no", stack_trace="at x"),
        "passed": await make_case(run=runs["ours"], name="other", status="Passed"),
        "elsewhere": await make_case(run=runs["next"]),
    }
    artifacts = {}
    for case, case_id in cases.items():
        url = f"{BASE}/test-case-results/{case_id}"
        await post(client, f"{url}/steps/bulk", {"steps": [{"step_number": 1, "action": "Go"}, {"step_number": 2}]})
        for name, (content, file_name, fields) in FILES.items():
            body = single(content, file_name, "application/octet-stream", **fields)
            reply = await client.post(f"{url}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE})
            assert reply.status == 201, await reply.text()
            artifacts[case, name] = (await reply.json())["id"]
        shots = [artifacts[case, "shot"], artifacts[case, "text"]]
        points = [{"checkpoint_number": n, "name": "c", "screenshot_artifact_id": id_} for n, id_ in enumerate(shots)]
        await post(client, f"{url}/checkpoints", {"checkpoints": points})
        await post(client, f"{url}/console-logs", {"entries": [{"level": "error", "message": "said aloud"}]})
    return {"runs": runs, "cases": cases, "artifacts": artifacts}


@pytest.fixture
def link_on(client):
    """await link_on(suite_run_id=…): the URL of a new link."""

    async def make(**body):
        return (await post(client, f"{BASE}/links", body))["url"]

    return make


@pytest.fixture
async def three(world, link_on):
    """The URLs of a link on a run, on a test case result, and on an artifact that is not an image."""
    return {
        "run": await link_on(suite_run_id=world["runs"]["ours"]),
        "case": await link_on(test_case_result_id=world["cases"]["failed"]),
        "artifact": await link_on(artifact_id=world["artifacts"]["failed", "page"]),
    }


async def ended(reply):
    """Assert that the reply is the 404 for invalid links, which is the same for every reason. Returns True."""
    assert reply.status == 404, await reply.text()
    if reply.method != "HEAD":
        error = await reply.json()
        assert (error["code"], error["detail"]) == ("link_not_found", ENDED)
    assert "X-Robots-Tag" not in reply.headers
    return reply.headers["Cache-Control"] == "no-store"


# --- what a link shows -----------------------------------------------------------------------------------------


async def test_a_link_shows_only_its_object_and_the_images_of_that(nobody, world, three):
    """Requests every artifact and every test case through every link."""
    covered = {
        "run": {(case, name) for case in ("failed", "passed") for name in IMAGES},
        "case": {("failed", name) for name in IMAGES},
        "artifact": {("failed", "page")},
    }
    cases = {"run": {"failed", "passed"}, "case": {"failed"}, "artifact": set()}
    asked = 0
    for kind, url in three.items():
        for ids, wanted, path, missing in [
            (world["artifacts"], covered[kind], "artifacts", "artifact_not_found"),
            (world["cases"], cases[kind], "test-case-results", "test_case_result_not_found"),
        ]:
            refusals = set()
            for name, id_ in [*ids.items(), ("none", uuid.uuid4()), ("malformed", "x")]:
                for method in ("GET", "HEAD"):
                    reply = await nobody.request(method, f"{url}/{path}/{id_}")
                    assert reply.status == (200 if name in wanted else 404), (kind, name, await reply.text())
                    asked += 1
                    if method == "GET" and name in wanted and path == "artifacts":
                        assert await reply.read() == FILES[name[1]][0]
                    if method == "GET" and name not in wanted:
                        error = await reply.json()
                        refusals.add((error["code"], error["detail"]))
            assert {code for code, _ in refusals} == {missing} and len(refusals) == 1
    assert asked > 120


async def test_a_link_on_a_run_shows_its_results_and_their_urls(nobody, world, three, client):
    reply = await nobody.get(three["run"])
    shown = await reply.json()
    assert reply.headers["Cache-Control"] == "no-store" and reply.headers["X-Robots-Tag"] == "noindex"
    run, page = world["runs"]["ours"], shown["test_case_results"]
    assert shown["suite_run"] == await (await client.get(f"{BASE}/suite-runs/{run}")).json()
    whole = await (await client.get(f"{BASE}/suite-runs/{run}/test-cases")).json()
    urls = [case.pop("url") for case in page["items"]]
    assert page == whole
    assert urls == [f"{three['run']}/test-case-results/{case['id']}" for case in whole["items"]]
    assert [(await nobody.get(url)).status for url in urls] == [200, 200]


async def test_the_results_of_a_run_are_paged_and_filtered(nobody, client, make_run, link_on):
    run = await make_run()
    cases = [{"name": f"case {n}", "status": "Failed" if n % 5 == 0 else "Passed"} for n in range(12)]
    await post(client, f"{BASE}/suite-runs/{run}/test-cases/bulk", {"test_cases": cases})
    url = await link_on(suite_run_id=run)
    for query, names in [
        ("per_page=5&page=3", ["case 10", "case 11"]),
        ("status=Failed", ["case 0", "case 5", "case 10"]),
        ("q=CASE 1", ["case 1", "case 10", "case 11"]),
        ("page=9", []),
    ]:
        page = (await (await nobody.get(f"{url}?{query}")).json())["test_case_results"]
        assert [case["name"] for case in page["items"]] == names, query
    for query in ("page=0", "per_page=x", "status=Nonsense", "download=maybe"):
        assert (await nobody.get(f"{url}?{query}")).status == 422
        assert await ended(await nobody.get(f"{url[:-1]}?{query}"))  # the link is checked first


async def test_a_report_has_only_images_and_only_urls_that_the_link_opens(nobody, world, three, client):
    case, artifacts = world["cases"]["failed"], world["artifacts"]
    whole = await (await client.get(f"{BASE}/test-case-results/{case}/report")).json()
    for url, address in [(three["case"], three["case"]), (three["run"], f"{three['run']}/test-case-results/{case}")]:
        reply = await nobody.get(address)
        text = await reply.text()
        assert "/api/" not in text and "said aloud" not in text and ".html" not in text and ".har" not in text
        shown = await reply.json()
        assert shown.keys() == whole.keys()
        for same in ("test_case_result", "console_log_count", "network_log_count", "truncated"):
            assert shown[same] == whole[same]
        assert shown["console_log_count"] == 1
        ours = {artifact["id"]: artifact for artifact in whole["artifacts"]}
        assert [artifact["id"] for artifact in shown["artifacts"]] == [
            id_ for id_ in ours if id_ in {artifacts["failed", name] for name in IMAGES}
        ]
        found = []
        for artifact in shown["artifacts"]:
            assert artifact == {**ours[artifact["id"]], "download_url": f"{url}/artifacts/{artifact['id']}"}
            found.append(artifact["download_url"])
        first, second = shown["steps"]
        assert first["screenshot"]["id"] == first["screenshot_artifact_id"] == artifacts["failed", "shot"]
        assert {artifact["id"] for artifact in first["artifacts"]} == {
            artifacts["failed", "shot"],
            artifacts["failed", "picture of a log"],
        }
        # The only artifact of the second step is its screenshot, an HTML page.
        assert whole["steps"][1]["screenshot"] and second["screenshot"] is second["screenshot_artifact_id"] is None
        assert second["artifacts"] == []
        found += [first["screenshot"]["url"], first["screenshot"]["download_url"]]
        found += [artifact["download_url"] for artifact in first["artifacts"]]
        assert {found_at.rpartition("/")[0] for found_at in found} == {f"{url}/artifacts"}
        assert [(await nobody.get(found_at)).status for found_at in found] == [200] * len(found)
        assert [point["screenshot_artifact_id"] for point in shown["checkpoints"]] == [
            artifacts["failed", "shot"],
            None,
        ]


async def test_a_link_on_an_artifact_has_the_reply_of_its_download_except_for_caching(nobody, client, world, link_on):
    for name, (content, _, _) in FILES.items():
        id_ = world["artifacts"]["failed", name]
        url, download = await link_on(artifact_id=id_), f"{BASE}/artifacts/{id_}/download"
        for query, headers, status in [
            ("", {}, 200),
            ("", BROWSER, 200),
            ("?download=1", {}, 200),
            ("", {"Range": "bytes=5-9"}, 206),
            ("", {"Range": "bytes=999999-"}, 416),
            ("", {"If-None-Match": "*"}, 304),
        ]:
            for address in (url, f"{url}/artifacts/{id_}"):
                shared = await nobody.get(address + query, headers=headers)
                own = await client.get(download + query, headers=headers)
                assert shared.status == own.status == status, (name, query, headers)
                body = await shared.read()
                if status == 200:
                    assert body == content
                if status == 206:
                    assert body == content[5:10]
                different = {"Date", "X-Request-Id", "Cache-Control", "X-Robots-Tag"}
                kept = [
                    {key.title(): value for key, value in reply.headers.items() if key.title() not in different}
                    for reply in (shared, own)
                ]
                assert kept[0] == kept[1]
                assert shared.headers["X-Robots-Tag"] == "noindex"
                wanted = "no-store" if status == 416 else "private, no-store"
                assert shared.headers.getall("Cache-Control") == [wanted]


async def test_with_accel_redirect_a_shared_file_is_no_store_too(start, aiohttp_client, world, link_on):
    url = await link_on(artifact_id=world["artifacts"]["failed", "shot"])
    accelerated = await start(artifacts={"accel_redirect": "/_files/"})
    reply = await accelerated.get(url)
    assert reply.headers["X-Accel-Redirect"].startswith("/_files/") and await reply.read() == b""
    assert reply.headers["X-Accel-Cache-Control"] == "private, no-store" and "Cache-Control" not in reply.headers


async def test_a_shared_artifact_whose_file_is_missing_is_a_410(nobody, three, world, storage, rows):
    (row,) = rows("SELECT storage_path FROM test_artifacts WHERE id = %s", world["artifacts"]["failed", "page"])
    (storage / row["storage_path"]).unlink()
    reply = await nobody.get(three["artifact"])
    assert reply.status == 410 and (await reply.json())["code"] == "artifact_content_missing"


# --- invalid links ---------------------------------------------------------------------------------------------


def forged(text):
    """Invalid links, made from the valid link `text`."""
    body = text.removeprefix("rpl_")
    bend = lambda at: text[: 4 + at] + ("A" if body[at] != "A" else "B") + body[at + 1 :]  # noqa: E731
    return {
        "changed id": bend(3),
        "changed expiry": bend(25),
        "forged signature": bend(40),
        "cut": text[:-1],
        "longer": text + "A",
        "padded": text + "==",
        "other case": "rpl_" + body.swapcase(),
        "upper case": text.upper(),
        "without its prefix": body,
        "a token": "rpt_" + body[:49],
        "of another key": links.sign(bytes(32), uuid.uuid4(), 2**40 - 1),
        "nothing": "rpl_",
        "not ASCII": "rpl_%C3%A4" + body[1:],
        "a NUL": text + "%00",
        "spaces": text + "%20",
        "dots": "..%2f" + text,
        "slashes": text + "%2f",
    }


async def test_a_forged_link_is_refused_without_a_query(nobody, three, world, queries):
    case, shot = world["cases"]["failed"], world["artifacts"]["failed", "shot"]
    assert (await nobody.get(three["case"])).status == 200
    for name, text in forged(three["case"].removeprefix("/shared/")).items():
        of_case = f"/test-case-results/{case}"
        for rest in ("", of_case, f"{of_case}/steps/1.1", f"/artifacts/{shot}"):
            for method in ("GET", "HEAD"):
                queries.clear()
                reply = await nobody.request(method, URL(f"/shared/{text}{rest}", encoded=True))
                assert reply.status == 404 and queries == [], (name, rest)
                if method == "GET":
                    assert await ended(reply), name


async def test_an_expired_or_revoked_link_or_one_on_a_deleted_object_is_a_404(
    nobody, client, three, world, rows, link_on
):
    image = f"/artifacts/{world['artifacts']['failed', 'shot']}"
    by_hand = await link_on(suite_run_id=world["runs"]["ours"])
    rows("UPDATE evidence_links SET expires_at = now() WHERE id = (SELECT max(id::text)::uuid FROM evidence_links)")
    assert await ended(await nobody.get(by_hand)) and await ended(await nobody.get(by_hand + image))
    for url in three.values():
        assert (await nobody.get(url)).status == 200
    listed = (await (await client.get(f"{BASE}/links?active=true")).json())["items"]
    (revoked,) = [link["id"] for link in listed if link["suite_run_id"]]
    assert (await client.delete(f"{BASE}/links/{revoked}")).status == 204
    step = f"/test-case-results/{world['cases']['failed']}/steps/1.1"
    assert await ended(await nobody.get(three["run"] + step))
    for _ in range(2):  # twice: the reply must stay the same
        assert await ended(await nobody.get(three["run"])) and await ended(await nobody.get(three["run"] + image))
        assert await ended(await nobody.head(three["run"]))
    assert (await client.delete(f"{BASE}/artifacts/{world['artifacts']['failed', 'page']}")).status == 204
    assert await ended(await nobody.get(three["artifact"]))
    assert (await client.delete(f"{BASE}/suite-runs/{world['runs']['ours']}")).status == 204
    for path in ("", image, f"/test-case-results/{world['cases']['failed']}"):
        assert await ended(await nobody.get(three["case"] + path))


async def test_the_expiry_in_the_text_of_a_link_counts(nobody, client, three, rows):
    """Also if the row in the database has a later one."""
    (row,) = rows("SELECT key FROM signing_keys")
    (link,) = rows(
        "SELECT id, extract(epoch FROM expires_at)::bigint AS ends FROM evidence_links WHERE artifact_id IS NOT NULL"
    )
    text = links.sign(bytes(row["key"]), link["id"], link["ends"])
    assert three["artifact"] == f"/shared/{text}"
    over = links.sign(bytes(row["key"]), link["id"], 1_000_000_000)
    assert await ended(await nobody.get(f"/shared/{over}"))


async def test_a_link_is_not_accepted_as_a_token_or_a_token_as_a_link(nobody, three, world, make_token):
    token = make_token()
    for url in three.values():
        text = url.removeprefix("/shared/")
        for headers in (
            {"Authorization": f"Bearer {text}"},
            {"Cookie": f"{COOKIE}={text}"},
            {"Cookie": f"{COOKIE}={text[4:]}"},
            {"Authorization": f"Basic {text}"},
        ):
            for path in (f"{BASE}/suite-runs", f"{BASE}/artifacts/{world['artifacts']['failed', 'shot']}/download"):
                assert (await nobody.get(path, headers=headers)).status == 401
                assert (await nobody.get(f"{path}?token={text}&link={text}")).status == 401
            reply = await nobody.post(f"{BASE}/links", json={"suite_run_id": world["runs"]["ours"]}, headers=headers)
            assert reply.status == 401
            assert (await nobody.post("/api/v1/auth/session", headers=headers)).status == 401
    assert await ended(await nobody.get(f"/shared/{token}"))
    bearer = {"Authorization": f"Bearer {token}"}
    assert await ended(await nobody.get("/shared/rpl_x", headers=bearer))
    assert (await nobody.get(three["run"], headers={"Authorization": "Bearer wrong"})).status == 200


async def test_a_link_allows_only_get_and_head(nobody, three, world, rows):
    before = rows("SELECT * FROM evidence_links ORDER BY id")
    image = f"{three['case']}/artifacts/{world['artifacts']['failed', 'shot']}"
    for url in (*three.values(), image, f"{three['case']}/test-case-results/{world['cases']['failed']}"):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            reply = await nobody.request(method, url, data=b"{}")
            assert reply.status == 405 and reply.headers["Allow"] == "GET, HEAD"
    for rest in ("/steps", "/report", "/artifacts", "/test-case-results", "/console-logs", "/", "/.."):
        assert (await nobody.get(three["case"] + rest)).status in (404, 405)
    assert rows("SELECT * FROM evidence_links ORDER BY id") == before


async def test_opening_and_creating_links_does_not_deadlock_with_a_deletion(
    nobody, client, make_run, make_case, link_on
):
    """Opening locks the row of the link, creating locks the row of the object, and a deletion locks all of them."""
    for _ in range(5):
        run = await make_run()
        cases = [await make_case(run=run) for _ in range(4)]
        urls = [await link_on(suite_run_id=run), *[await link_on(test_case_result_id=case) for case in cases]]
        opened = [nobody.get(url) for url in urls * 5]
        made = [client.post(f"{BASE}/links", json={"test_case_result_id": case}) for case in cases * 5]
        made += [client.post(f"{BASE}/links", json={"suite_run_id": run}) for _ in range(5)]
        *replies, deleted = await asyncio.gather(*opened, *made, client.delete(f"{BASE}/suite-runs/{run}"))
        assert deleted.status == 204
        assert {reply.status for reply in replies} <= {200, 201, 404}
        assert [(await nobody.get(url)).status for url in urls] == [404] * 5


# --- counting --------------------------------------------------------------------------------------------------


async def test_links_blocked_by_a_row_lock_leave_connections_for_other_requests(start, aiohttp_client, dsn):
    """Anyone with a link can send many requests, for example while its object is being deleted."""
    client = await start(database={"pool_size": 4, "pool_timeout": 3.0})
    nobody = await aiohttp_client(client.server, cookie_jar=DummyCookieJar())
    run = (await post(client, f"{BASE}/suite-runs", {"name": "x"}))["id"]
    url = (await post(client, f"{BASE}/links", {"suite_run_id": run}))["url"]
    with psycopg.connect(dsn) as deletion:
        deletion.execute("SELECT FROM evidence_links FOR UPDATE")
        uses = [asyncio.create_task(nobody.get(url)) for _ in range(130)]
        refused, _ = await asyncio.wait(uses, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(5):
            assert (await client.get(f"{BASE}/suite-runs/{run}")).status == 200
    assert {(await reply).status for reply in refused} == {503}
    assert {(await reply).status for reply in uses} == {200, 503}
    assert (await nobody.get(url)).status == 200


async def test_openings_and_downloads_are_counted(nobody, client, three, world):
    image = f"/artifacts/{world['artifacts']['failed', 'shot']}"
    case = f"/test-case-results/{world['cases']['failed']}"

    async def counts():
        items = (await (await client.get(f"{BASE}/links")).json())["items"]
        of = {"suite_run_id": "run", "test_case_result_id": "case", "artifact_id": "artifact"}
        kinds = [next(kind for field, kind in of.items() if link[field]) for link in items]
        return {
            kind: (link["opened"], link["downloads"], link["last_used_at"])
            for kind, link in zip(kinds, items, strict=True)
        }

    assert await counts() == dict.fromkeys(three, (0, 0, None))
    for rest in ("", case, image):
        assert (await nobody.head(three["run"] + rest)).status == 200
    assert await counts() == dict.fromkeys(three, (0, 0, None))
    for rest, headers in [("", {}), (case, BROWSER), (image, {}), (image, {"Range": "bytes=0-1"}), ("", BROWSER)]:
        assert (await nobody.get(three["run"] + rest, headers=headers)).status in (200, 206)
    assert (await nobody.get(three["artifact"])).status == 200
    now = await counts()
    assert now["run"][:2] == (3, 2) and now["artifact"][:2] == (1, 0) and now["case"] == (0, 0, None)
    assert now["run"][2].endswith("Z")
    assert (await nobody.head(three["run"])).status == 200
    assert await counts() == now


async def test_concurrent_openings_are_all_counted(nobody, three, rows):
    replies = await asyncio.gather(*(nobody.get(three["case"]) for _ in range(30)))
    assert {reply.status for reply in replies} == {200}
    assert rows("SELECT sum(opened)::int AS n FROM evidence_links") == [{"n": 30}]


# --- pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER["Accept"], True),
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("text/*", True),
        ("application/json;q=0.5, text/html;q=0.6", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
        ("image/avif,image/webp,image/png,*/*;q=0.8", False),
        (",;,q=1", False),
        ("," * 5000 + "text/html", False),  # only 1000 characters are parsed: more would block the event loop
    ],
)
async def test_the_accept_header_decides_between_html_and_json(nobody, three, accept, page):
    reply = await nobody.get(three["run"], headers={"Accept": accept})
    assert reply.content_type == ("text/html" if page else "application/json")
    assert reply.headers["Vary"] == ("Accept, Accept-Encoding" if page else "Accept")


def policy_of(text):
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert styles and text.count("<style") == len(styles)
    hashes = " ".join(f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" for style in styles)
    return f"style-src {hashes}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def test_the_policy_of_pages_allows_only_their_style_and_images_of_the_server(nobody, three, world):
    of_run = f"{three['run']}/test-case-results/{world['cases']['failed']}"
    of_case = f"{three['case']}/test-case-results/{world['cases']['failed']}"
    urls = [three["run"], f"{three['run']}?status=Failed&group=none", three["case"], of_run]
    for url in [*urls, f"{of_run}?step=1.2&whole=true", f"{of_run}/steps/1.1", f"{of_case}/steps/1.1"]:
        reply = await nobody.get(url, headers=BROWSER)
        text = await reply.text()
        check_security_headers(reply, f"default-src 'none'; img-src 'self'; {policy_of(text)}")
        assert (reply.headers["Cache-Control"], reply.headers["X-Robots-Tag"]) == ("no-store", "noindex")
        assert reply.charset == "utf-8" and text.startswith("<!doctype html>")
        page = Page(text)
        assert not {"script", "form", "input", "button", "iframe", "object", "base"} & set(page.tags)
        assert page.loads.pop(0) == assets.address("icon.svg") and page.tags.count("link") == 1
        assert not re.search(r"(?i)\son\w+=|\sstyle=|javascript:|@import|url\(", text)
        base = three["case"] if url.startswith(three["case"]) else three["run"]
        assert re.search(r'<p class="until">Shared until <time datetime="20', text)
        for address in [*page.loads, *page.links]:
            assert address.startswith((base, "#", "?step=")), address
            if not address.startswith("#"):
                address = url.partition("?")[0] + address if address.startswith("?") else address
                assert (await nobody.get(address, headers=BROWSER)).status == 200
        assert all(address.removeprefix("#") in page.ids for address in page.links if address.startswith("#"))


async def test_the_page_of_a_test_case_shows_why_it_failed(nobody, three, world):
    text = await (await nobody.get(three["case"], headers=BROWSER)).text()
    page = Page(text)
    ids, case = world["artifacts"], f"{three['case']}/test-case-results/{world['cases']['failed']}"
    shot = f"{three['case']}/artifacts/{ids['failed', 'shot']}"
    assert shot not in page.loads and f"{three['case']}/thumbs/{ids['failed', 'shot']}-320.webp" in page.loads
    assert "Not sent yet." in text  # the page opens at the second step, whose screenshot is no image
    for name in IMAGES:
        assert f"{three['case']}/artifacts/{ids['failed', name]}" in page.links, name
    for name in FILES.keys() - IMAGES:
        assert ids["failed", name] not in text and FILES[name][1] not in text
    assert {"login works", "no", "at x", "Checkpoints", "Facts"} <= set(page.texts)
    assert "said aloud" not in text and "1 console entry and 0 network requests are stored. They are left out" in text
    assert "4 files of other kinds are stored and left out here." in text
    first = await (await nobody.get(f"{three['case']}?step=1.1", headers=BROWSER)).text()
    assert f'src="{shot}" alt="After: screenshot shot.png"' in first and "log.png" in first
    assert f'href="{case}/steps/1.1"' not in first  # no text of it was cut
    assert "This result has no step" in await (await nobody.get(f"{case}?step=9", headers=BROWSER)).text()
    missing = await nobody.get(f"{case}/steps/1.9", headers=BROWSER)
    assert missing.status == 404 and "<h1>Step not found</h1>" in await missing.text()


async def test_the_images_of_a_step_stand_in_the_order_of_time_with_their_descriptions(
    nobody, client, make_case, link_on
):
    case = await make_case(status="Failed")
    url = f"{BASE}/test-case-results/{case}"
    steps = [{"step_number": n, "action": f"Go {n}", "status": "Failed" if n == 3 else "Passed"} for n in (1, 2, 3)]
    await post(client, f"{url}/steps/bulk", {"steps": steps})
    sent = [("error", 3, "at the <end>"), ("after", 3, "then"), ("before", 3, HOSTILE)]
    for seed, (category, step, about) in enumerate([*sent, ("before", 1, "b"), ("error", 1, "e")]):
        fields = {"artifact_category": category, "step_number": step, "description": about}
        body = single(png(8, 8, seed), f"{category}{step}.png", **fields)
        assert (await client.post(f"{url}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE})).status == 201
    link = await link_on(test_case_result_id=case)

    async def captions(query):
        text = await (await nobody.get(link + query, headers=BROWSER)).text()
        assert HOSTILE not in text
        return re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", text)

    hostile = "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&gt;&lt;img src=x onerror=alert(2)&gt;{{ 7 * 7 }}"
    bdi = '<bdi dir="auto">{}</bdi>'.format
    in_time = [f"Before: {bdi(hostile)}", f"After: {bdi('then')}", f"Error: {bdi('at the &lt;end&gt;')}"]
    assert await captions("") == await captions("?view=all") == in_time
    assert await captions("?view=error") == in_time[2:]
    assert await captions("?view=side") == [in_time[0], in_time[2]]
    assert await captions("?step=1.1") == [f"Before: {bdi('b')}", f"Error: {bdi('e')}"]
    assert await captions("?step=1.2") == []
    shown = await (await client.get(f"/results/{case}")).text()  # for people who have signed in, the error comes first
    assert re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", shown) == in_time[2:] and "view=all" in shown


async def test_a_link_on_a_result_does_not_show_or_name_other_results_of_its_run(nobody, client, make_run, link_on):
    run = await make_run(name="nightly run", branch="main", commit_sha="abc1234")
    ids = [
        (await post(client, f"{BASE}/suite-runs/{run}/test-cases", body))["id"]
        for body in (
            {"name": "pays", "test_id": "t", "status": "Failed", "attempt": 1, "error_message": "e"},
            {"name": "pays", "test_id": "t", "status": "Failed", "attempt": 2, "error_message": "e"},
            {"name": "other test", "test_id": "u", "status": "Failed"},
        )
    ]
    on_case, on_run = await link_on(test_case_result_id=ids[0]), await link_on(suite_run_id=run)
    text = await (await nobody.get(on_case, headers=BROWSER)).text()
    assert not [id_ for id_ in (run, *ids[1:]) if id_ in text] and "other test" not in text
    assert "nightly run" in text and "abc1234" in text  # the facts of its run
    text = await (await nobody.get(f"{on_run}/test-case-results/{ids[0]}", headers=BROWSER)).text()
    assert all(f"{on_run}/test-case-results/{id_}" in text for id_ in ids) and f'href="{on_run}"' in text
    for page in (text, await (await nobody.get(on_run, headers=BROWSER)).text()):
        page = page.partition("<body")[2]
        assert not [each for each in ("flaky", "new error", "since", "First difference") if each in page]


async def test_the_pages_of_a_run_link_to_all_its_tests(nobody, client, make_run, link_on):
    run = await make_run(build_url="https://ci.example/1?a=1&b=2", tags=["x", "y"])
    cases = [
        {"name": f"case {n:03}", "status": "Failed" if n % 50 == 0 else "Passed", "error_message": "e" * (n % 50 == 0)}
        for n in range(453)
    ]
    await post(client, f"{BASE}/suite-runs/{run}/test-cases/bulk", {"test_cases": cases})
    url = await link_on(suite_run_id=run)

    async def walk(address):
        names, seen = [], 0
        while address:
            text = await (await nobody.get(address, headers=BROWSER)).text()
            names += re.findall(rf'<a href="{url}/test-case-results/[^"]+"><bdi dir="auto">(case \d+)</bdi></a>', text)
            following = re.search(r'href="([^"]+)" rel="next"', text)
            address, seen = following and following[1].replace("&amp;", "&"), seen + 1
        return names, seen

    text = await (await nobody.get(url, headers=BROWSER)).text()
    assert '<a href="https://ci.example/1?a=1&amp;b=2" rel="noreferrer noopener">' in text
    assert "<form" not in text and "453 tests" in text
    tabs = [each.replace("&amp;", "&") for each in re.findall(r'class="(?:Failed|Passed)" href="([^"]+)"', text)]
    assert tabs == [f"{url}?status=Failed", f"{url}?status=Passed"]
    failed, seen = await walk(f"{url}?status=Failed&group=none")
    assert failed == [f"case {n:03}" for n in range(0, 453, 50)] and seen == 1
    passed, seen = await walk(tabs[1])
    assert len(passed) == 443 and seen == 3 and not set(passed) & set(failed)
    assert (await walk(f"{url}?q=case 10"))[0] == [f"case {n:03}" for n in (100, *range(101, 110))]
    for query in ("cursor=x", "status=Nonsense", "page=0"):
        assert (await nobody.get(f"{url}?{query}", headers=BROWSER)).status == 422
    odd = await nobody.get(f"{url}?status=Flaky")
    assert odd.status == 422 and "HTML page only" in await odd.text()
    assert (await nobody.get(f"{url}?status=Flaky", headers=BROWSER)).status == 200


async def test_pages_escape_all_stored_texts(nobody, client, make_run, make_case, link_on):
    run = await make_run(
        name=HOSTILE,
        branch=HOSTILE,
        environment=HOSTILE,
        platform=HOSTILE,
        tags=[HOSTILE],
        build_url="javascript:alert(3)",
        browser=HOSTILE,
        triggered_by=HOSTILE,
    )
    case = await make_case(
        run=run,
        name=HOSTILE,
        test_id=HOSTILE + "x",
        error_message=HOSTILE,
        error_type=HOSTILE,
        status="Failed",
        stack_trace=HOSTILE,
        browser=HOSTILE,
        tags=[HOSTILE],
    )
    url = f"{BASE}/test-case-results/{case}"
    texts = dict.fromkeys(["description", "element_selector", "input_value", "expected_value", "stack_trace"], HOSTILE)
    texts |= dict.fromkeys(["element_name", "error_message", "actual_value"], HOSTILE) | {"action": HOSTILE[:100]}
    texts |= {"step_type": HOSTILE[:50], "error_type": HOSTILE[:100]}
    await post(client, f"{url}/steps", {"steps": [{"step_number": 1, **texts}]})
    points = [{"checkpoint_number": 1, "name": HOSTILE, "message": HOSTILE, "checkpoint_type": HOSTILE[:50]}]
    await post(client, f"{url}/checkpoints", {"checkpoints": points})
    for number in (1, 9):
        body = single(png(), f"{HOSTILE.replace('/', '')}{number}.png", step_number=number, description=HOSTILE)
        sent = await client.post(f"{url}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE})
        assert sent.status == 201
    on_run = await link_on(suite_run_id=run)
    for address in (on_run, f"{on_run}/test-case-results/{case}"):
        text = await (await nobody.get(address, headers=BROWSER)).text()
        page = Page(text)
        assert "script" not in page.tags and text.count("&lt;script&gt;") >= 5 and "{{ 7 * 7 }}" in text
        assert all(load.startswith(("/shared/", "/static/icon.")) for load in page.loads)
        assert not any("javascript" in link for link in page.links)
        assert HOSTILE in page.texts
    assert (
        '<dd><bdi dir="auto">javascript:alert(3)</bdi></dd>' in await (await nobody.get(on_run, headers=BROWSER)).text()
    )


async def test_pages_show_no_control_characters(nobody, client, make_run, make_case, link_on):
    """Playwright and Jest colour their messages, and consoles have progress bars and links."""
    tint = "\x1b[31mError\x1b[39m: \x1b[1;38;5;9mexpect\x1b[0m(\x9b32mreceived\x1b[39m)\x08\r\n\x1b]8;;http://x\x07a\x1b]8;;\x07\x7f"
    shown = "Error: expect(received)\na"
    run = await make_run(name=tint, branch=tint, platform=tint, tags=[tint], build_url=f"https://x/{tint}")
    case = await make_case(run=run, name=tint, error_message=tint, error_type=tint, stack_trace=tint, status="Failed")
    url = f"{BASE}/test-case-results/{case}"
    steps = [{"step_number": 1, **dict.fromkeys(["action", "input_value", "actual_value", "error_message"], tint)}]
    await post(client, f"{url}/steps/bulk", {"steps": steps})
    await post(client, f"{url}/checkpoints", {"checkpoints": [{"checkpoint_number": 1, "name": "x", "message": tint}]})
    on_run = await link_on(suite_run_id=run)
    for address, wanted in ((on_run, 4), (f"{on_run}/test-case-results/{case}", 7)):
        text = await (await nobody.get(address, headers=BROWSER)).text()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
        assert text.count(shown) >= wanted
    report = await (await nobody.get(f"{on_run}/test-case-results/{case}")).json()
    assert report["test_case_result"]["error_message"] == tint  # JSON has it as it was sent


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2K\x1b[1G50%\r100%\n", "50%\n100%\n"),
        ("tab\tend", "tab\tend"),
        ("\x1b[38;2;1;2;3mtrue colour\x1b[m", "true colour"),
        ("\x1b(Bcharset \x1b7\x1b8", "charset "),
        ("\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;title that does not end\nevidence", "0;title that does not end\nevidence"),
        ("cut \x1b[3", "cut "),
        ("cut \x1b", "cut "),
        ("\x1bPdevice\x1b\\ \x85\x9f\x00", " "),
        ("Ünïcödé 測 🙂 \u200f\xa0", "Ünïcödé 測 🙂 \u200f\xa0"),
        (None, None),
        (7, 7),
    ],
)
def test_terminal_codes_are_left_out(text, shown):
    assert viewer._printable(text) == shown


def test_markup_of_templates_is_not_escaped_twice():
    assert (
        viewer._TEMPLATES.from_string("{% macro m() %}<b>{{ '<' }}</b>{% endmacro %}{{ m() }}").render()
        == "<b>&lt;</b>"
    )


async def test_errors_are_pages_for_browsers_and_json_for_others(nobody, three, world):
    missing = f"{three['case']}/artifacts/{uuid.uuid4()}"
    for url, status, detail in [
        ("/shared/rpl_x", 404, ENDED),
        (three["run"][:-1], 404, ENDED),
        (missing, 404, "Artifact not found"),
        (f"{three['run']}/test-case-results/x", 404, "Test case result not found"),
        (f"{three['run']}?page=0", 422, "page: must be at least 1"),
    ]:
        reply = await nobody.get(url, headers=BROWSER)
        text = await reply.text()
        assert (reply.status, reply.content_type) == (status, "text/html") and f"<h1>{detail}</h1>" in text
        check_security_headers(reply, f"default-src 'none'; {policy_of(text)}")
        assert reply.headers["Cache-Control"] == "no-store"
        assert (await nobody.get(url)).content_type == "application/json"
        assert (await nobody.get(url, headers={"Accept": "image/png,*/*;q=0.8"})).content_type == "application/json"


async def test_an_internal_error_is_a_page_for_browsers(nobody, client, three, monkeypatch):
    monkeypatch.setattr(SQL.links, "open", "SELEKT $1, $2, $3")
    reply = await nobody.get(three["run"], headers=BROWSER)
    text = await reply.text()
    assert reply.status == 500 and "An unexpected error occurred" in text and "Ask the person" not in text
    reply = await nobody.get(three["run"])
    assert reply.status == 500 and (await reply.json())["code"] == "internal_error"


def test_an_undefined_variable_of_a_template_is_an_error():
    with pytest.raises(Exception, match="undefined"):
        viewer._TEMPLATES.from_string("{{ nothing }}").render()


def test_a_browser_shows_a_page_with_its_images(up_server, tmp_path):
    """The browser loads every image and reports no policy violation."""
    run = up_server.ask_json("POST", f"{BASE}/suite-runs", {"name": "x"}, 201)["id"]
    case = up_server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "x"}, 201)["id"]
    for number in (1, 2):
        body = single(png(seed=number), step_number=number)
        sent = up_server.ask("POST", f"{BASE}/test-case-results/{case}/artifacts", body, Content_Type=CONTENT_TYPE)
        assert sent.status == 201
    url = up_server.ask_json("POST", f"{BASE}/links", {"test_case_result_id": case}, 201)["url"]
    done = subprocess.run(
        [
            *(chromium_path(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *(f"--user-data-dir={tmp_path}", "--dump-dom", up_server.url + url),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'id="files"' in done.stdout, done.stderr
    assert "Content Security Policy" not in done.stderr and "Refused to" not in done.stderr
    (link,) = up_server.ask_json("GET", f"{BASE}/links?test_case_result_id={case}")["items"]
    assert (link["opened"], link["downloads"]) == (1, 2)


# --- the log ---------------------------------------------------------------------------------------------------


async def test_links_are_not_logged(nobody, client, three, world, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    text, case = three["case"].removeprefix("/shared/"), world["cases"]["failed"]
    encoded = "".join(f"%{ord(character):02x}" for character in text)
    targets = [
        f"/shared/{text}",
        f"/shared/{text}x",
        f"/shared/{text}/test-case-results/{case}?page={text}",
        f"/shared/{text}/nothing/{text}",
        f"/nothing/{text}",
        f"//shared/{text}",
        f"/{text}?{text}#{text}",
        f"/shared/{encoded}",
        f"/%73hared/{encoded}",
        f"/%73hared/{text}",
        f"/shared%2f{text}",
        f"/docs/..%2fshared/{encoded}",
        f"http://reports.example/shared/{text}",
        f"http://reports.example/%73hared/{encoded}/artifacts/{case}",
    ]

    async def send(target):
        reader, writer = await asyncio.open_connection(nobody.host, nobody.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {text}\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE.total):
            reply = await reader.read()
        writer.close()
        return reply

    def lines():
        return [line for record in caplog.records for line in (TextLines().format(record), JsonLines().format(record))]

    statuses = []
    for target in targets:
        caplog.clear()
        reply = await send(target)
        statuses.append(int(reply.split()[1]))
        body = reply.partition(b"\r\n\r\n")[2]
        assert statuses[-1] == 200 or b'"request_id"' in body.replace(text.encode(), b"", 1)
        logged = lines()
        assert any("reportd.requests" in line for line in logged), target
        for secret in (text, encoded, text[-20:]):
            assert not any(secret in line for line in logged), (target, logged)
    assert statuses.count(200) >= 4
    monkeypatch.setattr(SQL.links, "open", "SELEKT $1, $2, $3")
    caplog.clear()
    assert (await send(f"/shared/{text}")).startswith(b"HTTP/1.1 500 ")
    assert any("SELEKT" in line and "Traceback" in line for line in lines())
    logging.getLogger("reportd").error("this has %s", text, exc_info=ValueError(text))
    assert not any(text[4:] in line for line in lines()) and any("this has [redacted]" in line for line in lines())


async def test_a_head_request_does_not_count_as_a_use(nobody, three, world, rows):
    """It does not even write a new row version."""
    versions = "SELECT id, xmin::text FROM evidence_links ORDER BY id"
    before = rows(versions)
    for rest in (
        "",
        f"/test-case-results/{world['cases']['failed']}",
        f"/artifacts/{world['artifacts']['failed', 'shot']}",
    ):
        assert (await nobody.head(three["run"] + rest)).status == 200
    assert rows(versions) == before
    await nobody.get(three["run"])
    assert rows(versions) != before
