"""Which attempt of which test each entry is, over all files of one command.

Most reports do not say it. The same test again after a failure is its next attempt; otherwise it is another test, named
` #2`. Nothing is dropped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Iterable, Optional, Union

from reportd_client.formats.junit_case import shortened
from reportd_client.formats.numbered import Numbered
from reportd_client.formats.result import Result, Source
from reportd_client.texts import cut

_ENDED = "The report does not say how this attempt ended"


@dataclass
class _Entry:
    """An entry as it was first seen: `number` counts all entries."""

    __slots__ = ("again", "error", "failed", "number", "silent", "source", "time")
    number: int
    source: Source
    time: Optional[str]
    failed: bool
    silent: bool
    error: Optional[dict[str, Any]]  # of a teardown
    again: bool


@dataclass
class _Change:
    """What becomes of an entry."""

    attempt: int = 1
    copy: int = 1
    pending: bool = False
    joined: bool = False  # it is part of an entry before
    error: Optional[dict[str, Any]] = None  # of the teardown that belongs to it


class Attempts:
    """First sees all entries, then places them, in the same order."""

    def __init__(self) -> None:
        self._seen: dict[bytes, Union[_Entry, list[_Entry]]] = {}
        self._changes: dict[int, _Change] = {}
        self._numbered = Numbered()
        self.number = 0  # of entries so far; set it before a report is read again
        self.counts: Counter[str] = Counter()

    def see(self, source: Source, result: Result) -> None:
        told = result.told
        if told is None:  # the report says which attempt it is
            self._numbered.see(source, result)
            return
        self.number += 1
        test = result.test
        error = {name: test.get(name) for name in ("error_message", "stack_trace")} if told.of_teardown else None
        entry = _Entry(self.number, source, told.time, test["status"] == "Failed", told.silent, error, told.again)
        key = hashlib.blake2b(test["test_id"].encode("utf-8", "replace"), digest_size=12).digest()
        known = self._seen.setdefault(key, entry)
        if isinstance(known, list):
            known.append(entry)
        elif known is not entry:
            self._seen[key] = [known, entry]

    def settle(self, sources: Iterable[Source]) -> None:
        """All entries have been seen. Those of other sources than these are not sent."""
        sent = {id(source) for source in sources}
        self.counts += self._numbered.settle(sent)
        for entries in self._seen.values():
            if isinstance(entries, list):
                entries = [entry for entry in entries if id(entry.source) in sent]
                if len(entries) > 1:
                    self._settle(_in_order(entries))
        self._seen.clear()

    def _settle(self, entries: list[_Entry]) -> None:
        last, at = entries[0], _Change()
        self._changes[last.number] = at
        failures: dict[int, list[_Change]] = {}  # of each file, to which the error of a teardown may belong
        if _may_have_teardown(last):
            failures[id(last.source)] = [at]
        for entry in entries[1:]:
            before, same_file = at, entry.source is last.source
            at = _Change(before.attempt, before.copy)
            self._changes[entry.number] = at
            of_file = failures.setdefault(id(entry.source), [])
            if entry.error is not None and of_file:
                of_file.pop().error, at.joined = entry.error, True
                self.counts["errors in a teardown"] += 1
                at = before
                continue
            of_pytest = same_file and entry.source.has_reruns is not None
            is_rerun = last.silent and bool(entry.source.has_reruns) if of_pytest else last.failed or entry.again
            if is_rerun:
                before.pending = of_pytest
                at.attempt += 1
                self.counts["further attempts"] += 1
            else:
                at.attempt, at.copy = 1, before.copy + 1
                self.counts["tests of the same name"] += 1
            last = entry
            of_file += [at] if _may_have_teardown(entry) else []

    def place(self, source: Source, result: Result) -> Optional[Result]:
        """The result as it is sent; None when it is part of one before."""
        if result.told is None:
            before, copy = self._numbered.change(source, result)
            if before:
                result.test["attempt"] = (result.test.get("attempt") or 1) + before
            _name_copy(result, copy)
            return result
        self.number += 1
        change = self._changes.get(self.number)
        if change is None:
            result.test["attempt"] = 1
            return result
        if change.joined:
            return None
        result.test["attempt"] = change.attempt
        _name_copy(result, change.copy)
        if change.pending:
            result.test.update(status="Pending", error_message=_ENDED)
        if change.error is not None:
            _add_error(result.test, change.error)
        return result

    def note(self) -> Optional[str]:
        """One line about entries of the same test."""
        counts = ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
        return f"The same tests came several times: {counts}" if counts else None


def _name_copy(result: Result, copy: int) -> None:
    if copy > 1:
        result.test["name"] = f"{cut(result.test['name'], 480)} #{copy}"
        result.test["test_id"] = shortened(f"{result.test['test_id']} #{copy}")


def _may_have_teardown(entry: _Entry) -> bool:
    return entry.failed and entry.error is None


def _in_order(entries: list[_Entry]) -> list[_Entry]:
    """By time where there is one, else those that failed first; pytest's as they were written."""
    if len({id(entry.source) for entry in entries}) == 1 and entries[0].source.has_reruns is not None:
        return entries
    times = [entry.time or "" for entry in entries]
    if all(times) and len(set(times)) > 1:
        return sorted(entries, key=lambda entry: (entry.time or "", not entry.failed))
    return sorted(entries, key=lambda entry: not entry.failed)


def _add_error(test: dict[str, Any], error: dict[str, Any]) -> None:
    more = "\n".join(filter(None, (error["error_message"], error["stack_trace"])))
    test["stack_trace"] = cut("\n\n".join(filter(None, (test.get("stack_trace"), more))))
