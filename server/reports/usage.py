"""What is stored, by project, kind and day. The server counts it day by day, since millions of rows are too many for a
page; the pages read the counts. Also the result of the last `reportd check`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from server.database.pool import Pool
from server.database.queries import SQL
from server.ids import first_id, time_of

_SECONDS = 1.0  # for the days that were counted longest ago, each time
_DAY = timedelta(days=1)
_OLDEST = date(2020, 1, 1)  # there were no ids of this kind before


@dataclass(frozen=True, slots=True)
class Usage:
    """What a project has stored: the numbers of results and files, the bytes of all files and of each type."""

    id: UUID
    name: str
    results: int
    files: int
    bytes: int
    screenshots: int
    videos: int
    logs: int
    har: int
    others: int


@dataclass(frozen=True, slots=True)
class Total:
    """All files and their bytes. `uncounted`: days that are not in these numbers yet."""

    files: int
    bytes: int
    uncounted: int


@dataclass(frozen=True, slots=True)
class Day:
    day: date
    bytes: int


@dataclass(frozen=True, slots=True)
class LastCheck:
    """The last `reportd check`. `summary` as it prints it with --json."""

    finished_at: datetime
    exit_code: int
    summary: dict[str, Any]


async def count(pool: Pool) -> None:
    """Count today and yesterday, then for a second those days that were counted longest ago: what was deleted on them
    since is then missing there, too."""
    today = datetime.now(UTC).date()
    await _add_days(pool, today)
    for day in (today, today - _DAY):  # yesterday is not known to a new server, and then not counted
        await _count_day(pool, day)
    counted: set[date] = set()
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        some_day = await _count_day(pool, None)
        if some_day is None or some_day in counted:
            return
        counted.add(some_day)


async def of_projects(where: Any, projects: Sequence[UUID] | None, limit: int) -> tuple[list[Usage], bool]:
    """At most `limit` of these projects (None: all), the largest first, and whether there are more."""
    rows = await where.fetch(SQL.usage.of_projects, projects, limit + 1)
    return [Usage(*row) for row in rows[:limit]], len(rows) > limit


async def total(where: Any, projects: Sequence[UUID] | None) -> Total:
    """What these projects (None: all) have stored."""
    return Total(*await where.fetchrow(SQL.usage.total, projects))


async def per_day(where: Any, projects: Sequence[UUID] | None, days: int) -> list[Day]:
    """The bytes that were added on each of the last days, the oldest first, also those on which there were none."""
    today = datetime.now(UTC).date()
    first = today - _DAY * (days - 1)
    known = {row["day"]: row["bytes"] for row in await where.fetch(SQL.usage.per_day, projects, first)}
    return [Day(day, known.get(day, 0)) for day in (first + _DAY * number for number in range(days))]


async def last_check(where: Any) -> LastCheck | None:
    """The result of the last `reportd check`; None when there was none yet."""
    row = await where.fetchrow(SQL.check.last)
    if row is None:
        return None
    return LastCheck(row["finished_at"], row["exit_code"], orjson.loads(orjson.dumps(row["summary"])))


async def _add_days(pool: Pool, today: date) -> None:
    """Make sure that all days from the first result until today are known. The first may get older: by an import."""
    first = await pool.fetchval(SQL.usage.first, first_id(_start(_OLDEST)))
    is_earlier = first is not None and first < first_id(_start(today))
    await pool.execute(SQL.usage.add_days, time_of(first).date() if is_earlier else today, today)


async def _count_day(pool: Pool, day: date | None) -> date | None:
    """Count this day, or the one that was counted longest ago, and return it; None when another worker does it now."""
    async with pool.transaction() as connection:
        query, arguments = (SQL.usage.take_day, [day]) if day else (SQL.usage.take_oldest, [])
        taken: date | None = await connection.fetchval(query, *arguments)
        if taken is not None:
            await connection.execute(SQL.usage.forget_day, taken)
            start, end = first_id(_start(taken)), first_id(_start(taken + _DAY))
            await connection.execute(SQL.usage.count_day, taken, start, end)
        return taken


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
