"""Sends what belongs to a test that is stored already, with the calls that every server has."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator, Optional, Sequence

from reportd_client import limits
from reportd_client.sender.body import Json, key_of
from reportd_client.sender.bundle import ROWS
from reportd_client.sender.http import Answer, Server, TestDeleted
from reportd_client.sender.plan import Parcel
from reportd_client.sender.receipts import Receipts
from reportd_client.sender.repair import Repairs, Spot

_CALLS = {  # path, and name of the list
    "steps": ("steps/bulk", "steps"),
    "checkpoints": ("checkpoints", "checkpoints"),
    "console_logs": ("console-logs", "entries"),
    "network_logs": ("network-logs", "entries"),
}
_STORED = ("steps_exist", "checkpoints_exist")
_PORTION = 2 << 20  # bytes of JSON in one request


class Rows:
    """Thread-safe for different tests. What is stored is not stored twice: rows have numbers within their test."""

    def __init__(self, spool_id: str, server: Server, receipts: Receipts, repairs: Repairs) -> None:
        self._spool_id, self._server, self._receipts, self._repairs = spool_id, server, receipts, repairs

    def send(self, test: str, parcel: Parcel) -> None:
        """Send the rows of a test. Raises Stopped, Fatal, TestDeleted."""
        for name in ROWS:
            at = 0
            for rows in portions(getattr(parcel, name)):
                count = len(rows)
                self._send(test, parcel.test_id, name, rows, at)
                at += count

    def _send(self, test: str, test_id: str, name: str, rows: list[Any], at: int) -> None:
        """Send rows. `at`: the number of the first one in its list."""
        path, field = _CALLS[name]
        first = {"first_sequence": at} if field == "entries" else {}
        while rows:
            answer = self._call(f"/test-case-results/{test}/{path}", {**first, field: rows}, len(rows) > 1)
            if answer.status < 300 or answer.code in _STORED:
                return
            if answer.status == 404:
                raise TestDeleted
            if not self._repairs.leave_out(answer, lambda path: _locate(path, field, test_id, ROWS[name], rows)):
                break
        if len(rows) == 1:
            self._receipts.refuse(test_id, ROWS[name], answer.text())
        elif rows:
            half = len(rows) // 2
            self._send(test, test_id, name, rows[:half], at)
            self._send(test, test_id, name, rows[half:], at + half)

    def _call(self, path: str, value: Any, divisible: bool) -> Answer:
        body = Json(value)
        key = key_of(self._spool_id, path, body.data)
        if key in self._receipts.done:
            return Answer(200, {}, b"{}")
        answer = self._server.call("POST", path, body, key, divisible=divisible)
        if answer.status < 300:
            self._receipts.write({"done": key})
        return answer


def _locate(path: str, field: str, test_id: str, kind: str, rows: list[Any]) -> Optional[Spot]:
    """The place of a path such as `steps[2].status`."""
    found = re.fullmatch(rf"{field}\[(\d+)\](?:\.(\w+))?.*", path)
    return Spot(test_id, kind, rows, int(found[1]), found[2]) if found else None


def portions(rows: Sequence[Any]) -> Iterator[list[Any]]:
    """The rows in portions that one request may have."""
    portion: list[Any] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row))
        if portion and (size + length > _PORTION or len(portion) >= limits.GROUP_STEPS):
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += length
    if portion:
        yield portion
