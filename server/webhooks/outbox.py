"""The outbox: events are added to it in their own transaction, and sent later (worker.py)."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any

from server.database.pool import Pool
from server.database.queries import SQL
from server.hooks import WebhookConfig
from server.ids import lowest_id, new_ids
from server.webhooks.events import Event, body

_KEPT_DAYS = 14  # what is delivered or given up
_UNKNOWN_DAYS = 2


async def add(connection: Any, hooks: Iterable[WebhookConfig], event: Event) -> None:
    """Add an event for these webhooks. `connection` has the transaction in which the event happens."""
    if rows := [(hook.name, body(event, hook)) for hook in hooks]:
        names, bodies = zip(*rows, strict=True)
        about = event.type, event.project_id, event.run_id, event.last_result_id
        await connection.execute(SQL.webhooks.add, new_ids(0, len(rows)), names, bodies, *about)


async def sweep(pool: Pool, hooks: Sequence[WebhookConfig]) -> None:
    """Gives up what waits for a webhook that is not configured any more, and removes what was settled long ago."""
    await pool.execute(SQL.webhooks.give_up_unknown, [hook.name for hook in hooks], _UNKNOWN_DAYS)
    before = lowest_id(time.time() - _KEPT_DAYS * 86_400)
    while await pool.execute(SQL.webhooks.sweep, before) == "DELETE 1000":
        await asyncio.sleep(0.1)
