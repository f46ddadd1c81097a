"""HTML replies: content negotiation, and a Content-Security-Policy that allows only style sheet and images."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256

from aiohttp import web

_POLICY = "default-src 'none'; {}style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_MAX_ACCEPT_LENGTH = 1000  # characters; browsers send 150. A megabyte of commas would block the event loop


def html(
    text: str,
    status: int = 200,
    images: bool = False,
    cache_control: str = "no-store",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A page, with a policy that allows its inline style sheet and, with `images`, images of this server."""
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return web.Response(
        status=status,
        body=text.encode(),
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": cache_control,
            "Content-Security-Policy": _POLICY.format("img-src 'self'; " if images else "", digest),
            **(headers or {}),
        },
    )


def preferred(request: web.Request) -> bool:
    """Whether the Accept header prefers HTML to JSON, as that of browsers does (RFC 9110, 12.5.1)."""
    accepted = ",".join(request.headers.getall("Accept", []))[:_MAX_ACCEPT_LENGTH]
    weights = dict(map(_weight, accepted.split(",")))

    def weight(kind: str) -> float:
        names = (kind, kind.partition("/")[0] + "/*", "*/*")
        return next((weights[name] for name in names if name in weights), 0.0)

    return weight("text/html") > weight("application/json")


def _weight(part: str) -> tuple[str, float]:
    kind, *parameters = (text.strip().lower() for text in part.split(";"))
    quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    try:
        return kind, float(quality)
    except ValueError:
        return kind, 0.0
