"""What is uploaded harms nobody who opens it: in a real Chromium, beside the same files from a server that is careless.

The careless one believes the type that the sender declared, and sends no header of ours. What its pages do shows that
the test would see it; ours are opened first, so what they did not do by then they do not do.
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
from tests.chromium import browser, chromium, program, until
from tests.forms import post, single
from tests.hostile import CLICKED, FRAMED_CLICKED, LEAVING, LINKS, TEXT, UNASKED, Kind
from tests.makers import png

__all__ = ["browser", "chromium"]  # fixtures

BASE = "/api/v1/reports"
READABLE = "a-cookie-that-scripts-may-read"
OURS = set(SAFE_HEADERS) | {"Content-Security-Policy"}


@dataclass
class Writer:
    """The server of whoever wrote the hostile files. It answers everything, and notes what it was asked and told."""

    port: int = 0
    pages: dict[str, str] = field(default_factory=dict)
    requests: list[web.Request] = field(default_factory=list)
    _told: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        _, mark, name = f"{request.path}//".split("/", 2)
        self._told[mark][name.strip("/")].append(request.query.get("told", ""))
        text = self.pages.get(request.path, "")
        return web.Response(text=text, content_type="text/html", headers={"Access-Control-Allow-Origin": "*"})

    def hit(self, mark: str) -> str:
        """The address for files of a mark, up to the name. Another site than ours: cookies do not know ports."""
        return f"http://localhost:{self.port}/{mark}/"

    def heard(self, mark: str) -> set[str]:
        return set(self._told[mark])

    def told(self, mark: str, name: str) -> str:
        return " ".join(self._told[mark][name])


@dataclass
class Site:
    """The server with a few pages more, below /test/, which have no headers but their own."""

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
        """The address of a page with this text."""
        self.pages[name] = html
        return self.url(f"{before}/test/page/{name}")

    def framing(self, name: str, urls: Iterable[str], style: str = "") -> str:
        """The address of a page with these in frames."""
        frames = "".join(f"<iframe style='{style}' src='{url}'></iframe>" for url in urls)
        return self.page(name, f"<!DOCTYPE html><title>host</title><style>body {{ margin: 0 }}</style>{frames}")

    async def send(self, kind: Kind) -> dict[str, Any]:
        """An artifact, and the same file for the careless address `bare`."""
        body = single(kind.content, kind.file_name, kind.declared)
        status, artifact = await post(self.client, f"{self.case}/artifacts", body)
        assert (status, artifact["mime_type"]) == (201, kind.mime_type), artifact
        self.bare[artifact["id"]] = kind
        return artifact | {"url": self.url(artifact["download_url"]), "bare": self.url(f"/test/bare/{artifact['id']}")}

    async def send_both(
        self, writer: Writer, make: Callable[[str], dict[str, Kind]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Twice the same files by name, but for whom they call: for us to show, and for the careless one."""
        ours = {name: await self.send(kind) for name, kind in make(writer.hit("ours")).items()}
        theirs = {name: await self.send(kind) for name, kind in make(writer.hit("theirs")).items()}
        return ours, theirs


@pytest.fixture
async def writer(aiohttp_server):
    writer = Writer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", writer.answer)
    writer.port = (await aiohttp_server(app)).port
    return writer


@pytest.fixture
async def site(aiohttp_client, config, make_token):
    artifacts = msgspec.structs.replace(config.artifacts, allowed_types=sorted(KNOWN_TYPES))
    app = create_app(msgspec.structs.replace(config, artifacts=artifacts))
    site = Site()

    async def login(request):
        """The real session's cookie, and one that scripts could read."""
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

    async def careless(request, response):
        site.answered.append((request.path, response.status))
        if request.path.startswith("/test/"):
            for name in OURS:
                response.headers.popall(name, None)

    app.router.add_get("/test/login", login)
    app.router.add_get("/test/page/{name}", page)
    app.router.add_get("/test/bare/{id}", bare)
    app.router.add_get("/test/worker.js", worker)
    app.on_response_prepare.append(careless)
    site.client = await aiohttp_client(app, headers={"Authorization": f"Bearer {make_token()}"})
    run = await (await site.client.post(f"{BASE}/suite-runs", json={"name": "nightly"})).json()
    case = await (await site.client.post(f"{BASE}/suite-runs/{run['id']}/test-cases", json={"name": "x"})).json()
    site.case = f"{BASE}/test-case-results/{case['id']}"
    return site


def names(vectors: Iterable[str]) -> set[str]:
    return {name.replace(" ", "-") for name in vectors}


async def all_heard(writer: Writer, vectors: Iterable[str]) -> None:
    """Waits until the careless server's pages have done all that they can."""
    expected = names(vectors)
    await until(lambda: writer.heard("theirs") >= expected, lambda: str(expected - writer.heard("theirs")))


