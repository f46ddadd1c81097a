"""Appends the entries of one test, within its limits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from reportd_client import limits
from reportd_client.system import System

if TYPE_CHECKING:
    from reportd_client.runs import Recorder

MOST = {
    "steps": limits.MAX_STEPS,
    "console_logs": limits.MAX_CONSOLE - 10,  # the last ones say what was cut
    "network_logs": limits.MAX_NETWORK,
    "checkpoints": limits.MAX_CHECKPOINTS,
    "artifacts": limits.MAX_FILES,
}


class Entries:
    """Of the test `ref`. What is cut is said once, in a console entry."""

    def __init__(self, recorder: Recorder, ref: str) -> None:
        self._recorder, self._ref = recorder, ref
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._cuts: set[str] = set()

    def add(self, to: str, entry: dict[str, Any]) -> None:
        """Append an entry, unless the test has too many or too large ones."""
        self._counts[to] += 1
        if self._counts[to] > MOST[to]:
            self._cut(to, f"More than {MOST[to]:,} {to.replace('_', ' ')}: the others were not kept")
        elif self._bytes > limits.MAX_TEST_BYTES:
            self._cut("bytes", f"More than {limits.MAX_TEST_BYTES >> 20} MiB of entries: the others were not kept")
        else:
            self._write(to, entry)

    def _cut(self, kind: str, message: str) -> None:
        if kind not in self._cuts:
            self._cuts.add(kind)
            self._write("console_logs", {"level": "warning", "message": message, "logged_at": System.now()})

    def _write(self, to: str, entry: dict[str, Any]) -> None:
        entry = {name: value for name, value in entry.items() if value is not None}
        self._bytes += self._recorder.append({"kind": "add", "ref": self._ref, "to": to, "entry": entry})
