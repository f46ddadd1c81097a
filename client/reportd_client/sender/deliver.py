"""Delivers a group of tests with the calls that every server has: tests in bulk, then what belongs to each of them."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Iterator, Sequence

from reportd_client import limits
from reportd_client.sender.connections import Fatal
from reportd_client.sender.files import Files
from reportd_client.sender.http import Answer, Json, Server
from reportd_client.sender.offers import NESTING, Offers
from reportd_client.sender.plan import Parcel, Waiting, load
from reportd_client.sender.receipts import Receipts
from reportd_client.spool import Spool

_ROWS = (
    ("steps", "steps/bulk", "steps"),
    ("checkpoints", "checkpoints", "checkpoints"),
    ("console_logs", "console-logs", "entries"),
    ("network_logs", "network-logs", "entries"),
)
_STORED = ("steps_exist", "checkpoints_exist")
_REPAIRS = 20  # fields that are left out of one request before it is halved or refused
_PORTION = 2 << 20  # bytes of JSON in one request for rows


class Delivery:
    """Sends groups. Every method may be called again after a crash: what is stored is not stored twice."""

    def __init__(self, spool: Spool, server: Server, receipts: Receipts, run_id: str, offers: Offers) -> None:
        self._spool, self._server, self._receipts, self._run_id = spool, server, receipts, run_id
        self._offers = offers
        self._files = Files(spool, server, receipts, offers)
        self.notes: set[str] = set()
        self.tests_new = 0

    def deliver(self, group: Sequence[Waiting]) -> list[str]:
        """Send the tests of a group and everything that belongs to them. The refs that are complete now.

        Raises Stopped, Fatal.
        """
        parcels = [load(test) for test in group]
        ids = self._tests([parcel for parcel in parcels if parcel.ref not in self._receipts.ids])
        for parcel in parcels:
            test = self._receipts.ids.get(parcel.ref) or ids.get(parcel.ref)
            if test is not None:
                self._belongings(test, parcel)
        refs = [parcel.ref for parcel in parcels]
        self._receipts.write({"complete": refs})
        return refs

    def files_sent(self) -> list[bool]:
        """For each file that arrived, whether it was new."""
        return self._files.sent

    # --- the tests themselves ---

    def _tests(self, parcels: list[Parcel]) -> dict[str, str]:
        """Create the test cases: their ids by ref. A refused test is written down, and has none."""
        if not parcels:
            return {}
        rows = [parcel.test for parcel in parcels]
        answer = self._call(f"/suite-runs/{self._run_id}/test-cases/bulk", {"test_cases": rows})
        if answer.status == 404:
            raise Fatal(f"The run {self._run_id} has been deleted on the server, or belongs to another project")
        if answer.status < 300:
            self.tests_new += 0 if "Idempotent-Replayed" in answer.headers else len(parcels)
            ids = {parcel.ref: case["id"] for parcel, case in zip(parcels, answer.value["test_cases"])}
            self._receipts.write({"tests": ids})
            return ids
        if self._repaired(answer, "test_cases", rows, [parcel.test_id for parcel in parcels]):
            return self._tests(parcels)
        if len(parcels) == 1:
            self._receipts.refuse(parcels[0].test_id, "test", answer.text())
            return {}
        half = len(parcels) // 2
        return {**self._tests(parcels[:half]), **self._tests(parcels[half:])}

    # --- what belongs to a test ---

    def _belongings(self, test: str, parcel: Parcel) -> None:
        if NESTING not in self._offers.features and any(NESTING in step for step in parcel.steps):
            self.notes.add("The server is older than this client: it does not store which steps are inside of others")
        for name, path, field in _ROWS:
            at = 0
            for rows in portions(getattr(parcel, name)):
                extra = {"first_sequence": at} if field == "entries" else {}
                self._rows(f"/test-case-results/{test}/{path}", field, rows, extra, parcel.test_id)
                at += len(rows)
        files = list(self._files.ready(parcel))
        self._files.ask(files)
        self._files.send(test, parcel.test_id, files)

    def _rows(self, path: str, field: str, rows: list[Any], extra: dict[str, Any], test_id: str) -> None:
        answer = self._call(path, {**extra, field: rows})
        if answer.status < 300 or answer.code in _STORED:
            return
        if self._repaired(answer, field, rows, [test_id] * len(rows)):
            self._rows(path, field, rows, extra, test_id)
        elif len(rows) == 1:
            self._receipts.refuse(test_id, field, answer.text())
        else:
            half = len(rows) // 2
            self._rows(path, field, rows[:half], extra, test_id)
            if extra:
                extra = {"first_sequence": extra["first_sequence"] + half}
            self._rows(path, field, rows[half:], extra, test_id)

    def _call(self, path: str, value: Any) -> Answer:
        """Send JSON, once: the key of a request follows from what is sent."""
        key = key_of(self._spool.id, path, value)
        if key in self._receipts.done:
            return Answer(200, {}, b"{}")
        answer = self._server.call("POST", path, Json(value), key)
        if answer.status < 300 and "test_cases" not in value:
            self._receipts.write({"done": key})
        return answer

    def _repaired(self, answer: Answer, field: str, rows: list[Any], test_ids: list[str]) -> bool:
        """Leave out the fields that the server named in a 422, once each: whether anything was left out."""
        if answer.status != 422:
            return False
        return leave_out(answer, field, rows, test_ids, self._receipts)


def leave_out(answer: Answer, field: str, rows: list[Any], test_ids: list[str], receipts: Receipts) -> bool:
    """Remove from `rows` the fields that a 422 names, such as `steps[2].status`; write down which."""
    removed = False
    for problem in (answer.value.get("errors") or ())[:_REPAIRS]:
        found = re.fullmatch(rf"{field}\[(\d+)\]\.(\w+)(.*)", str(problem.get("path")))
        if not found or int(found[1]) >= len(rows):
            continue
        row = rows[int(found[1])]
        if found[2] not in _NEEDED and row.pop(found[2], None) is not None:
            receipts.refuse(test_ids[int(found[1])], f"{field[:-1]} field {found[2]}{found[3]}", problem["message"])
            removed = True
    return removed


_NEEDED = ("name", "step_number", "checkpoint_number", "level", "message", "method", "url")


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


def key_of(spool_id: str, path: str, value: Any) -> str:
    """The Idempotency-Key of a request: the same for the same request, also after a crash, and for no other one."""
    text = json.dumps([path, value], sort_keys=True)
    return f"{spool_id}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
