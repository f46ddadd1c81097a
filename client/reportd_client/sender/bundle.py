"""Delivers a group of tests in one request, where the server offers bundles; bytes that it has are not sent again."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

from reportd_client import limits
from reportd_client.sender.body import Changed, Upload
from reportd_client.sender.deliver import Delivery, Rows, deleted, key_of, leave_out
from reportd_client.sender.files import Ready
from reportd_client.sender.http import Answer, Body, Json
from reportd_client.sender.plan import Parcel, Waiting, load

BUNDLE = "bundle"
_MOST_KNOWN = 500  # in one request
_LISTS = ("steps", "checkpoints", "console_logs", "network_logs")


class Packed:
    """A parcel with its files: those in the request by index, those that the server knows, and those for later."""

    def __init__(self, parcel: Parcel, files: list[Ready]) -> None:
        self.parcel, self.files = parcel, files
        self.known: list[Ready] = []
        self.inside: dict[int, Ready] = {}
        self.later: list[Ready] = []

    def value(self) -> dict[str, Any]:
        """As the bundle has it."""
        parcel = self.parcel
        entries = [{"file_index": index, **file.fields} for index, file in self.inside.items()]
        entries += [file.known() for file in self.known]
        lists = {name: getattr(parcel, name) for name in _LISTS if getattr(parcel, name)}
        return {"client_ref": parcel.ref, "test": parcel.test, **lists, "artifacts": entries}


class Bundles:
    """Thread-safe."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._server, self._receipts, self._spool = delivery.server, delivery.receipts, delivery.spool

    def deliver(self, group: Sequence[Waiting]) -> list[str]:
        """Send the tests of a group. The refs that are complete now. Raises Stopped, Fatal."""
        parcels = [load(test) for test in group]
        packed = [Packed(parcel, list(self._delivery.files.ready(parcel))) for parcel in parcels]
        self._delivery.files.ask([file for one in packed for file in one.files])
        self._send(packed)
        refs = [parcel.ref for parcel in parcels]
        self._receipts.write({"complete": refs})
        return refs

    def _send(self, packed: list[Packed]) -> None:
        _assign(packed, self._delivery.files.is_there)
        value = {"tests": [one.value() for one in packed]}
        files = [file for one in packed for file in one.inside.values()]
        path = f"/suite-runs/{self._delivery.run_id}/bundle"
        key = key_of(self._spool.id, path, [value, [file.name for file in files]])
        body: Body = Upload("bundle", value, [(f.name, f.path, f.size) for f in files]) if files else Json(value)
        try:
            answer: Optional[Answer] = self._server.call("POST", path, body, key)
        except Changed:
            answer = None
        if answer is not None and answer.status < 300:
            self._take(answer, packed)
        elif answer is not None and answer.status == 404:
            raise deleted(self._delivery.run_id)
        elif answer is not None and self._repaired(answer, packed):
            self._send(packed)
        elif len(packed) > 1:
            half = len(packed) // 2
            self._send(packed[:half])
            self._send(packed[half:])
        else:  # one test that is too large for a bundle, or that the server refuses: each of its parts by itself
            self._delivery.deliver_parcels([packed[0].parcel])

    def _take(self, answer: Answer, packed: list[Packed]) -> None:
        """Write down what became of each test and file, and send the rest of the files."""
        replayed, files = "Idempotent-Replayed" in answer.headers, self._delivery.files
        by_ref = {one.parcel.ref: one for one in packed}
        self._receipts.write({"tests": {test["client_ref"]: test["id"] for test in answer.value["tests"]}})
        for test in answer.value["tests"]:
            one = by_ref[test["client_ref"]]
            self._delivery.tests_new += bool(test.get("created")) and not replayed
            files.count(test.get("artifacts", ()), replayed)
            again = files.again(test.get("failed", ()), one.parcel.test_id, one.inside, one.known)
            files.send(test["id"], one.parcel.test_id, [*one.later, *again])

    def _repaired(self, answer: Answer, packed: list[Packed]) -> bool:
        """Leave out the fields that a 422 names, such as `tests[3].steps[2].status`: whether any was left out."""
        if answer.status != 422:
            return False
        rows: Rows = {}
        for i, one in enumerate(packed):
            parcel = one.parcel
            rows[f"tests[{i}].test"] = (parcel.test, parcel.test_id)
            for name in _LISTS:
                rows.update(
                    {f"tests[{i}].{name}[{k}]": (row, parcel.test_id) for k, row in enumerate(getattr(parcel, name))}
                )
        return leave_out(answer, rows, self._receipts)


def _assign(packed: list[Packed], is_there: Callable[[Ready], bool]) -> None:
    """Decide for each file: known to the server, in this request, or in a later one. The same bytes are sent once."""
    index = size = known = 0
    inside: set[str] = set()
    for one in packed:
        one.known, one.inside, one.later = [], {}, []
        for file in one.files:
            if is_there(file) and known < _MOST_KNOWN:
                one.known.append(file)
                known += 1
            elif file.checksum in inside or index >= limits.GROUP_FILES or size + file.size > limits.GROUP_FILE_BYTES:
                one.later.append(file)
            else:
                one.inside[index] = file
                inside.add(file.checksum)
                index, size = index + 1, size + file.size
