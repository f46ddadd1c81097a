"""Uploaded files cannot harm the people who open them: tested in a real Chromium, with a control.

The control is the same file from an unprotected address: with the type that the sender declared, and without our
headers. Its vectors must work, which proves that the test detects them. Our files are opened first, so by the time
the control's vectors have worked, ours would have worked too.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import pytest
from aiohttp import web

from server.app import create_app
from server.http.middleware import SAFE_HEADERS
from server.uploads.content import KNOWN_TYPES
from tests import hostile
from tests.chromium import browser, chromium, chromium_path, until
from tests.forms import post, single
from tests.hostile import AUTOMATIC, CLICKED, FRAMED_CLICKED, LINKS, NAVIGATING, TEXT, Kind
from tests.makers import png

__all__ = ["browser", "chromium"]  # fixtures

BASE = "/api/v1/reports"
READABLE = "a-cookie-that-scripts-may-read"
OURS = set(SAFE_HEADERS) | {"Content-Security-Policy"}


@dataclass
class Attacker:
    """The attacker's server. It answers every request, and records its path and its `report`.

    `group` is the first segment of the path: "ours" for files that the server protects, "theirs" for the control.
    """

    port: int = 0
    pages: dict[str, str] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    _reports: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        _, group, name = f"{request.path}//".split("/", 2)
        self._reports[group][name.strip("/")].append(request.query.get("report", ""))
        text = self.pages.get(request.path, "")
        return web.Response(text=text, content_type="text/html", headers={"Access-Control-Allow-Origin": "*"})

    def hit(self, group: str) -> str:
        """The address for files of a group, up to the name. Uses localhost, not our 127.0.0.1: cookies ignore ports."""
        return f"http://localhost:{self.port}/{group}/"

    def requested(self, group: str) -> set[str]:
        return set(self._reports[group])

    def report(self, group: str, name: str) -> str:
        return " ".join(self._reports[group][name])


@dataclass
class Site:
    """The server with extra test pages below /test/, from which our security headers are removed."""

    client: Any = None
    case: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    bare: dict[str, Kind] = field(default_factory=dict)
    answered: list[tuple[str, int]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.client.port}{path}"

    @property
    def login(self) -> str:
        return self.page("empty", "<title>logged in</title>", "/test/login?to=")

    def page(self, name: str, html: str, before: str = "") -> str:
        """The address of a new page with this HTML."""
        self.pages[name] = html
        return self.url(f"{before}/test/page/{name}")

    def framing(self, name: str, urls: Iterable[str], style: str = "") -> str:
        """The address of a new page that shows each URL in a frame."""
        frames = "".join(f"<iframe style='{style}' src='{url}'></iframe>" for url in urls)
        return self.page(name, f"<!DOCTYPE html><title>host</title><style>body {{ margin: 0 }}</style>{frames}")

    async def send(self, kind: Kind) -> dict[str, Any]:
        """Upload the file: its artifact with the protected `url` and the unprotected `bare`."""
        body = single(kind.content, kind.file_name, kind.declared)
        status, artifact = await post(self.client, f"{self.case}/artifacts", body)
        assert (status, artifact["mime_type"]) == (201, kind.mime_type), artifact
        self.bare[artifact["id"]] = kind
        return artifact | {"url": self.url(artifact["download_url"]), "bare": self.url(f"/test/bare/{artifact['id']}")}

    async def send_both(
        self, attacker: Attacker, make: Callable[[str], dict[str, Kind]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Upload the files twice, by name: once for the group "ours", once for the group "theirs"."""
        ours = {name: await self.send(kind) for name, kind in make(attacker.hit("ours")).items()}
        theirs = {name: await self.send(kind) for name, kind in make(attacker.hit("theirs")).items()}
        return ours, theirs


@pytest.fixture
async def attacker(aiohttp_server):
    attacker = Attacker()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", attacker.answer)
    attacker.port = (await aiohttp_server(app)).port
    return attacker


