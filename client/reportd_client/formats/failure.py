"""From the text of a failure, as tools print it, to the fields of an error."""

from __future__ import annotations

import re
from typing import Any, Sequence

from reportd_client.texts import cut

_STACK_LINE = re.compile(r"\s+at\s|\s*File \"|Traceback |\S+:\d+(?::|$)|\s*\.\.\. \d+ more")
_NAMED = r"((?:[A-Za-z_$][\w$]*\.)*(?:[A-Za-z_$][\w$]*)?(?:Error|Exception|Failure|Warning))\b"
_TYPE = re.compile(rf"\s*{_NAMED}")
_CAUSE = re.compile(rf"\bcause: {_NAMED}")  # node's, whose own type says what kind of failure it was: testCodeFailure
_GO_LINE = re.compile(r"\s*(?:=== (?:RUN|PAUSE|CONT|NAME)\b|--- (?:FAIL|PASS|SKIP): )")


def error_of(text: str, message: str = "", kind: str = "") -> dict[str, Any]:
    """`error_type`, `error_message` and `stack_trace`, as far as they are told. Without `message` it is what the text
    says before its first line of a stack; without `kind` it is the name of an error at the beginning of either."""
    text = text.lstrip("\r\n").rstrip()
    message = message.strip() or _before_stack(text)
    found = _TYPE.match(message) or _TYPE.match(text)
    kind = kind.strip() or (found[1] if found else "")
    if kind[:1].islower() and "." not in kind and (cause := _CAUSE.search(text)):
        kind = cause[1]
    fields = {"error_type": kind[:255], "error_message": cut(message or kind or "Failed"), "stack_trace": cut(text)}
    return {name: value for name, value in fields.items() if value}


def joined(errors: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several failures of one test: the first, with the others in its trace."""
    first, *others = errors
    traces = [first.get("stack_trace", "")]
    traces += [f"{error.get('error_message', '')}\n{error.get('stack_trace', '')}" for error in others]
    return {**first, "stack_trace": cut("\n\n".join(trace for trace in traces if trace)) or None}


def without_go_lines(text: str) -> str:
    """Without the lines with which Go's test runner says that a test begins and ends."""
    return "\n".join(line for line in text.splitlines() if not _GO_LINE.match(line))


def _before_stack(text: str) -> str:
    lines = without_go_lines(text).splitlines()
    end = next((i for i, line in enumerate(lines) if _STACK_LINE.match(line)), len(lines))
    return "\n".join(lines[:end]).strip()
