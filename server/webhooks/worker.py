"""Delivers what is in the outbox.

One process at a time does so, of all workers and hosts: it holds a lease, a row that it renews. When it dies, another
one takes over. Within it, targets do not wait for each other, and each is sent one delivery at a time, the one first
that has been due for the longest. No database connection is held during a request to a target.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Counter, Gauge

from server.database.pool import Pool
from server.database.queries import SQL
from server.hooks import WebhookConfig
from server.ids import new_id
from server.webhooks.retries import next_delay
from server.webhooks.send import Target

LOG = logging.getLogger("reportd.webhooks")

_LEASE_SECONDS = 30.0
_RENEW_SECONDS = 10.0
_STOP_SECONDS = 2.0
_LOOK_SECONDS = 1.0  # how often the process that delivers looks for what is due

_ATTEMPTS = Counter(
    "reportd_webhook_attempts",
    "Attempts to deliver an event to a webhook. outcome=delivered: the reply was 2xx. outcome=failed: another reply or "
    "none, and it will be attempted again. outcome=given_up: the last one, after a day.",
    ["webhook", "outcome"],
)
_WAITING = Gauge(
    "reportd_webhook_waiting",
    "Events that are not delivered to a webhook yet, in the process that delivers.",
    ["webhook"],
    multiprocess_mode="livesum",
)


class Worker:
    """Delivers for these webhooks while it holds the lease. `run` once."""

    def __init__(self, pool: Pool, hooks: Sequence[WebhookConfig]) -> None:
        self._pool = pool
        self._targets = {hook.name: Target(hook) for hook in hooks}
        self._id = new_id(0)
        self._calls: dict[str, asyncio.Task[None]] = {}  # by webhook
        self._count({})

    async def run(self) -> None:
        """Deliver until cancelled. Raises what the database raises."""
        try:
            while True:
                if await self._pool.fetchval(SQL.webhooks.lead, self._id, _LEASE_SECONDS) is None:
                    self._count({})
                    await asyncio.sleep(_RENEW_SECONDS)
                else:
                    rows = await self._pool.fetch(SQL.webhooks.counts, list(self._targets))
                    self._count({row["name"]: row["waiting"] for row in rows})
                    await self._deliver(_RENEW_SECONDS)
        finally:
            await self._stop()

    async def _deliver(self, seconds: float) -> None:
        """Deliver what is due, for this long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            free = [name for name in self._targets if name not in self._calls]
            for row in await self._pool.fetch(SQL.webhooks.due, free) if free else []:
                self._calls[row["webhook"]] = asyncio.create_task(self._attempt(row))
            if not self._calls:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            await asyncio.wait(self._calls.values(), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for name in [name for name, call in self._calls.items() if call.done()]:
                self._calls.pop(name).result()

    async def _attempt(self, row: Any) -> None:
        """One attempt, and its outcome. Without the outcome, because the database is away, it is sent again."""
        name = row["webhook"]
        answer = await self._targets[name].send(row["id"], row["body"])
        age = (datetime.now(UTC) - row["created_at"]).total_seconds()
        attempts = row["attempts"] + 1
        delay = None if answer.delivered else next_delay(attempts, age, answer.status, answer.retry_after)
        outcome = "delivered" if answer.delivered else "failed" if delay is not None else "given_up"
        said = row["id"], answer.delivered, delay, answer.status, answer.text
        await self._pool.execute(SQL.webhooks.attempted, *said)
        _ATTEMPTS.labels(name, outcome).inc()
        if outcome == "given_up":
            last = f"{answer.status or 'no reply'}: {answer.text}"
            LOG.error(
                "webhook %s: %s %s is given up after %d attempts; %s", name, row["event"], row["id"], attempts, last
            )

    def _count(self, waiting: dict[str, int]) -> None:
        for name in self._targets:
            _WAITING.labels(name).set(waiting.get(name, 0))

    async def _stop(self) -> None:
        """End requests in progress, which are sent again, and let another process deliver."""
        for call in self._calls.values():
            call.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)
        self._calls.clear()
        self._count({})
        for target in self._targets.values():
            target.close()
        with contextlib.suppress(Exception):  # without the database, the lease ends by itself
            async with asyncio.timeout(_STOP_SECONDS):
                await self._pool.execute(SQL.webhooks.stop_leading, self._id)