@pytest.fixture
async def site(aiohttp_client, config, make_token):
    artifacts = msgspec.structs.replace(config.artifacts, allowed_types=sorted(KNOWN_TYPES))
    app = create_app(msgspec.structs.replace(config, artifacts=artifacts))
    site = Site()

    async def login(request):
        """Set the real session cookie, and a cookie that scripts can read."""
        session = await site.client.post("/api/v1/auth/session")
        response = web.Response(status=302, headers={"Location": request.query["to"]})
        response.headers.add("Set-Cookie", session.headers["Set-Cookie"])
        response.headers.add("Set-Cookie", f"readable={READABLE}; Path=/")
        return response

    async def page(request):
        return web.Response(text=site.pages[request.match_info["name"]], content_type="text/html")

    async def bare(request):
        kind = site.bare[request.match_info["id"]]
        return web.Response(body=kind.content, content_type=kind.declared)

    async def worker(request):
        return web.Response(text="", content_type="text/javascript")

    async def remove_headers(request, response):
        site.answered.append((request.path, response.status))
        if request.path.startswith("/test/"):
            for name in OURS:
                response.headers.popall(name, None)

    app.router.add_get("/test/login", login)
    app.router.add_get("/test/page/{name}", page)
    app.router.add_get("/test/bare/{id}", bare)
    app.router.add_get("/test/worker.js", worker)
    app.on_response_prepare.append(remove_headers)
    site.client = await aiohttp_client(app, headers={"Authorization": f"Bearer {make_token()}"})
    run = await (await site.client.post(f"{BASE}/suite-runs", json={"name": "nightly"})).json()
    case = await (await site.client.post(f"{BASE}/suite-runs/{run['id']}/test-cases", json={"name": "x"})).json()
    site.case = f"{BASE}/test-case-results/{case['id']}"
    return site


def names(vectors: Iterable[str]) -> set[str]:
    return {name.replace(" ", "-") for name in vectors}


async def control_requested(attacker: Attacker, vectors: Iterable[str]) -> None:
    """Wait until every vector of the control has worked."""
    expected = names(vectors)
    await until(lambda: attacker.requested("theirs") >= expected, lambda: str(expected - attacker.requested("theirs")))


