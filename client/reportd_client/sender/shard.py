"""Says how a shard of the run is doing, and with it how many tests there are, so that the server knows what is missing.

A run that is not split is shard 1 of 1, of which is only spoken when there is something to say. A server that is older
hears nothing: there the status and the end of the run are set.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

from reportd_client import shards
from reportd_client.sender.body import Json
from reportd_client.sender.connections import Fatal
from reportd_client.sender.http import Server
from reportd_client.sender.offers import SHARDS, Offers
from reportd_client.sender.receipts import Receipts
from reportd_client.spool import Spool
from reportd_client.texts import cut

_MOST_ERRORS = 100
_MAX_ERROR = 2000


class Shard:
    """The shard of one spool. Every method may be called again after a crash: a shard that has ended stays so, since
    all its words have the same `started_at`."""

    def __init__(self, spool: Spool, server: Server, receipts: Receipts, run_id: str, offers: Offers) -> None:
        self._server, self._receipts, self._run_id = server, receipts, run_id
        self._index, self._total = shards.parse(str(spool.about.get("shard"))) or (1, 1)
        self._path = f"/suite-runs/{run_id}/shards/{self._index}"
        self._started_at = spool.about.get("shard_started_at") or spool.about["run"].get("started_at")
        self._is_offered = SHARDS in offers.features
        self._said = receipts.shard
        self._is_refused = False

    @property
    def is_whole(self) -> bool:
        """The run is not split."""
        return self._total == 1

    def speaks(self, expected: Optional[int], errors: Sequence[str] = ()) -> bool:
        """Whether the server hears of the shard. Then it sets the status and the end of the run itself."""
        return self._is_offered and (not self.is_whole or expected is not None or bool(errors))

    def begin(self, expected: Optional[int]) -> None:
        """Say that the shard runs, unless that is said. `expected`: how many tests it has, if that is known.

        Raises Stopped, Fatal.
        """
        said = {"expected": expected}
        if self.speaks(expected) and not self._is_refused and said != self._said:
            self._said = said
            if self._put({"status": "Running", "tests_expected": expected}):
                self._receipts.write({"shard": said})

    def end(self, expected: Optional[int], errors: Sequence[str], status: str, finished_at: Any) -> None:
        """Say how the shard has ended. Raises Stopped, Fatal."""
        word = "Failed" if status == "Failed" else "Passed"
        texts = [cut(error, _MAX_ERROR) for error in errors[:_MOST_ERRORS]]
        fields = {"status": word, "tests_expected": expected, "finished_at": finished_at, "errors": texts or None}
        if not self._is_refused and not self._put(fields) and not self._is_refused:
            raise Fatal(f"The server does not take the end of the shard: {self._server.last_problem}")

    def _put(self, fields: dict[str, Any]) -> bool:
        """Whether the server has taken it. What it refuses, such as another total, is written down, and not said again:
        it costs nothing else."""
        values = {"total": self._total, "started_at": self._started_at, **fields}
        body = Json({name: value for name, value in values.items() if value is not None})
        answer = self._server.call("PUT", self._path, body)
        if answer.status == 404:
            raise Fatal(f"The run {self._run_id} has been deleted on the server, or belongs to another project")
        if 400 <= answer.status < 500:
            self._is_refused = True
            self._receipts.refuse(None, f"shard {self._index}/{self._total}", answer.text())
        return answer.status < 300
