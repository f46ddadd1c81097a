"""HTML replies: pages for people who have signed in, pages of evidence links, and content negotiation."""

import gzip
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Literal

from aiohttp import hdrs, web

from server.auth.callers import ANYONE
from server.background import aside
from server.http import reply
from server.reports.listing import PORTION, Listing
from server.services import CALL, SERVICES

# Of pages. Everything comes from this server; scripts and styles only as files, and no script may put a text into the
# page as HTML except through the one function that has the Trusted Types policy `reportd`.
_OWN_FILES = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; frame-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types reportd"
)
# Of evidence links: no script, and the style sheet is in the page.
_POLICY = "default-src 'none'; {}style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_FRAGMENT = "X-Fragment"
_WORTH_COMPRESSING = 2 << 10  # bytes
_ROW = 1 << 10  # about how much work a row of a page is, in the bytes that aside() counts
THEME_COOKIE = "reportd_theme"
_THEME = re.compile(rf"(?:^|;)[ \t]*{THEME_COOKIE}=(light|dark)[ \t]*(?:;|$)")

_MAX_ACCEPT_LENGTH = 1000  # characters; browsers send 150. A megabyte of commas would block the event loop


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page shows around its content: who has signed in (None: nobody) and how, the theme, the page's own
    address without the host, and whether the administration pages have something for them."""

    who: str | None
    kind: Literal["token", "person", "link", "anyone"] | None
    theme: str
    address: str
    admin: bool

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


def is_fragment(request: web.Request) -> bool:
    """Whether a script of a page asks for a part of it."""
    return request.headers.get(_FRAGMENT) == "1"


def as_page(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A page that has been drawn. It is not stored by caches, and depends on who asks for it."""
    return web.Response(
        status=status,
        body=text.encode(),
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "private, no-store",
            "Vary": "Accept-Encoding, Cookie",
            "Content-Security-Policy": _OWN_FILES,
            **(headers or {}),
        },
    )


def see_other(address: str) -> web.Response:
    """303: the browser goes on to `address`: a path of this server, or the provider of single sign-on."""
    return web.Response(status=303, headers={"Location": address, "Cache-Control": "private, no-store"})


def found(address: str) -> web.Response:
    """302: what was asked for is now at `address`, a path of this server, and may be elsewhere next time."""
    return web.Response(status=302, headers={"Location": address, "Cache-Control": "private, no-store"})


def html(
    text: str,
    status: int = 200,
    images: bool = False,
    cache_control: str = "no-store",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A page, with a policy that allows its inline style sheet and, with `images`, images of this server."""
    return web.Response(status=status, body=text.encode(), headers=_headers(text, images, cache_control, headers or {}))


async def listed(
    request: web.Request,
    page: Callable[..., str],
    lists: Sequence[tuple[Listing, Callable[[Any], str]]],
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """The page that `page(*texts)` renders, with the HTML of each of `lists`: what its function renders of its items,
    "" if there are none. Sent in portions, unless all lists are whole."""
    pool = request.app[SERVICES].pool
    parts = [each.portions(pool, partial(_encoded, render)) for each, render in lists if not each.whole]
    texts = [await _text(each, render) for each, render in lists]
    text = await aside(PORTION, page, *texts)
    if not parts:
        return html(text, images=True, headers=headers)
    return await reply.in_portions(text.encode(), parts, _headers(text, True, "no-store", headers))


async def _text(listing: Listing, render: Callable[[Any], str]) -> str:
    return (await _encoded(render, listing.items)).decode() if listing.whole else reply.MARK.decode()


async def _encoded(render: Callable[[Any], str], items: Any) -> bytes:
    values = await aside(PORTION, reply.plain, items)
    return (await aside(PORTION, render, values)).encode() if values else b""


def _headers(text: str, images: bool, cache_control: str, headers: Mapping[str, str]) -> dict[str, str]:
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": cache_control,
        "Content-Security-Policy": _POLICY.format("img-src 'self'; " if images else "", digest),
        **headers,
    }


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
