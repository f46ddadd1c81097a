"""Delivers groups of tests: each in one request where the server offers bundles, else the tests and then the rest.

A bundle that is refused is repaired or halved. A single test that cannot be sent whole is stored alone, and what
belongs to it follows in calls of their own, as with servers that have no bundles.
"""

from __future__ import annotations

import re
from typing import Optional, Sequence

from reportd_client.sender.body import Changed, Json, key_of
from reportd_client.sender.bundle import Packed, body_of, choose_files, locate
from reportd_client.sender.connections import Fatal
from reportd_client.sender.files import Files
from reportd_client.sender.http import Answer, Server, TestDeleted
from reportd_client.sender.offers import BUNDLE, NESTING, SHARDS, Offers
from reportd_client.sender.plan import Waiting, load
from reportd_client.sender.receipts import Receipts
from reportd_client.sender.repair import Repairs
from reportd_client.sender.rows import Rows
from reportd_client.spool import Spool

_REPAIRS = 3  # of one request before it is halved: a field that all tests have wrong does not cost a request for each
_OLDER = "The server is older than this client: it does not store which steps are inside of others"


class Delivery:
    """Sends groups. Every method may be called again after a crash: what is stored is not stored twice."""

    def __init__(self, spool: Spool, server: Server, receipts: Receipts, run_id: str, offers: Offers) -> None:
        self._spool, self._server, self._receipts, self._run_id = spool, server, receipts, run_id
        self._offers = offers
        self.whole = BUNDLE in offers.features  # tests are sent whole
        self._with_missing = self.whole and SHARDS in offers.features  # the server remembers files that do not come
        self._repairs = Repairs(receipts)
        self._files = Files(spool, server, receipts, offers)
        self._rows = Rows(spool.id, server, receipts, self._repairs)
        self.notes: set[str] = set()
        self.tests_new: list[str] = []  # ids

    def deliver(self, group: Sequence[Waiting]) -> list[str]:
        """Send the tests of a group and everything that belongs to them. The refs that are complete now.

        Raises Stopped, Fatal.
        """
        parcels = [load(test) for test in group]
        if NESTING not in self._offers.features and any(step.get(NESTING) for one in parcels for step in one.steps):
            self.notes.add(_OLDER)
        packed = [Packed(parcel, list(self._files.ready(parcel))) for parcel in parcels]
        self._files.ask([file for one in packed for file in one.files])
        new = [one for one in packed if one.parcel.ref not in self._receipts.ids]
        self._create([one for one in new if one.parcel.ref not in self._receipts.alone], self.whole)
        self._create([one for one in new if one.parcel.ref in self._receipts.alone], False)
        for one in packed:
            test = self._receipts.ids.get(one.parcel.ref)
            if test is not None:
                self._add_rest(test, one)
        self._name_refused(packed)
        refs = [parcel.ref for parcel in parcels]
        self._receipts.write({"complete": refs})
        return refs

    def files_sent(self) -> list[bool]:
        """For each file that arrived, whether it was new."""
        return self._files.sent

    # --- tests ---

    def _create(self, packed: Sequence[Packed], whole: bool) -> None:
        """Store tests, `whole` or alone. What is refused is written down."""
        repairs = 0
        while packed:
            answer = self._send_whole(packed) if whole else self._send_alone(packed)
            if answer is None:  # a file could not be sent any more and is left out
                continue
            if answer.status == 404:
                raise self._deleted()
            if answer.status < 300:
                packed = self._take_whole(answer, packed) if whole else self._take_alone(answer, packed)
            elif (repairs < _REPAIRS or len(packed) == 1) and self._repaired(answer, packed):
                repairs += 1
            elif not (whole and answer.status == 413 and self._will_have_fewer_files(packed)):
                self._divide(answer, packed, whole)
                return

    def _repaired(self, answer: Answer, packed: Sequence[Packed]) -> bool:
        return self._repairs.leave_out(answer, lambda path: locate(packed, _full(path)))

    def _will_have_fewer_files(self, packed: Sequence[Packed]) -> bool:
        """Of a bundle that was too large: whether that is because of its files, and the next one has fewer of them."""
        sizes = [file.size for one in packed for file in one.inside.values()]
        if len(sizes) < 2 or sum(sizes) <= self._server.most_file_bytes:
            return False
        return sum(sizes) > body_of(packed, self._with_missing).length * 3 // 4

    def _divide(self, answer: Answer, packed: Sequence[Packed], whole: bool) -> None:
        """Send in smaller parts what was refused as a whole."""
        if len(packed) > 1:
            half = len(packed) // 2
            self._create(packed[:half], whole)
            self._create(packed[half:], whole)
        elif whole:
            # Written down before: after a crash the server may have the test without what belongs to it.
            self._receipts.write({"alone": [packed[0].parcel.ref]})
            self._create(packed, False)
        else:
            self._receipts.refuse(packed[0].parcel.test_id, "test", answer.text())

    def _send_whole(self, packed: Sequence[Packed]) -> Optional[Answer]:
        """Send tests with everything that belongs to them; None when a file cannot be sent any more."""
        choose_files(packed, self._files.is_there, self._offers.max_files, self._server.most_file_bytes)
        path, body = f"/suite-runs/{self._run_id}/bundle", body_of(packed, self._with_missing)
        names = [file.name for one in packed for file in one.inside.values()]
        try:
            key = key_of(self._spool.id, path, body.data, names)
            return self._server.call("POST", path, body, key, divisible=True)
        except Changed as error:
            for one in packed:
                self._files.leave_out(error, one.files)
            return None

    def _take_whole(self, answer: Answer, packed: Sequence[Packed]) -> list[Packed]:
        """Write down what became of each file. The tests of which files are left: these go in another bundle."""
        by_ref = {one.parcel.ref: one for one in packed}
        tests = answer.items("tests")
        for test in tests:
            one = by_ref[test["client_ref"]]
            if test["created"] and not answer.replayed:
                self.tests_new.append(test["id"])
            one.is_taken()
            self._files.count(test["artifacts"], answer.replayed)
            sent = {id(file) for file in one.named}
            left = [file for file in one.files if id(file) not in sent]
            failed, test_id = test["failed"], one.parcel.test_id
            one.files = left + self._files.again(failed, test_id, one.inside, one.known, is_named=True)
        self._files.wait_for_space([failure for test in tests for failure in test["failed"]])
        return [one for one in packed if one.files]

    def _send_alone(self, packed: Sequence[Packed]) -> Answer:
        if self.whole:
            path = f"/suite-runs/{self._run_id}/bundle"
            tests = [{"client_ref": one.parcel.ref, "test": one.parcel.test} for one in packed]
            body = Json({"tests": tests})
        else:
            path = f"/suite-runs/{self._run_id}/test-cases/bulk"
            body = Json({"test_cases": [one.parcel.test for one in packed]})
        key = key_of(self._spool.id, path, body.data)
        return self._server.call("POST", path, body, key, divisible=len(packed) > 1)

    def _take_alone(self, answer: Answer, packed: Sequence[Packed]) -> list[Packed]:
        cases = answer.items("tests" if self.whole else "test_cases")
        if not answer.replayed:
            self.tests_new += [case["id"] for case in cases if case.get("created", True)]
        self._receipts.write({"tests": {one.parcel.ref: case["id"] for one, case in zip(packed, cases)}})
        return []

    def _name_refused(self, packed: Sequence[Packed]) -> None:
        """Name the files that will not come and that no bundle has named, of tests that are stored: so the server can
        say what is missing. The summary has them in any case."""
        ids = self._receipts.ids
        left = [one for one in packed if one.parcel.refused and (one.is_stored or one.parcel.ref in ids)]
        if not left or not self._with_missing:
            return
        tests = []
        for one in left:
            one.named, one.later = [], []
            name = {"name": str(one.parcel.test.get("name") or "?")}  # it is stored, and not written again
            tests.append({"client_ref": one.parcel.ref, "test": name, "artifacts": one.value(True)["artifacts"]})
        path, body = f"/suite-runs/{self._run_id}/bundle", Json({"tests": tests})
        answer = self._server.call("POST", path, body, key_of(self._spool.id, path, body.data))
        if answer.status == 404:
            raise self._deleted()

    # --- what belongs to a test that was stored alone ---

    def _add_rest(self, test: str, one: Packed) -> None:
        try:
            self._rows.send(test, one.parcel)
            self._files.send(test, one.parcel.test_id, one.files)
        except TestDeleted:
            answer = self._server.call("GET", f"/suite-runs/{self._run_id}")
            if answer.status == 404:
                raise self._deleted() from None
            one.parcel.refused.clear()
            self._receipts.refuse(one.parcel.test_id, "test", "It has been deleted on the server")

    def _deleted(self) -> Fatal:
        return Fatal(f"The run {self._run_id} has been deleted on the server, or belongs to another project")


def _full(path: str) -> str:
    """A path in a bundle, also of `test_cases[3].status` in the call of other servers."""
    return re.sub(r"^test_cases(\[\d+\])", r"tests\1.test", path)
