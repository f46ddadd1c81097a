"""The lines of TAP, as its versions 12 to 14, node and mocha write them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Optional

from reportd_client.formats.result import plain

VERSION = re.compile(r"TAP version \d+\s*$")
PLAN = re.compile(r"1\.\.(\d{1,9})(?:\s|$)")
SUBTEST = re.compile(r"# Subtest(?::\s*(.*))?$")
BAIL_OUT = re.compile(r"Bail out!\s*(.*)$", re.IGNORECASE)
# What runners count at the end.
SUMMARY = re.compile(r"# (?:tests|suites|pass|passed|fail|failed|cancelled|skipped|todo|duration_ms|time)[ =:]+[\d.]+")
_POINT = re.compile(r"(not )?ok(?=\s|$)(?:\s+(\d{1,9})(?=\s|$))?(?:\s+-(?=\s|$))?\s*(.*)$")
_DIRECTIVE = re.compile(r"(?<!\\)#\s*(skip\S*|todo)(?:\s*:)?(?:\s+(.*))?$", re.IGNORECASE)
_TIME = re.compile(r"(?<!\\)#\s*time=([\d.]{1,20})(ms|s)?\s*$")
_ESCAPED = re.compile(r"\\([#\\])")
_KEY = re.compile(r"([A-Za-z_][\w .-]{0,60}):(?:\s+(.*))?$")
_BLOCK = re.compile(r"[|>][-+\d]{0,3}\s*$")
_INDENT = 4  # spaces for each level of subtests
KEPT = 1 << 20  # characters of the lines of one test


@dataclass
class Point:
    """A test line and what follows it."""

    is_ok: bool
    number: Optional[int]
    name: str
    directive: str = ""  # skip or todo
    reason: str = ""
    milliseconds: Optional[float] = None
    opens: bool = False  # its subtests follow within braces
    block: list[str] = field(default_factory=list)  # of YAML
    text: list[str] = field(default_factory=list)  # other lines that belong to it
    output: list[str] = field(default_factory=list)  # lines before it
    depth: int = 0
    has_subtests: bool = False
    has_failed_subtests: bool = False
    size: int = 0  # characters of its lines

    def add(self, to: list[str], line: str) -> None:
        if self.size < KEPT:
            to.append(line[: KEPT - self.size])
        self.size += len(line) + 1


def level_of(line: str) -> tuple[int, str]:
    """How many levels a line is indented, and the line without them."""
    spaces = len(line) - len(line.lstrip(" "))
    level = spaces // _INDENT
    return level, line[level * _INDENT :]


def point_of(line: str) -> Optional[Point]:
    """A test line without its indentation; None when it is another one."""
    found = _POINT.match(line)
    if found is None:
        return None
    text = found[3].rstrip()
    opens = text == "{" or text.endswith(" {")
    text = text[:-1].rstrip() if opens else text
    point = Point(found[1] is None, int(found[2]) if found[2] else None, "", opens=opens)
    time = _TIME.search(text)
    if time:
        point.milliseconds = _number(time[1], 1 if time[2] == "ms" else 1000)
        text = text[: time.start()].rstrip()
    directive = _DIRECTIVE.search(text)
    if directive:
        point.directive = "todo" if directive[1].lower() == "todo" else "skip"
        point.reason = (directive[2] or "").strip(" -")
        text = text[: directive.start()].rstrip()
    point.name = unescaped(text)
    return point


def unescaped(text: str) -> str:
    return str(plain(_ESCAPED.sub(r"\1", text))).strip()


def _number(text: str, factor: float) -> Optional[float]:
    try:
        return float(text) * factor
    except ValueError:
        return None


def values_of(block: list[str]) -> dict[str, str]:
    """The keys of a YAML block with their values as text; of lists and objects the lines as they are."""
    indented = [line for line in block if line.strip()]
    least = min((len(line) - len(line.lstrip(" ")) for line in indented), default=0)
    values: dict[str, list[str]] = {}
    folded: list[str] = []
    for line in block:
        found = _KEY.match(line[least:])
        if found is not None:
            first = (found[2] or "").strip()
            folded = values.setdefault(found[1].strip(), [] if _BLOCK.match(first) or not first else [_scalar(first)])
        else:
            folded.append(line)
    return {name: dedented(lines) for name, lines in values.items()}


def _scalar(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
    return text


def dedented(lines: list[str]) -> str:
    texts = [line for line in lines if line.strip()]
    least = min((len(line) - len(line.lstrip(" ")) for line in texts), default=0)
    return "\n".join(line[least:].rstrip() for line in lines).strip("\n")
