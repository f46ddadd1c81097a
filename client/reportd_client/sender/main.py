"""The sender's work: follow a spool until the run has ended and everything is sent, or the time is over."""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Optional

from reportd_client import limits
from reportd_client.receipt import Receipt, resume_hint
from reportd_client.sender.body import Json, key_of
from reportd_client.sender.connections import Fatal
from reportd_client.sender.deliver import Delivery
from reportd_client.sender.http import Patience, Server, Stopped
from reportd_client.sender.lock import Gone, Lock, Taken
from reportd_client.sender.offers import Offers
from reportd_client.sender.plan import Room, Tests, Waiting
from reportd_client.sender.receipts import Receipts
from reportd_client.sender.shard import Shard
from reportd_client.settings import API, SettingsError
from reportd_client.spool import Follower, Spool, SpoolError

_POLL = 0.1
_KILLED = "The process that ran the tests ended before the run did"


def send(
    folder: Path,
    token: Optional[str],
    patience: Patience,
    *,
    url: Optional[str] = None,
    ended: bool = False,
    orphaned: Callable[[], bool] = lambda: False,
    keep: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Receipt:
    """Send a spool and remove it when all of it has arrived. Raises nothing.

    `ended`: the run has ended, whether its end is written or not. `orphaned`: whether the process that records is gone.
    """
    try:
        spool = Spool.open(folder)
        lock = Lock(folder)
    except Gone:
        return Receipt(message=f"{folder} has been sent")
    except (Taken, SpoolError, OSError) as error:
        return Receipt(spool=folder, message=str(error), code=5)
    try:
        return Sending(spool, token, patience, url, say).work(ended, orphaned, keep)
    except (SettingsError, OSError) as error:
        return Receipt(spool=folder, message=f"{error}. {resume_hint(folder)}", code=1)
    finally:
        lock.close()


class Sending:
    """One pass over a spool."""

    def __init__(
        self, spool: Spool, token: Optional[str], patience: Patience, url: Optional[str], say: Callable[[str], None]
    ) -> None:
        address = url or spool.about.get("url")
        if not address:
            raise SettingsError("The spool names no server: set REPORTD_URL")
        self._spool, self._patience = spool, patience
        self._server = Server(address, token, patience, say)
        self._receipts = Receipts(spool.folder)
        self._follower = Follower(spool.folder)
        self._tests = Tests(self._receipts.complete)
        self._lock = threading.Lock()  # of _tests
        # Failed tests first: (0 or 1, number, tests).
        self._queue: queue.PriorityQueue[tuple[int, int, list[Waiting]]] = queue.PriorityQueue()
        self._fatal: Optional[Fatal] = None
        self._delivery: Optional[Delivery] = None
        self._shard: Optional[Shard] = None
        self._created = threading.Lock()
        self._room = Room()
        self._began = time.monotonic()
        self._sent = 0

    def work(self, ended: bool, orphaned: Callable[[], bool], keep: bool) -> Receipt:
        self._tests.take(self._follower.poll())  # first, since the shard is to say how many tests it has
        workers = [threading.Thread(target=self._worker, daemon=True) for _ in range(limits.REQUESTS)]
        for worker in workers:
            worker.start()
        self._again()
        self._read()
        while not (ended or self._tests.end is not None or self._patience.over()):
            if (self._spool.folder / "stop").exists():
                break
            if orphaned():
                # The recording process has ended without an `end` record. Send what is there; `resume` sends the rest.
                self._patience.seconds = min(self._patience.seconds, limits.LAST_REQUEST_SECONDS)
                break
            time.sleep(_POLL)
            self._read()
        self._patience.drain()
        self._finish(ended)
        deadline = time.monotonic() + limits.LAST_REQUEST_SECONDS
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        try:
            return self._receipt(keep)
        finally:
            self._receipts.close()

    # --- reading ---

    def _read(self, last: bool = False) -> None:
        """Take new records, and make groups of tests that have ended."""
        with self._lock:
            expected = self._tests.expected
            self._tests.take(self._follower.poll())
            if last:
                self._tests.take_crashes()
            groups = self._tests.ready(now=last)
        if self._tests.expected != expected and not last:
            self._queue.put((0, 0, []))  # nothing to send but their number
        for group in groups:
            self._enqueue(group, self._receipts.new_group([test.ref for test in group]))

    def _again(self) -> None:
        """Send the groups of an earlier sender as they were, so that their requests are the same."""
        for number, refs in sorted(self._receipts.groups.items()):
            with self._lock:
                group = self._tests.again(refs)
            if group:
                self._enqueue(group, number)

    def _enqueue(self, group: list[Waiting], number: int) -> None:
        self._queue.put((0 if any(test.status == "Failed" for test in group) else 1, number, group))

    def _finish(self, ended: bool) -> None:
        """Take the last records, and wait until everything is sent or the time is over."""
        if ended or self._tests.end is not None:
            with self._lock:
                self._tests.take(self._follower.poll())
                self._tests.take_crashes()
                self._tests.give_up_waiting()
        self._read(last=True)
        while self._queue.unfinished_tasks and not self._patience.over() and self._fatal is None:
            if (self._spool.folder / "stop").exists():
                self._patience.stop.set()
            time.sleep(_POLL / 2)
        if not self._queue.unfinished_tasks and self._fatal is None:
            self._close_run(ended)
        self._patience.stop.set()

    # --- sending ---

    def _worker(self) -> None:
        self._guarded(lambda: self._deliver([]))  # so that the run is there from the beginning
        while not self._patience.over() and self._fatal is None:
            try:
                _, _, group = self._queue.get(timeout=_POLL)
            except queue.Empty:
                continue
            if self._guarded(lambda: self._deliver(group)):  # noqa: B023  called at once
                self._queue.task_done()

    def _guarded(self, work: Callable[[], Any]) -> bool:
        try:
            work()
            return True
        except Stopped:
            return False
        except Fatal as error:
            self._fatal = self._fatal or error
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._fatal = self._fatal or Fatal(
                f"A fault of reportd-client ({error!r}); see {self._spool.folder / 'log'}"
            )
        return False

    def _open(self) -> tuple[Delivery, Shard]:
        """Make the run, the first time. The caller holds _created."""
        if self._delivery is None or self._shard is None:
            run_id, offers = self._run_id(), Offers.of(self._server)
            self._delivery = Delivery(self._spool, self._server, self._receipts, run_id, offers)
            self._shard = Shard(self._spool, self._server, self._receipts, run_id, offers)
        return self._delivery, self._shard

    def _deliver(self, group: list[Waiting]) -> None:
        with self._created:
            delivery, shard = self._open()
            shard.begin(self._tests.expected)
        if group:
            with self._room.taken_by(group):
                refs = delivery.deliver(group)
            with self._lock:
                self._tests.completed(refs)
                self._sent += len(refs)

    def _run_id(self) -> str:
        if self._receipts.run is None:
            fields = {name: value for name, value in self._spool.about["run"].items() if value is not None}
            body = Json(fields)
            answer = self._server.call("POST", "/suite-runs", body, key_of(self._spool.id, "/suite-runs", body.data))
            run_id = answer.value.get("id")
            if answer.status >= 300 or not run_id:
                raise Fatal(f"The server refuses the run: {answer.text()}")
            self._receipts.write({"run": run_id})
        assert self._receipts.run is not None
        return self._receipts.run

    def _close_run(self, ended: bool) -> None:
        """Say how the run, or its shard, has ended, once everything else has arrived."""
        end = self._tests.end or ({} if ended else None)
        if end is None or self._receipts.finished:
            return

        def close() -> None:
            if end.get("finish", True):
                self._say_end(end)
            self._receipts.write({"finished": 1})

        self._guarded(close)

    def _say_end(self, end: dict[str, Any]) -> None:
        """Set what is known of the run only now. Its status and its end follow from its shards, if the server has them;
        a shard knows no other status than Passed and Failed."""
        with self._created:
            _, shard = self._open()
        tests, values = self._tests, dict[str, Any]()
        errors = tests.errors + ([] if tests.end is not None else [_KILLED])
        status = end.get("status") or ("Failed" if errors else tests.status())
        finished_at = end.get("finished_at") or int(time.time() * 1000)
        speaks = shard.speaks(tests.expected, errors)
        if not speaks or (shard.is_whole and status not in ("Passed", "Failed")):
            values.update(status=status, finished_at=finished_at)
        metadata = {**tests.metadata, **({"errors": errors} if errors and not speaks else {})}
        if metadata:
            values["metadata"] = metadata
        if values:
            answer = self._server.call("PATCH", f"/suite-runs/{self._run_id()}", Json(values))
            if answer.status >= 300:
                raise Fatal(f"The server refuses the end of the run: {answer.text()}")
        if speaks:
            shard.end(tests.expected, errors, status, finished_at)

    # --- the result ---

    def _run_url(self) -> Optional[str]:
        """The page of the run; with an older server, which has no pages, its address in the API."""
        if self._receipts.run is None:
            return None
        if self._delivery is not None and not self._delivery.whole:
            return f"{self._server.url}/suite-runs/{self._receipts.run}"
        return f"{self._server.url.removesuffix(API)}/runs/{self._receipts.run}"

    def _receipt(self, keep: bool) -> Receipt:
        torn = self._follower.torn + (self._follower.unfinished() if self._receipts.finished else 0)
        if torn:
            self._receipts.refuse(None, f"{torn} records", "torn by a process that was killed, or by a full disk")
        files = self._delivery.files_sent() if self._delivery else []
        receipt = Receipt(
            tests=self._sent,
            tests_new=len(self._delivery.tests_new) if self._delivery else 0,
            files=len(files),
            files_new=sum(files),
            bytes_sent=self._server.bytes_sent,
            requests=self._server.requests,
            seconds=round(time.monotonic() - self._began, 1),
            refused=list(self._receipts.refused),
            notes=sorted(self._delivery.notes) if self._delivery else [],
            run_id=self._receipts.run,
            run_url=self._run_url(),
        )
        if self._receipts.finished and self._fatal is None:
            if not keep:
                shutil.rmtree(self._spool.folder, ignore_errors=os.name == "nt")
            return receipt
        receipt.spool = self._spool.folder
        problem = str(self._fatal) if self._fatal else self._server.last_problem or "The time to send was over"
        receipt.message = f"{problem}. {resume_hint(self._spool.folder)}"
        receipt.code = self._fatal.code if self._fatal else 5
        return receipt
