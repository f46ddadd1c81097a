"""What changed from one run to another: tests that newly fail, are fixed, still fail, are slower, came or went."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from server.compare.marks import SLOWER_MS, SLOWER_RATIO


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a test in a run: its last attempt with one browser."""

    id: Any
    test_id: str
    browser: str | None
    name: str
    status: str
    duration_ms: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_fingerprint: bytes | None = None
    attempts: int = 1
    flaky_here: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A test in both runs. `error_changed`: whether a test that failed in both has another error; None: unknown."""

    base: Outcome | None
    head: Outcome | None
    error_changed: bool | None = None

    @property
    def shown(self) -> Outcome:
        """The test as it is named now."""
        test = self.head or self.base
        if test is None:
            raise LookupError("a change has at least one side")
        return test


@dataclass(slots=True)
class Changes:
    """Each test is in one list at most, or in none when it changed in none of these ways. `slower` and `appeared` have
    only tests that did not fail."""

    new_failures: list[Change] = field(default_factory=list)
    fixed: list[Change] = field(default_factory=list)
    still_failing: list[Change] = field(default_factory=list)
    slower: list[Change] = field(default_factory=list)
    appeared: list[Change] = field(default_factory=list)
    disappeared: list[Change] = field(default_factory=list)


def changes(base: Sequence[Outcome], head: Sequence[Outcome]) -> Changes:
    """Compares a run (`head`) with an earlier one. Lists are in the order of `head`, but changed errors come first, and
    the greatest slowdown. A test that failed and was not in `base`, or did not fail there, is a new failure."""
    found, before = Changes(), {(test.test_id, test.browser): test for test in base}
    for test in head:
        former = before.pop((test.test_id, test.browser), None)
        was_failed = former is not None and former.status == "Failed"
        if test.status == "Failed" and former is not None and was_failed:
            found.still_failing.append(Change(former, test, _error_changed(former, test)))
        elif test.status == "Failed":
            found.new_failures.append(Change(former, test))
        elif former is None:
            found.appeared.append(Change(None, test))
        elif test.status == "Passed" and was_failed:
            found.fixed.append(Change(former, test))
        elif _delay(former, test) > 0:
            found.slower.append(Change(former, test))
    found.disappeared = [Change(test, None) for test in before.values()]
    found.still_failing.sort(key=lambda change: not change.error_changed)
    found.slower.sort(key=lambda change: -_delay(change.base, change.head))
    return found


def _error_changed(former: Outcome, test: Outcome) -> bool | None:
    """None when one of them has no fingerprint: no message, or stored by an older version and not regrouped yet."""
    one, other = former.error_fingerprint, test.error_fingerprint
    return None if one is None or other is None else one != other


def _delay(former: Outcome | None, test: Outcome | None) -> int:
    """By how many milliseconds a test that passed twice became slower; 0 when the difference is usual."""
    if former is None or test is None or (former.status, test.status) != ("Passed", "Passed"):
        return 0
    before, now = former.duration_ms, test.duration_ms
    if before is None or now is None or now <= SLOWER_RATIO * before or now - before <= SLOWER_MS:
        return 0
    return now - before
