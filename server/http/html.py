"""HTML replies: pages for people who have signed in, pages of evidence links, and content negotiation."""

import gzip
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b, sha256
from typing import Any, Literal

from aiohttp import hdrs, web

from server.auth.callers import ANYONE
from server.background import aside
from server.http import files
from server.reports.listing import PORTION
from server.services import CALL

# Of pages. Everything comes from this server; scripts and styles only as files, and no script may put a text into the
# page as HTML except through the one function that has the Trusted Types policy `reportd`.
_OWN_FILES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; frame-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types reportd"
)
# Of evidence links: no script, and the style sheets are in the page.
_POLICY = "default-src 'none'; {}style-src {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_FRAGMENT = "X-Fragment"
_WORTH_COMPRESSING = 2 << 10  # bytes
_ROW = 1 << 10  # about how much work a row of a page is, in the bytes that aside() counts
THEME_COOKIE = "reportd_theme"
_THEME = re.compile(rf"(?:^|;)[ \t]*{THEME_COOKIE}=(light|dark)[ \t]*(?:;|$)")

_MAX_ACCEPT_LENGTH = 1000  # characters; browsers send 150. A megabyte of commas would block the event loop


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page shows around its content: who has signed in (None: nobody) and how, the theme, the page's own
    address without the host, and whether the administration pages have something for them. `until`: when the evidence
    link ends whose page it is."""

    who: str | None
    kind: Literal["token", "person", "link", "anyone"] | None
    theme: str
    address: str
    admin: bool = False
    until: datetime | None = None

    @property
    def section(self) -> str:
        """The first part of the address: `runs` for /runs/…"""
        return re.split(r"[/?]", self.address, maxsplit=2)[1]


def frame_of(request: web.Request) -> Frame:
    """The frame of the page that this request gets."""
    caller, theme = request[CALL].caller, _THEME.search(request.headers.get(hdrs.COOKIE, ""))
    known = caller if caller is not None and caller is not ANYONE else None
    return Frame(
        known.name if known else None,
        caller.kind if caller else None,
        theme[1] if theme else "auto",
        request.path_qs,
        request[CALL].is_admin,
    )


async def page(
    request: web.Request,
    draw: Callable[..., str],
    *,
    rows: int = 0,
    status: int = 200,
    secret: bool = False,
    fragments: bool = False,
) -> web.Response:
    """A page: `draw(frame=…)`, in a thread when it has many `rows`.

    `secret`: it holds a CSRF token. Then it is not compressed: its length would reveal the token (the BREACH attack).
    `fragments`: its address also has a fragment, for scripts.
    """
    text = await aside(rows * _ROW, draw, frame=frame_of(request))
    response = as_page(text, status)
    if not secret and _takes_gzip(request) and len(text) >= _WORTH_COMPRESSING:
        response.body = await aside(len(text), gzip.compress, text.encode(), 5, mtime=0)
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    if fragments:
        response.headers[hdrs.VARY] += f", {_FRAGMENT}"
    return response


async def live(request: web.Request, draw: Callable[..., str], version: Any) -> web.Response:
    """A fragment that scripts fetch again and again: 304 as long as `version`, the values that it shows, is equal."""
    tag = blake2b(repr(version).encode(), digest_size=12).hexdigest()
    unchanged = files.not_modified(request.headers.get("If-None-Match"), tag)
    response = as_page("", 304) if unchanged else await page(request, draw)
    response.headers["ETag"] = f'W/"{tag}"'
    return response


def is_fragment(request: web.Request) -> bool:
    """Whether a script of a page asks for a part of it."""
    return request.headers.get(_FRAGMENT) == "1"


def as_page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A page that has been drawn. It is not stored by caches, and depends on who asks for it."""
    own = {"Vary": "Accept-Encoding, Cookie", "Content-Security-Policy": _OWN_FILES}
    return html(text, status, "private, no-store", {**own, **(headers or {})})


def see_other(address: str) -> web.Response:
    """303: the browser goes on to `address`: a path of this server, or the provider of single sign-on."""
    return web.Response(status=303, headers={"Location": address, "Cache-Control": "private, no-store"})


def found(address: str) -> web.Response:
    """302: what was asked for is now at `address`, a path of this server, and may be elsewhere next time."""
    return web.Response(status=302, headers={"Location": address, "Cache-Control": "private, no-store"})


async def shared_page(
    request: web.Request, draw: Callable[..., str], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A page of an evidence link: `draw(frame=…)`, in a thread. It has its style sheets inside, and no scripts: it may
    be opened by anybody, and shows what clients have sent."""
    shared = request[CALL].shared
    frame = Frame(None, "link", "auto", request.path_qs, until=shared.ends if shared else None)
    text = await aside(PORTION, draw, frame=frame)
    response = as_shared_page(text, status, images=True, headers=headers)
    if _takes_gzip(request):
        response.body = await aside(PORTION, gzip.compress, text.encode(), 5, mtime=0)
        response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response


def as_shared_page(
    text: str, status: int, images: bool = False, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A page of an evidence link that has been drawn. `images`: it shows those that the link covers."""
    sheets = re.findall(r"<style>(.*?)</style>", text.partition("</head>")[0], re.DOTALL)
    hashes = " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in sheets)
    return html(
        text,
        status,
        "no-store",
        {
            "Vary": "Accept, Accept-Encoding",
            "Content-Security-Policy": _POLICY.format("img-src 'self'; " if images else "", hashes),
            **(headers or {}),
        },
    )


def html(text: str, status: int, cache_control: str, headers: Mapping[str, str]) -> web.Response:
    """An HTML reply. `headers` has its policy."""
    return web.Response(
        status=status,
        body=text.encode(),
        headers={"Content-Type": "text/html; charset=utf-8", "Cache-Control": cache_control, **headers},
    )


def preferred(request: web.Request) -> bool:
    """Whether the Accept header prefers HTML to JSON, as that of browsers does (RFC 9110, 12.5.1)."""
    weights = _weights(request, hdrs.ACCEPT)

    def weight(kind: str) -> float:
        names = (kind, kind.partition("/")[0] + "/*", "*/*")
        return next((weights[name] for name in names if name in weights), 0.0)

    return weight("text/html") > weight("application/json")


def _takes_gzip(request: web.Request) -> bool:
    weights = _weights(request, hdrs.ACCEPT_ENCODING)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weights(request: web.Request, header: str) -> Mapping[str, float]:
    """The values of a header by content negotiation, with their weights."""
    accepted = ",".join(request.headers.getall(header, []))[:_MAX_ACCEPT_LENGTH]
    return dict(map(_weight, accepted.split(",")))


def _weight(part: str) -> tuple[str, float]:
    kind, *parameters = (text.strip().lower() for text in part.split(";"))
    quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 0.0
