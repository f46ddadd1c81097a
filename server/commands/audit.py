"""`reportd audit`: prints entries, newest first like in the API, as a table or as JSON lines; and drops old months."""

import argparse
import asyncio
import json
import sys
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from server.commands.console import Refused, duration
from server.database.queries import SQL
from server.observe.audit import Action, Subject, operator, record
from server.observe.log import visible
from server.reports import audit

_PAGE = 1000  # entries in memory at a time
_YOUNGEST = timedelta(days=30)  # of the entries that can be dropped
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.5
_LINE = "{:19}  {:20}  {:20}  {:15}  {:12}  {}"


async def show(
    connection: Any,
    *,
    action: str | None,
    actor: str | None,
    subject_id: UUID | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print the newest `limit` entries; say on standard error when there are more.

    Reads pages, each in a statement of its own. Otherwise a slow reader of the output (a pager) would keep a
    transaction open.
    """
    before, left = None, limit
    if not as_json:
        print(_LINE.format("TIME (UTC)", "ACTION", "ACTOR", "FROM", "PROJECT", "SUBJECT"))
    while left:
        count = min(left, _PAGE)
        rows, more = await audit.page(
            connection, None, before, count, action=action, actor=actor, subject_id=subject_id, since=since
        )
        for row in rows:
            print(_as_json(row) if as_json else _as_text(row))
        if not more:
            return
        before, left = rows[-1]["id"], left - count
    sys.stdout.flush()  # the entries first, then the note
    print(f"reportd: Showing the newest {limit} entries only. Raise --limit to see older ones.", file=sys.stderr)


def droppable(text: str) -> timedelta:
    """The value of --drop-older-than."""
    age = duration(text)
    if age < _YOUNGEST:
        raise argparse.ArgumentTypeError(f"must be {_YOUNGEST.days}d or more")
    return age


async def drop(connection: Any, age: timedelta) -> None:
    """Drop the months of entries that ended `age` ago, and record that in the same transaction.

    While requests or a backup use the table, tries again for 10 seconds. Raises Refused.
    """
    for _ in range(_ATTEMPTS):
        try:
            async with connection.transaction():
                # Without this, a backup that has just begun would fail: it locks the tables that it has listed.
                may_drop = await connection.fetchval(SQL.backup.may_unlink)
                months = await connection.fetch(SQL.audit.drop_months, age) if may_drop else []
                if months:
                    dropped = {month["name"]: month["entries"] for month in months}
                    await record(connection, Action.AUDIT_DROPPED, operator(), Subject("audit", None, None), **dropped)
        except asyncpg.LockNotAvailableError:
            may_drop = False
        if may_drop:
            for month in months:
                print(f"{month['name']}: {month['entries']} entries dropped")
            if not months:
                print(f"nothing to drop: no month of entries ended {age.days} days ago")
            return
        await asyncio.sleep(_PAUSE_SECONDS)
    raise Refused("Nothing was dropped: a backup or a long transaction uses the audit trail. Try again later.")


def _as_text(row: Any) -> str:
    project = row["project"] or ("(all)" if row["project_id"] is None else str(row["project_id"]))
    subject = " ".join(str(part) for part in (row["subject_kind"], row["subject_name"]) if part)
    if row["subject_id"] is not None:
        subject += f" ({row['subject_id']})"
    actor, remote = row["actor_name"] or f"({row['actor_kind']})", row["remote"] or "-"
    time = row["created_at"].strftime("%Y-%m-%d %H:%M:%S")
    return _LINE.format(time, *map(visible, (row["action"], actor, remote, project, subject)))


def _as_json(row: Any) -> str:
    time = row["created_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(
        {**row, "created_at": time, "detail": json.loads(row["detail"])}, default=str, separators=(",", ":")
    )
