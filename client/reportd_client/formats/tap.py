"""TAP 12 to 14, and what node and mocha make of it. Only tests without subtests are results."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Optional

from reportd_client.formats import tap_lines, text_file
from reportd_client.formats.failure import error_of
from reportd_client.formats.junit_case import shortened
from reportd_client.formats.output import add_output
from reportd_client.formats.result import Empty, Result, Source, Told, Unreadable, plain
from reportd_client.formats.tap_lines import Point
from reportd_client.formats.values import duration
from reportd_client.texts import cut

NAME = "tap"
MAX_DEPTH = 100
MAX_WAITING = 100_000  # subtests whose test has not come
MAX_WAITING_SIZE = 4 << 20  # characters of their lines
_METADATA = ("code", "failureType", "operator", "expected", "actual", "wanted", "found", "severity")
_OUTPUT = 1 << 20  # characters of lines that belong to the next test


def looks(head: bytes, path: Path) -> bool:
    """Whether a file that begins with these bytes is of this format: one of its lines says its version, or one is a
    numbered test and one a plan."""
    text = head.decode(text_file.encoding_of(head), "replace").lstrip("\ufeff \r\n\t")
    if text[:1] in ("{", "[", "<"):
        return False
    lines = text.splitlines()
    if any(tap_lines.VERSION.match(line) for line in lines):
        return True
    points = filter(None, (tap_lines.point_of(line.lstrip(" ")) for line in lines))
    return any(point.number is not None for point in points) and (
        path.suffix.lower() == ".tap" or any(tap_lines.PLAN.match(line) for line in lines)
    )


def read(source: Source) -> Iterator[Result]:
    """The results of a file, one after the other. Raises Unreadable, Empty."""
    reader, count, characters = _Reader(source.path), 0, 0
    line = ""
    for line in text_file.lines(source.path):
        characters += len(line.strip())
        reader.take(line.rstrip("\r\n").lstrip("\ufeff"))
        for result in reader.whole():
            count += 1
            yield result
    reader.finish(is_torn=not line.endswith("\n"))
    for result in reader.whole():
        count += 1
        yield result
    if not characters or (not count and reader.is_tap):
        raise Empty(f"{source.path} is empty: it has no test")
    if not count:
        raise Unreadable(f"{source.path} is no TAP: it has no line that begins with `ok` or `not ok`")
    for text in reader.notes:
        source.note(f"{source.path} {text}")
    if reader.bailed_out is not None:
        source.suite["status"] = "Failed"
        source.suite["metadata"] = {"errors": [cut(f"Bail out! {reader.bailed_out}".strip(), 2_000)]}


@dataclass
class _Level:
    """The tests of a file, or the subtests of a test. `name` is known before or after them."""

    name: Optional[str] = None
    planned: Optional[int] = None
    count: int = 0
    has_failed: bool = False


class _Reader:
    """Takes line after line. A test is whole when the next one comes, and when the names of its parents are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes: list[str] = []
        self.bailed_out: Optional[str] = None
        self.is_tap = False
        self._levels = [_Level("")]
        self._next_name: Optional[str] = None  # of the test whose subtests may follow
        self._last: Optional[Point] = None
        self._opened: list[Point] = []
        self._in_block = False
        self._output: list[str] = []
        self._output_size = 0
        self._waiting: deque[tuple[list[_Level], Point]] = deque()
        self._waiting_size = 0
        self._copies: Counter[bytes] = Counter()

    # --- lines ---

    def take(self, line: str) -> None:
        if self._in_block and self._last is not None and self._of_block(self._last, line):
            return
        depth, text = tap_lines.level_of(line)
        is_deeper = depth > len(self._levels) or depth >= MAX_DEPTH
        point = None if is_deeper else tap_lines.point_of(text)
        plan = None if is_deeper else tap_lines.PLAN.match(text)
        subtest = None if is_deeper else tap_lines.SUBTEST.match(text)
        if point is not None:
            point.depth = depth
            self._begin(point)
        elif plan is not None:
            self._begin_level(depth)
            self._levels[depth].planned = int(plan[1])
        elif subtest is not None:
            self._begin_level(depth)
            self._next_name = tap_lines.unescaped(subtest[1] or "") or None
        elif text == "{" and self._last is not None and self._last.depth == depth:
            point, self._last = self._last, None
            self._open(point)
        elif text == "}" and self._opened and self._opened[-1].depth == depth:
            self._end_point()
            self._take(self._opened.pop())
        else:
            self._other(line, text)

    def _of_block(self, point: Point, line: str) -> bool:
        """Take a line of a YAML block: False when the block has ended without saying so."""
        if line.strip() == "...":
            self._in_block = False
        elif line.strip() and not line.startswith(" "):
            self._in_block = False
            return False
        else:
            point.add(point.block, line)
        return True

    def _other(self, line: str, text: str) -> None:
        bail, point = tap_lines.BAIL_OUT.match(text), self._last
        if bail is not None:
            self.is_tap, self.bailed_out = True, plain(bail[1])
        elif tap_lines.VERSION.match(text):
            self.is_tap = True
        elif point is not None and line.startswith(" ") and text.strip() == "---" and not point.block:
            self._in_block = True
        elif (
            tap_lines.SUMMARY.match(text) or text.startswith("pragma ") or not (text.strip() or (point and point.text))
        ):
            return
        elif point is not None and not point.is_ok and not point.block and line[:1] in ("", " ", "#"):
            point.add(point.text, line.lstrip("#"))
        elif self._output_size < _OUTPUT:
            self._output_size += len(line)
            self._output.append(plain(text[1:].strip() if text.startswith("#") else line.rstrip()))

    # --- tests ---

    def _begin(self, point: Point) -> None:
        self._begin_level(point.depth)
        self._next_name = None
        if point.opens:
            self._open(point)
        else:
            self._take(point)

    def _begin_level(self, depth: int) -> None:
        self.is_tap = True
        self._end_point()
        while len(self._levels) <= depth:
            self._levels.append(_Level(self._next_name))
            self._next_name = None

    def _open(self, point: Point) -> None:
        self._opened.append(point)
        self._next_name = point.name or f"test {point.number or 1}"

    def _take(self, point: Point) -> None:
        """What is deeper than a test and came before it, is its own."""
        subtests = self._levels[point.depth + 1 :]
        for place, level in enumerate(subtests):
            if level.name is None:
                level.name = point.name if place == 0 else ""
            self._check(level)
        del self._levels[point.depth + 1 :]
        point.has_subtests = bool(subtests)
        point.has_failed_subtests = any(level.has_failed for level in subtests)
        point.output, self._output, self._output_size = self._output, [], 0
        self._last = point

    def _check(self, level: _Level) -> None:
        if level.planned is not None and level.planned != level.count and len(self.notes) < 20:
            of = f"subtests of {level.name[:100]}" if level.name else "tests"
            self.notes.append(f"planned {level.planned:,} {of}, and has {level.count:,}")

    def _end_point(self) -> None:
        """The last test has all of its lines."""
        point, self._last, self._in_block = self._last, None, False
        if point is None:
            return
        levels = self._levels[: point.depth + 1]
        levels[-1].count += 1
        levels[-1].has_failed |= not point.is_ok and not point.directive
        if self._is_result(point):
            self._waiting.append((levels, point))
            self._waiting_size += point.size
        else:
            self._output = point.output + self._output
        if len(self._waiting) > MAX_WAITING or self._waiting_size > MAX_WAITING_SIZE + tap_lines.KEPT:
            raise Unreadable(f"{self._path} has too many subtests without their test")

    def _is_result(self, point: Point) -> bool:
        values = tap_lines.values_of(point.block) if point.has_subtests or point.is_ok else {}
        if not point.has_subtests:
            return values.get("type") != "suite"
        # A test whose subtests all passed may have failed itself.
        has_own_failure = (
            not point.has_failed_subtests or values.get("failureType", "subtestsFailed") != "subtestsFailed"
        )
        return not point.is_ok and has_own_failure

    def finish(self, is_torn: bool) -> None:
        """The file has ended; `is_torn`: within its last line."""
        root = self._levels[0]
        if is_torn and root.planned is None:
            self._last = None
        self._end_point()
        for level in self._levels[1:]:
            self._check(level)
        self._check(root)
        if root.planned is None:
            self.notes.append("is cut, or has no plan: tests may be missing")
        named = [each for each in self._waiting if all(level.name is not None for level in each[0])]
        if len(named) < len(self._waiting):
            self.notes.append(
                f"has {len(self._waiting) - len(named):,} subtests whose test did not come: they are left out"
            )
        self._waiting = deque(named)
        if named:
            named[-1][1].output += self._output

    # --- results ---

    def whole(self) -> Iterator[Result]:
        while self._waiting and all(level.name is not None for level in self._waiting[0][0]):
            levels, point = self._waiting.popleft()
            self._waiting_size -= point.size
            yield self._result([level.name for level in levels if level.name], point)

    def _result(self, parents: list[str], point: Point) -> Result:
        name = point.name or f"test {point.number or 1}"
        path = " › ".join([*parents, name])
        key = hashlib.blake2b(path.encode("utf-8", "replace"), digest_size=8).digest()
        self._copies[key] += 1
        copy = f" #{self._copies[key]}" if self._copies[key] > 1 else ""
        values = {key: plain(text) for key, text in tap_lines.values_of(point.block).items()}
        test: dict[str, Any] = {"name": cut(name, 480) + copy, "test_id": shortened(path + copy)}
        test["status"] = _status(point)
        milliseconds = values.get("duration_ms") or values.get("time")
        test["duration_ms"] = duration(milliseconds if milliseconds else point.milliseconds)
        metadata = {key: cut(values[key], 1_000) for key in _METADATA if values.get(key)}
        metadata["suite"] = " / ".join(parents)[:1000]
        metadata["location"] = values.get("location", "")[:1000]
        error = _error(point, values)
        if test["status"] == "Failed":
            test.update(error)
        else:
            test["error_message"] = cut(point.reason) if test["status"] == "Skipped" else None
        if point.directive == "todo":
            metadata["outcome"] = "todo"
            metadata["expected_error"] = "" if point.is_ok else cut(error["error_message"], 4_000)
        test["metadata"] = {key: value for key, value in metadata.items() if value}
        result = Result({key: value for key, value in test.items() if value not in (None, "", {})}, told=Told())
        add_output(result, "output", point.output)
        return result


def _status(point: Point) -> str:
    if point.directive == "skip" or (point.directive == "todo" and not point.is_ok):
        return "Skipped"
    return "Passed" if point.is_ok else "Failed"


def _error(point: Point, values: dict[str, str]) -> dict[str, Any]:
    if not point.block:
        return error_of(plain(tap_lines.dedented(point.text)))
    message = values.get("message") or values.get("error") or ""
    text = values.get("stack") or ("" if message else plain(tap_lines.dedented(point.block)))
    return error_of(text, message, values.get("name", ""))
