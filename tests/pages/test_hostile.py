"""Hostile text in every field is text on every page: no page has a script, style or handler in its HTML."""

import json
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from server.routes import PAGES
from tests.api.test_steps import send_png
from tests.pages.test_access import QUERIES

API = "/api/v1/reports"
EVIL = "\"'><x-evil onclick=evil() style=color:red><script>evil()</script><img src=x onerror=evil()>{{7*7}}"
TURNED = "\u202egnihtemos\u202c \x1b[31mred\x1b[0m \x1b]8;;javascript:evil()\x07link\x1b]8;;\x07"
TEXTS = {
    "markup": EVIL,
    "control": TURNED + EVIL,
    "address": "javascript:evil()//" + EVIL,
    "long": EVIL + "x" * 100_000,
}


class Page(HTMLParser):
    """What a browser would find in a page: its tags, its attributes, and what stands in <script> and <style>."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.wrong, self._inside = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._inside = tag if tag in ("script", "style") else ""
        for name, value in attributes:
            address = name in ("href", "src", "action", "formaction", "srcset", "poster", "data", "xlink:href")
            # Addresses of this server, and those of builds, which lead to web pages only.
            fine = not address or (value or "").startswith(("/", "#", "?", "http://", "https://"))
            if name.startswith("on") or name in ("style", "srcdoc") or not fine or (value or "").startswith("//"):
                self.wrong.append((tag, name, value))

    def handle_data(self, data):
        if self._inside and data.strip():
            self.wrong.append((self._inside, data))

    def handle_endtag(self, tag):
        self._inside = ""


def check(text):
    page = Page(text)
    assert page.wrong == [] and "x-evil" not in page.tags and "style" not in page.tags, page.wrong
    assert "\x1b" not in text and "\x07" not in text
    assert page.tags.isdisjoint({"iframe", "object", "embed", "base", "meta-refresh"})


def fields(text, **others):
    """All text fields of a resource with a hostile text, as long as each may be."""
    names = {
        **dict.fromkeys(("name", "test_id", "branch"), 500),
        **dict.fromkeys(("environment", "triggered_by", "platform", "browser", "element_name"), 250),
        **dict.fromkeys(("error_type", "action"), 100),
        **{"error_message": 200_000, "stack_trace": 200_000, "build_url": 2000, "commit_sha": 64, "run_key": 500},
        **dict.fromkeys(("description", "expected_value", "actual_value", "input_value", "element_selector"), 200_000),
        **{"screenshot_path": 500},
    }
    return {**{name: text[:most] for name, most in names.items()}, "tags": [text[:500]], **others}


@pytest.fixture
async def hostile(client):
    """await hostile(text): the ids of a run, result, step and files that have this text everywhere."""

    async def make(text):
        async def post(path, body, status=201):
            reply = await client.post(API + path, json=body)
            assert reply.status == status, await reply.text()
            return await reply.json()

        run = (await post("/suite-runs", fields(text, status="Failed")))["id"]
        case = (await post(f"/suite-runs/{run}/test-cases", fields(text, status="Failed")))["id"]
        await post(f"/suite-runs/{run}/test-cases", fields(text, status="Passed", name="b" + text[:99], test_id="b"))
        step = {"step_number": 1, "step_type": text[:50], "status": "Failed"}
        await post(f"/test-case-results/{case}/steps", {"steps": [fields(text, **step), {**step, "step_number": 2}]})
        path = f"/test-case-results/{case}"
        console = {"level": "error", "message": text, "source_url": text[:2000]}
        network = {"method": "GET", "url": text[:2000], "status_code": 500, "error_text": text[:2000]}
        checkpoint = {"name": text[:255], "status": "Failed", "message": text[:9000]}
        for name, lists in [
            ("console-logs", [console]),
            ("network-logs", [network]),
            ("checkpoints", [checkpoint]),
        ]:
            body = {"checkpoints" if name == "checkpoints" else "logs": lists}
            reply = await client.post(f"{API}{path}/{name}", json=body)
            assert reply.status in (201, 422), await reply.text()
        for number in (1, 2):
            sent = {"step_number": number, "artifact_category": "error", "description": text[:9000]}
            await send_png(client, API + path, number, name=text[:100].replace("\x1b", "").replace("\x07", ""), **sent)
        return {"suite_id": run, "case_id": case, "at": "1.1"}

    return make


@pytest.mark.parametrize("kind", TEXTS)
async def test_no_page_has_hostile_text_as_markup(client, hostile, kind):
    text = TEXTS[kind]
    ids = await hostile(text)
    test_id, short = quote(text[:500]), quote(text[:400].replace("\x1b", "").replace("\x07", ""))
    asked = 0
    for route in PAGES:
        if route.method != "GET":
            continue
        path = route.path.format_map(ids)
        addresses = [path + QUERIES.get(path, "")]
        if path == "/tests":
            addresses = [f"/tests?id={test_id}"]
        addresses += [
            f"{path}?{name}={short}" for name in ("project", "branch", "name", "tag", "q", "error", "step", "next")
        ]
        addresses += [f"{path}?{name}={short}" for name in ("status", "cursor", "group", "view", "since")]
        for address in addresses:
            reply = await client.get(address, allow_redirects=False)
            assert reply.status in (200, 303, 404, 422), (address, reply.status)
            check(await reply.text())
            asked += 1
    assert asked > 100
    found = await (await client.get("/runs?branch=" + quote(text[:500]))).text()
    assert "&lt;x-evil" in found or kind == "long"  # it is there, as text


def test_the_check_finds_what_it_looks_for():
    for text in (
        "<p onclick=x>",
        "<p style=x>",
        "<script>x</script>",
        "<a href=javascript:x>",
        "<style>x</style>",
        EVIL,
    ):
        with pytest.raises(AssertionError):
            check(text)
    check(f"<p>{json.dumps('x')}</p><script src='/static/x.js'></script><a href='/runs'>x</a>")
