"""Output of `reportd audit`: audit entries, newest first like in the API, as a table or as JSON lines."""

import json
import sys
from datetime import datetime
from typing import Any
from uuid import UUID

from server.observe.log import visible
from server.reports import audit

_PAGE = 1000  # entries in memory at a time
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