def test_without_a_browser_these_are_skipped_unless_there_must_be_one(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for value, outcome in [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]:
        monkeypatch.setenv("REQUIRE_CHROMIUM", value)
        with pytest.raises(outcome, match="no Chromium"):
            program()


async def test_a_page_does_nothing_and_tells_nothing(browser, site, writer):
    """All that a page can do by itself, opened directly and in frames of a page of ours."""
    ours, theirs = await site.send_both(writer, hostile.pages)
    await browser.open(site.login)
    tabs = [await browser.open(each["url"]) for each in ours.values()]
    host = await browser.open(site.framing("ours", [each["url"] for each in ours.values()]))
    careless = await browser.open(site.framing("theirs", [theirs["unasked"]["bare"]]))
    for each in theirs.values():
        await browser.open(each["bare"])

    await all_heard(writer, UNASKED | LEAVING)
    assert f"readable={READABLE}" in writer.told("theirs", "cookie")
    assert '"name":"nightly"' in writer.told("theirs", "the-API")
    assert await careless.run("document.title") == "owned"

    assert writer.heard("ours") == set()
    for tab, each in zip(tabs, ours.values(), strict=True):
        assert await tab.run("document.URL") == each["url"]
        assert await tab.run("document.title") == "harmless" and TEXT in (await tab.texts())[0]
    assert await host.run("document.title") == "host"
    assert sum(TEXT in text for text in await host.texts()) == len(ours)
    assert not await host.run("[...document.querySelectorAll('iframe')].some(frame => frame.contentDocument)")


async def test_what_only_looks_like_a_page_is_none(browser, site, writer):
    ours, theirs = await site.send_both(writer, hostile.kinds)
    await browser.open(site.login)
    tabs = {name: await browser.open(each["url"]) for name, each in ours.items()}
    host = await browser.open(site.framing("ours", [each["url"] for each in ours.values()]))
    for each in theirs.values():
        await browser.open(each["bare"])

    await all_heard(writer, ours)
    assert writer.heard("ours") == set()
    for name, tab in tabs.items():
        assert await tab.run("document.contentType") == ours[name]["mime_type"], name
        if name.startswith("behind"):
            assert await tab.run("document.querySelector('img').naturalWidth") == 16
        else:
            assert TEXT in await tab.run("document.body.innerText"), name
    assert len(await host.texts()) == 1 + len(ours)


async def test_nothing_uploaded_is_a_script_or_a_style_of_our_pages(browser, site, writer):
    """Not even where somebody managed to write into one."""
    ours, theirs = await site.send_both(writer, hostile.scripts)
    await browser.open(site.login)
    for files, which in (ours, "url"), (theirs, "bare"):
        urls = [each[which] for name, each in files.items() if name != "style"]
        lines = [f"<link rel=stylesheet href='{files['style'][which]}'><p>x</p>"]
        for url in urls:
            lines += [f"<script src='{url}'></script><script type=module src='{url}'></script>"]
            lines += [f"<script>new Worker('{url}'); navigator.serviceWorker.register('{url}')</script>"]
        await browser.open(site.page(which, "\n".join(lines)))
    globals = ("Window", "DedicatedWorkerGlobalScope", "ServiceWorkerGlobalScope")
    await all_heard(writer, ["style", *(f"{name}-in-{each}" for name in ours if name != "style" for each in globals)])
    assert writer.heard("ours") == set()


@pytest.mark.parametrize("framed", [False, True])
async def test_a_click_does_what_a_click_on_a_link_does(browser, site, writer, framed):
    """A page can only be left for another, which does not learn where the visitor came from."""
    vectors = FRAMED_CLICKED if framed else CLICKED

    async def opened(mark: str) -> Any:
        content = hostile.clickable(vectors | LINKS, writer.hit(mark))
        artifact = await site.send(Kind(content, "a.html", "text/html", "text/html"))
        url = artifact["url" if mark == "ours" else "bare"]
        return await browser.open(site.framing(mark, [url], "border: 0; height: 600px") if framed else url)

    async def click(tab: Any, row: int, enough: Callable[[], Any]) -> None:
        await tab.click(20, 20 + 40 * row, enough)

    async def focused(tab: Any, row: int) -> bool:
        """Whether what stands in a row has the focus: it was clicked."""
        script = "[...document.querySelectorAll('div')].findIndex(div => div.contains(document.activeElement))"
        return await tab.run(script, tab.apart()[0] if framed else None) == row

    async def heard(mark: str, name: str) -> bool:
        return names([name]) <= writer.heard(mark)

    await browser.open(site.login)
    ours = await opened("ours")
    before = await ours.run("document.URL")
    for row in range(len(vectors)):
        await click(ours, row, partial(focused, ours, row))
    for row, name in enumerate(vectors):
        await click(await opened("theirs"), row, partial(heard, "theirs", name))
    assert writer.heard("ours") == set() and (await ours.run("document.URL")).partition("#")[0] == before

    for row, name in enumerate(LINKS, len(vectors)):
        await click(await opened("ours"), row, partial(heard, "ours", name))
    for request in writer.requests:
        assert not request.path.startswith("/ours/") or not {"Referer", "Cookie"} & request.headers.keys()


async def test_a_pdf_runs_its_scripts_in_the_viewer_and_not_in_a_page(browser, site, writer):
    """Which is the browser's: there they see no page and no cookie, and get nowhere."""
    file = await site.send(Kind(hostile.pdf(writer.hit("ours")), "a.pdf", "application/pdf", "application/pdf"))
    await browser.open(site.login)
    await browser.open(file["url"])
    host = await browser.open(site.framing("ours", [file["url"]]))

    def dialogs() -> list[str]:
        return [each["message"] for each in browser.said("Page.javascriptDialogOpening")]

    await until(lambda: len(dialogs()) == 2, lambda: str(dialogs()))
    assert dialogs() == [",".join(["undefined"] * 5)] * 2
    assert writer.heard("ours") == set() and await host.run("document.title") == "host"
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


async def test_a_download_is_saved_and_not_shown(browser, site, writer, tmp_path):
    """Under a name that leads nowhere else."""
    content = hostile.page(UNASKED, writer.hit("ours"))
    settings = {"behavior": "allowAndName", "browserContextId": browser.context, "eventsEnabled": True}
    await browser.ask("Browser.setDownloadBehavior", downloadPath=str(tmp_path), **settings)
    await browser.open(site.login)
    for name in NAMES:
        artifact = await site.send(Kind(content, name, "text/html", "text/html"))
        tab = await browser.open(artifact["url"] + "?download=1")
        assert await tab.run("document.URL") == "about:blank"

    def done() -> list[Any]:
        return [each for each in browser.said("Browser.downloadProgress") if each["state"] == "completed"]

    await until(lambda: len(done()) == len(NAMES), lambda: str(browser.said("Browser.downloadProgress")))
    for begun in browser.said("Browser.downloadWillBegin"):
        assert re.fullmatch(r"[^./\\\0-\x1f\u202e][^/\\\0-\x1f\u202e]*", begun["suggestedFilename"])
        assert (tmp_path / begun["guid"]).read_bytes() == content
    assert writer.heard("ours") == set()


async def test_a_picture_shows_in_our_pages_to_whoever_is_logged_in(browser, site):
    artifact = await site.send(Kind(png(20, 10), "a.png", "image/png", "image/png"))
    url = site.page("picture", f"<!DOCTYPE html><img src='{artifact['url']}'>")
    width = "document.images[0].decode().catch(() => 0).then(() => document.images[0].naturalWidth)"
    assert await (await browser.open(url)).run(width) == 0
    await browser.open(site.login)
    assert await (await browser.open(url)).run(width) == 20


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_another_origin_can_neither_read_nor_embed(browser, site, writer, host):
    """Another port is sent our cookie with, another name is not; what comes back is nothing that it may use."""
    picture = await site.send(Kind(png(20, 10), "a.png", "image/png", "image/png"))
    text = await site.send(Kind(hostile.page({}, ""), "a.html", "text/html", "text/html"))
    await browser.open(site.login)
    width = "document.images[0].decode().catch(() => 0).then(() => document.images[0].naturalWidth)"
    found = {}
    for which in ("url", "bare"):
        url = text[which]
        frames = f"<iframe src='{url}'></iframe><object data='{url}'></object><embed src='{url}'>"
        writer.pages[f"/{which}/page"] = f"<!DOCTYPE html><img src='{picture[which]}'>{frames}"
        tab = await browser.open(f"http://{host}:{writer.port}/{which}/page")
        read = f"fetch('{url}', {{mode: MODE, credentials: 'include'}}).then(reply => reply.type, () => 'refused')"
        found[which] = {
            "width": await tab.run(width),
            "frames": sum(TEXT in each for each in await tab.texts()),
            "cors": await tab.run(read.replace("MODE", "'cors'")),
            "no-cors": await tab.run(read.replace("MODE", "'no-cors'")),
        }
    assert found["bare"] == {"width": 20, "frames": 3, "cors": "refused", "no-cors": "opaque"}
    assert found["url"] == {"width": 0, "frames": 0, "cors": "refused", "no-cors": "refused"}
    asked = [status for path, status in site.answered if path == picture["download_url"]]
    assert asked == [200 if host == "127.0.0.1" else 401]
