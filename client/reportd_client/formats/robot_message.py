"""Messages of Robot Framework's log, which may be HTML with pictures in it and links to files."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from html import unescape
from pathlib import PurePosixPath
from typing import Any, Optional
from urllib.parse import unquote

from reportd_client.formats.files import file_of
from reportd_client.formats.result import File, Source, plain
from reportd_client.texts import artifact_type_of, cut, image_suffix

_LEVELS = {"TRACE": "debug", "DEBUG": "debug", "WARN": "warning", "ERROR": "error", "FAIL": "error"}
_DATA = re.compile(r"""\bdata:image/[a-z+.-]{1,20};base64,([A-Za-z0-9+/=\s]*)""")
_TAG = re.compile(r"<!--[^<>]*>|</?([a-zA-Z][\w-]{0,20})\b([^<>]*)>")
_PATH = re.compile(r"""\b(src|href)\s*=\s*("[^"]{0,2000}"|'[^']{0,2000}'|[^\s"'>]{1,2000})""", re.IGNORECASE)
_MAX_HTML = 256 << 10  # characters, without pictures
_MAX_PICTURES = 50  # of a message
_BREAKS = ("br", "p", "div", "tr", "li", "hr", "pre", "table", "h1", "h2", "h3", "h4")
_HTML_MARK = "*HTML*"


def entry(message: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The console entry of a message, and its text as it was written."""
    text, level = message.get("message"), str(message.get("level") or "INFO").upper()
    text = text if isinstance(text, str) else ""
    shown = text_of_html(text) if is_html(message) else text
    return {"level": _LEVELS.get(level, "info"), "message": cut(str(plain(shown)))}, text


def is_html(message: dict[str, Any]) -> bool:
    return message.get("html") in (True, "true", "yes") or str(message.get("level")).upper() == "HTML"


def without_mark(text: str) -> str:
    """The text of an error, which begins with *HTML* when it is HTML."""
    return text_of_html(text.strip()[len(_HTML_MARK) :]) if text.strip().startswith(_HTML_MARK) else text


def text_of_html(text: str) -> str:
    lines = (" ".join(line.split()) for line in _parsed(_DATA.sub("", text)).text.splitlines())
    return "\n".join(line for line in lines if line)


def files_of(source: Source, text: str) -> list[File]:
    """The pictures in a message, and the files below the report's folder that it shows or links."""
    found = []
    for picture in list(_DATA.finditer(text))[:_MAX_PICTURES]:
        data = _decoded(picture[1])
        if data:
            fields = {"artifact_type": "screenshot", "file_name": f"screenshot{image_suffix(data)}"}
            found.append(File(fields, data=data))
    parsed = _parsed(_DATA.sub("", text))
    for path, is_shown in list(parsed.paths.items())[:_MAX_PICTURES]:
        file = _linked(source, path)
        if file is not None and (is_shown or file.path is not None):
            found.append(file)
    return found


def _linked(source: Source, path: str) -> Optional[File]:
    path = unquote(path.partition("#")[0].partition("?")[0]).strip()
    if not path or len(path) > 1_000 or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:|//", path):
        return None  # of the web, or of the log itself
    parts = PurePosixPath(path.replace("\\", "/"))
    fields = {"artifact_type": artifact_type_of(path), "file_name": cut(parts.name or "file", 200)}
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[a-zA-Z]:", path):
        return File(fields, refused=f"{cut(path, 200)} is outside of the folder of {source.path.name}")
    return file_of(source.path, path, fields, source.files)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError):
        return b""


@dataclass
class _Html:
    """`paths`: {path: whether it is shown, not only linked}."""

    text: str = ""
    paths: dict[str, bool] = field(default_factory=dict)


def _parsed(html: str) -> _Html:
    """What is in HTML. The parser of Python's library takes minutes for a text of half-open tags."""
    found, parts, at = _Html(), [], 0
    html = html[:_MAX_HTML]
    for tag in _TAG.finditer(html):
        parts.append(unescape(html[at : tag.start()]))
        at = tag.end()
        name = (tag[1] or "").lower()
        parts.append("\n" if name in _BREAKS else " " if name in ("td", "th") else "")
        for attribute in _PATH.finditer(tag[2] or ""):
            path, is_shown = unescape(attribute[2].strip("\"'")), attribute[1].lower() == "src"
            if path and (is_shown or name == "a"):
                found.paths[path] = found.paths.get(path, False) or is_shown
    found.text = "".join([*parts, unescape(html[at:])])
    return found
