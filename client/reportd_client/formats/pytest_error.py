"""What pytest's reports say of an exception: its type and message, and the text that pytest prints."""

from __future__ import annotations

import re
from typing import Any, Iterator

from reportd_client import limits
from reportd_client.texts import cut

_WIDTH = 80  # of the terminal that pytest assumes when it has none
_KIND = re.compile(r"((?:[^\W\d]\w*\.|<locals>\.)*)([^\W\d]\w*)(?:: (.*)|:?\s*)\Z", re.DOTALL)
_ERROR_LINE = re.compile(r"^E   +(.*)$", re.MULTILINE)
_MOST_LINES = 20_000


def fields_of(longrepr: Any) -> dict[str, Any]:
    """`error_type`, `error_message` and `stack_trace` of a failed report."""
    trace, crash = text_of(longrepr), crash_of(longrepr)
    kind, message = split(crash) if crash else ("", trace.strip())
    return {
        "error_type": kind[:255] or None,
        "error_message": cut(message or kind or "Failed"),
        "stack_trace": trace if len(trace) <= limits.MAX_TEXT else "…" + trace[1 - limits.MAX_TEXT :],
    }


def crash_of(longrepr: Any) -> str:
    """Type and message in one text, empty when there is no exception. Errors of a collection have only pytest's text,
    in which the lines of the exception begin with an E."""
    if isinstance(longrepr, dict):
        return _text(_dict(longrepr.get("reprcrash")).get("message"))
    lines = _ERROR_LINE.findall(longrepr) if isinstance(longrepr, str) else []
    return str(lines[-1]).strip() if lines else ""


def split(message: str) -> tuple[str, str]:
    """`AssertionError: sums` is type and message. pytest leaves the type of a plain assertion out."""
    if message.startswith("assert "):
        return "AssertionError", message
    found = _KIND.match(message)
    return (found[2], (found[3] or found[2])) if found else ("", message)


def reason_of(longrepr: Any) -> str:
    """Why a test was skipped."""
    if isinstance(longrepr, list) and len(longrepr) == 3:
        return _text(longrepr[2]).replace("Skipped: ", "", 1)
    return text_of(longrepr).strip()


def text_of(longrepr: Any) -> str:
    """The text that pytest prints."""
    if not isinstance(longrepr, dict):
        return longrepr if isinstance(longrepr, str) else "" if longrepr is None else str(longrepr)
    return "\n".join(_lines(longrepr)).strip()


# --- as pytest's ExceptionChainRepr does it ---


def _lines(longrepr: dict[str, Any]) -> Iterator[str]:
    chain = longrepr.get("chain")
    for element in chain if isinstance(chain, list) else [[longrepr.get("reprtraceback"), None, None]]:
        traceback, _, description = [*_list(element), None, None, None][:3]
        yield from _traceback(_dict(traceback))
        if description:
            yield from ("", _text(description))
    for section in _list(longrepr.get("sections")):
        name, content, separator = map(_text, [*_list(section), "", "", ""][:3])
        yield _separated(name, separator or "-")
        yield content


def _traceback(traceback: dict[str, Any]) -> Iterator[str]:
    entries = [_dict(entry) for entry in _list(traceback.get("reprentries"))][:_MOST_LINES]
    styles = [
        "native" if entry.get("type") == "ReprEntryNative" else _text(_dict(entry.get("data")).get("style"))
        for entry in entries
    ]
    for i, (entry, style) in enumerate(zip(entries, styles)):
        if style == "long":
            yield ""
        yield from _entry(_dict(entry.get("data")), style)
        if i + 1 < len(entries) and (style == "long" or (style == "short" and styles[i + 1] == "long")):
            yield "_ " * (_WIDTH // 2)
    if traceback.get("extraline"):
        yield _text(traceback["extraline"])


def _entry(data: dict[str, Any], style: str) -> Iterator[str]:
    lines = [_text(line) for line in _list(data.get("lines"))[:_MOST_LINES]]
    place = _dict(data.get("reprfileloc"))
    where = f"{_text(place.get('path'))}:{place.get('lineno')}: {_text(place.get('message')).partition(chr(10))[0]}"
    local = [_text(line) for line in _list(_dict(data.get("reprlocals")).get("lines"))]
    if style == "native":
        yield "".join(lines).rstrip("\n")
        return
    if style == "short":
        yield from [where] if place else []
        yield from lines
        yield from (" " * 8 + line for line in local)
        return
    yield from _arguments(_list(_dict(data.get("reprfuncargs")).get("args")))
    yield from lines
    yield from ["", *local] if data.get("reprlocals") else []
    if place:
        yield from ["", where] if lines else [where]


def _arguments(arguments: list[Any]) -> Iterator[str]:
    line = ""
    for argument in arguments:
        name, value = map(_text, [*_list(argument), "", ""][:2])
        text = f"{name} = {value}"
        if len(text) + len(line) + 2 > _WIDTH:
            yield from [line] if line else []
            line = text
        else:
            line = f"{line}, {text}" if line else text
    yield from [line] if line else []
    yield from [""] if arguments else []


def _separated(title: str, separator: str) -> str:
    fill = separator * max((_WIDTH - len(title) - 2) // (2 * len(separator)), 1)
    return f"{fill} {title} {fill}"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