def test_without_chromium_the_tests_are_skipped_or_fail_if_it_is_required(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for value, outcome in [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]:
        monkeypatch.setenv("REQUIRE_CHROMIUM", value)
        with pytest.raises(outcome, match="no Chromium"):
            chromium_path()


async def test_an_uploaded_page_runs_nothing_and_requests_nothing(browser, site, attacker):
    """Every vector that needs no click, opened directly and in frames of one of our pages."""
    ours, theirs = await site.send_both(attacker, hostile.pages)
    await browser.open(site.login)
    tabs = [await browser.open(each["url"]) for each in ours.values()]
    host = await browser.open(site.framing("ours", [each["url"] for each in ours.values()]))
    control = await browser.open(site.framing("theirs", [theirs["automatic"]["bare"]]))
    for each in theirs.values():
        await browser.open(each["bare"])

    await control_requested(attacker, AUTOMATIC | NAVIGATING)
    assert f"readable={READABLE}" in attacker.report("theirs", "cookie")
    assert '"name":"nightly"' in attacker.report("theirs", "the-API")
    assert await control.evaluate("document.title") == "owned"

    assert attacker.requested("ours") == set()
    for tab, each in zip(tabs, ours.values(), strict=True):
        assert await tab.evaluate("document.URL") == each["url"]
        assert await tab.evaluate("document.title") == "harmless" and TEXT in (await tab.texts())[0]
    assert await host.evaluate("document.title") == "host"
    assert sum(TEXT in text for text in await host.texts()) == len(ours)
    assert not await host.evaluate("[...document.querySelectorAll('iframe')].some(frame => frame.contentDocument)")


async def test_html_in_files_of_other_types_is_not_rendered(browser, site, attacker):
    ours, theirs = await site.send_both(attacker, hostile.kinds)
    await browser.open(site.login)
    tabs = {name: await browser.open(each["url"]) for name, each in ours.items()}
    host = await browser.open(site.framing("ours", [each["url"] for each in ours.values()]))
    for each in theirs.values():
        await browser.open(each["bare"])

    await control_requested(attacker, ours)
    assert attacker.requested("ours") == set()
    for name, tab in tabs.items():
        assert await tab.evaluate("document.contentType") == ours[name]["mime_type"], name
        if name.startswith("behind"):
            assert await tab.evaluate("document.querySelector('img').naturalWidth") == 16
        else:
            assert TEXT in await tab.evaluate("document.body.innerText"), name
    assert len(await host.texts()) == 1 + len(ours)


async def test_our_pages_cannot_load_uploads_as_scripts_or_style_sheets(browser, site, attacker):
    """Even after an HTML injection into one of our pages."""
    ours, theirs = await site.send_both(attacker, hostile.scripts)
    await browser.open(site.login)
    for files, which in (ours, "url"), (theirs, "bare"):
        urls = [each[which] for name, each in files.items() if name != "style"]
        lines = [f"<link rel=stylesheet href='{files['style'][which]}'><p>x</p>"]
        for url in urls:
            lines += [f"<script src='{url}'></script><script type=module src='{url}'></script>"]
            lines += [f"<script>new Worker('{url}'); navigator.serviceWorker.register('{url}')</script>"]
        await browser.open(site.page(which, "\n".join(lines)))
    globals = ("Window", "DedicatedWorkerGlobalScope", "ServiceWorkerGlobalScope")
    await control_requested(
        attacker, ["style", *(f"{name}-in-{each}" for name in ours if name != "style" for each in globals)]
    )
    assert attacker.requested("ours") == set()


@pytest.mark.parametrize("framed", [False, True])
async def test_a_click_only_follows_plain_links(browser, site, attacker, framed):
    """The page that a link opens receives neither a Referer nor a cookie."""
    vectors = FRAMED_CLICKED if framed else CLICKED

    async def opened(group: str) -> Any:
        content = hostile.clickable(vectors | LINKS, attacker.hit(group))
        artifact = await site.send(Kind(content, "a.html", "text/html", "text/html"))
        url = artifact["url" if group == "ours" else "bare"]
        return await browser.open(site.framing(group, [url], "border: 0; height: 600px") if framed else url)

    async def click(tab: Any, row: int, done: Callable[[], Any]) -> None:
        await tab.click(20, 20 + 40 * row, done)

    async def focused(tab: Any, row: int) -> bool:
        """Whether the element in this row has the focus, which means that it was clicked."""
        script = "[...document.querySelectorAll('div')].findIndex(div => div.contains(document.activeElement))"
        return await tab.evaluate(script, tab.isolated_frames()[0] if framed else None) == row

    async def requested(group: str, name: str) -> bool:
        return names([name]) <= attacker.requested(group)

    await browser.open(site.login)
    ours = await opened("ours")
    before = await ours.evaluate("document.URL")
    for row in range(len(vectors)):
        await click(ours, row, partial(focused, ours, row))
    for row, name in enumerate(vectors):
        await click(await opened("theirs"), row, partial(requested, "theirs", name))
    assert attacker.requested("ours") == set() and (await ours.evaluate("document.URL")).partition("#")[0] == before

    for row, name in enumerate(LINKS, len(vectors)):
        await click(await opened("ours"), row, partial(requested, "ours", name))
    for request in attacker.requests:
        assert not request.path.startswith("/ours/") or not {"Referer", "Cookie"} & request.headers.keys()


async def test_scripts_in_a_pdf_reach_neither_the_page_nor_the_network(browser, site, attacker):
    """They run in the browser's PDF viewer, which gives them no page, no cookie and no network."""
    file = await site.send(Kind(hostile.pdf(attacker.hit("ours")), "a.pdf", "application/pdf", "application/pdf"))
    await browser.open(site.login)
    await browser.open(file["url"])
    host = await browser.open(site.framing("ours", [file["url"]]))

    def dialogs() -> list[str]:
        return [each["message"] for each in browser.events_named("Page.javascriptDialogOpening")]

    await until(lambda: len(dialogs()) == 2, lambda: str(dialogs()))
    assert dialogs() == [",".join(["undefined"] * 5)] * 2
    assert attacker.requested("ours") == set() and await host.evaluate("document.title") == "host"
    assert len(await browser.pages()) == browser.tabs


NAMES = [
    "../../evil.html",
    "..\\..\\evil.html",
    'a"; filename="evil.exe',
    "a\r\nContent-Type: text/html\r\n\r\n<script>.html",
    "report\u202elmth.png",
    ".bashrc",
    "'\"%00%2f..%2fevil.html",
]


async def test_a_download_is_saved_under_a_safe_name_and_not_shown(browser, site, attacker, tmp_path):
    content = hostile.page(AUTOMATIC, attacker.hit("ours"))
    settings = {"behavior": "allowAndName", "browserContextId": browser.context, "eventsEnabled": True}
    await browser.command("Browser.setDownloadBehavior", downloadPath=str(tmp_path), **settings)
    await browser.open(site.login)
    for name in NAMES:
        artifact = await site.send(Kind(content, name, "text/html", "text/html"))
        tab = await browser.open(artifact["url"] + "?download=1")
        assert await tab.evaluate("document.URL") == "about:blank"

    def done() -> list[Any]:
        return [each for each in browser.events_named("Browser.downloadProgress") if each["state"] == "completed"]

    await until(lambda: len(done()) == len(NAMES), lambda: str(browser.events_named("Browser.downloadProgress")))
    for begun in browser.events_named("Browser.downloadWillBegin"):
        assert re.fullmatch(r"[^./\\\0-\x1f\u202e][^/\\\0-\x1f\u202e]*", begun["suggestedFilename"])
        assert (tmp_path / begun["guid"]).read_bytes() == content
    assert attacker.requested("ours") == set()


async def test_a_picture_shows_in_our_pages_only_after_login(browser, site):
    artifact = await site.send(Kind(png(20, 10), "a.png", "image/png", "image/png"))
    url = site.page("picture", f"<!DOCTYPE html><img src='{artifact['url']}'>")
    width = "document.images[0].decode().catch(() => 0).then(() => document.images[0].naturalWidth)"
    assert await (await browser.open(url)).evaluate(width) == 0
    await browser.open(site.login)
    assert await (await browser.open(url)).evaluate(width) == 20


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_another_origin_can_neither_read_nor_embed_artifacts(browser, site, attacker, host):
    """The browser sends our cookie from another port (200), but not from another host (401)."""
    picture = await site.send(Kind(png(20, 10), "a.png", "image/png", "image/png"))
    text = await site.send(Kind(hostile.page({}, ""), "a.html", "text/html", "text/html"))
    await browser.open(site.login)
    width = "document.images[0].decode().catch(() => 0).then(() => document.images[0].naturalWidth)"
    found = {}
    for which in ("url", "bare"):
        url = text[which]
        frames = f"<iframe src='{url}'></iframe><object data='{url}'></object><embed src='{url}'>"
        attacker.pages[f"/{which}/page"] = f"<!DOCTYPE html><img src='{picture[which]}'>{frames}"
        tab = await browser.open(f"http://{host}:{attacker.port}/{which}/page")
        read = f"fetch('{url}', {{mode: MODE, credentials: 'include'}}).then(reply => reply.type, () => 'refused')"
        found[which] = {
            "width": await tab.evaluate(width),
            "frames": sum(TEXT in each for each in await tab.texts()),
            "cors": await tab.evaluate(read.replace("MODE", "'cors'")),
            "no-cors": await tab.evaluate(read.replace("MODE", "'no-cors'")),
        }
    assert found["bare"] == {"width": 20, "frames": 3, "cors": "refused", "no-cors": "opaque"}
    assert found["url"] == {"width": 0, "frames": 0, "cors": "refused", "no-cors": "refused"}
    asked = [status for path, status in site.answered if path == picture["download_url"]]
    assert asked == [200 if host == "127.0.0.1" else 401]
