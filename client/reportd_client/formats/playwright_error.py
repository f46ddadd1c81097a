"""Playwright's errors: type, message and trace. Its excerpts of the source are left out: they have what tests type."""

from __future__ import annotations

import re
import textwrap
from typing import Any, Iterable, Optional, Sequence

from reportd_client.formats.result import plain
from reportd_client.mask import is_password_field
from reportd_client.texts import cut

_TYPE = re.compile(r"((?:[A-Za-z_$][\w$.]*)?(?:Error|Exception))(?:: |\Z)", re.ASCII)
_LOCATOR = re.compile(r"^Locator: +(.+)$", re.MULTILINE)
_VALUE = re.compile(r"^ *(?:Expected|Received|- unexpected value)[^:\"\n]*:? *\"(.+)\"$", re.MULTILINE)
_EXCERPT = re.compile(r"\n*^(?:[ >]*\d+ \|.*|[ ]*\|[ ^]*\^.*)$", re.MULTILINE)  # of the source, with lines' numbers
_JUNIT_HEAD = re.compile(r"\s*(?:\[[^\]\n]*\] › )?[^\n]*:\d+:\d+ › [^\n]*─\n")
_JUNIT_RETRY = re.compile(r"\n *Retry #\d+ ─*\n")
_JUNIT_FILES = re.compile(r"\n *(?:Error Context: |attachment #\d+: )")
LONG = 4  # characters of a secret that is hidden in all texts
_MOST = 50
_CAUSES = 5


def error_fields(errors: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`error_type`, `error_message`, `stack_trace` of a result or a step that failed: the first error, with the others
    in its trace."""
    text = _text(errors[0]) if errors else ""
    found = _TYPE.match(text)
    kind = found[1][:100] if found else None
    message = text[found.end() :].strip() if found else text
    fields = {"error_type": kind, "error_message": cut(message or kind or "Failed")}
    traces = [_trace(error) for error in errors[:_MOST]]
    if errors and not (errors[0].get("stack") or isinstance(errors[0].get("cause"), dict)):
        traces = traces[1:]
    fields["stack_trace"] = cut("\n\n".join(filter(None, traces))) or None
    return {name: value for name, value in fields.items() if value}


def one_line(error: dict[str, Any]) -> str:
    """Type and message of an error."""
    fields = error_fields([error])
    return ": ".join(filter(None, (fields.get("error_type"), fields["error_message"])))


def without_source(error: Any) -> Optional[dict[str, Any]]:
    """An error without its excerpt of the source, which may be long; None for what is none."""
    return {name: value for name, value in error.items() if name != "snippet"} if isinstance(error, dict) else None


def of_text(text: str) -> dict[str, Any]:
    """The error that a text shows, without its excerpt of the source."""
    text = _EXCERPT.sub("", text)
    message, at, _ = text.partition("\n    at ")
    return {"message": message.strip(), "stack": text.strip() if at else None}


def of_junit(text: str) -> list[dict[str, Any]]:
    """The error of each attempt in a failure of Playwright's JUnit; none in a text of another runner."""
    head = _JUNIT_HEAD.match(text)
    attempts = _JUNIT_RETRY.split(text[head.end() :]) if head else []
    return [of_text(textwrap.dedent(_JUNIT_FILES.split(attempt, maxsplit=1)[0])) for attempt in attempts]


def secrets_of(error: dict[str, Any]) -> set[str]:
    """What an error quotes of the value of a password field."""
    text = _text(error)
    field = _LOCATOR.search(text)
    if "toHaveValue" not in text or field is None or not is_password_field(field[1]):
        return set()
    return {value for value in _VALUE.findall(text) if len(value) >= LONG}


def dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def text_of(value: Any) -> str:
    """A text without the colours of terminals; nothing for what is no text."""
    return str(plain(value)) if isinstance(value, str) else ""


def _text(error: dict[str, Any]) -> str:
    texts: Iterable[Any] = (error.get("message"), error.get("value"))
    return text_of(next((text for text in texts if isinstance(text, str)), "")).strip()


def _trace(error: dict[str, Any]) -> str:
    parts = []
    for _ in range(1 + _CAUSES):
        parts.append(text_of(error.get("stack")).rstrip() or _text(error))
        cause = error.get("cause")
        if not isinstance(cause, dict):
            break
        error = cause
    return "\n[cause]: ".join(parts)
