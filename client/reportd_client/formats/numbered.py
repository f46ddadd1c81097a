"""Tests that several reports of one command have, each with numbers of its own for the attempts.

So it is when failed tests were run again into another report, or a suite ran on several machines.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Iterable, Union

from reportd_client.formats.result import Result, Source


@dataclass
class _Span:
    """The attempts of a test in one report; `failed`: the last of them."""

    __slots__ = ("failed", "first", "last", "source", "time")
    source: int
    first: int
    last: int
    failed: bool
    time: str


class Numbered:
    """First sees all results whose report says which attempt it is, then says what becomes of each."""

    def __init__(self) -> None:
        self._spans: dict[bytes, Union[_Span, list[_Span]]] = {}
        self._changes: dict[tuple[int, bytes], tuple[int, int]] = {}

    def see(self, source: Source, result: Result) -> None:
        key, attempt = _key(result), _attempt(result)
        failed, time = result.test.get("status") == "Failed", str(result.test.get("started_at") or "")
        known = self._spans.get(key)
        last = known[-1] if isinstance(known, list) else known
        if last is None or last.source != id(source):
            span = _Span(id(source), attempt, attempt, failed, time)
            self._spans[key] = span if known is None else [*(known if isinstance(known, list) else [known]), span]
            return
        last.first = min(last.first, attempt)
        if attempt >= last.last:
            last.last, last.failed = attempt, failed

    def settle(self, sent: set[int]) -> Counter[str]:
        """All results have been seen; the sources with these ids are sent. How many tests come again, in words.

        After a failure the attempts of the next report follow; otherwise it is another test of the same name. Reports
        whose numbers do not clash are as they say.
        """
        counts: Counter[str] = Counter()
        for key, spans in self._spans.items():
            found = [span for span in spans if span.source in sent] if isinstance(spans, list) else []
            if len(found) > 1:
                counts += self._settle(key, _in_order(found))
        self._spans.clear()
        return counts

    def _settle(self, key: bytes, spans: list[_Span]) -> Counter[str]:
        counts: Counter[str] = Counter()
        before, copy, last = spans[0], 1, spans[0].last
        for span in spans[1:]:
            more = 0
            if span.first <= last and before.failed:
                more = last
                counts["further attempts"] += 1
            elif span.first <= last:
                copy += 1
                counts["tests of the same name"] += 1
            self._changes[span.source, key] = more, copy
            before, last = span, span.last + more
        return counts

    def change(self, source: Source, result: Result) -> tuple[int, int]:
        """How many attempts came before those of this report, and the number of the test among those of its name."""
        return self._changes.get((id(source), _key(result)), (0, 1)) if self._changes else (0, 1)


def _key(result: Result) -> bytes:
    return hashlib.blake2b(str(result.test["test_id"]).encode("utf-8", "replace"), digest_size=12).digest()


def _attempt(result: Result) -> int:
    attempt: Any = result.test.get("attempt")
    return attempt if isinstance(attempt, int) and attempt > 0 else 1


def _in_order(spans: Iterable[_Span]) -> list[_Span]:
    """By time where there is one, else as they were read."""
    found = list(spans)
    return sorted(found, key=lambda span: span.time) if all(span.time for span in found) else found
