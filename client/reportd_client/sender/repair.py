"""Leaves out of a request what the server refuses, so that one wrong value costs neither other rows nor other tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Optional

from reportd_client.sender.http import Answer
from reportd_client.sender.receipts import Receipts

_SINGLY = 3  # refusals of the same field of a test; with the next one, rows like the refused one are repaired with it
_MOST = 50  # refusals of rows for the same field of a test; with the next one, all that follow are left out
_NEEDED = {  # fields without which a row is refused, by its kind
    "test": ("name",),
    "step": ("step_number",),
    "checkpoint": ("checkpoint_number", "name"),
    "console entry": ("level", "message"),
    "network entry": ("method", "url"),
}
_NEEDED_OF_FILE = ("artifact_type", "checksum")


@dataclass
class Spot:
    """A place in a request: a row, or a field of it. `kind`: what the row is, for people; of a file its name.

    `rows` has dicts, or files with `fields` and `refuse`. What is removed from it is not sent again.
    """

    test_id: str
    kind: str
    rows: list[Any]
    index: int
    field: Optional[str]
    is_test: bool = False  # the row is the test itself: only its fields can be left out


class Repairs:
    """Thread-safe for different tests."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._counts: Counter[tuple[str, str, Optional[str]]] = Counter()

    def leave_out(self, answer: Answer, locate: Callable[[str], Optional[Spot]]) -> bool:
        """Leave out the first of the fields or rows that a 422 names, and write it down: whether there was one.

        `locate`: the place of a path such as `tests[3].steps[2].status`.
        """
        for problem in answer.problems if answer.status == 422 else ():
            spot = locate(str(problem.get("path")))
            if spot is not None and spot.index < len(spot.rows) and self._remove(spot, str(problem.get("message"))):
                return True
        return False

    def _remove(self, spot: Spot, message: str) -> bool:
        key = (spot.test_id, spot.kind, spot.field)
        self._counts[key] += 1
        count, field = self._counts[key], spot.field
        wrong, *others = spot.rows[spot.index :]  # the server looks at rows in their order: those before are good
        needed = _NEEDED.get(spot.kind, _NEEDED_OF_FILE)
        if field is not None and field not in needed and field in _fields(wrong):
            kind = type(_fields(wrong)[field])
            alike = [row for row in others if count > _SINGLY and type(_fields(row).get(field)) is kind]
            for row in [wrong, *alike]:
                _fields(row).pop(field, None)
            self._refuse(spot, f"{spot.kind} field {field}", message, len(alike))
            return True
        if spot.is_test:
            return False
        alike = others if count > _MOST else []
        if _SINGLY < count <= _MOST and field is not None:
            alike = [row for row in others if _fields(row).get(field) == _fields(wrong).get(field)]
        for row in [wrong, *alike]:
            if not isinstance(row, dict):
                row.refuse(message)
        gone = {id(row) for row in [wrong, *alike]}
        spot.rows[:] = [row for row in spot.rows if id(row) not in gone]
        self._refuse(spot, spot.kind, f"{field}: {message}" if field else message, len(alike))
        return True

    def _refuse(self, spot: Spot, what: str, message: str, more: int) -> None:
        self._receipts.refuse(spot.test_id, what, f"{message} (and {more} more)" if more else message)


def _fields(row: Any) -> dict[str, Any]:
    return row if isinstance(row, dict) else row.fields
