"""A report of a phase in a report log, reduced to what is made of it: a test may have many, with much text."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from reportd_client.formats import pytest_error
from reportd_client.formats.result import plain
from reportd_client.texts import cut

_NO_TAGS = ("", "parametrize", "usefixtures", "filterwarnings", "pytestmark", "__init__.py")
_MAX_TAGS, _MAX_PROPERTIES, _MAX_SECTIONS = 20, 200, 10_000

Section = tuple[str, str]  # title, text


@dataclass
class Phase:
    """`when` is setup, call, teardown, or ??? of a worker that died. `expected`: the reason of an xfail."""

    when: str
    outcome: str
    expected: Optional[str]
    error: dict[str, Any]  # its fields, when the phase has one
    crash: str  # type and message of the error
    reason: str  # of a skip
    seconds: Optional[float]
    start: Optional[float]
    stop: Optional[float]
    sections: list[Section]
    properties: dict[str, Any]

    @classmethod
    def of(cls, report: dict[str, Any]) -> Phase:
        longrepr = plain(report.get("longrepr"))
        is_reason = longrepr is None or isinstance(longrepr, list)
        return cls(
            when=str(report.get("when")),
            outcome=str(report.get("outcome")),
            expected=cut(plain(str(report["wasxfail"]))).removeprefix("reason: ") if "wasxfail" in report else None,
            error={} if is_reason else pytest_error.fields_of(longrepr),
            crash=cut(pytest_error.crash_of(longrepr)),
            reason=cut(pytest_error.reason_of(longrepr)),
            seconds=None if report.get("start") == 0 else _number(report.get("duration")),  # of unittest's subtests
            start=_number(report.get("start")) or None,
            stop=_number(report.get("stop")) or None,
            sections=_sections(report.get("sections")),
            properties=_properties(report.get("user_properties")),
        )

    @property
    def failed(self) -> bool:
        """Also of one that was run again."""
        return self.outcome not in ("passed", "skipped")

    def step(self) -> dict[str, Any]:
        """Status, error and times as those of a step."""
        status = "Failed" if self.failed else "Skipped" if self.outcome == "skipped" else "Passed"
        told = self.error if self.failed else {"error_message": self.expected or self.reason or None}
        return {"status": status, **(told if status != "Passed" else {}), **times(self.start, self.stop, self.seconds)}


def times(start: Optional[float], stop: Optional[float], seconds: Optional[float]) -> dict[str, Any]:
    began, ended = (None if value is None else _iso(value) for value in (start, stop))
    duration = None if seconds is None else round(seconds * 1000)
    return {"duration_ms": duration, "started_at": began, "completed_at": ended}


def title(context: dict[str, Any]) -> str:
    """Of a subtest: `row (i=1)`, as the plugin names it."""
    values = context.get("kwargs")
    parts = [] if context.get("msg") is None else [str(context["msg"])]
    if isinstance(values, dict) and values:
        parts.append(f"({', '.join(f'{name}={_value(value)}' for name, value in list(values.items())[:50])})")
    return cut(plain(" ".join(parts)) or "(subtest)")


def tags(keywords: Any, node_id: str) -> list[str]:
    """The marks of a test. Among the keywords there are also the names of the test and of all that it is in."""
    names = [name for name in keywords if isinstance(name, str)] if isinstance(keywords, dict) else []
    path, _, rest = node_id.partition("::")
    called, _, parameters = rest.partition("[")
    where = {*path.split("/"), *called.split("::"), f"{called.rpartition('::')[2]}[{parameters}"}
    if len(names) > 1 and names[-1] == "":  # that of the session, after that of the root folder
        names = names[:-2] if names[-2] not in where else names
    names = [name for name in names if f"-{name}-" not in f"-{parameters[:-1]}-"]  # also each parameter's id
    own = [name for name in names if name not in where and name not in _NO_TAGS and not name.startswith("__")]
    return [plain(name)[:500] for name in own[:_MAX_TAGS]]


def location(value: Any) -> str:
    """`test_cart.py:12`; pytest counts lines from 0."""
    path, line = value[:2] if isinstance(value, list) and len(value) > 1 else (None, None)
    number = f":{line + 1}" if isinstance(line, int) else ""
    return cut(plain(f"{path}{number}"), 1_000) if isinstance(path, str) else ""


def _sections(given: Any) -> list[Section]:
    pairs = given[:_MAX_SECTIONS] if isinstance(given, list) else []
    return [(cut(str(pair[0]), 200), str(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2]


def _properties(given: Any) -> dict[str, Any]:
    if isinstance(given, str) and given:  # one of them could not be written as JSON
        return {"user_properties": cut(plain(given), 1_000)}
    pairs = given[:_MAX_PROPERTIES] if isinstance(given, list) else []
    pairs = [pair for pair in pairs if isinstance(pair, list) and len(pair) == 2]
    texts = {str(name)[:200]: value if isinstance(value, str) else repr(value) for name, value in pairs}
    return {plain(name): cut(plain(text), 1_000) for name, text in texts.items()}


def _value(value: Any) -> Any:
    """pytest writes the repr of each value, with xdist the repr of that: of a text it is the text itself."""
    for _ in range(2):
        if not isinstance(value, str) or value[:1] not in ("'", '"') or len(value) > 10_000:
            break
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError):
            break
    return value


def _number(value: Any) -> Optional[float]:
    """Seconds; None for what is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) and 0 <= value < 2**32 else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
